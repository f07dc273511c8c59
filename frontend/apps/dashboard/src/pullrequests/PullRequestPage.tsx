import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Person } from "@signedapproval/ui/Avatar";
import { Button } from "@signedapproval/ui/Button";
import { Branches, FullCommit, ShortCommit } from "@signedapproval/ui/Commit";
import { CopyButton } from "@signedapproval/ui/CopyButton";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { ExternalLink } from "@signedapproval/ui/Link";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { sentenceCase } from "@signedapproval/ui/sentence.ts";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { useMutation, useQuery, useSubscription } from "urql";
import { Answer } from "../Answer.tsx";
import { PageLink } from "../PageLink.tsx";
import { Pages } from "../Pages.tsx";
import { pullRequestBadges, requestBadges, statusBadges } from "../states.ts";
import { useHost } from "../surroundings.ts";
import { History } from "./History.tsx";

const PullRequestQuery = graphql(`
  query PullRequest($id: ID!) {
    node(id: $id) {
      id
      ...PullRequestDetails_pullRequest
    }
  }
`);

const PullRequestChanged = graphql(`
  subscription PullRequestChanged($id: ID!) {
    pullRequestChanged(id: $id) {
      id
      ...PullRequestDetails_pullRequest
      requests(first: 20) {
        edges {
          cursor
          node {
            id
            ...RoundRow_request
          }
        }
        pageInfo {
          hasNextPage
          endCursor
        }
      }
    }
  }
`);

const pullRequestFragment = graphql(`
  fragment PullRequestDetails_pullRequest on PullRequest {
    id
    number
    title
    state
    draft
    sourceBranch
    headCommit
    destinationBranch
    url
    path
    sentence
    version
    author {
      accountId
      name
    }
    repository {
      id
      fullName
    }
    request {
      id
      state
    }
    status {
      commit
      state
      description
      paid
      paidAt
      problem
    }
    merge {
      state
      sentence
      strategy
      mergeCommit
      updatedAt
    }
  }
`);

