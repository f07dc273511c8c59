import { graphql } from "@signedapproval/graph/generated";
import { ShortCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { Pages } from "../Pages.tsx";

const ViolationsQuery = graphql(`
  query Violations($repository: ID!, $after: String) {
    node(id: $repository) {
      id
      ... on Repository {
        violations(first: 20, after: $after) {
          edges {
            cursor
            node {
              number
              pullRequest {
                id
                title
              }
              destinationBranch
              mergeCommit
              asked
              allowed
              sentence
              seenAt
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

/** Merges that the rules had not approved, newest first. */
export function Violations({ repositoryId }: { repositoryId: string }) {
  return (
    <section className="sa-stack" aria-labelledby="violations">
      <h2 id="violations">Merged around the gate</h2>
      <Pages
        query={ViolationsQuery}
        variables={{ repository: repositoryId }}
        doing="read the violations"
        list={({ node }) => (node?.__typename === "Repository" ? node.violations : null)}
        empty={() => <EmptyState title="None">Every merge that was seen had its approvals or an override.</EmptyState>}
      >
        {(edges) => (
          <Table caption="Violations" columns={["Seen", "Pull request", "What happened"]}>
            <tbody>
              {edges.map(({ cursor, node: violation }) => (
                <tr key={cursor}>
                  <td>
                    <Time value={violation.seenAt} exact />
                  </td>
                  <th scope="row">
                    {violation.pullRequest ? (
                      <Link to="/pull-requests/$pullRequest" params={{ pullRequest: violation.pullRequest.id }}>
                        #{violation.number} <Visible text={violation.pullRequest.title} />
                      </Link>
                    ) : (
                      `#${violation.number}`
                    )}
                    <div className="sa-small sa-subtle">
                      into <Visible text={violation.destinationBranch} />
                    </div>
                  </th>
                  <td>
                    <Lozenge tone="danger">{askedWord(violation)}</Lozenge>
                    <div className="sa-wrap">
                      <Visible text={violation.sentence} />
                    </div>
                    {violation.mergeCommit && <ShortCommit hash={violation.mergeCommit} />}
                  </td>
                </tr>
              ))}
            </tbody>
          </Table>
        )}
      </Pages>
    </section>
  );
}

/** What the merge check had to do with it. */
function askedWord({ asked, allowed }: { asked: boolean; allowed: boolean }): string {
  if (!asked) return "Not asked";
  return allowed ? "Allowed before" : "Refused, merged all the same";
}
