import type { DecisionAction } from "@signedapproval/graph/generated/graphql.ts";
import { Button } from "@signedapproval/ui/Button";
import { Field } from "@signedapproval/ui/Field";
import { Note } from "@signedapproval/ui/Note";
import { Visible } from "@signedapproval/ui/Visible";
import { useId, useState } from "react";

/** As long as a comment may be, in characters. */
const longest = 2_000;

type People = readonly { accountId: string; name: string }[];

interface Progress {
  /** How many people it needs, and how many of them are missing. */
  quorum: number;
  missing: number;
  overriddenBy: People;
  canStillOverride: People;
}

interface WaitingOverrideProps {
  /** Of the viewer. */
  accountId: string;
  progress: Progress;
}

/** Says who wants a rule overridden, and for whom that waits; nothing where nobody does, or enough do. */
export function WaitingOverride({ accountId, progress }: WaitingOverrideProps) {
  const { quorum, missing, overriddenBy, canStillOverride } = progress;
  if (missing === 0 || overriddenBy.length === 0) return null;
  const own = overriddenBy.some((person) => person.accountId === accountId);
  const others = canStillOverride.filter((person) => person.accountId !== accountId);
  return (
    <Note tone="information" title="An override waits">
      <Visible text={overriddenBy.map((person) => (person.accountId === accountId ? "You" : person.name)).join(", ")} />{" "}
      {own || overriddenBy.length > 1 ? "want" : "wants"} the rule overridden for this commit. It takes {quorum} people;{" "}
      {missing} more {missing === 1 ? "has" : "have"} to sign it too
      {others.length > 0 && others.length <= named && (
        <>
          : <Visible text={others.map((person) => person.name).join(", ")} /> can
        </>
      )}
      .
    </Note>
  );
}

/** As many people are named one by one. */
const named = 5;

export interface OverrideProps extends WaitingOverrideProps {
  /** What is being decided; nothing while nothing is. */
  busy: DecisionAction | undefined;
  /** How far the decision has come, where nobody else says so. */
  doing: string;
  /** Whether there is something on the screen that can be signed. */
  ready: boolean;
  start: (reason: string) => Promise<void>;
}

/** Lets a commit be merged without its approvals: apart from the decisions of every day, and never without a reason. */
export function Override({ accountId, progress, busy, doing, ready, start }: OverrideProps) {
  const heading = useId();
  const [text, setText] = useState("");
  const reason = text.trim();
  return (
    <section className="sign__override sa-stack sa-stack--tight" aria-labelledby={heading}>
      <h3 id={heading}>Override the rule</h3>
      <p>
        This lets the commit be merged without the approvals that the rule asks for. It is recorded and shown for ever.
      </p>
      {progress.quorum > 1 && progress.overriddenBy.length === 0 && (
        <p>It takes {progress.quorum} people; nobody overrode it so far.</p>
      )}
      <WaitingOverride accountId={accountId} progress={progress} />
      <Field
        label="Reason"
        hint="Required. Signed with the override; the approvers and the administrators are told."
        problem={reason.length > longest ? `A reason has at most ${longest} characters.` : undefined}
      >
        {(control) => (
          <textarea
            {...control}
            rows={3}
            required
            value={text}
            readOnly={busy !== undefined}
            onChange={(event) => setText(event.target.value)}
          />
        )}
      </Field>
      <div className="sign__buttons">
        <Button
          appearance="danger"
          busy={busy === "OVERRIDE"}
          disabled={!ready || reason === "" || reason.length > longest || (busy !== undefined && busy !== "OVERRIDE")}
          onClick={() => void start(reason)}
        >
          Override
        </Button>
      </div>
      {doing && (
        <p className="sa-small sa-subtle" role="status">
          {doing}
        </p>
      )}
    </section>
  );
}
