import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Visible } from "@signedapproval/ui/Visible";
import "./RuleInWords.css";

const ruleFragment = graphql(`
  fragment RuleInWords_rule on Rule {
    name
    branches
    authorMayApprove
    expiresAfterSeconds
    requirements {
      name
      quorum
      everyone
      approvers {
        accountId
        name
      }
    }
    override {
      quorum
      everyone
      approvers {
        accountId
        name
      }
    }
    autoMerge {
      strategy
      closeSourceBranch
    }
    keys {
      countersigned
      models {
        aaguid
        description
      }
    }
    cosignatures
  }
`);

/** A length of time in the largest unit that gives a whole number. */
export function lengthInWords(seconds: number): string {
  const units = [
    ["day", 86_400],
    ["hour", 3_600],
    ["minute", 60],
    ["second", 1],
  ] as const;
  const [unit, size] = units.find(([, size]) => seconds >= size && seconds % size === 0) ?? units[3];
  const count = seconds / size;
  return `${count.toLocaleString()} ${unit}${count === 1 ? "" : "s"}`;
}

/** Bitbucket's names of merge strategies, in words. */
export function strategyInWords(strategy: string): string {
  return strategy.replaceAll("_", " ") || "the branch's default strategy";
}

/** What a rule asks for, in sentences. */
export function RuleInWords({ rule: masked }: { rule: FragmentType<typeof ruleFragment> }) {
  const rule = readFragment(ruleFragment, masked);
  return (
    <ul className="rule">
      {rule.requirements.map((requirement) => (
        <li key={requirement.name}>
          <strong>
            <Visible text={requirement.name} />:
          </strong>{" "}
          {requirement.everyone ? (
            `${people(requirement.quorum)} with write permission must approve.`
          ) : (
            <>
              {requirement.quorum} of <Names people={requirement.approvers} /> must approve.
            </>
          )}
        </li>
      ))}
      <li>
        {rule.authorMayApprove ? "The author's own approval counts." : "The author's own approval does not count."} Any
        rejection blocks until it is withdrawn.
      </li>
      <li>
        A new commit needs new approvals. The request expires {lengthInWords(rule.expiresAfterSeconds)} after it was
        asked.
      </li>
      {rule.keys?.countersigned && (
        <li>Approvals and overrides count only with a passkey that somebody else vouched for.</li>
      )}
      {rule.keys && rule.keys.models.length > 0 && (
        <li>
          Approvals and overrides count only with a passkey that is proved to be of the model{" "}
          {rule.keys.models.map((model, index) => (
            <span key={model.aaguid}>
              {index > 0 && " or "}
              <Visible text={model.description ?? model.aaguid} />
            </span>
          ))}
          .
        </li>
      )}
      {rule.override && (
        <li>
          {rule.override.everyone ? (
            people(rule.override.quorum)
          ) : (
            <>
              {rule.override.quorum} of <Names people={rule.override.approvers} />
            </>
          )}{" "}
          {rule.override.everyone && "with write permission "}can override it with a reason, against a rejection too.
        </li>
      )}
      {rule.autoMerge && (
        <li>
          Once approved it is merged at once ({strategyInWords(rule.autoMerge.strategy)}
          {rule.autoMerge.closeSourceBranch ? ", the source branch is closed" : ""}).
        </li>
      )}
      {rule.cosignatures > 0 && (
        <li>
          Nothing turns green or is merged before {rule.cosignatures}{" "}
          {rule.cosignatures === 1 ? "witness has" : "witnesses have"} cosigned the log over it.
        </li>
      )}
      <li className="sa-subtle">
        Rule “<Visible text={rule.name} />
        ”, for branches{" "}
        {rule.branches.map((branch, index) => (
          <span key={branch}>
            {index > 0 && ", "}
            <code className="sa-branch">
              <Visible text={branch} />
            </code>
          </span>
        ))}
      </li>
    </ul>
  );
}

function Names({ people }: { people: readonly { accountId: string; name: string }[] }) {
  return people.map((account, index) => (
    <span key={account.accountId}>
      {index > 0 && (index === people.length - 1 ? " and " : ", ")}
      <Visible text={account.name} />
    </span>
  ));
}

function people(count: number): string {
  return count === 1 ? "1 person" : `${count} people`;
}
