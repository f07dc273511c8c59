// Builds every entry of the front end into frontend/dist/<app>/, where frontend/embed.go picks it up.
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const apps = new URL("../frontend/apps/", import.meta.url);
for (const app of readdirSync(apps).sort()) {
  await build({ configFile: fileURLToPath(new URL(`${app}/vite.config.ts`, apps)), logLevel: "warn" });
}
