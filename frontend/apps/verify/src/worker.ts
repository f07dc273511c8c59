import type { EvidenceVerifier } from "./evidence.ts";
import type { Answer, Asked, Ready } from "./messages.ts";
import { run } from "./run.ts";

// The thread in which bundles are checked, so that the page does not stand still. It gets the compiled module first, and
// then one question at a time.

declare const self: {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: Ready | Answer): void;
};

self.onmessage = async ({ data: module }: MessageEvent<WebAssembly.Module>) => {
  try {
    const verifier = await run(module);
    self.onmessage = (event: MessageEvent<Asked>) => void answer(verifier, event.data);
    self.postMessage({ go: verifier.go, maxBundle: verifier.maxBundle });
  } catch (error) {
    self.postMessage({ problem: String(error) });
  }
};

async function answer(verifier: EvidenceVerifier, { id, ask, file, anchors }: Asked) {
  let bytes: Uint8Array<ArrayBuffer>;
  let against: Uint8Array<ArrayBuffer> | null;
  try {
    bytes = await read(file);
    against = anchors && (await read(anchors));
  } catch {
    self.postMessage({ id, unreadable: true });
    return;
  }
  try {
    switch (ask) {
      case "sort":
        return self.postMessage({ id, result: verifier.kind(bytes) });
      case "admit":
        return self.postMessage({ id, result: verifier.problem(bytes) });
      case "verify": {
        const sha256 = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
        return self.postMessage({ id, result: { ...verifier.verify(bytes, against), sha256 } });
      }
    }
  } catch (error) {
    // The program has ended, for example because there was no memory left.
    self.postMessage({ id, stopped: String(error) });
  }
}

async function read(file: File): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await file.arrayBuffer());
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
