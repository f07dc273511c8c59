import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { useMutation, useQuery } from "urql";

const GrantsQuery = graphql(`
  query Grants {
    viewer {
      grants {
        id
        accountName
        expiresAt
        workspaces {
          uuid
          slug
          name
          connected
        }
      }
    }
  }
`);

const ConnectWorkspace = graphql(`
  mutation ConnectWorkspace($input: ConnectWorkspaceInput!) {
    connectWorkspace(input: $input) {
      workspace {
        id
        slug
        name
        ...ConnectedWorkspace_workspace
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** Consents that no workspace has been chosen for yet. Nothing is shown where there is none. */
export function Grants({ onConnected }: { onConnected: () => void }) {
  const [result, ask] = useQuery({ query: GrantsQuery });
  const [{ fetching, data, error, operation }, connect] = useMutation(ConnectWorkspace);
  const loading = failureOf(result.error);
  const failure = failureOf(error);
  const refusal = data?.connectWorkspace.userErrors[0];
  const connected = data?.connectWorkspace.workspace;
  const busy = fetching ? operation?.variables.input.workspaceUuid : null;

  const choose = async (grantId: string, workspaceUuid: string) => {
    const { data: answer } = await connect({ input: { grantId, workspaceUuid } });
    if (!answer?.connectWorkspace.workspace) return;
    ask({ requestPolicy: "network-only" });
    onConnected();
  };
  return (
    <>
      {connected && (
        <Note
          tone="success"
          title={`${connected.name} is connected`}
          urgent
          actions={
            <Link
              className="sa-button sa-button--primary"
              to="/workspaces/$workspace/repositories"
              params={{ workspace: connected.slug }}
            >
              Choose repositories
            </Link>
          }
        >
          Nothing is gated yet.
        </Note>
      )}
      {loading && loading.kind !== "signed-out" && (
        <ErrorNote
          failure={loading}
          doing="read your consents"
          onRetry={() => ask({ requestPolicy: "network-only" })}
        />
      )}
      {result.data?.viewer?.grants.map((grant) => (
        <section key={grant.id} className="card" aria-label={`Consent of ${grant.accountName}`}>
          <h2>Choose the workspace to connect</h2>
          <p>
            <Visible text={grant.accountName} /> gave consent. It can be used for one workspace and expires{" "}
            <Time value={grant.expiresAt} />.
          </p>
          {grant.workspaces.length === 0 ? (
            <Note tone="warning" title="This account administers no workspace">
              Only an administrator of a workspace can connect it.
            </Note>
          ) : (
            <Table caption="Workspaces" columns={["Workspace", "Now", ""]}>
              <tbody>
                {grant.workspaces.map((workspace) => (
                  <tr key={workspace.uuid}>
                    <th scope="row">
                      <Visible text={workspace.name} />
                      <div className="sa-small sa-subtle">{workspace.slug}</div>
                    </th>
                    <td>{workspace.connected ? "Connected: choosing it replaces that connection" : "Not connected"}</td>
                    <td>
                      <Button
                        appearance="primary"
                        busy={busy === workspace.uuid}
                        onClick={() => void choose(grant.id, workspace.uuid)}
                      >
                        {workspace.connected ? "Reconnect" : "Connect"}{" "}
                        <span className="sa-hidden">{workspace.name}</span>
                      </Button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </Table>
          )}
        </section>
      ))}
      {failure && <ErrorNote failure={failure} doing="connect the workspace" />}
      {refusal && (
        <Note tone="danger" title="The workspace was not connected" urgent>
          {refusal.message}
        </Note>
      )}
    </>
  );
}
