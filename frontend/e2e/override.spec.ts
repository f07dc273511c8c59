import { expect } from "@playwright/test";
import { test } from "./stack.ts";

// The life of an override: from a rule that allows one to a merge that was never approved, and is never called so.

/** How long the gate may take from something that happens on Bitbucket to something that a page shows. */
const patience = { timeout: 60_000 };

test("what somebody rejected is let through by an override, under its own name", async ({ world, person }) => {
  test.setTimeout(240_000);
  const [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
  await alice.signIn();
  await alice.gate();

  // The administrator lets one person who may write override the rule.
  const settings = await alice.context.newPage();
  await settings.goto(`${world.stack.server}/workspaces/${world.slug}/repositories/web-shop`);
  await settings.getByLabel("The rule can be overridden").check();
  const group = settings.getByRole("group", { name: "Who may override" });
  await group.getByLabel("People needed").fill("1");
  await group.getByLabel("Anyone with write permission").check();
  await settings.getByRole("button", { name: "Save the rules" }).click();
  await expect(settings.getByText("Version 2 is in force.")).toBeVisible(patience);

  await world.push("feature/basket", { "src/basket.ts": "export const limit = 100;\n" });
  const number = await world.openPullRequest("Raise the limit of the basket", "feature/basket");
  const panel = await alice.context.newPage();
  const sentence = panel.locator(".panel__sentence");
  await expect(async () => {
    await panel.goto(world.page("pr", number));
    await expect(sentence).toContainText("0 of 2 approvals", { timeout: 5_000 });
  }).toPass(patience);

  await bob.signIn();
  const bobs = await bob.openSignPage(number);
  await expect(bobs.getByText("1 file changed")).toBeVisible(patience);
  await bobs.getByRole("button", { name: "Reject", exact: true }).click();
  await bob.awaitOutcome(bobs, bobs.getByText("You rejected this commit"));
  await expect(sentence).toHaveText("Rejected by Bob Tanaka", patience);

  // Nothing can be pressed without a reason.
  await carol.signIn();
  const carols = await carol.openSignPage(number);
  await expect(carols.getByText("1 file changed")).toBeVisible(patience);
  const override = carols.getByRole("region", { name: "Override the rule" });
  await expect(override).toContainText("It is recorded and shown for ever.");
  await expect(override.getByRole("button", { name: "Override" })).toBeDisabled();
  await override.getByLabel("Reason").fill("The shop is down, and the limit is why.");
  await override.getByRole("button", { name: "Override" }).click();
  await carol.awaitOutcome(carols, carols.getByText("You overrode the rule for this commit"));

  // It is shown as what it is, everywhere: in the panel, on Bitbucket, to the approver, in the history.
  const said = "Overridden by Carol Okafor; rejected by Bob Tanaka; 0 of 2 approvals";
  await expect(sentence).toHaveText(said, patience);
  await expect(panel.getByText("Overridden", { exact: true })).toBeVisible();
  await expect(panel.getByRole("list", { name: "Overridden by" })).toContainText("Carol Okafor");
  const bitbucket = await alice.context.newPage();
  await bitbucket.goto(world.bitbucketPage(number));
  await alice.logIn(bitbucket);
  await expect(async () => {
    await bitbucket.reload();
    await expect(bitbucket.getByText("SUCCESSFUL").first()).toBeVisible({ timeout: 1_000 });
  }).toPass(patience);
  await expect(bitbucket.getByText(/overridden by Carol Okafor/).first()).toBeVisible();
  const home = await bob.context.newPage();
  await home.goto(world.stack.server);
  await expect(home.getByRole("link", { name: "A rule was overridden" })).toBeVisible(patience);
  await expect(home.getByText(/Carol Okafor: “The shop is down, and the limit is why.”/)).toBeVisible();

  // A person merges it: the gate does not.
  await expect(bitbucket.getByTestId("state")).toHaveText("OPEN");
  await bitbucket.getByRole("button", { name: "Merge", exact: true }).press("Enter");
  await expect(bitbucket.getByTestId("state")).toHaveText("MERGED", patience);
  await expect(panel.getByText("Merged", { exact: true })).toBeVisible(patience);
  const history = panel.getByRole("link", { name: /^History and evidence/ });
  const request = await alice.context.newPage();
  await request.goto(new URL((await history.getAttribute("href")) ?? "", world.stack.server).href);
  await expect(request.getByText("Overridden", { exact: true })).toBeVisible(patience);
  await expect(request.getByText(/Carol Okafor overrode the rule for [0-9a-f]{12}: “The shop is down/)).toBeVisible();
  await expect(request.getByText(/^The overridden commit was merged as/)).toBeVisible(patience);
});
