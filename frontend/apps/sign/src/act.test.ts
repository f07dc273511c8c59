import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bob, carol } from "@signedapproval/graph/fixtures";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Announced, KeyDocument } from "./act.ts";
import { actOf, documentOf, enrolOf, type Statement } from "./actfixture.ts";
import { canonical, digestOf, type Signer } from "./prepared.ts";
import { Refusal } from "./refusal.ts";
import { signAct } from "./sign.ts";
import { personCommitment, prepared, times } from "./statementfixture.ts";
import { signWithPasskey } from "./webauthn.ts";

vi.mock("./webauthn.ts", async (original) => ({
  ...(await original<typeof import("./webauthn.ts")>()),
  signWithPasskey: vi.fn(async () => "SIGNED"),
}));
const authenticator = vi.mocked(signWithPasskey);
beforeEach(() => void authenticator.mockClear());
afterEach(() => void vi.useRealTimers());

async function sign(
  act: Statement,
  announced: Announced,
  options: Record<string, unknown> = {},
  signer: Signer = carol,
) {
  return await signAct(await prepared(act, canonical(act), options), announced, signer);
}

/** In what an act is refused; nothing was signed then. */
async function refused(
  act: Statement,
  announced: Announced,
  options?: Record<string, unknown>,
  signer?: Signer,
): Promise<string> {
  const error = await sign(act, announced, options, signer).then(
    () => new Error("it was signed"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof Refusal)) throw error;
  expect(authenticator).not.toHaveBeenCalled();
  expect(error.code).toBe("STATEMENT_MISMATCH");
  return error.message.replace("What was prepared for signing differs from this page in ", "");
}

const workspace = "5c9f2b1e-0d3a-4b7c-8e6f-1a2b3c4d5e6f";
const since = "2026-11-01T09:00:00Z";
const other = "e".repeat(64);
const of = { workspace: `{${workspace}}`, roster: "9".repeat(64) };
const carols = await documentOf("person-carol");
const bobs = await documentOf("person-bob", 5);
const bobsKey = await digestOf(bobs.key);
const made = (document: KeyDocument) => {
  const { person: _, ...key } = document.key;
  return { ...document, key };
};

/** Every kind of act that a page has signed: what it announces, and the act that says it. */
const kinds: [string, Announced, Statement][] = [
  ["enrol", { purpose: "enrol", key: made(carols) }, await enrolOf(carols)],
  [
    "countersign",
    { purpose: "countersign", workspace, key: bobs },
    await actOf(
      {
        purpose: "countersign",
        ...of,
        key: bobs,
        meaning: `I countersign that the key ${bobsKey} belongs to person person-bob.`,
      },
      bobs,
    ),
  ],
  await revocation("revoke a key of one's own", null, "person-carol"),
  await revocation("report a key of one's own", null, "person-carol", since),
  await revocation("revoke a member's key", workspace, "person-bob"),
  await revocation("report a member's key", workspace, "person-bob", since),
  await policy(
    "a policy",
    { policy: "d".repeat(64), previous: "c".repeat(64) },
    `I agree that policy ${"d".repeat(64)} becomes version 2 of repository {r}.`,
  ),
  await policy("no policy any more", { previous: "c".repeat(64) }, "I agree that repository {r} is gated no longer."),
  await protection("protect", 2, ["person-bob", "person-carol"], "by the signatures of 2 of 2 people"),
  await protection("protect no more", 0, [], "without signatures"),
];

async function revocation(
  name: string,
  where: string | null,
  person: string,
  time?: string,
): Promise<[string, Announced, Statement]> {
  const document = { person, key: bobsKey, ...(time && { compromisedSince: time }) };
  const meaning = `I revoke the key ${bobsKey} of person ${person}${time ? `, which may have been in other hands since ${time}` : ""}.`;
  const act = await actOf({ purpose: "revoke", revocation: document, meaning, ...(where && of) }, document);
  return [name, { purpose: "revoke", workspace: where, revocation: document }, act];
}

async function policy(name: string, like: object, meaning: string): Promise<[string, Announced, Statement]> {
  const document = { repository: "{r}", version: 2, ...like };
  const act = await actOf({ purpose: "policy", ...of, policy: document, meaning }, document);
  return [name, { purpose: "policy", workspace, policy: document }, act];
}

