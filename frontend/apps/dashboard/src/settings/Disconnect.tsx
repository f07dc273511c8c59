import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { useState } from "react";
import { useMutation } from "urql";
import { LeftToDo } from "../LeftToDo.tsx";

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
  onDisconnected: () => void;
}

/** Ends a connection, after asking, and says what could not be undone. */
export function Disconnect({ workspaceId, name, onDisconnected }: DisconnectProps) {
  const [asking, setAsking] = useState(false);
  const [{ fetching, data, error }, disconnect] = useMutation(DisconnectWorkspace);
  const failure = failureOf(error);
  const refusal = data?.disconnectWorkspace.userErrors[0];
  const done = data && !refusal;
  const close = () => {
    setAsking(false);
    if (done) onDisconnected();
  };
  return (
    <>
      <Button onClick={() => setAsking(true)}>
        Disconnect… <span className="sa-hidden">{name}</span>
      </Button>
      {asking && (
        <Dialog
          title={done ? `${name} is disconnected` : `Disconnect ${name}?`}
          onClose={close}
          actions={
            done ? (
              <Button appearance="primary" onClick={close}>
                Done
              </Button>
            ) : (
              <>
                <Button onClick={close}>Stay connected</Button>
                <Button appearance="danger" busy={fetching} onClick={() => void disconnect({ input: { workspaceId } })}>
                  Disconnect
                </Button>
              </>
            )
          }
        >
          {done ? (
            <LeftToDo sentences={data.disconnectWorkspace.leftToDo} />
          ) : (
            <>
              <p>
                Removes our webhooks, forgets the tokens, removes the rules of all repositories and cancels all open
                requests.
              </p>
              <p>Decisions and their proof stay. Pull requests can then be merged unsigned.</p>
            </>
          )}
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
