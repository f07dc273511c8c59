// Builds every entry of the front end into frontend/dist/<app>/, where frontend/embed.go picks it up. With the argument
// "forge" it builds the entries that Atlassian serves inside Bitbucket into frontend/dist-forge/<app>/; the origin of
// the server that they talk to is VITE_SIGNEDAPPROVAL_ORIGIN.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const apps = new URL("../frontend/apps/", import.meta.url);
const forge = process.argv[2] === "forge";
const entries = forge ? ["dashboard", "panel"] : readdirSync(apps).sort();

for (const app of entries) {
  await build({
    configFile: fileURLToPath(new URL(`${app}/vite.config.ts`, apps)),
    logLevel: "warn",
    mode: forge ? "forge" : "production",
  });
}

if (forge) {
  if (!process.env["VITE_SIGNEDAPPROVAL_ORIGIN"]) {
    console.error("VITE_SIGNEDAPPROVAL_ORIGIN is not set: these pages can be measured, and name no server");
  }
} else {
  // The bridge comes under Atlassian's terms, which do not allow that we hand it on: the server's pages are without it.
  const dist = new URL("../frontend/dist/", import.meta.url);
  for (const name of readdirSync(dist, { recursive: true }).filter((name) => name.endsWith(".js"))) {
    if (readFileSync(new URL(name, dist), "utf8").includes("__bridge")) {
      throw new Error(`frontend/dist/${name} holds parts of @forge/bridge`);
    }
  }
}
