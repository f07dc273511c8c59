import { describe, expect, test, vi } from "vitest";
import { openGraph } from "./client.ts";
import { failureOf } from "./failure.ts";
import { pullRequest, request, world } from "./fixtures.ts";
import {
  OtherRepositoriesDocument,
  PanelChangedDocument,
  PanelDocument,
  PanelRenewRequestDocument,
  RepositoriesDocument,
} from "./generated/graphql.ts";
import documents from "./generated/persisted-documents.json" with { type: "json" };
import { outOfSight, pause } from "./live.ts";
import { MockApi } from "./mockapi.ts";

const until = (check: () => void) => vi.waitFor(check, { timeout: 10_000 });
const variables = { workspace: "w", repository: "r", number: 7 };

function open(like = {}) {
  const api = new MockApi(world(like));
  return { api, ...openGraph({ fetch: api.fetch }) };
}

describe("requests", () => {
  test("name their document by its hash, and themselves in the address", async () => {
    const sent: { url: string; init: RequestInit }[] = [];
    const api = new MockApi(world());
    const { client } = openGraph({
      fetch: (url, init) => {
        sent.push({ url: String(url), init: init ?? {} });
        return api.fetch(url, init);
      },
    });
    await client.query(PanelDocument, variables).toPromise();
    const body = JSON.parse(String(sent[0]?.init.body));
    expect(sent[0]?.url).toBe("/graphql?Panel");
    expect(sent[0]?.init.method).toBe("POST");
    expect(body.query).toBeUndefined();
    expect(body.variables).toEqual(variables);
    expect((documents as Record<string, string>)[body.documentId]).toContain("query Panel(");
    // A query must never be answered by a stream.
    expect(new Headers(sent[0]?.init.headers).get("accept")).not.toContain("event-stream");
  });

  test("every document of the pages is registered under one name", () => {
    const names = Object.values(documents).map((text) => /(?:query|mutation|subscription) (\w+)/.exec(text)?.[1]);
    expect(names.every(Boolean)).toBe(true);
    expect(new Set(names).size).toBe(names.length);
  });

  test("a mutation has one variable, input, as the server's gate wants it", () => {
    for (const text of Object.values(documents).filter((text) => text.includes("mutation "))) {
      expect(text).toMatch(/mutation \w+\(\$input: \w+!\) \{ __typename \w+\(input: \$input\)/);
    }
  });
});

describe("the cache", () => {
  test("answers twice from one object", async () => {
    const { client, api } = open();
    await client.query(PanelDocument, variables).toPromise();
    const again = await client.query(PanelDocument, variables, { requestPolicy: "cache-only" }).toPromise();
    expect(again.data?.pullRequest?.id).toBe("pull-request-7");
    expect(api.calls).toHaveLength(1);
  });

  test("warns of no object without a key", async () => {
    const warn = vi.spyOn(console, "warn");
    const { client } = open();
    await client.query(PanelDocument, variables).toPromise();
    expect(warn).not.toHaveBeenCalled();
  });

  test("says nothing of a field before the server did, though it knows the object", async () => {
    const { client, api } = open();
    await client.query(RepositoriesDocument, { workspace: "acme" }).toPromise();
    const answers: unknown[] = [];
    const { unsubscribe } = client
      .query(OtherRepositoriesDocument, { workspace: "acme" })
      .subscribe((result) => answers.push(result.data?.workspace?.bitbucketRepositories));
    await until(() => expect(api.calls.at(-1)?.operation).toBe("OtherRepositories"));
    await until(() => expect(answers.at(-1)).toMatchObject({ edges: [{ cursor: "c0" }] }));
    expect(answers).not.toContain(null);
    unsubscribe();
  });

  test("a mutation's answer is new wherever the object is shown", async () => {
    const { client, api } = open();
    api.world.Mutation = { renewRequest: { request: request({ state: "PENDING", id: "request-1" }), userErrors: [] } };
    api.world.Query = { ...world().Query, pullRequest: pullRequest({ request: request({ state: "EXPIRED" }) }) };
    const states: unknown[] = [];
    const { unsubscribe } = client
      .query(PanelDocument, variables, { requestPolicy: "cache-first" })
      .subscribe((result) =>
        states.push((result.data?.pullRequest as { request?: { state: string } } | null)?.request?.state),
      );
    await until(() => expect(states).toContain("EXPIRED"));
    await client.mutation(PanelRenewRequestDocument, { input: { requestId: "request-1" } }).toPromise();
    await until(() => expect(states.at(-1)).toBe("PENDING"));
    unsubscribe();
  });
});

describe("live updates", () => {
  test("write into the cache what an event brings", async () => {
    const { client, api, live } = open();
    const sentences: unknown[] = [];
    const query = client.query(PanelDocument, variables, { requestPolicy: "cache-first" }).subscribe((result) => {
      sentences.push((result.data?.pullRequest as { sentence?: string } | null)?.sentence);
    });
    await until(() => expect(sentences).toHaveLength(1));
    const stream = client.subscription(PanelChangedDocument, { id: "pull-request-7" }).subscribe(() => {});
    await until(() => expect(live.state).toBe("live"));
    api.emit("PanelChanged", { pullRequestChanged: pullRequest({ sentence: "approved by Bob Tanaka", version: 4 }) });
    await until(() => expect(sentences.at(-1)).toBe("approved by Bob Tanaka"));
    stream.unsubscribe();
    await until(() => expect(api.listeners("PanelChanged")).toBe(0));
    query.unsubscribe();
  });

  test("are opened again when they break, and say so meanwhile", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const { client, api, live } = open();
    const states: string[] = [];
    live.subscribe(() => states.push(live.state));
    api.answer("PanelChanged", () => Promise.reject(new TypeError("network")));
    const stream = client.subscription(PanelChangedDocument, { id: "pull-request-7" }).subscribe(() => {});
    await until(() => expect(live.state).toBe("lost"));
    api.release("PanelChanged");
    await vi.advanceTimersByTimeAsync(2_000);
    vi.useRealTimers();
    await until(() => expect(live.state).toBe("live"));
    expect(states).toEqual(["lost", "live"]);
    stream.unsubscribe();
  });

  test("go on when the server ends a stream that has lived long enough", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const { client, api } = open();
    const over = 'event: next\ndata: {"data":{"pullRequestChanged":null}}\n\nevent: complete\ndata:\n\n';
    api.answer("PanelChanged", () => new Response(over, { headers: { "content-type": "text/event-stream" } }));
    const stream = client.subscription(PanelChangedDocument, { id: "pull-request-7" }).subscribe(() => {});
    const asked = () => api.calls.filter((call) => call.operation === "PanelChanged").length;
    await until(() => expect(asked()).toBe(1));
    await vi.advanceTimersByTimeAsync(5_000);
    vi.useRealTimers();
    expect(asked()).toBeGreaterThan(1);
    stream.unsubscribe();
  });

  test("rest while the page is out of sight, and make good what was missed when it is seen again", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const { client, api } = open();
    const seen: unknown[] = [];
    const stream = client
      .subscription(PanelChangedDocument, { id: "pull-request-7" })
      .subscribe((result) =>
        seen.push((result.data?.pullRequestChanged as { sentence?: string } | undefined)?.sentence),
      );
    await until(() => expect(seen).toHaveLength(1));
    const visibility = vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
    document.dispatchEvent(new Event("visibilitychange"));
    await vi.advanceTimersByTimeAsync(outOfSight - 1);
    expect(api.listeners("PanelChanged")).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    await until(() => expect(api.listeners("PanelChanged")).toBe(0));
    api.world.Subscription = { pullRequestChanged: pullRequest({ sentence: "approved by Bob Tanaka" }) };
    visibility.mockReturnValue("visible");
    document.dispatchEvent(new Event("visibilitychange"));
    vi.useRealTimers();
    await until(() => expect(seen.at(-1)).toBe("approved by Bob Tanaka"));
    stream.unsubscribe();
    await until(() => expect(api.listeners("PanelChanged")).toBe(0));
  });

  test("wait longer after each failed attempt, but never longer than half a minute", () => {
    expect([0, 1, 2, 3].map((attempt) => pause(attempt, () => 1))).toEqual([500, 1_000, 2_000, 4_000]);
    expect(pause(0, () => 0)).toBe(250);
    expect(pause(40, () => 1)).toBe(30_000);
  });
});

