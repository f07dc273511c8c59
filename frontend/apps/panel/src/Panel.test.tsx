import { openGraph } from "@signedapproval/graph/client";
import {
  alice,
  bob,
  carol,
  head,
  place,
  pullRequest,
  repositoryUuid,
  request,
  requirement,
  viewerCan,
  workspaceUuid,
  world,
} from "@signedapproval/graph/fixtures";
import { MockApi } from "@signedapproval/graph/mockapi";
import { GraphProvider } from "@signedapproval/graph/provider";
import { recordingHost } from "@signedapproval/host/recording";
import { violations } from "@signedapproval/ui/accessibility.ts";
import { patience } from "@signedapproval/ui/OwedStatus";
import { act, cleanup, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Panel } from "./Panel.tsx";

const here = { workspace: workspaceUuid, repository: repositoryUuid, number: 7 };

function show(api: MockApi, host = recordingHost(here)) {
  const view = render(
    <GraphProvider graph={openGraph({ fetch: api.fetch })}>
      <Panel host={host} />
    </GraphProvider>,
  );
  return { ...view, host };
}

function showPullRequest(like: Record<string, unknown>) {
  const api = new MockApi(world({ pullRequest: pullRequest(like) }));
  return { api, ...show(api) };
}

const nothing = viewerCan({ approve: false, reject: false });

describe("before there is an answer", () => {
  test("says that it is loading", () => {
    const api = new MockApi(world());
    api.hold("Panel");
    show(api);
    expect(screen.getByRole("status")).toHaveTextContent("Reading the approvals…");
  });

  test("offers to sign in, and to come back", async () => {
    const api = new MockApi(world());
    api.refuse("Panel", "UNAUTHENTICATED", "Sign in first.", 401);
    const { container } = show(api);
    const link = await screen.findByRole("link", { name: "Sign in with Bitbucket" });
    expect(link).toHaveAttribute("href", expect.stringContaining("/auth/sign-in?return_to="));
    expect(await violations(container)).toEqual([]);
  });

  test("does not tell a hidden pull request from one that is not there", async () => {
    const api = new MockApi(world({ pullRequest: null }));
    show(api);
    expect(
      await screen.findByText(/not gated by SignedApproval, or your Bitbucket account may not see it/),
    ).toBeVisible();
  });

  test("says so when the server refuses it", async () => {
    const api = new MockApi(world());
    api.refuse("Panel", "NOT_FOUND", "There is no such pull request.", 200);
    show(api);
    expect(await screen.findByRole("alert")).toHaveTextContent(
      "It does not exist, or your Bitbucket account may not see it.",
    );
  });

  test("tries again after an error", async () => {
    const api = new MockApi(world());
    api.refuse("Panel", "BITBUCKET_UNAVAILABLE", "Bitbucket did not answer.", 200);
    show(api);
    expect(await screen.findByRole("alert")).toHaveTextContent("Could not read the approvals");
    api.release("Panel");
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByText("1 of 2 approvals; waiting for Carol Okafor")).toBeVisible();
  });

  test("an address without a pull request asks nothing", () => {
    const api = new MockApi(world());
    show(api, recordingHost(null));
    expect(screen.getByText("This address names no pull request.")).toBeVisible();
    expect(api.calls).toEqual([]);
  });
});

