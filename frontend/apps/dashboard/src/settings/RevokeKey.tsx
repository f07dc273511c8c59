import { graphql } from "@signedapproval/graph/generated";
import { mutate, Refusal, refuse } from "@signedapproval/sign/refusal";
import { adviceFor } from "@signedapproval/sign/refusals";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { Field } from "@signedapproval/ui/Field";
import { Note } from "@signedapproval/ui/Note";
import { useId, useState } from "react";
import { useClient } from "urql";
import { useViewer } from "../viewer.ts";
import { actOnKey, type PressedKey } from "./actonkey.ts";
import { ProposalMade } from "./ProposalMade.tsx";

const RevokePasskey = graphql(`
  mutation RevokePasskey($input: RevokePasskeyInput!) {
    revokePasskey(input: $input) {
      passkey {
        id
        ...PasskeyRow_passkey
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export interface RevokeKeyProps {
  pressed: PressedKey;
  name: string;
  /** Whether it is not enrolled yet, so that there is nothing to sign. */
  waits?: boolean;
  /** Whether it was revoked before, so that only its theft is left to be reported. */
  revoked?: boolean;
  onClose: () => void;
}

/** Takes a key out of use, or reports that one that is out of use had been stolen. */
export function RevokeKey({ pressed, name, waits = false, revoked = false, onClose }: RevokeKeyProps) {
  const own = pressed.workspace === null;
  const client = useClient();
  const choice = useId();
  const signer = useViewer();
  const [busy, setBusy] = useState<"signed" | "unsigned" | null>(null);
  // Whether somebody else may have had it: nothing is revoked undated that its owner was not asked about.
  const [shared, setShared] = useState<boolean | null>(revoked || null);
  const [since, setSince] = useState("");
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [proposal, setProposal] = useState<string | null>(null);
  const run = async (how: "signed" | "unsigned") => {
    setBusy(how);
    setRefusal(null);
    try {
      if (how === "signed") {
        const compromised = shared ? { compromisedSince: new Date(since).toISOString() } : {};
        const made = await actOnKey(client, signer, { key: pressed, action: "REVOKE", ...compromised });
        if (made) {
          setProposal(made);
          return;
        }
      } else {
        const { revokePasskey } = await mutate(client, RevokePasskey, { input: { id: pressed.id } });
        refuse(revokePasskey.userErrors);
      }
      onClose();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      setRefusal(error);
    } finally {
      setBusy(null);
    }
  };
  const advice = refusal && adviceFor(refusal);
  if (proposal) return <ProposalMade proposal={proposal} onClose={onClose} />;
  return (
    <Dialog
      title={revoked ? `Report ${name} as stolen?` : `${waits ? "Remove" : "Revoke"} ${name}?`}
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>{revoked ? "Cancel" : "Keep it"}</Button>
          {own && !revoked && (
            <Button
              appearance={waits ? "danger" : "outline"}
              busy={busy === "unsigned"}
              disabled={busy === "signed" || (!waits && shared !== false)}
              onClick={() => void run("unsigned")}
            >
              {waits ? "Remove" : "Revoke without signing"}
            </Button>
          )}
          {!waits && (
            <Button
              appearance="danger"
              busy={busy === "signed"}
              disabled={busy === "unsigned" || shared === null || (shared && !since)}
              onClick={() => void run("signed")}
            >
              {revoked ? "Report" : "Revoke"} with a passkey
            </Button>
          )}
        </>
      }
    >
      {waits ? (
        <p>It was never enrolled and has signed nothing.</p>
      ) : (
        <>
          <p>
            {revoked &&
              "It was revoked, and what it signed before counts. Whoever stole a passkey can revoke it first. "}
            {revoked && !own && "What you say holds in this workspace. "}
            {revoked
              ? "This cannot be undone. "
              : own
                ? "It can make no further decision, and this cannot be undone. "
                : "It can make no further decision in this workspace, and this cannot be undone. "}
            {!own && "You sign this with a passkey of yours."}
            {own &&
              !shared &&
              "Signing with one of your passkeys proves that it was you; if you have none at hand, revoke it without."}
          </p>
          {!revoked && (
            <fieldset className="sa-stack sa-stack--tight">
              <legend>Is it lost, or was it out of {own ? "your" : "its owner’s"} hands?</legend>
              <label className="sa-row">
                <input type="radio" name={choice} checked={shared === false} onChange={() => setShared(false)} />
                Nobody else has had it
              </label>
              <label className="sa-row">
                <input type="radio" name={choice} checked={shared === true} onChange={() => setShared(true)} />
                Somebody else may have had it
              </label>
            </fieldset>
          )}
          {shared === false && (
            <p className="sa-small">
              No time is on record then: decisions made with it stand, and nothing tells what somebody else decided with
              it from what {own ? "you" : "its owner"} did. It can still be reported as stolen later, with a time.
            </p>
          )}
          {shared && (
            <Field
              label="Since when"
              hint={`${own ? "If you lost it, when you last had it. " : ""}What it signed from then on does not count any more, and neither do passkeys that it signed for then, whoever's they are.${own ? " This has to be signed with a passkey." : ""}${revoked ? " Only a time before the one that is known changes anything." : ""}`}
            >
              {(control) => (
                <input
                  {...control}
                  type="datetime-local"
                  value={since}
                  onChange={(event) => setSince(event.target.value)}
                />
              )}
            </Field>
          )}
        </>
      )}
      {advice && (
        <Note tone="danger" title={advice.title} urgent>
          {advice.text}
        </Note>
      )}
    </Dialog>
  );
}
