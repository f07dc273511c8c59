import type { DecisionAction } from "@signedapproval/graph/generated/graphql.ts";
import { fromBase64Url, hex, hmacSha256, sha256, toBase64Url } from "./bytes.ts";
import { checkTimes } from "./times.ts";

/** What the page shows, and so what a signature made on it may say. */
export interface Shown {
  action: DecisionAction;
  /** The origin in the address bar. */
  origin: string;
  relyingPartyId: string;
  /** The Bitbucket UUID, without braces. */
  workspace: string;
  /** The Bitbucket UUID, without braces. */
  repository: string;
  /** Our id of the request, as its evidence path ends with. */
  request: string;
  number: number;
  sourceBranch: string;
  headCommit: string;
  destinationBranch: string;
  destinationCommit: string;
  mergeBases: readonly string[];
  /** SHA-256 of the bytes that are rendered, lower-case hex, and their number. */
  diffSha256: string;
  diffSize: number;
  ruleDigest: string;
  requirements: readonly ShownRequirement[];
  comment: string;
  /** The statement's hash of the viewer's decision that stands; for a withdrawal. */
  withdraws: string | null;
}

/** A requirement of the rule as the page puts it into words. */
export interface ShownRequirement {
  name: string;
  quorum: number;
  everyone: boolean;
  approvers: number;
}

/** What the server prepared. */
export interface Prepared {
  /** The statement's bytes, base64url. */
  statement: string;
  /** What the authenticator is asked, JSON. */
  options: string;
  /** What opens the commitment to the comment, base64url; null without a comment. */
  commentSalt: string | null | undefined;
}

/** What was prepared does not say what the page shows: it must not be signed. */
export class StatementMismatch extends Error {
  /** What differs, in words. */
  readonly difference: string;

  constructor(difference: string) {
    super(`the statement differs from what is shown: ${difference}`);
    this.difference = difference;
  }
}

const statementType = "https://in-toto.io/Statement/v1";
const predicateType = "https://github.com/signedapproval/bitbucket/decision/v1";

// Every member that a statement may have, so that nobody signs what the page does not know.
const always = [
  "approver",
  "author",
  "chainHead",
  "destination",
  "diff",
  "expiresAt",
  "issuedAt",
  "logHead",
  "logOrigin",
  "meaning",
  "mergeBases",
  "nonce",
  "origin",
  "policy",
  "pullRequest",
  "purpose",
  "request",
  "requirements",
  "roster",
  "rpId",
  "source",
  "workspace",
];

/**
 * Checks that the prepared bytes say exactly what the page shows and that the authenticator is asked to sign exactly
 * these bytes. Gives the statement's SHA-256 in hex; throws {@link StatementMismatch} otherwise, and a refusal where it
 * was not made just now or holds for too long. What only the server knows (who the approver is, the chain, the log, the
 * roster, the nonce) is not compared.
 */
