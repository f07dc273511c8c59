import { expect, type Page } from "@playwright/test";
import { type Person, test, type World, withoutStreams } from "./stack.ts";

// The life of a pull request as people see it. Every page that is looked at twice is never loaded again in between: what
// it says the second time came by a live update.

/** How long the gate may take from something that happens on Bitbucket to something that a page shows. */
const patience = { timeout: 60_000 };

/** Counts how often a page is loaded from now on. */
function loads(page: Page): () => number {
  let count = 0;
  page.on("domcontentloaded", () => count++);
  return () => count;
}

/** Follows the build status on the pull request's Bitbucket page to the panel, signing in on the way where needed. */
async function openPanel(person: Person, number: number): Promise<Page> {
  const page = await person.context.newPage();
  await page.goto(person.world.bitbucketPage(number));
  await person.logIn(page);
  await expect(async () => {
    await page.reload();
    await expect(page.getByRole("table").nth(1).getByText("INPROGRESS")).toBeVisible({ timeout: 1_000 });
  }).toPass(patience);
  await page.locator(`a[href*="/pr/${person.world.uuid}/"]`).click();
  await expect(page.getByRole("heading", { name: "Approvals" })).toBeVisible();
  const signIn = page.getByRole("link", { name: "Sign in with Bitbucket" });
  const sentence = page.locator(".panel__sentence");
  await expect(signIn.or(sentence)).toBeVisible(patience);
  if (await signIn.isVisible()) {
    await signIn.click();
    await person.allow(page);
    await expect(sentence).toBeVisible(patience);
  }
  return page;
}

