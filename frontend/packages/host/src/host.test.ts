import { afterEach, describe, expect, test, vi } from "vitest";
import { recordingHost } from "./recording.ts";
import { openHost, webHost } from "./web.ts";

const place = {
  workspace: "3f2b8a10-6f0e-4a55-9d7c-1b2f3e4d5c6b",
  repository: "9a1c7d42-0b6e-4f38-8e21-7c5d4b3a2f10",
  number: 7,
};

describe("webHost", () => {
  afterEach(() => vi.useRealTimers());

  test("is a page of its own, on the origin of the API", async () => {
    const host = await openHost();
    expect(host).toMatchObject({ standsAlone: true, start: null });
    expect(host.transport.streamOrigin).toBeNull();
    expect(host.address("/sign/x")).toBe("/sign/x");
    expect(host.context()).toBeNull();
  });

  test("opens an address without an opener", async () => {
    const open = vi.spyOn(window, "open").mockReturnValue(null);
    expect(await webHost().openExternal("https://bitbucket.example/x")).toBe(true);
    expect(open).toHaveBeenCalledExactlyOnceWith("https://bitbucket.example/x", "_blank", "noopener");
  });

  test("shows a notification as text, and takes it away again", () => {
    vi.useFakeTimers();
    webHost().notify({ title: "<b>Approved</b>", tone: "success" });
    const note = document.querySelector('[role="status"]');
    expect(note?.textContent).toBe("<b>Approved</b>");
    expect(note?.querySelector("b")).toBeNull();
    vi.runAllTimers();
    expect(document.querySelector('[role="status"]')).toBeNull();
  });
});

test("a recording host remembers what was asked of it", async () => {
  const host = recordingHost(place);
  expect(await host.openExternal("/sign/x")).toBe(true);
  host.notify({ title: "Approved", tone: "success" });
  expect(host).toMatchObject({ opened: ["/sign/x"], notified: [{ title: "Approved", tone: "success" }] });
  expect(host.context()?.number).toBe(7);
});

test("a recording host stands in a frame where it is told so", async () => {
  const host = recordingHost(place, { frameOf: "https://app.example", blocked: true });
  expect(host).toMatchObject({ standsAlone: false, start: "/" });
  expect(host.address("/sign/x")).toBe("https://app.example/sign/x");
  expect(await host.openExternal("/sign/x")).toBe(false);
});