export async function checkStatement({ statement, options, commentSalt }: Prepared, shown: Shown): Promise<string> {
  const bytes = read(() => fromBase64Url(statement), "it cannot be decoded");
  const text = read(() => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), "it is not text");
  const whole = read(() => object(JSON.parse(text)), "it is not a document");
  // One form only: no member twice, no order or white space in which something could hide.
  expect(canonical(whole) === text, "it is not in canonical form");

  expectMembers(whole, ["_type", "predicate", "predicateType", "subject"], "its outermost part");
  expect(whole["_type"] === statementType && whole["predicateType"] === predicateType, "its type");
  const predicate = object(whole["predicate"]);
  const optional = [shown.comment && "comment", shown.action === "WITHDRAW" && "withdraws"].filter(Boolean) as string[];
  expectMembers(predicate, [...always, ...optional], "its parts");

  const subject = [{ digest: { gitCommit: shown.headCommit } }];
  expect(same(whole["subject"], subject), "the head commit");
  expect(predicate["purpose"] === shown.action.toLowerCase(), "the purpose");
  expect(predicate["rpId"] === shown.relyingPartyId, "the relying party");
  expect(predicate["origin"] === shown.origin, "the origin");
  expect(predicate["workspace"] === `{${shown.workspace}}`, "the workspace");
  expect(predicate["request"] === shown.request, "the request");
  expect(predicate["pullRequest"] === shown.number, "the pull request");
  const source = object(predicate["source"]);
  expectMembers(source, ["branch", "commit", "repository"], "the source");
  expect(source["branch"] === shown.sourceBranch, "the source branch");
  expect(source["commit"] === shown.headCommit, "the head commit");
  const destination = {
    repository: `{${shown.repository}}`,
    branch: shown.destinationBranch,
    commit: shown.destinationCommit,
  };
  expect(same(predicate["destination"], destination), "the destination");
  expect(same(predicate["mergeBases"], shown.mergeBases), "the merge base");
  expect(same(predicate["diff"], { sha256: shown.diffSha256, size: shown.diffSize }), "the diff");
  expect(object(predicate["policy"])["ruleDigest"] === shown.ruleDigest, "the rule");
  expect(same(predicate["requirements"], shown.requirements.map(inStatement)), "the requirements");
  expect(predicate["meaning"] === meaningOf(shown), "the meaning");
  expectMembers(object(predicate["logHead"]), ["root", "size"], "the head of the log");
  if (shown.action === "WITHDRAW") expect(predicate["withdraws"] === shown.withdraws, "the decision that is withdrawn");
  if (shown.comment) {
    const opened = await commentCommitment(commentSalt ?? "", shown.comment);
    expect(predicate["comment"] === opened, "the comment");
  }

  const digest = await sha256(bytes);
  const asked = read(() => object(JSON.parse(options)), "the request to the authenticator");
  expect(asked["challenge"] === toBase64Url(digest), "the challenge");
  expect(asked["rpId"] === shown.relyingPartyId, "the relying party");
  expect(asked["userVerification"] === "required", "the demand that the authenticator verifies you");
  checkTimes("decision", predicate);
  return hex(digest);
}

const saltSize = 32;

/** What a statement commits to a comment with, as the server computes it: the text cannot be exchanged afterwards. */
export async function commentCommitment(salt: string, text: string): Promise<string> {
  const key = read(() => fromBase64Url(salt), "the comment");
  expect(key.length === saltSize, "the comment");
  return hex(await hmacSha256(key, new TextEncoder().encode(canonical({ kind: "comment", text }))));
}

/** The sentence that a signature says. */
export function meaningOf(shown: Pick<Shown, "action" | "headCommit" | "number" | "destinationBranch">): string {
  const { headCommit, number, destinationBranch } = shown;
  const subject = `commit ${headCommit} of pull request ${number} into branch ${destinationBranch}`;
  const says = {
    APPROVE: `I approve merging ${subject}.`,
    REJECT: `I reject merging ${subject}.`,
    WITHDRAW: `I withdraw my decision on ${subject}.`,
    OVERRIDE: `I override the rule and let ${subject} be merged without its approvals.`,
  };
  return says[shown.action];
}

function inStatement({ name, quorum, everyone, approvers }: ShownRequirement) {
  const people = approvers === 1 ? "1 named person" : `${approvers} named people`;
  return { name, quorum, approvers: everyone ? "anyone with write permission" : people };
}

function expect(holds: boolean, difference: string): asserts holds {
  if (!holds) throw new StatementMismatch(difference);
}

function expectMembers(value: Record<string, unknown>, names: readonly string[], where: string) {
  expect(same(Object.keys(value).sort(), [...names].sort()), where);
}

function read<T>(reading: () => T, difference: string): T {
  try {
    return reading();
  } catch {
    throw new StatementMismatch(difference);
  }
}

function object(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new StatementMismatch("its form");
  return value as Record<string, unknown>;
}

function same(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b);
}

/** RFC 8785: the numbers and strings of JSON.stringify, members sorted by their UTF-16 code units. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}
