import type { CombinedError } from "@urql/core";

/** What went wrong, as far as a screen can act on it. */
export type FailureKind =
  /** Nobody is signed in, or the session ended: sign in and come back. */
  | "signed-out"
  /** It does not exist, or the viewer may not see it: the server does not tell which. */
  | "denied"
  /** The page is older than the server: reload it. */
  | "outdated"
  /** The server or Bitbucket cannot answer now: try again. */
  | "unavailable"
  /** The server refused, and said why. */
  | "refused";

/** An error, put so that a screen can show it. */
export interface Failure {
  kind: FailureKind;
  /** The server's stable code; empty where there was no answer. */
  code: string;
  /** A sentence for people. */
  message: string;
}

const kinds: Record<string, FailureKind> = {
  UNAUTHENTICATED: "signed-out",
  NOT_FOUND: "denied",
  FORBIDDEN: "denied",
  TRY_AGAIN: "unavailable",
  BITBUCKET_UNAVAILABLE: "unavailable",
  INTERNAL: "unavailable",
  OVERLOADED: "unavailable",
  PERSISTED_QUERY_NOT_FOUND: "outdated",
  BRIDGE_FAILED: "unavailable",
  TIMEOUT: "unavailable",
  TOO_MANY_REQUESTS: "unavailable",
  TOO_MANY_STREAMS: "unavailable",
};

/** Reads the error of a query or mutation; null where there is none. The first error speaks for all. */
export function failureOf(error: CombinedError | undefined): Failure | null {
  if (!error) return null;
  const [first] = error.graphQLErrors;
  if (first) {
    const code = typeof first.extensions["code"] === "string" ? first.extensions["code"] : "";
    return { kind: kinds[code] ?? (code ? "refused" : "unavailable"), code, message: first.message };
  }
  const status = (error.response as Response | undefined)?.status;
  if (status === 401) return { kind: "signed-out", code: "", message: "You are not signed in." };
  if (status === 403 || status === 404) return { kind: "denied", code: "", message: "This cannot be shown." };
  if (status === undefined) {
    return {
      kind: "unavailable",
      code: "",
      message: "The server cannot be reached. Check the connection and try again.",
    };
  }
  return { kind: "unavailable", code: "", message: "The server did not answer as it should. Try again in a moment." };
}
