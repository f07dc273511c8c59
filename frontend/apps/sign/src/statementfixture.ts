// Statements as the server writes them, for tests.
import { carol, head, olderHead, repositoryUuid, workspaceUuid } from "@signedapproval/graph/fixtures";
import { sha256, toBase64Url } from "./bytes.ts";
import { canonical, commitmentTo, type Signer } from "./prepared.ts";
import { commentCommitment, meaningOf, type Shown } from "./statement.ts";

export function shown(like: Partial<Shown> = {}): Shown {
  return {
    action: "APPROVE",
    origin: "http://localhost:3000",
    signer: carol,
    relyingPartyId: "localhost",
    workspace: workspaceUuid,
    repository: repositoryUuid,
    request: "b7d3c1a2-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
    number: 7,
    sourceBranch: "feature/coupon-check",
    headCommit: head,
    destinationBranch: "release/1.0",
    destinationCommit: olderHead,
    mergeBases: [olderHead],
    diffSha256: "d".repeat(64),
    diffSize: 4,
    ruleDigest: "a".repeat(64),
    requirements: [{ name: "Approval", quorum: 2, everyone: true, approvers: 0 }],
    comment: "",
    withdraws: null,
    ...like,
  };
}

/** The salt under which statements of tests commit to their comments. */
export const commentSalt = toBase64Url(new Uint8Array(32).fill(7));

/** The salt under which statements of tests commit to who signs. */
export const signerSalt = toBase64Url(new Uint8Array(32).fill(8));

/** The commitment to somebody who signs. */
export function personCommitment({ accountId, name }: Signer, salt = signerSalt): Promise<string> {
  return commitmentTo(salt, { kind: "person", accountId, name }, "");
}

/** The statement that says exactly what is shown. */
export async function statementOf(
  what: Shown,
): Promise<Record<string, unknown> & { predicate: Record<string, unknown> }> {
  return {
    _type: "https://in-toto.io/Statement/v1",
    predicateType: "https://github.com/signedapproval/bitbucket/decision/v1",
    subject: [{ digest: { gitCommit: what.headCommit } }],
    predicate: {
      approver: { commitment: await personCommitment(what.signer), person: "person-carol" },
      author: { commitment: "2".repeat(64) },
      chainHead: { chain: "3".repeat(64), leaf: "4".repeat(64), sequence: 3 },
      destination: {
        branch: what.destinationBranch,
        commit: what.destinationCommit,
        repository: `{${what.repository}}`,
      },
      diff: { sha256: what.diffSha256, size: what.diffSize },
      ...times(),
      logHead: { root: "8".repeat(64), size: 40 },
      logOrigin: "localhost/log",
      meaning: meaningOf(what),
      mergeBases: [...what.mergeBases],
      nonce: "AAAAAAAAAAAAAAAAAAAAAA",
      origin: what.origin,
      policy: { digest: "5".repeat(64), ruleDigest: what.ruleDigest },
      pullRequest: what.number,
      purpose: what.action.toLowerCase(),
      request: what.request,
      requirements: what.requirements.map(({ name, quorum, everyone, approvers }) => ({
        name,
        quorum,
        approvers: everyone
          ? "anyone with write permission"
          : approvers === 1
            ? "1 named person"
            : `${approvers} named people`,
      })),
      roster: "9".repeat(64),
      rpId: what.relyingPartyId,
      source: { branch: what.sourceBranch, commit: what.headCommit, repository: `{${what.repository}}` },
      workspace: `{${what.workspace}}`,
      ...(what.comment && { comment: await commentCommitment(commentSalt, what.comment) }),
      ...(what.withdraws && { withdraws: what.withdraws }),
    },
  };
}

/** The times of what was prepared just now. */
export function times(now = Date.now()) {
  const text = (at: number) => `${new Date(at).toISOString().slice(0, 19)}Z`;
  return { issuedAt: text(now), expiresAt: text(now + 5 * 60_000) };
}

/** A statement and the options that ask an authenticator to sign it. */
export async function prepared(statement: unknown, text = canonical(statement), like: Record<string, unknown> = {}) {
  const bytes = new TextEncoder().encode(text);
  const options = {
    challenge: toBase64Url(await sha256(bytes)),
    rpId: "localhost",
    userVerification: "required",
    timeout: 300_000,
    allowCredentials: [{ type: "public-key", id: "AAAA" }],
    ...like,
  };
  return { statement: toBase64Url(bytes), options: JSON.stringify(options), signerSalt, commentSalt };
}
