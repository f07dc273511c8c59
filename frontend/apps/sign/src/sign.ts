import { type Announced, checkAct } from "./act.ts";
import { type Prepared, type Signer, StatementMismatch } from "./prepared.ts";
import { ceremony, Refusal } from "./refusal.ts";
import { checkStatement, type PreparedDecision, type Shown } from "./statement.ts";
import { signWithPasskey } from "./webauthn.ts";

/** What was signed. */
export interface Signed {
  /** The authenticator's answer. */
  response: string;
  /** The SHA-256 of the bytes that were signed, as this page computed it. */
  statementSha256: string;
}

/**
 * Has a decision signed, after a look at it: it says what the page shows. Nothing else asks an authenticator for a signature
 * than this and {@link signAct}. Throws a {@link Refusal}; nothing was signed then.
 */
export function signDecision(prepared: PreparedDecision, shown: Shown): Promise<Signed> {
  return sign(prepared, () => checkStatement(prepared, shown));
}

/** Has an act signed, after a look at it: it says what the page has announced, by the viewer. Throws a {@link Refusal}; see {@link signDecision}. */
export function signAct(prepared: Prepared, announced: Announced, signer: Signer): Promise<Signed> {
  return sign(prepared, () => checkAct(prepared, announced, signer));
}

async function sign({ options }: Prepared, check: () => Promise<string>): Promise<Signed> {
  const statementSha256 = await compared(check);
  const response = await ceremony(() => signWithPasskey(options));
  return { response, statementSha256 };
}

async function compared(check: () => Promise<string>): Promise<string> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof StatementMismatch)) throw error;
    throw new Refusal(
      "STATEMENT_MISMATCH",
      `What was prepared for signing differs from this page in ${error.difference}.`,
      error,
    );
  }
}
