import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { Person } from "@signedapproval/ui/Avatar";
import { Button } from "@signedapproval/ui/Button";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Spinner } from "@signedapproval/ui/Spinner";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { useMutation, useQuery } from "urql";
import { Landing } from "./Landing.tsx";
import { Mark } from "./Mark.tsx";
import { Reconnecting } from "./Reconnecting.tsx";
import { useHost } from "./surroundings.ts";
import { SignedIn } from "./viewer.ts";
import { type MemberWorkspace, Workspaces } from "./workspaces.ts";
import "./Shell.css";

const ShellQuery = graphql(`
  query Shell {
    viewer {
      person {
        id
        accountId
        name
      }
      unreadNotices
      workspaces(first: 100) {
        edges {
          node {
            id
            uuid
            slug
            name
            viewerIsAdmin
            ...Reconnecting_workspace
          }
        }
      }
    }
  }
`);

const SignOut = graphql(`
  mutation SignOut($input: SignOutInput!) {
    signOut(input: $input) {
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** What stands around every page of the dashboard; the landing page where nobody is signed in. */
export function Shell() {
  const [result, ask] = useQuery({ query: ShellQuery });
  const failure = failureOf(result.error);
  const viewer = result.data?.viewer;
  if (failure?.kind === "signed-out" || (result.data && !viewer)) return <Landing />;
  if (!viewer) {
    return (
      <main className="shell__main">
        <h1>SignedApproval</h1>
        {failure ? (
          <ErrorNote
            failure={failure}
            doing="load the dashboard"
            onRetry={() => ask({ requestPolicy: "network-only" })}
          />
        ) : (
          <Spinner />
        )}
      </main>
    );
  }
  const workspaces = viewer.workspaces.edges.map((edge) => edge.node);
  return (
    <SignedIn value={viewer.person}>
      <Workspaces value={workspaces}>
        {/* No link: in a frame the part of the address behind the # says which page is shown. */}
        <Button className="shell__skip" onClick={() => document.getElementById("main")?.focus()}>
          Skip to the content
        </Button>
        <Header name={viewer.person.name} unread={viewer.unreadNotices} workspaces={workspaces} />
        <main className="shell__main" id="main" tabIndex={-1}>
          {workspaces.map((workspace) => (
            <Reconnecting key={workspace.id} workspace={workspace} />
          ))}
          <Outlet />
        </main>
      </Workspaces>
    </SignedIn>
  );
}

interface HeaderProps {
  name: string;
  unread: number;
  workspaces: readonly MemberWorkspace[];
}

function Header({ name, unread, workspaces }: HeaderProps) {
  const params = useParams({ strict: false });
  const last = useRef<string | undefined>(undefined);
  if (params.workspace) last.current = params.workspace;
  const workspace = last.current ?? workspaces[0]?.slug;
  const { standsAlone } = useHost();
  return (
    <header className="shell__header">
      <Link to="/" className="shell__product">
        <Mark />
        SignedApproval
      </Link>
      <nav className="shell__nav" aria-label="Main">
        <Link
          to="/"
          activeOptions={{ exact: true }}
          {...(unread > 0 && { "aria-label": `Home, ${unread} unread ${unread === 1 ? "notice" : "notices"}` })}
        >
          Home
          {unread > 0 && <span className="shell__unread">{unread >= 100 ? "99+" : unread}</span>}
        </Link>
        {workspace && (
          <>
            <Link to="/workspaces/$workspace/requests" params={{ workspace }}>
              Requests
            </Link>
            <Link to="/workspaces/$workspace/repositories" params={{ workspace }}>
              Repositories
            </Link>
          </>
        )}
        <Link to="/settings" activeOptions={{ exact: false }}>
          Settings
        </Link>
      </nav>
      {workspaces.length > 1 && params.workspace && (
        <WorkspaceChoice workspaces={workspaces} current={params.workspace} />
      )}
      <div className="shell__viewer">
        <Person name={name} />
        {standsAlone && <SignOutButton />}
      </div>
    </header>
  );
}

function WorkspaceChoice({ workspaces, current }: { workspaces: HeaderProps["workspaces"]; current: string }) {
  const navigate = useNavigate();
  return (
    <label className="shell__workspaces">
      <span className="sa-hidden">Workspace</span>
      <select
        className="sa-input"
        value={workspaces.find(({ slug, uuid }) => current === slug || current === uuid)?.slug ?? current}
        onChange={(event) =>
          void navigate({ to: "/workspaces/$workspace/repositories", params: { workspace: event.target.value } })
        }
      >
        {workspaces.map((workspace) => (
          <option key={workspace.id} value={workspace.slug}>
            {workspace.name}
          </option>
        ))}
      </select>
    </label>
  );
}

function SignOutButton() {
  const [{ fetching, data }, signOut] = useMutation(SignOut);
  useEffect(() => {
    // Everything that is still in memory belongs to the person who left.
    if (data && data.signOut.userErrors.length === 0) window.location.assign("/");
  }, [data]);
  return (
    <Button appearance="subtle" busy={fetching} onClick={() => void signOut({ input: {} })}>
      Sign out
    </Button>
  );
}
