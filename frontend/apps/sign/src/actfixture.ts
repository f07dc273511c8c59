// Passkeys as browsers make them, and acts as the server writes them, for tests.
import { carol } from "@signedapproval/graph/fixtures";
import type { KeyDocument, MadeKey } from "./act.ts";
import { hex, sha256, toBase64Url } from "./bytes.ts";
import { canonical, digestOf } from "./prepared.ts";
import { personCommitment, prepared, times } from "./statementfixture.ts";

/** A passkey that was made: its RegistrationResponseJSON, and what acts say of it. */
export interface Registered {
  response: Record<string, unknown>;
  key: MadeKey;
}

/** Makes a passkey; another one for each seed. */
export async function registered(seed = 1): Promise<Registered> {
  const id = new Uint8Array(16).fill(seed);
  const point = [0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20, ...filled(32, seed + 1)];
  const publicKey = new Uint8Array([...point, 0x22, 0x58, 0x20, ...filled(32, seed + 2)]);
  const data = [...filled(32, 9), 0x4d, ...filled(4, 0), ...filled(16, 0), 0, id.length, ...id, ...publicKey];
  const attestation = new Uint8Array([
    0xa3,
    ...text("fmt"),
    ...text("none"),
    ...text("attStmt"),
    0xa0,
    ...text("authData"),
    0x58,
    data.length,
    ...data,
  ]);
  const clientData = new TextEncoder().encode(JSON.stringify({ type: "webauthn.create", challenge: `made-${seed}` }));
  return {
    response: {
      id: toBase64Url(id),
      type: "public-key",
      response: { attestationObject: toBase64Url(attestation), clientDataJSON: toBase64Url(clientData) },
    },
    key: {
      key: { credentialId: toBase64Url(id), publicKey: toBase64Url(publicKey), backupEligible: true },
      attestationObject: hex(await sha256(attestation)),
      clientData: hex(await sha256(clientData)),
    },
  };
}

function filled(length: number, byte: number): number[] {
  return Array.from({ length }, () => byte);
}

function text(of: string): number[] {
  return [0x60 + of.length, ...new TextEncoder().encode(of)];
}

/** A passkey as acts of a person name it. */
export async function documentOf(person: string, seed = 1): Promise<KeyDocument> {
  const { key, ...hashes } = (await registered(seed)).key;
  return { key: { person, ...key }, ...hashes };
}

/** An act as the server writes it, with the subject and the origin that it has. */
export async function actOf(predicate: Record<string, unknown>, document: unknown): Promise<Statement> {
  return {
    _type: "https://in-toto.io/Statement/v1",
    predicateType: "https://github.com/signedapproval/bitbucket/act/v1",
    subject: [{ digest: { sha256: await digestOf(document) } }],
    predicate: {
      logOrigin: "localhost/log",
      nonce: "AAAAAAAAAAAAAAAAAAAAAA",
      origin: window.location.origin,
      rpId: "localhost",
      signer: { commitment: await personCommitment(carol), person: "person-carol" },
      ...times(),
      ...predicate,
    },
  };
}

export interface Statement extends Record<string, unknown> {
  predicate: Record<string, unknown>;
}

/** The act that enrols a passkey for a person. */
export async function enrolOf(document: KeyDocument): Promise<Statement> {
  const meaning = `I enrol the key ${await digestOf(document.key)} under my name.`;
  return actOf(
    {
      purpose: "enrol",
      key: document,
      meaning,
      signer: { commitment: await personCommitment(carol), person: document.key.person },
    },
    document,
  );
}

/** What a key is asked to sign about a key, as the server answers it. */
export async function keyAct(
  step: string,
  act: unknown,
  like: Record<string, unknown> = {},
): Promise<Record<string, unknown>> {
  const { statement, options, signerSalt } = await prepared(act, canonical(act));
  return { __typename: "KeyAct", step, statement, options, signerSalt, expiresAt: "2026-11-22T10:05:00Z", ...like };
}
