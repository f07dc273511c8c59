import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { People } from "@signedapproval/ui/Avatar";
import { Icon } from "@signedapproval/ui/Icon";
import { Visible } from "@signedapproval/ui/Visible";
import "./Requirements.css";

const requestFragment = graphql(`
  fragment Requirements_request on ApprovalRequest {
    id
    state
    rejectedBy {
      accountId
      name
    }
    override {
      quorum
      missing
      overriddenBy {
        accountId
        name
      }
      canStillOverride {
        accountId
        name
      }
      ignored {
        code
        sentence
        account {
          accountId
        }
      }
    }
    requirements {
      name
      quorum
      missing
      approvedBy {
        accountId
        name
      }
      canStillApprove {
        accountId
        name
      }
      ignored {
        code
        sentence
        account {
          accountId
        }
      }
    }
  }
`);

/** People that are named one by one before the rest is folded. */
const named = 5;

/** How far each requirement has come: who approved, who rejected, who can still approve, and what does not count. */
export function Requirements({ request: masked }: { request: FragmentType<typeof requestFragment> }) {
  const request = readFragment(requestFragment, masked);
  const open = request.state === "PENDING" || request.state === "REJECTED";
  return (
    <section className="sa-stack" aria-label="Requirements">
      {request.rejectedBy.length > 0 && (
        <div className="sa-stack sa-stack--tight">
          <h2 className="requirements__heading requirements__heading--danger">
            <Icon name="cross" /> Rejected by
          </h2>
          <People people={request.rejectedBy} label="Rejected by" />
        </div>
      )}
      {request.override && request.override.overriddenBy.length > 0 && (
        <div className="sa-stack sa-stack--tight">
          <h2 className="requirements__heading sa-row sa-row--apart">
            <span>{request.override.missing === 0 ? "Overridden by" : "Wants it overridden"}</span>
            <span className="requirements__count">
              {request.override.quorum - request.override.missing} of {request.override.quorum}
            </span>
          </h2>
          <People people={request.override.overriddenBy} label="Overridden by" />
          {open && request.override.missing > 0 && (
            <>
              <p className="requirements__label">
                The override waits: {request.override.missing} more {request.override.missing === 1 ? "has" : "have"} to
                sign it too.
              </p>
              <StillAble
                people={request.override.canStillOverride}
                label="Can still override"
                words={{ many: "can still override", named: "Can sign it", nobody: "Nobody is left who can." }}
              />
            </>
          )}
        </div>
      )}
      {request.override && <NotCounted decisions={request.override.ignored} />}
      {request.requirements.map((requirement) => {
        const given = requirement.quorum - requirement.missing;
        return (
          <div key={requirement.name} className="sa-stack sa-stack--tight">
            <h2 className="requirements__heading sa-row sa-row--apart">
              <span className="sa-wrap">
                <Visible text={requirement.name} />
              </span>
              <span className="requirements__count">
                {given} of {requirement.quorum}
              </span>
            </h2>
            <progress
              className={`requirements__progress${requirement.missing === 0 ? " requirements__progress--met" : ""}`}
              max={requirement.quorum}
              value={given}
              aria-label={`${requirement.name}: ${given} of ${requirement.quorum} approvals`}
            />
            {requirement.approvedBy.length > 0 && (
              <div className="requirements__group">
                <p className="requirements__label">
                  <Icon name="check" /> Approved
                </p>
                <People people={requirement.approvedBy} label={`Approved for ${requirement.name}`} />
              </div>
            )}
            {open && requirement.missing > 0 && (
              <CanStillApprove people={requirement.canStillApprove} requirement={requirement.name} />
            )}
            <NotCounted decisions={requirement.ignored} />
          </div>
        );
      })}
    </section>
  );
}

function NotCounted({
  decisions,
}: {
  decisions: readonly { code: string; sentence: string; account: { accountId: string } }[];
}) {
  if (decisions.length === 0) return null;
  return (
    <details className="requirements__more sa-small">
      <summary>
        {decisions.length === 1 ? "1 decision does not count" : `${decisions.length} decisions do not count`}
      </summary>
      <ul className="requirements__ignored">
        {decisions.map((decision) => (
          <li key={`${decision.account.accountId} ${decision.code}`}>
            <Visible text={decision.sentence} />
          </li>
        ))}
      </ul>
    </details>
  );
}

function CanStillApprove({
  people,
  requirement,
}: {
  people: readonly { accountId: string; name: string }[];
  requirement: string;
}) {
  return (
    <StillAble
      people={people}
      label={`Can still approve for ${requirement}`}
      words={{ many: "can still approve", named: "Can still approve", nobody: "Nobody is left who can approve." }}
    />
  );
}

interface StillAbleProps {
  people: readonly { accountId: string; name: string }[];
  /** What the list is called. */
  label: string;
  words: { many: string; named: string; nobody: string };
}

/** Who can still do something: by name, or by their number where they are many. */
function StillAble({ people, label, words }: StillAbleProps) {
  if (people.length === 0) return <p className="requirements__label">{words.nobody}</p>;
  if (people.length <= named) {
    return (
      <div className="requirements__group">
        <p className="requirements__label">
          <Icon name="clock" /> {words.named}
        </p>
        <People people={people} label={label} />
      </div>
    );
  }
  return (
    <details>
      <summary className="requirements__label">
        {/* The API names fifty at most. */}
        {people.length >= 50 ? "50 or more people" : `${people.length} people`} {words.many}
      </summary>
      <People people={people} label={label} />
    </details>
  );
}
