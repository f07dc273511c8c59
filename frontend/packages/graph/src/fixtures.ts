// Objects of the schema for tests: people and repositories of a workspace called acme. Each function takes what a test
// wants otherwise.

/** A function of the schema's objects: what it is given replaces what it has. */
type Like = Record<string, unknown>;

export const head = "4f2a9c7be1d05386f7a1c3e59b0d2846aa31c9e7";
export const olderHead = "0c81d6f3a94b7e2505c6aa1bd9e8347f62b0175d";
export const workspaceUuid = "3f2b8a10-6f0e-4a55-9d7c-1b2f3e4d5c6b";
export const repositoryUuid = "9a1c7d42-0b6e-4f38-8e21-7c5d4b3a2f10";
export const place = `${workspaceUuid}/${repositoryUuid}/7`;

export const alice = { accountId: "557058:alice", name: "Alice Moreau" };
export const bob = { accountId: "557058:bob", name: "Bob Tanaka" };
export const carol = { accountId: "557058:carol", name: "Carol Okafor" };

export function connectionOf(nodes: Like[], hasNextPage = false) {
  return {
    edges: nodes.map((node, index) => ({ cursor: `c${index}`, node })),
    pageInfo: { hasNextPage, endCursor: nodes.length > 0 ? `c${nodes.length - 1}` : null },
  };
}

export function rule(like: Like = {}) {
  return {
    name: "Release branches",
    branches: ["release/*", "!release/old"],
    requirements: [{ name: "Approval", quorum: 2, everyone: true, approvers: [] }],
    authorMayApprove: false,
    expiresAfterSeconds: 604_800,
    override: null,
    autoMerge: null,
    keys: null,
    cosignatures: 0,
    digest: "a".repeat(64),
    ...like,
  };
}

export function viewerCan(like: Like = {}) {
  return {
    approve: true,
    reject: true,
    withdraw: false,
    renew: false,
    code: "",
    reason: "",
    override: false,
    overrideCode: "NO_OVERRIDE",
    overrideReason: "This rule cannot be overridden.",
    ...like,
  };
}

export function requirement(like: Like = {}) {
  return {
    name: "Approval",
    quorum: 2,
    missing: 1,
    approvedBy: [bob],
    canStillApprove: [carol],
    ignored: [],
    ...like,
  };
}

export function decision(like: Like = {}) {
  return {
    __typename: "Decision",
    id: "decision-1",
    account: bob,
    action: "APPROVE",
    comment: "",
    decidedAt: "2026-11-22T09:30:00.000000Z",
    ruleDigest: "a".repeat(64),
    statementSha256: "5".repeat(64),
    leafHash: "6".repeat(64),
    receiptPath: "/evidence/workspace/receipts/decision",
    ...like,
  };
}

export function request(like: Like = {}): Like {
  return {
    __typename: "ApprovalRequest",
    id: "request-1",
    round: 1,
    state: "PENDING",
    sentence: "1 of 2 approvals; waiting for Carol Okafor",
    headCommit: head,
    destinationBranch: "release/1.0",
    rule: rule(),
    requirements: [requirement()],
    override: null,
    rejectedBy: [],
    decisions: [decision()],
    requestedAt: "2026-11-22T09:00:00.000000Z",
    expiresAt: "2026-11-29T09:00:00.000000Z",
    viewerCan: viewerCan(),
    keyProblem: null,
    signPath: `/sign/${place}`,
    pullRequest: () => pullRequest(),
    evidencePath: `/evidence/${workspaceUuid}/b7d3c1a2-4e5f-4a6b-8c7d-9e0f1a2b3c4d`,
    diff: null,
    ...like,
  };
}

export function pullRequest(like: Like = {}): Like {
  return {
    __typename: "PullRequest",
    id: "pull-request-7",
    repository: repository(),
    number: 7,
    title: "Check the coupon before the payment",
    author: alice,
    state: "OPEN",
    draft: false,
    sourceBranch: "feature/coupon-check",
    headCommit: head,
    destinationBranch: "release/1.0",
    url: "https://bitbucket.example/acme/web-shop/pull-requests/7",
    path: `/pr/${place}`,
    sentence: "1 of 2 approvals; waiting for Carol Okafor",
    request: request(),
    requests: connectionOf([request()]),
    history: connectionOf([]),
    status: {
      commit: head,
      state: "INPROGRESS",
      description: "1 of 2 approvals",
      paid: true,
      paidAt: null,
      owedSince: null,
      problem: "",
    },
    merge: null,
    version: 3,
    ...like,
  };
}

export function policyVersion(like: Like = {}): Like {
  return {
    __typename: "PolicyVersion",
    id: "policy-2",
    version: 2,
    digest: "b".repeat(64),
    document: JSON.stringify(keyDocument),
    rules: [rule()],
    createdBy: { __typename: "Person", id: "person-alice", ...alice },
    createdAt: "2026-11-20T16:12:00.000000Z",
    ...like,
  };
}

export function repository(like: Like = {}): Like {
  return {
    __typename: "Repository",
    id: "repository-1",
    uuid: repositoryUuid,
    fullName: "acme/web-shop",
    name: "Web Shop",
    slug: "web-shop",
    workspace: () => workspace(),
    state: "ACTIVE",
    attention: "",
    policy: policyVersion(),
    policyVersions: connectionOf([
      policyVersion(),
      policyVersion({ id: "policy-1", version: 1, digest: "c".repeat(64), createdAt: "2026-11-19T08:00:00.000000Z" }),
    ]),
    viewerCanConfigure: true,
    reconcileSeconds: 300,
    reconciledAt: "2026-11-22T09:58:00.000000Z",
    enforcement: [enforcement()],
    mergeChecks: [],
    violations: connectionOf([]),
    pullRequests: connectionOf([]),
    ...like,
  };
}