describe("what it says", () => {
  test("pending: the sentence, who approved, who can still approve, and the way to sign", async () => {
    const { container, host } = showPullRequest({});
    expect(await screen.findByText("1 of 2 approvals; waiting for Carol Okafor")).toBeVisible();
    expect(screen.getByText("Waiting")).toBeVisible();
    expect(screen.getByRole("list", { name: "Approved for Approval" })).toHaveTextContent(bob.name);
    expect(screen.getByRole("list", { name: "Can still approve for Approval" })).toHaveTextContent(carol.name);
    expect(screen.getByRole("progressbar", { name: "Approval: 1 of 2 approvals" })).toHaveValue(1);
    expect(screen.getByTitle(head)).toHaveTextContent(head.slice(0, 12));
    const approve = screen.getByRole("link", { name: "Approve (opens in a new tab)" });
    expect(approve).toHaveAttribute("href", `/sign/${place}`);
    await userEvent.click(approve);
    expect(host.opened).toEqual([new URL(`/sign/${place}`, window.location.href).href]);
    expect(await violations(container)).toEqual([]);
  });

  test("approved, with a merge under way", async () => {
    showPullRequest({
      sentence: "approved by Bob Tanaka and Carol Okafor",
      merge: {
        state: "CALLING",
        sentence: "merging with squash",
        strategy: "squash",
        mergeCommit: null,
        updatedAt: "2026-11-22T09:30:00Z",
      },
      request: request({
        state: "APPROVED",
        requirements: [requirement({ missing: 0, approvedBy: [bob, carol], canStillApprove: [] })],
        viewerCan: viewerCan({ approve: false, reject: false, withdraw: true }),
      }),
    });
    expect(await screen.findByText("Approved by Bob Tanaka and Carol Okafor")).toBeVisible();
    expect(screen.getByText("Merging with squash")).toBeVisible();
    expect(screen.getByRole("link", { name: /^Withdraw my decision/ })).toBeVisible();
    expect(screen.queryByRole("list", { name: /Can still approve/ })).toBeNull();
  });

  test("overridden: by whom, against whom, and the way to take it back", async () => {
    const { container } = showPullRequest({
      sentence: "overridden by Bob Tanaka; rejected by Carol Okafor; 0 of 2 approvals",
      request: request({
        state: "OVERRIDDEN",
        rejectedBy: [carol],
        override: { quorum: 1, missing: 0, overriddenBy: [bob], canStillOverride: [], ignored: [] },
        viewerCan: viewerCan({ approve: false, reject: false, withdraw: true }),
      }),
    });
    expect(await screen.findByText("Overridden")).toBeVisible();
    expect(screen.getByRole("list", { name: "Overridden by" })).toHaveTextContent(bob.name);
    expect(screen.getByRole("list", { name: "Rejected by" })).toHaveTextContent(carol.name);
    expect(screen.getByRole("link", { name: /^Withdraw my decision/ })).toBeVisible();
    expect(await violations(container)).toEqual([]);
  });

  test("somebody who can only override is led to the sign page", async () => {
    showPullRequest({
      request: request({
        override: {
          quorum: 2,
          missing: 1,
          overriddenBy: [bob],
          canStillOverride: [carol],
          ignored: [{ account: alice, code: "AUTHOR", sentence: "Alice Moreau is the author and may not override" }],
        },
        viewerCan: { ...nothing, override: true, overrideCode: "", overrideReason: "" },
      }),
    });
    expect(await screen.findByRole("link", { name: /^Review/ })).toHaveAttribute("href", `/sign/${place}`);
    expect(screen.getByText("You can also override the rule there.")).toBeVisible();
    expect(screen.getByText("Wants it overridden")).toBeVisible();
    expect(screen.getByText("The override waits: 1 more has to sign it too.")).toBeVisible();
    expect(screen.getByRole("list", { name: "Can still override" })).toHaveTextContent(carol.name);
    await userEvent.click(screen.getByText("1 decision does not count"));
    expect(screen.getByText("Alice Moreau is the author and may not override")).toBeVisible();
  });

  test("rejected, with the reason why the viewer can do nothing", async () => {
    const { container } = showPullRequest({
      sentence: "rejected by Carol Okafor",
      request: request({
        state: "REJECTED",
        rejectedBy: [carol],
        requirements: [
          requirement({
            ignored: [
              { account: alice, code: "IS_AUTHOR", sentence: "Alice Moreau is the author and may not approve" },
            ],
          }),
        ],
        viewerCan: { ...nothing, code: "AUTHOR", reason: "You are the author." },
      }),
    });
    expect(await screen.findByRole("list", { name: "Rejected by" })).toHaveTextContent(carol.name);
    expect(screen.getByText("You are the author.")).toBeVisible();
    expect(screen.queryByRole("link", { name: /Approve/ })).toBeNull();
    await userEvent.click(screen.getByText("1 decision does not count"));
    expect(screen.getByText("Alice Moreau is the author and may not approve")).toBeVisible();
    expect(await violations(container)).toEqual([]);
  });

  test.each([
    ["SUPERSEDED", "Superseded"],
    ["CANCELLED", "Cancelled"],
    ["OVERRIDDEN", "Overridden"],
  ])("a request that is %s", async (state, label) => {
    showPullRequest({ request: request({ state, viewerCan: nothing }) });
    expect(await screen.findByText(label)).toBeVisible();
    expect(screen.queryByRole("link", { name: /Approve/ })).toBeNull();
  });

  test.each([
    ["MERGED", "Merged"],
    ["DECLINED", "Declined"],
    ["GONE", "Gone"],
  ])("a pull request that is %s", async (state, label) => {
    showPullRequest({ state, sentence: "it is closed", request: request({ state: "CANCELLED", viewerCan: nothing }) });
    expect(await screen.findByText(label)).toBeVisible();
    expect(screen.getByText("It is closed")).toBeVisible();
  });

  test("a draft is not asked for", async () => {
    showPullRequest({ draft: true, sentence: "a draft is not asked for" });
    expect(await screen.findByText("Draft")).toBeVisible();
    expect(screen.getByText(/when the pull request is ready for review/)).toBeVisible();
    expect(screen.queryByRole("link", { name: /Approve/ })).toBeNull();
  });

  test("no rule asks", async () => {
    showPullRequest({ request: null, status: null, sentence: "no rule asks for approvals into feature/x" });
    expect(await screen.findByText("No rule asks for approvals into feature/x")).toBeVisible();
  });

  test("a build status that cannot be written", async () => {
    showPullRequest({
      status: {
        commit: head,
        state: "FAILED",
        description: "",
        paid: false,
        paidAt: null,
        problem: "Bitbucket refused it.",
      },
    });
    expect(await screen.findByText("The build status on Bitbucket is not right")).toBeVisible();
    expect(screen.getByText("Bitbucket refused it.")).toBeVisible();
  });

  test("a build status that does not reach Bitbucket, once that takes long", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true, toFake: ["setTimeout", "clearTimeout"] });
    const owedSince = "2026-11-22T10:05:00Z";
    const status = {
      commit: head,
      state: "SUCCESSFUL",
      description: "",
      paid: false,
      paidAt: null,
      owedSince,
      problem: "",
    };
    const { container } = showPullRequest({ status });
    expect(await screen.findByText("Waiting")).toBeVisible();
    expect(screen.queryByText("Bitbucket does not show this yet")).toBeNull();
    await act(() => vi.advanceTimersByTimeAsync(patience));
    vi.useRealTimers();
    expect(screen.getByText("Bitbucket does not show this yet")).toBeVisible();
    expect(container.querySelector(`time[datetime="${owedSince}"]`)).toBeVisible();
    expect(await violations(container)).toEqual([]);
  });

  test("that no passkey of the viewer would count, and where they are", async () => {
    const sentence = "This rule counts only passkeys for which somebody else vouched. None of yours is one.";
    const { container } = showPullRequest({ request: request({ keyProblem: { code: "LOGIN_ONLY_KEY", sentence } }) });
    expect(await screen.findByText("No passkey of yours would count")).toBeVisible();
    expect(screen.getByText(sentence)).toBeVisible();
    expect(screen.getByRole("link", { name: /^Your passkeys/ })).toHaveAttribute("href", "/settings/passkeys");
    expect(await violations(container)).toEqual([]);
    cleanup();
    // Who cannot approve has nothing to be warned of.
    showPullRequest({ request: request({ viewerCan: nothing, keyProblem: { code: "LOGIN_ONLY_KEY", sentence } }) });
    expect(await screen.findByText("Waiting")).toBeVisible();
    expect(screen.queryByText(sentence)).toBeNull();
  });

  test("many people are counted, and named on demand", async () => {
    const people = Array.from({ length: 9 }, (_, index) => ({ accountId: `a${index}`, name: `Person ${index}` }));
    showPullRequest({ request: request({ requirements: [requirement({ canStillApprove: people })] }) });
    await userEvent.click(await screen.findByText("9 people can still approve"));
    expect(screen.getByRole("list", { name: /Can still approve/ }).children).toHaveLength(9);
  });

  test("names that hide characters are marked", async () => {
    showPullRequest({ sourceBranch: "feature/\u202egpj.exe" });
    expect(await screen.findByTitle("right-to-left override (U+202E)")).toBeVisible();
  });
});

