import { createRootRoute, createRoute, createRouter, type RouterHistory, redirect } from "@tanstack/react-router";
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
import { PasskeysPage } from "./settings/PasskeysPage.tsx";
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
    return <RepositoryPage key={slug} workspace={workspace} slug={slug} name={repository.useSearch().name ?? slug} />;
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

const routes = root.addChildren([
  home,
  request,
  pullRequest,
  requests,
  repositories,
  repository,
  settings.addChildren([settingsStart, bitbucket, passkeys, tokens]),
]);

/** The dashboard's pages by address. */
export function createDashboardRouter(history?: RouterHistory) {
  return createRouter({ routeTree: routes, ...(history && { history }) });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof createDashboardRouter>;
  }
}
