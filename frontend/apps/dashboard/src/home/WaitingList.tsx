import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Person } from "@signedapproval/ui/Avatar";
import { Branches, ShortCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { PageLink } from "../PageLink.tsx";
import { Pages } from "../Pages.tsx";

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
  return (
    <Pages
      query={WaitingQuery}
      variables={{}}
      doing="read what waits for you"
      list={({ viewer }) => viewer?.waiting}
      empty={({ viewer }) =>
        viewer && (
          <EmptyState title="Nothing waits for you">
            Requests that you can approve appear here by themselves.
          </EmptyState>
        )
      }
    >
      {(edges) => (
        <Table caption="Waiting for you" columns={["Pull request", "Author", "Change", "Asked", "Expires", ""]}>
          <tbody>
            {edges.map(({ node }) => (
              <WaitingRow key={node.id} request={node} />
            ))}
          </tbody>
        </Table>
      )}
    </Pages>
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
