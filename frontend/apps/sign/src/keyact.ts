import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { KeyActStep } from "@signedapproval/graph/generated/graphql.ts";
import type { Prepared } from "./prepared.ts";

const keyActFragment = graphql(`
  fragment KeyAct_act on KeyAct {
    step
    statement
    options
    signerSalt
  }
`);

/** What an authenticator is asked to sign about a key. */
export interface KeyAct extends Prepared {
  /** Whose key the server says that signs: it chooses what the person is told, and not what is signed. */
  step: KeyActStep;
}

/** An act as an answer of the server has it; null where there is none. */
export function keyActOf(masked: FragmentType<typeof keyActFragment> | null | undefined): KeyAct | null {
  return masked ? readFragment(keyActFragment, masked) : null;
}
