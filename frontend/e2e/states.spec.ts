import { expect, type Page, type Route } from "@playwright/test";
import { test as base, type Scene } from "./scene.ts";
import { operations, withoutStreams } from "./stack.ts";
import { violationsOn } from "./violations.ts";

// Every query of every page: on its way, empty, refused, and of something that the reader may not see. The server is the
// real one; only the answer that a test is about is put in its place.

const test = base.extend({
  page: async ({ scene }, use) => {
    const page = await scene.alice.context.newPage();
    // A stream brings what the query under test was asked for.
    await withoutStreams(page);
    await use(page);
    await page.close();
  },
});

type Json = { [key: string]: Json } & Json[];

/** A screen that waits for a query. */
interface Screen {
  path: (scene: Scene) => string;
  /** Brings the part of the page to the front that asks. */
  reach?: (page: Page) => Promise<void>;
  /** What it says while it waits; absent where nothing on the screen waits for it, which is said beside it. */
  loading?: string;
  /** Empties the answer. */
  empty: (data: Json) => void;
  /** What it says then. */
  nothing: (page: Page) => Promise<void>;
  /** What could not be done, where an error is told. */
  doing: string;
}

const says = (text: string) => async (page: Page) => {
  await expect(page.getByText(text).first()).toBeVisible();
};

const none = () => ({ edges: [], pageInfo: { __typename: "PageInfo", hasNextPage: false, endCursor: null } });
const connection = (type: string) => ({ __typename: type, ...none() }) as unknown as Json;
const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** Changes what Bitbucket has in the repository. */
const inRepository = (data: Json, fields: object) =>
  Object.assign(data["workspace"]?.["bitbucketRepository"] ?? {}, fields);

const sign = ({ world, number }: Scene) => world.page("sign", number);
const repositories = ({ world }: Scene) => `/workspaces/${world.slug}/repositories`;
const repository = ({ world }: Scene) => `/workspaces/${world.slug}/repositories/web-shop?name=Web%20Shop`;

