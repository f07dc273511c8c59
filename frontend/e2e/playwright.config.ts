import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "@playwright/test";

// The system's browser: Playwright's own builds are not downloaded. scripts/system-deps.sh installs it on Debian.
const browser = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
].find((path) => path && existsSync(path));
if (!browser) throw new Error("no Chromium or Chrome found: install one, or name its program in CHROMIUM");

const root = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

export default defineConfig({
  outputDir: root("test-results"),
  forbidOnly: true,
  // A test that passes on a second try has shown nothing.
  retries: 0,
  workers: 2,
  fullyParallel: true,
  // A busy machine is no fault of the page: the Go tests run beside these. What exceeds this hangs.
  timeout: 180_000,
  expect: { timeout: 60_000 },
  use: {
    // Recording every test takes as long again: ask for it with --trace=retain-on-failure.
    trace: "off",
    screenshot: "only-on-failure",
    // A control that does not come within this time does not come.
    actionTimeout: 60_000,
    launchOptions: {
      executablePath: browser,
      // Chromium's sandbox does not work as root.
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
      // The panel opens the sign page in a window of its own: the rules for that are part of what is tested.
      ignoreDefaultArgs: ["--disable-popup-blocking"],
    },
  },
  projects: [
    { name: "browser", testMatch: "**/*.spec.ts" },
    // "make screenshots": the pictures of the README.
    { name: "screenshots", testMatch: "**/*.screenshots.ts" },
  ],
});
