import type { Client, Exchange, Operation } from "@urql/core";
import { filter, pipe, tap } from "wonka";
import { failureOf } from "./failure.ts";

/** Asks every query that is on the screen again, for pages that no stream keeps up to date. */
export class Refresh {
  readonly #shown = new Map<number, Operation>();
  #client: Client | null = null;

  /**
   * Keeps the books. What cannot be answered while it is asked again stays on the screen as it was, for the reader did
   * not ask. This stands before everything else.
   */
  readonly exchange: Exchange = ({ client, forward }) => {
    this.#client = client;
    return (operations$) =>
      pipe(
        operations$,
        tap((operation) => {
          if (operation.kind === "query" && !operation.context["refreshed"]) this.#shown.set(operation.key, operation);
          if (operation.kind === "teardown") this.#shown.delete(operation.key);
        }),
        forward,
        filter(({ operation, error }) => !(operation.context["refreshed"] && failureOf(error)?.kind === "unavailable")),
      );
  };

  /** Asks. */
  now() {
    const client = this.#client;
    if (!client) return;
    for (const operation of [...this.#shown.values()]) {
      const context = { ...operation.context, requestPolicy: "network-only", refreshed: true } as const;
      client.reexecuteOperation(client.createRequestOperation("query", operation, context));
    }
  }
}
