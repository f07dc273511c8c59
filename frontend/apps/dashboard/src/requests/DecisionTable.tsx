import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { DecisionAction } from "@signedapproval/graph/generated/graphql.ts";
import { Person } from "@signedapproval/ui/Avatar";
import { FullCommit } from "@signedapproval/ui/Commit";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge, type Tone } from "@signedapproval/ui/Lozenge";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";

const requestFragment = graphql(`
  fragment DecisionTable_request on ApprovalRequest {
    id
    decisions {
      id
      action
      comment
      decidedAt
      statementSha256
      leafHash
      account {
        accountId
        name
      }
    }
  }
`);

const actions: Record<DecisionAction, { word: string; tone: Tone }> = {
  APPROVE: { word: "Approved", tone: "success" },
  REJECT: { word: "Rejected", tone: "danger" },
  WITHDRAW: { word: "Withdrew", tone: "neutral" },
  OVERRIDE: { word: "Overrode", tone: "discovery" },
};

/** All decisions on a request, oldest first, each with what identifies its proof. */
export function DecisionTable({ request: masked }: { request: FragmentType<typeof requestFragment> }) {
  const { decisions } = readFragment(requestFragment, masked);
  if (decisions.length === 0) return <EmptyState title="Nobody has decided yet" />;
  return (
    <Table caption="Decisions" columns={["Who", "Decision", "When", "Proof"]}>
      <tbody>
        {decisions.map((decision) => (
          <tr key={decision.id}>
            <th scope="row">
              <Person name={decision.account.name} />
            </th>
            <td>
              <Lozenge tone={actions[decision.action].tone}>{actions[decision.action].word}</Lozenge>
              {decision.comment && (
                <p className="sa-wrap sa-subtle">
                  <Visible text={decision.comment} />
                </p>
              )}
            </td>
            <td>
              <Time value={decision.decidedAt} exact />
            </td>
            <td className="proof">
              <dl className="sa-small">
                <dt className="sa-subtle">Statement, SHA-256</dt>
                <dd>
                  <FullCommit hash={decision.statementSha256} />
                </dd>
                <dt className="sa-subtle">Leaf</dt>
                <dd>
                  <FullCommit hash={decision.leafHash} />
                </dd>
              </dl>
            </td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}
