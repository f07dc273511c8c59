import { openVerifier, type Verifier } from "./verifier.ts";

/** What was loaded: the verifier, and which one that is. */
export interface Loaded {
  verifier: Verifier;
  /** SHA-256 of the WebAssembly module, lower-case hexadecimal. */
  sha256: string;
  /** The size of the module in bytes. */
  size: number;
  /** Where the module came from, compressed with gzip. */
  address: string;
}

/** Loads the verifier. From then on the browser lets the page connect to nothing. */
export async function load(address: string, worker: string): Promise<Loaded> {
  const response = await fetch(address);
  if (!response.ok || !response.body) throw new Error(`The server answered ${response.status} for the verifier.`);
  const unpacked = response.body.pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(unpacked).arrayBuffer();
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const sha256 = Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const verifier = await openVerifier(startWorker(worker), await WebAssembly.compile(bytes));
  seal();
  return { verifier, sha256, size: bytes.byteLength, address };
}

/** What browsers with trusted types ask for where a script's address is given. */
interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
}

function startWorker(address: string): Worker {
  const { trustedTypes } = window as { trustedTypes?: TrustedTypes };
  const policy = trustedTypes?.createPolicy("verifier", {
    createScriptURL(url) {
      if (url !== address) throw new TypeError(`not the verifier: ${url}`);
      return url;
    },
  });
  return new Worker(policy ? policy.createScriptURL(address) : address);
}

/**
 * Adds a policy to those of the server, under which the page can load and send nothing. The worker came with such a
 * policy, and can do so neither.
 */
function seal() {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "default-src 'none'; form-action 'none'; base-uri 'none'";
  document.head.append(policy);
}
