import { type Exchange, getOperationName, makeOperation, type Operation } from "@urql/core";
import type { DocumentNode } from "graphql";
import { filter, map, merge, pipe, share } from "wonka";

/** What the client preset leaves in each document when it registers it by hash. */
interface Registered extends DocumentNode {
  __meta__?: { hash?: string };
}

/**
 * Sends every operation as `{ documentId, variables }`: the SHA-256 of the registered text in place of the text. The
 * server runs the front end's own documents and no others, so a page that is tampered with cannot ask new questions.
 * The operation's name goes into the URL, where access logs show it.
 */
export const byHash: Exchange = ({ forward }) => {
  const asked = new Map<number, Operation>();
  return (operations$) => {
    const shared$ = pipe(operations$, share);
    const named$ = pipe(
      shared$,
      filter((operation) => operation.kind !== "teardown"),
      map((operation) => {
        asked.set(operation.key, operation);
        return withoutText(operation);
      }),
    );
    const ended$ = pipe(
      shared$,
      filter((operation) => operation.kind === "teardown"),
      map((operation) => {
        asked.delete(operation.key);
        return operation;
      }),
    );
    return pipe(
      forward(merge([named$, ended$])),
      // The cache needs the document that was asked, not the hash that travelled.
      map((result) => ({ ...result, operation: asked.get(result.operation.key) ?? result.operation })),
    );
  };
};

function withoutText(operation: Operation): Operation {
  const document = operation.query as Registered;
  const name = getOperationName(document);
  const documentId = document.__meta__?.hash;
  if (!name || !documentId) throw new Error(`the operation ${name ?? "without a name"} is not registered`);
  const query = { kind: "Document", definitions: [], documentId } as unknown as Operation["query"];
  const context = { ...operation.context, url: `${operation.context.url}?${name}` };
  return makeOperation(operation.kind, { ...operation, query }, context);
}