const RingPullRequest = graphql(`
  mutation RingPullRequest($input: RingPullRequestInput!) {
    ringPullRequest(input: $input) {
      pullRequest {
        id
        ...PullRequestDetails_pullRequest
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** One gated pull request: what the gate says, what Bitbucket was told, all its requests and its history. */
export function PullRequestPage({ id }: { id: string }) {
  const [result, ask] = useQuery({ query: PullRequestQuery, variables: { id } });
  return (
    <Answer result={result} ask={ask} doing="read the pull request">
      {({ node }) =>
        node?.__typename === "PullRequest" ? (
          <PullRequestDetails pullRequest={node} />
        ) : (
          <>
            <h1>Pull request</h1>
            <EmptyState title="Not found">
              There is no such pull request, or your Bitbucket account may not see its repository.
            </EmptyState>
          </>
        )
      }
    </Answer>
  );
}

function PullRequestDetails({ pullRequest: masked }: { pullRequest: FragmentType<typeof pullRequestFragment> }) {
  const pullRequest = readFragment(pullRequestFragment, masked);
  useSubscription({ query: PullRequestChanged, variables: { id: pullRequest.id } });
  const badge = pullRequestBadges[pullRequest.state];
  const { request, status, merge } = pullRequest;
  const host = useHost();
  return (
    <>
      <header className="sa-stack sa-stack--tight">
        <p className="sa-row sa-subtle">
          <Visible text={pullRequest.repository.fullName} /> #{pullRequest.number}
          <ExternalLink href={pullRequest.url} onOpen={host.openExternal}>
            On Bitbucket
          </ExternalLink>
        </p>
        <h1 className="sa-wrap">
          <Visible text={pullRequest.title} />
        </h1>
        <div className="sa-row">
          <Lozenge tone={badge.tone}>{badge.label}</Lozenge>
          {pullRequest.draft && <Lozenge>Draft</Lozenge>}
          {request && <Lozenge tone={requestBadges[request.state].tone}>{requestBadges[request.state].label}</Lozenge>}
          <span aria-live="polite" className="sa-wrap">
            <Visible text={sentenceCase(pullRequest.sentence)} />
          </span>
        </div>
        <div className="sa-row">
          {request && (
            <Link className="sa-button sa-button--default" to="/requests/$request" params={{ request: request.id }}>
              Current request
            </Link>
          )}
          <PageLink path={pullRequest.path} look="default">
            Panel
          </PageLink>
          <Ring id={pullRequest.id} />
        </div>
      </header>

      <section className="card" aria-labelledby="about">
        <h2 id="about">About</h2>
        <dl className="facts">
          <dt>Author</dt>
          <dd>{pullRequest.author ? <Person name={pullRequest.author.name} /> : "Unknown"}</dd>
          <dt>Branches</dt>
          <dd>
            <Branches source={pullRequest.sourceBranch} destination={pullRequest.destinationBranch} />
          </dd>
          <dt>Head commit</dt>
          <dd className="sa-row">
            <FullCommit hash={pullRequest.headCommit} />
            <CopyButton text={pullRequest.headCommit} label="Copy the commit hash" />
          </dd>
          <dt>Build status on Bitbucket</dt>
          <dd className="sa-stack sa-stack--tight">
            {status ? (
              <>
                <span className="sa-row">
                  <Lozenge tone={statusBadges[status.state].tone}>{statusBadges[status.state].label}</Lozenge>
                  <Visible text={status.description} />
                </span>
                <span className="sa-small sa-subtle">
                  On <ShortCommit hash={status.commit} />,{" "}
                  {status.paid && status.paidAt ? (
                    <>
                      confirmed <Time value={status.paidAt} />
                    </>
                  ) : status.paid ? (
                    "confirmed"
                  ) : (
                    "not confirmed yet"
                  )}
                </span>
                {status.problem && <Note tone="warning">{status.problem}</Note>}
              </>
            ) : (
              "None is owed."
            )}
          </dd>
          {merge && (
            <>
              <dt>Auto-merge</dt>
              <dd className="sa-stack sa-stack--tight">
                <span>
                  {sentenceCase(merge.sentence) || "Under way."} ({merge.strategy.replaceAll("_", " ")})
                </span>
                {merge.mergeCommit && (
                  <span>
                    Landed as <FullCommit hash={merge.mergeCommit} />
                  </span>
                )}
                <span className="sa-small sa-subtle">
                  <Time value={merge.updatedAt} exact />
                </span>
              </dd>
            </>
          )}
        </dl>
      </section>

      <section className="sa-stack" aria-labelledby="rounds">
        <h2 id="rounds">Requests</h2>
        <Rounds pullRequest={pullRequest.id} />
      </section>

      <section className="sa-stack" aria-labelledby="history">
        <h2 id="history">History</h2>
        <History pullRequest={pullRequest.id} version={pullRequest.version} />
      </section>
    </>
  );
}

function Ring({ id }: { id: string }) {
  const [{ fetching, data, error }, ring] = useMutation(RingPullRequest);
  const failure = failureOf(error);
  const refusal = data?.ringPullRequest.userErrors[0];
  return (
    <>
      <Button busy={fetching} onClick={() => void ring({ input: { pullRequestId: id } })}>
        Look again now
      </Button>
      <span role="status" className="sa-small sa-subtle">
        {data?.ringPullRequest.pullRequest && "Asked: what changed appears here."}
      </span>
      {failure && <ErrorNote failure={failure} doing="look again" />}
      {refusal && (
        <Note tone="danger" urgent>
          {refusal.message}
        </Note>
      )}
    </>
  );
}

const RoundsQuery = graphql(`
  query Rounds($id: ID!, $after: String) {
    node(id: $id) {
      id
      ... on PullRequest {
        requests(first: 20, after: $after) {
          edges {
            cursor
            node {
              id
              ...RoundRow_request
            }
          }
          pageInfo {
            hasNextPage
            endCursor
          }
        }
      }
    }
  }
`);

const roundFragment = graphql(`
  fragment RoundRow_request on ApprovalRequest {
    id
    round
    state
    sentence
    headCommit
    requestedAt
  }
`);

function Rounds({ pullRequest }: { pullRequest: string }) {
  return (
    <Pages
      query={RoundsQuery}
      variables={{ id: pullRequest }}
      doing="read the requests"
      list={({ node }) => (node?.__typename === "PullRequest" ? node.requests : null)}
      empty={() => <EmptyState title="No requests">No rule has asked for approvals of this pull request.</EmptyState>}
    >
      {(edges) => (
        <Table caption="Requests" columns={["Round", "State", "Commit", "Asked"]}>
          <tbody>
            {edges.map((edge) => (
              <RoundRow key={edge.node.id} request={edge.node} />
            ))}
          </tbody>
        </Table>
      )}
    </Pages>
  );
}

function RoundRow({ request: masked }: { request: FragmentType<typeof roundFragment> }) {
  const request = readFragment(roundFragment, masked);
  const badge = requestBadges[request.state];
  return (
    <tr>
      <th scope="row">
        <Link to="/requests/$request" params={{ request: request.id }}>
          Round {request.round}
        </Link>
      </th>
      <td>
        <span className="sa-row">
          <Lozenge tone={badge.tone}>{badge.label}</Lozenge>
          <Visible text={sentenceCase(request.sentence)} />
        </span>
      </td>
      <td>
        <ShortCommit hash={request.headCommit} />
      </td>
      <td>
        <Time value={request.requestedAt} />
      </td>
    </tr>
  );
}
