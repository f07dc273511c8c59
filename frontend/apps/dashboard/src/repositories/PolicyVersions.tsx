import { graphql } from "@signedapproval/graph/generated";
import { RuleInWords } from "@signedapproval/sign/RuleInWords";
import { Person } from "@signedapproval/ui/Avatar";
import { FullCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Time } from "@signedapproval/ui/Time";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { More } from "../More.tsx";
import { pageAfter, usePages } from "../pages.ts";
import "./PolicyVersions.css";

const PolicyVersionsQuery = graphql(`
  query PolicyVersions($repository: ID!, $after: String) {
    node(id: $repository) {
      id
      ... on Repository {
        policyVersions(first: 10, after: $after) {
          edges {
            cursor
            node {
              id
              version
              digest
              createdAt
              createdBy {
                id
                name
              }
              rules {
                name
                ...RuleInWords_rule
              }
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

/** Every version that the rules have had, newest first. */
export function PolicyVersions({ repositoryId, current }: { repositoryId: string; current: number }) {
  const { pages, more } = usePages();
  return (
    <section className="sa-stack" aria-labelledby="versions">
      <h2 id="versions">Versions of the rules</h2>
      {pages.map((after, index) => (
        <VersionsPage
          // A new version moves every page.
          key={`${current} ${after ?? ""}`}
          repositoryId={repositoryId}
          current={current}
          after={after}
          last={index === pages.length - 1}
          onMore={more}
        />
      ))}
    </section>
  );
}

interface VersionsPageProps {
  repositoryId: string;
  current: number;
  after: string | undefined;
  last: boolean;
  onMore: (after: string) => void;
}

function VersionsPage({ repositoryId, current, after, last, onMore }: VersionsPageProps) {
  const variables = { repository: repositoryId, ...pageAfter(after) };
  const [result, ask] = useQuery({ query: PolicyVersionsQuery, variables });
  return (
    <Answer result={result} ask={ask} doing="read the versions">
      {({ node }) => {
        if (node?.__typename !== "Repository" || node.policyVersions.edges.length === 0) {
          return <EmptyState title="No versions" />;
        }
        return (
          <>
            <ul className="versions">
              {node.policyVersions.edges.map(({ node: version }) => (
                <li key={version.id}>
                  <details>
                    <summary>
                      <span className="sa-row">
                        <strong>Version {version.version}</strong>
                        {version.version === current && <Lozenge tone="success">In force</Lozenge>}
                        <Time value={version.createdAt} />
                        {version.createdBy && <Person name={version.createdBy.name} />}
                      </span>
                    </summary>
                    <div className="versions__inside">
                      <p className="sa-small sa-subtle">
                        Digest <FullCommit hash={version.digest} />
                      </p>
                      {version.rules.map((rule) => (
                        <RuleInWords key={rule.name} rule={rule} />
                      ))}
                    </div>
                  </details>
                </li>
              ))}
            </ul>
            <More pageInfo={node.policyVersions.pageInfo} last={last} onMore={onMore} />
          </>
        );
      }}
    </Answer>
  );
}
