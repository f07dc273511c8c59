import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildSchema, type ExecutionResult, execute, type GraphQLSchema, parse, subscribe } from "graphql";
import documents from "./generated/persisted-documents.json" with { type: "json" };

const folder = join(import.meta.dirname, "../../../../graph/schema");

function readSchema(): GraphQLSchema {
  const files = readdirSync(folder).filter((name) => name.endsWith(".graphqls"));
  return buildSchema(files.map((name) => readFileSync(join(folder, name), "utf8")).join("\n"));
}

const schema = readSchema();

/** Objects of the schema, or functions of `(args)` that give them. Interfaces are told apart by `__typename`. */
export interface World {
  Query?: object;
  Mutation?: object;
  /** What a stream begins with. */
  Subscription?: object;
}

/** One request that the page sent. */
export interface Call {
  operation: string;
  variables: Record<string, unknown>;
}

type Answer = (call: Call) => Response | Promise<Response>;

/**
 * The API for tests of components: executes the pages' registered documents against the schema itself, so a fixture that
 * lacks a field fails as a server would that lacks it. It accepts hashes and nothing else, as the server does.
 */
export class MockApi {
  /** The objects that are answered; a test may exchange them. */
  world: World;
  readonly calls: Call[] = [];
  readonly #answers = new Map<string, Answer>();
  readonly #streams = new Map<string, Set<(data: object) => void>>();

  constructor(world: World) {
    this.world = world;
  }

  /** Stands in for the browser's fetch. */
  fetch: typeof globalThis.fetch = async (url, init) => {
    const body = JSON.parse(String(init?.body)) as { documentId?: string; variables?: Record<string, unknown> };
    const text = (documents as Record<string, string>)[body.documentId ?? ""];
    if (!text) return refusal(400, "PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound");
    const operation = /(?:query|mutation|subscription) (\w+)/.exec(text)?.[1] ?? "";
    const call = { operation, variables: body.variables ?? {} };
    if (new URL(String(url), "http://localhost").search !== `?${operation}`) {
      throw new Error(`${operation} was sent to ${String(url)}`);
    }
    this.calls.push(call);
    const answer = this.#answers.get(operation);
    if (answer) return await answer(call);
    if (new Headers(init?.headers).get("accept")?.includes("text/event-stream")) {
      return this.#stream(text, call, init?.signal ?? undefined);
    }
    const isMutation = text.includes(`mutation ${operation}`);
    const rootValue = (isMutation ? this.world.Mutation : this.world.Query) ?? {};
    const result = await execute({ schema, document: parse(text), rootValue, variableValues: call.variables });
    return json(200, result);
  };

  /** Answers an operation in this way from now on. */
  answer(operation: string, answer: Answer) {
    this.#answers.set(operation, answer);
  }

  /** Refuses an operation as a whole from now on, as the server's gate does. */
  refuse(operation: string, code: string, message: string, status = 400) {
    this.answer(operation, () => refusal(status, code, message));
  }

  /** Leaves an operation without an answer from now on. */
  hold(operation: string) {
    this.answer(operation, () => new Promise(() => {}));
  }

  /** Answers an operation out of the world again. */
  release(operation: string) {
    this.#answers.delete(operation);
  }

  /** Sends an event to every open stream of a subscription: the object that its field has now. */
  emit(operation: string, rootValue: object) {
    const streams = this.#streams.get(operation);
    if (!streams?.size) throw new Error(`nobody listens to ${operation}`);
    for (const send of streams) send(rootValue);
  }

  /** How many streams of a subscription are open. */
  listeners(operation: string): number {
    return this.#streams.get(operation)?.size ?? 0;
  }

  #stream(text: string, call: Call, signal: AbortSignal | undefined): Response {
    const waiting: object[] = this.world.Subscription ? [this.world.Subscription] : [];
    let wake = () => {};
    const streams = this.#streams.get(call.operation) ?? new Set();
    this.#streams.set(call.operation, streams);
    const send = (data: object) => {
      waiting.push(data);
      wake();
    };
    streams.add(send);
    signal?.addEventListener("abort", () => {
      streams.delete(send);
      wake();
    });
    const events = async function* () {
      while (!signal?.aborted) {
        const next = waiting.shift();
        if (next) yield next;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    };
    const bytes = new TextEncoder();
    const body = new ReadableStream<Uint8Array>({
      start: async (controller) => {
        const results = await subscribe({
          schema,
          document: parse(text),
          variableValues: call.variables,
          subscribeFieldResolver: events,
        });
        if (!(Symbol.asyncIterator in results)) throw new Error(JSON.stringify(results));
        for await (const result of results) {
          if (signal?.aborted) return;
          controller.enqueue(bytes.encode(`event: next\ndata: ${JSON.stringify(result)}\n\n`));
        }
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  }
}

/** The answer of a server that refuses a whole request. */
export function refusal(status: number, code: string, message: string): Response {
  return json(status, { errors: [{ message, extensions: { code } }] } as never);
}

function json(status: number, body: ExecutionResult): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/graphql-response+json" },
  });
}