const screens: Record<string, Screen> = {
  Panel: {
    path: ({ world, number }) => world.page("pr", number),
    loading: "Reading the approvals…",
    empty: (data) => Object.assign(data, { pullRequest: null }),
    nothing: says("Nothing to show"),
    doing: "read the approvals",
  },
  Sign: {
    path: sign,
    loading: "Reading the pull request…",
    empty: (data) => Object.assign(data, { pullRequest: null }),
    nothing: says("This pull request is not gated by SignedApproval"),
    doing: "read the pull request",
  },
  Change: {
    path: sign,
    loading: "Reading the change from Bitbucket…",
    empty: (data) => Object.assign(data["node"]?.["diff"] ?? {}, { content: "", size: 0, sha256: emptyDigest }),
    nothing: says("The commit changes no file."),
    doing: "read the change",
  },
  Shell: {
    path: () => "/",
    loading: "Loading…",
    empty: (data) => Object.assign(data, { viewer: null }),
    nothing: says("SignedApproval for Bitbucket"),
    doing: "load the dashboard",
  },
  Waiting: {
    path: () => "/",
    loading: "Loading…",
    empty: (data) => Object.assign(data["viewer"] ?? {}, { waiting: connection("ApprovalRequestConnection") }),
    nothing: says("Nothing waits for you"),
    doing: "read what waits for you",
  },
  Notices: {
    path: () => "/",
    loading: "Loading…",
    empty: (data) => Object.assign(data["viewer"] ?? {}, { notices: connection("NoticeConnection") }),
    nothing: says("No notices"),
    doing: "read your notices",
  },
  Requests: {
    path: ({ world }) => `/workspaces/${world.slug}/requests`,
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { requests: connection("ApprovalRequestConnection") }),
    nothing: says("No requests"),
    doing: "read the requests",
  },
  Request: {
    path: ({ request }) => `/requests/${request}`,
    loading: "Loading…",
    empty: (data) => Object.assign(data, { node: null }),
    nothing: says("There is no such request"),
    doing: "read the request",
  },
  PullRequest: {
    path: ({ pullRequest }) => `/pull-requests/${pullRequest}`,
    loading: "Loading…",
    empty: (data) => Object.assign(data, { node: null }),
    nothing: says("There is no such pull request"),
    doing: "read the pull request",
  },
  Rounds: {
    path: ({ pullRequest }) => `/pull-requests/${pullRequest}`,
    loading: "Loading…",
    empty: (data) => Object.assign(data["node"] ?? {}, { requests: connection("ApprovalRequestConnection") }),
    nothing: says("No rule has asked for approvals of this pull request."),
    doing: "read the requests",
  },
  History: {
    path: ({ pullRequest }) => `/pull-requests/${pullRequest}`,
    loading: "Loading…",
    empty: (data) => Object.assign(data["node"] ?? {}, { history: connection("HistoryConnection") }),
    nothing: says("Nothing has happened yet."),
    doing: "read the history",
  },
  Repositories: {
    path: repositories,
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { repositories: connection("RepositoryConnection") }),
    nothing: says("No repository is gated yet"),
    doing: "read the repositories",
  },
  OtherRepositories: {
    path: repositories,
    loading: "Loading…",
    empty: (data) =>
      Object.assign(data["workspace"] ?? {}, {
        bitbucketRepositories: connection("BitbucketRepositoryConnection"),
      }),
    nothing: says("Nothing found"),
    doing: "list the repositories on Bitbucket",
  },
  Repository: {
    path: repository,
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { repository: null }),
    nothing: says("Gate this repository"),
    doing: "read the repository",
  },
  Enforcement: {
    path: repository,
    loading: "Loading…",
    empty: (data) => Object.assign(data["node"] ?? {}, { enforcement: [], mergeChecks: [] }),
    nothing: says("Not looked at yet"),
    doing: "read how far the gate is enforced",
  },
  Violations: {
    path: repository,
    loading: "Loading…",
    empty: (data) => Object.assign(data["node"] ?? {}, { violations: connection("ViolationConnection") }),
    nothing: says("Every merge that was seen had its approvals or an override."),
    doing: "read the violations",
  },
  PolicyVersions: {
    path: repository,
    loading: "Loading…",
    empty: (data) => Object.assign(data["node"] ?? {}, { policyVersions: connection("PolicyVersionConnection") }),
    nothing: says("No versions"),
    doing: "read the versions",
  },
  Branches: {
    path: repository,
    loading: "Loading…",
    empty: (data) => inRepository(data, { branches: [] }),
    nothing: says("No branch has this in its name."),
    doing: "list the branches",
  },
  MergeBranches: {
    path: repository,
    reach: (page) => page.getByLabel("Merge at once").check(),
    // As with the strategies below.
    empty: (data) => inRepository(data, { branches: [] }),
    nothing: says("Not every branch offers each of them; that is checked when you save."),
    doing: "",
  },
  MergeStrategies: {
    path: repository,
    reach: (page) => page.getByLabel("Merge at once").check(),
    // Until it is known what the branch offers, all that Bitbucket knows is offered, and saving decides.
    empty: (data) => inRepository(data, { mergeStrategies: [] }),
    nothing: says("Not every branch offers each of them; that is checked when you save."),
    doing: "",
  },
  Models: {
    path: repository,
    reach: (page) => page.getByLabel("Only keys of certain models").check(),
    loading: "Loading…",
    empty: (data) => Object.assign(data["server"] ?? {}, { models: [] }),
    nothing: says("This server can prove no model"),
    doing: "list the models",
  },
  Members: {
    path: repository,
    reach: (page) => page.getByLabel("These people").check(),
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { members: connection("AccountConnection") }),
    nothing: says("Nobody else is there."),
    doing: "list the members",
  },
  Candidate: {
    path: ({ world }) => `/workspaces/${world.slug}/repositories/docs?name=The%20Docs`,
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { bitbucketRepository: null }),
    nothing: says("There is no such repository in the workspace, or you may not gate it."),
    doing: "look up the repository on Bitbucket",
  },
  Bitbucket: {
    path: () => "/settings/bitbucket",
    loading: "Loading…",
    empty: (data) => Object.assign(data["viewer"] ?? {}, { workspaces: connection("WorkspaceConnection") }),
    nothing: says("No workspace is connected"),
    doing: "read the connections",
  },
  Grants: {
    path: () => "/settings/bitbucket",
    // Consents are there for minutes: they are shown when there are some, and nothing waits for them.
    empty: (data) => Object.assign(data["viewer"] ?? {}, { grants: [] }),
    nothing: async (page) => {
      await expect(page.getByText("Connect a workspace")).toBeVisible();
      await expect(page.getByText("Choose the workspace to connect")).toHaveCount(0);
    },
    doing: "read your consents",
  },
  Passkeys: {
    path: () => "/settings/passkeys",
    loading: "Loading…",
    empty: (data) => Object.assign(data["viewer"] ?? {}, { passkeys: [] }),
    nothing: says("No passkey yet"),
    doing: "read your passkeys",
  },
  WantingKeys: {
    path: () => "/settings/keys",
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { keyHolders: connection("KeyHolderConnection") }),
    nothing: says("Nothing to countersign"),
    doing: "read which keys are to be countersigned",
  },
  MemberKeys: {
    path: () => "/settings/keys",
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { keyHolders: connection("KeyHolderConnection") }),
    nothing: says("No keys yet"),
    doing: "read the keys of members",
  },
  FallenVerdicts: {
    path: () => "/settings/keys",
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { fallenVerdicts: connection("FallenVerdictConnection") }),
    nothing: says("Nothing fell"),
    doing: "read what reports took down",
  },
  Protection: {
    path: () => "/settings/protection",
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { protection: null }),
    nothing: says("Not protected"),
    doing: "read the protection",
  },
  Protectors: {
    path: () => "/settings/protection",
    reach: (page) => page.getByRole("button", { name: "Protect this workspace…" }).click(),
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { keyHolders: connection("KeyHolderConnection") }),
    nothing: says("Nobody here has a passkey yet."),
    doing: "read who has a passkey",
  },
  Protected: {
    path: repository,
    // Until it is known whether the workspace is protected, the form saves; the server makes a proposal where it is.
    empty: (data) => Object.assign(data["workspace"] ?? {}, { protection: null }),
    nothing: async (page) => {
      await expect(page.getByRole("button", { name: "Save the rules" })).toBeVisible();
    },
    doing: "",
  },
  Proposals: {
    path: () => "/settings/protection",
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { proposals: connection("ProposalConnection") }),
    nothing: says("No proposals"),
    doing: "read the proposals",
  },
  Proposal: {
    path: ({ world }) => `/settings/protection?workspace=${world.slug}&proposal=00000000-0000-4000-8000-000000000000`,
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { proposal: null }),
    nothing: says("No such proposal"),
    doing: "read the proposal",
  },
  Tokens: {
    path: () => "/settings/tokens",
    loading: "Loading…",
    empty: (data) => Object.assign(data["workspace"] ?? {}, { apiTokens: [] }),
    nothing: says("No tokens"),
    doing: "read the tokens",
  },
};

