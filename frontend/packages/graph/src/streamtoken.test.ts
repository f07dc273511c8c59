import { afterEach, describe, expect, test, vi } from "vitest";
import { openGraph } from "./client.ts";
import { pullRequest, world } from "./fixtures.ts";
import { PanelChangedDocument, PanelDocument } from "./generated/graphql.ts";
import { pollEvery } from "./live.ts";
import { type Call, MockApi, refusal } from "./mockapi.ts";
import { margin } from "./streamtoken.ts";

const until = (check: () => void) => vi.waitFor(check, { timeout: 10_000 });
const variables = { workspace: "w", repository: "r", number: 7 };
const streamOrigin = "https://app.example";
const life = 300_000;

afterEach(() => vi.useRealTimers());

/** The API behind Bitbucket's bridge, and the streams of our server beside it. */
function open() {
  const api = new MockApi(world());
  const made: string[] = [];
  api.world.Mutation = {
    createStreamToken: () => {
      made.push(`token-${made.length + 1}`);
      return { token: made.at(-1), expiresAt: new Date(Date.now() + life).toISOString(), userErrors: [] };
    },
  };
  const streams: { url: string; token: string | null; credentials: string | undefined }[] = [];
  const refused = new Set<string>();
  const stream = vi.fn<typeof fetch>(async (url, init) => {
    const token = new Headers(init?.headers).get("authorization");
    streams.push({ url: String(url), token, credentials: init?.credentials });
    if (refused.has(token ?? "")) return refusal(401, "TOKEN_INVALID", "This stream token is over.");
    return api.fetch(url, init);
  });
  const graph = openGraph({ fetch: api.fetch, stream, streamOrigin });
  const listen = () => graph.client.subscription(PanelChangedDocument, { id: "pull-request-7" }).subscribe(() => {});
  return { api, made, streams, refused, stream, listen, ...graph };
}

const asked = (api: MockApi, operation: string) => api.calls.filter((call: Call) => call.operation === operation);

describe("a stream where no session reaches", () => {
  test("is opened at our server with a token and no cookie", async () => {
    const { api, live, listen, streams } = open();
    const subscription = listen();
    await until(() => expect(live.state).toBe("live"));
    expect(streams).toEqual([
      { url: `${streamOrigin}/graphql?PanelChanged`, token: "Bearer token-1", credentials: "omit" },
    ]);
    expect(asked(api, "CreateStreamToken")).toEqual([{ operation: "CreateStreamToken", variables: { input: {} } }]);
    subscription.unsubscribe();
  });

  test("shares its token with the next ones for as long as it is good, and takes another before it dies", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const { live, listen, streams, made } = open();
    const first = listen();
    await until(() => expect(live.state).toBe("live"));
    first.unsubscribe();
    // Short of it by what waiting for the streams takes.
    vi.advanceTimersByTime(life - margin - 30_000);
    const second = listen();
    await until(() => expect(streams).toHaveLength(2));
    second.unsubscribe();
    expect(made).toEqual(["token-1"]);
    vi.advanceTimersByTime(30_000);
    const third = listen();
    await until(() => expect(streams).toHaveLength(3));
    expect(streams.at(-1)?.token).toBe("Bearer token-2");
    third.unsubscribe();
  });

  test("asks once where several open at the same time", async () => {
    const { client, made, streams } = open();
    const both = ["pull-request-7", "pull-request-8"].map((id) =>
      client.subscription(PanelChangedDocument, { id }).subscribe(() => {}),
    );
    await until(() => expect(streams).toHaveLength(2));
    expect(made).toEqual(["token-1"]);
    for (const { unsubscribe } of both) unsubscribe();
  });

  test("exchanges a token that the server does not know any more", async () => {
    const { live, listen, refused, streams } = open();
    refused.add("Bearer token-1");
    const subscription = listen();
    await until(() => expect(live.state).toBe("live"));
    expect(streams.map(({ token }) => token)).toEqual(["Bearer token-1", "Bearer token-2"]);
    subscription.unsubscribe();
  });

  test("takes a proxy's page for no stream", async () => {
    const { live, listen, stream } = open();
    stream.mockResolvedValue(new Response("<h1>Sign in</h1>", { headers: { "content-type": "text/html" } }));
    const subscription = listen();
    await until(() => expect(live.state).toBe("lost"));
    subscription.unsubscribe();
  });
});

describe("a page without a stream", () => {
  function withoutStream() {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const setup = open();
    setup.stream.mockRejectedValue(new TypeError("blocked"));
    const sentences: unknown[] = [];
    const query = setup.client.query(PanelDocument, variables, { requestPolicy: "cache-first" }).subscribe((result) => {
      sentences.push((result.data?.pullRequest as { sentence?: string } | null | undefined)?.sentence);
    });
    const subscription = setup.listen();
    const close = () => {
      subscription.unsubscribe();
      query.unsubscribe();
    };
    return { ...setup, sentences, close };
  }

  test("asks every few seconds, and says so", async () => {
    const { api, live, sentences, close } = withoutStream();
    await until(() => expect(sentences).toHaveLength(1));
    api.world.Query = {
      ...world().Query,
      pullRequest: pullRequest({ sentence: "approved by Bob Tanaka", version: 4 }),
    };
    await vi.advanceTimersByTimeAsync(pollEvery);
    expect(live.state).toBe("polled");
    await until(() => expect(sentences.at(-1)).toBe("approved by Bob Tanaka"));
    close();
  });

  test.each([
    ["BRIDGE_FAILED", 502],
    ["TIMEOUT", 504],
    ["TOO_MANY_REQUESTS", 429],
  ])("keeps what it shows while it cannot be answered: %s", async (code, status) => {
    const { api, sentences, close } = withoutStream();
    await until(() => expect(sentences).toHaveLength(1));
    api.refuse("Panel", code, "Not now.", status);
    await vi.advanceTimersByTimeAsync(pollEvery);
    await until(() => expect(asked(api, "Panel").length).toBeGreaterThan(1));
    expect(sentences.at(-1)).toBe(pullRequest()["sentence"]);
    close();
  });

  test("asks nothing while it is out of sight, nor once nobody listens", async () => {
    const { api, sentences, close } = withoutStream();
    await until(() => expect(sentences).toHaveLength(1));
    const visibility = vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
    await vi.advanceTimersByTimeAsync(3 * pollEvery);
    expect(asked(api, "Panel")).toHaveLength(1);
    visibility.mockReturnValue("visible");
    close();
    await vi.advanceTimersByTimeAsync(3 * pollEvery);
    expect(asked(api, "Panel")).toHaveLength(1);
  });

  test("stops asking as soon as a stream opens", async () => {
    const { api, live, sentences, stream, close } = withoutStream();
    await until(() => expect(sentences).toHaveLength(1));
    await vi.advanceTimersByTimeAsync(pollEvery);
    stream.mockImplementation(api.fetch);
    await vi.advanceTimersByTimeAsync(40_000);
    await until(() => expect(live.state).toBe("live"));
    const before = asked(api, "Panel").length;
    await vi.advanceTimersByTimeAsync(3 * pollEvery);
    expect(asked(api, "Panel")).toHaveLength(before);
    close();
  });
});
