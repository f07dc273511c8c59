import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { LeftToDo } from "../LeftToDo.tsx";
import { PageLink } from "../PageLink.tsx";
import { connectionBadges } from "../states.ts";
import { useHost } from "../surroundings.ts";
import { Alarms } from "./Alarms.tsx";
import { Connect } from "./Connect.tsx";
import { Disconnect } from "./Disconnect.tsx";
import { Grants } from "./Grants.tsx";
import { Installation } from "./Installation.tsx";

const BitbucketQuery = graphql(`
  query Bitbucket {
    viewer {
      workspaces(first: 100) {
        edges {
          node {
            id
            ...ConnectedWorkspace_workspace
          }
        }
      }
    }
    server {
      ...Connect_server
    }
  }
`);

const workspaceFragment = graphql(`
  fragment ConnectedWorkspace_workspace on Workspace {
    id
    slug
    name
    viewerIsAdmin
    connection {
      state
      reason
      accountName
      connectedAt
      refreshedAt
    }
    installation {
      state
    }
    ...Installation_workspace
    ...Alarms_workspace
  }
`);

/** Which workspaces are connected, by whom, and how another is. */
export function BitbucketPage() {
  const [result, ask] = useQuery({ query: BitbucketQuery });
  const [ended, setEnded] = useState<{ name: string; leftToDo: readonly string[] } | null>(null);
  const again = () => ask({ requestPolicy: "network-only" });
  const { standsAlone } = useHost();
  return (
    <>
      <h1>Bitbucket</h1>
      {ended && <LeftToDo title={`${ended.name} is disconnected`} sentences={ended.leftToDo} />}
      <Answer result={result} ask={ask} doing="read the connections">
        {({ viewer, server }) => (
          <>
            {standsAlone && <Grants onConnected={again} />}
            {viewer?.workspaces.edges.length ? (
              viewer.workspaces.edges.map(({ node }) => (
                <ConnectedWorkspace
                  key={node.id}
                  workspace={node}
                  onDisconnected={(name, leftToDo) => {
                    setEnded({ name, leftToDo });
                    again();
                  }}
                />
              ))
            ) : (
              <EmptyState title="No workspace is connected">
                Connect one to gate its repositories. You need to administer it on Bitbucket.
              </EmptyState>
            )}
            {standsAlone ? <Connect server={server} /> : <ConnectElsewhere />}
          </>
        )}
      </Answer>
    </>
  );
}

/** A consent is given on Bitbucket's own page, which opens in no frame. */
function ConnectElsewhere() {
  return (
    <section className="card" aria-labelledby="connect">
      <h2 id="connect">Connect by OAuth as well</h2>
      <p>A second way to Bitbucket, for what the app may not do. It is set up on a page of its own.</p>
      <div>
        <PageLink path="/settings/bitbucket" look="default">
          Connections
        </PageLink>
      </div>
    </section>
  );
}

function ConnectedWorkspace({
  workspace: masked,
  onDisconnected,
}: {
  workspace: FragmentType<typeof workspaceFragment>;
  onDisconnected: (name: string, leftToDo: readonly string[]) => void;
}) {
  const workspace = readFragment(workspaceFragment, masked);
  const { connection } = workspace;
  const installed = workspace.installation?.state === "ACTIVE";
  // With the app nothing is missing where there is no connection.
  const badge = connection || !installed ? connectionBadges[connection?.state ?? "DISCONNECTED"] : null;
  return (
    <section className="card" aria-label={workspace.name}>
      <div className="sa-row sa-row--apart">
        <h2 className="sa-row">
          <Visible text={workspace.name} /> {badge && <Lozenge tone={badge.tone}>{badge.label}</Lozenge>}
        </h2>
        {workspace.viewerIsAdmin && connection && connection.state !== "DISCONNECTED" && (
          <Disconnect
            workspaceId={workspace.id}
            name={workspace.name}
            onDisconnected={(leftToDo) => onDisconnected(workspace.name, leftToDo)}
          />
        )}
      </div>
      {connection?.state === "NEEDS_RECONNECTING" && (
        <Note tone="warning" title="Bitbucket no longer accepts this connection">
          {connection.reason} Connect the workspace again below; until then its gated pull requests keep their last
          status.
        </Note>
      )}
      <dl className="facts">
        <dt>Workspace</dt>
        <dd>
          <Link to="/workspaces/$workspace/repositories" params={{ workspace: workspace.slug }}>
            {workspace.slug}
          </Link>
        </dd>
        {connection && (
          <>
            <dt>Connected by</dt>
            <dd>
              <Visible text={connection.accountName} />
            </dd>
            <dt>Since</dt>
            <dd>
              <Time value={connection.connectedAt} exact />
            </dd>
            <dt>Tokens last refreshed</dt>
            <dd>
              <Time value={connection.refreshedAt} />
            </dd>
          </>
        )}
      </dl>
      <Installation workspace={workspace} />
      <Alarms workspace={workspace} />
    </section>
  );
}
