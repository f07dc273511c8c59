import "virtual:go";
import type { EvidenceVerifier } from "./evidence.ts";

/** What `virtual:go` defines. */
interface GoProgram {
  importObject: WebAssembly.Imports;
  run(instance: WebAssembly.Instance): Promise<void>;
}

const scope = globalThis as unknown as { Go: new () => GoProgram; evidenceVerifier?: EvidenceVerifier };

/** Starts the verifier in this thread. It runs as long as the thread does. */
export async function run(module: WebAssembly.Module): Promise<EvidenceVerifier> {
  const go = new scope.Go();
  const instance = await WebAssembly.instantiate(module, go.importObject);
  // It comes back when the program first waits, and by then the functions are there.
  void go.run(instance);
  const verifier = scope.evidenceVerifier;
  if (!verifier) throw new Error("the verifier did not start");
  delete scope.evidenceVerifier;
  return verifier;
}
