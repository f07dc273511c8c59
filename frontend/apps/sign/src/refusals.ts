import type { Refusal } from "./refusal.ts";

/** What the reader is told of a refusal, and what they can do. */
export interface Advice {
  title: string;
  text: string;
  /** The way on that fits. */
  way?: "reload" | "sign-in" | "again" | "new-passkey" | "passkeys";
}

// The server's sentence says what happened; what stands here is said where the page knows better what to do.
const advices: Record<string, Partial<Advice> & Pick<Advice, "title">> = {
  CEREMONY_UNSUPPORTED: {
    title: "This browser cannot use passkeys here",
    text: "Open this page in a current browser, over a secure connection.",
  },
  CEREMONY_NOT_ALLOWED: {
    title: "Nothing was signed",
    text: "The passkey was not confirmed in time, was cancelled, or is not on this device.",
    way: "new-passkey",
  },
  CEREMONY_PRESS_AGAIN: {
    title: "Press the button once more",
    text: "Your browser wants a press of the button for each use of a passkey.",
    way: "again",
  },
  CEREMONY_ALREADY_THERE: {
    title: "This device already holds one of your passkeys",
    text: "Press the button again to sign with it.",
    way: "again",
  },
  CEREMONY_WRONG_ORIGIN: {
    title: "Passkeys do not work at this address",
    text: "Open this page at the address that your administrator gave you.",
  },
  CEREMONY_FAILED: {
    title: "The passkey did not work",
    text: "Your browser reported an error. Nothing was signed.",
    way: "again",
  },
  STATEMENT_MISMATCH: {
    title: "Refused: this is not what you were shown",
    way: "reload",
  },
  STATEMENT_TIME: { title: "Refused: the time is not right", way: "again" },
  OTHER_STATEMENT: { title: "The record differs from what you signed", way: "reload" },
  DIFF_MISMATCH: { title: "Refused: the change is not what it claims to be", way: "reload" },
  UNAUTHENTICATED: {
    title: "You are not signed in",
    text: "Your session has ended. Nothing was signed.",
    way: "sign-in",
  },
  "signed-out": { title: "You are not signed in", text: "Your session has ended. Nothing was signed.", way: "sign-in" },
  HEAD_CHANGED: { title: "The pull request has changed", way: "reload" },
  DIFF_CHANGED: { title: "The change is another one now", way: "reload" },
  SUPERSEDED: { title: "A newer request took this one's place", way: "reload" },
  NOT_OPEN: { title: "Nothing is asked for any more", way: "reload" },
  EXPIRED: { title: "The request has expired", way: "reload" },
  ALREADY_DECIDED: { title: "You have decided already", way: "reload" },
  NOTHING_TO_UNDO: { title: "There is no decision of yours to withdraw", way: "reload" },
  NO_AUTHOR: { title: "Nobody knows whose pull request this is" },
  AUTHOR: { title: "Authors do not approve their own pull request here" },
  NOT_APPROVER: { title: "The rule does not ask you" },
  KEY_WAITING: { title: "Your passkey waits for an administrator" },
  ENROLMENT_LEFT: {
    title: "Your new passkey is not confirmed yet",
    text: "Nothing was signed. Press the button again when you want to go on.",
    way: "again",
  },
  MADE_ELSEWHERE: { title: "Your passkey was made elsewhere", way: "passkeys" },
  PASSKEY_UNREADABLE: { title: "The passkey did not work", way: "again" },
  PASSKEY_REFUSED: { title: "The passkey was not accepted", way: "again" },
  CHALLENGE_EXPIRED: { title: "That took too long, or was done elsewhere", way: "again" },
  NO_KEY: { title: "You have no passkey that can sign this" },
  CHALLENGE: { title: "This signature cannot be used", way: "again" },
  ASSERTION: { title: "The signature does not hold", way: "again" },
  REVOKED_KEY: { title: "This passkey was revoked", way: "again" },
  COUNTER: { title: "This passkey may have been copied", way: "again" },
  NO_OVERRIDE: { title: "The rule cannot be overridden" },
  NOT_OVERRIDER: { title: "The rule does not let you override it" },
  NOT_NEEDED: { title: "There is nothing to override", way: "reload" },
  REASON_MISSING: { title: "An override needs a reason" },
  COMMENT_TOO_LONG: { title: "The comment is too long" },
  DIFF_TOO_LARGE: { title: "The change is too large to be signed" },
  BITBUCKET_UNAVAILABLE: { title: "Bitbucket could not be asked", way: "again" },
  NEEDS_RECONNECTING: { title: "The connection to Bitbucket needs an administrator" },
  FORBIDDEN: { title: "You may not decide this" },
  NOT_FOUND: { title: "Not found", text: "It does not exist any more, or your Bitbucket account may not see it." },
};

/** Puts a refusal into words. A code that is not known here is told in the server's own sentence. */
export function adviceFor(refusal: Pick<Refusal, "code" | "message">): Advice {
  const known = advices[refusal.code];
  if (!known) return { title: "Nothing was signed", text: refusal.message, way: "again" };
  return { text: refusal.message, ...known };
}
