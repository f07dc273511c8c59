import { afterEach, describe, expect, test, vi } from "vitest";
import { recordingHost } from "./recording.ts";
import { placeOf, webHost } from "./web.ts";

const workspace = "3f2b8a10-6f0e-4a55-9d7c-1b2f3e4d5c6b";
const repository = "9a1c7d42-0b6e-4f38-8e21-7c5d4b3a2f10";

describe("placeOf", () => {
  test.each([`/pr/${workspace}/${repository}/7`, `/sign/${workspace}/${repository}/7/`])("reads %s", (path) => {
    expect(placeOf(path)).toEqual({ workspace, repository, number: 7 });
  });

  test("takes upper case for the same identifier", () => {
    expect(placeOf(`/pr/${workspace.toUpperCase()}/${repository}/7`)?.workspace).toBe(workspace);
  });

  test.each([
    "/",
    "/pr",
    `/pr/${workspace}/${repository}`,
    `/pr/${workspace}/${repository}/0`,
    `/pr/${workspace}/${repository}/07`,
    `/pr/${workspace}/${repository}/-1`,
    `/pr/${workspace}/${repository}/7/x`,
    `/pr/{${workspace}}/${repository}/7`,
    `/pr/acme/web-shop/7`,
    `/x/pr/${workspace}/${repository}/7`,
  ])("refuses %s", (path) => {
    expect(placeOf(path)).toBeNull();
  });
});

describe("webHost", () => {
  afterEach(() => vi.useRealTimers());

  test("opens an address without an opener", () => {
    const open = vi.spyOn(window, "open").mockReturnValue(null);
    webHost().openExternal("https://bitbucket.example/x");
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

  test("follows the reader's system", () => {
    expect(webHost().colorMode()).toBeNull();
  });
});

test("a recording host remembers what was asked of it", () => {
  const host = recordingHost({ workspace, repository, number: 7 }, "dark");
  host.openExternal("/sign/x");
  host.notify({ title: "Approved", tone: "success" });
  expect(host).toMatchObject({ opened: ["/sign/x"], notified: [{ title: "Approved", tone: "success" }] });
  expect([host.context()?.number, host.colorMode()]).toEqual([7, "dark"]);
});
