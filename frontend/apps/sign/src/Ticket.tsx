import { failureOf } from "@signedapproval/graph/failure";
import { Button, ButtonLink } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ErrorNote, signInPath } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { Spinner } from "@signedapproval/ui/Spinner";
import { type ReactNode, useCallback, useEffect, useRef, useState } from "react";
import { useMutation } from "urql";
import { RedeemTicket } from "./ticket.ts";

/**
 * What stands before the sign page when Bitbucket opened it with a ticket: nothing of the pull request is shown before
 * the server has said that the person who is signed in here is the one whom the ticket names. The ticket itself signs
 * nobody in and decides nothing.
 */
export function Ticket({ ticket, children }: { ticket: string; children: ReactNode }) {
  const [{ data, error }, redeem] = useMutation(RedeemTicket);
  const [goesOn, setGoesOn] = useState(false);
  const ask = useCallback(() => void redeem({ input: { ticket } }), [redeem, ticket]);
  const asked = useRef(false);
  useEffect(() => {
    // Once: a ticket that was redeemed is used up.
    if (asked.current) return;
    asked.current = true;
    ask();
  }, [ask]);

  const failure = failureOf(error);
  const refusal = data?.redeemTicket.userErrors[0];
  if (goesOn || (data && !refusal)) return children;
  return (
    <>
      <h1>Sign a decision</h1>
      {failure ? (
        <ErrorNote failure={failure} doing="check who opened this page" onRetry={ask} />
      ) : refusal ? (
        <Refused {...refusal} onGoOn={() => setGoesOn(true)} />
      ) : (
        <Spinner label="Checking who opened this page…" />
      )}
    </>
  );
}

function Refused({ code, message, onGoOn }: { code: string; message: string; onGoOn: () => void }) {
  const signIn = (
    <ButtonLink appearance="primary" href={signInPath()}>
      Sign in with Bitbucket
    </ButtonLink>
  );
  switch (code) {
    case "SIGN_IN":
      return (
        <EmptyState title="Sign in to see the change" action={signIn}>
          Sign in with the Bitbucket account that opened this page. You come back here afterwards.
        </EmptyState>
      );
    case "OTHER_ACCOUNT":
      return (
        <Note tone="warning" title="You are signed in here as somebody else" urgent actions={signIn}>
          {message}
        </Note>
      );
    case "HEAD_CHANGED":
      return (
        <Note
          tone="warning"
          title="The pull request has changed"
          urgent
          actions={
            <Button appearance="primary" onClick={onGoOn}>
              Show the change as it is now
            </Button>
          }
        >
          {message}
        </Note>
      );
    default:
      return (
        <Note
          tone="information"
          title={code === "TICKET" ? "This way in has expired" : "This link opens nothing here"}
          urgent
          actions={
            <Button appearance="primary" onClick={onGoOn}>
              Go on without it
            </Button>
          }
        >
          {message}
        </Note>
      );
  }
}
