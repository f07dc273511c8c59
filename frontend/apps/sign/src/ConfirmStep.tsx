import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { Note } from "@signedapproval/ui/Note";
import { Visible } from "@signedapproval/ui/Visible";
import { useEffect, useRef, useState } from "react";
import type { Signer } from "./prepared.ts";
import { adviceFor } from "./refusals.ts";
import type { Open } from "./useConfirmation.ts";

export interface ConfirmStepProps {
  question: Open;
  /** Whether the passkey was made before. */
  resumed: boolean;
  /** Under whose name it is enrolled. */
  signer: Signer;
}

/** Asks for the press of a button with which a new passkey, or one that is there, signs an enrolment. */
export function ConfirmStep({ question, resumed, signer }: ConfirmStepProps) {
  const { step, refusal, reply } = question;
  const [losing, setLosing] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  // The button that led here may be gone or far away.
  // biome-ignore lint/correctness/useExhaustiveDependencies: each step moves the focus once
  useEffect(() => place.current?.querySelector("button")?.focus(), [step]);
  const advice = refusal && adviceFor(refusal);
  const own = step === "OWN_KEY";
  return (
    <div ref={place}>
      <Note
        tone={refusal && refusal.code !== "CEREMONY_PRESS_AGAIN" ? "warning" : "information"}
        title={own ? "Your other passkey confirms it" : "One more step: your new passkey confirms itself"}
        urgent
        actions={
          <>
            <Button appearance="primary" onClick={() => reply("sign")}>
              {own ? "Confirm with a passkey that you already have" : "Confirm with your new passkey"}
            </Button>
            {own && (
              <Button appearance="subtle" onClick={() => setLosing(true)}>
                I have none of them any more
              </Button>
            )}
            {!own && (resumed || refusal) && (
              <Button appearance="subtle" onClick={() => reply("another")}>
                Make another passkey
              </Button>
            )}
            <Button appearance="subtle" onClick={() => reply("leave")}>
              Not now
            </Button>
          </>
        }
      >
        {advice && (
          <p>
            <strong>{advice.title}.</strong> {advice.text}
          </p>
        )}
        {own
          ? "So nobody who gets into your Bitbucket account can add a passkey in your name. It may be on another device, such as your phone."
          : "Until it has signed that it is yours, it cannot sign anything else. It waits for seven days."}
        <p>
          It is enrolled for <Visible text={signer.name} />, the Bitbucket account{" "}
          <code className="sa-wrap">
            <Visible text={signer.accountId} />
          </code>
          .
        </p>
      </Note>
      {losing && (
        <Dialog
          title="Are all your other passkeys lost?"
          onClose={() => setLosing(false)}
          actions={
            <>
              <Button onClick={() => setLosing(false)}>No, keep them</Button>
              <Button appearance="danger" onClick={() => reply("lost")}>
                Revoke them all
              </Button>
            </>
          }
        >
          <p>
            They are revoked at once, which cannot be undone; what they signed stands. Your new passkey then waits until
            an administrator of your workspace has countersigned it.
          </p>
          <p>
            If somebody else may have them, report them as stolen with it then, and say since when: without a time,
            nothing tells what they decided from what you did.
          </p>
        </Dialog>
      )}
    </div>
  );
}
