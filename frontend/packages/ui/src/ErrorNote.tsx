import { Button, ButtonLink } from "./Button.tsx";
import { Note } from "./Note.tsx";

/** What went wrong, as the API's package reads it. */
export interface ShownFailure {
  kind: "signed-out" | "denied" | "outdated" | "unavailable" | "refused";
  message: string;
}

export interface ErrorNoteProps {
  failure: ShownFailure;
  /** What could not be shown or done, as the end of "Could not …". */
  doing: string;
  /** Tries it again. */
  onRetry?: () => void;
}

/** The address that signs in and comes back to where the reader is. */
export function signInPath(location: Pick<Location, "pathname" | "search"> = window.location): string {
  return `/auth/sign-in?return_to=${encodeURIComponent(location.pathname + location.search)}`;
}

/** Says what went wrong and offers the way out: sign in, reload, or try again. */
export function ErrorNote({ failure, doing, onRetry }: ErrorNoteProps) {
  switch (failure.kind) {
    case "signed-out":
      return (
        <Note
          tone="information"
          title="You are not signed in"
          urgent
          actions={
            <ButtonLink appearance="primary" href={signInPath()}>
              Sign in with Bitbucket
            </ButtonLink>
          }
        >
          Your session has ended, or there was none.
        </Note>
      );
    case "denied":
      return (
        <Note tone="warning" title="Not found" urgent>
          It does not exist, or your Bitbucket account may not see it.
        </Note>
      );
    case "outdated":
      return (
        <Note
          tone="information"
          title="This page is older than the server"
          urgent
          actions={<Button onClick={() => window.location.reload()}>Reload</Button>}
        >
          The server was updated since the page was opened.
        </Note>
      );
    default:
      return (
        <Note
          tone="danger"
          title={`Could not ${doing}`}
          urgent
          actions={onRetry && <Button onClick={onRetry}>Try again</Button>}
        >
          {failure.message}
        </Note>
      );
  }
}
