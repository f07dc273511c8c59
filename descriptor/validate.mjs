// Validates the manifests whose paths stand on standard input, one a line, and writes the faults of each as JSON.
import { readFileSync } from "node:fs";
import forge from "@forge/manifest";

const kinds = ["BASIC", "FULL", "FORGE_REMOTE_COMPUTE", "PRODUCT_TRIGGER"];

async function faultsOf(path) {
  const faults = new Set();
  for (const kind of kinds) {
    const processor = forge.ProcessorBuilder.instance().withValidation(forge.ValidationTypes[kind]).build();
    const { success, errors = [] } = await processor.process(path);
    // Warnings count: what Atlassian warns of today it refuses tomorrow.
    for (const { line, column, level, message } of errors) faults.add(`${line}:${column} ${level}: ${message}`);
    if (!success && errors.length === 0) faults.add(`${kind} fails without saying why`);
  }
  return [...faults];
}

const found = {};
for (const path of readFileSync(0, "utf8").split("\n").filter(Boolean)) found[path] = await faultsOf(path);
process.stdout.write(JSON.stringify(found));