async function protection(
  name: string,
  quorum: number,
  people: string[],
  how: string,
): Promise<[string, Announced, Statement]> {
  const document = { version: 2, previous: "c".repeat(64), quorum, people };
  const meaning = `I agree that the rules of workspace {${workspace}} can be changed ${how}.`;
  const act = await actOf({ purpose: "protect", ...of, protection: document, meaning }, document);
  return [name, { purpose: "protect", workspace, protection: document }, act];
}

/** The places of everything in a document that is no object or list, and of each of those that is empty. */
function leaves(value: unknown, path: string[] = []): string[][] {
  if (typeof value !== "object" || value === null) return [path];
  const inside = Object.entries(value).flatMap(([name, member]) => leaves(member, [...path, name]));
  return inside.length > 0 ? inside : [path];
}

/** A copy in which the value at a place is another one, or gone, or beside one more. */
function changed(act: Statement, path: string[], how: "another" | "gone" | "more"): Statement {
  const copy = structuredClone(act);
  let parent = copy as Record<string, unknown>;
  for (const name of path.slice(0, -1)) parent = parent[name] as Record<string, unknown>;
  const last = path.at(-1) ?? "";
  const value = parent[last];
  if (how === "gone" && Array.isArray(parent)) parent.splice(Number(last), 1);
  else if (how === "gone") delete parent[last];
  else if (how === "more") parent["more"] = other;
  else if (typeof value === "boolean") parent[last] = !value;
  else if (typeof value === "number") parent[last] = value + 1;
  else if (Array.isArray(value)) parent[last] = [other];
  else parent[last] = other;
  return copy;
}

/** What the page cannot compare: the server alone knows it. */
const servers = ["logOrigin", "nonce", "roster", "signer.person"];

describe.each(kinds)("%s", (_, announced, act) => {
  test("is signed where it says what was announced", async () => {
    expect(await sign(act, announced)).toEqual({ response: "SIGNED", statementSha256: await digestOf(act) });
  });

  const places = leaves(act).map((path) => path.join("."));
  const compared = places.filter((path) => !servers.some((name) => path === `predicate.${name}`));
  test.each(compared)("is not signed with another %s, or without it", async (path) => {
    const at = path.split(".");
    const time = /issuedAt|expiresAt/.test(path);
    if (!time) await refused(changed(act, at, "another"), announced);
    for (const how of ["gone", "more"] as const) {
      const copy = changed(act, at, how);
      // Times have words of their own.
      if (canonical(copy) !== canonical(act)) await refused(copy, announced);
    }
  });

  test("is not signed for another account than the viewer's, or another name", async () => {
    for (const signer of [bob, { ...carol, name: bob.name }, { ...carol, accountId: bob.accountId }]) {
      expect(await refused(act, announced, {}, signer)).toBe("who signs.");
    }
    const { statement, options } = await prepared(act);
    for (const signerSalt of ["", "!", "A".repeat(43), "BwcH"]) {
      await expect(signAct({ statement, options, signerSalt }, announced, carol)).rejects.toThrow("who signs");
    }
    expect(authenticator).not.toHaveBeenCalled();
  });

  test("is not signed for another kind of act that was announced", async () => {
    for (const [, another, its] of kinds) {
      if (canonical(its) !== canonical(act)) await refused(act, another);
    }
  });

  test.each([
    ["challenge", { challenge: "A".repeat(43) }, "the challenge."],
    ["relying party", { rpId: "evil.example" }, "the relying party."],
    ["demand for verification", { userVerification: "preferred" }, "the demand that the authenticator verifies you."],
  ])("is not signed where the authenticator is asked with another %s", async (_, options, difference) => {
    expect(await refused(act, announced, options)).toBe(difference);
  });

  test("is not signed when it is dated in the future", async () => {
    const late = structuredClone(act);
    Object.assign(late.predicate, times(Date.now() + 3_600_000));
    await expect(sign(late, announced)).rejects.toMatchObject({ code: "STATEMENT_TIME" });
    expect(authenticator).not.toHaveBeenCalled();
  });
});

