import type { MadeKey } from "./act.ts";
import { fromBase64Url, hex, sha256, toBase64Url } from "./bytes.ts";
import { Refusal } from "./refusal.ts";

/**
 * The key in a RegistrationResponseJSON: what the browser itself says that was made, so that it is this one that is enrolled.
 * Throws a {@link Refusal} where it cannot be read.
 */
export async function madeKey(registration: string): Promise<MadeKey> {
  try {
    const { id, response } = JSON.parse(registration);
    const attestation = fromBase64Url(response.attestationObject);
    const data = authenticatorData(attestation);
    const length = 256 * byte(data, 53) + byte(data, 54);
    const start = 55 + length;
    if (toBase64Url(data.subarray(55, start)) !== id) throw new Error("another credential");
    return {
      key: {
        credentialId: id,
        publicKey: toBase64Url(data.subarray(start, itemEnd(data, start))),
        backupEligible: (byte(data, 32) & 0x08) !== 0,
      },
      attestationObject: hex(await sha256(attestation)),
      clientData: hex(await sha256(fromBase64Url(response.clientDataJSON))),
    };
  } catch (error) {
    throw new Refusal("PASSKEY_UNREADABLE", "Your browser's answer about the new passkey cannot be read.", error);
  }
}

/** The authenticator data in an attestation object: one of the members of a map whose keys are texts. */
function authenticatorData(attestation: Uint8Array): Uint8Array {
  for (let at = 1; at < attestation.length; ) {
    const value = itemEnd(attestation, at);
    const end = itemEnd(attestation, value);
    if (new TextDecoder().decode(attestation.subarray(at + 1, value)) === "authData") {
      const [, start] = head(attestation, value);
      return attestation.subarray(start, end);
    }
    at = end;
  }
  throw new Error("no authenticator data");
}

/** Where an item of CBOR ends that begins at a place. */
function itemEnd(data: Uint8Array, at: number): number {
  const [argument, after] = head(data, at);
  const major = byte(data, at) >> 5;
  let end = after;
  if (major === 2 || major === 3) end += argument;
  const inside = major === 4 ? argument : major === 5 ? 2 * argument : major === 6 ? 1 : 0;
  for (let i = 0; i < inside; i++) end = itemEnd(data, end);
  if (end > data.length) throw new Error("an item is cut off");
  return end;
}

/** The argument of an item of CBOR, and where its head ends. Lengths that need more than four bytes are refused. */
function head(data: Uint8Array, at: number): [argument: number, end: number] {
  const short = byte(data, at) & 0x1f;
  if (short < 24) return [short, at + 1];
  if (short > 26) throw new Error("a length that is not expected");
  let argument = 0;
  const end = at + 1 + 2 ** (short - 24);
  for (let i = at + 1; i < end; i++) argument = 256 * argument + byte(data, i);
  return [argument, end];
}

function byte(data: Uint8Array, at: number): number {
  const value = data[at];
  if (value === undefined) throw new Error("it is cut off");
  return value;
}

// A passkey that is not confirmed yet may be so after the page was loaded anew. What was made is kept here until then, and
// not asked of the server: it could name another key.
const place = (accountId: string, passkey: string) => `signedapproval.made.${accountId}.${passkey}`;

/** Keeps what this browser made for an account, until its enrolment is over. */
export function keepMade(accountId: string, passkey: string, made: MadeKey) {
  window.localStorage.setItem(place(accountId, passkey), JSON.stringify(made));
}

/** What this browser made for an account; throws a {@link Refusal} where it does not know. */
export function keptMade(accountId: string, passkey: string): MadeKey {
  const kept = window.localStorage.getItem(place(accountId, passkey));
  if (kept) return JSON.parse(kept);
  throw new Refusal(
    "MADE_ELSEWHERE",
    "This browser did not make the passkey that waits, so it cannot tell that it is yours. Confirm it in the browser in which you made it, or remove it on the page of your passkeys and make another one here.",
  );
}

/** Forgets a passkey whose enrolment is over. */
export function forgetMade(accountId: string, passkey: string) {
  window.localStorage.removeItem(place(accountId, passkey));
}
