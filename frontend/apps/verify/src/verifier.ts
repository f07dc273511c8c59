import type { Kind } from "./evidence.ts";
import type { Answer, Asked, Checked, Ready } from "./messages.ts";

/** The verifier in its worker, as the page uses it. Every promise is refused with a sentence for the reader. */
export interface Verifier {
  /** The version of Go that compiled it. */
  readonly go: string;
  /** How large a file may be, in bytes. */
  readonly maxBundle: number;
  /** Tells what a file says that it is. */
  sort(file: File): Promise<Kind>;
  /** Tells why an anchors file is refused; empty where it is not. */
  admit(anchors: File): Promise<string>;
  verify(bundle: File, anchors: File | null): Promise<Checked>;
}

/** Hands the module to a worker and waits until it can be asked. */
export async function openVerifier(worker: Worker, module: WebAssembly.Module): Promise<Verifier> {
  const { go, maxBundle } = await start(worker, module);
  const waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
  let last = 0;
  worker.onmessage = ({ data: answer }: MessageEvent<Answer>) => {
    const asked = waiting.get(answer.id);
    waiting.delete(answer.id);
    if ("result" in answer) asked?.resolve(answer.result as never);
    else asked?.reject(new Error(answer.problem));
  };
  const ask = <Result>(question: Omit<Asked, "id">) =>
    new Promise<Result>((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve, reject });
      worker.postMessage({ id, ...question } satisfies Asked);
    });
  return {
    go,
    maxBundle,
    sort: (file) => ask({ ask: "sort", file, anchors: null }),
    admit: (file) => ask({ ask: "admit", file, anchors: null }),
    verify: (file, anchors) => ask({ ask: "verify", file, anchors }),
  };
}

function start(worker: Worker, module: WebAssembly.Module) {
  return new Promise<Exclude<Ready, { problem: string }>>((resolve, reject) => {
    worker.onerror = () => reject(new Error("The verifier's thread did not start."));
    worker.onmessage = ({ data }: MessageEvent<Ready>) =>
      "problem" in data ? reject(new Error(data.problem)) : resolve(data);
    worker.postMessage(module);
  });
}
