import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useMutation } from "urql";
import { LeftToDo } from "../LeftToDo.tsx";

const RemoveRepository = graphql(`
  mutation RemoveRepository($input: RemoveRepositoryInput!) {
    removeRepository(input: $input) {
      leftToDo
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** Takes the gate away from a repository, after asking. */
export function StopGating({
  workspace,
  repositoryId,
  name,
}: {
  workspace: string;
  repositoryId: string;
  name: string;
}) {
  const navigate = useNavigate();
  const [asking, setAsking] = useState(false);
  const [{ fetching, data, error }, remove] = useMutation(RemoveRepository);
  const failure = failureOf(error);
  const refusal = data?.removeRepository.userErrors[0];
  const done = data && !refusal;
  const leave = () => void navigate({ to: "/workspaces/$workspace/repositories", params: { workspace } });
  return (
    <section className="sa-stack sa-stack--tight" aria-labelledby="stop">
      <h2 id="stop">Stop gating</h2>
      <p className="sa-subtle">Removes the webhook and cancels what is asked for. Decisions and their proof stay.</p>
      <div>
        <Button onClick={() => setAsking(true)}>Stop gating…</Button>
      </div>
      {asking && (
        <Dialog
          title={done ? `${name} is no longer gated` : `Stop gating ${name}?`}
          onClose={() => (done ? leave() : setAsking(false))}
          actions={
            done ? (
              <Button appearance="primary" onClick={leave}>
                Back to the repositories
              </Button>
            ) : (
              <>
                <Button onClick={() => setAsking(false)}>Keep the gate</Button>
                <Button appearance="danger" busy={fetching} onClick={() => void remove({ input: { repositoryId } })}>
                  Stop gating
                </Button>
              </>
            )
          }
        >
          {done ? (
            <LeftToDo sentences={data.removeRepository.leftToDo} />
          ) : (
            <p>
              Open requests are cancelled and their build statuses stopped. Pull requests can then be merged unsigned.
            </p>
          )}
          {failure && <ErrorNote failure={failure} doing="stop gating" />}
          {refusal && (
            <Note tone="danger" urgent>
              {refusal.message}
            </Note>
          )}
        </Dialog>
      )}
    </section>
  );
}
