import { openGraph } from "@signedapproval/graph/client";
import {
  alice,
  connectionOf,
  enforcement,
  installation,
  mergeCheck,
  pullRequest,
  repository,
  viewer,
  violation,
  workspace,
  world,
} from "@signedapproval/graph/fixtures";
import { MockApi } from "@signedapproval/graph/mockapi";
import { GraphProvider } from "@signedapproval/graph/provider";
import { recordingHost } from "@signedapproval/host/recording";
import { violations } from "@signedapproval/ui/accessibility.ts";
import { createMemoryHistory, RouterProvider } from "@tanstack/react-router";
import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";
import { createDashboardRouter } from "./router.tsx";
import { leastEnforced } from "./states.ts";
import { Surroundings } from "./surroundings.ts";

function open(path: string, like: Record<string, unknown>) {
  const api = new MockApi(world(like));
  delete api.world.Subscription;
  const router = createDashboardRouter(createMemoryHistory({ initialEntries: [path] }));
  const view = render(
    <Surroundings value={recordingHost(null)}>
      <GraphProvider graph={openGraph({ fetch: api.fetch })}>
        <RouterProvider router={router} />
      </GraphProvider>
    </Surroundings>,
  );
  return { api, ...view };
}

const inputs = (api: MockApi, operation: string) =>
  api.calls.filter((call) => call.operation === operation).map((call) => call.variables["input"]);

