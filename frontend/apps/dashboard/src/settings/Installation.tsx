import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Time } from "@signedapproval/ui/Time";
import { useState } from "react";
import { useMutation } from "urql";
import { identities, installationBadges } from "../states.ts";

const workspaceFragment = graphql(`
  fragment Installation_workspace on Workspace {
    id
    name
    viewerIsAdmin
    installation {
      state
      appVersion
      installedAt
      confirmedAt
      uninstalledAt
      heardAt
      tokenExpiresAt
    }
    actsAs {
      identity
      sentence
    }
  }
`);

const ConfirmInstallation = graphql(`
  mutation ConfirmInstallation($input: ConfirmInstallationInput!) {
    confirmInstallation(input: $input) {
      workspace {
        id
        ...Installation_workspace
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** The app in a workspace, and in whose name the workspace is written to. */
export function Installation({ workspace: masked }: { workspace: FragmentType<typeof workspaceFragment> }) {
  const { id, name, viewerIsAdmin, installation, actsAs } = readFragment(workspaceFragment, masked);
  return (
    <>
      {installation?.state === "AWAITING_CONFIRMATION" && (
        <Note
          tone="warning"
          title="The app waits for an administrator"
          actions={viewerIsAdmin && <Confirm workspaceId={id} name={name} />}
        >
          It was installed into a workspace that has rules or history of before. Nothing is written to Bitbucket until{" "}
          {viewerIsAdmin ? "you say" : "an administrator says"} that they go together.
        </Note>
      )}
      <dl className="facts">
        <dt>App</dt>
        <dd>
          {installation ? (
            <Lozenge tone={installationBadges[installation.state].tone}>
              {installationBadges[installation.state].label}
            </Lozenge>
          ) : (
            "Not installed from the Atlassian Marketplace"
          )}
        </dd>
        {installation && (
          <>
            {installation.appVersion && (
              <>
                <dt>Version</dt>
                <dd>{installation.appVersion}</dd>
              </>
            )}
            <dt>Installed</dt>
            <dd>
              <Time value={installation.installedAt} exact />
            </dd>
            {installation.confirmedAt && (
              <>
                <dt>Confirmed</dt>
                <dd>
                  <Time value={installation.confirmedAt} exact />
                </dd>
              </>
            )}
            {installation.uninstalledAt ? (
              <>
                <dt>Uninstalled</dt>
                <dd>
                  <Time value={installation.uninstalledAt} exact />
                </dd>
              </>
            ) : (
              <>
                <dt>Last heard of</dt>
                <dd>
                  <Time value={installation.heardAt} />
                </dd>
                <dt>Its token</dt>
                <dd>
                  {installation.tokenExpiresAt ? (
                    <>
                      expires <Time value={installation.tokenExpiresAt} />
                    </>
                  ) : (
                    "None is held: what is to be written waits for the next, which comes each hour."
                  )}
                </dd>
              </>
            )}
          </>
        )}
        {actsAs && (
          <>
            <dt>Statuses and merges bear</dt>
            <dd>
              {identities[actsAs.identity]}
              <div className="sa-small sa-subtle">{actsAs.sentence}</div>
            </dd>
          </>
        )}
      </dl>
    </>
  );
}

function Confirm({ workspaceId, name }: { workspaceId: string; name: string }) {
  const [asking, setAsking] = useState(false);
  const [{ fetching, data, error }, confirm] = useMutation(ConfirmInstallation);
  const failure = failureOf(error);
  const refusal = data?.confirmInstallation.userErrors[0];
  const go = async () => {
    const { data: answer } = await confirm({ input: { workspaceId } });
    if (answer && answer.confirmInstallation.userErrors.length === 0) setAsking(false);
  };
  return (
    <>
      <Button appearance="primary" onClick={() => setAsking(true)}>
        Confirm… <span className="sa-hidden">{name}</span>
      </Button>
      {asking && (
        <Dialog
          title={`Give the app the rules and history of ${name}?`}
          onClose={() => setAsking(false)}
          actions={
            <>
              <Button onClick={() => setAsking(false)}>Not now</Button>
              <Button appearance="primary" busy={fetching} onClick={() => void go()}>
                Confirm
              </Button>
            </>
          }
        >
          <p>
            The rules of before are in force again, their pull requests are looked at, and build statuses and merges are
            written in the app's name.
          </p>
          {failure && <ErrorNote failure={failure} doing="confirm" />}
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
