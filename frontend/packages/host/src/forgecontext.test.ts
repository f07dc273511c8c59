import { describe, expect, test } from "vitest";
import { colorModeOf, placeIn } from "./forgecontext.ts";

const workspace = "3f2b8a10-6f0e-4a55-9d7c-1b2f3e4d5c6b";
const repository = "9a1c7d42-0b6e-4f38-8e21-7c5d4b3a2f10";
const other = "b7ea02c9-0871-4858-a2a6-a190d7de977c";
const braced = `{${workspace}}`;
const card = "bitbucket:repoPullRequestCard";

describe("the pull request", () => {
  test.each([
    [
      "as documented",
      {
        workspaceId: braced,
        extension: { type: card, repository: { uuid: `{${repository}}` }, pullRequest: { id: 7 } },
      },
    ],
    [
      "without braces, the number as text",
      { workspaceId: workspace, extension: { repository: { uuid: repository }, pullRequest: { id: "7" } } },
    ],
    [
      "with the workspace in the extension",
      {
        extension: {
          workspace: { uuid: braced },
          repository: { uuid: repository.toUpperCase() },
          pullrequest: { id: 7 },
        },
      },
    ],
    ["flat", { extension: { workspaceId: braced, repositoryId: repository, pullRequestId: 7 } }],
    [
      "said twice",
      {
        workspaceId: braced,
        extension: { workspace: { uuid: workspace }, repository: { uuid: repository }, pullRequest: { id: 7 } },
      },
    ],
  ])("%s", (_, context) => {
    expect(placeIn(context).pullRequest).toEqual({ workspace, repository, number: 7 });
  });

  test.each([
    ["nothing", {}],
    ["no extension", { workspaceId: braced, extension: null }],
    ["a slug", { workspaceId: "acme", extension: { repository: { uuid: repository }, pullRequest: { id: 7 } } }],
    ["no number", { workspaceId: braced, extension: { repository: { uuid: repository } } }],
    ["zero", { workspaceId: braced, extension: { repository: { uuid: repository }, pullRequest: { id: 0 } } }],
    ["a fraction", { workspaceId: braced, extension: { repository: { uuid: repository }, pullRequest: { id: 7.5 } } }],
    ["a path", { workspaceId: braced, extension: { repository: { uuid: repository }, pullRequest: { id: "7/../8" } } }],
    [
      "two workspaces",
      {
        workspaceId: braced,
        extension: { workspace: { uuid: other }, repository: { uuid: repository }, pullRequest: { id: 7 } },
      },
    ],
    [
      "two numbers",
      {
        workspaceId: braced,
        extension: { repository: { uuid: repository }, pullRequest: { id: 7 }, pullRequestId: 8 },
      },
    ],
  ])("none: %s", (_, context) => {
    expect(placeIn(context).pullRequest).toBeNull();
  });
});

describe("the page to begin with", () => {
  const repositoryPage = `/workspaces/${workspace}/repositories/${repository}`;
  test.each([
    ["bitbucket:workspaceGlobalPage", "/"],
    ["bitbucket:repoSettingsMenuPage", repositoryPage],
    ["bitbucket:workspaceSettingsMenuPage", "/settings/bitbucket"],
    ["bitbucket:workspacePersonalSettingsPage", "/settings/passkeys"],
    ["bitbucket:anotherPage", "/"],
  ])("%s begins with %s", (type, start) => {
    expect(placeIn({ workspaceId: braced, extension: { type, repository: { uuid: repository } } }).start).toBe(start);
  });

  test("the manifest's key stands in for a type that is missing", () => {
    expect(placeIn({ workspaceId: braced, moduleKey: "personal-settings", extension: {} }).start).toBe(
      "/settings/passkeys",
    );
    const settings = {
      workspaceId: braced,
      moduleKey: "repo-settings",
      extension: { repository: { uuid: repository } },
    };
    expect(placeIn(settings).start).toBe(repositoryPage);
  });

  test("settings of a repository that is not named begin at the start", () => {
    expect(placeIn({ workspaceId: braced, extension: { type: "bitbucket:repoSettingsMenuPage" } }).start).toBe("/");
  });
});

test.each([
  [{ theme: { colorMode: "dark" } }, "dark"],
  [{ theme: { colorMode: "light" } }, "light"],
  [{ theme: { colorMode: "auto" } }, null],
  [{ theme: null }, null],
  [{}, null],
])("the colours of %o are %s", (context, mode) => {
  expect(colorModeOf(context)).toBe(mode);
});
