import { expect, type Page } from "@playwright/test";
import { type Scene, test } from "./scene.ts";
import { violationsOn } from "./violations.ts";

// Every page with something on it, in both colour schemes, under the server's own content security policy.

interface PageUnderTest {
  path: (scene: Scene) => string;
  /** What is there once everything has arrived. */
  ready: (page: Page) => Promise<void>;
}

const shows = (text: string) => (page: Page) => expect(page.getByText(text).first()).toBeVisible({ timeout: 60_000 });

const pages: Record<string, PageUnderTest> = {
  panel: { path: ({ world, number }) => world.page("pr", number), ready: shows("Can still approve") },
  sign: { path: ({ world, number }) => world.page("sign", number), ready: shows("characters that do not show") },
  verify: { path: () => "/verify", ready: shows("Choose bundles") },
  home: { path: () => "/", ready: shows("Notices") },
  requests: {
    path: ({ world }) => `/workspaces/${world.slug}/requests`,
    ready: shows("Raise the limit of the basket"),
  },
  request: { path: ({ request }) => `/requests/${request}`, ready: shows("What is asked") },
  "pull request": { path: ({ pullRequest }) => `/pull-requests/${pullRequest}`, ready: shows("Round 1") },
  repositories: { path: ({ world }) => `/workspaces/${world.slug}/repositories`, ready: shows("Configure") },
  repository: {
    path: ({ world }) => `/workspaces/${world.slug}/repositories/web-shop`,
    ready: shows("Version 1 is in force."),
  },
  Bitbucket: { path: () => "/settings/bitbucket", ready: shows("Connected by") },
  passkeys: { path: () => "/settings/passkeys", ready: shows("No passkey yet") },
  keys: { path: ({ world }) => `/settings/keys?workspace=${world.slug}`, ready: shows("No keys yet") },
  protection: {
    path: ({ world }) => `/settings/protection?workspace=${world.slug}`,
    ready: shows("No proposals"),
  },
  tokens: { path: () => "/settings/tokens", ready: shows("No tokens") },
  "not found": { path: () => "/nowhere", ready: shows("There is no such page") },
};

for (const colorScheme of ["light", "dark"] as const) {
  for (const [name, { path, ready }] of Object.entries(pages)) {
    test(`${name} can be used by everybody, ${colorScheme}`, async ({ scene }) => {
      const page = await scene.alice.context.newPage();
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (/Content Security Policy|Trusted ?Type/iu.test(message.text())) complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(String(error)));
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(name === "panel" ? { width: 280, height: 700 } : { width: 1280, height: 900 });
      await page.goto(new URL(path(scene), scene.world.stack.server).href);
      await ready(page);

      expect(await violationsOn(page)).toEqual([]);
      expect(complaints).toEqual([]);
      const overflow = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      expect(overflow, "the page must not scroll sideways").toBe(0);
      await page.close();
    });
  }
}

test("a decision can be reached with the keyboard alone", async ({ scene }) => {
  const page = await scene.alice.context.newPage();
  await page.goto(scene.world.page("sign", scene.number));
  await expect(page.getByRole("button", { name: "Approve" })).toBeEnabled({ timeout: 60_000 });
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the decision" })).toBeFocused();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await expect(page.getByLabel("Comment (optional)")).toBeFocused();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Approve" })).toBeFocused();
  const outline = await page
    .getByRole("button", { name: "Approve" })
    .evaluate((button) => getComputedStyle(button).outlineStyle);
  expect(outline).toBe("solid");
  await page.close();
});
