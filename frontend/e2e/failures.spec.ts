import { expect, type Page } from "@playwright/test";
import { test } from "./stack.ts";
import { violationsOn } from "./violations.ts";

// What a person sees whose round trip to Bitbucket came to nothing: why, and a way on.

/** Holds the page against what every page of ours must be, in both colour schemes. */
async function check(page: Page) {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await violationsOn(page)).toEqual([]);
  }
  const main = page.getByRole("main");
  expect(await main.evaluate((element) => getComputedStyle(element).display), "it has the product's style").toBe(
    "flex",
  );
  const address = new URL(page.url());
  for (const name of ["state", "code"]) {
    const secret = address.searchParams.get(name);
    if (secret) expect(await page.content()).not.toContain(secret);
  }
}

/** Remembers what the browser refused to load or run. */
function complaintsOf(page: Page): string[] {
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted ?Type/iu.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return complaints;
}

test("somebody who gives no consent is not signed in, and can try again", async ({ person, world }) => {
  const bob = await person("bob");
  const page = await bob.context.newPage();
  const complaints = complaintsOf(page);
  await page.goto(`${world.stack.server}/auth/sign-in?return_to=/settings/passkeys`);
  await page.getByRole("button", { name: "Deny" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "You are not signed in" })).toBeVisible();
  await expect(page.getByText("Bitbucket was not given your consent")).toBeVisible();
  await check(page);

  await page.reload();
  await expect(page.getByText("was finished before")).toBeVisible();
  await page.getByRole("link", { name: "Back to the dashboard" }).click();
  await expect(page.getByRole("link", { name: "Sign in with Bitbucket" })).toBeVisible();

  await page.goto(`${world.stack.server}/auth/sign-in?return_to=/settings/passkeys`);
  await page.getByRole("button", { name: "Deny" }).click();
  await page.getByRole("link", { name: "Try again" }).click();
  await page.locator(`input[name=person][value="${bob.nickname}"]`).check();
  await page.getByRole("button", { name: "Allow" }).click();
  await expect(page).toHaveURL(`${world.stack.server}/settings/passkeys`);
  expect(complaints).toEqual([]);
});

test("a consent to connect that is denied, replayed or of nobody connects nothing", async ({ person, world }) => {
  const alice = await person("alice");
  await alice.signIn();
  const page = await alice.context.newPage();
  const complaints = complaintsOf(page);
  await page.goto(`${world.stack.server}/settings/bitbucket`);
  await page.getByRole("button", { name: "Connect workspace" }).click();
  await page.getByRole("button", { name: "Deny" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Nothing was connected" })).toBeVisible();
  await expect(page.getByText("Bitbucket was not given your consent")).toBeVisible();
  await check(page);
  const used = page.url();

  await page.getByRole("link", { name: "Try again" }).click();
  await expect(page).toHaveURL(`${world.stack.server}/settings/bitbucket`);
  await expect(page.getByRole("button", { name: "Connect workspace" })).toBeVisible();

  await page.goto(used);
  await expect(page.getByText("was finished before")).toBeVisible();
  await check(page);
  await alice.context.clearCookies();
  await page.goto(used);
  await expect(page.getByText("your session has ended")).toBeVisible();
  await check(page);
  expect(complaints).toEqual([]);
});
