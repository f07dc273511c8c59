import { graphql } from "@signedapproval/graph/generated";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { Pages } from "../Pages.tsx";
import { pageSize } from "../pages.ts";

const FallenVerdictsQuery = graphql(`
  query FallenVerdicts($workspace: String!, $first: Int, $after: String) {
    workspace(key: $workspace) {
      id
      fallenVerdicts(first: $first, after: $after) {
        edges {
          cursor
          node {
            owner {
              id
              name
            }
            key
            compromisedSince
            reportedAt
            pullRequest {
              id
              number
              title
              repository {
                id
                fullName
              }
            }
            was
            standsAs
            merged
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

/** What reports of stolen keys took down, newest first, for administrators. */
export function FallenVerdicts({ workspace }: { workspace: string }) {
  return (
    <section className="sa-stack" aria-labelledby="fallen">
      <h2 id="fallen">Taken down by reports</h2>
      <p className="sa-subtle">
        What was approved or overridden, and is not any more since a key was reported as stolen. Look at what was
        merged: too few people who count have agreed to it.
      </p>
      <Pages
        query={FallenVerdictsQuery}
        variables={{ workspace, first: pageSize }}
        doing="read what reports took down"
        list={({ workspace: node }) => node?.fallenVerdicts}
        empty={() => <EmptyState title="Nothing fell">No report of a stolen key has taken anything down.</EmptyState>}
      >
        {(edges) => (
          <Table caption="Taken down by reports" columns={["Pull request", "What became of it", "Reported"]}>
            <tbody>
              {edges.map(({ cursor, node: verdict }) => (
                <tr key={cursor}>
                  <th scope="row">
                    {verdict.pullRequest ? (
                      <>
                        <Link to="/pull-requests/$pullRequest" params={{ pullRequest: verdict.pullRequest.id }}>
                          #{verdict.pullRequest.number} <Visible text={verdict.pullRequest.title} />
                        </Link>
                        <div className="sa-small sa-subtle">
                          in <Visible text={verdict.pullRequest.repository.fullName} />
                        </div>
                      </>
                    ) : (
                      "One that you may not see"
                    )}
                  </th>
                  <td>
                    <Lozenge tone={verdict.merged ? "danger" : "warning"}>
                      {verdict.merged ? "Merged" : "Not merged"}
                    </Lozenge>
                    <div>{becameOf(verdict)}</div>
                  </td>
                  <td>
                    <div className="sa-wrap">
                      <Visible text={verdict.key || "A key"} /> of{" "}
                      <Visible text={verdict.owner?.name ?? "an erased person"} />, in other hands since{" "}
                      <Time value={verdict.compromisedSince} exact />
                    </div>
                    <div className="sa-small sa-subtle">
                      Reported <Time value={verdict.reportedAt} exact />
                    </div>
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

/** What a verdict was, and what it is without what stolen keys signed. */
function becameOf({ was, standsAs }: { was: string; standsAs: string }): string {
  const without: Record<string, string> = {
    APPROVED: "only approved by others",
    PENDING: "too few have approved it",
    REJECTED: "a rejection stands again",
    EXPIRED: "its time is up",
  };
  return `${was === "OVERRIDDEN" ? "Overridden" : "Approved"}; now ${without[standsAs] ?? "it does not stand"}`;
}
