import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { registered } from "./actfixture.ts";
import { fromBase64Url, hex, sha256, toBase64Url } from "./bytes.ts";
import { forgetMade, keepMade, keptMade, madeKey } from "./made.ts";

beforeEach(() => window.localStorage.clear());

test("the key that was made is read out of the browser's answer", async () => {
  const { response, key } = await registered();
  expect(await madeKey(JSON.stringify(response))).toEqual(key);
});

test("attestations of every form are read", async () => {
  const file = join(import.meta.dirname, "../../../../server/evidence/testdata/vectors/attestations.json");
  const vectors: { name: string; attestationObject: string }[] = JSON.parse(readFileSync(file, "utf8"));
  const good = vectors.filter(({ name }) => name.startsWith("good"));
  expect(good.length).toBeGreaterThan(3);
  for (const { attestationObject } of good) {
    const bytes = fromBase64Url(attestationObject);
    // The last member of what authenticators send is the authenticator data, which ends with the key or an extension.
    const text = Buffer.from(bytes).toString("latin1");
    const data = bytes.subarray(text.indexOf("authData") + 8);
    const start = data[0] === 0x58 ? 2 : 3;
    const id = data.subarray(start + 55, start + 55 + 256 * (data[start + 53] ?? 0) + (data[start + 54] ?? 0));
    const answer = { id: toBase64Url(id), response: { attestationObject, clientDataJSON: "e30" } };
    const made = await madeKey(JSON.stringify(answer));
    expect(made.attestationObject).toBe(hex(await sha256(bytes)));
    expect(fromBase64Url(made.key.publicKey)[0]).toBeGreaterThan(0xa0);
  }
});

describe("an answer that cannot be read is refused", async () => {
  const { response } = await registered();
  const inner = response["response"] as Record<string, string>;
  const cut = toBase64Url(fromBase64Url(inner["attestationObject"] ?? "").subarray(0, 120));
  test.each([
    ["no document", "{"],
    ["nothing in it", "{}"],
    ["another credential", JSON.stringify({ ...response, id: "AAAA" })],
    ["a key that is cut off", JSON.stringify({ ...response, response: { ...inner, attestationObject: cut } })],
    ["no authenticator data", JSON.stringify({ ...response, response: { ...inner, attestationObject: "oA" } })],
  ])("%s", async (_, answer) => {
    await expect(madeKey(answer)).rejects.toMatchObject({ code: "PASSKEY_UNREADABLE" });
  });
});

test("what this browser made for an account is kept until its enrolment is over, and for no other account", async () => {
  const { key } = await registered();
  keepMade("carol", "passkey-1", key);
  expect(keptMade("carol", "passkey-1")).toEqual(key);
  expect(() => keptMade("bob", "passkey-1")).toThrow("did not make the passkey");
  expect(() => keptMade("carol", "passkey-2")).toThrow("did not make the passkey");
  forgetMade("carol", "passkey-1");
  expect(() => keptMade("carol", "passkey-1")).toThrow("did not make the passkey");
});