export function installation(like: Like = {}): Like {
  return {
    state: "ACTIVE",
    appVersion: "2.1.0",
    installedAt: "2026-11-18T08:00:00.000000Z",
    confirmedAt: null,
    uninstalledAt: null,
    heardAt: "2026-11-22T09:59:00.000000Z",
    tokenExpiresAt: "2026-11-22T12:00:00.000000Z",
    ...like,
  };
}

export function enforcement(like: Like = {}): Like {
  return {
    pattern: "release/*",
    state: "WARNS_ONLY",
    reasons: [
      {
        code: "PUSH_OPEN",
        sentence: "Anybody who may write can push to these branches.",
        fix: "RESTRICT_PUSH",
        steps: [],
      },
    ],
    checkedAt: "2026-11-22T09:50:00.000000Z",
    changedAt: "2026-11-20T09:50:00.000000Z",
    ...like,
  };
}

export function mergeCheck(like: Like = {}): Like {
  return {
    number: 7,
    onMerge: true,
    headCommit: head,
    destinationBranch: "release/1.0",
    askedBy: alice,
    allowed: false,
    code: "PENDING",
    sentence: "1 of 2 approvals; waiting for Carol Okafor",
    askedAt: "2026-11-22T09:45:00.000000Z",
    ...like,
  };
}

export function violation(like: Like = {}): Like {
  return {
    number: 6,
    pullRequest: null,
    destinationBranch: "release/1.0",
    mergeCommit: olderHead,
    asked: true,
    allowed: false,
    sentence: "It was merged though the merge check had refused it.",
    seenAt: "2026-11-21T09:45:00.000000Z",
    ...like,
  };
}

export function viewer(like: Like = {}): Like {
  return {
    person: { __typename: "Person", id: "person-carol", ...carol },
    email: "carol@acme.example",
    caller: "SESSION",
    workspaces: connectionOf([workspace()]),
    waiting: connectionOf([]),
    notices: connectionOf([]),
    unreadNotices: 0,
    passkeys: [passkey()],
    grants: [],
    ...like,
  };
}

/** A key by which acts name it. */
export const keyDocument = {
  key: { person: "person-carol", credentialId: "AAAA", publicKey: "AAAA", backupEligible: false },
  attestationObject: "1".repeat(64),
  clientData: "2".repeat(64),
};

export function passkey(like: Like = {}): Like {
  return {
    __typename: "Passkey",
    id: "passkey-1",
    name: "Laptop",
    document: JSON.stringify(keyDocument),
    state: "ENROLLED",
    model: null,
    provedModel: null,
    createdAt: "2026-11-01T08:00:00.000000Z",
    expiresAt: null,
    enrolledAt: "2026-11-01T08:00:20.000000Z",
    identifiedBy: "BITBUCKET_LOG_IN",
    revokedBySignature: false,
    compromisedSince: null,
    workspaceActs: [],
    falls: [],
    lastUsedAt: "2026-11-21T15:20:00.000000Z",
    revokedAt: null,
    synced: false,
    ...like,
  };
}

export function workspace(like: Like = {}): Like {
  return {
    __typename: "Workspace",
    id: "workspace-1",
    uuid: workspaceUuid,
    slug: "acme",
    name: "Acme",
    viewerIsAdmin: true,
    connection: {
      state: "ACTIVE",
      reason: "",
      accountName: "Alice Moreau",
      connectedAt: "2026-11-18T08:00:00.000000Z",
      refreshedAt: "2026-11-22T09:00:00.000000Z",
    },
    installation: null,
    actsAs: { identity: "CONNECTION", sentence: "The connection of Alice Moreau writes." },
    repositories: connectionOf([repository()]),
    repository: () => repository(),
    bitbucketRepositories: connectionOf([bitbucketRepository()]),
    bitbucketRepository: () => bitbucketRepository(),
    members: connectionOf([alice, bob, carol]),
    requests: connectionOf([]),
    alarms: [],
    protection: null,
    proposals: connectionOf([]),
    apiTokens: [],
    ...like,
  };
}

export function bitbucketRepository(like: Like = {}): Like {
  return {
    uuid: repositoryUuid,
    fullName: "acme/web-shop",
    name: "Web Shop",
    slug: "web-shop",
    repository: repository(),
    branches: ["main", "release/1.0", "release/old", "feature/coupon-check"],
    mergeStrategies: ["merge_commit", "squash", "fast_forward"],
    ...like,
  };
}

export function server(like: Like = {}): Like {
  return {
    relyingPartyId: "localhost",
    origin: "http://localhost:3000",
    sendsMail: true,
    models: [],
    witnesses: 2,
    connectScopes: [
      { name: "account", purpose: "To know who consents and which workspaces they administer." },
      { name: "pullrequest:write", purpose: "To read pull requests and to merge those that are approved." },
      { name: "repository:admin", purpose: "To read and set branch restrictions." },
      { name: "webhook", purpose: "To be told when a pull request changes." },
    ],
    ...like,
  };
}

/** What a viewer sees: one workspace, and one pull request that its objects are about. */
export function world(like: Like = {}) {
  const query = {
    viewer: viewer(),
    server: server(),
    pullRequest: pullRequest(),
    workspace: workspace(),
    node: ({ id }: { id: string }) =>
      [pullRequest(), request(), repository()].find((node) => node["id"] === id) ?? null,
    ...like,
  };
  return {
    Query: query,
    Mutation: {},
    Subscription: { pullRequestChanged: query.pullRequest, inboxChanged: query.viewer },
  };
}
