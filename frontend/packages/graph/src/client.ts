import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { normalizedCache, wholeAnswers } from "./cache.ts";
import { LiveUpdates } from "./live.ts";
import { byHash } from "./persisted.ts";
import { Refresh } from "./refresh.ts";
import { StreamTokens, withToken } from "./streamtoken.ts";

/** Where the API is, and how the page reaches it. */
export interface GraphOptions {
  /** The endpoint; the operation's name is appended to it, so that logs can be read. */
  url?: string;
  /** Sends queries and mutations; the browser's own where missing. */
  fetch?: typeof fetch;
  /** Opens event streams; as queries are sent where missing. */
  stream?: typeof fetch;
  /** The origin of event streams where no session reaches them; null or missing: the session does. */
  streamOrigin?: string | null;
}

/** The API as a page sees it: a client with a normalised cache, and whether live updates are arriving. */
export interface Graph {
  client: Client;
  live: LiveUpdates;
}

/**
 * Opens the API. Queries and mutations travel as plain POST requests, subscriptions as one stream of server-sent events
 * each; both name their document by its hash and nothing else. The session is in a cookie of the same origin, or the
 * surroundings say who asks and streams are opened with a token; such a page asks by itself while no stream opens.
 */
export function openGraph({
  url = "/graphql",
  fetch: fetchFn = (...call) => fetch(...call),
  stream = fetchFn,
  streamOrigin = null,
}: GraphOptions = {}): Graph {
  const refresh = new Refresh();
  const live: LiveUpdates = streamOrigin
    ? new LiveUpdates(withToken(streamOrigin, new StreamTokens(() => client), stream), () => refresh.now())
    : new LiveUpdates(stream);
  const client = new Client({
    url,
    fetch: fetchFn,
    // Variables name things that do not belong into access logs.
    preferGetMethod: false,
    // Screens stay right through subscriptions and mutations; opening one asks the server all the same.
    requestPolicy: "cache-and-network",
    // Also says that a query is not answered by a stream: the client's own list names event streams for queries too.
    fetchOptions: { headers: { accept: "application/graphql-response+json, application/json" } },
    exchanges: [
      ...(streamOrigin ? [refresh.exchange] : []),
      wholeAnswers,
      normalizedCache(),
      byHash,
      subscriptionExchange({ forwardSubscription: (body, operation) => live.forward(body, operation.context.url) }),
      fetchExchange,
    ],
  });
  return { client, live };
}
