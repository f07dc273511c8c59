// The only file that touches navigator.credentials.

/** Why a ceremony came to nothing. */
export type CeremonyProblem =
  /** The browser has no passkeys, or the page is not in a secure context. */
  | "unsupported"
  /** The person, the authenticator or the time said no; the browser does not tell which. */
  | "not-allowed"
  /** The browser wants the button pressed for this. */
  | "press-again"
  /** The authenticator holds a passkey for this account already. */
  | "already-there"
  /** The page's address and the relying party do not belong together. */
  | "wrong-origin"
  /** Anything else. */
  | "failed";

/** A ceremony that came to nothing. */
export class CeremonyError extends Error {
  readonly problem: CeremonyProblem;

  constructor(problem: CeremonyProblem, cause?: unknown) {
    super(`the ceremony ended: ${problem}`, { cause });
    this.problem = problem;
  }
}

/** Whether this browser can do the ceremonies at all. */
export function isSupported(): boolean {
  return (
    window.isSecureContext &&
    typeof PublicKeyCredential === "function" &&
    typeof PublicKeyCredential.parseCreationOptionsFromJSON === "function" &&
    typeof PublicKeyCredential.parseRequestOptionsFromJSON === "function"
  );
}

/** Makes a passkey. Takes PublicKeyCredentialCreationOptionsJSON and gives RegistrationResponseJSON, both as text. */
export async function createPasskey(options: string): Promise<string> {
  return await ceremony(async () => {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(JSON.parse(options));
    return await navigator.credentials.create({ publicKey });
  });
}

/** Signs with a passkey. Takes PublicKeyCredentialRequestOptionsJSON and gives AuthenticationResponseJSON, both as text. */
export async function signWithPasskey(options: string): Promise<string> {
  return await ceremony(async () => {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(options));
    return await navigator.credentials.get({ publicKey });
  });
}

async function ceremony(run: () => Promise<Credential | null>): Promise<string> {
  if (!isSupported()) throw new CeremonyError("unsupported");
  try {
    const credential = await run();
    if (!(credential instanceof PublicKeyCredential)) throw new CeremonyError("failed");
    return JSON.stringify(credential.toJSON());
  } catch (error) {
    throw asCeremonyError(error);
  }
}

function asCeremonyError(error: unknown): CeremonyError {
  if (error instanceof CeremonyError) return error;
  const name = error instanceof DOMException ? error.name : "";
  switch (name) {
    case "NotAllowedError":
    case "AbortError":
      // A browser that asks for a gesture refuses in the same words as a person who cancels.
      return new CeremonyError(navigator.userActivation?.isActive === false ? "press-again" : "not-allowed", error);
    case "InvalidStateError":
      return new CeremonyError("already-there", error);
    case "SecurityError":
      return new CeremonyError("wrong-origin", error);
    case "NotSupportedError":
      return new CeremonyError("unsupported", error);
    default:
      return new CeremonyError("failed", error);
  }
}
