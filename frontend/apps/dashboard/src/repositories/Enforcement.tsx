import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useState } from "react";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { enforcementBadges } from "../states.ts";
import { FixEnforcement } from "./FixEnforcement.tsx";
import { MergeChecks } from "./MergeChecks.tsx";
import "./Enforcement.css";

const EnforcementQuery = graphql(`
  query Enforcement($repository: ID!) {
    node(id: $repository) {
      id
      ... on Repository {
        viewerCanConfigure
        ...EnforcementTable_repository
        ...MergeChecks_repository
      }
    }
  }
`);

const repositoryFragment = graphql(`
  fragment EnforcementTable_repository on Repository {
    id
    enforcement {
      pattern
      state
      checkedAt
      changedAt
      reasons {
        code
        sentence
        fix
        steps
      }
    }
  }
`);

/** How far Bitbucket enforces the gate of a repository, what of it can be mended, and what the merge check answered. */
export function Enforcement({ repositoryId }: { repositoryId: string }) {
  const [result, ask] = useQuery({ query: EnforcementQuery, variables: { repository: repositoryId } });
  return (
    <>
      <section className="sa-stack" aria-labelledby="enforcement">
        <h2 id="enforcement">Is the gate enforced?</h2>
        <Answer result={result} ask={ask} doing="read how far the gate is enforced">
          {({ node }) =>
            node?.__typename === "Repository" ? (
              <EnforcementTable repository={node} mayFix={node.viewerCanConfigure} />
            ) : (
              <NotLookedAt />
            )
          }
        </Answer>
      </section>
      {result.data?.node?.__typename === "Repository" && <MergeChecks repository={result.data.node} />}
    </>
  );
}

function NotLookedAt() {
  return (
    <EmptyState title="Not looked at yet">
      What Bitbucket enforces is read after each change of the rules, after each merge, and from time to time.
    </EmptyState>
  );
}

interface EnforcementTableProps {
  repository: FragmentType<typeof repositoryFragment>;
  mayFix: boolean;
}

function EnforcementTable({ repository: masked, mayFix }: EnforcementTableProps) {
  const repository = readFragment(repositoryFragment, masked);
  const [left, setLeft] = useState<readonly string[]>([]);
  if (repository.enforcement.length === 0) return <NotLookedAt />;
  return (
    <>
      {left.length > 0 && (
        <Note tone="warning" title="This is left for you to do" urgent>
          <ul className="enforcement__left">
            {left.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </Note>
      )}
      <Table caption="Enforcement" columns={["Branches", "State", "Why", "Looked at"]}>
        <tbody>
          {repository.enforcement.map(({ pattern, state, reasons, checkedAt, changedAt }) => {
            const badge = enforcementBadges[state];
            const fixes = [...new Set(reasons.flatMap(({ fix }) => fix ?? []))];
            return (
              <tr key={pattern}>
                <th scope="row">
                  <Visible text={pattern} />
                </th>
                <td>
                  <Lozenge tone={badge.tone}>{badge.label}</Lozenge>
                  <div className="sa-small sa-subtle">
                    since <Time value={changedAt} />
                  </div>
                </td>
                <td>
                  <ul className="enforcement__reasons">
                    {reasons.map(({ code, sentence, steps }) => (
                      <li key={`${code} ${sentence}`}>
                        <Visible text={sentence} />
                        {steps.length > 0 && (
                          <ol className="enforcement__steps sa-small">
                            {steps.map((step) => (
                              <li key={step}>{step}</li>
                            ))}
                          </ol>
                        )}
                      </li>
                    ))}
                  </ul>
                  {mayFix && fixes.length > 0 && (
                    <FixEnforcement repositoryId={repository.id} pattern={pattern} fixes={fixes} onFixed={setLeft} />
                  )}
                </td>
                <td>
                  <Time value={checkedAt} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </Table>
    </>
  );
}
