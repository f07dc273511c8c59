import type { SubscriptionOperation } from "@urql/core";
import { createClient, type RequestParams } from "graphql-sse";

/**
 * Whether what a screen shows is kept up to date: before the first answer; at once; by asking again every few seconds,
 * where no stream can be had; not at all for the moment.
 */
export type LiveState = "connecting" | "live" | "polled" | "lost";

interface Sink {
  next: (value: never) => void;
  error: (reason: unknown) => void;
  complete: () => void;
}

/** How long to wait before the nth attempt to reconnect, in milliseconds: doubling, at most 30 s, half of it random. */
export function pause(attempt: number, random: () => number = Math.random): number {
  const most = Math.min(30_000, 500 * 2 ** attempt);
  return most / 2 + (most / 2) * random();
}

/** How long a page may be out of sight before its streams are closed, in milliseconds. */
export const outOfSight = 60_000;

/** How long a page goes without a stream before it asks by itself, and how often it then does, in milliseconds. */
export const pollEvery = 5_000;

/**
 * The event streams of a page. A stream that breaks is opened again for as long as somebody listens: each one begins
 * with the object as it is now, so whatever was missed meanwhile is made good. A page that is out of sight gives its
 * streams up after a while, for a browser opens only six connections to a server that speaks HTTP/1.1.
 *
 * Where a poll is given, it is called every few seconds while a stream is wanted, none is live, and the page is seen.
 */
export class LiveUpdates {
  #state: LiveState = "connecting";
  readonly #listeners = new Set<() => void>();
  readonly #fetch: typeof fetch;
  readonly #poll: (() => void) | null;
  #wanted = 0;
  #polling: ReturnType<typeof setInterval> | undefined;

  constructor(fetchFn: typeof fetch, poll: (() => void) | null = null) {
    this.#fetch = fetchFn;
    this.#poll = poll;
  }

  /** The state of the page's streams; changes are told to {@link subscribe}. */
  get state(): LiveState {
    return this.#state;
  }

  /** Calls the listener after each change of the state until the function that it returns is called. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** What the GraphQL client asks for: a stream of one registered subscription. */
  forward(body: SubscriptionOperation, url: string) {
    return {
      subscribe: (sink: Sink) => {
        this.#want();
        let close = this.#open(body, url, sink);
        let open = true;
        let timer: ReturnType<typeof setTimeout> | undefined;
        const look = () => {
          clearTimeout(timer);
          if (document.visibilityState === "hidden") {
            timer = setTimeout(() => {
              close();
              open = false;
            }, outOfSight);
          } else if (!open) {
            close = this.#open(body, url, sink);
            open = true;
          }
        };
        document.addEventListener("visibilitychange", look);
        return {
          unsubscribe: () => {
            document.removeEventListener("visibilitychange", look);
            clearTimeout(timer);
            close();
            this.#unwant();
          },
        };
      },
    };
  }

  #want() {
    this.#wanted += 1;
    if (!this.#poll || this.#wanted > 1) return;
    this.#polling = setInterval(() => {
      if (document.visibilityState === "hidden" || this.#state === "live") return;
      this.#become("polled");
      this.#poll?.();
    }, pollEvery);
  }

  #unwant() {
    this.#wanted -= 1;
    if (this.#wanted === 0) clearInterval(this.#polling);
  }

  /** Opens a stream and keeps it open until the function that it returns is called. */
  #open(body: SubscriptionOperation, url: string, sink: Sink): () => void {
    let closed = false;
    const unwanted = new AbortController();
    const streams = createClient({
      url,
      fetchFn: this.#fetch,
      retryAttempts: Number.POSITIVE_INFINITY,
      retry: async (attempt) => {
        this.#become("lost");
        await wakeUp(pause(attempt), unwanted.signal);
      },
    });
    const listen = (attempt: number) => {
      let answered = false;
      streams.subscribe(body as unknown as RequestParams, {
        next: (value) => {
          answered = true;
          this.#become("live");
          sink.next(value as never);
        },
        error: (reason) => {
          if (closed) return;
          this.#become("lost");
          sink.error(reason);
        },
        // The server ends a stream that has lived long enough: the next one goes on from there.
        complete: () => {
          if (closed) return;
          const next = answered ? 0 : attempt + 1;
          void wakeUp(pause(next), unwanted.signal).then(() => !closed && listen(next));
        },
      });
    };
    listen(0);
    return () => {
      closed = true;
      unwanted.abort();
      streams.dispose();
    };
  }

  #become(state: LiveState) {
    // What is polled is not lost each time that no stream opens.
    if (this.#state === state || (this.#state === "polled" && state === "lost")) return;
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}

/** Resolves after the given time, as soon as the browser says that it is online again, or when it is not wanted any more. */
function wakeUp(milliseconds: number, unwanted: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = new AbortController();
    const done = () => {
      clearTimeout(timer);
      over.abort();
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    globalThis.addEventListener("online", done, { signal: over.signal });
    unwanted.addEventListener("abort", done, { signal: over.signal });
    if (unwanted.aborted) done();
  });
}
