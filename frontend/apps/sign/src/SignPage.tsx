import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { placeOf } from "@signedapproval/host/place";
import { ButtonLink } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ErrorNote, signInPath } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { Spinner } from "@signedapproval/ui/Spinner";
import { useQuery, useSubscription } from "urql";
import { Review } from "./Review.tsx";
import { Ticket } from "./Ticket.tsx";
import "./SignPage.css";

const SignQuery = graphql(`
  query Sign($workspace: String!, $repository: String!, $number: Int!) {
    viewer {
      ...Review_viewer
    }
    server {
      ...Review_server
    }
    pullRequest(workspace: $workspace, repository: $repository, number: $number) {
      id
      sentence
      path
      request {
        id
      }
      ...Review_pullRequest
    }
  }
`);

const SignChanged = graphql(`
  subscription SignChanged($id: ID!) {
    pullRequestChanged(id: $id) {
      id
      sentence
      request {
        id
      }
      ...Review_pullRequest
    }
  }
`);

export interface SignPageProps {
  location?: Pick<Location, "pathname" | "search">;
  /** What Bitbucket opened the page with; null where it did not. */
  ticket?: string | null;
}

/** Where decisions are made: shows a change whole, and has the viewer's passkey sign what is decided about it. */
export function SignPage({ location = window.location, ticket = null }: SignPageProps) {
  const place = placeOf(location.pathname);
  const page = place && <SignPullRequest place={place} />;
  return (
    <main className="sign">
      {page ? (
        ticket ? (
          <Ticket ticket={ticket}>{page}</Ticket>
        ) : (
          page
        )
      ) : (
        <>
          <h1>Sign a decision</h1>
          <EmptyState title="No pull request">This address names no pull request.</EmptyState>
        </>
      )}
    </main>
  );
}

function SignPullRequest({ place }: { place: NonNullable<ReturnType<typeof placeOf>> }) {
  const [{ data, error }, ask] = useQuery({ query: SignQuery, variables: { ...place } });
  const pullRequest = data?.pullRequest;
  useSubscription({ query: SignChanged, variables: { id: pullRequest?.id ?? "" }, pause: !pullRequest });

  const failure = failureOf(error);
  if (failure?.kind === "signed-out" || (data && !data.viewer)) {
    return (
      <>
        <h1>Sign a decision</h1>
        <EmptyState
          title="Sign in to see the change"
          action={
            <ButtonLink appearance="primary" href={signInPath()}>
              Sign in with Bitbucket
            </ButtonLink>
          }
        >
          Changes are shown to people who may see the repository. You come back here afterwards.
        </EmptyState>
      </>
    );
  }
  if (data?.viewer && pullRequest?.request) {
    return <Review viewer={data.viewer} server={data.server} pullRequest={pullRequest} />;
  }
  return (
    <>
      <h1>Sign a decision</h1>
      {failure ? (
        <ErrorNote
          failure={failure}
          doing="read the pull request"
          onRetry={() => ask({ requestPolicy: "network-only" })}
        />
      ) : !data ? (
        <Spinner label="Reading the pull request…" />
      ) : pullRequest ? (
        <Note tone="information" title="Nothing to sign">
          {pullRequest.sentence}
        </Note>
      ) : (
        <EmptyState title="Not found">
          This pull request is not gated by SignedApproval, or your Bitbucket account may not see it.
        </EmptyState>
      )}
    </>
  );
}
