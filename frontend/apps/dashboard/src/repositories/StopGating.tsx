import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { useState } from "react";
import { useMutation } from "urql";

const RemoveRepository = graphql(`
  mutation RemoveRepository($input: RemoveRepositoryInput!) {
    removeRepository(input: $input) {
      leftToDo
      proposal {
        id
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export interface StopGatingProps {
  repositoryId: string;
  name: string;
  /** Called with what is left to a person. The repository is no longer gated then. */
  onStopped: (leftToDo: readonly string[]) => void;
}

/** Takes the gate away from a repository, after asking. */
export function StopGating({ repositoryId, name, onStopped }: StopGatingProps) {
  const [asking, setAsking] = useState(false);
  const [{ fetching, data, error }, remove] = useMutation(RemoveRepository);
  const failure = failureOf(error);
  const refusal = data?.removeRepository.userErrors[0];
  const confirm = async () => {
    const { data: answer } = await remove({ input: { repositoryId } });
    if (!answer || answer.removeRepository.userErrors.length > 0) return;
    setAsking(false);
    onStopped(answer.removeRepository.leftToDo);
  };
  return (
    <section className="sa-stack sa-stack--tight" aria-labelledby="stop">
      <h2 id="stop">Stop gating</h2>
      <p className="sa-subtle">Removes the webhook and cancels what is asked for. Decisions and their proof stay.</p>
      <div>
        <Button onClick={() => setAsking(true)}>Stop gating…</Button>
      </div>
      {asking && (
        <Dialog
          title={`Stop gating ${name}?`}
          onClose={() => setAsking(false)}
          actions={
            <>
              <Button onClick={() => setAsking(false)}>Keep the gate</Button>
              <Button appearance="danger" busy={fetching} onClick={() => void confirm()}>
                Stop gating
              </Button>
            </>
          }
        >
          <p>
            Open requests are cancelled and their build statuses stopped. Pull requests can then be merged unsigned.
          </p>
          {failure && <ErrorNote failure={failure} doing="stop gating" />}
          {refusal && (
            <Note tone={data?.removeRepository.proposal ? "information" : "danger"} urgent>
              {refusal.message}
            </Note>
          )}
        </Dialog>
      )}
    </section>
  );
}
