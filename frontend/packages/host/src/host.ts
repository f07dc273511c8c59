/** Which pull request the panel stands beside, by the Bitbucket UUIDs without braces. */
export interface PullRequestPlace {
  workspace: string;
  repository: string;
  number: number;
}

/** Something to tell the reader once, beside what the page shows. */
export interface Notification {
  title: string;
  tone: "information" | "success" | "warning" | "danger";
}

/** How a page reaches our API. */
export interface Transport {
  /** Sends a query or a mutation. Whatever goes wrong on the way is an answer with a status and a GraphQL error. */
  fetch: typeof fetch;
  /** Opens an event stream. */
  stream: typeof fetch;
  /**
   * Where event streams are opened when that is another origin than the page's: no session reaches it, so each stream
   * needs a token. Null: the page's own origin, where the session is.
   */
  streamOrigin: string | null;
}

/** What surrounds a page. It is the only way in which an app reaches beyond its own elements. */
export interface Host {
  readonly transport: Transport;
  /**
   * Whether this is a page of its own on our origin. Only there is a session to sign in to or out of, and only there can
   * a passkey be used; elsewhere the app leads to such a page.
   */
  readonly standsAlone: boolean;
  /** The page of the dashboard to begin with; null: the address says. */
  readonly start: string | null;
  /** The pull request; null where the surroundings name none. */
  context(): PullRequestPlace | null;
  /** The address of a page of ours, given its path, as a link from here needs it. */
  address(path: string): string;
  /**
   * Opens an address in a tab of its own. Call it from the reader's click: browsers allow it only then. False: nothing
   * opened, so the reader must be shown the address.
   */
  openExternal(url: string): Promise<boolean>;
  /** Tells the reader something once. */
  notify(notification: Notification): void;
}

/** The surroundings cannot be talked to. The message is a sentence for the reader. */
export class HostUnavailable extends Error {}
