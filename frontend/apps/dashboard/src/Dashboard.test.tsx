import { openGraph } from "@signedapproval/graph/client";
import {
  alice,
  bitbucketRepository,
  bob,
  connectionOf,
  decision,
  head,
  keyDocument,
  passkey,
  policyVersion,
  pullRequest,
  repository,
  request,
  rule,
  server,
  viewer,
  viewerCan,
  workspace,
  workspaceUuid,
  world,
} from "@signedapproval/graph/fixtures";
import { MockApi } from "@signedapproval/graph/mockapi";
import { GraphProvider } from "@signedapproval/graph/provider";
import { type RecordingHost, recordingHost } from "@signedapproval/host/recording";
import { actOf, documentOf, keyAct } from "@signedapproval/sign/actfixture";
import { digestOf } from "@signedapproval/sign/prepared";
import { violations } from "@signedapproval/ui/accessibility.ts";
import { createMemoryHistory, RouterProvider } from "@tanstack/react-router";
import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createDashboardRouter } from "./router.tsx";
import { Surroundings } from "./surroundings.ts";

vi.spyOn(window, "scrollTo").mockImplementation(() => {});
afterEach(() => vi.unstubAllGlobals());

function open(
  path: string,
  like: Record<string, unknown> = {},
  prepare?: (api: MockApi) => void,
  host: RecordingHost = recordingHost(null),
) {
  const api = new MockApi(world(like));
  // What a stream begins with comes beside the queries; here it is the queries that are looked at.
  delete api.world.Subscription;
  prepare?.(api);
  const router = createDashboardRouter(createMemoryHistory({ initialEntries: [path] }));
  const view = render(
    <Surroundings value={host}>
      <GraphProvider graph={openGraph({ fetch: api.fetch })}>
        <RouterProvider router={router} />
      </GraphProvider>
    </Surroundings>,
  );
  return { api, router, host, ...view };
}

const inputOf = (api: MockApi, operation: string) =>
  api.calls.find((call) => call.operation === operation)?.variables["input"];

function notice(like: Record<string, unknown> = {}) {
  return {
    __typename: "Notice",
    id: "notice-1",
    kind: "APPROVAL_WANTED",
    title: "Your approval is wanted",
    sentence: "Alice Moreau asks for it.",
    path: "/sign/x",
    createdAt: "2026-11-22T09:00:00Z",
    readAt: null,
    ...like,
  };
}

// Each page with the query that its own part of the screen waits for.
const pages: [string, string, string, string][] = [
  ["what waits", "/", "Waiting", "Could not read what waits for you"],
  ["notices", "/", "Notices", "Could not read your notices"],
  ["a request", "/requests/request-1", "Request", "Could not read the request"],
  ["a pull request", "/pull-requests/pull-request-7", "PullRequest", "Could not read the pull request"],
  ["its requests", "/pull-requests/pull-request-7", "Rounds", "Could not read the requests"],
  ["its history", "/pull-requests/pull-request-7", "History", "Could not read the history"],
  ["requests", "/workspaces/acme/requests", "Requests", "Could not read the requests"],
  ["repositories", "/workspaces/acme/repositories", "Repositories", "Could not read the repositories"],
  [
    "Bitbucket's repositories",
    "/workspaces/acme/repositories",
    "OtherRepositories",
    "Could not list the repositories on Bitbucket",
  ],
  ["a repository", "/workspaces/acme/repositories/web-shop", "Repository", "Could not read the repository"],
  [
    "its enforcement",
    "/workspaces/acme/repositories/web-shop",
    "Enforcement",
    "Could not read how far the gate is enforced",
  ],
  ["its violations", "/workspaces/acme/repositories/web-shop", "Violations", "Could not read the violations"],
  ["its versions", "/workspaces/acme/repositories/web-shop", "PolicyVersions", "Could not read the versions"],
  ["its branches", "/workspaces/acme/repositories/web-shop", "Branches", "Could not list the branches"],
  ["the connections", "/settings/bitbucket", "Bitbucket", "Could not read the connections"],
  ["the consents", "/settings/bitbucket", "Grants", "Could not read your consents"],
  ["passkeys", "/settings/passkeys", "Passkeys", "Could not read your passkeys"],
  ["tokens", "/settings/tokens", "Tokens", "Could not read the tokens"],
  ["what reports took down", "/settings/keys", "FallenVerdicts", "Could not read what reports took down"],
];

describe("every query", () => {
  // A consent is shown where there is one and is not waited for.
  const waitedFor = pages.filter(([, , operation]) => operation !== "Grants");
  test.each(waitedFor)("%s: says that it is loading", async (_, path, operation) => {
    const { api } = open(path, {}, (api) => api.hold(operation));
    await waitFor(() => expect(api.calls.map((call) => call.operation)).toContain(operation));
    // One is left when everything else has been answered.
    await waitFor(() => expect(screen.getByText("Loading…")).toBeVisible());
  });

  test.each(pages)("%s: says what went wrong, and tries again", async (_, path, operation, title) => {
    const { api } = open(path, {}, (api) => api.refuse(operation, "TIMEOUT", "It took too long.", 503));
    const alert = await waitFor(() => {
      const found = screen.getAllByRole("alert").find((element) => element.textContent?.includes(title));
      if (!found) throw new Error(`no alert says ${title}`);
      return found;
    });
    expect(alert).toHaveTextContent("It took too long.");
    api.release(operation);
    await userEvent.click(within(alert).getByRole("button", { name: "Try again" }));
    await waitFor(() => expect(screen.queryByText(title)).toBeNull());
  });

  test.each(pages)("%s: does not tell what is hidden from what is not there", async (_, path, operation) => {
    open(path, {}, (api) => api.refuse(operation, "NOT_FOUND", "There is no such thing.", 200));
    expect(await screen.findByText("It does not exist, or your Bitbucket account may not see it.")).toBeVisible();
  });

  test.each([
    ["/requests/gone", "There is no such request, or your Bitbucket account may not see its repository."],
    ["/pull-requests/gone", "There is no such pull request, or your Bitbucket account may not see its repository."],
  ])("%s that is not there", async (path, text) => {
    open(path);
    expect(await screen.findByText(text)).toBeVisible();
  });

  test.each(["/workspaces/other/requests", "/workspaces/other/repositories", "/workspaces/other/repositories/x"])(
    "%s of a workspace that is not there",
    async (path) => {
      open(path, { workspace: null });
      expect(await screen.findByText("This workspace is not connected, or you are not a member of it.")).toBeVisible();
    },
  );

  test.each([
    ["/", "Nothing waits for you"],
    ["/", "No notices"],
    ["/workspaces/acme/requests", "No requests"],
    ["/settings/passkeys", "No passkey yet"],
    ["/settings/tokens", "No tokens"],
  ])("%s: %s", async (path, text) => {
    open(path, { viewer: viewer({ passkeys: [] }) });
    expect(await screen.findByText(text)).toBeVisible();
  });
});

describe("the shell", () => {
  test("somebody who is not signed in sees what this is, and the way in", async () => {
    const { container } = open("/", { viewer: null });
    expect(await screen.findByRole("heading", { name: "SignedApproval for Bitbucket" })).toBeVisible();
    expect(screen.getByRole("link", { name: "Sign in with Bitbucket" })).toHaveAttribute(
      "href",
      expect.stringMatching(/^\/auth\/sign-in\?return_to=/),
    );
    expect(await violations(container)).toEqual([]);
  });

  test("an error is told, and tried again", async () => {
    const { api } = open("/", {}, (api) => api.refuse("Shell", "INTERNAL", "Something went wrong.", 500));
    expect(await screen.findByRole("alert")).toHaveTextContent("Could not load the dashboard");
    api.release("Shell");
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByRole("heading", { name: "Waiting for you" })).toBeVisible();
  });

  test("an old page asks to be reloaded", async () => {
    open("/", {}, (api) => api.refuse("Shell", "PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound", 400));
    expect(await screen.findByRole("button", { name: "Reload" })).toBeVisible();
  });

  test("a dead connection is told on every page", async () => {
    const dead = workspace({
      connection: {
        state: "NEEDS_RECONNECTING",
        reason: "The grant was revoked.",
        accountName: "A",
        connectedAt: "2026-11-18T08:00:00Z",
        refreshedAt: "2026-11-18T08:00:00Z",
      },
    });
    open("/settings/passkeys", { viewer: viewer({ workspaces: connectionOf([dead]) }) });
    expect(await screen.findByText("The connection of Acme to Bitbucket needs reconnecting")).toBeVisible();
    expect(screen.getByRole("link", { name: "Reconnect" })).toHaveAttribute("href", "/settings/bitbucket");
  });

  test("an address that leads nowhere says so", async () => {
    open("/nowhere/at/all");
    expect(await screen.findByText("There is no such page")).toBeVisible();
  });

  test("settings begin with Bitbucket", async () => {
    const { router } = open("/settings");
    expect(await screen.findByRole("heading", { level: 1, name: "Bitbucket" })).toBeVisible();
    expect(router.state.location.pathname).toBe("/settings/bitbucket");
  });
});

