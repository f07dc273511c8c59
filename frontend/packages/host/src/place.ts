import type { PullRequestPlace } from "./host.ts";

const uuid = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const place = new RegExp(`^/(?:pr|sign)/(${uuid})/(${uuid})/([1-9][0-9]{0,8})/?$`, "i");
const bare = new RegExp(`^(?:\\{(${uuid})\\}|(${uuid}))$`, "i");

/** Reads the pull request out of a path of ours, `/pr/{workspace}/{repository}/{number}`; null where it names none. */
export function placeOf(path: string): PullRequestPlace | null {
  const [, workspace, repository, number] = place.exec(path) ?? [];
  if (!workspace || !repository || !number) return null;
  return { workspace: workspace.toLowerCase(), repository: repository.toLowerCase(), number: Number(number) };
}

/** A Bitbucket UUID, with or without braces, as we write it: lower case, without; null for anything else. */
export function uuidOf(value: unknown): string | null {
  if (typeof value !== "string") return null;
  const [, braced, plain] = bare.exec(value) ?? [];
  return (braced ?? plain)?.toLowerCase() ?? null;
}
