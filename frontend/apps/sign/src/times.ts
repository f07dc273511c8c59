import { Refusal } from "./refusal.ts";

const minute = 60_000;

/** How far the clocks of the browser and of the server may be apart. */
export const drift = 5 * minute;

/** How long after it was issued a decision can be filed, and an act about a key or a rule: what the evidence allows. */
export const longest = { decision: 60 * minute, act: 8 * 24 * 60 * minute };

/**
 * Refuses the times of what is to be signed. They are the server's word, and until the latter it can file what is signed,
 * whatever it says of it meanwhile: a time that is yet to come would let it keep a signature for as long as it likes. An act
 * may have waited for its signer; a decision is signed at once. Throws a {@link Refusal}.
 */
export function checkTimes(kind: keyof typeof longest, { issuedAt, expiresAt }: Record<string, unknown>): void {
  const [from, to, now] = [timeOf(issuedAt), timeOf(expiresAt), Date.now()];
  if (!(from < to && to - from <= longest[kind])) {
    throw new Refusal("STATEMENT_TIME", "What was prepared for signing could be used for longer than it may be.");
  }
  if (from > now + drift || (kind === "decision" && from < now - drift)) {
    const [said, here] = [issuedAt, `${new Date(now).toISOString().slice(0, 19)}Z`];
    throw new Refusal(
      "STATEMENT_TIME",
      `What was prepared for signing says that it was made at ${said}, and by the clock of this device it is ${here}. If this clock is wrong, set it right and try again; if it is right, tell an administrator.`,
    );
  }
}

function timeOf(said: unknown): number {
  return typeof said === "string" && /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/.test(said)
    ? Date.parse(said)
    : Number.NaN;
}
