/** What the bridge takes and answers: a request that Bitbucket sends to our server, with a token that says who asks. */
export type InvokeRemote = (request: {
  path: string;
  method: "POST";
  headers: Record<string, string>;
  body: unknown;
}) => Promise<unknown>;

/** How long Bitbucket waits for our server, in milliseconds; the frame waits no longer. */
export const bridgeTimeout = 25_000;

/** How large a request may be that Bitbucket passes on, in bytes. */
const largestRequest = 500_000;

/** A promise that is waited for only so long. */
export class TimedOut extends Error {}

/**
 * The browser's fetch, by way of the bridge. Each answer that is not our server's own becomes one with a GraphQL error
 * that a screen can show: a bridge that throws, answers nothing or answers too late must look like a server that does.
 */
export function bridgeFetch(invokeRemote: InvokeRemote): typeof fetch {
  return async (input, init) => {
    const { pathname, search } = new URL(String(input), "https://server.invalid");
    const text = String(init?.body ?? "");
    if (new TextEncoder().encode(text).length > largestRequest) {
      return refusal(413, "REQUEST_TOO_LARGE", "This is more than Bitbucket passes on at once.");
    }
    const headers = { "content-type": "application/json", accept: new Headers(init?.headers).get("accept") ?? "*/*" };
    try {
      const asked = invokeRemote({ path: pathname + search, method: "POST", headers, body: JSON.parse(text) });
      return responseOf(await within(asked, bridgeTimeout, init?.signal));
    } catch (error) {
      // Nobody waits for it any more: the caller is told as by fetch.
      if (init?.signal?.aborted) throw error;
      if (error instanceof TimedOut) {
        return refusal(504, "TIMEOUT", "Bitbucket brought no answer in time. Try again.");
      }
      if (error instanceof Error && /rate.?limit|too many/iu.test(error.message)) return tooMany();
      return refusal(
        502,
        "BRIDGE_FAILED",
        "Bitbucket could not pass this on to SignedApproval. Try again in a moment.",
      );
    }
  };
}

/** Settles as the promise does, but rejects with {@link TimedOut} after the given milliseconds, or when it is aborted. */
export function within<Value>(
  promise: Promise<Value>,
  milliseconds: number,
  signal?: AbortSignal | null,
): Promise<Value> {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const timer = setTimeout(() => reject(new TimedOut("no answer in time")), milliseconds);
    const abort = () => reject(new DOMException("nobody waits for the answer", "AbortError"));
    signal?.addEventListener("abort", abort, { signal: over.signal });
    if (signal?.aborted) abort();
    promise.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      over.abort();
    });
  });
}

/** What the bridge answered, as a response. The body is text or an object already, depending on the product. */
function responseOf(answer: unknown): Response {
  const { status, headers, body } = (answer ?? {}) as { status?: unknown; headers?: unknown; body?: unknown };
  if (typeof status !== "number" || !Number.isInteger(status) || status < 200 || status > 599) {
    return refusal(502, "BRIDGE_FAILED", "Bitbucket brought no answer from SignedApproval. Try again in a moment.");
  }
  const text = typeof body === "string" ? body : body === undefined || body === null ? "" : JSON.stringify(body);
  const code = codeOf(text);
  // Our server answers 401 to a token of Bitbucket's that it does not accept, and to nothing else; a token that names
  // nobody is as little use. There is no session here that a sign-in could begin.
  if (status === 401 || code === "UNAUTHENTICATED") {
    return refusal(
      401,
      "INVOCATION_REFUSED",
      "SignedApproval could not make sure that Bitbucket asks for you. Reload the page; if that does not help, tell an administrator of the workspace.",
    );
  }
  if (code === null) {
    if (status === 403) {
      return refusal(403, "NOT_ALLOWED_HERE", "Bitbucket does not let this app ask for you. Tell an administrator.");
    }
    if (status === 413) return refusal(413, "ANSWER_TOO_LARGE", "The answer is larger than Bitbucket passes on.");
    if (status === 429) return tooMany();
  }
  const empty = status === 204 || status === 205 || status === 304;
  const type = contentType(headers);
  return new Response(empty ? null : text, { status, headers: { "content-type": type } });
}

function tooMany(): Response {
  return refusal(429, "TOO_MANY_REQUESTS", "This page asked too often. It goes on in half a minute.");
}

/** The code of the first error that an answer of our API tells, empty where it has none; null: it tells of no error. */
function codeOf(text: string): string | null {
  try {
    const { errors } = (JSON.parse(text) ?? {}) as { errors?: { extensions?: { code?: unknown } }[] };
    if (!Array.isArray(errors) || errors.length === 0) return null;
    const code = errors[0]?.extensions?.code;
    return typeof code === "string" ? code : "";
  } catch {
    return null;
  }
}

/** The answer's content type; header names come in any case, and values as text or as a list. */
function contentType(headers: unknown): string {
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (name.toLowerCase() !== "content-type") continue;
    const text: unknown = Array.isArray(value) ? value[0] : value;
    if (typeof text === "string" && text) return text;
  }
  return "application/json";
}

/** An answer with one error, as our server's own gate gives it. */
function refusal(status: number, code: string, message: string): Response {
  return new Response(JSON.stringify({ errors: [{ message, extensions: { code } }] }), {
    status,
    headers: { "content-type": "application/graphql-response+json" },
  });
}
