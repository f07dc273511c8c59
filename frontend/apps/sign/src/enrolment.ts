import { graphql } from "@signedapproval/graph/generated";
import type { KeyActStep, PasskeyState } from "@signedapproval/graph/generated/graphql.ts";
import type { Client } from "urql";
import type { MadeKey } from "./act.ts";
import { type KeyAct, keyActOf } from "./keyact.ts";
import { forgetMade, keepMade, keptMade, madeKey } from "./made.ts";
import type { Signer } from "./prepared.ts";
import { ceremony, mutate, Refusal, refuse } from "./refusal.ts";
import { signAct } from "./sign.ts";
import { createPasskey } from "./webauthn.ts";

const BeginPasskey = graphql(`
  mutation BeginPasskey($input: BeginPasskeyInput!) {
    beginPasskey(input: $input) {
      options
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const FinishPasskey = graphql(`
  mutation FinishPasskey($input: FinishPasskeyInput!) {
    finishPasskey(input: $input) {
      passkey {
        id
        name
        state
      }
      act {
        ...KeyAct_act
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const ContinuePasskey = graphql(`
  mutation ContinuePasskey($input: ContinuePasskeyInput!) {
    continuePasskey(input: $input) {
      passkey {
        id
        state
      }
      act {
        ...KeyAct_act
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const ConfirmPasskey = graphql(`
  mutation ConfirmPasskey($input: ConfirmPasskeyInput!) {
    confirmPasskey(input: $input) {
      passkey {
        id
        state
        enrolledAt
        identifiedBy
        lastUsedAt
        expiresAt
      }
      act {
        ...KeyAct_act
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const ReportLostPasskeys = graphql(`
  mutation ReportLostPasskeys($input: ReportLostPasskeysInput!) {
    reportLostPasskeys(input: $input) {
      passkeys {
        id
        state
        revokedAt
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** What a person does when they are asked to confirm. */
export type Reply =
  /** Sign: the button was pressed, which browsers want for each use of a passkey. */
  | "sign"
  /** None of the passkeys that could sign is there any more. */
  | "lost"
  /** Make another passkey in the place of this one. */
  | "another"
  /** Leave it for now. */
  | "leave";

/** What a person is asked to confirm. */
export interface Question {
  step: KeyActStep;
  /** Why it did not work the last time; null the first time. */
  refusal: Refusal | null;
}

export interface EnrolInput {
  client: Client;
  /** Under whose name. */
  signer: Signer;
  /** What to call a new passkey. */
  name?: string | undefined;
  /** The passkey that waits, to be confirmed in the place of making one. */
  resume?: string | undefined;
  /** Asks the person to confirm and waits for what they do. */
  ask: (question: Question) => Promise<Reply>;
}

/**
 * Enrols a passkey: makes it, or takes up one that waits; has it sign its enrolment; has a passkey that is there sign too
 * where there is one. Gives the state that it has come to. Throws a {@link Refusal}; a passkey that was made waits then.
 */
export async function enrol({ client, signer, name, resume, ask }: EnrolInput): Promise<PasskeyState> {
  const { accountId } = signer;
  const browser: Browser = { client, accountId };
  let { id, act, key } = resume ? await takeUp(browser, resume) : await make(browser, name);
  let refusal: Refusal | null = null;
  for (;;) {
    const reply: Reply = await ask({ step: act.step, refusal });
    refusal = null;
    try {
      if (reply === "leave") throw new Refusal("ENROLMENT_LEFT", "The passkey waits to be confirmed.");
      if (reply === "another") ({ id, act, key } = await make(browser, name));
      if (reply === "lost") {
        const { reportLostPasskeys } = await mutate(client, ReportLostPasskeys, { input: { confirm: true } });
        refuse(reportLostPasskeys.userErrors);
        ({ id, act, key } = await takeUp(browser, id));
      }
      if (reply !== "sign") continue;
      const { response } = await signAct(act, { purpose: "enrol", key }, signer);
      const { confirmPasskey } = await mutate(client, ConfirmPasskey, { input: { response } });
      if (confirmPasskey.userErrors.length > 0) {
        // The challenge is used up, whatever the reason: the next press is over a new one.
        refusal = asRefusal(confirmPasskey.userErrors);
        ({ id, act, key } = await takeUp(browser, id));
        continue;
      }
      const next = keyActOf(confirmPasskey.act);
      if (!next) {
        forgetMade(accountId, id);
        return confirmPasskey.passkey?.state ?? "UNCONFIRMED";
      }
      act = next;
    } catch (error) {
      if (!(error instanceof Refusal) || !error.code.startsWith("CEREMONY_")) throw error;
      refusal = error; // the person can try again
    }
  }
}

function asRefusal([first]: readonly { code: string; message: string }[]): Refusal | null {
  return first ? new Refusal(first.code, first.message) : null;
}

/** Where a passkey is enrolled, and for whom. */
interface Browser {
  client: Client;
  accountId: string;
}

/** An enrolment that goes on: the key that this browser made, and what is signed next. */
interface Begun {
  id: string;
  act: KeyAct;
  key: MadeKey;
}

async function make({ client, accountId }: Browser, name: string | undefined): Promise<Begun> {
  const named = name ? { name } : {};
  const { beginPasskey } = await mutate(client, BeginPasskey, { input: named });
  refuse(beginPasskey.userErrors);
  const { options } = beginPasskey;
  if (!options) throw new Refusal("NO_OPTIONS", "The server did not say what passkey to make.");
  const response = await ceremony(() => createPasskey(options));
  const key = await madeKey(response);
  const { finishPasskey } = await mutate(client, FinishPasskey, { input: { ...named, response } });
  refuse(finishPasskey.userErrors);
  const { id } = known(finishPasskey.passkey);
  keepMade(accountId, id, key);
  return { id, act: known(keyActOf(finishPasskey.act)), key };
}

async function takeUp({ client, accountId }: Browser, passkey: string): Promise<Begun> {
  const key = keptMade(accountId, passkey);
  const { continuePasskey } = await mutate(client, ContinuePasskey, { input: { id: passkey } });
  refuse(continuePasskey.userErrors);
  return { id: passkey, act: known(keyActOf(continuePasskey.act)), key };
}

function known<T>(said: T | null | undefined): T {
  if (!said) throw new Refusal("NO_STATEMENT", "The server did not say what the passkey is to sign.");
  return said;
}