/** Where a page asks the operation. */
const asking = (operation: string) => (address: URL) =>
  address.pathname === "/graphql" && address.search === `?${operation}`;

function refuse(status: number, code: string, message: string) {
  return (route: Route) =>
    route.fulfill({
      status,
      contentType: "application/graphql-response+json",
      body: JSON.stringify({ errors: [{ message, extensions: { code } }] }),
    });
}

async function show(page: Page, scene: Scene, screen: Screen) {
  await page.goto(new URL(screen.path(scene), scene.world.stack.server).href);
  await screen.reach?.(page);
}

test("every query of the pages is here", () => {
  const queries = [...operations].filter(([, { kind }]) => kind === "query").map(([name]) => name);
  expect(Object.keys(screens).sort()).toEqual(queries.sort());
});

for (const [operation, screen] of Object.entries(screens)) {
  test.describe(operation, () => {
    if (screen.loading) {
      test("says that it is on its way", async ({ page, scene }) => {
        await page.route(asking(operation), () => {});
        await show(page, scene, screen);
        await expect(
          page
            .getByRole("status")
            .filter({ hasText: screen.loading as string })
            .first(),
        ).toBeVisible();
      });
    }

    test("says that there is nothing", async ({ page, scene }) => {
      await page.route(asking(operation), async (route) => {
        const response = await route.fetch();
        const answer = await response.json();
        expect(answer.errors).toBeUndefined();
        screen.empty(answer.data);
        await route.fulfill({ response, json: answer });
      });
      await show(page, scene, screen);
      await screen.nothing(page);
    });

    test("says what went wrong, and tries again", async ({ page, scene }) => {
      const asked = asking(operation);
      await page.route(asked, refuse(503, "TIMEOUT", "It took too long."));
      await show(page, scene, screen);
      if (!screen.doing) {
        await screen.nothing(page);
        return;
      }
      const alert = page
        .getByRole("alert")
        .filter({ hasText: `Could not ${screen.doing}` })
        .first();
      await expect(alert).toContainText("It took too long.");
      await page.unroute(asked);
      await alert.getByRole("button", { name: "Try again" }).click();
      await expect(page.getByText(`Could not ${screen.doing}`)).toHaveCount(0);
    });

    test("does not tell what is hidden from what is not there", async ({ page, scene }) => {
      await page.route(asking(operation), refuse(200, "NOT_FOUND", "There is no such thing."));
      await show(page, scene, screen);
      if (!screen.doing) {
        await screen.nothing(page);
        return;
      }
      const text = "It does not exist, or your Bitbucket account may not see it.";
      await expect(page.getByRole("alert").filter({ hasText: text }).first()).toBeVisible();
    });
  });
}

