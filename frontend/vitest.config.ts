import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const folders = (parent: string) => readdirSync(path(parent)).sort();

const shared = {
  environment: "jsdom",
  include: ["src/**/*.test.{ts,tsx}"],
  setupFiles: [path("vitest.setup.ts")],
  restoreMocks: true,
  // Says that a test hangs, not that the machine is busy.
  testTimeout: 60_000,
  // Sends these libraries through the project's own build settings: in the panel they then run on Preact as well. That
  // takes ES modules, and their package.json lead to CommonJS.
  server: { deps: { inline: [/urql/, /@testing-library\/react/] } },
  alias: {
    "@testing-library/react": "@testing-library/react/dist/@testing-library/react.esm.js",
    urql: "urql/dist/urql.es.js",
  },
};

// One project for each entry, with the settings that it is built with, and one for each shared package.
export default defineConfig({
  root: path("."),
  test: {
    projects: [
      ...folders("apps").map((name) => ({
        extends: path(`apps/${name}/vite.config.ts`),
        test: { ...shared, name, root: path(`apps/${name}`) },
      })),
      ...folders("packages").map((name) => ({ test: { ...shared, name, root: path(`packages/${name}`) } })),
    ],
  },
});
