import { openGraph } from "@signedapproval/graph/client";
import {
  bitbucketRepository,
  connectionOf,
  place,
  pullRequest,
  repositoryUuid,
  request,
  viewer,
  workspace,
  workspaceUuid,
  world,
} from "@signedapproval/graph/fixtures";
import { MockApi } from "@signedapproval/graph/mockapi";
import { GraphProvider } from "@signedapproval/graph/provider";
import { recordingHost } from "@signedapproval/host/recording";
import { webHost } from "@signedapproval/host/web";
import { violations } from "@signedapproval/ui/accessibility.ts";
import { createMemoryHistory, RouterProvider } from "@tanstack/react-router";
import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test } from "vitest";
import { createDashboardRouter, historyFor } from "./router.tsx";
import { Surroundings } from "./surroundings.ts";

const origin = "https://app.example";

function open(path: string, like: Record<string, unknown> = {}, prepare?: (api: MockApi) => void) {
  const api = new MockApi(world(like));
  delete api.world.Subscription;
  prepare?.(api);
  const host = recordingHost(null, { frameOf: origin });
  const router = createDashboardRouter(createMemoryHistory({ initialEntries: [path] }));
  const view = render(
    <Surroundings value={host}>
      <GraphProvider graph={openGraph({ fetch: api.fetch })}>
        <RouterProvider router={router} />
      </GraphProvider>
    </Surroundings>,
  );
  return { api, host, router, ...view };
}

const operations = (api: MockApi) => api.calls.map((call) => call.operation);

describe("the address inside Bitbucket's frame", () => {
  afterEach(() => window.history.replaceState(null, "", "/"));

  test.each(["/", "/settings/passkeys", `/workspaces/${workspaceUuid}/repositories/${repositoryUuid}`])(
    "begins with %s where its place in Bitbucket says so",
    (start) => {
      const history = historyFor({ ...recordingHost(null, { frameOf: origin }), start });
      expect(history.location.pathname).toBe(start);
      expect(window.location.pathname).toBe("/");
      history.destroy();
    },
  );

  test("stays where the reader went when the frame is loaded again", () => {
    window.history.replaceState(null, "", "#/settings/tokens");
    const history = historyFor({ ...recordingHost(null, { frameOf: origin }), start: "/" });
    expect(history.location.pathname).toBe("/settings/tokens");
    history.destroy();
  });

  test("is the path on a page of our own", () => {
    window.history.replaceState(null, "", "/settings/passkeys");
    const history = historyFor(webHost());
    expect(history.location.pathname).toBe("/settings/passkeys");
    expect(window.location.hash).toBe("");
    history.destroy();
  });
});

describe("inside Bitbucket's frame", () => {
  test("nobody signs in or out", async () => {
    const { container } = open("/");
    expect(await screen.findByRole("heading", { name: "Waiting for you" })).toBeVisible();
    expect(screen.queryByRole("button", { name: "Sign out" })).toBeNull();
    expect(await violations(container)).toEqual([]);
  });

  test("somebody whom Bitbucket does not name is told so", async () => {
    const { container } = open("/", { viewer: null });
    expect(await screen.findByText("Nobody is signed in")).toBeVisible();
    expect(screen.queryByRole("link", { name: /Sign in/ })).toBeNull();
    expect(await violations(container)).toEqual([]);
  });

  test("the way to the content leaves the page where it is", async () => {
    const { router } = open("/settings/passkeys");
    await userEvent.click(await screen.findByRole("button", { name: "Skip to the content" }));
    expect(screen.getByRole("main")).toHaveFocus();
    expect(router.state.location.pathname).toBe("/settings/passkeys");
  });

  test("what waits is signed in a tab of its own", async () => {
    const { host } = open("/", { viewer: viewer({ waiting: connectionOf([request()]) }) });
    await userEvent.click(await screen.findByRole("link", { name: /^Review Check the coupon/ }));
    expect(host.opened).toEqual([`${origin}/sign/${place}`]);
  });

  test("a request's evidence and its pull request open in tabs of their own", async () => {
    const { host } = open("/requests/request-1");
    await userEvent.click(await screen.findByRole("link", { name: /^Download the evidence/ }));
    await userEvent.click(screen.getByRole("link", { name: /^Verify evidence/ }));
    await userEvent.click(screen.getByRole("link", { name: /^On Bitbucket/ }));
    expect(host.opened).toEqual([`${origin}${request()["evidencePath"]}`, `${origin}/verify`, pullRequest()["url"]]);
  });

  test("passkeys are shown, and managed in a tab of its own", async () => {
    const { host, container } = open("/settings/passkeys");
    expect(await screen.findByText("Laptop")).toBeVisible();
    expect(screen.queryByRole("button", { name: /Add a passkey|Rename|Revoke/ })).toBeNull();
    await userEvent.click(screen.getByRole("link", { name: /^Manage my passkeys/ }));
    expect(host.opened).toEqual([`${origin}/settings/passkeys`]);
    expect(await violations(container)).toEqual([]);
  });

  test("API tokens are not even asked for", async () => {
    const { api, host } = open("/settings/tokens");
    await userEvent.click(await screen.findByRole("link", { name: /^API tokens \(opens/ }));
    expect(host.opened).toEqual([`${origin}/settings/tokens`]);
    expect(operations(api)).not.toContain("Tokens");
  });

  test("a connection is made in a tab of its own", async () => {
    const { api, host, container } = open("/settings/bitbucket");
    await userEvent.click(await screen.findByRole("link", { name: /^Connections/ }));
    expect(host.opened).toEqual([`${origin}/settings/bitbucket`]);
    expect(screen.queryByRole("button", { name: "Connect workspace" })).toBeNull();
    expect(operations(api)).not.toContain("Grants");
    expect(await violations(container)).toEqual([]);
  });

  test("a repository's settings are found by its UUID, gated or not", async () => {
    const path = `/workspaces/${workspaceUuid}/repositories/${repositoryUuid}`;
    const found = open(path);
    expect(await screen.findByRole("heading", { level: 1, name: "Web Shop" })).toBeVisible();
    expect(found.api.calls.find((call) => call.operation === "Repository")?.variables).toEqual({
      workspace: workspaceUuid,
      slug: repositoryUuid,
    });
    found.unmount();
    const ungated = workspace({
      repository: null,
      bitbucketRepository: () => bitbucketRepository({ repository: null }),
    });
    const { api } = open(path, { workspace: ungated });
    expect(await screen.findByText("Not gated")).toBeVisible();
    expect(api.calls.find((call) => call.operation === "Candidate")?.variables).toEqual({
      workspace: workspaceUuid,
      slug: repositoryUuid,
    });
  });

  test("a repository that is not there is called by no UUID", async () => {
    open(`/workspaces/${workspaceUuid}/repositories/${repositoryUuid}`, {
      workspace: workspace({ repository: null, bitbucketRepository: null }),
    });
    expect(await screen.findByRole("heading", { level: 1, name: "Repository" })).toBeVisible();
    expect(screen.getByRole("link", { name: "Look for it in the list" })).toBeVisible();
  });

  test("of several workspaces the one of the address is chosen, though it is named by its UUID", async () => {
    const other = workspace({
      id: "workspace-2",
      uuid: "b7ea02c9-0871-4858-a2a6-a190d7de977c",
      slug: "zeta",
      name: "Zeta",
    });
    open(`/workspaces/${workspaceUuid}/repositories`, {
      viewer: viewer({ workspaces: connectionOf([other, workspace()]) }),
    });
    await waitFor(() => expect(screen.getByRole("combobox", { name: "Workspace" })).toHaveValue("acme"));
  });
});
