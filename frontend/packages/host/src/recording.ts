import type { Host, Notification, PullRequestPlace } from "./host.ts";

/** A host that remembers what the app asked of it. */
export interface RecordingHost extends Host {
  opened: string[];
  notified: Notification[];
}

/** What a test wants otherwise than on a page of our own. */
export interface Surroundings {
  /** The origin of our pages where the app stands inside Bitbucket's frame. */
  frameOf?: string;
  /** No tab opens. */
  blocked?: boolean;
}

/** Surroundings without a browser around them: the place is given, and everything else is written down. */
export function recordingHost(
  place: PullRequestPlace | null,
  { frameOf, blocked = false }: Surroundings = {},
): RecordingHost {
  const opened: string[] = [];
  const notified: Notification[] = [];
  return {
    opened,
    notified,
    transport: { fetch, stream: fetch, streamOrigin: frameOf ?? null },
    standsAlone: frameOf === undefined,
    start: frameOf === undefined ? null : "/",
    context: () => place,
    address: (path) => (frameOf === undefined ? path : new URL(path, frameOf).href),
    openExternal: async (url) => {
      opened.push(url);
      return !blocked;
    },
    notify: (notification) => void notified.push(notification),
  };
}