describe("inside Bitbucket", () => {
  const origin = "https://app.example";
  const plain = `${origin}/sign/${place}`;
  const visibility = () => vi.spyOn(document, "visibilityState", "get");
  afterEach(() => vi.useRealTimers());

  /** A panel in the frame; each ticket of the server's is another one and lives as long as is said. */
  function showInFrame({
    life = 120_000,
    blocked = false,
    like = {},
  }: {
    life?: number;
    blocked?: boolean;
    like?: object;
  }) {
    const api = new MockApi(world({ pullRequest: pullRequest({ ...like }) }));
    const tickets: string[] = [];
    api.world.Mutation = {
      createSignTicket: () => {
        tickets.push(`ticket-${tickets.length + 1}`);
        return {
          url: `${plain}#ticket=${tickets.at(-1)}`,
          expiresAt: new Date(Date.now() + life).toISOString(),
          userErrors: [],
        };
      },
    };
    return { api, tickets, ...show(api, recordingHost(here, { frameOf: origin, blocked })) };
  }
  const approve = () => screen.findByRole("link", { name: "Approve (opens in a new tab)" });
  const asked = (api: MockApi) => api.calls.filter((call) => call.operation === "CreateSignTicket");

  test("holds an address with a ticket before the click, and another one after it", async () => {
    const { api, host, container } = showInFrame({});
    const link = await approve();
    await waitFor(() => expect(link).toHaveAttribute("href", `${plain}#ticket=ticket-1`));
    expect(asked(api)).toEqual([{ operation: "CreateSignTicket", variables: { input: { requestId: "request-1" } } }]);
    expect(await violations(container)).toEqual([]);
    await userEvent.click(link);
    expect(host.opened).toEqual([`${plain}#ticket=ticket-1`]);
    await waitFor(() => expect(link).toHaveAttribute("href", `${plain}#ticket=ticket-2`));
  });

  /** Waits while the clock is the test's own, which Testing Library does not know of. */
  const holds = (ticket: string | null) =>
    vi.waitFor(() => {
      const link = screen.getByRole("link", { name: "Approve (opens in a new tab)" });
      expect(link).toHaveAttribute("href", ticket ? `${plain}#ticket=${ticket}` : plain);
    });

  test("exchanges the ticket before it dies", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
    const { tickets } = showInFrame({});
    await holds("ticket-1");
    await vi.advanceTimersByTimeAsync(95_000);
    await holds("ticket-2");
    expect(tickets).toHaveLength(2);
  });

  test("asks for none while it is out of sight, holds no dead one, and takes a new one when it is seen again", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
    const { tickets } = showInFrame({});
    await holds("ticket-1");
    const seen = visibility().mockReturnValue("hidden");
    await vi.advanceTimersByTimeAsync(600_000);
    expect(tickets).toHaveLength(1);
    await holds(null);
    seen.mockReturnValue("visible");
    document.dispatchEvent(new Event("visibilitychange"));
    await holds("ticket-2");
  });

  test.each([
    ["refused", { url: null, expiresAt: null, userErrors: [{ code: "NOT_FOUND", message: "Gone.", path: [] }] }],
    [
      "for another page",
      { url: "https://evil.example/sign/x#ticket=t", expiresAt: "2099-01-01T00:00:00Z", userErrors: [] },
    ],
    [
      "for another origin that looks alike",
      { url: `${origin}.evil/sign/${place}#ticket=t`, expiresAt: "2099-01-01T00:00:00Z", userErrors: [] },
    ],
  ])("a ticket that is %s leaves the address as it is", async (_, answer) => {
    const { api, host } = showInFrame({});
    api.world.Mutation = { createSignTicket: answer };
    const link = await approve();
    await waitFor(() => expect(asked(api)).toHaveLength(1));
    expect(link).toHaveAttribute("href", plain);
    await userEvent.click(link);
    expect(host.opened).toEqual([plain]);
  });

  test("no answer leaves the address as it is", async () => {
    const { api } = showInFrame({});
    api.refuse("CreateSignTicket", "BRIDGE_FAILED", "Bitbucket could not pass this on.", 502);
    const link = await approve();
    await waitFor(() => expect(asked(api)).toHaveLength(1));
    expect(link).toHaveAttribute("href", plain);
  });

  test("shows the address where Bitbucket opens no tab", async () => {
    const { tickets } = showInFrame({ blocked: true });
    const link = await approve();
    await waitFor(() => expect(link).toHaveAttribute("href", `${plain}#ticket=ticket-1`));
    await userEvent.click(link);
    expect(await screen.findByRole("alert")).toHaveTextContent(`Open this address yourself: ${plain}`);
    // What is shown must still be good.
    expect(tickets).toHaveLength(1);
  });

  test("asks for no ticket where there is nothing to sign", async () => {
    const { api } = showInFrame({
      like: { request: request({ viewerCan: { ...nothing, reason: "You are the author." } }) },
    });
    expect(await screen.findByText("You are the author.")).toBeVisible();
    expect(asked(api)).toEqual([]);
  });

  test("leads to the history on our own pages", async () => {
    const { host } = showInFrame({});
    await userEvent.click(await screen.findByRole("link", { name: /^History and evidence/ }));
    expect(host.opened).toEqual([`${origin}/requests/request-1`]);
  });

  test("says why when SignedApproval does not know who asks, and offers no sign-in", async () => {
    const { api } = showInFrame({});
    api.refuse("Panel", "INVOCATION_REFUSED", "SignedApproval could not make sure that Bitbucket asks for you.", 401);
    cleanup();
    show(api, recordingHost(here, { frameOf: origin }));
    expect(await screen.findByRole("alert")).toHaveTextContent("could not make sure that Bitbucket asks for you");
    expect(screen.queryByRole("link", { name: /Sign in/ })).toBeNull();
  });
});

