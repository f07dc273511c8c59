import {
  checkSigner,
  digestOf,
  expect,
  expectMembers,
  object,
  type Prepared,
  readPrepared,
  type Signer,
  same,
} from "./prepared.ts";
import { checkTimes } from "./times.ts";

/** A key as acts name it; FORMAT, section 10. */
export interface KeyDocument {
  key: { person: string; credentialId: string; publicKey: string; backupEligible: boolean };
  attestationObject: string;
  clientData: string;
}

/** A key that this browser made: the server alone knows under which id its person is kept. */
export type MadeKey = Omit<KeyDocument, "key"> & { key: Omit<KeyDocument["key"], "person"> };

/** That a key is to count no more; `compromisedSince` is there exactly where the person who signs named a time. */
export interface RevocationDocument {
  person: string;
  /** The digest of the key. */
  key: string;
  compromisedSince?: string;
}

/** A change of a repository's policy. */
export interface PolicyDocument {
  repository: string;
  version: number;
  previous?: string;
  policy?: string;
}

/** A change of who protects a workspace. */
export interface ProtectionDocument {
  version: number;
  previous?: string;
  quorum: number;
  people: string[];
}

/**
 * What the page has announced that an act will say: all of it but what the server alone knows. A workspace is its Bitbucket
 * UUID, without braces.
 */
export type Announced =
  | { purpose: "enrol"; key: MadeKey }
  | { purpose: "countersign"; workspace: string; key: KeyDocument }
  /** Of a key of one's own, where there is no workspace. */
  | { purpose: "revoke"; workspace: string | null; revocation: RevocationDocument }
  | { purpose: "policy"; workspace: string; policy: PolicyDocument }
  | { purpose: "protect"; workspace: string; protection: ProtectionDocument };

const predicateType = "https://github.com/signedapproval/bitbucket/act/v1";

// What the server alone knows, or is looked at by itself, in acts of every kind.
const unknown = ["expiresAt", "issuedAt", "logOrigin", "nonce", "rpId", "signer"];

/**
 * Checks that the prepared bytes are exactly the act that the page has announced, and that the authenticator is asked to sign
 * these bytes. Gives their SHA-256 in hex; throws a StatementMismatch otherwise, and a refusal where the time is not right.
 */
export async function checkAct(prepared: Prepared, announced: Announced, signer: Signer): Promise<string> {
  const { predicate, subject, digest } = await readPrepared(prepared, predicateType);
  const person = await checkSigner(predicate["signer"], prepared.signerSalt, signer);

  const workspace = announced.purpose === "enrol" ? null : announced.workspace;
  const [member, document] = documentOf(announced, person);
  const expected: Record<string, unknown> = {
    purpose: announced.purpose,
    origin: window.location.origin,
    [member]: document,
    meaning: await meaningOf(announced, document),
    ...(workspace !== null && { workspace: `{${workspace}}` }),
  };
  const server = workspace === null ? unknown : [...unknown, "roster"];
  for (const [name, value] of Object.entries(expected)) {
    const path = differing(value, predicate[name], name);
    expect(path === null, words[path ?? ""] ?? `the ${path}`);
  }
  expectMembers(predicate, [...Object.keys(expected), ...server], "its parts");
  expect(same(subject, [{ digest: { sha256: await digestOf(document) } }]), "what it is about");
  if (announced.purpose === "revoke") {
    const own = announced.revocation.person === person;
    expect(own === (workspace === null), "whose key it is");
  }
  if (announced.purpose === "countersign") expect(announced.key.key.person !== person, "whose key it is");
  checkTimes("act", predicate);
  return digest;
}

/** The document of an act, and the member that holds it. */
function documentOf(announced: Announced, person: string): [string, unknown] {
  switch (announced.purpose) {
    case "enrol":
      return ["key", { ...announced.key, key: { ...announced.key.key, person } }];
    case "countersign":
      return ["key", announced.key];
    case "revoke":
      return ["revocation", announced.revocation];
    case "policy":
      return ["policy", announced.policy];
    case "protect":
      return ["protection", announced.protection];
  }
}

/** The sentence that a signature under an act says. */
async function meaningOf(announced: Announced, document: unknown): Promise<string> {
  switch (announced.purpose) {
    case "enrol":
      return `I enrol the key ${await digestOf(object(document)["key"])} under my name.`;
    case "countersign": {
      const { key } = announced.key;
      return `I countersign that the key ${await digestOf(key)} belongs to person ${key.person}.`;
    }
    case "revoke": {
      const { person, key, compromisedSince } = announced.revocation;
      const since = compromisedSince ? `, which may have been in other hands since ${compromisedSince}` : "";
      return `I revoke the key ${key} of person ${person}${since}.`;
    }
    case "policy": {
      const { policy, version, repository } = announced.policy;
      return policy
        ? `I agree that policy ${policy} becomes version ${version} of repository ${repository}.`
        : `I agree that repository ${repository} is gated no longer.`;
    }
    case "protect": {
      const { quorum, people } = announced.protection;
      const how = quorum ? `by the signatures of ${quorum} of ${people.length} people` : "without signatures";
      return `I agree that the rules of workspace {${announced.workspace}} can be changed ${how}.`;
    }
  }
}

/** The innermost member in which a value is not the one that is expected; null where there is none. */
function differing(expected: unknown, actual: unknown, name: string): string | null {
  if (same(expected, actual)) return null;
  if (!isObject(expected) || !isObject(actual)) return name;
  const members = [...new Set([...Object.keys(expected), ...Object.keys(actual)])];
  for (const member of members) {
    // A member that is there and one that is not are never the same.
    if (Object.hasOwn(expected, member) !== Object.hasOwn(actual, member)) return member;
    const found = differing(expected[member], actual[member], member);
    if (found) return found;
  }
  return name;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A time as documents have it. */
export function wholeSecond(time: string): string {
  return `${new Date(time).toISOString().slice(0, 19)}Z`;
}

const words: Record<string, string> = {
  person: "whose key it is",
  credentialId: "the key",
  publicKey: "the key",
  backupEligible: "the key",
  attestationObject: "the key",
  clientData: "the key",
  compromisedSince: "since when somebody else may have had the key",
};
