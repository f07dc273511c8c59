// @vitest-environment node
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { buildVerifier } from "../../../vite.verifier.ts";
import type { EvidenceVerifier, Outcome, Report } from "./evidence.ts";
import { run } from "./run.ts";

// The vectors that are published with the format: WebAssembly must come to what Go comes to.

interface Vector {
  exitCode: number;
  /** The step that fails. */
  step?: string;
  code?: string;
  sentence: string;
  anchors: Record<string, unknown>;
  bundle: string;
}

const folder = join(import.meta.dirname, "../../../../server/evidence/testdata/vectors/bundles");
const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
const vector = (name: string): Vector => JSON.parse(readFileSync(join(folder, name), "utf8"));
const bytes = (text: string) => new TextEncoder().encode(text);
const anchorsFile = (vector: Vector) =>
  bytes(JSON.stringify({ format: "signedapproval.anchors/v1", ...vector.anchors }));

let verifier: EvidenceVerifier;
beforeAll(async () => {
  verifier = await run(await WebAssembly.compile(await buildVerifier()));
}, 300_000);

test("there are vectors of each exit code that the format gives", () => {
  const codes = new Set(names.map((name) => vector(name).exitCode));
  expect(codes).toContain(1);
  expect(codes).toContain(2);
});

test.each(names)("%s", (name) => {
  const want = vector(name);
  const got = verifier.verify(bytes(want.bundle), anchorsFile(want)) as Outcome;
  const report: Report = JSON.parse(got.report);
  const failures = report.steps.filter((step) => step.result === "failed");
  const failed = failures.find((step) => step.code !== "stolen_key") ?? failures[0]; // what else is wrong is worse
  expect({ exitCode: got.exitCode, sentence: got.sentence, step: failed?.name, code: failed?.code }).toEqual({
    exitCode: want.exitCode,
    sentence: want.sentence,
    step: want.step,
    code: want.code,
  });
  expect(report.steps.map((step) => step.number)).toEqual(report.steps.map((_, i) => i + 1));
});

test("a bundle without anchors rests on the operator's word", () => {
  const { bundle } = vector("good-approved.json");
  const got = verifier.verify(bytes(bundle), null) as Outcome;
  expect(got.exitCode).toBe(2);
  expect((JSON.parse(got.report) as Report).missing).not.toHaveLength(0);
});

interface DocumentVector {
  kind: string;
  name: string;
  document: string;
  /** Characters that were taken out of the document. */
  run?: { at: number; character: string; times: number };
  anchors: object;
}

test("a receipt is verified as what it is", () => {
  const documents: DocumentVector[] = JSON.parse(readFileSync(join(folder, "../documents.json"), "utf8"));
  const receipts = documents.filter(({ kind }) => kind === "receipt");
  for (const { name, document, run = { at: 0, character: "", times: 0 }, anchors } of receipts) {
    const given = bytes(JSON.stringify({ format: "signedapproval.anchors/v1", ...anchors }));
    const whole = Buffer.from(document);
    const taken = bytes(run.character.repeat(run.times));
    const got = verifier.verify(Buffer.concat([whole.subarray(0, run.at), taken, whole.subarray(run.at)]), given);
    if (name === "good") expect(got).toMatchObject({ exitCode: 0, sentence: expect.stringMatching(/^RECORDED: /u) });
    if (name.startsWith("bad")) expect("exitCode" in got ? got.exitCode : 1, name).toBe(1);
  }
  expect(receipts.length).toBeGreaterThan(10);
});

test("files are told apart by what they say that they are", () => {
  const { bundle } = vector("good-approved.json");
  expect(verifier.kind(bytes(bundle))).toBe("bundle");
  expect(verifier.kind(bytes('{"format":"signedapproval.anchors/v9"}'))).toBe("anchors");
  expect(verifier.kind(bytes('{"format":"signedapproval.receipt/v1"}'))).toBe("receipt");
  for (const other of ["", "[]", '{"format":"something/v1"}', '{"format":1}', bundle.slice(0, -1), "\u0000\u0001"]) {
    expect(verifier.kind(bytes(other))).toBe("");
  }
});

test("anchors are refused with the reason", () => {
  expect(verifier.problem(bytes('{"format":"signedapproval.anchors/v1"}'))).toBe("");
  expect(verifier.problem(bytes("{}"))).toContain("format must be signedapproval.anchors/v1");
  expect(verifier.verify(bytes("{}"), bytes("{"))).toEqual({
    problem: expect.stringContaining("not a JSON document"),
  });
});