describe("failureOf", () => {
  async function refused(answer: () => Response | Promise<Response>) {
    const { client, api } = open();
    api.answer("Panel", answer);
    const { error } = await client.query(PanelDocument, variables).toPromise();
    return failureOf(error);
  }
  const body = (code: string, status: number) => () =>
    new Response(JSON.stringify({ errors: [{ message: "A sentence.", extensions: { code } }] }), {
      status,
      headers: { "content-type": "application/graphql-response+json" },
    });

  test.each([
    ["UNAUTHENTICATED", 401, "signed-out"],
    ["NOT_FOUND", 200, "denied"],
    ["FORBIDDEN", 403, "denied"],
    ["BITBUCKET_UNAVAILABLE", 200, "unavailable"],
    ["TOO_MANY_REQUESTS", 429, "unavailable"],
    ["PERSISTED_QUERY_NOT_FOUND", 400, "outdated"],
    ["BAD_USER_INPUT", 400, "refused"],
    ["QUORUM_UNREACHABLE", 200, "refused"],
  ])("%s with status %i is %s", async (code, status, kind) => {
    expect(await refused(body(code, status))).toEqual({ kind, code, message: "A sentence." });
  });

  test("an error without a code is the server's fault and not the reader's", async () => {
    const answer = () =>
      new Response('{"errors":[{"message":"x"}]}', { headers: { "content-type": "application/json" } });
    expect(await refused(answer)).toMatchObject({ kind: "unavailable" });
  });

  test("a proxy's page is not read out", async () => {
    const answer = () =>
      new Response("<h1>Bad gateway</h1>", { status: 502, headers: { "content-type": "text/html" } });
    const failure = await refused(answer);
    expect(failure?.kind).toBe("unavailable");
    expect(failure?.message).not.toContain("gateway");
  });

  test("no answer at all is told as such", async () => {
    const failure = await refused(() => Promise.reject(new TypeError("fetch failed")));
    expect(failure).toMatchObject({ kind: "unavailable", message: expect.stringContaining("cannot be reached") });
  });

  test("no error is no failure", () => {
    expect(failureOf(undefined)).toBeNull();
  });
});

test("the mock answers as the schema says: an object that lacks a field is an error", async () => {
  const { sentence: _, ...without } = pullRequest();
  const { client } = open({ pullRequest: without });
  const { error } = await client.query(PanelDocument, variables).toPromise();
  expect(error?.message).toContain("PullRequest.sentence");
});