describe("a whole and sound act about something else is named in words", () => {
  const ghosts = { ...carols, key: { ...bobs.key, person: "person-carol" } };
  test.each<[string, Announced, Promise<Statement>, string]>([
    ["a ghost's key under one's own name", { purpose: "enrol", key: made(carols) }, enrolOf(ghosts), "the key."],
    [
      "another public key under the credential that was made",
      { purpose: "enrol", key: made(carols) },
      enrolOf({ ...carols, key: { ...carols.key, publicKey: bobs.key.publicKey } }),
      "the key.",
    ],
    [
      "another attestation",
      { purpose: "enrol", key: made(carols) },
      enrolOf({ ...carols, attestationObject: other }),
      "the key.",
    ],
    [
      "a revocation that leaves out the time that was typed",
      { purpose: "revoke", workspace, revocation: { person: "person-bob", key: bobsKey, compromisedSince: since } },
      revocation("", workspace, "person-bob").then(([, , act]) => act),
      "since when somebody else may have had the key.",
    ],
    [
      "a revocation with a time that nobody typed",
      { purpose: "revoke", workspace, revocation: { person: "person-bob", key: bobsKey } },
      revocation("", workspace, "person-bob", since).then(([, , act]) => act),
      "since when somebody else may have had the key.",
    ],
    [
      "a revocation with another time",
      { purpose: "revoke", workspace, revocation: { person: "person-bob", key: bobsKey, compromisedSince: since } },
      revocation("", workspace, "person-bob", "2026-11-21T09:00:00Z").then(([, , act]) => act),
      "since when somebody else may have had the key.",
    ],
    [
      "another person's key of that digest",
      { purpose: "revoke", workspace, revocation: { person: "person-dana", key: bobsKey } },
      revocation("", workspace, "person-bob").then(([, , act]) => act),
      "whose key it is.",
    ],
    [
      "somebody else's key as one's own",
      { purpose: "revoke", workspace: null, revocation: { person: "person-bob", key: bobsKey } },
      revocation("", null, "person-bob").then(([, , act]) => act),
      "whose key it is.",
    ],
  ])("%s", async (_, announced, act, difference) => {
    expect(await refused(await act, announced)).toBe(difference);
  });
});

test("acts are those that the evidence format has", async () => {
  const file = join(import.meta.dirname, "../../../../server/evidence/testdata/vectors/documents.json");
  const vectors: { kind: string; name: string; code: string; document: string }[] = JSON.parse(
    readFileSync(file, "utf8"),
  );
  const good = vectors.filter(({ kind, code }) => kind === "act" && !code);
  expect(good.map(({ name }) => name.replace("good ", "")).sort()).toEqual([
    "countersign",
    "enrol",
    "policy",
    "policy, gated no more",
    "protect",
    "protect no more",
    "revoke",
    "revoke somebody else's",
  ]);
  for (const { document } of good) {
    const act: Statement = JSON.parse(document.replaceAll("https://approve.example", window.location.origin));
    const { purpose, workspace: where } = act.predicate;
    const documents = ["key", "revocation", "policy", "protection"];
    const said = Object.fromEntries(Object.entries(act.predicate).filter(([name]) => documents.includes(name)));
    Object.assign(act.predicate["signer"] as object, { commitment: await personCommitment(carol) });
    if (purpose === "enrol") said["key"] = made(said["key"] as KeyDocument);
    const uuid = typeof where === "string" ? where.slice(1, -1) : null;
    const announced = { purpose, workspace: uuid, ...said } as unknown as Announced;
    await sign(act, announced, { rpId: act.predicate["rpId"] });
  }
  expect(authenticator).toHaveBeenCalledTimes(good.length);
});

test("one place alone asks an authenticator for a signature", () => {
  const sources = import.meta.glob("../../../{apps,packages}/*/src/**/*.{ts,tsx}", {
    query: "?raw",
    import: "default",
    eager: true,
  });
  const having = (text: RegExp) =>
    Object.entries(sources)
      .filter(([path, source]) => text.test(String(source)) && !/\.test\.|fixture/.test(path))
      .map(([path]) => path.split("/").at(-1))
      .sort();
  expect(Object.keys(sources).length).toBeGreaterThan(100);
  expect(having(/navigator\s*\.?\s*\[?["']?credentials/)).toEqual(["webauthn.ts"]);
  expect(having(/signWithPasskey/)).toEqual(["sign.ts", "webauthn.ts"]);
});
