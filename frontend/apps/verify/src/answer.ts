import type { EvidenceVerifier } from "./evidence.ts";
import type { Answer, Asked, Checked } from "./messages.ts";

/** Answers questions with a verifier that was started. Where it stops on a file, another one is started in its place. */
export function answering(
  started: EvidenceVerifier,
  start: () => Promise<EvidenceVerifier>,
): (asked: Asked) => Promise<Answer> {
  let verifier = started;
  return async ({ id, ask, file, anchors }) => {
    let bytes: Uint8Array<ArrayBuffer>;
    let against: Uint8Array<ArrayBuffer> | null;
    try {
      bytes = await read(file);
      against = anchors && (await read(anchors));
    } catch {
      return { id, problem: "The browser could not read this file." };
    }
    try {
      switch (ask) {
        case "sort":
          return { id, result: verifier.kind(bytes) };
        case "admit":
          return { id, result: verifier.problem(bytes) };
        case "verify": {
          const sha256 = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
          const result: Checked = { ...verifier.verify(bytes, against), sha256 };
          return { id, result };
        }
      }
    } catch (error) {
      // The program has ended: a browser gives it less memory and less of a stack than the command line has.
      verifier = await start();
      return {
        id,
        problem: `The verifier stopped on this file, which says nothing about it; the command line may go further. (${error})`,
      };
    }
  };
}

async function read(file: File): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await file.arrayBuffer());
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
