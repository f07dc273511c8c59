import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { ShortCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { sentenceCase } from "@signedapproval/ui/sentence.ts";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { requestBadges } from "../states.ts";
import { filters, type RequestFilter } from "./filter.ts";
import "./RequestsPage.css";
import { Pages } from "../Pages.tsx";

const RequestsQuery = graphql(`
  query Requests($workspace: String!, $states: [ApprovalState!], $after: String) {
    workspace(key: $workspace) {
      id
      requests(states: $states, first: 20, after: $after) {
        edges {
          cursor
          node {
            id
            ...RequestRow_request
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
  fragment RequestRow_request on ApprovalRequest {
    id
    round
    state
    sentence
    headCommit
    requestedAt
    pullRequest {
      id
      number
      title
      repository {
        id
        fullName
      }
    }
  }
`);

/** The requests of a workspace that the viewer may see, newest first. */
export function RequestsPage({ workspace, show }: { workspace: string; show: RequestFilter }) {
  const { states } = filters[show];
  return (
    <>
      <div className="sa-row sa-row--apart">
        <h1>Requests</h1>
        <nav className="filter" aria-label="Which requests">
          {Object.entries(filters).map(([name, { label }]) => (
            <Link
              key={name}
              to="/workspaces/$workspace/requests"
              params={{ workspace }}
              search={{ show: name as RequestFilter }}
              {...(name === show && { "aria-current": "true" as const })}
            >
              {label}
            </Link>
          ))}
        </nav>
      </div>
      <Pages
        key={`${workspace} ${show}`}
        query={RequestsQuery}
        variables={{ workspace, ...(states && { states }) }}
        doing="read the requests"
        list={(data) => data.workspace?.requests}
        empty={(data) =>
          data.workspace ? (
            <EmptyState title="No requests">
              None in this list. A pull request into a gated branch makes one.
            </EmptyState>
          ) : (
            <EmptyState title="Not found">This workspace is not connected, or you are not a member of it.</EmptyState>
          )
        }
      >
        {(edges) => (
          <Table caption="Requests" columns={["Pull request", "State", "Commit", "Asked"]}>
            <tbody>
              {edges.map(({ node }) => (
                <RequestRow key={node.id} request={node} />
              ))}
            </tbody>
          </Table>
        )}
      </Pages>
    </>
  );
}

/** One request in a list. */
function RequestRow({ request: masked }: { request: FragmentType<typeof rowFragment> }) {
  const request = readFragment(rowFragment, masked);
  const badge = requestBadges[request.state];
  return (
    <tr>
      <th scope="row">
        <Link to="/requests/$request" params={{ request: request.id }}>
          <Visible text={request.pullRequest.title} />
        </Link>
        <div className="sa-small sa-subtle">
          <Visible text={request.pullRequest.repository.fullName} /> #{request.pullRequest.number}, round{" "}
          {request.round}
        </div>
      </th>
      <td>
        <Lozenge tone={badge.tone}>{badge.label}</Lozenge>
        <div className="sa-small sa-subtle">
          <Visible text={sentenceCase(request.sentence)} />
        </div>
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
