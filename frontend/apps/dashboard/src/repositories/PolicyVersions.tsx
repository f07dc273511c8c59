import { graphql } from "@signedapproval/graph/generated";
import { RuleInWords } from "@signedapproval/sign/RuleInWords";
import { Person } from "@signedapproval/ui/Avatar";
import { FullCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Time } from "@signedapproval/ui/Time";
import "./PolicyVersions.css";
import { Pages } from "../Pages.tsx";

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
  return (
    <section className="sa-stack" aria-labelledby="versions">
      <h2 id="versions">Versions of the rules</h2>
      <Pages
        key={current} // a new version moves every page
        query={PolicyVersionsQuery}
        variables={{ repository: repositoryId }}
        doing="read the versions"
        list={({ node }) => (node?.__typename === "Repository" ? node.policyVersions : null)}
        empty={() => <EmptyState title="No versions" />}
      >
        {(edges) => (
          <ul className="versions">
            {edges.map(({ node: version }) => (
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
        )}
      </Pages>
    </section>
  );
}
