import { expect, test } from "vitest";
import { fromBase64, fromBase64Url, hex, sha256, toBase64Url } from "./bytes.ts";

test("base64 reads what it should", () => {
  expect([...fromBase64("")]).toEqual([]);
  expect([...fromBase64("AA==")]).toEqual([0]);
  expect([...fromBase64("+/8=")]).toEqual([0xfb, 0xff]);
  expect(new TextDecoder().decode(fromBase64("ZGlmZiAtLWdpdA=="))).toBe("diff --git");
});

test.each(["A", "AA", "AA=", "A===", "AA==AA==", "AA==\n", " AA==", "_w==", "AB==", "AAB="])(
  "base64 refuses %j",
  (text) => {
    expect(() => fromBase64(text)).toThrow();
  },
);

test("base64url reads and writes the same bytes", () => {
  for (let length = 0; length < 70; length++) {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 89 + length * 7) % 256);
    expect([...fromBase64Url(toBase64Url(bytes))]).toEqual([...bytes]);
  }
});

test.each(["A", "AA==", "+/8", "AB", "AA A"])("base64url refuses %j", (text) => {
  expect(() => fromBase64Url(text)).toThrow();
});

test("SHA-256 is that of FIPS 180", async () => {
  const digest = await sha256(new TextEncoder().encode("abc"));
  expect(hex(digest)).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});
