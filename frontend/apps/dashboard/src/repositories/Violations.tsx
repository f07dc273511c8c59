import { graphql } from "@signedapproval/graph/generated";
import { ShortCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { More } from "../More.tsx";
import { pageAfter, usePages } from "../pages.ts";

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
  const { pages, more } = usePages();
  return (
    <section className="sa-stack" aria-labelledby="violations">
      <h2 id="violations">Merged around the gate</h2>
      {pages.map((after, index) => (
        <ViolationsPage
          key={after ?? ""}
          repositoryId={repositoryId}
          after={after}
          last={index === pages.length - 1}
          onMore={more}
        />
      ))}
    </section>
  );
}

interface ViolationsPageProps {
  repositoryId: string;
  after: string | undefined;
  last: boolean;
  onMore: (after: string) => void;
}

function ViolationsPage({ repositoryId, after, last, onMore }: ViolationsPageProps) {
  const [result, ask] = useQuery({
    query: ViolationsQuery,
    variables: { repository: repositoryId, ...pageAfter(after) },
  });
  return (
    <Answer result={result} ask={ask} doing="read the violations">
      {({ node }) => {
        if (node?.__typename !== "Repository" || node.violations.edges.length === 0) {
          return <EmptyState title="None">Every merge that was seen had its approvals or an override.</EmptyState>;
        }
        const { edges, pageInfo } = node.violations;
        return (
          <>
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
            <More pageInfo={pageInfo} last={last} onMore={onMore} />
          </>
        );
      }}
    </Answer>
  );
}

/** What the merge check had to do with it. */
function askedWord({ asked, allowed }: { asked: boolean; allowed: boolean }): string {
  if (!asked) return "Not asked";
  return allowed ? "Allowed before" : "Refused, merged all the same";
}
