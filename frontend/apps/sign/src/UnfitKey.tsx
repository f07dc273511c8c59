import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Note } from "@signedapproval/ui/Note";
import { sentenceCase } from "@signedapproval/ui/sentence.ts";
import { Visible } from "@signedapproval/ui/Visible";

const unfitFragment = graphql(`
  fragment Unfit_decision on IgnoredDecision {
    account {
      accountId
    }
    code
    sentence
  }
`);

/** Why a decision does not count, where that is for the key that signed it. */
const codes = ["LOGIN_ONLY_KEY", "UNPROVED_MODEL", "COMPROMISED_KEY"];

export interface UnfitKeyProps {
  accountId: string;
  /** What does not count, of everybody. */
  decisions: readonly FragmentType<typeof unfitFragment>[];
}

/** Says that a decision of this person does not count for the key that signed it; nothing where all of theirs do. */
export function UnfitKey({ accountId, decisions }: UnfitKeyProps) {
  const own = decisions
    .map((decision) => readFragment(unfitFragment, decision))
    .filter((decision) => decision.account.accountId === accountId && codes.includes(decision.code));
  if (own.length === 0) return null;
  // Each requirement says the same of the same decision.
  const sentences = [...new Set(own.map((decision) => decision.sentence))];
  return (
    <Note tone="warning" title="Your decision is recorded, but it does not count" urgent>
      {sentences.map((sentence) => (
        <p key={sentence}>
          <Visible text={sentenceCase(sentence)} />.
        </p>
      ))}
      <p>Decide again with a key that the rule asks for, or let somebody else decide.</p>
    </Note>
  );
}
