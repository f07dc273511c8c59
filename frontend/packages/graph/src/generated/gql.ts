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
};
const documents: Documents = {
    "\n  fragment Actions_request on ApprovalRequest {\n    id\n    state\n    signPath\n    viewerCan {\n      approve\n      reject\n      withdraw\n      renew\n      code\n      reason\n    }\n  }\n": types.Actions_RequestFragmentDoc,
    "\n  mutation PanelRenewRequest($input: RenewRequestInput!) {\n    renewRequest(input: $input) {\n      request {\n        id\n        ...Requirements_request\n        ...Actions_request\n      }\n      userErrors {\n        code\n        message\n        path\n      }\n    }\n  }\n": types.PanelRenewRequestDocument,
    "\n  query Panel($workspace: String!, $repository: String!, $number: Int!) {\n    pullRequest(workspace: $workspace, repository: $repository, number: $number) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n": types.PanelDocument,
    "\n  subscription PanelChanged($id: ID!) {\n    pullRequestChanged(id: $id) {\n      id\n      ...PullRequestGate_pullRequest\n    }\n  }\n": types.PanelChangedDocument,
    "\n  fragment PullRequestGate_pullRequest on PullRequest {\n    id\n    number\n    title\n    state\n    draft\n    sourceBranch\n    destinationBranch\n    headCommit\n    url\n    sentence\n    version\n    status {\n      state\n      paid\n      problem\n    }\n    merge {\n      state\n      sentence\n    }\n    request {\n      id\n      state\n      headCommit\n      ...Requirements_request\n      ...Actions_request\n    }\n  }\n": types.PullRequestGate_PullRequestFragmentDoc,
    "\n  fragment Requirements_request on ApprovalRequest {\n    id\n    state\n    rejectedBy {\n      accountId\n      name\n    }\n    requirements {\n      name\n      quorum\n      missing\n      approvedBy {\n        accountId\n        name\n      }\n      canStillApprove {\n        accountId\n        name\n      }\n      ignored {\n        code\n        sentence\n        account {\n          accountId\n        }\n      }\n    }\n  }\n": types.Requirements_RequestFragmentDoc,
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

export function graphql(source: string) {
  return (documents as any)[source] ?? {};
}

export type DocumentType<TDocumentNode extends DocumentNode<any, any>> = TDocumentNode extends DocumentNode<  infer TType,  any>  ? TType  : never;