import type { Host, Notification, PullRequestPlace } from "./host.ts";

/** A host that remembers what the panel asked of it. */
export interface RecordingHost extends Host {
  opened: string[];
  notified: Notification[];
}

/** Surroundings without a browser around them: the place is given, and everything else is written down. */
export function recordingHost(place: PullRequestPlace | null, mode: "light" | "dark" | null = null): RecordingHost {
  const opened: string[] = [];
  const notified: Notification[] = [];
  return {
    opened,
    notified,
    context: () => place,
    openExternal: (url) => void opened.push(url),
    notify: (notification) => void notified.push(notification),
    colorMode: () => mode,
  };
}
