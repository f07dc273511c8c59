import { graphql } from "@signedapproval/graph/generated";
import { keyActOf, signKeyAct } from "@signedapproval/sign/keyact";
import { mutate, Refusal, refuse } from "@signedapproval/sign/refusal";
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

export interface ActOnKey {
  /** The node id of an own passkey, or of a member's key. */
  key: string;
  action: "COUNTERSIGN" | "REVOKE";
  /** Since when somebody else may have had a key that is revoked, RFC 3339. */
  compromisedSince?: string;
}

/**
 * Countersigns or revokes a key with a signature of the viewer's. Where the workspace is protected nothing is done yet:
 * it gives the key of the proposal that was made. Throws a {@link Refusal}; nothing was done then.
 */
export async function actOnKey(client: Client, input: ActOnKey): Promise<string | null> {
  const { prepareKeyAct } = await mutate(client, PrepareKeyAct, { input });
  if (prepareKeyAct.proposal) return prepareKeyAct.proposal.key;
  refuse(prepareKeyAct.userErrors);
  const act = keyActOf(prepareKeyAct.act);
  if (!act) throw new Refusal("NO_STATEMENT", "The server prepared nothing to sign.");
  const response = await signKeyAct(act);
  const { signKeyAct: signed } = await mutate(client, SignKeyAct, { input: { response } });
  refuse(signed.userErrors);
  return null;
}