test("on a page of our own no ticket is asked for", async () => {
  const { api } = showPullRequest({});
  await screen.findByRole("link", { name: "Approve (opens in a new tab)" });
  expect(api.calls.map((call) => call.operation)).not.toContain("CreateSignTicket");
});

describe("asking again", () => {
  const expired = () =>
    request({ state: "EXPIRED", viewerCan: viewerCan({ approve: false, reject: false, renew: true }) });

  test("an expired request can be asked again", async () => {
    const { api } = showPullRequest({ request: expired(), sentence: "expired before 2 approvals were given (1 of 2)" });
    api.world.Mutation = { renewRequest: { request: request({ id: "request-1" }), userErrors: [] } };
    await userEvent.click(await screen.findByRole("button", { name: "Ask again" }));
    expect(await screen.findByRole("link", { name: /^Approve/ })).toBeVisible();
    expect(api.calls.at(-1)).toEqual({
      operation: "PanelRenewRequest",
      variables: { input: { requestId: "request-1" } },
    });
  });

  test("a rejected one whose time is over can be asked again beside what is left to do", async () => {
    const reason = "The time of this request is over; it can be asked for again. The rejection stays.";
    const rejected = (withdraw: boolean) =>
      request({
        state: "REJECTED",
        viewerCan: viewerCan({ approve: false, reject: !withdraw, withdraw, renew: true, code: "EXPIRED", reason }),
      });
    const { api } = showPullRequest({ request: rejected(true), sentence: "rejected by Bob Tanaka" });
    expect(await screen.findByRole("link", { name: /^Withdraw my decision/ })).toBeVisible();
    expect(screen.getByText(reason)).toBeVisible();
    api.world.Mutation = { renewRequest: { request: rejected(false), userErrors: [] } };
    await userEvent.click(screen.getByRole("button", { name: "Ask again" }));
    expect(await screen.findByRole("link", { name: /^Reject/ })).toBeVisible();
    expect(api.calls.at(-1)?.operation).toBe("PanelRenewRequest");
  });

  test("a refusal is told", async () => {
    const { api } = showPullRequest({ request: expired() });
    const refusal = { code: "FORBIDDEN", message: "Only people who may write can ask for that.", path: [] };
    api.world.Mutation = { renewRequest: { request: null, userErrors: [refusal] } };
    await userEvent.click(await screen.findByRole("button", { name: "Ask again" }));
    expect(await screen.findByRole("alert")).toHaveTextContent("Only people who may write can ask for that.");
  });
});

