import { expect } from "@playwright/test";
import { test } from "./stack.ts";

// Bitbucket takes no build status for a while: what was decided is kept, the pages say so, and the status arrives later.

const patience = { timeout: 60_000 };

test("a status that Bitbucket does not take is said to be owed, and arrives", async ({ world, person, playwright }) => {
  test.setTimeout(240_000);
  const { bitbucket } = world.stack;
  const [alice, bob] = [await person("alice"), await person("bob")];
  await alice.signIn();
  await alice.gate({ requirements: [{ name: "Approval", quorum: 1, everyone: true }] });
  await world.push("feature/basket", { "src/basket.ts": "export const limit = 100;\n" });
  const number = await world.openPullRequest("Raise the limit of the basket", "feature/basket");
  await bob.signIn();
  const panel = await alice.context.newPage();
  const sentence = panel.locator(".panel__sentence");
  await expect(async () => {
    await panel.goto(world.page("pr", number));
    await expect(sentence).toContainText("0 of 1 approval", { timeout: 5_000 });
  }).toPass(patience);
  const shown = await alice.context.newPage();
  await shown.goto(world.bitbucketPage(number));
  await alice.logIn(shown);
  await expect(async () => {
    await shown.reload();
    await expect(shown.getByText("INPROGRESS").first()).toBeVisible({ timeout: 1_000 });
  }).toPass(patience);

  const fault = await world.stack.control<{ id: number }>("faults", { path: "/statuses/build", status: 503 });
  const signing = await bob.openSignPage(number);
  await expect(signing.getByText("1 file changed")).toBeVisible(patience);
  await signing.getByRole("button", { name: "Approve", exact: true }).click();
  await bob.awaitOutcome(signing, signing.getByText("You approved this commit"));

  await expect(sentence).toHaveText("Approved by Bob Tanaka", patience);
  for (const page of [panel, signing]) {
    await expect(page.getByText("Bitbucket does not show this yet")).toBeVisible(patience);
    await expect(
      page.getByText(/The build status has not reached Bitbucket since .*decisions that were made are kept/),
    ).toBeVisible();
  }
  const control = await playwright.request.newContext();
  const { strikes } = await (await control.get(`${bitbucket}/sim/strikes`)).json();
  expect(strikes[fault.id], "Bitbucket was asked, and answered 503").toBeGreaterThan(0);
  await shown.reload();
  await expect(shown.getByText("SUCCESSFUL")).toHaveCount(0);

  expect((await control.delete(`${bitbucket}/sim/faults`)).ok()).toBe(true);
  await control.dispose();
  for (const page of [panel, signing]) {
    await expect(page.getByText("Bitbucket does not show this yet")).toHaveCount(0, patience);
  }
  await shown.reload();
  await expect(shown.getByText("SUCCESSFUL").first()).toBeVisible(patience);
});
