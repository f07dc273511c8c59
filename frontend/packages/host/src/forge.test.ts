import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openHost } from "./forge.ts";
import { HostUnavailable } from "./host.ts";

const workspace = "3f2b8a10-6f0e-4a55-9d7c-1b2f3e4d5c6b";
const repository = "9a1c7d42-0b6e-4f38-8e21-7c5d4b3a2f10";
const origin = "https://app.example";

/** Stands in for what Bitbucket puts into the frame before the page's own scripts run. */
class Bridge {
  calls: { command: string; payload: unknown }[] = [];
  context: unknown = {
    workspaceId: `{${workspace}}`,
    theme: { colorMode: "dark" },
    extension: {
      type: "bitbucket:repoPullRequestCard",
      repository: { uuid: `{${repository}}` },
      pullRequest: { id: 7 },
    },
  };
  answers: Record<string, (payload: unknown) => unknown> = {
    getContext: () => this.context,
    enableTheming: () => document.documentElement.style.setProperty("--ds-surface", "#fff"),
    invoke: () => ({ success: true, payload: { status: 200, headers: {}, body: { data: { ok: 1 } } } }),
  };

  callBridge = async (command: string, payload: unknown) => {
    this.calls.push({ command, payload });
    return this.answers[command]?.(payload);
  };

  sent(command: string) {
    return this.calls.filter((call) => call.command === command).map((call) => call.payload);
  }
}

let bridge: Bridge;
// Atlassian's modules keep what they find here when they are loaded, once for all tests.
vi.stubGlobal("__bridge", { callBridge: (command: string, payload: unknown) => bridge.callBridge(command, payload) });

beforeEach(() => {
  bridge = new Bridge();
  document.head.innerHTML = `<meta name="signedapproval-origin" content="${origin}">`;
});
afterEach(() => {
  vi.useRealTimers();
  document.documentElement.removeAttribute("style");
  delete document.documentElement.dataset["colorMode"];
});

test("says where it stands, and that it is no page of its own", async () => {
  const host = await openHost();
  expect(host.context()).toEqual({ workspace, repository, number: 7 });
  expect(host).toMatchObject({ standsAlone: false, start: "/" });
  expect(host.transport.streamOrigin).toBe(origin);
  expect(host.address("/sign/x/y/7")).toBe(`${origin}/sign/x/y/7`);
});

test("passes queries on through Bitbucket", async () => {
  const host = await openHost();
  const response = await host.transport.fetch("/graphql?Panel", { method: "POST", body: '{"documentId":"x"}' });
  expect(await response.json()).toEqual({ data: { ok: 1 } });
  expect(bridge.sent("invoke")).toEqual([
    {
      invokeType: "ui-remote-fetch",
      path: "/graphql?Panel",
      method: "POST",
      headers: { "content-type": "application/json", accept: "*/*" },
      body: { documentId: "x" },
    },
  ]);
});

test("what Bitbucket answers in our server's place is an answer too", async () => {
  bridge.answers["invoke"] = () => ({ success: false, error: { status: 429, headers: {}, body: {} } });
  const host = await openHost();
  const response = await host.transport.fetch("/graphql?Panel", { method: "POST", body: "{}" });
  expect(response.status).toBe(429);
});

test("opens streams itself", async () => {
  const fetched = vi.spyOn(window, "fetch").mockResolvedValue(new Response());
  const host = await openHost();
  await host.transport.stream(`${origin}/graphql?PanelChanged`, { method: "POST" });
  expect(fetched).toHaveBeenCalledExactlyOnceWith(`${origin}/graphql?PanelChanged`, { method: "POST" });
  expect(bridge.sent("invoke")).toEqual([]);
});

