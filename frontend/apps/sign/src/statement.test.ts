import { bob, carol, olderHead } from "@signedapproval/graph/fixtures";
import { describe, expect, test } from "vitest";
import { hex, sha256 } from "./bytes.ts";
import { canonical, StatementMismatch } from "./prepared.ts";
import { checkStatement, commentCommitment, type Shown } from "./statement.ts";
import { commentSalt, personCommitment, prepared, shown, statementOf } from "./statementfixture.ts";

async function check(what: Shown, statement: unknown, text?: string, options?: Record<string, unknown>) {
  return await checkStatement(await prepared(statement, text, options), what);
}

async function difference(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error("it was accepted"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof StatementMismatch)) throw error;
  return error.difference;
}

describe("a statement that says what is shown", () => {
  test.each<[string, Partial<Shown>]>([
    ["approve", {}],
    ["reject, with a comment", { action: "REJECT", comment: "The coupon can be used twice." }],
    ["withdraw", { action: "WITHDRAW", withdraws: "7".repeat(64) }],
    ["override", { action: "OVERRIDE", comment: "The site is down." }],
    ["named approvers", { requirements: [{ name: "Security", quorum: 1, everyone: false, approvers: 1 }] }],
    [
      "two requirements",
      {
        requirements: [
          { name: "Approval", quorum: 2, everyone: true, approvers: 0 },
          { name: "Security", quorum: 1, everyone: false, approvers: 3 },
        ],
      },
    ],
    ["several merge bases", { mergeBases: ["1".repeat(40), olderHead].sort() }],
    ["a branch of other letters", { sourceBranch: "feature/größe-世界-\u202e" }],
  ])("is accepted: %s", async (_, like) => {
    const what = shown(like);
    const statement = await statementOf(what);
    const digest = hex(await sha256(new TextEncoder().encode(canonical(statement))));
    expect(await check(what, statement)).toBe(digest);
  });
});

describe("a statement that says something else is refused", () => {
  const other = "e".repeat(64);
  test.each<[string, (predicate: Record<string, unknown>) => void, string]>([
    ["another purpose", (p) => Object.assign(p, { purpose: "reject" }), "the purpose"],
    ["another relying party", (p) => Object.assign(p, { rpId: "evil.example" }), "the relying party"],
    ["another origin", (p) => Object.assign(p, { origin: "https://evil.example" }), "the origin"],
    ["another workspace", (p) => Object.assign(p, { workspace: "{x}" }), "the workspace"],
    ["another request", (p) => Object.assign(p, { request: "other" }), "the request"],
    ["another pull request", (p) => Object.assign(p, { pullRequest: 8 }), "the pull request"],
    ["another source branch", (p) => Object.assign(p["source"] as object, { branch: "x" }), "the source branch"],
    ["another source commit", (p) => Object.assign(p["source"] as object, { commit: olderHead }), "the head commit"],
    [
      "another destination branch",
      (p) => Object.assign(p["destination"] as object, { branch: "main" }),
      "the destination",
    ],
    [
      "another destination commit",
      (p) => Object.assign(p["destination"] as object, { commit: "f".repeat(40) }),
      "the destination",
    ],
    ["another repository", (p) => Object.assign(p["destination"] as object, { repository: "{x}" }), "the destination"],
    ["other merge bases", (p) => Object.assign(p, { mergeBases: [] }), "the merge base"],
    ["another diff", (p) => Object.assign(p["diff"] as object, { sha256: other }), "the diff"],
    ["another size of the diff", (p) => Object.assign(p["diff"] as object, { size: 5 }), "the diff"],
    ["another rule", (p) => Object.assign(p["policy"] as object, { ruleDigest: other }), "the rule"],
    [
      "a smaller quorum",
      (p) => Object.assign((p["requirements"] as object[])[0] as object, { quorum: 1 }),
      "the requirements",
    ],
    ["another meaning", (p) => Object.assign(p, { meaning: "I like cats." }), "the meaning"],
    ["a comment that nobody wrote", (p) => Object.assign(p, { comment: other }), "its parts"],
    ["a withdrawal inside an approval", (p) => Object.assign(p, { withdraws: other }), "its parts"],
    ["a part that the page does not know", (p) => Object.assign(p, { alsoApproves: "everything" }), "its parts"],
    ["a part that is missing", (p) => delete p["nonce"], "its parts"],
    ["an unknown part of the source", (p) => Object.assign(p["source"] as object, { extra: 1 }), "the source"],
  ])("%s", async (_, change, expected) => {
    const what = shown();
    const statement = await statementOf(what);
    change(statement.predicate);
    expect(await difference(check(what, statement))).toBe(expected);
  });

  test("a comment that was left out", async () => {
    expect(await difference(check(shown({ comment: "Mind the rounding." }), await statementOf(shown())))).toBe(
      "its parts",
    );
  });

  test.each([
    ["another text", "Mind the rounding!"],
    ["no text of this page", ""],
    ["the text with white space", "Mind the rounding. "],
  ])("a comment that commits to %s", async (_, exchanged) => {
    const what = shown({ comment: "Mind the rounding." });
    const statement = await statementOf(what);
    statement.predicate["comment"] = await commentCommitment(commentSalt, exchanged);
    expect(await difference(check(what, statement))).toBe("the comment");
  });

  test.each([
    ["none", null],
    ["another", "A".repeat(43)],
    ["a shorter one", "BwcH"],
    ["one that cannot be read", "!"],
  ])("a comment without the salt that opens it: %s", async (_, salt) => {
    const what = shown({ comment: "Mind the rounding." });
    const good = await prepared(await statementOf(what));
    expect(await difference(checkStatement({ ...good, commentSalt: salt }, what))).toBe("the comment");
  });

  test.each<[string, Record<string, unknown>]>([
    ["another account", { accountId: bob.accountId }],
    ["another name", { name: bob.name }],
  ])("an approver who is %s", async (_, like) => {
    const statement = await statementOf(shown({ signer: { ...carol, ...like } }));
    expect(await difference(check(shown(), statement))).toBe("who signs");
  });

  test.each([
    ["none", ""],
    ["another", "A".repeat(43)],
    ["a shorter one", "BwcH"],
    ["one that cannot be read", "!"],
  ])("an approver without the salt that opens who it is: %s", async (_, signerSalt) => {
    const good = await prepared(await statementOf(shown()));
    expect(await difference(checkStatement({ ...good, signerSalt }, shown()))).toBe("who signs");
  });

  test("an approver of whom more is said", async () => {
    const statement = await statementOf(shown());
    Object.assign(statement.predicate["approver"] as object, { more: 1 });
    expect(await difference(check(shown(), statement))).toBe("who signs");
  });

  test("a withdrawal of another decision", async () => {
    const statement = await statementOf(shown({ action: "WITHDRAW", withdraws: "8".repeat(64) }));
    const what = shown({ action: "WITHDRAW", withdraws: "7".repeat(64) });
    expect(await difference(check(what, statement))).toBe("the decision that is withdrawn");
  });

  test("another subject, or two", async () => {
    const statement = { ...(await statementOf(shown())), subject: [{ digest: { gitCommit: olderHead } }] };
    expect(await difference(check(shown(), statement))).toBe("the head commit");
    const two = await statementOf(shown());
    expect(
      await difference(check(shown(), { ...two, subject: [...(two["subject"] as []), ...(two["subject"] as [])] })),
    ).toBe("the head commit");
  });

  test("another type of statement", async () => {
    const statement = { ...(await statementOf(shown())), predicateType: "https://example.com/v2" };
    expect(await difference(check(shown(), statement))).toBe("its type");
  });

  test("the same text in another form", async () => {
    const statement = await statementOf(shown());
    const loose = JSON.stringify(statement, null, 1);
    expect(await difference(check(shown(), statement, loose))).toBe("it is not in canonical form");
    const twice = canonical(statement).replace('"purpose":"approve"', '"purpose":"reject","purpose":"approve"');
    expect(await difference(check(shown(), statement, twice))).toBe("it is not in canonical form");
  });

  test.each([
    ["not base64url", "!!", "it cannot be decoded"],
    ["not UTF-8", "_w", "it is not text"],
    ["not JSON", "eA", "it is not a document"],
    ["a list", "W10", "it is not a document"],
  ])("%s", async (_, statement, expected) => {
    const good = await prepared(await statementOf(shown()));
    expect(await difference(checkStatement({ ...good, statement }, shown()))).toBe(expected);
  });
});

