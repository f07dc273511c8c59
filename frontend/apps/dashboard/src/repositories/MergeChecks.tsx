import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Person } from "@signedapproval/ui/Avatar";
import { ShortCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";

const repositoryFragment = graphql(`
  fragment MergeChecks_repository on Repository {
    id
    mergeChecks {
      number
      onMerge
      headCommit
      destinationBranch
      askedBy {
        accountId
        name
      }
      allowed
      code
      sentence
      askedAt
    }
  }
`);

/** What Bitbucket's merge check asked lately, and what it was answered. */
export function MergeChecks({ repository: masked }: { repository: FragmentType<typeof repositoryFragment> }) {
  const { mergeChecks } = readFragment(repositoryFragment, masked);
  return (
    <section className="sa-stack" aria-labelledby="merge-checks">
      <h2 id="merge-checks">Recent merge checks</h2>
      {mergeChecks.length === 0 ? (
        <EmptyState title="Bitbucket has not asked yet">
          It asks when somebody merges, once the merge check is switched on in the repository's settings on Bitbucket.
        </EmptyState>
      ) : (
        <Table caption="Merge checks" columns={["When", "Pull request", "Asked by", "Answer"]}>
          <tbody>
            {mergeChecks.map((check) => (
              <tr key={`${check.askedAt} ${check.number}`}>
                <td>
                  <Time value={check.askedAt} />
                  <div className="sa-small sa-subtle">{check.onMerge ? "on merge" : "to show it"}</div>
                </td>
                <th scope="row">
                  #{check.number}
                  {check.destinationBranch && (
                    <div className="sa-small sa-subtle">
                      into <Visible text={check.destinationBranch} />
                    </div>
                  )}
                </th>
                <td>{check.askedBy ? <Person name={check.askedBy.name} /> : "Bitbucket"}</td>
                <td>
                  <Lozenge tone={check.allowed ? "success" : "danger"}>{check.allowed ? "Allowed" : "Refused"}</Lozenge>
                  <div className="sa-wrap">
                    <Visible text={check.sentence} />
                  </div>
                  {check.headCommit && <ShortCommit hash={check.headCommit} />}
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </section>
  );
}
