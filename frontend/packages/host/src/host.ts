/** Which pull request the panel stands beside, by the Bitbucket UUIDs without braces. */
export interface PullRequestPlace {
  workspace: string;
  repository: string;
  number: number;
}

/** Something to tell the reader once, beside what the panel shows. */
export interface Notification {
  title: string;
  tone: "information" | "success" | "warning" | "danger";
}

/** What surrounds the panel. It is the only way in which the panel reaches beyond its own elements. */
export interface Host {
  /** The pull request; null where the address names none. */
  context(): PullRequestPlace | null;
  /** Opens an address in a tab of its own. Call it from the reader's click: browsers allow it only then. */
  openExternal(url: string): void;
  /** Tells the reader something once. */
  notify(notification: Notification): void;
  /** The colours that the surroundings use; null: those of the reader's system. */
  colorMode(): "light" | "dark" | null;
}
