import { expect, type Page } from "@playwright/test";
import { type Person, test, type World } from "./stack.ts";

// Rules that change by signatures alone: two people protect a workspace, and what one administrator asks for waits for both.

const patience = { timeout: 60_000 };

/** Signs in and makes a passkey. */
async function withPasskey(person: Person): Promise<void> {
  await person.signIn();
  const page = await person.context.newPage();
  const authenticator = await person.handPasskeys(page);
  await page.goto(`${person.world.stack.server}/settings/passkeys`);
  await page.getByRole("button", { name: "Add a passkey" }).click(patience);
  await person.confirmPasskey(page);
  await expect(page.getByText("The passkey can sign for you now.")).toBeVisible(patience);
  await person.keepPasskeys(authenticator);
  await page.close();
}

/** Opens the page of the protection, with this person's passkeys at hand. */
async function opened(person: Person, { stack, slug }: World): Promise<Page> {
  const page = await person.context.newPage();
  await person.handPasskeys(page);
  await page.goto(`${stack.server}/settings/protection?workspace=${slug}`);
  return page;
}

/** Signs the proposal that waits on the page. */
async function sign(page: Page): Promise<void> {
  await page.reload();
  await page.getByRole("button", { name: "Sign…" }).first().click(patience);
  await page.getByRole("button", { name: "Sign with my passkey" }).click(patience);
  await expect(page.getByRole("dialog")).toBeHidden(patience);
}

test("a protected workspace changes its rules, and ends its protection, by two signatures", async ({
  world,
  person,
}) => {
  test.setTimeout(240_000);
  const [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
  await alice.signIn();
  await alice.gate();
  await withPasskey(alice);
  await withPasskey(bob);
  await carol.signIn();

  const [alices, bobs] = [await opened(alice, world), await opened(bob, world)];
  await alices.getByRole("button", { name: "Protect this workspace…" }).click(patience);
  const who = alices.getByRole("group", { name: "People with a passkey" });
  await who.getByLabel("Alice Moreau").check(patience);
  await who.getByLabel("Bob Tanaka").check();
  await alices.getByRole("button", { name: "Propose" }).click();
  await expect(alices.getByText("It is proposed.")).toBeVisible(patience);
  await sign(alices);
  await expect(alices.getByText("1 of 2 signatures")).toBeVisible(patience);
  await sign(bobs);
  await expect(bobs.getByText("Applied", { exact: true })).toBeVisible(patience);

  // An administrator's change of rules is a proposal, and nothing else.
  const rules = await alice.context.newPage();
  await rules.goto(`${world.stack.server}/workspaces/${world.slug}/repositories/web-shop`);
  await rules.getByLabel("The rule can be overridden").check(patience);
  const override = rules.getByRole("group", { name: "Who may override" });
  await override.getByLabel("People needed").fill("1");
  await override.getByLabel("Anyone with write permission").check();
  await rules.getByRole("button", { name: /^Save|^Propose/ }).click();
  await expect(rules.getByRole("link", { name: "See the proposal" })).toBeVisible(patience);
  await rules.reload();
  await expect(rules.getByText("Version 1 is in force.")).toBeVisible(patience);

  // Who may not sign sees neither the proposal nor a button.
  const carols = await opened(carol, world);
  await expect(carols.getByText("A change of rules needs the signatures of 2 of")).toBeVisible(patience);
  await expect(carols.getByText("No proposals")).toBeVisible(patience);
  await expect(carols.getByRole("button", { name: /^(Sign…|Withdraw|Protect|Change|End)/ })).toHaveCount(0);

  await sign(bobs);
  await expect(bobs.getByText("1 of 2 signatures")).toBeVisible(patience);
  await sign(alices);
  await expect(alices.getByText("Applied", { exact: true })).toHaveCount(2, patience);
  await rules.reload();
  await expect(rules.getByText("Version 2 is in force.")).toBeVisible(patience);

  // Ending the protection takes both of them too.
  await alices.getByRole("button", { name: "End the protection…" }).click();
  await alices.getByRole("button", { name: "Propose" }).click();
  await expect(alices.getByText("It is proposed.")).toBeVisible(patience);
  await sign(alices);
  await expect(alices.getByText("Protected", { exact: true })).toBeVisible(patience);
  await sign(bobs);
  await bobs.reload();
  await expect(bobs.getByText("Not protected", { exact: true })).toBeVisible(patience);
});
