import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import type { Plugin } from "vite";

const run = promisify(execFile);
const root = join(import.meta.dirname, "..");

/** How the verifier is built, by us and by whoever wants to know whether a page's verifier is that of this source. */
const settings = { GOOS: "js", GOARCH: "wasm", GOFLAGS: "", GOEXPERIMENT: "", GOWASM: "" };
const build = ["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"];
const source = "./frontend/apps/verify/wasm";

/** That as a line for a shell, to be run at the root of the repository. */
export const buildCommand = [
  ...Object.entries(settings).map(([name, value]) => `${name}=${value}`),
  "go",
  ...build.map((argument) => (argument.includes(" ") ? `"${argument}"` : argument)),
  "-o verifier.wasm",
  source,
].join(" ");

/** Compiles the verifier and returns its bytes. Go keeps what it compiled: without a change this takes a second or two. */
export async function buildVerifier(): Promise<Uint8Array<ArrayBuffer>> {
  const folder = await mkdtemp(join(tmpdir(), "signedapproval-verifier-"));
  try {
    const file = join(folder, "verifier.wasm");
    await run("go", [...build, "-o", file, source], { cwd: root, env: { ...process.env, ...settings } });
    return new Uint8Array(await readFile(file));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The JavaScript that a WebAssembly program of Go needs around it; it comes with Go and must be of the same version. */
async function goRuntime(): Promise<string> {
  const { stdout } = await run("go", ["env", "GOROOT"], { cwd: root });
  return join(stdout.trim(), "lib", "wasm", "wasm_exec.js");
}

/**
 * Gives a page the verifier: `virtual:verifier` holds the address of the module, compressed with gzip, and the command
 * that builds it; `virtual:go` defines the global `Go`, which runs it.
 */
export function verifier(): Plugin {
  return {
    name: "verifier",
    resolveId: (id) => (id === "virtual:verifier" ? `\0${id}` : id === "virtual:go" ? goRuntime() : null),
    async load(id) {
      if (id !== "\0virtual:verifier") return null;
      const module = gzipSync(await buildVerifier(), { level: 9 });
      const file = this.emitFile({ type: "asset", name: "verifier.wasm.gz", source: module });
      return `export const address = import.meta.ROLLUP_FILE_URL_${file};
        export const command = ${JSON.stringify(buildCommand)};`;
    },
  };
}
