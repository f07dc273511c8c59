import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { useState } from "react";
import { useMutation } from "urql";

const DisconnectWorkspace = graphql(`
  mutation DisconnectWorkspace($input: DisconnectWorkspaceInput!) {
    disconnectWorkspace(input: $input) {
      leftToDo
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export interface DisconnectProps {
  workspaceId: string;
  name: string;
  /** Called with what is left to a person. The workspace is gone from the page then, and this with it. */
  onDisconnected: (leftToDo: readonly string[]) => void;
}

/** Ends a connection, after asking. */
export function Disconnect({ workspaceId, name, onDisconnected }: DisconnectProps) {
  const [asking, setAsking] = useState(false);
  const [{ fetching, data, error }, disconnect] = useMutation(DisconnectWorkspace);
  const failure = failureOf(error);
  const refusal = data?.disconnectWorkspace.userErrors[0];
  const confirm = async () => {
    const { data: answer } = await disconnect({ input: { workspaceId } });
    if (!answer || answer.disconnectWorkspace.userErrors.length > 0) return;
    setAsking(false);
    onDisconnected(answer.disconnectWorkspace.leftToDo);
  };
  return (
    <>
      <Button onClick={() => setAsking(true)}>
        Disconnect… <span className="sa-hidden">{name}</span>
      </Button>
      {asking && (
        <Dialog
          title={`Disconnect ${name}?`}
          onClose={() => setAsking(false)}
          actions={
            <>
              <Button onClick={() => setAsking(false)}>Stay connected</Button>
              <Button appearance="danger" busy={fetching} onClick={() => void confirm()}>
                Disconnect
              </Button>
            </>
          }
        >
          <p>
            Removes our webhooks, forgets the tokens, removes the rules of all repositories and cancels all open
            requests.
          </p>
          <p>Decisions and their proof stay. Pull requests can then be merged unsigned.</p>
          {failure && <ErrorNote failure={failure} doing="disconnect" />}
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