describe("enforcement", () => {
  const page = "/workspaces/acme/repositories/web-shop";
  function openRepository(like: Record<string, unknown> = {}) {
    const repo = repository(like);
    return open(page, { workspace: workspace({ repository: repo }), node: () => repo });
  }

  test("each pattern with its state, why, and what only a person can do", async () => {
    const { container } = openRepository({
      enforcement: [
        enforcement({
          pattern: "main",
          state: "ENFORCED",
          reasons: [{ code: "SEEN", sentence: "A refused merge did not go through yesterday.", fix: null, steps: [] }],
        }),
        enforcement({
          pattern: "release/*",
          state: "UNKNOWN",
          reasons: [
            {
              code: "NEVER_ASKED",
              sentence: "The merge check has not been asked.",
              fix: null,
              steps: ["Open the repository's settings.", "Switch the merge check on."],
            },
          ],
        }),
      ],
    });
    const table = await screen.findByRole("table", { name: "Enforcement" });
    expect(within(table).getByRole("row", { name: /^main Enforced/ })).toHaveTextContent(
      "did not go through yesterday",
    );
    const unknown = within(table).getByRole("row", { name: /^release\/\* Unknown/ });
    expect(
      within(unknown)
        .getAllByRole("listitem")
        .map((item) => item.textContent),
    ).toEqual(expect.arrayContaining(["Open the repository's settings.", "Switch the merge check on."]));
    expect(screen.queryByRole("button", { name: /^Fix…/ })).toBeNull();
    expect(await violations(container)).toEqual([]);
  });

  test("what can be mended is mended after a question that says what it does", async () => {
    const { api, container } = openRepository({
      enforcement: [
        enforcement({
          state: "OPEN",
          reasons: [
            { code: "PUSH_OPEN", sentence: "Anybody can push.", fix: "RESTRICT_PUSH", steps: [] },
            { code: "BUILD", sentence: "No build is needed.", fix: "REQUIRE_BUILD", steps: [] },
            { code: "PUSH_LIST", sentence: "Two people may push.", fix: "RESTRICT_PUSH", steps: [] },
          ],
        }),
      ],
    });
    api.world.Mutation = {
      fixEnforcement: {
        repository: repository({ enforcement: [enforcement({ reasons: [] })] }),
        leftToDo: ["Bitbucket refused to require a build."],
        userErrors: [],
      },
    };
    await userEvent.click(await screen.findByRole("button", { name: "Fix… release/*" }));
    const dialog = await screen.findByRole("dialog");
    expect(within(dialog).getAllByRole("listitem")).toHaveLength(2);
    expect(dialog).toHaveTextContent("Nobody may push to these branches any more");
    expect(inputs(api, "FixEnforcement")).toEqual([]);
    expect(await violations(container)).toEqual([]);
    await userEvent.click(within(dialog).getByRole("button", { name: "Make the restrictions" }));
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
    expect(inputs(api, "FixEnforcement")).toEqual([
      { repositoryId: "repository-1", pattern: "release/*", fixes: ["RESTRICT_PUSH", "REQUIRE_BUILD"] },
    ]);
    expect(await screen.findByRole("row", { name: /^release\/\* Warns only/ })).toBeVisible();
    // What is left to do outlives the button that brought it about.
    expect(screen.getByText("Bitbucket refused to require a build.")).toBeVisible();
  });

  test("a refusal is told where it was asked for", async () => {
    const { api } = openRepository();
    api.world.Mutation = {
      fixEnforcement: {
        repository: null,
        leftToDo: [],
        userErrors: [{ code: "FORBIDDEN", message: "You do not administer it.", path: [] }],
      },
    };
    await userEvent.click(await screen.findByRole("button", { name: "Fix… release/*" }));
    await userEvent.click(screen.getByRole("button", { name: "Make the restrictions" }));
    expect(await screen.findByText("You do not administer it.")).toBeVisible();
    expect(screen.getByRole("dialog")).toBeVisible();
  });

  test("only who may configure is offered to mend", async () => {
    openRepository({ viewerCanConfigure: false });
    expect(await screen.findByText("Anybody who may write can push to these branches.")).toBeVisible();
    expect(screen.queryByRole("button", { name: /^Fix…/ })).toBeNull();
  });

  test("nothing was looked at, asked, or violated yet", async () => {
    openRepository({ enforcement: [] });
    expect(await screen.findByText("Not looked at yet")).toBeVisible();
    expect(await screen.findByText("Bitbucket has not asked yet")).toBeVisible();
    expect(await screen.findByText("Every merge that was seen had its approvals or an override.")).toBeVisible();
  });

  test("what the merge check was asked, and what it answered", async () => {
    openRepository({
      mergeChecks: [
        mergeCheck({ allowed: true, sentence: "approved by Bob Tanaka", askedAt: "2026-11-22T09:50:00Z" }),
        mergeCheck(),
        mergeCheck({ onMerge: false, askedBy: null, headCommit: null, askedAt: "2026-11-22T09:40:00Z" }),
      ],
    });
    const table = await screen.findByRole("table", { name: "Merge checks" });
    const [, allowed, refused, shown] = within(table).getAllByRole("row");
    expect(allowed).toHaveTextContent("Allowedapproved by Bob Tanaka");
    expect(refused).toHaveTextContent(alice.name);
    expect(refused).toHaveTextContent("Refused1 of 2 approvals; waiting for Carol Okafor");
    expect(shown).toHaveTextContent("to show it");
    expect(shown).toHaveTextContent("Bitbucket");
  });

  test("merges around the gate, page by page", async () => {
    const all = [
      violation({
        number: 9,
        asked: false,
        sentence: "It was pushed past the merge check.",
        pullRequest: pullRequest(),
      }),
      violation(),
    ];
    const { api } = openRepository({
      violations: ({ after }: { after?: string }) => connectionOf(after ? all.slice(1) : all.slice(0, 1), !after),
    });
    expect(await screen.findByText("Not asked")).toBeVisible();
    const link = screen.getByRole("link", { name: "#9 Check the coupon before the payment" });
    expect(link).toHaveAttribute("href", "/pull-requests/pull-request-7");
    const section = screen.getByRole("region", { name: "Merged around the gate" });
    await userEvent.click(within(section).getByRole("button", { name: "Show more" }));
    expect(await screen.findByText("Refused, merged all the same")).toBeVisible();
    expect(api.calls.filter((call) => call.operation === "Violations").at(-1)?.variables["after"]).toBe("c0");
  });

  test("gated repositories, page by page, under one heading", async () => {
    const { container } = open("/workspaces/acme/repositories", {
      workspace: workspace({
        repositories: ({ after }: { after?: string }) =>
          after
            ? connectionOf([repository({ id: "second", name: "The second" })])
            : connectionOf([repository({ name: "The first" })], true),
      }),
    });
    const gated = await screen.findByRole("region", { name: "Gated" });
    await userEvent.click(await within(gated).findByRole("button", { name: "Show more" }));
    expect(await within(gated).findByRole("link", { name: "Configure The second" })).toBeVisible();
    expect(within(gated).getByRole("link", { name: "Configure The first" })).toBeVisible();
    expect(await screen.findByRole("region", { name: "Gate another repository" })).toBeVisible();
    expect(await violations(container)).toEqual([]);
  });

  test("the list of repositories tells the least enforced of their patterns", async () => {
    const repo = repository({ enforcement: [enforcement({ state: "ENFORCED" }), enforcement({ state: "OPEN" })] });
    open("/workspaces/acme/repositories", { workspace: workspace({ repositories: connectionOf([repo]) }) });
    const table = await screen.findByRole("table", { name: "Gated repositories" });
    expect(within(table).getByText("Open")).toBeVisible();
  });

  test.each([
    [["ENFORCED", "WARNS_ONLY"], "Warns only"],
    [["ENFORCED", "UNKNOWN"], "Unknown"],
    [["UNKNOWN", "WARNS_ONLY", "OPEN"], "Open"],
    [["ENFORCED"], "Enforced"],
    [[], undefined],
  ] as const)("the least enforced of %o is %s", (states, label) => {
    expect(leastEnforced(states.map((state) => ({ state })))?.label).toBe(label);
  });
});

