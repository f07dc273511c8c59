import { answering } from "./answer.ts";
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
    const answer = answering(verifier, () => run(module));
    self.onmessage = async ({ data }: MessageEvent<Asked>) => self.postMessage(await answer(data));
    self.postMessage({ go: verifier.go, maxBundle: verifier.maxBundle });
  } catch (error) {
    self.postMessage({ problem: String(error) });
  }
};
