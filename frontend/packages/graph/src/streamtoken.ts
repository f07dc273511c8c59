import type { Client } from "@urql/core";
import { graphql } from "./generated/index.ts";

const CreateStreamToken = graphql(`
  mutation CreateStreamToken($input: CreateStreamTokenInput!) {
    createStreamToken(input: $input) {
      token
      expiresAt
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** How long before its end a token opens no more streams, in milliseconds. */
export const margin = 20_000;

interface Held {
  token: string;
  /** When it opens its last stream, by this machine's clock, in milliseconds. */
  until: number;
}

/**
 * The token that opens streams where no session reaches. It is asked for when it is first wanted and again before it
 * dies; streams that open at once share one.
 */
export class StreamTokens {
  readonly #client: () => Client;
  #held: Held | null = null;
  #asked: Promise<Held> | null = null;

  constructor(client: () => Client) {
    this.#client = client;
  }

  /** A token that is good for opening a stream now. Rejects where none can be had. */
  async take(): Promise<string> {
    if (this.#held && Date.now() < this.#held.until) return this.#held.token;
    this.#asked ??= this.#ask().finally(() => {
      this.#asked = null;
    });
    this.#held = await this.#asked;
    return this.#held.token;
  }

  /** Forgets a token that was refused. */
  drop(token: string) {
    if (this.#held?.token === token) this.#held = null;
  }

  async #ask(): Promise<Held> {
    const { data, error } = await this.#client().mutation(CreateStreamToken, { input: {} }).toPromise();
    if (error) throw error;
    const { token, expiresAt, userErrors } = data?.createStreamToken ?? {};
    if (!token || !expiresAt) throw new Error(userErrors?.[0]?.message ?? "the server gave no stream token");
    return { token, until: Date.parse(expiresAt) - margin };
  }
}

/**
 * Opens streams at another origin with a token. A token that is refused is exchanged once. The server ends a stream no
 * later than its token, and the one that follows takes the next token.
 */
export function withToken(origin: string, tokens: StreamTokens, stream: typeof fetch): typeof fetch {
  const open = async (address: URL, init: RequestInit | undefined) => {
    const token = await tokens.take();
    const headers = new Headers(init?.headers);
    headers.set("authorization", `Bearer ${token}`);
    const response = await stream(address, { ...init, headers, credentials: "omit" });
    if (response.status === 401) tokens.drop(token);
    return response;
  };
  return async (input, init) => {
    const address = new URL(String(input), origin);
    let response = await open(address, init);
    if (response.status === 401) response = await open(address, init);
    const isStream = response.headers.get("content-type")?.includes("text/event-stream");
    // A proxy's page in a stream's place is a failure like any other, and tried again.
    return response.ok && !isStream ? new Response(null, { status: 502 }) : response;
  };
}