describe("the app in a workspace", () => {
  const withApp = (like: Record<string, unknown>) =>
    open("/settings/bitbucket", { viewer: viewer({ workspaces: connectionOf([workspace(like)]) }) });

  test("is installed: since when, until when it may act, and in whose name", async () => {
    const { container } = withApp({
      connection: null,
      installation: installation(),
      actsAs: { identity: "APP", sentence: "The app is installed and holds a token." },
    });
    expect(await screen.findByText("Installed", { selector: ".sa-lozenge" })).toBeVisible();
    expect(screen.getByText("2.1.0")).toBeVisible();
    expect(screen.getByText("The app's name")).toBeVisible();
    expect(screen.getByText("The app is installed and holds a token.")).toBeVisible();
    // The app alone is enough: a connection is not missing.
    expect(screen.queryByText("Disconnected")).toBeNull();
    expect(await violations(container)).toEqual([]);
  });

  test("holds no token: what is to be written waits", async () => {
    withApp({ installation: installation({ tokenExpiresAt: null }) });
    expect(await screen.findByText(/waits for the next, which comes each hour/)).toBeVisible();
  });

  test("was uninstalled", async () => {
    withApp({
      connection: null,
      installation: installation({ state: "UNINSTALLED", uninstalledAt: "2026-11-21T08:00:00Z", tokenExpiresAt: null }),
      actsAs: { identity: "NOBODY", sentence: "Neither app nor connection is there." },
    });
    expect(await screen.findByText("Uninstalled", { selector: ".sa-lozenge" })).toBeVisible();
    expect(screen.getByText("Nobody's name: nothing is written")).toBeVisible();
    expect(screen.queryByText("Its token")).toBeNull();
  });

  test("was never there", async () => {
    withApp({});
    expect(await screen.findByText("Not installed from the Atlassian Marketplace")).toBeVisible();
  });

  test("waits until an administrator confirms it", async () => {
    const waiting = { installation: installation({ state: "AWAITING_CONFIRMATION" }) };
    const { api, container } = withApp(waiting);
    api.world.Mutation = {
      confirmInstallation: {
        workspace: workspace({ installation: installation({ confirmedAt: "2026-11-22T10:00:00Z" }) }),
        userErrors: [],
      },
    };
    await userEvent.click(await screen.findByRole("button", { name: "Confirm… Acme" }));
    expect(inputs(api, "ConfirmInstallation")).toEqual([]);
    expect(await violations(container)).toEqual([]);
    await userEvent.click(screen.getByRole("button", { name: "Confirm" }));
    await waitFor(() => expect(screen.queryByText("The app waits for an administrator")).toBeNull());
    expect(inputs(api, "ConfirmInstallation")).toEqual([{ workspaceId: "workspace-1" }]);
    expect(screen.getByText("Confirmed")).toBeVisible();
  });

  test("says why it was not confirmed", async () => {
    const { api } = withApp({ installation: installation({ state: "AWAITING_CONFIRMATION" }) });
    api.world.Mutation = {
      confirmInstallation: {
        workspace: null,
        userErrors: [{ code: "FORBIDDEN", message: "You do not administer Acme.", path: [] }],
      },
    };
    await userEvent.click(await screen.findByRole("button", { name: "Confirm… Acme" }));
    await userEvent.click(screen.getByRole("button", { name: "Confirm" }));
    expect(await screen.findByText("You do not administer Acme.")).toBeVisible();
  });

  test("is confirmed by nobody else", async () => {
    withApp({ viewerIsAdmin: false, installation: installation({ state: "AWAITING_CONFIRMATION" }) });
    expect(await screen.findByText("The app waits for an administrator")).toBeVisible();
    expect(screen.queryByRole("button", { name: /^Confirm/ })).toBeNull();
  });
});
