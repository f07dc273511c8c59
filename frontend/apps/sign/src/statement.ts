import type { DecisionAction } from "@signedapproval/graph/generated/graphql.ts";
import {
  checkSigner,
  commitmentTo,
  expect,
  expectMembers,
  object,
  type Prepared,
  readPrepared,
  type Signer,
  same,
} from "./prepared.ts";
import { checkTimes } from "./times.ts";

/** What the server prepared of a decision. */
export interface PreparedDecision extends Prepared {
  /** What opens the commitment to the comment, base64url; null without a comment. */
  commentSalt: string | null | undefined;
}

/** What the page shows, and so what a signature made on it may say. */
export interface Shown {
  action: DecisionAction;
  /** The origin in the address bar. */
  origin: string;
  signer: Signer;
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
 * was not made just now or holds for too long. What only the server knows (our id of the approver, who the author is, the chain, the log, the
 * roster, the nonce) is not compared.
 */
export async function checkStatement(prepared: PreparedDecision, shown: Shown): Promise<string> {
  const { predicate, subject, digest } = await readPrepared(prepared, predicateType);
  const optional = [shown.comment && "comment", shown.action === "WITHDRAW" && "withdraws"].filter(Boolean) as string[];
  expectMembers(predicate, [...always, ...optional], "its parts");

  expect(same(subject, [{ digest: { gitCommit: shown.headCommit } }]), "the head commit");
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
  await checkSigner(predicate["approver"], prepared.signerSalt, shown.signer);
  if (shown.comment) {
    const opened = await commentCommitment(prepared.commentSalt ?? "", shown.comment);
    expect(predicate["comment"] === opened, "the comment");
  }

  checkTimes("decision", predicate);
  return digest;
}

/** What a statement commits to a comment with. */
export function commentCommitment(salt: string, text: string): Promise<string> {
  return commitmentTo(salt, { kind: "comment", text }, "the comment");
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
