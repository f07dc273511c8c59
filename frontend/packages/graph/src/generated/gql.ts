/* eslint-disable */
import * as types from './graphql';
import type { TypedDocumentNode as DocumentNode } from '@graphql-typed-document-node/core';

/**
 * Map of all GraphQL operations in the project.
 *
 * This map has several performance disadvantages:
 * 1. It is not tree-shakeable, so it will include all operations in the project.
 * 2. It is not minifiable, so the string of a GraphQL query will be multiple times inside the bundle.
 * 3. It does not support dead code elimination, so it will add unused operations.
 *
 * Therefore it is highly recommended to use the babel or swc plugin for production.
 * Learn more about it here: https://the-guild.dev/graphql/codegen/plugins/presets/preset-client#reducing-bundle-size
 */
type Documents = {
    "\n  fragment Actions_request on ApprovalRequest {\n    id\n    state\n    signPath\n    viewerCan {\n      approve\n      reject\n      withdraw\n      renew\n      code\n      reason\n    }\n  }\n": typeof types.Actions_RequestFragmentDoc,
    "\n  mutation PanelRenewRequest($input: RenewRequestInput!) {\n    renewRequest(input: $input) {\n      request {\n        id\n        ...Requirements_request\n        ...Actions_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": typeof types.PanelRenewRequestDocument,
    "\n  query Panel($workspace: String!, $repository: String!, $number: Int!) {\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n": typeof types.PanelDocument,
    "\n  subscription PanelChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n": typeof types.PanelChangedDocument,
    "\n  fragment PullRequestGate_pullRequest on PullRequest {\n    id\n    number\n    title\n    state\n    draft\n    sourceBranch\n    destinationBranch\n    headCommit\n    url\n    sentence\n    version\n    status {\n      state\n      paid\n      problem\n    }\n    merge {\n      state\n      sentence\n    }\n    request {\n      id\n      state\n      headCommit\n      ...Requirements_request\n      ...Actions_request\n    }\n  }\n": typeof types.PullRequestGate_PullRequestFragmentDoc,
    "\n  fragment Requirements_request on ApprovalRequest {\n    id\n    state\n    rejectedBy {\n      accountId\n      name\n    }\n    requirements {\n      name\n      quorum\n      missing\n      approvedBy {\n        accountId\n        name\n      }\n      canStillApprove {\n        accountId\n        name\n      }\n      ignored {\n        code\n        sentence\n        account {\n          accountId\n        }\n      }\n    }\n  }\n": typeof types.Requirements_RequestFragmentDoc,
    "\n  fragment Decide_viewer on Viewer {\n    person {\n      id\n      accountId\n      name\n    }\n    passkeys {\n      id\n      revokedAt\n    }\n  }\n": typeof types.Decide_ViewerFragmentDoc,
    "\n  fragment Decide_server on Server {\n    relyingPartyId\n  }\n": typeof types.Decide_ServerFragmentDoc,
    "\n  fragment Decide_pullRequest on PullRequest {\n    id\n    number\n    sourceBranch\n    path\n    url\n    repository {\n      id\n      uuid\n      workspace {\n        id\n        uuid\n      }\n    }\n  }\n": typeof types.Decide_PullRequestFragmentDoc,
    "\n  fragment Decide_request on ApprovalRequest {\n    id\n    sentence\n    headCommit\n    destinationBranch\n    evidencePath\n    rule {\n      digest\n      requirements {\n        name\n        quorum\n        everyone\n        approvers {\n          accountId\n        }\n      }\n    }\n    decisions {\n      id\n      action\n      statementSha256\n      account {\n        accountId\n      }\n    }\n    viewerCan {\n      approve\n      reject\n      withdraw\n      code\n      reason\n    }\n  }\n": typeof types.Decide_RequestFragmentDoc,
    "\n  fragment Decisions_request on ApprovalRequest {\n    id\n    decisions {\n      id\n      action\n      comment\n      decidedAt\n      account {\n        accountId\n        name\n      }\n    }\n  }\n": typeof types.Decisions_RequestFragmentDoc,
    "\n  fragment Review_viewer on Viewer {\n    ...Decide_viewer\n  }\n": typeof types.Review_ViewerFragmentDoc,
    "\n  fragment Review_server on Server {\n    ...Decide_server\n  }\n": typeof types.Review_ServerFragmentDoc,
    "\n  fragment Review_pullRequest on PullRequest {\n    id\n    number\n    title\n    url\n    path\n    sourceBranch\n    author {\n      accountId\n      name\n    }\n    repository {\n      id\n      fullName\n    }\n    ...Decide_pullRequest\n    request {\n      id\n      state\n      sentence\n      headCommit\n      destinationBranch\n      expiresAt\n      rule {\n        ...RuleInWords_rule\n      }\n      ...Decisions_request\n      ...Decide_request\n    }\n  }\n": typeof types.Review_PullRequestFragmentDoc,
    "\n  fragment RuleInWords_rule on Rule {\n    name\n    branches\n    authorMayApprove\n    expiresAfterSeconds\n    requirements {\n      name\n      quorum\n      everyone\n      approvers {\n        accountId\n        name\n      }\n    }\n    autoMerge {\n      strategy\n      closeSourceBranch\n    }\n  }\n": typeof types.RuleInWords_RuleFragmentDoc,
    "\n  query Change($id: ID!) {\n    node(id: $id) {\n      id\n      ... on ApprovalRequest {\n        diff {\n          content\n          sha256\n          size\n          headCommit\n          destinationCommit\n          mergeBases\n        }\n      }\n    }\n  }\n": typeof types.ChangeDocument,
    "\n  query Sign($workspace: String!, $repository: String!, $number: Int!) {\n    viewer {\n      ...Review_viewer\n    }\n    server {\n      ...Review_server\n    }\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      sentence\n      path\n      request {\n        id\n      }\n      ...Review_pullRequest\n    }\n  }\n": typeof types.SignDocument,
    "\n  subscription SignChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      sentence\n      request {\n        id\n      }\n      ...Review_pullRequest\n    }\n  }\n": typeof types.SignChangedDocument,
    "\n  mutation BeginPasskey($input: BeginPasskeyInput!) {\n    beginPasskey(input: $input) {\n      options\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": typeof types.BeginPasskeyDocument,
    "\n  mutation FinishPasskey($input: FinishPasskeyInput!) {\n    finishPasskey(input: $input) {\n      passkey {\n        id\n        name\n        createdAt\n        lastUsedAt\n        revokedAt\n        synced\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": typeof types.FinishPasskeyDocument,
    "\n  mutation PrepareDecision($input: PrepareDecisionInput!) {\n    prepareDecision(input: $input) {\n      statement\n      options\n      expiresAt\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": typeof types.PrepareDecisionDocument,
    "\n  mutation SubmitDecision($input: SubmitDecisionInput!) {\n    submitDecision(input: $input) {\n      decision {\n        id\n        action\n        decidedAt\n        statementSha256\n        leafHash\n      }\n      request {\n        id\n        state\n        sentence\n        ...Decisions_request\n        ...Decide_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": typeof types.SubmitDecisionDocument,
};
const documents: Documents = {
    "\n  fragment Actions_request on ApprovalRequest {\n    id\n    state\n    signPath\n    viewerCan {\n      approve\n      reject\n      withdraw\n      renew\n      code\n      reason\n    }\n  }\n": types.Actions_RequestFragmentDoc,
    "\n  mutation PanelRenewRequest($input: RenewRequestInput!) {\n    renewRequest(input: $input) {\n      request {\n        id\n        ...Requirements_request\n        ...Actions_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": types.PanelRenewRequestDocument,
    "\n  query Panel($workspace: String!, $repository: String!, $number: Int!) {\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n": types.PanelDocument,
    "\n  subscription PanelChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n": types.PanelChangedDocument,
    "\n  fragment PullRequestGate_pullRequest on PullRequest {\n    id\n    number\n    title\n    state\n    draft\n    sourceBranch\n    destinationBranch\n    headCommit\n    url\n    sentence\n    version\n    status {\n      state\n      paid\n      problem\n    }\n    merge {\n      state\n      sentence\n    }\n    request {\n      id\n      state\n      headCommit\n      ...Requirements_request\n      ...Actions_request\n    }\n  }\n": types.PullRequestGate_PullRequestFragmentDoc,
    "\n  fragment Requirements_request on ApprovalRequest {\n    id\n    state\n    rejectedBy {\n      accountId\n      name\n    }\n    requirements {\n      name\n      quorum\n      missing\n      approvedBy {\n        accountId\n        name\n      }\n      canStillApprove {\n        accountId\n        name\n      }\n      ignored {\n        code\n        sentence\n        account {\n          accountId\n        }\n      }\n    }\n  }\n": types.Requirements_RequestFragmentDoc,
    "\n  fragment Decide_viewer on Viewer {\n    person {\n      id\n      accountId\n      name\n    }\n    passkeys {\n      id\n      revokedAt\n    }\n  }\n": types.Decide_ViewerFragmentDoc,
    "\n  fragment Decide_server on Server {\n    relyingPartyId\n  }\n": types.Decide_ServerFragmentDoc,
    "\n  fragment Decide_pullRequest on PullRequest {\n    id\n    number\n    sourceBranch\n    path\n    url\n    repository {\n      id\n      uuid\n      workspace {\n        id\n        uuid\n      }\n    }\n  }\n": types.Decide_PullRequestFragmentDoc,
    "\n  fragment Decide_request on ApprovalRequest {\n    id\n    sentence\n    headCommit\n    destinationBranch\n    evidencePath\n    rule {\n      digest\n      requirements {\n        name\n        quorum\n        everyone\n        approvers {\n          accountId\n        }\n      }\n    }\n    decisions {\n      id\n      action\n      statementSha256\n      account {\n        accountId\n      }\n    }\n    viewerCan {\n      approve\n      reject\n      withdraw\n      code\n      reason\n    }\n  }\n": types.Decide_RequestFragmentDoc,
    "\n  fragment Decisions_request on ApprovalRequest {\n    id\n    decisions {\n      id\n      action\n      comment\n      decidedAt\n      account {\n        accountId\n        name\n      }\n    }\n  }\n": types.Decisions_RequestFragmentDoc,
    "\n  fragment Review_viewer on Viewer {\n    ...Decide_viewer\n  }\n": types.Review_ViewerFragmentDoc,
    "\n  fragment Review_server on Server {\n    ...Decide_server\n  }\n": types.Review_ServerFragmentDoc,
    "\n  fragment Review_pullRequest on PullRequest {\n    id\n    number\n    title\n    url\n    path\n    sourceBranch\n    author {\n      accountId\n      name\n    }\n    repository {\n      id\n      fullName\n    }\n    ...Decide_pullRequest\n    request {\n      id\n      state\n      sentence\n      headCommit\n      destinationBranch\n      expiresAt\n      rule {\n        ...RuleInWords_rule\n      }\n      ...Decisions_request\n      ...Decide_request\n    }\n  }\n": types.Review_PullRequestFragmentDoc,
    "\n  fragment RuleInWords_rule on Rule {\n    name\n    branches\n    authorMayApprove\n    expiresAfterSeconds\n    requirements {\n      name\n      quorum\n      everyone\n      approvers {\n        accountId\n        name\n      }\n    }\n    autoMerge {\n      strategy\n      closeSourceBranch\n    }\n  }\n": types.RuleInWords_RuleFragmentDoc,
    "\n  query Change($id: ID!) {\n    node(id: $id) {\n      id\n      ... on ApprovalRequest {\n        diff {\n          content\n          sha256\n          size\n          headCommit\n          destinationCommit\n          mergeBases\n        }\n      }\n    }\n  }\n": types.ChangeDocument,
    "\n  query Sign($workspace: String!, $repository: String!, $number: Int!) {\n    viewer {\n      ...Review_viewer\n    }\n    server {\n      ...Review_server\n    }\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      sentence\n      path\n      request {\n        id\n      }\n      ...Review_pullRequest\n    }\n  }\n": types.SignDocument,
    "\n  subscription SignChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      sentence\n      request {\n        id\n      }\n      ...Review_pullRequest\n    }\n  }\n": types.SignChangedDocument,
    "\n  mutation BeginPasskey($input: BeginPasskeyInput!) {\n    beginPasskey(input: $input) {\n      options\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": types.BeginPasskeyDocument,
    "\n  mutation FinishPasskey($input: FinishPasskeyInput!) {\n    finishPasskey(input: $input) {\n      passkey {\n        id\n        name\n        createdAt\n        lastUsedAt\n        revokedAt\n        synced\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": types.FinishPasskeyDocument,
    "\n  mutation PrepareDecision($input: PrepareDecisionInput!) {\n    prepareDecision(input: $input) {\n      statement\n      options\n      expiresAt\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": types.PrepareDecisionDocument,
    "\n  mutation SubmitDecision($input: SubmitDecisionInput!) {\n    submitDecision(input: $input) {\n      decision {\n        id\n        action\n        decidedAt\n        statementSha256\n        leafHash\n      }\n      request {\n        id\n        state\n        sentence\n        ...Decisions_request\n        ...Decide_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": types.SubmitDecisionDocument,
};

