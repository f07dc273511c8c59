import { test as base, type CDPSession } from "@playwright/test";

/** What a virtual authenticator does when it is asked: as a person with a fingerprint, or one who fails to give it. */
export interface AuthenticatorOptions {
  /** Whether the person verifies themselves; when not, every ceremony is refused. Default true. */
  verifies?: boolean;
  /** Whether its passkeys are synchronised by a provider (backup eligible and backed up) or bound to the device. */
  synced?: boolean;
}

/** A virtual authenticator of one page. It lives as long as the page. */
export class Authenticator {
  readonly #session: CDPSession;
  readonly #id: string;

  constructor(session: CDPSession, id: string) {
    this.#session = session;
    this.#id = id;
  }

  /** Lets the person pass or fail their verification from now on. */
  async setVerifies(verifies: boolean): Promise<void> {
    await this.#session.send("WebAuthn.setUserVerified", { authenticatorId: this.#id, isUserVerified: verifies });
  }

  /** The passkeys on it, with their private keys. */
  async credentials() {
    const { credentials } = await this.#session.send("WebAuthn.getCredentials", { authenticatorId: this.#id });
    return credentials;
  }

  /** Takes passkeys over from another authenticator, as a person has theirs in every window. */
  async add(credentials: Awaited<ReturnType<Authenticator["credentials"]>>): Promise<void> {
    for (const credential of credentials) {
      await this.#session.send("WebAuthn.addCredential", { authenticatorId: this.#id, credential });
    }
  }

  /** Loses every passkey, as a new device would have none. */
  async clear(): Promise<void> {
    await this.#session.send("WebAuthn.clearCredentials", { authenticatorId: this.#id });
  }
}

interface Fixtures {
  /** Gives a page an authenticator; the page must be open and must not have asked for a passkey yet. */
  addAuthenticator: (page: import("@playwright/test").Page, options?: AuthenticatorOptions) => Promise<Authenticator>;
}

export const test = base.extend<Fixtures>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright asks for an object pattern
  addAuthenticator: async ({}, use) => {
    await use(async (page, { verifies = true, synced = false } = {}) => {
      const session = await page.context().newCDPSession(page);
      await session.send("WebAuthn.enable");
      const { authenticatorId } = await session.send("WebAuthn.addVirtualAuthenticator", {
        options: {
          protocol: "ctap2",
          transport: "internal",
          hasResidentKey: true,
          hasUserVerification: true,
          isUserVerified: verifies,
          automaticPresenceSimulation: true,
          defaultBackupEligibility: synced,
          defaultBackupState: synced,
        },
      });
      return new Authenticator(session, authenticatorId);
    });
  },
});
