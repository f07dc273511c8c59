import { expect, type Page } from "@playwright/test";
import { test } from "./fixtures.ts";

// What the other tests build on: that the virtual authenticator behaves as a person with a real one.

interface Outcome {
  error?: string;
  /** Authenticator data flags: 0x04 user verified, 0x08 backup eligible, 0x10 backed up. */
  flags?: number;
}

/** Runs a ceremony in the page; nothing but the browser takes part in it. */
async function ceremony(page: Page, kind: "create" | "get"): Promise<Outcome> {
  return page.evaluate(async (kind): Promise<Outcome> => {
    const challenge = crypto.getRandomValues(new Uint8Array(32));
    try {
      const credential =
        kind === "get"
          ? await navigator.credentials.get({ publicKey: { challenge, userVerification: "required", timeout: 5000 } })
          : await navigator.credentials.create({
              publicKey: {
                challenge,
                rp: { name: "test" },
                user: { id: new Uint8Array([1]), name: "alice", displayName: "Alice" },
                pubKeyCredParams: [{ type: "public-key", alg: -7 }],
                authenticatorSelection: { residentKey: "required", userVerification: "required" },
              },
            });
      const response = (credential as PublicKeyCredential).response as AuthenticatorAssertionResponse &
        AuthenticatorAttestationResponse;
      const data = new Uint8Array(kind === "get" ? response.authenticatorData : response.getAuthenticatorData());
      const flags = data[32];
      return flags === undefined ? { error: "authenticator data is too short" } : { flags };
    } catch (error) {
      return { error: (error as DOMException).name };
    }
  }, kind);
}

test.beforeEach(async ({ page }) => {
  await page.route("http://localhost/", (route) =>
    route.fulfill({ contentType: "text/html", body: "<!doctype html>" }),
  );
  await page.goto("http://localhost/");
});

for (const synced of [false, true]) {
  test(`a ${synced ? "synced" : "device-bound"} passkey is made and used`, async ({ page, addAuthenticator }) => {
    const authenticator = await addAuthenticator(page, { synced });
    for (const kind of ["create", "get"] as const) {
      const { error, flags = 0 } = await ceremony(page, kind);
      expect(error).toBeUndefined();
      expect(flags & 0x1c).toBe(synced ? 0x1c : 0x04);
    }
    expect(await authenticator.credentials()).toHaveLength(1);
  });
}

test("a person who does not verify themselves is refused", async ({ page, addAuthenticator }) => {
  const authenticator = await addAuthenticator(page);
  expect((await ceremony(page, "create")).error).toBeUndefined();
  await authenticator.setVerifies(false);
  expect(await ceremony(page, "get")).toEqual({ error: "NotAllowedError" });
});

test("an authenticator that lost its passkeys has none to offer", async ({ page, addAuthenticator }) => {
  const authenticator = await addAuthenticator(page);
  expect((await ceremony(page, "create")).error).toBeUndefined();
  await authenticator.clear();
  expect(await ceremony(page, "get")).toEqual({ error: "NotAllowedError" });
});
