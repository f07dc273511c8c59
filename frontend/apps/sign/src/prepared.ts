import { fromBase64Url, hex, hmacSha256, sha256, toBase64Url } from "./bytes.ts";

/** What the server prepared to be signed. */
export interface Prepared {
  /** The statement's bytes, base64url. */
  statement: string;
  /** What the authenticator is asked, JSON. */
  options: string;
  /** What opens the commitment to who signs, base64url. */
  signerSalt: string;
}

/** Who signs: the Bitbucket account and the name that the page shows to its viewer as their own. */
export interface Signer {
  accountId: string;
  name: string;
}

/** What was prepared does not say what the page shows: it must not be signed. */
export class StatementMismatch extends Error {
  /** What differs, in words. */
  readonly difference: string;

  constructor(difference: string) {
    super(`the statement differs from what is shown: ${difference}`);
    this.difference = difference;
  }
}

/** A statement whose form is right, and which the authenticator is asked to sign. What it says is still to be compared. */
export interface Readable {
  predicate: Record<string, unknown>;
  subject: unknown;
  /** The SHA-256 of its bytes, lower-case hex. */
  digest: string;
}

/**
 * Reads a statement with a type of predicate, and makes sure that the authenticator is asked to sign exactly these bytes, for
 * the relying party that they name, by somebody whom it verifies. Throws {@link StatementMismatch}.
 */
export async function readPrepared({ statement, options }: Prepared, predicateType: string): Promise<Readable> {
  const bytes = read(() => fromBase64Url(statement), "it cannot be decoded");
  const text = read(() => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), "it is not text");
  const whole = read(() => object(JSON.parse(text)), "it is not a document");
  // One form only: no member twice, no order or white space in which something could hide.
  expect(canonical(whole) === text, "it is not in canonical form");
  expectMembers(whole, ["_type", "predicate", "predicateType", "subject"], "its outermost part");
  expect(whole["_type"] === statementType && whole["predicateType"] === predicateType, "its type");
  const predicate = object(whole["predicate"]);

  const digest = await sha256(bytes);
  const asked = read(() => object(JSON.parse(options)), "the request to the authenticator");
  expect(asked["challenge"] === toBase64Url(digest), "the challenge");
  // The browser lets no page ask for a relying party that is not its own.
  expect(typeof asked["rpId"] === "string" && asked["rpId"] === predicate["rpId"], "the relying party");
  expect(asked["userVerification"] === "required", "the demand that the authenticator verifies you");
  return { predicate, subject: whole["subject"], digest: hex(digest) };
}

/**
 * Makes sure that what is signed names the viewer as its signer, by a commitment that nobody can open to another account.
 * Gives our id of the person, which the server alone knows.
 */
export async function checkSigner(party: unknown, salt: string, { accountId, name }: Signer): Promise<string> {
  const { person, commitment, ...more } = object(party);
  expect(typeof person === "string" && Object.keys(more).length === 0, "who signs");
  expect(commitment === (await commitmentTo(salt, { kind: "person", accountId, name }, "who signs")), "who signs");
  return person;
}

const saltSize = 32;

/** What a statement commits to a value with, as the server computes it: the value cannot be exchanged afterwards. */
export async function commitmentTo(salt: string, value: unknown, what: string): Promise<string> {
  const key = read(() => fromBase64Url(salt), what);
  expect(key.length === saltSize, what);
  return hex(await hmacSha256(key, new TextEncoder().encode(canonical(value))));
}

const statementType = "https://in-toto.io/Statement/v1";

export function expect(holds: boolean, difference: string): asserts holds {
  if (!holds) throw new StatementMismatch(difference);
}

export function expectMembers(value: Record<string, unknown>, names: readonly string[], where: string) {
  expect(same(Object.keys(value).sort(), [...names].sort()), where);
}

export function read<T>(reading: () => T, difference: string): T {
  try {
    return reading();
  } catch {
    throw new StatementMismatch(difference);
  }
}

export function object(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new StatementMismatch("its form");
  return value as Record<string, unknown>;
}

export function same(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b);
}

/** RFC 8785: the numbers and strings of JSON.stringify, members sorted by their UTF-16 code units. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}

/** The SHA-256 of a document's canonical form, lower-case hex. */
export async function digestOf(document: unknown): Promise<string> {
  return hex(await sha256(new TextEncoder().encode(canonical(document))));
}
