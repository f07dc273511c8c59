import { openGraph } from "@signedapproval/graph/client";
import { carol, place, pullRequest, request, server, viewer, world } from "@signedapproval/graph/fixtures";
import { MockApi } from "@signedapproval/graph/mockapi";
import { GraphProvider } from "@signedapproval/graph/provider";
import { violations } from "@signedapproval/ui/accessibility.ts";
import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test, vi } from "vitest";
import { SignPage } from "./SignPage.tsx";
import { takeTicket } from "./ticket.ts";

const path = `/sign/${place}`;
const title = "Check the coupon before the payment";

function open(answer: Record<string, unknown> | null, ticket = "ticket-1") {
  const asked = request({ decisions: [], diff: null });
  const api = new MockApi(
    world({ viewer: viewer(), server: server(), pullRequest: pullRequest({ request: asked }), node: () => asked }),
  );
  if (answer) api.world.Mutation = { redeemTicket: answer };
  else api.hold("RedeemTicket");
  window.history.replaceState(null, "", path);
  const view = render(
    <GraphProvider graph={openGraph({ fetch: api.fetch })}>
      <SignPage location={{ pathname: path, search: "" }} ticket={ticket} />
    </GraphProvider>,
  );
  return { api, ...view };
}

const refused = (code: string, message: string) => ({
  account: null,
  userErrors: [{ code, message, path: ["ticket"] }],
});
const operations = (api: MockApi) => api.calls.map((call) => call.operation);

afterEach(() => window.history.replaceState(null, "", "/"));

describe("the ticket in the address", () => {
  const page = (hash: string) => {
    const history = { state: { kept: true }, replaceState: vi.fn() };
    const location = { hash, pathname: path, search: "?a=1" };
    return { page: { history, location } as unknown as Window, replaceState: history.replaceState };
  };

  test("is taken, and is gone from the address at once", () => {
    const { page: opened, replaceState } = page("#ticket=abc-DEF_123");
    expect(takeTicket(opened)).toBe("abc-DEF_123");
    expect(replaceState).toHaveBeenCalledExactlyOnceWith({ kept: true }, "", `${path}?a=1`);
  });

  test.each(["#ticket=", "#ticket=a b", `#ticket=${"a".repeat(513)}`, "#ticket=a&x=1", "#other"])(
    "%s is none, and is gone as well",
    (hash) => {
      const { page: opened, replaceState } = page(hash);
      expect(takeTicket(opened)).toBeNull();
      expect(replaceState).toHaveBeenCalledOnce();
    },
  );

  test("an address without one stays as it is", () => {
    const { page: opened, replaceState } = page("");
    expect(takeTicket(opened)).toBeNull();
    expect(replaceState).not.toHaveBeenCalled();
  });
});

describe("a page that Bitbucket opened", () => {
  test("asks for nothing else before it is known who opened it", async () => {
    const { api } = open(null);
    expect(screen.getByRole("status")).toHaveTextContent("Checking who opened this page…");
    await vi.waitFor(() => expect(operations(api)).toEqual(["RedeemTicket"]));
    expect(api.calls[0]?.variables).toEqual({ input: { ticket: "ticket-1" } });
    expect(screen.queryByText(title)).toBeNull();
  });

  test("shows the change to the person whom the ticket names", async () => {
    const { api } = open({ account: carol, userErrors: [] });
    expect(await screen.findByRole("heading", { level: 1, name: title })).toBeVisible();
    expect(operations(api).filter((name) => name === "RedeemTicket")).toHaveLength(1);
  });

  test("offers the log-in to somebody who is not signed in, and comes back without the ticket", async () => {
    const { api, container } = open(
      refused("SIGN_IN", "Sign in with the Bitbucket account that you use in Bitbucket."),
    );
    expect(await screen.findByText(/Sign in with the Bitbucket account that opened this page/)).toBeVisible();
    const way = screen.getByRole("link", { name: "Sign in with Bitbucket" });
    expect(way).toHaveAttribute("href", `/auth/sign-in?return_to=${encodeURIComponent(path)}`);
    expect(operations(api)).toEqual(["RedeemTicket"]);
    expect(await violations(container)).toEqual([]);
  });

  test("shows nothing to another person, and offers to sign in as the right one", async () => {
    const { api, container } = open(refused("OTHER_ACCOUNT", "The panel belongs to another Bitbucket account."));
    const told = await screen.findByRole("alert");
    expect(told).toHaveTextContent("You are signed in here as somebody else");
    expect(told).toHaveTextContent("The panel belongs to another Bitbucket account.");
    expect(screen.getByRole("link", { name: "Sign in with Bitbucket" })).toBeVisible();
    expect(screen.queryByRole("button")).toBeNull();
    expect(operations(api)).toEqual(["RedeemTicket"]);
    expect(await violations(container)).toEqual([]);
  });

  test.each([
    ["TICKET", "This way in has expired", "Go on without it"],
    ["HEAD_CHANGED", "The pull request has changed", "Show the change as it is now"],
    ["NOT_FOUND", "This link opens nothing here", "Go on without it"],
  ])("%s: says so, and has an ordinary way on", async (code, heading, way) => {
    const { api, container } = open(refused(code, "A sentence of the server's."));
    const told = await screen.findByRole("alert");
    expect(told).toHaveTextContent(heading);
    expect(told).toHaveTextContent("A sentence of the server's.");
    expect(operations(api)).toEqual(["RedeemTicket"]);
    expect(await violations(container)).toEqual([]);
    await userEvent.click(screen.getByRole("button", { name: way }));
    expect(await screen.findByRole("heading", { level: 1, name: title })).toBeVisible();
  });

  test("tries again where the server did not answer", async () => {
    const { api } = open({ account: carol, userErrors: [] });
    api.refuse("RedeemTicket", "TIMEOUT", "It took too long.", 503);
    // The first attempt may be under way already: what counts is what the page does with a refusal.
    const again = await screen.findByRole("button", { name: "Try again" });
    expect(screen.getByRole("alert")).toHaveTextContent("Could not check who opened this page");
    api.release("RedeemTicket");
    await userEvent.click(again);
    expect(await screen.findByRole("heading", { level: 1, name: title })).toBeVisible();
  });
});
