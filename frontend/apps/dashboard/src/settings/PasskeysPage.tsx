import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { enrol, Refusal } from "@signedapproval/sign/decision";
import { adviceFor } from "@signedapproval/sign/refusals";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Field } from "@signedapproval/ui/Field";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { type FormEvent, useState } from "react";
import { useClient, useMutation, useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { PageLink } from "../PageLink.tsx";
import { useHost } from "../surroundings.ts";

const PasskeysQuery = graphql(`
  query Passkeys {
    viewer {
      passkeys {
        id
        revokedAt
        ...PasskeyRow_passkey
      }
    }
  }
`);

const passkeyFragment = graphql(`
  fragment PasskeyRow_passkey on Passkey {
    id
    name
    createdAt
    lastUsedAt
    revokedAt
    synced
  }
`);

const RenamePasskey = graphql(`
  mutation RenamePasskey($input: RenamePasskeyInput!) {
    renamePasskey(input: $input) {
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

/** The viewer's passkeys. */
export function PasskeysPage() {
  const [result, ask] = useQuery({ query: PasskeysQuery });
  const { standsAlone } = useHost();
  return (
    <>
      <h1>Passkeys</h1>
      <p className="sa-subtle">
        Your decisions are signed with these. Several passkeys of yours are still one approver. A revoked one can make
        no further decision; what it signed stands.
      </p>
      {standsAlone ? <AddPasskey onAdded={() => ask({ requestPolicy: "network-only" })} /> : <ManageElsewhere />}
      <Answer result={result} ask={ask} doing="read your passkeys">
        {({ viewer }) =>
          viewer?.passkeys.length ? (
            <Table caption="Passkeys" columns={["Name", "Kind", "Made", "Last decision", ""]}>
              <tbody>
                {viewer.passkeys.map((passkey) => (
                  <PasskeyRow key={passkey.id} passkey={passkey} />
                ))}
              </tbody>
            </Table>
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

function AddPasskey({ onAdded }: { onAdded: () => void }) {
  const client = useClient();
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const add = async () => {
    setBusy(true);
    setRefusal(null);
    try {
      await enrol(client, name.trim());
      setName("");
      onAdded();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      setRefusal(error);
    } finally {
      setBusy(false);
    }
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!busy) void add();
  };
  const advice = refusal && adviceFor(refusal);
  return (
    <form className="card" onSubmit={submit} aria-label="Add a passkey">
      <Field label="Name of the new passkey (optional)" hint="So that you know it again, such as Blue security key.">
        {(control) => (
          <input {...control} maxLength={64} value={name} onChange={(event) => setName(event.target.value)} />
        )}
      </Field>
      <div>
        <Button type="submit" appearance="primary" busy={busy}>
          Add a passkey
        </Button>
      </div>
      {advice && (
        <Note tone="danger" title="No passkey was made" urgent>
          {refusal.code.startsWith("CEREMONY_ALREADY")
            ? "This device already holds one of your passkeys."
            : advice.text}
        </Note>
      )}
    </form>
  );
}

function PasskeyRow({ passkey: masked }: { passkey: FragmentType<typeof passkeyFragment> }) {
  const passkey = readFragment(passkeyFragment, masked);
  const { standsAlone } = useHost();
  const [open, setOpen] = useState<"rename" | "revoke" | null>(null);
  return (
    <tr>
      <th scope="row">
        <Visible text={passkey.name} /> {passkey.revokedAt && <Lozenge tone="danger">Revoked</Lozenge>}
      </th>
      <td>{passkey.synced ? "Synced by its provider" : "Bound to its device"}</td>
      <td>
        <Time value={passkey.createdAt} />
      </td>
      <td>{passkey.lastUsedAt ? <Time value={passkey.lastUsedAt} /> : "Never"}</td>
      <td>
        {standsAlone && !passkey.revokedAt && (
          <span className="sa-row">
            <Button appearance="subtle" onClick={() => setOpen("rename")}>
              Rename <span className="sa-hidden">{passkey.name}</span>
            </Button>
            <Button appearance="subtle" onClick={() => setOpen("revoke")}>
              Revoke <span className="sa-hidden">{passkey.name}</span>
            </Button>
          </span>
        )}
        {open === "rename" && <Rename id={passkey.id} name={passkey.name} onClose={() => setOpen(null)} />}
        {open === "revoke" && <Revoke id={passkey.id} name={passkey.name} onClose={() => setOpen(null)} />}
      </td>
    </tr>
  );
}

interface PasskeyDialogProps {
  id: string;
  name: string;
  onClose: () => void;
}

function Rename({ id, name, onClose }: PasskeyDialogProps) {
  const [typed, setTyped] = useState(name);
  const [{ fetching, data, error }, rename] = useMutation(RenamePasskey);
  const failure = failureOf(error);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const { data: answer } = await rename({ input: { id, name: typed.trim() } });
    if (answer?.renamePasskey.passkey) onClose();
  };
  return (
    <Dialog
      title="Rename the passkey"
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" form={`rename-${id}`} appearance="primary" busy={fetching}>
            Rename
          </Button>
        </>
      }
    >
      <form id={`rename-${id}`} onSubmit={(event) => void submit(event)}>
        <Field label="Name" problem={data?.renamePasskey.userErrors[0]?.message}>
          {(control) => (
            <input {...control} maxLength={64} value={typed} onChange={(event) => setTyped(event.target.value)} />
          )}
        </Field>
      </form>
      {failure && <ErrorNote failure={failure} doing="rename the passkey" />}
    </Dialog>
  );
}

function Revoke({ id, name, onClose }: PasskeyDialogProps) {
  const [{ fetching, data, error }, revoke] = useMutation(RevokePasskey);
  const failure = failureOf(error);
  const refusal = data?.revokePasskey.userErrors[0];
  const confirm = async () => {
    const { data: answer } = await revoke({ input: { id } });
    if (answer?.revokePasskey.passkey) onClose();
  };
  return (
    <Dialog
      title={`Revoke ${name}?`}
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Keep it</Button>
          <Button appearance="danger" busy={fetching} onClick={() => void confirm()}>
            Revoke
          </Button>
        </>
      }
    >
      <p>It can make no further decision, and this cannot be undone. Decisions made with it stand.</p>
      {failure && <ErrorNote failure={failure} doing="revoke the passkey" />}
      {refusal && (
        <Note tone="danger" urgent>
          {refusal.message}
        </Note>
      )}
    </Dialog>
  );
}
