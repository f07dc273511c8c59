import type { PullRequestPlace } from "./host.ts";
import { uuidOf } from "./place.ts";

/** What the frame says of where it stands; nothing of it is taken before it is checked. */
export interface ForgeContext {
  workspaceId?: unknown;
  moduleKey?: unknown;
  extension?: unknown;
  theme?: unknown;
}

/** Where a page of ours stands inside Bitbucket. */
export interface ForgePlace {
  workspace: string | null;
  repository: string | null;
  pullRequest: PullRequestPlace | null;
  /** The page of the dashboard that belongs to the module. */
  start: string;
}

/**
 * Reads where the frame stands. Atlassian documents the extension of few modules of Bitbucket, so each spelling that is
 * known of is read; two that disagree are as good as none.
 */
export function placeIn(context: ForgeContext): ForgePlace {
  const extension = objectOf(context.extension);
  const pull = objectOf(extension["pullRequest"] ?? extension["pullrequest"]);
  const workspace = agreed(
    [context.workspaceId, objectOf(extension["workspace"])["uuid"], extension["workspaceId"]].map(uuidOf),
  );
  const repository = agreed([objectOf(extension["repository"])["uuid"], extension["repositoryId"]].map(uuidOf));
  const number = agreed([pull["id"], extension["pullRequestId"], extension["pullrequestId"]].map(numberOf));
  const pullRequest = workspace && repository && number ? { workspace, repository, number } : null;
  // The manifest's own keys stand in where the extension does not name its type.
  const module = extension["type"] ?? context.moduleKey;
  return { workspace, repository, pullRequest, start: startOf(module, workspace, repository) };
}

/** The colours that Bitbucket uses, where it says so. */
export function colorModeOf(context: ForgeContext): "light" | "dark" | null {
  const mode = objectOf(context.theme)["colorMode"];
  return mode === "light" || mode === "dark" ? mode : null;
}

function startOf(module: unknown, workspace: string | null, repository: string | null): string {
  switch (module) {
    case "bitbucket:repoSettingsMenuPage":
    case "repo-settings":
      return workspace && repository ? `/workspaces/${workspace}/repositories/${repository}` : "/";
    case "bitbucket:workspaceSettingsMenuPage":
    case "workspace-settings":
      return "/settings/bitbucket";
    case "bitbucket:workspacePersonalSettingsPage":
    case "personal-settings":
      return "/settings/passkeys";
    default:
      return "/";
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function numberOf(value: unknown): number | null {
  const text = typeof value === "number" ? String(value) : value;
  return typeof text === "string" && /^[1-9][0-9]{0,8}$/u.test(text) ? Number(text) : null;
}

/** The value that all who say something agree on; null where nobody does, or they differ. */
function agreed<Value>(values: (Value | null)[]): Value | null {
  const said = new Set(values.filter((value) => value !== null));
  const [value = null] = said;
  return said.size === 1 ? value : null;
}
