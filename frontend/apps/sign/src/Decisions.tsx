import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { DecisionAction } from "@signedapproval/graph/generated/graphql.ts";
import { Person } from "@signedapproval/ui/Avatar";
import { Lozenge, type Tone } from "@signedapproval/ui/Lozenge";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import "./Decisions.css";

const requestFragment = graphql(`
  fragment Decisions_request on ApprovalRequest {
    id
    decisions {
      id
      action
      comment
      decidedAt
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

/** Who has signed, in the order in which they did. */
export function Decisions({ request: masked }: { request: FragmentType<typeof requestFragment> }) {
  const { decisions } = readFragment(requestFragment, masked);
  if (decisions.length === 0) return <p className="sa-subtle">Nobody has signed yet.</p>;
  return (
    <ol className="decisions">
      {decisions.map((decision) => (
        <li key={decision.id}>
          <span className="sa-row">
            <Person name={decision.account.name} />
            <Lozenge tone={actions[decision.action].tone}>{actions[decision.action].word}</Lozenge>
            <span className="sa-subtle sa-small">
              <Time value={decision.decidedAt} />
            </span>
          </span>
          {decision.comment && (
            <blockquote className="decisions__comment">
              <Visible text={decision.comment} />
            </blockquote>
          )}
        </li>
      ))}
    </ol>
  );
}