test("what reports took down can be used by everybody, however much it is", async ({ page, scene }) => {
  await page.route(asking("FallenVerdicts"), async (route) => {
    const response = await route.fetch();
    const answer = await response.json();
    const verdict = (n: number) => ({
      __typename: "FallenVerdict",
      owner: n % 5 ? { __typename: "Person", id: "bob", name: "Bob Tanaka with a name as long as they come" } : null,
      key: `security-key-without-a-break-in-its-name-${n}`,
      compromisedSince: "2026-11-01T09:00:00Z",
      reportedAt: "2026-11-05T09:00:00Z",
      pullRequest:
        n % 3
          ? {
              __typename: "PullRequest",
              id: `pull-request-${n}`,
              number: n,
              title: `A title that goes on without an end in sight ${"and on ".repeat(n)}`,
              repository: { __typename: "Repository", id: "repository", fullName: `acme/${"web-shop-".repeat(8)}` },
            }
          : null,
      was: n % 2 ? "APPROVED" : "OVERRIDDEN",
      standsAs: ["PENDING", "REJECTED", "EXPIRED", "APPROVED"][n % 4],
      merged: n % 2 === 0,
    });
    Object.assign(answer.data.workspace, {
      fallenVerdicts: {
        __typename: "FallenVerdictConnection",
        edges: Array.from({ length: 20 }, (_, n) => ({
          __typename: "FallenVerdictEdge",
          cursor: `c${n}`,
          node: verdict(n),
        })),
        pageInfo: { __typename: "PageInfo", hasNextPage: true, endCursor: "c19" },
      },
    });
    await route.fulfill({ response, json: answer });
  });
  await page.goto(new URL("/settings/keys", scene.world.stack.server).href);
  const section = page.getByRole("region", { name: "Taken down by reports" });
  await expect(section.getByRole("button", { name: "Show more" })).toBeVisible();
  for (const width of [360, 1280]) {
    await page.setViewportSize({ width, height: 900 });
    expect(await violationsOn(page), `${width}`).toEqual([]);
    const overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    expect(overflow, `the page must not scroll sideways at ${width}`).toBe(0);
  }
});

for (const operation of ["Panel", "Sign", "Shell"]) {
  test(`${operation} leads somebody whose session has ended to sign in, and back`, async ({ page, scene }) => {
    const screen = screens[operation] as Screen;
    await page.route(asking(operation), refuse(401, "UNAUTHENTICATED", "Sign in first."));
    await show(page, scene, screen);
    const back = encodeURIComponent(new URL(page.url()).pathname);
    const link = page.getByRole("link", { name: "Sign in with Bitbucket" });
    await expect(link).toHaveAttribute("href", `/auth/sign-in?return_to=${back}`);
  });
}
