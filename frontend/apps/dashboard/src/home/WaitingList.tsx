import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Person } from "@signedapproval/ui/Avatar";
import { Branches, ShortCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { More } from "../More.tsx";
import { PageLink } from "../PageLink.tsx";
import { pageAfter, usePages } from "../pages.ts";

const WaitingQuery = graphql(`
  query Waiting($after: String) {
    viewer {
      waiting(first: 20, after: $after) {
        edges {
          cursor
          node {
            id
            ...WaitingRow_request
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

const rowFragment = graphql(`
  fragment WaitingRow_request on ApprovalRequest {
    id
    headCommit
    destinationBranch
    requestedAt
    expiresAt
    signPath
    pullRequest {
      id
      number
      title
      sourceBranch
      author {
        accountId
        name
      }
      repository {
        id
        fullName
      }
    }
  }
`);

/** Requests that the viewer can still approve, oldest first, in all workspaces. */
export function WaitingList() {
  const { pages, more } = usePages();
  return pages.map((after, index) => (
    <WaitingPage key={after ?? ""} after={after} last={index === pages.length - 1} onMore={more} />
  ));
}

function WaitingPage({
  after,
  last,
  onMore,
}: {
  after: string | undefined;
  last: boolean;
  onMore: (after: string) => void;
}) {
  const [result, ask] = useQuery({ query: WaitingQuery, variables: pageAfter(after) });
  return (
    <Answer result={result} ask={ask} doing="read what waits for you">
      {({ viewer }) => {
        if (!viewer) return null;
        const { edges, pageInfo } = viewer.waiting;
        if (edges.length === 0) {
          return (
            <EmptyState title="Nothing waits for you">
              Requests that you can approve appear here by themselves.
            </EmptyState>
          );
        }
        return (
          <>
            <Table caption="Waiting for you" columns={["Pull request", "Author", "Change", "Asked", "Expires", ""]}>
              <tbody>
                {edges.map(({ node }) => (
                  <WaitingRow key={node.id} request={node} />
                ))}
              </tbody>
            </Table>
            <More pageInfo={pageInfo} last={last} onMore={onMore} />
          </>
        );
      }}
    </Answer>
  );
}

function WaitingRow({ request: masked }: { request: FragmentType<typeof rowFragment> }) {
  const request = readFragment(rowFragment, masked);
  const { pullRequest } = request;
  return (
    <tr>
      <th scope="row">
        <Link to="/requests/$request" params={{ request: request.id }}>
          <Visible text={pullRequest.title} />
        </Link>
        <div className="sa-small sa-subtle">
          <Visible text={pullRequest.repository.fullName} /> #{pullRequest.number}
        </div>
      </th>
      <td data-label="Author">{pullRequest.author ? <Person name={pullRequest.author.name} /> : "Unknown"}</td>
      <td>
        <Branches source={pullRequest.sourceBranch} destination={request.destinationBranch} />
        <ShortCommit hash={request.headCommit} />
      </td>
      <td data-label="Asked">
        <Time value={request.requestedAt} />
      </td>
      <td data-label="Expires">
        <Time value={request.expiresAt} />
      </td>
      <td>
        <PageLink look="primary" path={request.signPath}>
          Review <span className="sa-hidden">{pullRequest.title}</span>
        </PageLink>
      </td>
    </tr>
  );
}