/** Presses the panel's button, which opens the sign page in a tab of its own, and hands the person's passkeys to it. */
async function openSignPage(person: Person, panel: Page, name: RegExp) {
  const popup = panel.context().waitForEvent("page");
  await panel.getByRole("link", { name }).click();
  const page = await popup;
  const authenticator = await person.handPasskeys(page);
  await expect(page).toHaveURL(/\/sign\//);
  return { page, keep: () => person.keepPasskeys(authenticator) };
}

async function decide(person: Person, panel: Page, link: RegExp, button: string, outcome: string, comment = "") {
  const { page, keep } = await openSignPage(person, panel, link);
  if (comment) await page.getByLabel("Comment (optional)").fill(comment);
  await page.getByRole("button", { name: button, exact: true }).click();
  await person.awaitOutcome(page, page.getByText(outcome));
  await keep();
  return page;
}

async function connectAndGate(alice: Person, world: World) {
  const page = await alice.context.newPage();
  await page.goto(world.stack.server);
  await page.getByRole("link", { name: "Sign in with Bitbucket" }).click();
  await alice.allow(page);
  await expect(page.getByRole("heading", { name: "Waiting for you" })).toBeVisible();

  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Settings" }).click();
  await expect(page.getByText("repository:admin")).toBeVisible();
  await page.getByRole("button", { name: "Connect workspace" }).click();
  await alice.allow(page);
  await page.getByRole("button", { name: `Connect ${world.slug}` }).click();
  await page.getByRole("link", { name: "Choose repositories" }).click();

  await page.getByRole("link", { name: "Select Web Shop" }).click();
  await page.getByLabel("Name", { exact: true }).fill("Release branches");
  await page.getByLabel("Destination branches").fill("release/*\n!release/old");
  await page.getByLabel("Approvals needed").fill("2");
  await page.getByLabel("Merge at once").check();
  await page.getByLabel("Strategy").selectOption("squash");
  await page.getByLabel("A branch name").fill("release/1.0");
  await expect(page.getByText("rule 1, Release branches").first()).toBeVisible();
  await page.getByRole("button", { name: "Gate this repository" }).click();
  await expect(page.getByText("Version 1 is in force.")).toBeVisible(patience);
  return page;
}

test("a pull request into a release branch is signed by two people and merges itself", async ({ world, person }) => {
  test.setTimeout(240_000);
  const [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
  const dashboard = await connectAndGate(alice, world);
  // Carol was here before, so she is told of what waits for her. Bob comes for the first time.
  await carol.signIn();

  // Alice opens a pull request on Bitbucket's own page.
  await world.push("feature/coupon", { "src/coupon.ts": "export const coupon = 10;\n" });
  const create = await alice.context.newPage();
  await create.goto(`${world.stack.bitbucket}/${world.slug}/web-shop/pull-requests/new?source=feature/coupon`);
  await alice.logIn(create);
  await create.getByLabel("Destination branch").selectOption("release/1.0");
  await create.getByLabel("Title").fill("Check the coupon before the payment");
  await create.getByRole("button", { name: "Create pull request" }).click();
  await expect(create.getByTestId("state")).toHaveText("OPEN");
  const number = Number(new URL(create.url()).pathname.split("/").at(-1));

  // She watches it in the panel, and may not approve it herself.
  const watching = await openPanel(alice, number);
  const loaded = loads(watching);
  const sentence = watching.locator(".panel__sentence");
  await expect(sentence).toContainText("0 of 2 approvals");
  await expect(watching.getByRole("link", { name: /^Approve/ })).toHaveCount(0);

  // Bob, who has no passkey yet, approves from the panel: the same button makes one, which he confirms.
  const bobsPanel = await openPanel(bob, number);
  const bobLoaded = loads(bobsPanel);
  const signed = await decide(bob, bobsPanel, /^Approve/, "Approve", "You approved this commit");
  await expect(signed.locator(".sign__commit")).toContainText((await create.getByTestId("head").textContent()) ?? "?");
  await expect(signed.getByText("SHA-256 of the statement that your passkey signed")).toBeVisible();
  const broken = () =>
    [...document.querySelectorAll(".sign__record .sa-commit__group")]
      .filter((group) => group.getClientRects().length !== 1)
      .map((group) => `${group.textContent} ${group.getClientRects().length} ${group.parentElement?.outerHTML}`);
  expect(await signed.evaluate(broken), "groups of a hash over two lines").toEqual([]);
  await expect(sentence).toContainText("1 of 2 approvals", patience);
  await expect(bobsPanel.getByRole("list", { name: /^Approved/ })).toContainText("Bob Tanaka", patience);
  await expect(bobsPanel.getByRole("link", { name: /^Withdraw my decision/ })).toBeVisible(patience);

  // Carol finds it in her inbox, rejects it, thinks again, withdraws and approves.
  const carolsPanel = await openPanel(carol, number);
  const inbox = await carol.context.newPage();
  await inbox.goto(world.stack.server);
  await expect(inbox.getByRole("row", { name: /Check the coupon/ })).toBeVisible(patience);
  await expect(inbox.getByRole("link", { name: "Home, 1 unread notice" })).toBeVisible(patience);
  await decide(carol, carolsPanel, /^Approve/, "Reject", "You rejected this commit", "The coupon can be used twice.");
  await expect(sentence).toHaveText("Rejected by Carol Okafor", patience);
  await expect(create.getByText("FAILED").first()).not.toBeVisible();
  await expect(async () => {
    await create.reload();
    await expect(create.getByText("FAILED").first()).toBeVisible({ timeout: 1_000 });
  }).toPass(patience);
  await expect(carolsPanel.getByRole("link", { name: /^(Withdraw|Approve)/ })).toBeVisible(patience);
  await decide(carol, carolsPanel, /^(Withdraw|Approve)/, "Withdraw my decision", "You withdrew your decision");
  await expect(sentence).toContainText("1 of 2 approvals", patience);
  await decide(carol, carolsPanel, /^Approve/, "Approve", "You approved this commit");

  // The status turns green and the pull request merges itself; all panels have followed without being loaded again.
  await expect(watching.getByText("Merged", { exact: true })).toBeVisible(patience);
  await expect(inbox.getByText("Nothing waits for you")).toBeVisible(patience);
  await create.reload();
  await expect(create.getByTestId("state")).toHaveText("MERGED");
  await expect(create.getByText("SUCCESSFUL").first()).toBeVisible();
  await expect(create.getByTestId("merge-commit")).toBeVisible();
  expect([loaded(), bobLoaded()]).toEqual([0, 0]);

  // The request's page keeps what happened, and its evidence can be taken away.
  await dashboard.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Requests" }).click();
  await dashboard.getByRole("link", { name: "All" }).click();
  await dashboard.getByRole("link", { name: "Check the coupon before the payment" }).click();
  const decisions = dashboard.getByRole("group", { name: "Decisions" });
  await expect(decisions.getByRole("row")).toHaveCount(5);
  await expect(decisions).toContainText("The coupon can be used twice.");
  await expect(dashboard.locator(".history li").first()).toBeVisible();
  const download = dashboard.waitForEvent("download");
  await dashboard.getByRole("link", { name: "Download the evidence" }).click();
  expect((await download).suggestedFilename()).toMatch(/\.json$/);
});

test("a push to a pull request supersedes its approvals", async ({ world, person }) => {
  test.setTimeout(180_000);
  const [alice, bob] = [await person("alice"), await person("bob")];
  await alice.signIn();
  await alice.gate();
  await world.push("feature/basket", { "src/basket.ts": "export const limit = 100;\n" });
  const number = await world.openPullRequest("Raise the limit of the basket", "feature/basket");

  const panel = await openPanel(bob, number);
  const loaded = loads(panel);
  const signPage = await decide(bob, panel, /^Approve/, "Approve", "You approved this commit");
  await expect(panel.locator(".panel__sentence")).toContainText("1 of 2 approvals", patience);
  await panel.getByRole("link", { name: /^History and evidence/ }).isVisible();
  const request = await bob.context.newPage();
  await request.goto(
    new URL(
      (await panel.getByRole("link", { name: /^History and evidence/ }).getAttribute("href")) ?? "",
      world.stack.server,
    ).href,
  );
  await expect(request.getByText("Waiting", { exact: true })).toBeVisible();

  const head = await world.push("feature/basket", { "src/basket.ts": "export const limit = 200;\n" });

  // The panel asks for the new commit, bob's approval is gone; the sign page refuses to go on with the old change.
  await expect(panel.getByTitle(head)).toBeVisible(patience);
  await expect(panel.locator(".panel__sentence")).toContainText("0 of 2 approvals", patience);
  await expect(panel.getByRole("link", { name: /^Approve/ })).toBeVisible();
  expect(loaded()).toBe(0);
  await expect(signPage.getByText("The pull request has changed")).toBeVisible(patience);
  await expect(request.getByText("Superseded", { exact: true })).toBeVisible(patience);
  await signPage.getByRole("button", { name: "Show the new change" }).click();
  await expect(signPage.locator(".sign__commit")).toContainText(head);
  await expect(signPage.getByText("export const limit = 200;")).toBeVisible(patience);
});

test("without live updates a panel stays behind, and says so", async ({ world, person }) => {
  test.setTimeout(180_000);
  const [alice, bob] = [await person("alice"), await person("bob")];
  await alice.signIn();
  await alice.gate();
  await world.push("feature/basket", { "src/basket.ts": "export const limit = 100;\n" });
  const number = await world.openPullRequest("Raise the limit of the basket", "feature/basket");
  await alice.context.newPage().then(async (page) => {
    await page.goto(world.page("pr", number));
    await expect(page.locator(".panel__sentence")).toContainText("0 of 2 approvals", patience);
  });
  await withoutStreams(bob.context);
  await bob.signIn();
  const panel = await bob.context.newPage();
  await panel.goto(world.page("pr", number));
  await expect(panel.getByText("Not live: reconnecting…")).toBeVisible(patience);
  const page = await decide(bob, panel, /^Approve/, "Approve", "You approved this commit");
  await page.close();
  const fresh = await alice.context.newPage();
  await fresh.goto(world.page("pr", number));
  await expect(fresh.locator(".panel__sentence")).toContainText("1 of 2 approvals", patience);
  await expect(panel.locator(".panel__sentence")).toContainText("0 of 2 approvals");
});
