import { openGraph } from "@signedapproval/graph/client";
import { connectionOf, pullRequest, request, workspace, world } from "@signedapproval/graph/fixtures";
import { MockApi } from "@signedapproval/graph/mockapi";
import { GraphProvider } from "@signedapproval/graph/provider";
import { recordingHost } from "@signedapproval/host/recording";
import { createMemoryHistory, RouterProvider } from "@tanstack/react-router";
import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";
import { createDashboardRouter } from "./router.tsx";
import { Surroundings } from "./surroundings.ts";

/** Opens the requests of a workspace. */
function open(requests: unknown) {
  const api = new MockApi(world({ workspace: workspace({ requests }) }));
  delete api.world.Subscription;
  const router = createDashboardRouter(createMemoryHistory({ initialEntries: ["/workspaces/acme/requests"] }));
  render(
    <Surroundings value={recordingHost(null)}>
      <GraphProvider graph={openGraph({ fetch: api.fetch })}>
        <RouterProvider router={router} />
      </GraphProvider>
    </Surroundings>,
  );
  return api;
}

const named = (title: string) => request({ id: title, pullRequest: () => pullRequest({ id: `of ${title}`, title }) });
const asked = (api: MockApi) =>
  api.calls.filter((call) => call.operation === "Requests").map((call) => call.variables["after"]);

describe("a list that is read page by page", () => {
  test("each page asks for itself, and the last one offers the next", async () => {
    const api = open(({ after }: { after?: string }) =>
      after ? connectionOf([named("The second")]) : connectionOf([named("The first")], true),
    );
    await userEvent.click(await screen.findByRole("button", { name: "Show more" }));
    expect(await screen.findByRole("link", { name: "The second" })).toBeVisible();
    expect(screen.getByRole("link", { name: "The first" })).toBeVisible();
    expect(screen.queryByRole("button", { name: "Show more" })).toBeNull();
    expect(asked(api)).toEqual([undefined, "c0"]);
  });

  test("another list begins with its first page", async () => {
    const api = open(({ after }: { after?: string }) =>
      after ? connectionOf([named("The second")]) : connectionOf([named("The first")], true),
    );
    await userEvent.click(await screen.findByRole("button", { name: "Show more" }));
    expect(await screen.findByRole("link", { name: "The second" })).toBeVisible();
    await userEvent.click(screen.getByRole("link", { name: "All" }));
    await waitFor(() => expect(asked(api).length).toBeGreaterThan(2));
    expect(await screen.findByRole("link", { name: "The first" })).toBeVisible();
    expect(screen.queryByRole("link", { name: "The second" })).toBeNull();
    expect(asked(api)).toEqual([undefined, "c0", undefined]);
  });

  test("nothing in it is said", async () => {
    open(connectionOf([]));
    expect(await screen.findByText("No requests")).toBeVisible();
  });

  test("what could not be read is not called empty, and can be asked for again", async () => {
    const api = open(connectionOf([named("The first")]));
    api.answer("Requests", () =>
      Response.json({ data: { workspace: null }, errors: [{ message: "It broke.", path: ["workspace"] }] }),
    );
    expect(await screen.findByRole("button", { name: /again/i })).toBeVisible();
    expect(screen.queryByText("Not found")).toBeNull();
  });
});
