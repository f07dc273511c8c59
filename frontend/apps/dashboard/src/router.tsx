import type { Host } from "@signedapproval/host/host";
import { uuidOf } from "@signedapproval/host/place";
import {
  createBrowserHistory,
  createHashHistory,
  createRootRoute,
  createRoute,
  createRouter,
  type RouterHistory,
  redirect,
} from "@tanstack/react-router";
import { HomePage } from "./home/HomePage.tsx";
import { NotFound } from "./NotFound.tsx";
import { PullRequestPage } from "./pullrequests/PullRequestPage.tsx";
import { RepositoriesPage } from "./repositories/RepositoriesPage.tsx";
import { RepositoryPage } from "./repositories/RepositoryPage.tsx";
import { isRequestFilter, type RequestFilter } from "./requests/filter.ts";
import { RequestPage } from "./requests/RequestPage.tsx";
import { RequestsPage } from "./requests/RequestsPage.tsx";
import { Shell } from "./Shell.tsx";
import { BitbucketPage } from "./settings/BitbucketPage.tsx";
import { MemberKeysPage } from "./settings/MemberKeysPage.tsx";
import { PasskeysPage } from "./settings/PasskeysPage.tsx";
import { ProtectionPage } from "./settings/ProtectionPage.tsx";
import { SettingsPage } from "./settings/SettingsPage.tsx";
import { TokensPage } from "./settings/TokensPage.tsx";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound });

const home = createRoute({ getParentRoute: () => root, path: "/", component: HomePage });

const request = createRoute({
  getParentRoute: () => root,
  path: "/requests/$request",
  component: function Request() {
    return <RequestPage id={request.useParams().request} />;
  },
});

const pullRequest = createRoute({
  getParentRoute: () => root,
  path: "/pull-requests/$pullRequest",
  component: function PullRequest() {
    return <PullRequestPage id={pullRequest.useParams().pullRequest} />;
  },
});

const requests = createRoute({
  getParentRoute: () => root,
  path: "/workspaces/$workspace/requests",
  validateSearch: (search): { show?: RequestFilter } =>
    isRequestFilter(search["show"]) ? { show: search["show"] } : {},
  component: function Requests() {
    return <RequestsPage workspace={requests.useParams().workspace} show={requests.useSearch().show ?? "open"} />;
  },
});

const repositories = createRoute({
  getParentRoute: () => root,
  path: "/workspaces/$workspace/repositories",
  component: function Repositories() {
    return <RepositoriesPage workspace={repositories.useParams().workspace} />;
  },
});

const repository = createRoute({
  getParentRoute: () => root,
  path: "/workspaces/$workspace/repositories/$repository",
  // What to call the repository while it is not known, or where it is not there.
  validateSearch: (search): { name?: string } => (typeof search["name"] === "string" ? { name: search["name"] } : {}),
  component: function Repository() {
    const { workspace, repository: slug } = repository.useParams();
    // The settings inside Bitbucket know a repository by its UUID, which is no name.
    const name = repository.useSearch().name ?? (uuidOf(slug) ? "Repository" : slug);
    return <RepositoryPage key={slug} workspace={workspace} slug={slug} name={name} />;
  },
});

const settings = createRoute({ getParentRoute: () => root, path: "/settings", component: SettingsPage });

const settingsStart = createRoute({
  getParentRoute: () => settings,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/settings/bitbucket", replace: true });
  },
});

const bitbucket = createRoute({ getParentRoute: () => settings, path: "/bitbucket", component: BitbucketPage });

const passkeys = createRoute({ getParentRoute: () => settings, path: "/passkeys", component: PasskeysPage });

const tokens = createRoute({
  getParentRoute: () => settings,
  path: "/tokens",
  validateSearch: (search): { workspace?: string } =>
    typeof search["workspace"] === "string" ? { workspace: search["workspace"] } : {},
  component: function Tokens() {
    return <TokensPage workspace={tokens.useSearch().workspace} />;
  },
});

const memberKeys = createRoute({
  getParentRoute: () => settings,
  path: "/keys",
  validateSearch: (search): { workspace?: string } =>
    typeof search["workspace"] === "string" ? { workspace: search["workspace"] } : {},
  component: function MemberKeys() {
    return <MemberKeysPage workspace={memberKeys.useSearch().workspace} />;
  },
});

const protection = createRoute({
  getParentRoute: () => settings,
  path: "/protection",
  validateSearch: (search): { workspace?: string; proposal?: string } => ({
    ...(typeof search["workspace"] === "string" && { workspace: search["workspace"] }),
    ...(typeof search["proposal"] === "string" && { proposal: search["proposal"] }),
  }),
  component: function Protection() {
    return <ProtectionPage {...protection.useSearch()} />;
  },
});

const routes = root.addChildren([
  home,
  request,
  pullRequest,
  requests,
  repositories,
  repository,
  settings.addChildren([settingsStart, bitbucket, passkeys, tokens, memberKeys, protection]),
]);

/**
 * Where the dashboard's addresses are kept. A frame has no path of its own: they stand behind its #, where the browser's
 * back button finds them, and the frame begins with the page that its place in Bitbucket asks for.
 */
export function historyFor(host: Host, page: Window & typeof globalThis = window): RouterHistory {
  if (host.start === null) return createBrowserHistory({ window: page });
  if (!page.location.hash.startsWith("#/")) page.history.replaceState(null, "", `#${host.start}`);
  return createHashHistory({ window: page });
}

/** The dashboard's pages by address. */
export function createDashboardRouter(history?: RouterHistory) {
  return createRouter({ routeTree: routes, ...(history && { history }) });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof createDashboardRouter>;
  }
}