describe("what the authenticator is asked", async () => {
  const statement = await statementOf(shown());

  test("must be these very bytes", async () => {
    const asked = { challenge: "A".repeat(43) };
    expect(await difference(check(shown(), statement, undefined, asked))).toBe("the challenge");
  });

  test("must be for this relying party", async () => {
    expect(await difference(check(shown(), statement, undefined, { rpId: "evil.example" }))).toBe("the relying party");
  });

  test("must include that it verifies the person", async () => {
    const asked = { userVerification: "discouraged" };
    expect(await difference(check(shown(), statement, undefined, asked))).toContain("verifies you");
  });

  test("must be readable", async () => {
    const asked = { ...(await prepared(statement)), options: "{" };
    expect(await difference(checkStatement(asked, shown()))).toContain("authenticator");
  });
});

test("canonical form sorts by UTF-16 code units and writes numbers and text as JSON does", () => {
  const value = {
    "\u20ac": 1,
    "\r": 2,
    "\ufb33": 3,
    "1": 4,
    "\u{1f600}": 5,
    "\u0080": 6,
    ö: 7,
    nested: [{ b: 1e21, a: '\u0001"' }],
  };
  expect(canonical(value)).toBe(
    '{"\\r":2,"1":4,"nested":[{"a":"\\u0001\\"","b":1e+21}],"\u0080":6,"ö":7,"\u20ac":1,"\u{1f600}":5,"\ufb33":3}',
  );
});

test("a commitment to a comment is the one that the server makes", async () => {
  // The value is that of the server's own test.
  const text = 'Nicht so: \u202e"größe"\n\t\u0001 世界 😀 <&>';
  expect(await commentCommitment("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc", text)).toBe(
    "72226d69c1b4754dc2e1a2e416727285626109f3afa299282599ac2a8f3dfae2",
  );
});

test("a commitment to a person is the one that the server makes", async () => {
  const who = { accountId: "557058:größe", name: '\u202e"世界" 😀 <&>' };
  expect(await personCommitment(who, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc")).toBe(
    "6376d1b2c919d792ca2d3c72d018443d7130b68674a49f6c7b09b858a4ea7f8b",
  );
});
