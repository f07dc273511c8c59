import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import type { Host, PullRequestPlace } from "@signedapproval/host/host";
import { ButtonLink } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ErrorNote, signInPath } from "@signedapproval/ui/ErrorNote";
import { Spinner } from "@signedapproval/ui/Spinner";
import { useQuery, useSubscription } from "urql";
import { PullRequestGate } from "./PullRequestGate.tsx";
import "./Panel.css";

const PanelQuery = graphql(`
  query Panel($workspace: String!, $repository: String!, $number: Int!) {
    pullRequest(workspace: $workspace, repository: $repository, number: $number) {
      id
      ...PullRequestGate_pullRequest
    }
  }
`);

const PanelChanged = graphql(`
  subscription PanelChanged($id: ID!) {
    pullRequestChanged(id: $id) {
      id
      ...PullRequestGate_pullRequest
    }
  }
`);

/** What stands beside a pull request: where its approval is, and the way to the sign page. */
export function Panel({ host }: { host: Host }) {
  const place = host.context();
  return (
    <main className="panel">
      <h1 className="panel__title">Approvals</h1>
      {place ? (
        <PullRequestPanel host={host} place={place} />
      ) : (
        <EmptyState title="No pull request">This address names no pull request.</EmptyState>
      )}
    </main>
  );
}

function PullRequestPanel({ host, place }: { host: Host; place: PullRequestPlace }) {
  const [{ data, error }, ask] = useQuery({ query: PanelQuery, variables: { ...place } });
  const id = data?.pullRequest?.id;
  useSubscription({ query: PanelChanged, variables: { id: id ?? "" }, pause: !id });

  const failure = failureOf(error);
  if (failure && !data?.pullRequest) {
    if (failure.kind === "signed-out") return <SignIn />;
    return (
      <ErrorNote failure={failure} doing="read the approvals" onRetry={() => ask({ requestPolicy: "network-only" })} />
    );
  }
  if (data?.pullRequest) return <PullRequestGate pullRequest={data.pullRequest} host={host} />;
  if (!data) return <Spinner label="Reading the approvals…" />;
  return (
    <EmptyState title="Nothing to show">
      This pull request is not gated by SignedApproval, or your Bitbucket account may not see it.
    </EmptyState>
  );
}

function SignIn() {
  return (
    <EmptyState
      title="Sign in to see the approvals"
      action={
        <ButtonLink appearance="primary" href={signInPath()}>
          Sign in with Bitbucket
        </ButtonLink>
      }
    >
      Approvals are shown to people who may see the repository.
    </EmptyState>
  );
}