describe("home", () => {
  const waiting = viewer({ waiting: connectionOf([request()]), notices: connectionOf([notice()]), unreadNotices: 1 });

  test("leads to the sign page of what waits, and to its request", async () => {
    const { container } = open("/", { viewer: waiting });
    const row = await screen.findByRole("row", { name: /Check the coupon before the payment/ });
    expect(within(row).getByRole("link", { name: /^Review/ })).toHaveAttribute("href", request()["signPath"]);
    expect(within(row).getByRole("link", { name: "Check the coupon before the payment" })).toHaveAttribute(
      "href",
      "/requests/request-1",
    );
    expect(screen.getByRole("link", { name: "Home, 1 unread notice" })).toBeVisible();
    expect(await violations(container)).toEqual([]);
  });

  test("a notice can be marked as read", async () => {
    const { api } = open("/", { viewer: waiting });
    api.world.Mutation = { readNotice: { notice: notice({ readAt: "2026-11-22T10:00:00Z" }), userErrors: [] } };
    await userEvent.click(await screen.findByRole("button", { name: /^Mark as read/ }));
    await waitFor(() => expect(screen.queryByRole("button", { name: /^Mark as read/ })).toBeNull());
    expect(inputOf(api, "ReadNotice")).toEqual({ id: "notice-1" });
  });

  test("what newly waits appears by itself", async () => {
    const { api } = open("/");
    expect(await screen.findByText("Nothing waits for you")).toBeVisible();
    await waitFor(() => expect(api.listeners("InboxChanged")).toBe(1));
    api.emit("InboxChanged", { inboxChanged: waiting });
    expect(await screen.findByRole("link", { name: /^Review/ })).toBeVisible();
    expect(screen.getByText("Your approval is wanted")).toBeVisible();
  });

  test("shows more on demand", async () => {
    const pageOf = ({ after }: { after?: string }) =>
      after === "c0"
        ? connectionOf([request({ id: "second", pullRequest: () => pullRequest({ id: "pr-8", title: "The second" }) })])
        : connectionOf([request()], true);
    open("/", { viewer: viewer({ waiting: pageOf }) });
    await userEvent.click(await screen.findByRole("button", { name: "Show more" }));
    expect(await screen.findByRole("link", { name: "The second" })).toBeVisible();
    expect(screen.getByRole("link", { name: "Check the coupon before the payment" })).toBeVisible();
    expect(screen.queryByRole("button", { name: "Show more" })).toBeNull();
  });
});

describe("a request", () => {
  test("shows what was asked, who decided, and where its proof is", async () => {
    const asked = request({ decisions: [decision({ comment: "Looks right." })] });
    const { container } = open("/requests/request-1", {
      node: ({ id }: { id: string }) => (id === "request-1" ? asked : pullRequest()),
    });
    const title = "Check the coupon before the payment";
    expect(await screen.findByRole("heading", { level: 1, name: title })).toBeVisible();
    expect(screen.getByText("Looks right.")).toBeVisible();
    expect(container).toHaveTextContent(head);
    expect(container).toHaveTextContent("5".repeat(64));
    expect(screen.getByRole("link", { name: "Download the evidence" })).toHaveAttribute("href", asked["evidencePath"]);
    expect(screen.getByRole("link", { name: "Verify evidence" })).toHaveAttribute("href", "/verify");
    expect(screen.getByRole("link", { name: "Review and sign" })).toHaveAttribute("href", asked["signPath"]);
    expect(await violations(container)).toEqual([]);
  });

  test("is read again when its pull request changes", async () => {
    const { api } = open("/requests/request-1");
    await screen.findByText("1 of 2 approvals; waiting for Carol Okafor");
    await waitFor(() => expect(api.listeners("RequestChanged")).toBe(1));
    const superseded = request({ state: "SUPERSEDED", sentence: "a later commit took its place" });
    api.world.Query = {
      ...api.world.Query,
      node: ({ id }: { id: string }) => (id === "request-1" ? superseded : pullRequest({ version: 4 })),
    };
    api.emit("RequestChanged", { pullRequestChanged: pullRequest({ version: 4 }) });
    expect(await screen.findByText("A later commit took its place")).toBeVisible();
  });

  test("that expired can be asked again", async () => {
    const expired = request({ state: "EXPIRED", viewerCan: viewerCan({ approve: false, reject: false, renew: true }) });
    const { api } = open("/requests/request-1", {
      node: ({ id }: { id: string }) => (id === "request-1" ? expired : pullRequest()),
    });
    api.world.Mutation = { renewRequest: { request: request(), userErrors: [] } };
    await userEvent.click(await screen.findByRole("button", { name: "Ask again" }));
    expect(await screen.findByRole("link", { name: "Review and sign" })).toBeVisible();
  });
});

test("a pull request shows what Bitbucket was told, its rounds and its history, and can be looked at again", async () => {
  const entry = {
    sequence: 1,
    type: "request-opened",
    sentence: "asked for 2 approvals",
    at: "2026-11-22T09:00:00Z",
    leafHash: "1".repeat(64),
  };
  const shown = pullRequest({
    history: connectionOf([entry]),
    merge: {
      state: "MERGED",
      sentence: "merged with squash",
      strategy: "squash",
      mergeCommit: "b".repeat(40),
      updatedAt: "2026-11-22T09:30:00Z",
    },
    status: {
      commit: head,
      state: "SUCCESSFUL",
      description: "approved by two",
      paid: false,
      paidAt: null,
      problem: "Bitbucket refused it.",
    },
  });
  const { api, container } = open("/pull-requests/pull-request-7", { node: () => shown });
  expect(await screen.findByText("Asked for 2 approvals")).toBeVisible();
  expect(screen.getByText("Bitbucket refused it.")).toBeVisible();
  expect(container).toHaveTextContent("b".repeat(40));
  expect(await screen.findByRole("link", { name: "Round 1" })).toHaveAttribute("href", "/requests/request-1");
  api.world.Mutation = { ringPullRequest: { pullRequest: shown, userErrors: [] } };
  await userEvent.click(screen.getByRole("button", { name: "Look again now" }));
  expect(await screen.findByText("Asked: what changed appears here.")).toBeVisible();
  expect(inputOf(api, "RingPullRequest")).toEqual({ pullRequestId: "pull-request-7" });
  expect(await violations(container)).toEqual([]);
});

