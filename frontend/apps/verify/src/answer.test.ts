import { expect, test, vi } from "vitest";
import { answering } from "./answer.ts";
import type { EvidenceVerifier } from "./evidence.ts";

/** What jsdom's File lacks. */
const file = (text: string) =>
  ({ name: text, arrayBuffer: async () => new TextEncoder().encode(text).buffer }) as unknown as File;

function verifier(name: string, deadly = ""): EvidenceVerifier {
  const read = (bytes: Uint8Array) => {
    const text = new TextDecoder().decode(bytes);
    if (deadly && text === deadly) throw new RangeError("Maximum call stack size exceeded");
    return text;
  };
  return {
    go: "go1",
    maxBundle: 100,
    kind: (bytes) => (read(bytes) === "anchors" ? "anchors" : "bundle"),
    problem: (bytes) => `${name} refuses ${read(bytes)}`,
    verify: (bytes, anchors) => ({
      exitCode: 2,
      sentence: `${name}: ${read(bytes)} against ${anchors ? read(anchors) : "nothing"}`,
      report: "{}",
    }),
  };
}

test("each question has its answer", async () => {
  const answer = answering(verifier("first"), () => Promise.reject(new Error("must not be started again")));
  expect(await answer({ id: 1, ask: "sort", file: file("anchors"), anchors: null })).toEqual({
    id: 1,
    result: "anchors",
  });
  expect(await answer({ id: 2, ask: "admit", file: file("x"), anchors: null })).toEqual({
    id: 2,
    result: "first refuses x",
  });
  expect(await answer({ id: 3, ask: "verify", file: file("abc"), anchors: file("anchors") })).toEqual({
    id: 3,
    result: {
      exitCode: 2,
      sentence: "first: abc against anchors",
      report: "{}",
      sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    },
  });
});

test("a file that cannot be read is no file that failed", async () => {
  const answer = answering(verifier("first"), vi.fn());
  const gone = { arrayBuffer: () => Promise.reject(new DOMException("gone", "NotFoundError")) } as unknown as File;
  for (const [bundle, anchors] of [
    [gone, null],
    [file("x"), gone],
  ] as const) {
    expect(await answer({ id: 1, ask: "verify", file: bundle, anchors })).toEqual({
      id: 1,
      problem: "The browser could not read this file.",
    });
  }
});

test("a verifier that stops on a file is replaced for the next", async () => {
  const start = vi.fn(async () => verifier("second"));
  const answer = answering(verifier("first", "deep"), start);
  const stopped = await answer({ id: 1, ask: "verify", file: file("deep"), anchors: null });
  expect(stopped).toEqual({ id: 1, problem: expect.stringContaining("Maximum call stack size exceeded") });
  expect(start).toHaveBeenCalledOnce();
  const next = await answer({ id: 2, ask: "verify", file: file("next"), anchors: null });
  expect(next).toMatchObject({ result: { sentence: "second: next against nothing" } });
});
