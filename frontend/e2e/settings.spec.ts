import { expect } from "@playwright/test";
import { test } from "./stack.ts";

const patience = { timeout: 60_000 };

test("passkeys are added, renamed and revoked", async ({ person, world }) => {
  const bob = await person("bob");
  await bob.signIn();
  const page = await bob.context.newPage();
  await bob.handPasskeys(page);
  await page.goto(`${world.stack.server}/settings/passkeys`);
  await page.getByLabel("Name of the new passkey (optional)").fill("Blue key");
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await bob.confirmPasskey(page);
  await expect(page.getByText("The passkey can sign for you now.")).toBeVisible(patience);
  await expect(page.getByRole("rowheader", { name: "Blue key" })).toBeVisible(patience);
  await expect(page.getByRole("row", { name: /Blue key/ })).toContainText("Identified by Bitbucket log-in");

  await page.getByRole("button", { name: "Rename Blue key" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("Red key");
  await page.getByRole("dialog").getByRole("button", { name: "Rename" }).click();
  await expect(page.getByRole("rowheader", { name: "Red key" })).toBeVisible(patience);

  await page.getByRole("button", { name: "Add a passkey" }).click();
  await expect(page.getByText("No passkey was added")).toBeVisible(patience);

  await page.getByRole("button", { name: "Revoke Red key" }).click();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await expect(page.getByRole("button", { name: "Revoke Red key" })).toBeFocused();
  await page.getByRole("button", { name: "Revoke Red key" }).click();
  const revoke = page.getByRole("dialog").getByRole("button", { name: "Revoke with a passkey" });
  await expect(revoke).toBeDisabled();
  await page.getByRole("dialog").getByRole("radio", { name: "Nobody else has had it" }).check();
  await revoke.click();
  await expect(page.getByText("Revoked", { exact: true })).toBeVisible(patience);
  await expect(page.getByText("Revoked with a signature")).toBeVisible();
});

test("who loses every passkey is countersigned by an administrator", async ({ person, world }) => {
  const [alice, bob] = [await person("alice"), await person("bob")];
  for (const who of [alice, bob]) await who.signIn();
  await alice.gate();
  const pages = await Promise.all(
    [alice, bob].map(async (who) => {
      const page = await who.context.newPage();
      const authenticator = await who.handPasskeys(page);
      await page.goto(`${world.stack.server}/settings/passkeys`);
      await page.getByLabel("Name of the new passkey (optional)").fill("First key");
      await page.getByRole("button", { name: "Add a passkey" }).click();
      await who.confirmPasskey(page);
      await expect(page.getByText("The passkey can sign for you now.")).toBeVisible(patience);
      return { page, authenticator };
    }),
  );
  const [alices, bobs] = pages as [(typeof pages)[0], (typeof pages)[0]];

  await bobs.authenticator.clear();
  await bobs.page.getByLabel("Name of the new passkey (optional)").fill("Second key");
  await bobs.page.getByRole("button", { name: "Add a passkey" }).click();
  await bob.confirmPasskey(bobs.page);
  await bobs.page.getByRole("button", { name: "I have none of them any more" }).click(patience);
  await bobs.page.getByRole("button", { name: "Revoke them all" }).click();
  await bob.confirmPasskey(bobs.page);
  await expect(bobs.page.getByText("The passkey waits for an administrator")).toBeVisible(patience);

  await alices.page.goto(`${world.stack.server}/settings/keys`);
  const wanting = alices.page.getByRole("group", { name: "Keys to be countersigned" });
  await wanting.getByRole("button", { name: "Countersign Second key of Bob Tanaka" }).click(patience);
  await alices.page.getByRole("button", { name: "Countersign with my passkey" }).click();
  const all = alices.page.getByRole("group", { name: "Keys of members" });
  await expect(all).toContainText("Countersigned by Alice Moreau", patience);

  await bobs.page.reload();
  await expect(bobs.page.getByRole("row", { name: /Second key/ })).toContainText(
    "Countersigned by Alice Moreau",
    patience,
  );
});

test("an API token reads until it is revoked, and cannot decide", async ({ person, world, playwright }) => {
  const alice = await person("alice");
  await alice.signIn();
  await alice.gate();
  const page = await alice.context.newPage();
  await page.goto(`${world.stack.server}/settings/tokens`);
  await page.getByLabel("Name of the new token").fill("Release robot");
  await page.getByRole("button", { name: "Create the token" }).click();
  const secret = (await page.locator(".token code").textContent(patience)) ?? "";
  expect(secret).toMatch(/^sa_live_/);
  await page.getByRole("button", { name: "I have copied it" }).click();
  await expect(page.getByText(secret)).toHaveCount(0);

  const script = await playwright.request.newContext({ extraHTTPHeaders: { authorization: `Bearer ${secret}` } });
  const ask = async (query: string) => {
    const response = await script.post(`${world.stack.server}/graphql`, { data: { query } });
    return await response.json();
  };
  expect(await ask(`{ workspace(key: "${world.slug}") { slug } }`)).toEqual({
    data: { workspace: { slug: world.slug } },
  });
  const decide = "mutation($input: PrepareDecisionInput!) { prepareDecision(input: $input) { statement } }";
  expect((await ask(decide)).errors).toHaveLength(1);

  await page.getByRole("button", { name: "Revoke Release robot" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await expect(page.getByText("Revoked", { exact: true })).toBeVisible(patience);
  expect((await ask(`{ workspace(key: "${world.slug}") { slug } }`)).errors).toHaveLength(1);
  await script.dispose();
});

test("rules are refused beside their field, changed, and taken away", async ({ person, world }) => {
  const alice = await person("alice");
  await alice.signIn();
  await alice.gate();
  const page = await alice.context.newPage();
  await page.goto(`${world.stack.server}/workspaces/${world.slug}/repositories/web-shop?name=Web%20Shop`);
  const quorum = page.getByLabel("Approvals needed");
  await quorum.fill("9");
  await page.getByRole("button", { name: "Save the rules" }).click();
  await expect(page.getByText("The rules were not saved")).toBeVisible(patience);
  await expect(quorum).toHaveAttribute("aria-invalid", "true");
  await expect(quorum).toHaveAccessibleDescription(/9 approvals/);

  await quorum.fill("1");
  await page.getByLabel("These people").check();
  await page.getByRole("button", { name: "Add Carol Okafor" }).click();
  await page.getByLabel("Merge at once").check();
  await expect(page.getByText("Those that release/1.0 offers.")).toBeVisible(patience);
  await page.getByRole("button", { name: "Save the rules" }).click();
  await expect(page.getByText("Version 2 is in force.")).toBeVisible(patience);
  await expect(page.getByText("Version 1", { exact: true })).toBeVisible();

  await page.getByRole("button", { name: "Stop gating…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Stop gating" }).click();
  await expect(page.getByText("Web Shop is no longer gated")).toBeVisible(patience);
  await page.getByRole("main").getByRole("link", { name: "Repositories" }).click();
  await expect(page.getByText("No repository is gated yet")).toBeVisible(patience);
});

test("a workspace is disconnected, and says what is left to do", async ({ person, world }) => {
  const alice = await person("alice");
  await alice.signIn();
  await alice.gate();
  const page = await alice.context.newPage();
  await page.goto(`${world.stack.server}/settings/bitbucket`);
  await page.getByRole("button", { name: /^Disconnect…/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Disconnect" }).click();
  await expect(page.getByText(`${world.slug} is disconnected`)).toBeVisible(patience);
  await expect(page.getByText("No workspace is connected")).toBeVisible(patience);
});

test("signing out ends the session of every page", async ({ person, world }) => {
  const bob = await person("bob");
  await bob.signIn();
  const page = await bob.context.newPage();
  await page.goto(world.stack.server);
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("heading", { name: "SignedApproval for Bitbucket" })).toBeVisible(patience);
  await page.goto(`${world.stack.server}/settings/passkeys`);
  await expect(page.getByRole("link", { name: "Sign in with Bitbucket" })).toBeVisible(patience);
});