describe("another tab", () => {
  test("is Bitbucket's to open", async () => {
    const open = vi.spyOn(window, "open");
    const host = await openHost();
    expect(await host.openExternal(`${origin}/sign/x#ticket=t`)).toBe(true);
    expect(bridge.sent("navigate")).toEqual([{ url: `${origin}/sign/x#ticket=t`, type: "new-tab" }]);
    expect(open).not.toHaveBeenCalled();
  });

  test("is tried without Bitbucket where it opens none, and cannot reach back", async () => {
    bridge.answers["navigate"] = () => Promise.reject(new Error("not allowed"));
    const opened = { opener: window } as unknown as Window;
    vi.spyOn(window, "open").mockReturnValue(opened);
    const host = await openHost();
    expect(await host.openExternal(`${origin}/x`)).toBe(true);
    expect(opened.opener).toBeNull();
  });

  test("is not there where the frame forbids it as well", async () => {
    bridge.answers["navigate"] = () => Promise.reject(new Error("not allowed"));
    vi.spyOn(window, "open").mockReturnValue(null);
    const host = await openHost();
    expect(await host.openExternal(`${origin}/x`)).toBe(false);
  });
});

test("tells the reader in Bitbucket's own way, each time anew", async () => {
  const host = await openHost();
  host.notify({ title: "Rejected by Carol Okafor", tone: "danger" });
  host.notify({ title: "Approved", tone: "success" });
  expect(bridge.sent("showFlag")).toEqual([
    { id: "signedapproval-1", title: "Rejected by Carol Okafor", type: "error", isAutoDismiss: true },
    { id: "signedapproval-2", title: "Approved", type: "success", isAutoDismiss: true },
  ]);
});

describe("colours", () => {
  test("are Bitbucket's", async () => {
    await openHost();
    expect(bridge.sent("enableTheming")).toHaveLength(1);
    // Ours would be marked with the mode; Bitbucket marks its own.
    expect(document.documentElement.dataset["colorMode"]).toBeUndefined();
  });

  test.each([
    ["refuses", () => Promise.reject(new Error("unknown command"))],
    ["does nothing", () => undefined],
  ])("are ours, in Bitbucket's mode, where Bitbucket %s", async (_, answer) => {
    bridge.answers["enableTheming"] = answer;
    await openHost();
    expect(document.documentElement.dataset["colorMode"]).toBe("dark");
  });

  test("are not waited for for ever", async () => {
    vi.useFakeTimers();
    bridge.answers["enableTheming"] = () => new Promise(() => {});
    const opening = openHost();
    await vi.waitFor(() => expect(bridge.sent("enableTheming")).toHaveLength(1));
    await vi.advanceTimersByTimeAsync(3_000);
    await opening;
    expect(document.documentElement.dataset["colorMode"]).toBe("dark");
  });
});

describe("a page that cannot work", () => {
  const failure = async () => {
    const error: unknown = await openHost().catch((error: unknown) => error);
    expect(error).toBeInstanceOf(HostUnavailable);
    return (error as Error).message;
  };

  test("says that Bitbucket does not answer", async () => {
    bridge.answers["getContext"] = () => Promise.reject(new Error("internal detail"));
    expect(await failure()).not.toContain("internal detail");
  });

  test("waits for Bitbucket no longer than it must", async () => {
    vi.useFakeTimers();
    bridge.answers["getContext"] = () => new Promise(() => {});
    const message = failure();
    await vi.waitFor(() => expect(bridge.sent("getContext")).toHaveLength(1));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(await message).toContain("does not answer");
  });

  test.each(["", "app.example", "http://app.example", "https://app.example/", "https://a@app.example", "javascript:x"])(
    "sends nobody to %o",
    async (content) => {
      document.head.innerHTML = `<meta name="signedapproval-origin" content="${content}">`;
      expect(await failure()).toContain("without the address of its server");
      expect(bridge.calls).toEqual([]);
    },
  );

  test.each(["http://localhost:3000", "http://127.0.0.1:8080"])("accepts %s, on this machine", async (content) => {
    document.head.innerHTML = `<meta name="signedapproval-origin" content="${content}">`;
    expect((await openHost()).transport.streamOrigin).toBe(content);
  });
});
