import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { KeyActStep } from "@signedapproval/graph/generated/graphql.ts";
import { fromBase64Url, sha256, toBase64Url } from "./bytes.ts";
import { ceremony, Refusal } from "./refusal.ts";
import { checkTimes } from "./times.ts";
import { signWithPasskey } from "./webauthn.ts";

const keyActFragment = graphql(`
  fragment KeyAct_act on KeyAct {
    step
    statement
    options
  }
`);

/** What an authenticator is asked to sign about a key. */
export interface KeyAct {
  step: KeyActStep;
  /** The act's bytes, base64url. */
  statement: string;
  /** What the authenticator is asked, JSON. */
  options: string;
}

const predicateType = "https://github.com/signedapproval/bitbucket/act/v1";

const purposes: Record<KeyActStep, string> = {
  NEW_KEY: "enrol",
  OWN_KEY: "enrol",
  COUNTERSIGN: "countersign",
  REVOKE: "revoke",
};

/**
 * Has an act signed, after a look at it: it is of the kind that the page has announced, for this page, and it is exactly
 * what the authenticator is asked to sign. Gives the authenticator's answer; throws a {@link Refusal}.
 */
export function signKeyAct({ step, statement, options }: KeyAct): Promise<string> {
  return signAct({ purpose: purposes[step], statement, options });
}

export interface Act {
  purpose: string;
  /** The SHA-256 hash of the document that it must be about, lower-case hex; anything where absent. */
  about?: string;
  /** The act's bytes, base64url. */
  statement: string;
  /** What the authenticator is asked, JSON. */
  options: string;
}

/** {@link signKeyAct}, for an act of any purpose. */
export async function signAct({ purpose, about, statement, options }: Act): Promise<string> {
  let sound = false;
  let times: Record<string, unknown> = {};
  try {
    const bytes = fromBase64Url(statement);
    const act = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    sound =
      act.predicateType === predicateType &&
      act.predicate.purpose === purpose &&
      act.predicate.origin === window.location.origin &&
      (about === undefined || act.subject[0].digest.sha256 === about) &&
      JSON.parse(options).challenge === toBase64Url(await sha256(bytes));
    times = act.predicate;
  } catch {
    // What cannot be read is not sound.
  }
  if (!sound) {
    throw new Refusal("STATEMENT_MISMATCH", "What was prepared for signing is not what this page has announced.");
  }
  checkTimes("act", times);
  return await ceremony(() => signWithPasskey(options));
}

/** An act as an answer of the server has it; null where there is none. */
export function keyActOf(masked: FragmentType<typeof keyActFragment> | null | undefined): KeyAct | null {
  return masked ? readFragment(keyActFragment, masked) : null;
}