describe("live", () => {
  test("an event changes what it says, and the host is told once", async () => {
    const { api, host } = showPullRequest({});
    await screen.findByText("1 of 2 approvals; waiting for Carol Okafor");
    expect(await screen.findByText("Live")).toBeVisible();
    const approved = pullRequest({
      sentence: "approved by Bob Tanaka and Carol Okafor",
      version: 4,
      request: request({
        state: "APPROVED",
        viewerCan: nothing,
        requirements: [requirement({ missing: 0, approvedBy: [bob, carol] })],
      }),
    });
    api.emit("PanelChanged", { pullRequestChanged: approved });
    expect(await screen.findByText("Approved by Bob Tanaka and Carol Okafor")).toBeVisible();
    expect(screen.queryByRole("link", { name: /^Approve/ })).toBeNull();
    const told = { title: "Approved by Bob Tanaka and Carol Okafor", tone: "success" };
    await waitFor(() => expect(host.notified).toEqual([told]));
  });

  test("says when updates stop arriving", async () => {
    const api = new MockApi(world());
    api.answer("PanelChanged", () => Promise.reject(new TypeError("network")));
    show(api);
    expect(await screen.findByText("Not live: reconnecting…")).toBeVisible();
  });

  test("listens no longer than it is shown", async () => {
    const { api, unmount } = showPullRequest({});
    await waitFor(() => expect(api.listeners("PanelChanged")).toBe(1));
    unmount();
    await waitFor(() => expect(api.listeners("PanelChanged")).toBe(0));
  });
});
