// Fails unless every npm dependency is pinned to one exact version and the lock file names no registry, so that an
// installation depends on neither the day nor the mirror.
import { readFileSync } from "node:fs";

const read = (path) => JSON.parse(readFileSync(new URL(`../${path}`, import.meta.url), "utf8"));
const { packages } = read("package-lock.json");
const faults = [];

for (const [path, entry] of Object.entries(packages)) {
  if (entry.resolved?.includes("://")) faults.push(`package-lock.json: ${path} names a registry: ${entry.resolved}`);
  if (path.includes("node_modules")) continue;
  const manifest = read(path ? `${path}/package.json` : "package.json");
  for (const kind of ["dependencies", "devDependencies", "optionalDependencies"]) {
    for (const [name, version] of Object.entries(manifest[kind] ?? {})) {
      const ours = name.startsWith("@signedapproval/") && version === "*"; // a folder of this repository
      if (!ours && !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)) {
        faults.push(`${path || "."}/package.json: ${name} is not pinned to one version: ${version}`);
      }
    }
  }
}

for (const fault of faults) console.error(fault);
process.exit(faults.length ? 1 : 0);
