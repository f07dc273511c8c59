import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import type { EnforcementFix } from "@signedapproval/graph/generated/graphql.ts";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { Visible } from "@signedapproval/ui/Visible";
import { useState } from "react";
import { useMutation } from "urql";

const FixEnforcementMutation = graphql(`
  mutation FixEnforcement($input: FixEnforcementInput!) {
    fixEnforcement(input: $input) {
      repository {
        id
        ...EnforcementTable_repository
      }
      leftToDo
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const words: Record<EnforcementFix, string> = {
  RESTRICT_PUSH: "Nobody may push to these branches any more; merging pull requests goes on.",
  REQUIRE_BUILD: "A merge needs a passing build; the verdict is one.",
  ENFORCE_CHECKS: "Bitbucket refuses merges whose checks are not met. This needs Bitbucket Premium.",
};

export interface FixEnforcementProps {
  repositoryId: string;
  pattern: string;
  fixes: readonly EnforcementFix[];
  /** Called with what is left to a person. What was mended is no longer offered then, and this may be gone. */
  onFixed: (leftToDo: readonly string[]) => void;
}

/** Makes branch restrictions on Bitbucket for one pattern, after saying which. */
export function FixEnforcement({ repositoryId, pattern, fixes, onFixed }: FixEnforcementProps) {
  const [asking, setAsking] = useState(false);
  const [{ fetching, data, error }, fix] = useMutation(FixEnforcementMutation);
  const failure = failureOf(error);
  const refusal = data?.fixEnforcement.userErrors[0];
  const confirm = async () => {
    const { data: answer } = await fix({ input: { repositoryId, pattern, fixes: [...fixes] } });
    if (!answer || answer.fixEnforcement.userErrors.length > 0) return;
    setAsking(false);
    onFixed(answer.fixEnforcement.leftToDo);
  };
  return (
    <>
      <Button onClick={() => setAsking(true)}>
        Fix… <span className="sa-hidden">{pattern}</span>
      </Button>
      {asking && (
        <Dialog
          title="Change what Bitbucket allows?"
          onClose={() => setAsking(false)}
          actions={
            <>
              <Button onClick={() => setAsking(false)}>Leave it</Button>
              <Button appearance="primary" busy={fetching} onClick={() => void confirm()}>
                Make the restrictions
              </Button>
            </>
          }
        >
          <p>
            For <Visible text={pattern} />, these branch restrictions are made in the repository:
          </p>
          <ul className="enforcement__steps">
            {fixes.map((name) => (
              <li key={name}>{words[name]}</li>
            ))}
          </ul>
          <p className="sa-subtle">They are Bitbucket's own: its settings show them, and there they can be removed.</p>
          {failure && <ErrorNote failure={failure} doing="make the restrictions" />}
          {refusal && (
            <Note tone="danger" urgent>
              {refusal.message}
            </Note>
          )}
        </Dialog>
      )}
    </>
  );
}
