import { ButtonLink } from "@signedapproval/ui/Button";
import { signInPath } from "@signedapproval/ui/ErrorNote";
import { Mark } from "./Shell.tsx";
import "./Landing.css";

/** What somebody sees who is not signed in. */
export function Landing() {
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
    </main>
  );
}