/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 *
 *
 * @example
 * ```ts
 * const query = graphql(`query GetUser($id: ID!) { user(id: $id) { name } }`);
 * ```
 *
 * The query argument is unknown!
 * Please regenerate the types.
 */
export function graphql(source: string): unknown;

/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Actions_request on ApprovalRequest {\n    id\n    state\n    signPath\n    viewerCan {\n      approve\n      reject\n      withdraw\n      renew\n      code\n      reason\n    }\n  }\n"): (typeof documents)["\n  fragment Actions_request on ApprovalRequest {\n    id\n    state\n    signPath\n    viewerCan {\n      approve\n      reject\n      withdraw\n      renew\n      code\n      reason\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  mutation PanelRenewRequest($input: RenewRequestInput!) {\n    renewRequest(input: $input) {\n      request {\n        id\n        ...Requirements_request\n        ...Actions_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"): (typeof documents)["\n  mutation PanelRenewRequest($input: RenewRequestInput!) {\n    renewRequest(input: $input) {\n      request {\n        id\n        ...Requirements_request\n        ...Actions_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  query Panel($workspace: String!, $repository: String!, $number: Int!) {\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n"): (typeof documents)["\n  query Panel($workspace: String!, $repository: String!, $number: Int!) {\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  subscription PanelChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n"): (typeof documents)["\n  subscription PanelChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment PullRequestGate_pullRequest on PullRequest {\n    id\n    number\n    title\n    state\n    draft\n    sourceBranch\n    destinationBranch\n    headCommit\n    url\n    sentence\n    version\n    status {\n      state\n      paid\n      problem\n    }\n    merge {\n      state\n      sentence\n    }\n    request {\n      id\n      state\n      headCommit\n      ...Requirements_request\n      ...Actions_request\n    }\n  }\n"): (typeof documents)["\n  fragment PullRequestGate_pullRequest on PullRequest {\n    id\n    number\n    title\n    state\n    draft\n    sourceBranch\n    destinationBranch\n    headCommit\n    url\n    sentence\n    version\n    status {\n      state\n      paid\n      problem\n    }\n    merge {\n      state\n      sentence\n    }\n    request {\n      id\n      state\n      headCommit\n      ...Requirements_request\n      ...Actions_request\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Requirements_request on ApprovalRequest {\n    id\n    state\n    rejectedBy {\n      accountId\n      name\n    }\n    requirements {\n      name\n      quorum\n      missing\n      approvedBy {\n        accountId\n        name\n      }\n      canStillApprove {\n        accountId\n        name\n      }\n      ignored {\n        code\n        sentence\n        account {\n          accountId\n        }\n      }\n    }\n  }\n"): (typeof documents)["\n  fragment Requirements_request on ApprovalRequest {\n    id\n    state\n    rejectedBy {\n      accountId\n      name\n    }\n    requirements {\n      name\n      quorum\n      missing\n      approvedBy {\n        accountId\n        name\n      }\n      canStillApprove {\n        accountId\n        name\n      }\n      ignored {\n        code\n        sentence\n        account {\n          accountId\n        }\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Decide_viewer on Viewer {\n    person {\n      id\n      accountId\n      name\n    }\n    passkeys {\n      id\n      revokedAt\n    }\n  }\n"): (typeof documents)["\n  fragment Decide_viewer on Viewer {\n    person {\n      id\n      accountId\n      name\n    }\n    passkeys {\n      id\n      revokedAt\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Decide_server on Server {\n    relyingPartyId\n  }\n"): (typeof documents)["\n  fragment Decide_server on Server {\n    relyingPartyId\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Decide_pullRequest on PullRequest {\n    id\n    number\n    sourceBranch\n    path\n    url\n    repository {\n      id\n      uuid\n      workspace {\n        id\n        uuid\n      }\n    }\n  }\n"): (typeof documents)["\n  fragment Decide_pullRequest on PullRequest {\n    id\n    number\n    sourceBranch\n    path\n    url\n    repository {\n      id\n      uuid\n      workspace {\n        id\n        uuid\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Decide_request on ApprovalRequest {\n    id\n    sentence\n    headCommit\n    destinationBranch\n    evidencePath\n    rule {\n      digest\n      requirements {\n        name\n        quorum\n        everyone\n        approvers {\n          accountId\n        }\n      }\n    }\n    decisions {\n      id\n      action\n      statementSha256\n      account {\n        accountId\n      }\n    }\n    viewerCan {\n      approve\n      reject\n      withdraw\n      code\n      reason\n    }\n  }\n"): (typeof documents)["\n  fragment Decide_request on ApprovalRequest {\n    id\n    sentence\n    headCommit\n    destinationBranch\n    evidencePath\n    rule {\n      digest\n      requirements {\n        name\n        quorum\n        everyone\n        approvers {\n          accountId\n        }\n      }\n    }\n    decisions {\n      id\n      action\n      statementSha256\n      account {\n        accountId\n      }\n    }\n    viewerCan {\n      approve\n      reject\n      withdraw\n      code\n      reason\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Decisions_request on ApprovalRequest {\n    id\n    decisions {\n      id\n      action\n      comment\n      decidedAt\n      account {\n        accountId\n        name\n      }\n    }\n  }\n"): (typeof documents)["\n  fragment Decisions_request on ApprovalRequest {\n    id\n    decisions {\n      id\n      action\n      comment\n      decidedAt\n      account {\n        accountId\n        name\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Review_viewer on Viewer {\n    ...Decide_viewer\n  }\n"): (typeof documents)["\n  fragment Review_viewer on Viewer {\n    ...Decide_viewer\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Review_server on Server {\n    ...Decide_server\n  }\n"): (typeof documents)["\n  fragment Review_server on Server {\n    ...Decide_server\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment Review_pullRequest on PullRequest {\n    id\n    number\n    title\n    url\n    path\n    sourceBranch\n    author {\n      accountId\n      name\n    }\n    repository {\n      id\n      fullName\n    }\n    ...Decide_pullRequest\n    request {\n      id\n      state\n      sentence\n      headCommit\n      destinationBranch\n      expiresAt\n      rule {\n        ...RuleInWords_rule\n      }\n      ...Decisions_request\n      ...Decide_request\n    }\n  }\n"): (typeof documents)["\n  fragment Review_pullRequest on PullRequest {\n    id\n    number\n    title\n    url\n    path\n    sourceBranch\n    author {\n      accountId\n      name\n    }\n    repository {\n      id\n      fullName\n    }\n    ...Decide_pullRequest\n    request {\n      id\n      state\n      sentence\n      headCommit\n      destinationBranch\n      expiresAt\n      rule {\n        ...RuleInWords_rule\n      }\n      ...Decisions_request\n      ...Decide_request\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment RuleInWords_rule on Rule {\n    name\n    branches\n    authorMayApprove\n    expiresAfterSeconds\n    requirements {\n      name\n      quorum\n      everyone\n      approvers {\n        accountId\n        name\n      }\n    }\n    autoMerge {\n      strategy\n      closeSourceBranch\n    }\n  }\n"): (typeof documents)["\n  fragment RuleInWords_rule on Rule {\n    name\n    branches\n    authorMayApprove\n    expiresAfterSeconds\n    requirements {\n      name\n      quorum\n      everyone\n      approvers {\n        accountId\n        name\n      }\n    }\n    autoMerge {\n      strategy\n      closeSourceBranch\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  query Change($id: ID!) {\n    node(id: $id) {\n      id\n      ... on ApprovalRequest {\n        diff {\n          content\n          sha256\n          size\n          headCommit\n          destinationCommit\n          mergeBases\n        }\n      }\n    }\n  }\n"): (typeof documents)["\n  query Change($id: ID!) {\n    node(id: $id) {\n      id\n      ... on ApprovalRequest {\n        diff {\n          content\n          sha256\n          size\n          headCommit\n          destinationCommit\n          mergeBases\n        }\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  query Sign($workspace: String!, $repository: String!, $number: Int!) {\n    viewer {\n      ...Review_viewer\n    }\n    server {\n      ...Review_server\n    }\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      sentence\n      path\n      request {\n        id\n      }\n      ...Review_pullRequest\n    }\n  }\n"): (typeof documents)["\n  query Sign($workspace: String!, $repository: String!, $number: Int!) {\n    viewer {\n      ...Review_viewer\n    }\n    server {\n      ...Review_server\n    }\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      sentence\n      path\n      request {\n        id\n      }\n      ...Review_pullRequest\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  subscription SignChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      sentence\n      request {\n        id\n      }\n      ...Review_pullRequest\n    }\n  }\n"): (typeof documents)["\n  subscription SignChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      sentence\n      request {\n        id\n      }\n      ...Review_pullRequest\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  mutation BeginPasskey($input: BeginPasskeyInput!) {\n    beginPasskey(input: $input) {\n      options\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"): (typeof documents)["\n  mutation BeginPasskey($input: BeginPasskeyInput!) {\n    beginPasskey(input: $input) {\n      options\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  mutation FinishPasskey($input: FinishPasskeyInput!) {\n    finishPasskey(input: $input) {\n      passkey {\n        id\n        name\n        createdAt\n        lastUsedAt\n        revokedAt\n        synced\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"): (typeof documents)["\n  mutation FinishPasskey($input: FinishPasskeyInput!) {\n    finishPasskey(input: $input) {\n      passkey {\n        id\n        name\n        createdAt\n        lastUsedAt\n        revokedAt\n        synced\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  mutation PrepareDecision($input: PrepareDecisionInput!) {\n    prepareDecision(input: $input) {\n      statement\n      options\n      expiresAt\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"): (typeof documents)["\n  mutation PrepareDecision($input: PrepareDecisionInput!) {\n    prepareDecision(input: $input) {\n      statement\n      options\n      expiresAt\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  mutation SubmitDecision($input: SubmitDecisionInput!) {\n    submitDecision(input: $input) {\n      decision {\n        id\n        action\n        decidedAt\n        statementSha256\n        leafHash\n      }\n      request {\n        id\n        state\n        sentence\n        ...Decisions_request\n        ...Decide_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"): (typeof documents)["\n  mutation SubmitDecision($input: SubmitDecisionInput!) {\n    submitDecision(input: $input) {\n      decision {\n        id\n        action\n        decidedAt\n        statementSha256\n        leafHash\n      }\n      request {\n        id\n        state\n        sentence\n        ...Decisions_request\n        ...Decide_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n"];

export function graphql(source: string) {
  return (documents as any)[source] ?? {};
}

export type DocumentType<TDocumentNode extends DocumentNode<any, any>> = TDocumentNode extends DocumentNode<  infer TType,  any>  ? TType  : never;