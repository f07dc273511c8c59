// Prints how much JavaScript each entry is, all chunks together, as gzip -9 makes it, and how large the verifier of the
// verify page is. Fails where something is beyond its limit: the panel inside Bitbucket is loaded with every pull request, and the
// verifier is the most that any page loads.
//
//   npm run build && npm run build:forge && node scripts/size.mjs
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { gzipSync } from "node:zlib";

/** In bytes, by entry. */
const limits = { "dist-forge/panel": 110_000, "dist/verify/verifier": 2_800_000 };

const frontend = new URL("../frontend/", import.meta.url);
let failed = false;

for (const target of ["dist-forge", "dist"]) {
  const folder = new URL(`${target}/`, frontend);
  if (!existsSync(folder)) continue;
  for (const { name } of readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())) {
    const scripts = readdirSync(new URL(`${name}/`, folder), { recursive: true }).filter((file) =>
      file.endsWith(".js"),
    );
    let bytes = 0;
    for (const file of scripts)
      bytes += gzipSync(readFileSync(new URL(`${name}/${file}`, folder)), { level: 9 }).length;
    failed ||= scripts.length === 0;
    print(`${target}/${name}`, bytes, "JavaScript");
    for (const file of readdirSync(new URL(`${name}/`, folder)).filter((file) => file.endsWith(".gz"))) {
      // As it is served.
      const [part] = file.split(".", 1);
      print(`${target}/${name}/${part}`, statSync(new URL(`${name}/${file}`, folder)).size, "WebAssembly");
    }
  }
}

function print(entry, bytes, what) {
  const limit = limits[entry];
  delete limits[entry];
  const beyond = limit !== undefined && bytes > limit;
  failed ||= beyond;
  const verdict = limit === undefined ? "" : beyond ? `, over its limit of ${limit}` : `, limit ${limit}`;
  console.log(`  ${entry.padEnd(22)} ${String(bytes).padStart(7)} bytes of ${what}, gzip -9${verdict}`);
}

for (const entry of Object.keys(limits)) {
  console.error(`frontend/${entry} is not built: run npm run build and npm run build:forge`);
  failed = true;
}
process.exit(failed ? 1 : 0);
