import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Field } from "@signedapproval/ui/Field";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { type FormEvent, useState } from "react";
import { useMutation } from "urql";
import { useHost } from "../surroundings.ts";
import { KeyActs, KeyKind, KeyPlaces, KeyState } from "./KeyWords.tsx";
import { RevokeKey } from "./RevokeKey.tsx";

const passkeyFragment = graphql(`
  fragment PasskeyRow_passkey on Passkey {
    id
    name
    document
    state
    model
    provedModel {
      aaguid
      description
    }
    synced
    createdAt
    expiresAt
    identifiedBy
    lastUsedAt
    revokedAt
    revokedBySignature
    compromisedSince
    workspaceActs {
      ...KeyActs_act
    }
    falls {
      ...KeyFall_fall
    }
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

export interface PasskeyRowProps {
  passkey: FragmentType<typeof passkeyFragment>;
  /** Whether another passkey is being enrolled. */
  busy: boolean;
  /** Takes up the enrolment of this one. */
  onConfirm: () => void;
  /** Its owner is about to revoke it, with which others may fall. */
  onRevoke: () => void;
}

/** One of the viewer's passkeys. */
export function PasskeyRow({ passkey: masked, busy, onConfirm, onRevoke }: PasskeyRowProps) {
  const passkey = readFragment(passkeyFragment, masked);
  const { standsAlone } = useHost();
  const [open, setOpen] = useState<"rename" | "revoke" | null>(null);
  const waits = passkey.state === "UNCONFIRMED" || passkey.state === "WAITING_FOR_COUNTERSIGNER";
  const close = () => setOpen(null);
  return (
    <tr>
      <th scope="row">
        <Visible text={passkey.name} /> <KeyState state={passkey.state} />
        {passkey.state === "ENROLLED" && <KeyPlaces acts={passkey.workspaceActs} falls={passkey.falls} />}
        {waits && passkey.expiresAt && (
          <p className="sa-small sa-subtle">
            Forgotten if not enrolled: <Time value={passkey.expiresAt} />
          </p>
        )}
      </th>
      <td>
        <KeyActs
          identifiedBy={passkey.identifiedBy}
          acts={passkey.workspaceActs}
          own
          revoked={
            passkey.revokedAt && passkey.identifiedBy
              ? { at: passkey.revokedAt, signed: passkey.revokedBySignature }
              : null
          }
          compromisedSince={passkey.compromisedSince}
          falls={passkey.falls}
        />
      </td>
      <td>
        <KeyKind synced={passkey.synced} model={passkey.model} proved={passkey.provedModel} />
      </td>
      <td data-label="Made">
        <Time value={passkey.createdAt} />
      </td>
      <td data-label="Last signed">{passkey.lastUsedAt ? <Time value={passkey.lastUsedAt} /> : "Never"}</td>
      <td>
        {standsAlone && !passkey.revokedAt && (
          <span className="sa-row">
            {passkey.state === "UNCONFIRMED" && (
              <Button disabled={busy} onClick={onConfirm}>
                Confirm <span className="sa-hidden">{passkey.name}</span>
              </Button>
            )}
            <Button appearance="subtle" onClick={() => setOpen("rename")}>
              Rename <span className="sa-hidden">{passkey.name}</span>
            </Button>
            <Button
              appearance="subtle"
              onClick={() => {
                onRevoke();
                setOpen("revoke");
              }}
            >
              {waits ? "Remove" : "Revoke"} <span className="sa-hidden">{passkey.name}</span>
            </Button>
          </span>
        )}
        {standsAlone && passkey.revokedAt && passkey.identifiedBy && (
          <Button
            appearance="subtle"
            onClick={() => {
              onRevoke();
              setOpen("revoke");
            }}
          >
            Report as stolen <span className="sa-hidden">{passkey.name}</span>
          </Button>
        )}
        {open === "rename" && <Rename id={passkey.id} name={passkey.name} onClose={close} />}
        {open === "revoke" && (
          <RevokeKey
            pressed={{ id: passkey.id, document: passkey.document, workspace: null }}
            name={passkey.name}
            waits={waits}
            revoked={!!passkey.revokedAt}
            onClose={close}
          />
        )}
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
