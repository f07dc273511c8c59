import { graphql } from "@signedapproval/graph/generated";
import { ConfirmStep } from "@signedapproval/sign/ConfirmStep";
import { enrol } from "@signedapproval/sign/enrolment";
import { Refusal } from "@signedapproval/sign/refusal";
import { adviceFor } from "@signedapproval/sign/refusals";
import { useConfirmation } from "@signedapproval/sign/useConfirmation";
import { Button } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Field } from "@signedapproval/ui/Field";
import { Note } from "@signedapproval/ui/Note";
import { Table } from "@signedapproval/ui/Table";
import { type FormEvent, useState } from "react";
import { useClient, useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { PageLink } from "../PageLink.tsx";
import { useHost } from "../surroundings.ts";
import { useViewer } from "../viewer.ts";
import { PasskeyRow } from "./PasskeyRow.tsx";

const PasskeysQuery = graphql(`
  query Passkeys {
    viewer {
      passkeys {
        id
        state
        falls {
          workspace
        }
        ...PasskeyRow_passkey
      }
    }
  }
`);

/** The viewer's passkeys: every key under their name, with how it came there. */
export function PasskeysPage() {
  const [result, ask] = useQuery({ query: PasskeysQuery });
  const { standsAlone } = useHost();
  const enrolment = useEnrolment(() => ask({ requestPolicy: "network-only" }));
  return (
    <>
      <h1>Passkeys</h1>
      <p className="sa-subtle">
        Your decisions are signed with these. Several passkeys of yours are still one approver. You see every key under
        your name here, and are told of each that is added: if one is not yours, revoke it.
      </p>
      {standsAlone ? <AddPasskey enrolment={enrolment} /> : <ManageElsewhere />}
      <Answer result={result} ask={ask} doing="read your passkeys">
        {({ viewer }) =>
          viewer?.passkeys.length ? (
            <>
              {noneStands(viewer.passkeys) && (
                <Note tone="warning" title="None of your passkeys stands everywhere">
                  One that counts no longer cannot sign for another: that would fall with it. Where none of yours
                  counts, a new one waits until an administrator of your workspace has countersigned it. Add one, and
                  speak with them.
                </Note>
              )}
              <Table caption="Passkeys" columns={["Name", "Known as yours by", "Kind", "Made", "Last signed", ""]}>
                <tbody>
                  {viewer.passkeys.map((passkey) => (
                    <PasskeyRow
                      key={passkey.id}
                      passkey={passkey}
                      busy={enrolment.busy}
                      onConfirm={() => void enrolment.run({ resume: passkey.id })}
                      onRevoke={enrolment.forget}
                    />
                  ))}
                </tbody>
              </Table>
            </>
          ) : (
            <EmptyState title="No passkey yet">
              {standsAlone
                ? "Your first approval makes one by itself, or add one here."
                : "Your first approval makes one by itself."}
            </EmptyState>
          )
        }
      </Answer>
    </>
  );
}

/** Whether the keys that sign have each fallen somewhere. */
function noneStands(passkeys: readonly { state: string; falls: readonly unknown[] }[]) {
  const signing = passkeys.filter(({ state }) => state === "ENROLLED");
  return signing.length > 0 && signing.every(({ falls }) => falls.length > 0);
}

/** A browser lets no frame touch a passkey, so they are made and managed on a page of their own. */
function ManageElsewhere() {
  return (
    <section className="card" aria-label="Manage passkeys">
      <p>Passkeys are added, renamed and revoked on a page of its own, where your browser can use them.</p>
      <div>
        <PageLink path="/settings/passkeys" look="primary">
          Manage my passkeys
        </PageLink>
      </div>
    </section>
  );
}

/** One enrolment at a time, with what is asked and what came of it. */
function useEnrolment(onChanged: () => void) {
  const client = useClient();
  const signer = useViewer();
  const [busy, setBusy] = useState(false);
  const [resumed, setResumed] = useState(false);
  const [outcome, setOutcome] = useState<Refusal | "ENROLLED" | "WAITING" | null>(null);
  const [question, ask] = useConfirmation();
  const run = async (input: { name?: string; resume?: string }) => {
    setBusy(true);
    setOutcome(null);
    setResumed(input.resume !== undefined);
    try {
      const state = await enrol({ client, signer, ask, ...input });
      setOutcome(state === "ENROLLED" ? "ENROLLED" : "WAITING");
      return true;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      setOutcome(error.code === "ENROLMENT_LEFT" ? null : error);
      return false;
    } finally {
      setBusy(false);
      onChanged();
    }
  };
  const forget = () => setOutcome(null);
  return { run, busy, signer, question, resumed, outcome, forget };
}

function AddPasskey({ enrolment }: { enrolment: ReturnType<typeof useEnrolment> }) {
  const [name, setName] = useState("");
  const { busy, signer, question, resumed, outcome } = enrolment;
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (!busy && (await enrolment.run({ name: name.trim() }))) setName("");
  };
  return (
    <form className="card" onSubmit={(event) => void submit(event)} aria-label="Add a passkey">
      <Field label="Name of the new passkey (optional)" hint="So that you know it again, such as Blue security key.">
        {(control) => (
          <input {...control} maxLength={64} value={name} onChange={(event) => setName(event.target.value)} />
        )}
      </Field>
      <div>
        <Button type="submit" appearance="primary" busy={busy && !question} disabled={question !== null}>
          Add a passkey
        </Button>
      </div>
      {question && <ConfirmStep question={question} resumed={resumed} signer={signer} />}
      {outcome === "ENROLLED" && (
        <Note tone="success" urgent>
          The passkey can sign for you now.
        </Note>
      )}
      {outcome === "WAITING" && (
        <Note tone="information" title="The passkey waits for an administrator" urgent>
          An administrator of your workspace has to countersign it before it can sign. They have been told; speak with
          one of them.
        </Note>
      )}
      {outcome instanceof Refusal && (
        <Note tone="danger" title="No passkey was added" urgent>
          {outcome.code.startsWith("CEREMONY_ALREADY")
            ? "This device already holds one of your passkeys."
            : adviceFor(outcome).text}
        </Note>
      )}
    </form>
  );
}
