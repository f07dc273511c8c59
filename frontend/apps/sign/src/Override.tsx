import type { DecisionAction } from "@signedapproval/graph/generated/graphql.ts";
import { Button } from "@signedapproval/ui/Button";
import { Field } from "@signedapproval/ui/Field";
import { useId, useState } from "react";

/** As long as a comment may be, in characters. */
const longest = 2_000;

export interface OverrideProps {
  /** How many people it needs, and how many of them are missing. */
  quorum: number;
  missing: number;
  /** What is being decided; nothing while nothing is. */
  busy: DecisionAction | undefined;
  /** How far the decision has come, where nobody else says so. */
  doing: string;
  /** Whether there is something on the screen that can be signed. */
  ready: boolean;
  start: (reason: string) => Promise<void>;
}

/** Lets a commit be merged without its approvals: apart from the decisions of every day, and never without a reason. */
export function Override({ quorum, missing, busy, doing, ready, start }: OverrideProps) {
  const heading = useId();
  const [text, setText] = useState("");
  const reason = text.trim();
  return (
    <section className="sign__override sa-stack sa-stack--tight" aria-labelledby={heading}>
      <h3 id={heading}>Override the rule</h3>
      <p>
        This lets the commit be merged without the approvals that the rule asks for. It is recorded and shown for ever.
      </p>
      {quorum > 1 && (
        <p>
          It takes {quorum} people; {quorum - missing === 0 ? "nobody" : quorum - missing} overrode it so far.
        </p>
      )}
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
