// Prints how much JavaScript each entry is, all chunks together, as gzip -9 makes it, and fails where the panel inside
// Bitbucket is beyond its limit: it is loaded with every pull request.
//
//   npm run build:forge && node scripts/size.mjs
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

/** In bytes, by entry. */
const limits = { "dist-forge/panel": 110_000 };

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
    const entry = `${target}/${name}`;
    const limit = limits[entry];
    delete limits[entry];
    const beyond = limit !== undefined && bytes > limit;
    failed ||= beyond || scripts.length === 0;
    const verdict = limit === undefined ? "" : beyond ? `, over its limit of ${limit}` : `, limit ${limit}`;
    console.log(`  ${entry.padEnd(22)} ${String(bytes).padStart(7)} bytes of JavaScript, gzip -9${verdict}`);
  }
}

for (const entry of Object.keys(limits)) {
  console.error(`frontend/${entry} is not built: run npm run build:forge`);
  failed = true;
}
process.exit(failed ? 1 : 0);
