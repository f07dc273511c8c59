import { graphql } from "@signedapproval/graph/generated";
import { type Announced, type KeyDocument, wholeSecond } from "@signedapproval/sign/act";
import { keyActOf } from "@signedapproval/sign/keyact";
import { digestOf, type Signer } from "@signedapproval/sign/prepared";
import { mutate, Refusal, refuse } from "@signedapproval/sign/refusal";
import { signAct } from "@signedapproval/sign/sign";
import type { Client } from "urql";

const PrepareKeyAct = graphql(`
  mutation PrepareKeyAct($input: PrepareKeyActInput!) {
    prepareKeyAct(input: $input) {
      act {
        ...KeyAct_act
      }
      proposal {
        id
        key
        kind
        digest
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const SignKeyAct = graphql(`
  mutation SignKeyAct($input: SignKeyActInput!) {
    signKeyAct(input: $input) {
      passkey {
        id
        ...PasskeyRow_passkey
      }
      memberKey {
        id
        ...MemberKeyRow_key
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** A key in the row whose button was pressed. */
export interface PressedKey {
  /** The node id of an own passkey, or of a member's key. */
  id: string;
  /** By which acts name it. */
  document: string;
  /** The UUID of the workspace for which something is said of a member's key; null of an own passkey. */
  workspace: string | null;
}

export interface ActOnKey {
  key: PressedKey;
  action: "COUNTERSIGN" | "REVOKE";
  /** Since when somebody else may have had a key that is revoked, RFC 3339. */
  compromisedSince?: string;
}

/**
 * Countersigns or revokes a key with a signature of the viewer's. Where the workspace is protected nothing is done yet:
 * it gives the key of the proposal that was made. Throws a {@link Refusal}; nothing was done then.
 */
export async function actOnKey(client: Client, signer: Signer, { key, ...what }: ActOnKey): Promise<string | null> {
  const announced = await announce(key, what);
  const { prepareKeyAct } = await mutate(client, PrepareKeyAct, { input: { key: key.id, ...what } });
  const { proposal } = prepareKeyAct;
  if (proposal) {
    const document = announced.purpose === "revoke" ? announced.revocation : announced.key;
    if (proposal.kind === what.action && proposal.digest === (await digestOf(document))) return proposal.key;
    throw new Refusal("STATEMENT_MISMATCH", "What was proposed is not what this page has announced: withdraw it.");
  }
  refuse(prepareKeyAct.userErrors);
  const act = keyActOf(prepareKeyAct.act);
  if (!act) throw new Refusal("NO_STATEMENT", "The server prepared nothing to sign.");
  const { response } = await signAct(act, announced, signer);
  const { signKeyAct: signed } = await mutate(client, SignKeyAct, { input: { response } });
  refuse(signed.userErrors);
  return null;
}

/** What the act is to say: of the very key that was pressed, with the very time that was typed. */
async function announce(
  { document, workspace }: PressedKey,
  { action, compromisedSince }: Omit<ActOnKey, "key">,
): Promise<Extract<Announced, { purpose: "countersign" | "revoke" }>> {
  const said: KeyDocument = JSON.parse(document);
  if (action === "COUNTERSIGN") {
    if (workspace === null) throw new Error("nobody countersigns a key of their own");
    return { purpose: "countersign", workspace, key: said };
  }
  const since = compromisedSince ? { compromisedSince: wholeSecond(compromisedSince) } : {};
  const revocation = { person: said.key.person, key: await digestOf(said.key), ...since };
  return { purpose: "revoke", workspace, revocation };
}
