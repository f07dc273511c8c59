import { ButtonLink } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { signInPath } from "@signedapproval/ui/ErrorNote";
import { Mark } from "./Mark.tsx";
import { useHost } from "./surroundings.ts";
import "./Landing.css";

/** What somebody sees who is not signed in; inside Bitbucket, whom Bitbucket does not name. */
export function Landing() {
  const { standsAlone } = useHost();
  if (!standsAlone) {
    return (
      <main className="landing">
        <h1>SignedApproval for Bitbucket</h1>
        <EmptyState title="Nobody is signed in">
          Bitbucket did not say who you are. Sign in to Bitbucket and open this page again.
        </EmptyState>
      </main>
    );
  }
  return (
    <main className="landing">
      <Mark />
      <h1>SignedApproval for Bitbucket</h1>
      <p className="landing__claim">
        A pull request into a protected branch is merged when the people your rule names have approved exactly that
        commit, each with their own passkey.
      </p>
      <ButtonLink appearance="primary" href={signInPath()}>
        Sign in with Bitbucket
      </ButtonLink>
      <p className="sa-small sa-subtle">
        Bitbucket tells us who you are and your e-mail address. We see nothing that you cannot see there.
      </p>
      <p className="sa-small">
        You hold an evidence file? <a href="/verify">Verify it</a>, without signing in.
      </p>
    </main>
  );
}