test("requests are filtered by what became of them", async () => {
  const { api } = open("/workspaces/acme/requests", { workspace: workspace({ requests: connectionOf([request()]) }) });
  expect(await screen.findByRole("row", { name: /acme\/web-shop #7, round 1/ })).toBeVisible();
  await userEvent.click(screen.getByRole("link", { name: "All" }));
  await waitFor(() => expect(api.calls.at(-1)).toEqual({ operation: "Requests", variables: { workspace: "acme" } }));
  expect(api.calls.find((call) => call.operation === "Requests")?.variables["states"]).toEqual([
    "PENDING",
    "REJECTED",
    "EXPIRED",
  ]);
});

describe("repositories", () => {
  test("an administrator sees those that could be gated, and searches them", async () => {
    const free = bitbucketRepository({
      uuid: "u2",
      name: "Docs",
      slug: "docs",
      fullName: "acme/docs",
      repository: null,
    });
    const search = ({ search }: { search?: string }) =>
      connectionOf(search === "doc" ? [free] : [bitbucketRepository(), free]);
    const { container } = open("/workspaces/acme/repositories", {
      workspace: workspace({ bitbucketRepositories: search }),
    });
    await userEvent.type(await screen.findByRole("searchbox"), "doc");
    const select = await screen.findByRole("link", { name: "Select Docs" });
    expect(select).toHaveAttribute("href", "/workspaces/acme/repositories/docs?name=Docs");
    await waitFor(() => expect(screen.getAllByRole("link", { name: /Configure|Select/ })).toHaveLength(2));
    expect(await violations(container)).toEqual([]);
  });

  test("somebody else sees what is gated, and no more", async () => {
    const readable = repository({
      viewerCanConfigure: false,
      state: "ATTENTION",
      attention: "The webhook was removed.",
    });
    const acme = workspace({ viewerIsAdmin: false, repositories: connectionOf([readable]) });
    const { api } = open("/workspaces/acme/repositories", {
      viewer: viewer({ workspaces: connectionOf([acme]) }),
      workspace: acme,
    });
    expect(await screen.findByText("The webhook was removed.")).toBeVisible();
    expect(screen.getByRole("link", { name: "Show Web Shop" })).toBeVisible();
    expect(api.calls.map((call) => call.operation)).not.toContain("OtherRepositories");
  });
});

describe("the rules of a repository", () => {
  const path = "/workspaces/acme/repositories/web-shop";

  test("are edited and saved in their order", async () => {
    const { api, container } = open(path);
    expect(await screen.findByText("Version 2 is in force.")).toBeVisible();
    const first = screen.getByRole("region", { name: "Rule 1: Release branches" });
    await userEvent.clear(within(first).getByLabelText("Approvals needed"));
    await userEvent.type(within(first).getByLabelText("Approvals needed"), "3");
    await userEvent.click(screen.getByRole("button", { name: "Add a rule" }));
    const second = screen.getByRole("region", { name: "Rule 2: Rule 2" });
    await userEvent.type(within(second).getByLabelText("Destination branches"), "main{Enter}hotfix/**");
    await userEvent.click(within(second).getByLabelText("These people"));
    await userEvent.click(await within(second).findByRole("button", { name: "Add Bob Tanaka" }));
    await userEvent.click(within(second).getByLabelText("Merge at once"));
    await userEvent.selectOptions(await within(second).findByLabelText("Strategy"), "squash");
    await userEvent.click(within(second).getByLabelText("Close the source branch"));
    expect(await violations(container)).toEqual([]);
    await userEvent.click(within(second).getByRole("button", { name: "Move Rule 2 up" }));
    expect(screen.getByText("You have changes that are not saved.")).toBeVisible();

    const saved = repository({
      policy: policyVersion({ id: "policy-3", version: 3, rules: [rule({ name: "Saved" })] }),
    });
    api.world.Mutation = { saveRepository: { repository: saved, userErrors: [] } };
    api.world.Query = { ...api.world.Query, workspace: workspace({ repository: saved }) };
    await userEvent.click(screen.getByRole("button", { name: "Save the rules" }));
    expect(await screen.findByText("Version 3 is in force.")).toBeVisible();
    expect(inputOf(api, "SaveRepository")).toEqual({
      workspaceId: "workspace-1",
      repositoryUuid: repository()["uuid"],
      rules: [
        {
          name: "Rule 2",
          branches: ["main", "hotfix/**"],
          requirements: [{ name: "Approval", quorum: 1, everyone: false, approvers: [bob.accountId] }],
          authorMayApprove: false,
          expiresAfterSeconds: 604_800,
          autoMerge: { strategy: "squash", closeSourceBranch: true, messageTemplate: "" },
          cosignatures: 0,
        },
        {
          name: "Release branches",
          branches: ["release/*", "!release/old"],
          requirements: [{ name: "Approval", quorum: 3, everyone: true, approvers: [] }],
          authorMayApprove: false,
          expiresAfterSeconds: 604_800,
          cosignatures: 0,
        },
      ],
    });
  });

  test("say how many witnesses must have cosigned, and why they cannot", async () => {
    const { api } = open(path);
    const field = await screen.findByLabelText("Witnesses who must have cosigned the log");
    expect(field).toHaveValue("0");
    await userEvent.clear(field);
    await userEvent.type(field, "3");
    expect(field).toHaveAccessibleDescription(expect.stringContaining("This server has 2 witnesses."));
    expect(field).toHaveAccessibleDescription(expect.stringContaining("The rule asks for 3, but this server has 2."));
    expect(field).toBeInvalid();
    const message = "The rule asks for the cosignatures of 3 witnesses, but this server has 2.";
    api.world.Mutation = {
      saveRepository: {
        repository: null,
        userErrors: [{ code: "TOO_FEW_WITNESSES", message, path: ["input", "rules", "0", "cosignatures"] }],
      },
    };
    await userEvent.click(screen.getByRole("button", { name: "Save the rules" }));
    await screen.findByText("The rules were not saved");
    expect(field).toHaveAccessibleDescription(expect.stringContaining(message));
    expect(inputOf(api, "SaveRepository")).toMatchObject({ rules: [{ cosignatures: 3 }] });
  });

  describe("say which keys count:", () => {
    const known = { aaguid: "11111111-2222-3333-4444-555555555555", description: "Example Key" };
    const second = { aaguid: "22222222-2222-3333-4444-555555555555", description: "Second Key" };
    const gone = { aaguid: "00000000-2222-3333-4444-555555555555", description: null };
    const gating = (keys: object | null) => ({
      workspace: workspace({ repository: repository({ policy: policyVersion({ rules: [rule({ keys })] }) }) }),
    });
    const sent = (api: MockApi) => (inputOf(api, "SaveRepository") as { rules: { keys?: object }[] }).rules[0]?.keys;

    test("those that somebody vouched for, and those of models that the server can prove", async () => {
      const { api, container } = open(path, { server: server({ models: [known, second] }) });
      const group = await screen.findByRole("group", { name: "Which keys count" });
      expect(api.calls.map((call) => call.operation)).not.toContain("Models");
      await userEvent.click(within(group).getByLabelText("Only keys that somebody vouched for"));
      await userEvent.click(within(group).getByLabelText("Only keys of certain models"));
      expect(await within(group).findByText(/^None is chosen: keys of every model count/u)).toBeVisible();
      await userEvent.click(within(group).getByLabelText("Second Key"));
      await userEvent.click(within(group).getByLabelText("Example Key"));
      expect(within(group).queryByText(/^None is chosen/u)).toBeNull();
      expect(within(group).getByLabelText("Example Key")).toHaveAccessibleDescription(known.aaguid);
      expect(await violations(container)).toEqual([]);
      const message = "This server's snapshot of the FIDO metadata has no acceptable model.";
      const refusal = { code: "UNKNOWN_MODEL", message, path: ["rules", "0", "keys", "models", "1"] };
      api.world.Mutation = { saveRepository: { repository: null, userErrors: [refusal] } };
      await userEvent.click(screen.getByRole("button", { name: "Save the rules" }));
      expect(await within(group).findByText(message)).toBeVisible();
      expect(sent(api)).toEqual({ countersigned: true, models: [known.aaguid, second.aaguid] });
    });

    test("nothing of it is lost when something else is changed", async () => {
      const { api } = open(path, {
        ...gating({ countersigned: true, models: [known] }),
        server: server({ models: [known] }),
      });
      await userEvent.click(await screen.findByLabelText("The author may approve"));
      api.world.Mutation = { saveRepository: { repository: null, userErrors: [] } };
      await userEvent.click(screen.getByRole("button", { name: "Save the rules" }));
      await waitFor(() => expect(sent(api)).toEqual({ countersigned: true, models: [known.aaguid] }));
    });

    test("a model that the server cannot prove any more is shown, and can be taken out", async () => {
      const { api } = open(path, {
        ...gating({ countersigned: false, models: [gone] }),
        server: server({ models: [known] }),
      });
      const box = await screen.findByLabelText(gone.aaguid);
      expect(box).toBeChecked();
      expect(box).toHaveAccessibleDescription(/cannot prove it any more/u);
      await userEvent.click(screen.getByLabelText("Example Key"));
      await userEvent.click(box);
      expect(box).not.toBeChecked();
      api.world.Mutation = { saveRepository: { repository: null, userErrors: [] } };
      await userEvent.click(screen.getByRole("button", { name: "Save the rules" }));
      await waitFor(() => expect(sent(api)).toEqual({ countersigned: false, models: [known.aaguid] }));
    });

    test("no model can be chosen where the server can prove none", async () => {
      open(path);
      await userEvent.click(await screen.findByLabelText("Only keys of certain models"));
      expect(await screen.findByText(/^This server can prove no model/u)).toBeVisible();
      expect(screen.queryByRole("list", { name: "Models" })).toBeNull();
    });

    test("what is no longer asked is not sent", async () => {
      const { api } = open(path, {
        ...gating({ countersigned: false, models: [known] }),
        server: server({ models: [known] }),
      });
      const box = await screen.findByLabelText("Only keys of certain models");
      expect(box).toBeChecked();
      await userEvent.click(box);
      expect(screen.queryByRole("list", { name: "Models" })).toBeNull();
      api.world.Mutation = { saveRepository: { repository: null, userErrors: [] } };
      await userEvent.click(screen.getByRole("button", { name: "Save the rules" }));
      await waitFor(() => expect(api.calls.map((call) => call.operation)).toContain("SaveRepository"));
      expect(sent(api)).toBeUndefined();
    });
  });

  test("say who may override them", async () => {
    const { api, container } = open(path);
    await userEvent.click(await screen.findByLabelText("The rule can be overridden"));
    const group = screen.getByRole("group", { name: "Who may override" });
    expect(within(group).getByLabelText("People needed")).toHaveValue(2);
    await userEvent.click(await within(group).findByRole("button", { name: "Add Bob Tanaka" }));
    expect(await violations(container)).toEqual([]);
    const refusal = {
      code: "QUORUM_UNREACHABLE",
      message: "The override asks for 2 people.",
      path: ["rules", "0", "override", "quorum"],
    };
    api.world.Mutation = { saveRepository: { repository: null, userErrors: [refusal] } };
    await userEvent.click(screen.getByRole("button", { name: "Save the rules" }));
    expect(await screen.findByText("The rules were not saved")).toBeVisible();
    expect(within(group).getByLabelText("People needed")).toHaveAccessibleDescription(
      "The override asks for 2 people.",
    );
    expect(inputOf(api, "SaveRepository")).toMatchObject({
      rules: [{ override: { quorum: 2, everyone: false, approvers: [bob.accountId] } }],
    });
    await userEvent.click(screen.getByLabelText("The rule can be overridden"));
    expect(screen.queryByLabelText("People needed")).toBeNull();
  });

  test("that are refused keep what was typed, each problem beside its field", async () => {
    const { api } = open(path);
    const quorum = await screen.findByLabelText("Approvals needed");
    await userEvent.clear(quorum);
    await userEvent.type(quorum, "9");
    const refusal = {
      code: "QUORUM_UNREACHABLE",
      message: "There are only 2 people.",
      path: ["rules", "0", "requirements", "0", "quorum"],
    };
    api.world.Mutation = { saveRepository: { repository: null, userErrors: [refusal] } };
    await userEvent.click(screen.getByRole("button", { name: "Save the rules" }));
    expect(await screen.findByText("The rules were not saved")).toBeVisible();
    expect(quorum).toBeInvalid();
    expect(quorum).toHaveAccessibleDescription("There are only 2 people.");
    expect(quorum).toHaveValue(9);
  });

  test("offer the merge strategies of a branch that they are about", async () => {
    const { api } = open(path);
    await userEvent.click(await screen.findByLabelText("Merge at once"));
    expect(await screen.findByText("Those that release/1.0 offers.")).toBeVisible();
    expect(within(screen.getByLabelText("Strategy")).getAllByRole("option")).toHaveLength(3);
    expect(api.calls.find((call) => call.operation === "MergeStrategies")?.variables["branch"]).toBe("release/1.0");
  });

  test("tell which rule would apply to which branch while they are edited", async () => {
    open(path);
    const branches = await screen.findByRole("list", { name: "Branches" });
    const of = (name: string) => within(branches).getByText(name).closest("li");
    expect(of("release/1.0")).toHaveTextContent("rule 1, Release branches");
    expect(of("release/old")).toHaveTextContent("not gated");
    const patterns = screen.getByLabelText("Destination branches");
    await userEvent.clear(patterns);
    await userEvent.type(patterns, "main");
    expect(of("release/1.0")).toHaveTextContent("not gated");
    expect(of("main")).toHaveTextContent("rule 1, Release branches");
  });

  test("are not left with unsaved changes without asking", async () => {
    const { router } = open(path);
    await userEvent.type(await screen.findByLabelText("Name"), "!");
    await userEvent.click(within(screen.getByRole("navigation", { name: "Main" })).getByRole("link", { name: "Home" }));
    await userEvent.click(await screen.findByRole("button", { name: "Stay" }));
    expect(router.state.location.pathname).toBe(path);
    await userEvent.click(within(screen.getByRole("navigation", { name: "Main" })).getByRole("link", { name: "Home" }));
    await userEvent.click(await screen.findByRole("button", { name: "Leave" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/"));
  });

  test("of a repository that is not gated yet begin with one approval into main", async () => {
    const free = bitbucketRepository({
      uuid: "u2",
      name: "The Docs",
      slug: "docs",
      fullName: "acme/docs",
      repository: null,
    });
    const { api } = open("/workspaces/acme/repositories/docs?name=The%20Docs", {
      workspace: workspace({ repository: null, bitbucketRepository: free }),
    });
    expect(await screen.findByRole("heading", { level: 1, name: "The Docs" })).toBeVisible();
    expect(api.calls.find((call) => call.operation === "Candidate")?.variables).toEqual({
      workspace: "acme",
      slug: "docs",
    });
    const branches = await screen.findByRole("list", { name: "Branches" });
    expect(within(branches).getByText("main").closest("li")).toHaveTextContent("rule 1, Default");
    await userEvent.click(screen.getByLabelText("Merge at once"));
    expect(await screen.findByText("Those that main offers.")).toBeVisible();
    await userEvent.click(screen.getByLabelText("Merge at once"));
    expect(api.calls.find((call) => call.operation === "MergeStrategies")?.variables).toEqual({
      workspace: "acme",
      repository: "u2",
      branch: "main",
    });
    api.world.Mutation = { saveRepository: { repository: repository(), userErrors: [] } };
    await userEvent.click(screen.getByRole("button", { name: "Gate this repository" }));
    await waitFor(() =>
      expect(inputOf(api, "SaveRepository")).toMatchObject({ repositoryUuid: "u2", rules: [{ branches: ["main"] }] }),
    );
  });

  test("can be taken away, after asking; what is left to do is told", async () => {
    const { api } = open(`${path}?name=Web%20Shop`);
    api.world.Mutation = { removeRepository: { leftToDo: ["Delete the webhook in acme/web-shop."], userErrors: [] } };
    await userEvent.click(await screen.findByRole("button", { name: "Stop gating…" }));
    api.world.Query = { ...api.world.Query, workspace: workspace({ repository: null }) };
    await userEvent.click(screen.getByRole("button", { name: "Stop gating" }));
    expect(await screen.findByText("Web Shop is no longer gated")).toBeVisible();
    expect(screen.getByText("Delete the webhook in acme/web-shop.")).toBeVisible();
    expect(inputOf(api, "RemoveRepository")).toEqual({ repositoryId: "repository-1" });
    expect(await screen.findByRole("button", { name: "Gate this repository" })).toBeVisible();
  });

  test("are shown in words to somebody who may not change them", async () => {
    open(path, { workspace: workspace({ repository: () => repository({ viewerCanConfigure: false }) }) });
    expect(await screen.findByText(/Administrators of the repository or the workspace change its rules/)).toBeVisible();
    expect(screen.queryByRole("button", { name: "Save the rules" })).toBeNull();
  });
});

describe("the connection to Bitbucket", () => {
  test("begins on Bitbucket's consent page", async () => {
    const assign = vi.fn();
    vi.stubGlobal("location", { ...window.location, assign });
    const { api } = open("/settings/bitbucket");
    expect(await screen.findByText("repository:admin")).toBeVisible();
    expect(screen.getByText("To read and set branch restrictions.")).toBeVisible();
    api.world.Mutation = { beginConnect: { url: "https://bitbucket.example/consent?state=x", userErrors: [] } };
    await userEvent.click(screen.getByRole("button", { name: "Connect workspace" }));
    await waitFor(() => expect(assign).toHaveBeenCalledWith("https://bitbucket.example/consent?state=x"));
    expect(inputOf(api, "BeginConnect")).toEqual({ returnTo: "/settings/bitbucket" });
  });

  test("after the consent a workspace is chosen", async () => {
    const grant = {
      __typename: "Grant",
      id: "grant-1",
      accountName: alice.name,
      expiresAt: "2026-11-22T10:15:00Z",
      workspaces: [
        { uuid: workspaceUuid, slug: "acme", name: "Acme", connected: true },
        { uuid: "w2", slug: "labs", name: "Labs", connected: false },
      ],
    };
    const { api, container } = open("/settings/bitbucket", { viewer: viewer({ grants: [grant] }) });
    expect(await screen.findByRole("button", { name: "Reconnect Acme" })).toBeVisible();
    expect(await violations(container)).toEqual([]);
    api.world.Mutation = {
      connectWorkspace: { workspace: workspace({ id: "workspace-2", slug: "labs", name: "Labs" }), userErrors: [] },
    };
    await userEvent.click(screen.getByRole("button", { name: "Connect Labs" }));
    expect(await screen.findByText("Labs is connected")).toBeVisible();
    expect(screen.getByRole("link", { name: "Choose repositories" })).toHaveAttribute(
      "href",
      "/workspaces/labs/repositories",
    );
    expect(inputOf(api, "ConnectWorkspace")).toEqual({ grantId: "grant-1", workspaceUuid: "w2" });
  });

  test("can be ended, after asking; what could not be undone is told", async () => {
    const { api } = open("/settings/bitbucket");
    api.world.Mutation = {
      disconnectWorkspace: { leftToDo: ["Remove the consent in your Bitbucket account."], userErrors: [] },
    };
    await userEvent.click(await screen.findByRole("button", { name: "Disconnect… Acme" }));
    api.world.Query = { ...api.world.Query, viewer: viewer({ workspaces: connectionOf([]) }) };
    await userEvent.click(screen.getByRole("button", { name: "Disconnect" }));
    expect(await screen.findByText("Acme is disconnected")).toBeVisible();
    expect(await screen.findByText("No workspace is connected")).toBeVisible();
    expect(screen.getByText("Remove the consent in your Bitbucket account.")).toBeVisible();
    expect(inputOf(api, "DisconnectWorkspace")).toEqual({ workspaceId: "workspace-1" });
  });

  test("shows alarms to administrators", async () => {
    const alarm = {
      __typename: "Alarm",
      id: "alarm-1",
      kind: "FOREIGN_STATUS",
      sentence: "Somebody wrote under our key.",
      openedAt: "2026-11-22T08:00:00Z",
      pullRequest: () => pullRequest(),
    };
    open("/settings/bitbucket", { viewer: viewer({ workspaces: connectionOf([workspace({ alarms: [alarm] })]) }) });
    expect(await screen.findByText("Somebody wrote under our key.")).toBeVisible();
    expect(screen.getByText("Foreign status")).toBeVisible();
  });

  test("none yet", async () => {
    open("/settings/bitbucket", { viewer: viewer({ workspaces: connectionOf([]) }) });
    expect(await screen.findByText("No workspace is connected")).toBeVisible();
  });
});

describe("passkeys", () => {
  test("are renamed", async () => {
    const { api, container } = open("/settings/passkeys");
    await userEvent.click(await screen.findByRole("button", { name: "Rename Laptop" }));
    expect(await violations(container)).toEqual([]);
    const name = screen.getByLabelText("Name");
    await userEvent.clear(name);
    await userEvent.type(name, "Work laptop");
    api.world.Mutation = { renamePasskey: { passkey: passkey({ name: "Work laptop" }), userErrors: [] } };
    await userEvent.click(screen.getByRole("button", { name: "Rename" }));
    expect(await screen.findByRole("button", { name: "Rename Work laptop" })).toBeVisible();
    expect(inputOf(api, "RenamePasskey")).toEqual({ id: "passkey-1", name: "Work laptop" });
  });

  test("are revoked, after asking", async () => {
    const { api, container } = open("/settings/passkeys");
    await userEvent.click(await screen.findByRole("button", { name: "Revoke Laptop" }));
    expect(screen.getByRole("button", { name: "Revoke without signing" })).toBeDisabled(); // it is asked first
    expect(screen.getByRole("button", { name: "Revoke with a passkey" })).toBeDisabled();
    await userEvent.click(screen.getByRole("radio", { name: "Nobody else has had it" }));
    expect(screen.getByRole("dialog")).toHaveTextContent("No time is on record then: decisions made with it stand");
    expect(screen.getByRole("button", { name: "Revoke with a passkey" })).toBeEnabled();
    const gone = passkey({ state: "REVOKED", revokedAt: "2026-11-22T10:00:00Z" });
    api.world.Mutation = { revokePasskey: { passkey: gone, userErrors: [] } };
    await userEvent.click(screen.getByRole("radio", { name: "Somebody else may have had it" }));
    expect(screen.getByRole("dialog")).not.toHaveTextContent("decisions made with it stand");
    expect(screen.getByRole("dialog")).toHaveTextContent("If you lost it, when you last had it.");
    expect(screen.getByRole("dialog")).toHaveTextContent("neither do passkeys that it signed for then");
    expect(screen.getByRole("button", { name: "Revoke without signing" })).toBeDisabled();
    expect(screen.getByRole("button", { name: "Revoke with a passkey" })).toBeDisabled(); // it does not say since when
    expect(await violations(container)).toEqual([]);
    await userEvent.click(screen.getByRole("radio", { name: "Nobody else has had it" }));
    await userEvent.click(screen.getByRole("button", { name: "Revoke without signing" }));
    expect(await screen.findByText("Revoked")).toBeVisible();
    expect(screen.queryByRole("button", { name: "Revoke Laptop" })).toBeNull();
  });

  test("that are revoked can still be reported as stolen, with a time", async () => {
    const gone = passkey({ state: "REVOKED", revokedAt: "2026-11-22T10:00:00Z", identifiedBy: "OWN_KEY" });
    const { api, container } = open("/settings/passkeys", { viewer: viewer({ passkeys: [gone] }) });
    await userEvent.click(await screen.findByRole("button", { name: "Report as stolen Laptop" }));
    expect(screen.getByRole("dialog", { name: "Report Laptop as stolen?" })).toHaveTextContent(
      "neither do passkeys that it signed for then",
    );
    expect(screen.queryByRole("button", { name: "Revoke without signing" })).toBeNull();
    const report = screen.getByRole("button", { name: "Report with a passkey" });
    expect(report).toBeDisabled();
    await userEvent.type(screen.getByLabelText("Since when"), "2026-11-01T09:00");
    expect(await violations(container)).toEqual([]);
    const known = {
      code: "REVOKED_ALREADY",
      message: "It is known of this passkey already.",
      path: ["compromisedSince"],
    };
    api.world.Mutation = { prepareKeyAct: { act: null, proposal: null, userErrors: [known] } };
    await userEvent.click(report);
    expect(await screen.findByText("It is known of this passkey already.")).toBeVisible();
    expect(inputOf(api, "PrepareKeyAct")).toEqual({
      key: "passkey-1",
      action: "REVOKE",
      compromisedSince: new Date("2026-11-01T09:00").toISOString(),
    });
  });

  test.each<[string, string | null, Record<string, unknown>, string]>([
    ["that leaves out the time", "2026-11-01T09:00", {}, "since when somebody else may have had the key"],
    [
      "with a time that nobody typed",
      null,
      { compromisedSince: "2026-11-01T09:00:00Z" },
      "since when somebody else may have had the key",
    ],
    ["of another key", null, { key: "e".repeat(64) }, "the key"],
    ["of somebody else's", null, { person: "person-bob" }, "whose key it is"],
  ])("are not revoked by an act %s", async (_, typed, exchanged, difference) => {
    const document = await documentOf("person-carol");
    const { api } = open("/settings/passkeys", {
      viewer: viewer({ passkeys: [passkey({ document: JSON.stringify(document) })] }),
    });
    const revocation = { person: "person-carol", key: await digestOf(document.key), ...exchanged };
    const { person, key, compromisedSince } = revocation as Record<string, string>;
    const time = compromisedSince ? `, which may have been in other hands since ${compromisedSince}` : "";
    const meaning = `I revoke the key ${key} of person ${person}${time}.`;
    const act = await keyAct("REVOKE", await actOf({ purpose: "revoke", revocation, meaning }, revocation));
    api.world.Mutation = { prepareKeyAct: { act, proposal: null, userErrors: [] } };
    await userEvent.click(await screen.findByRole("button", { name: "Revoke Laptop" }));
    const choice = typed ? "Somebody else may have had it" : "Nobody else has had it";
    await userEvent.click(screen.getByRole("radio", { name: choice }));
    if (typed) await userEvent.type(screen.getByLabelText("Since when"), typed);
    await userEvent.click(screen.getByRole("button", { name: "Revoke with a passkey" }));
    expect(await screen.findByRole("alert")).toHaveTextContent(
      `What was prepared for signing differs from this page in ${difference}.`,
    );
    expect(inputOf(api, "SignKeyAct")).toBeUndefined();
  });

  const fall = {
    workspace: "Acme",
    key: "Old phone",
    owner: { __typename: "Person", id: "person-alice", name: "Alice Moreau", accountId: "alice" },
    compromisedSince: "2026-11-01T09:00:00Z",
    since: "2026-11-05T09:00:00Z",
    by: "Dana Silva",
  };

  test("are shown with where they fell, with which key, and on whose word", async () => {
    const fell = passkey({ identifiedBy: "OWN_KEY", falls: [fall] });
    const { container } = open("/settings/passkeys", { viewer: viewer({ passkeys: [fell] }) });
    const row = (await screen.findByRole("rowheader", { name: /Laptop/ })).closest("tr");
    expect(screen.getByRole("rowheader", { name: "Laptop Counts no longer in Acme" })).toBeVisible();
    expect(row).toHaveTextContent(
      /No longer counts in Acme since .*goes back to Old phone of Alice Moreau.*other hands since .*as Dana Silva said/,
    );
    expect(row?.querySelector(`time[datetime="${fall.since}"]`)).toBeVisible();
    expect(row?.querySelector(`time[datetime="${fall.compromisedSince}"]`)).toBeVisible();
    expect(row).toHaveTextContent("Revoke it, and have another passkey signed for");
    expect(screen.getByText("None of your passkeys stands everywhere")).toBeVisible();
    expect(screen.getByText(/until an administrator of your workspace has countersigned it/)).toBeVisible();
    expect(screen.getByRole("button", { name: "Revoke Laptop" })).toBeVisible();
    expect(await violations(container)).toEqual([]);
  });

  test("say in how many workspaces they fell, and in which one they were revoked", async () => {
    const act = { workspace: "Umbrella", by: "Dana Silva", at: "2026-11-02T08:00:00Z", compromisedSince: null };
    const fell = passkey({
      falls: [fall, { ...fall, workspace: "Beta" }],
      workspaceActs: [
        { ...act, action: "REVOKE", counts: true },
        { ...act, action: "REVOKE", at: fall.since, compromisedSince: fall.compromisedSince, counts: true },
        { ...act, workspace: "Acme", action: "COUNTERSIGN", counts: false },
      ],
    });
    open("/settings/passkeys", { viewer: viewer({ passkeys: [fell] }) });
    const name = "Laptop Revoked in Umbrella Counts no longer in 2 workspaces";
    const row = (await screen.findByRole("rowheader", { name })).closest("tr");
    expect(row).toHaveTextContent(/No longer counts in Acme since/);
    expect(row).toHaveTextContent(/No longer counts in Beta since/);
    expect(screen.getAllByText(/Nothing mends that/)).toHaveLength(1);
  });

  test("that stand say nothing of a fall, and one that is revoked only that", async () => {
    const gone = passkey({ id: "passkey-2", name: "Gone", state: "REVOKED", revokedAt: fall.since, falls: [fall] });
    open("/settings/passkeys", { viewer: viewer({ passkeys: [passkey(), gone] }) });
    expect((await screen.findByRole("rowheader", { name: "Laptop" })).closest("tr")).not.toHaveTextContent("counts");
    expect(screen.queryByText("None of your passkeys stands everywhere")).toBeNull();
    const row = screen.getByRole("rowheader", { name: "Gone Revoked" }).closest("tr");
    expect(row).toHaveTextContent("Revoked without a signature");
    expect(row?.querySelector(`time[datetime="${fall.since}"]`)).toBeVisible();
  });

  test("cannot be made where the browser has none", async () => {
    const { api } = open("/settings/passkeys");
    api.world.Mutation = { beginPasskey: { options: "{}", userErrors: [] } };
    await userEvent.click(await screen.findByRole("button", { name: "Add a passkey" }));
    expect(await screen.findByText("No passkey was added")).toBeVisible();
  });
});

describe("keys of members", () => {
  const key = (like: Record<string, unknown> = {}) => ({
    __typename: "MemberKey",
    id: "key-1",
    name: "Laptop",
    document: JSON.stringify(keyDocument),
    state: "ENROLLED",
    model: "08987058-cadc-4b81-b6e1-30de50dcbe96",
    synced: true,
    createdAt: "2026-11-01T08:00:00Z",
    enrolledAt: "2026-11-01T08:00:20Z",
    identifiedBy: "BITBUCKET_LOG_IN",
    revokedAt: null,
    compromisedSince: null,
    fall: null,
    acts: [],
    canCountersign: true,
    canRevoke: true,
    canReport: false,
    ...like,
  });
  const holder = (name: string, ...keys: unknown[]) => ({
    person: { __typename: "Person", id: `person-${name}`, name, accountId: name },
    keys,
  });
  const vouched = key({
    id: "key-2",
    name: "Blue key",
    identifiedBy: "COUNTERSIGNER",
    canCountersign: false,
    acts: [
      {
        action: "COUNTERSIGN",
        workspace: "Acme",
        by: "Alice Moreau",
        at: "2026-11-02T08:00:00Z",
        compromisedSince: null,
        counts: true,
      },
    ],
  });
  const waiting = key({
    id: "key-3",
    name: "New key",
    state: "WAITING_FOR_COUNTERSIGNER",
    identifiedBy: null,
    canRevoke: false,
  });

  test("are shown with what vouches for each, those to be countersigned first", async () => {
    const keyHolders = connectionOf([holder("Bob Tanaka", key(), vouched), holder("Carol Okafor", waiting)]);
    const { container } = open("/settings/keys", { workspace: workspace({ keyHolders }) });
    const first = await screen.findByRole("group", { name: "Keys to be countersigned" });
    expect(await screen.findByRole("group", { name: "Keys of members" })).toHaveTextContent(
      "Countersigned by Alice Moreau",
    );
    expect(first).toHaveTextContent("Identified by Bitbucket log-in");
    expect(first).toHaveTextContent("Waits for an administrator");
    expect(first).not.toHaveTextContent("Blue key");
    expect(screen.getAllByRole("button", { name: "Countersign Laptop of Bob Tanaka" })).not.toHaveLength(0);
    expect(screen.queryByRole("button", { name: "Countersign Blue key of Bob Tanaka" })).toBeNull();
    expect(screen.queryByRole("button", { name: "Revoke New key of Carol Okafor" })).toBeNull();
    expect(await violations(container)).toEqual([]);
  });

  test("are shown with what no longer counts for them, since when and on whose word", async () => {
    const act = { action: "COUNTERSIGN", workspace: "Acme", by: "Alice Moreau", at: "2026-11-02T08:00:00Z" };
    const known = key({ canCountersign: false, acts: [{ ...act, compromisedSince: null, counts: false }] });
    const fall = {
      workspace: "Acme",
      key: "Old phone",
      owner: { __typename: "Person", id: "person-alice", name: "Alice Moreau", accountId: "alice" },
      compromisedSince: "2026-11-01T09:00:00Z",
      since: "2026-11-05T09:00:00Z",
      by: "Dana Silva",
    };
    const fell = key({
      id: "key-2",
      name: "Blue key",
      state: "FALLEN",
      identifiedBy: null,
      fall,
      canCountersign: false,
    });
    const taken = key({
      id: "key-3",
      name: "Red key",
      state: "REVOKED",
      compromisedSince: "2026-11-01T09:00:00Z",
      canRevoke: false,
      canReport: true,
    });
    const keyHolders = connectionOf([holder("Bob Tanaka", known, fell, taken)]);
    const { container } = open("/settings/keys", { workspace: workspace({ keyHolders }) });
    const members = await screen.findByRole("group", { name: "Keys of members" });
    const rowOf = (name: string) => within(members).getByText(name).closest("tr");
    expect(rowOf("Laptop")).toHaveTextContent("Identified by Bitbucket log-in");
    expect(rowOf("Laptop")).toHaveTextContent(/Countersigned by Alice Moreau.*counts no longer/);
    expect(rowOf("Blue key")).toHaveTextContent("Counts no longer");
    expect(rowOf("Blue key")).toHaveTextContent(
      /No longer counts since .*goes back to Old phone of Alice Moreau.*other hands since .*as Dana Silva said/,
    );
    expect(members.querySelector(`time[datetime="${fall.since}"]`)).toBeVisible();
    expect(rowOf("Red key")).toHaveTextContent(/Does not count since/);
    expect(screen.queryByRole("button", { name: "Revoke Red key of Bob Tanaka" })).toBeNull();
    expect(await violations(container)).toEqual([]);
    await userEvent.click(within(members).getByRole("button", { name: "Report as stolen Red key of Bob Tanaka" }));
    expect(screen.getByRole("dialog")).toHaveTextContent("What you say holds in this workspace.");
  });

  test("are shown with the model that is proved, apart from what they say of themselves", async () => {
    const aaguid = "11111111-2222-3333-4444-555555555555";
    const proved = key({ name: "Proved", model: aaguid, provedModel: { aaguid, description: "Example Key" } });
    const says = key({ id: "key-2", name: "Says", model: aaguid, provedModel: null });
    const keyHolders = connectionOf([holder("Bob Tanaka", proved, says)]);
    const passkeys = [passkey({ model: aaguid, provedModel: { aaguid, description: "Example Key" } })];
    const { router } = open("/settings/keys", { workspace: workspace({ keyHolders }), viewer: viewer({ passkeys }) });
    const members = await screen.findByRole("group", { name: "Keys of members" });
    const rowOf = (name: string) => within(members).getByText(name).closest("tr");
    expect(rowOf("Proved")).toHaveTextContent("Proved to be Example Key");
    expect(rowOf("Proved")).not.toHaveTextContent("Says that it is");
    expect(rowOf("Says")).toHaveTextContent(`Says that it is ${aaguid}`);
    expect(rowOf("Says")).not.toHaveTextContent("Proved to be");
    await router.navigate({ to: "/settings/passkeys" });
    expect(await screen.findByText("Proved to be Example Key")).toBeVisible();
  });

  test("a countersignature that is refused is told where it was asked for", async () => {
    const keyHolders = connectionOf([holder("Bob Tanaka", key())]);
    const { api } = open("/settings/keys", { workspace: workspace({ keyHolders }) });
    const [button] = await screen.findAllByRole("button", { name: "Countersign Laptop of Bob Tanaka" });
    if (button) await userEvent.click(button);
    expect(screen.getByRole("dialog")).toHaveTextContent("Ask them first, by voice or face to face");
    const refused = [{ code: "NO_KEY", message: "You have none that could.", path: [] }];
    api.world.Mutation = { prepareKeyAct: { act: null, userErrors: refused } };
    await userEvent.click(screen.getByRole("button", { name: "Countersign with my passkey" }));
    expect(await screen.findByText("You have none that could.")).toBeVisible();
    expect(inputOf(api, "PrepareKeyAct")).toEqual({ key: "key-1", action: "COUNTERSIGN" });
  });

  test("no other key is countersigned than the one of the row, and none is proposed", async () => {
    const [bobs, ghosts] = [await documentOf("person-bob"), await documentOf("person-bob", 7)];
    const keyHolders = connectionOf([holder("Bob Tanaka", key({ document: JSON.stringify(bobs) }))]);
    const { api } = open("/settings/keys", { workspace: workspace({ keyHolders }) });
    const [button] = await screen.findAllByRole("button", { name: "Countersign Laptop of Bob Tanaka" });
    if (button) await userEvent.click(button);
    const about = { purpose: "countersign", workspace: `{${workspaceUuid}}`, roster: "9".repeat(64), key: ghosts };
    const meaning = `I countersign that the key ${await digestOf(ghosts.key)} belongs to person person-bob.`;
    const act = await keyAct("COUNTERSIGN", await actOf({ ...about, meaning }, ghosts));
    api.world.Mutation = { prepareKeyAct: { act, proposal: null, userErrors: [] } };
    await userEvent.click(screen.getByRole("button", { name: "Countersign with my passkey" }));
    expect(await screen.findByRole("alert")).toHaveTextContent(
      "What was prepared for signing differs from this page in the key.",
    );
    const made = { __typename: "Proposal", id: "proposal-1", key: "p1", kind: "COUNTERSIGN" };
    const refused = [{ code: "PROTECTED", message: "It is protected.", path: [] }];
    for (const like of [{ digest: await digestOf(ghosts) }, { digest: await digestOf(bobs), kind: "REVOKE" }]) {
      api.world.Mutation = { prepareKeyAct: { act: null, proposal: { ...made, ...like }, userErrors: refused } };
      await userEvent.click(screen.getByRole("button", { name: "Countersign with my passkey" }));
      expect(await screen.findByText(/What was proposed is not what this page has announced/)).toBeVisible();
    }
    expect(inputOf(api, "SignKeyAct")).toBeUndefined();
    api.world.Mutation = {
      prepareKeyAct: { act: null, proposal: { ...made, digest: await digestOf(bobs) }, userErrors: refused },
    };
    await userEvent.click(screen.getByRole("button", { name: "Countersign with my passkey" }));
    expect(await screen.findByText("It is proposed")).toBeVisible();
  });

  test("what reports of stolen ones took down is listed, page by page", async () => {
    const verdict = (like: Record<string, unknown> = {}) => ({
      owner: { __typename: "Person", id: "person-bob", name: "Bob Tanaka", accountId: "bob" },
      key: "Old phone",
      compromisedSince: "2026-11-01T09:00:00Z",
      reportedAt: "2026-11-05T09:00:00Z",
      pullRequest: pullRequest(),
      was: "APPROVED",
      standsAs: "PENDING",
      merged: true,
      ...like,
    });
    const all = [
      verdict(),
      verdict({ owner: null, key: "", pullRequest: null, was: "OVERRIDDEN", standsAs: "REJECTED", merged: false }),
    ];
    const { api, container } = open("/settings/keys", {
      workspace: workspace({
        fallenVerdicts: ({ after }: { after?: string }) => connectionOf(after ? all.slice(1) : all.slice(0, 1), !after),
      }),
    });
    const first = await screen.findByRole("group", { name: "Taken down by reports" });
    expect(first).toHaveTextContent(
      /in acme\/web-shop.*Merged.*Approved; now too few have approved it.*Old phone of Bob Tanaka/,
    );
    expect(within(first).getByRole("link")).toHaveAttribute("href", "/pull-requests/pull-request-7");
    const section = screen.getByRole("region", { name: "Taken down by reports" });
    await userEvent.click(within(section).getByRole("button", { name: "Show more" }));
    expect(await screen.findByText("One that you may not see")).toBeVisible();
    expect(section).toHaveTextContent(
      /Not merged.*Overridden; now a rejection stands again.*A key of an erased person/,
    );
    expect(api.calls.filter((call) => call.operation === "FallenVerdicts").at(-1)?.variables["after"]).toBe("c0");
    expect(await violations(container)).toEqual([]);
  });

  test("nobody has one yet", async () => {
    open("/settings/keys", { workspace: workspace({ keyHolders: connectionOf([]) }) });
    expect(await screen.findByText("No keys yet")).toBeVisible();
    expect(await screen.findByText("Nothing fell")).toBeVisible();
    expect(await screen.findByText("Nothing to countersign")).toBeVisible();
  });
});

describe("protection", () => {
  const carolAndBob = [
    { __typename: "Person", id: "person-bob", name: "Bob Tanaka", accountId: "bob" },
    { __typename: "Person", id: "person-carol", name: "Carol Okafor", accountId: "carol" },
  ];
  const proposal = (like: Record<string, unknown> = {}) => ({
    __typename: "Proposal",
    id: "proposal-1",
    key: "p1",
    kind: "POLICY",
    state: "OPEN",
    repository: "acme/rocket",
    document: JSON.stringify({ repository: "{r}", version: 2, policy: "ab".repeat(32) }),
    before: ["Main needs 2."],
    after: ["Main needs 1."],
    quorum: 2,
    viewerCanSign: true,
    viewerCanWithdraw: false,
    asked: carolAndBob,
    signatures: [{ at: "2026-11-22T09:00:00Z", counts: true, person: carolAndBob[1] }],
    proposedBy: carolAndBob[0],
    createdAt: "2026-11-22T08:00:00Z",
    expiresAt: "2026-11-29T08:00:00Z",
    ...like,
  });
  const on = { version: 1, quorum: 2, since: "2026-11-20T08:00:00Z", people: carolAndBob };

  test("is off, and nothing was proposed", async () => {
    open("/settings/protection");
    expect(await screen.findByText("Not protected")).toBeVisible();
    expect(await screen.findByText("No proposals")).toBeVisible();
    expect(screen.queryByRole("button", { name: "End the protection…" })).toBeNull();
  });

  test("shows who protects, and what would change", async () => {
    const proposals = connectionOf([
      proposal(),
      proposal({ id: "proposal-2", state: "APPLIED", viewerCanSign: false }),
    ]);
    const { container } = open("/settings/protection", { workspace: workspace({ protection: on, proposals }) });
    expect(await screen.findByText("Protected")).toBeVisible();
    const [before] = await screen.findAllByRole("list", { name: "Before" });
    expect(before).toHaveTextContent("Main needs 2.");
    expect(screen.getByText(/1 of 2 signatures/)).toBeVisible();
    expect(screen.getAllByRole("button", { name: "Sign…" })).toHaveLength(1);
    expect(await violations(container)).toEqual([]);
  });

  test("what is signed is not another proposal than the one shown", async () => {
    const { api } = open("/settings/protection?proposal=p1", {
      workspace: workspace({ protection: on, proposal: () => proposal() }),
    });
    const exchanged = { repository: "{r}", version: 2, policy: "cd".repeat(32) };
    const meaning = `I agree that policy ${exchanged.policy} becomes version 2 of repository {r}.`;
    const about = { purpose: "policy", workspace: `{${workspaceUuid}}`, roster: "9".repeat(64), policy: exchanged };
    const { statement, options, signerSalt } = await keyAct("", await actOf({ ...about, meaning }, exchanged));
    api.world.Mutation = { prepareProposalSignature: { act: { statement, options, signerSalt }, userErrors: [] } };
    await userEvent.click(await screen.findByRole("button", { name: "Sign…" }));
    const dialog = await screen.findByRole("dialog");
    expect(dialog).toHaveTextContent(`Your passkey signs: “${meaning}”`);
    const { repository, after } = proposal();
    expect(dialog).toHaveTextContent(`Rules of ${repository}`);
    for (const sentence of after) expect(within(dialog).getByText(sentence)).toBeVisible();
    expect(within(dialog).getByRole("group", { name: "The bytes that are signed" })).toHaveTextContent("cdcdcdcd");
    expect(await violations(dialog)).toEqual([]);
    await userEvent.click(screen.getByRole("button", { name: "Sign with my passkey" }));
    expect(await screen.findByRole("alert")).toHaveTextContent(
      "What was prepared for signing differs from this page in the policy.",
    );
    expect(inputOf(api, "PrepareProposalSignature")).toEqual({ proposalId: "proposal-1" });
    expect(inputOf(api, "SignProposal")).toBeUndefined();
  });

  test("is proposed with its people and their number", async () => {
    const holders = carolAndBob.map((person) => ({
      person,
      keys: [{ __typename: "MemberKey", id: person.id, state: "ENROLLED" }],
    }));
    const { api } = open("/settings/protection", { workspace: workspace({ keyHolders: connectionOf(holders) }) });
    api.world.Mutation = {
      proposeProtection: { proposal: { __typename: "Proposal", id: "proposal-1" }, userErrors: [] },
    };
    await userEvent.click(await screen.findByRole("button", { name: "Protect this workspace…" }));
    await userEvent.click(await screen.findByRole("checkbox", { name: "Bob Tanaka" }));
    await userEvent.click(screen.getByRole("checkbox", { name: "Carol Okafor" }));
    await userEvent.click(screen.getByRole("button", { name: "Propose" }));
    await waitFor(() =>
      expect(inputOf(api, "ProposeProtection")).toEqual({
        workspaceId: "workspace-1",
        quorum: 2,
        people: ["person-bob", "person-carol"],
      }),
    );
  });
});

describe("API tokens", () => {
  const token = {
    __typename: "ApiToken",
    id: "token-1",
    name: "Release robot",
    prefix: "sa_live_9fK2",
    scopes: ["READ", "CONFIGURE"],
    createdAt: "2026-11-01T08:00:00Z",
    expiresAt: "2099-01-30T08:00:00Z",
    lastUsedAt: null,
    revokedAt: null,
  };

  test("are shown once when they are made", async () => {
    const { api, container } = open("/settings/tokens");
    await userEvent.type(await screen.findByLabelText("Name of the new token"), "Release robot");
    await userEvent.click(screen.getByLabelText("Configure"));
    api.world.Mutation = { createApiToken: { apiToken: token, secret: "sa_live_secret", userErrors: [] } };
    await userEvent.click(screen.getByRole("button", { name: "Create the token" }));
    expect(await screen.findByText("sa_live_secret")).toBeVisible();
    expect(await violations(container)).toEqual([]);
    expect(inputOf(api, "CreateApiToken")).toEqual({
      workspaceId: "workspace-1",
      name: "Release robot",
      scopes: ["READ", "CONFIGURE"],
      expiresInDays: 90,
    });
    await userEvent.click(screen.getByRole("button", { name: "I have copied it" }));
    expect(screen.queryByText("sa_live_secret")).toBeNull();
  });

  test("problems stand beside their fields", async () => {
    const { api } = open("/settings/tokens");
    const days = await screen.findByLabelText("Expires after (days)");
    await userEvent.clear(days);
    await userEvent.type(days, "900");
    const refusal = { code: "BAD_INPUT", message: "A token lives 1 to 366 days.", path: ["expiresInDays"] };
    api.world.Mutation = { createApiToken: { apiToken: null, secret: null, userErrors: [refusal] } };
    await userEvent.click(screen.getByRole("button", { name: "Create the token" }));
    await waitFor(() => expect(days).toBeInvalid());
    expect(days).toHaveAccessibleDescription("1 to 366. A token lives 1 to 366 days.");
  });

  test("are revoked, after asking", async () => {
    const { api } = open("/settings/tokens", { workspace: workspace({ apiTokens: [token] }) });
    await userEvent.click(await screen.findByRole("button", { name: "Revoke Release robot" }));
    api.world.Mutation = {
      revokeApiToken: { apiToken: { ...token, revokedAt: "2026-11-22T10:00:00Z" }, userErrors: [] },
    };
    await userEvent.click(screen.getByRole("button", { name: "Revoke" }));
    expect(await screen.findByText("Revoked")).toBeVisible();
  });

  test("belong to administrators", async () => {
    open("/settings/tokens", { viewer: viewer({ workspaces: connectionOf([workspace({ viewerIsAdmin: false })]) }) });
    expect(await screen.findByText(/their administrators make them/)).toBeVisible();
  });
});
