import { afterEach, describe, expect, test, vi } from "vitest";
import { bridgeFetch, bridgeTimeout, type InvokeRemote } from "./bridgefetch.ts";

afterEach(() => vi.useRealTimers());

const ask = (invoke: InvokeRemote, init: RequestInit = { body: '{"documentId":"x"}' }) =>
  bridgeFetch(invoke)("/graphql?Panel", { method: "POST", ...init });

/** What a page makes of an answer: its status and the code of its first error. */
async function seen(response: Response) {
  const body = (await response.json()) as { errors?: { message: string; extensions: { code: string } }[] };
  return { status: response.status, code: body.errors?.[0]?.extensions.code, message: body.errors?.[0]?.message };
}

describe("what is sent", () => {
  test("a POST with the operation's name in the path, and the body as an object", async () => {
    const invoke = vi.fn<InvokeRemote>(async () => ({ status: 200, headers: {}, body: {} }));
    await ask(invoke, { body: '{"documentId":"x","variables":{"a":1}}', headers: { accept: "application/json" } });
    expect(invoke).toHaveBeenCalledExactlyOnceWith({
      path: "/graphql?Panel",
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: { documentId: "x", variables: { a: 1 } },
    });
  });

  test("nothing that Bitbucket would not pass on", async () => {
    const invoke = vi.fn<InvokeRemote>();
    const response = await ask(invoke, { body: JSON.stringify({ comment: "é".repeat(250_000) }) });
    expect(await seen(response)).toMatchObject({ status: 413, code: "REQUEST_TOO_LARGE" });
    expect(invoke).not.toHaveBeenCalled();
  });
});

describe("what comes back", () => {
  test.each([
    ["an object", { data: { ok: true } }],
    ["text", '{"data":{"ok":true}}'],
  ])("%s is the same answer", async (_, body) => {
    const headers = { "Content-Type": ["application/graphql-response+json"] };
    const response = await ask(async () => ({ status: 200, headers, body }));
    expect(response.headers.get("content-type")).toBe("application/graphql-response+json");
    expect(await response.json()).toEqual({ data: { ok: true } });
  });

  test("our server's refusals keep their words", async () => {
    const body = { errors: [{ message: "A sentence.", extensions: { code: "FORBIDDEN" } }] };
    const response = await ask(async () => ({ status: 403, headers: {}, body }));
    expect(await seen(response)).toEqual({ status: 403, code: "FORBIDDEN", message: "A sentence." });
  });

  const unauthenticated = { errors: [{ message: "Sign in first.", extensions: { code: "UNAUTHENTICATED" } }] };
  test.each([
    ["401 from our server", { status: 401, headers: {}, body: { error: { code: "INVALID" } } }, "INVOCATION_REFUSED"],
    ["401 with an error of the API", { status: 401, headers: {}, body: unauthenticated }, "INVOCATION_REFUSED"],
    ["a token that names nobody", { status: 200, headers: {}, body: unauthenticated }, "INVOCATION_REFUSED"],
    ["403 from Bitbucket", { status: 403, headers: {}, body: "Forbidden" }, "NOT_ALLOWED_HERE"],
    ["413 from Bitbucket", { status: 413, headers: {}, body: {} }, "ANSWER_TOO_LARGE"],
    ["429 from Bitbucket", { status: 429, headers: {}, body: "" }, "TOO_MANY_REQUESTS"],
    ["nothing", undefined, "BRIDGE_FAILED"],
    ["an error without a status", { message: "Remote did not respond" }, "BRIDGE_FAILED"],
    ["a status that is none", { status: 0, headers: {}, body: {} }, "BRIDGE_FAILED"],
    ["a status as text", { status: "200", headers: {}, body: {} }, "BRIDGE_FAILED"],
  ])("%s", async (_, answer, code) => {
    expect(await seen(await ask(async () => answer))).toMatchObject({ code });
  });

  test.each([500, 502, 504])("%i stays what it is", async (status) => {
    const response = await ask(async () => ({ status, headers: { "content-type": "text/html" }, body: "<h1>x</h1>" }));
    expect(response.status).toBe(status);
  });

  test("an answer without a body", async () => {
    const response = await ask(async () => ({ status: 204, headers: {} }));
    expect(await response.text()).toBe("");
  });
});

describe("what goes wrong", () => {
  test("the bridge throws because the page asked too often", async () => {
    const invoke = () => Promise.reject(new Error("Remote invocation calls are rate limited at 500/25s"));
    expect(await seen(await ask(invoke))).toMatchObject({ status: 429, code: "TOO_MANY_REQUESTS" });
  });

  test("the bridge throws anything else, and nothing of it is read out", async () => {
    const result = await seen(await ask(() => Promise.reject(new Error("secret detail"))));
    expect(result).toMatchObject({ status: 502, code: "BRIDGE_FAILED" });
    expect(result.message).not.toContain("secret");
  });

  test("no answer in time", async () => {
    vi.useFakeTimers();
    const answer = ask(() => new Promise(() => {}));
    await vi.advanceTimersByTimeAsync(bridgeTimeout);
    expect(await seen(await answer)).toMatchObject({ status: 504, code: "TIMEOUT" });
    expect(vi.getTimerCount()).toBe(0);
  });

  test("nobody waits any more", async () => {
    const control = new AbortController();
    const answer = ask(() => new Promise(() => {}), { body: "{}", signal: control.signal });
    control.abort();
    await expect(answer).rejects.toMatchObject({ name: "AbortError" });
  });
});
