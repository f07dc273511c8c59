import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Note } from "@signedapproval/ui/Note";
import { Link } from "@tanstack/react-router";

const workspaceFragment = graphql(`
  fragment Reconnecting_workspace on Workspace {
    id
    name
    viewerIsAdmin
    connection {
      state
      reason
    }
  }
`);

/** Says on every page that a workspace's connection is dead: its pull requests keep their last status until it is not. */
export function Reconnecting({ workspace: masked }: { workspace: FragmentType<typeof workspaceFragment> }) {
  const workspace = readFragment(workspaceFragment, masked);
  if (workspace.connection?.state !== "NEEDS_RECONNECTING") return null;
  return (
    <Note
      tone="warning"
      title={`The connection of ${workspace.name} to Bitbucket needs reconnecting`}
      actions={workspace.viewerIsAdmin && <Link to="/settings/bitbucket">Reconnect</Link>}
    >
      {workspace.connection.reason} Gated pull requests keep their last status until{" "}
      {workspace.viewerIsAdmin ? "you reconnect" : "an administrator reconnects"}.
    </Note>
  );
}
