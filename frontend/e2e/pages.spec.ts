import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "@playwright/test";
import { test } from "./fixtures.ts";
import { violationsOn } from "./violations.ts";

// The pages as they are built, without a server behind them: they must run under the strictest policy, in both
// colour schemes, and still say something when nothing answers.

const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; trusted-types 'none'; frame-ancestors 'none'";
// The verify page runs WebAssembly, in a worker.
const verifyPolicy =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types verifier; frame-ancestors 'none'";

for (const app of readdirSync(new URL("../apps/", import.meta.url)).sort()) {
  for (const colorScheme of ["light", "dark"] as const) {
    test(`${app} runs under the content security policy, ${colorScheme}`, async ({ page }) => {
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (/Content Security Policy|Trusted ?Type/i.test(message.text())) complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(String(error)));
      await page.emulateMedia({ colorScheme });
      await page.route("http://localhost/**", async (route) => {
        const { pathname } = new URL(route.request().url());
        if (pathname === "/") {
          const contentPolicy = app === "verify" ? verifyPolicy : policy;
          const headers = { "content-security-policy": contentPolicy, "content-type": "text/html; charset=utf-8" };
          return route.fulfill({ path: `${dist}${app}/index.html`, headers });
        }
        const file = dist + pathname.replace(/^\/assets\//, "");
        if (pathname.startsWith("/assets/") && existsSync(file)) return route.fulfill({ path: file });
        return route.fulfill({ status: 503, body: "no server here" });
      });

      await page.goto("http://localhost/");

      await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
      const surface = await page.evaluate(() => {
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.color = "var(--ds-surface)";
        const { color } = getComputedStyle(probe);
        probe.remove();
        return color;
      });
      expect(surface).toBe(colorScheme === "dark" ? "rgb(31, 31, 33)" : "rgb(255, 255, 255)");
      expect(await violationsOn(page)).toEqual([]);
      expect(complaints).toEqual([]);
    });
  }
}
