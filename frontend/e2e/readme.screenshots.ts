import { fileURLToPath } from "node:url";
import { expect } from "@playwright/test";
import { Person, test } from "./stack.ts";

// The pictures of the README: what carol sees while her approval is waited for.

const picture = (name: string) => fileURLToPath(new URL(`screenshots/${name}.png`, import.meta.url));
const patience = { timeout: 60_000 };

test("panel, sign page and dashboard", async ({ stack, browser, addAuthenticator }) => {
  test.setTimeout(180_000);
  const world = await stack.newWorld("Northwind");
  const open = async (who: "alice" | "bob" | "carol") => {
    const context = await browser.newContext({ deviceScaleFactor: 2, colorScheme: "light" });
    return new Person(world, who, context, addAuthenticator);
  };
  const [alice, bob, carol] = [await open("alice"), await open("bob"), await open("carol")];
  for (const person of [carol, bob, alice]) await person.signIn();
  await alice.gate();
  await world.push("feature/coupon-check", {
    "src/pay.ts":
      "export async function pay(order: Order) {\n\tconst coupon = await coupons.check(order.coupon);\n\tconst total = order.total().minus(coupon.amount);\n\tawait bank.charge(order.card, total);\n}\n",
    "src/coupons.ts":
      'import { store } from "./store";\n\n/** A coupon counts once, and only while it is valid. */\nexport async function check(code: string) {\n\tconst coupon = await store.take(code);\n\tif (!coupon || coupon.until < Date.now()) throw new Refused(code);\n\treturn coupon;\n}\n',
  });
  const first = await world.openPullRequest("Check the coupon before the payment", "feature/coupon-check");
  await world.push("feature/basket-limit", { "src/basket.ts": "export const limit = 200;\n" });
  await world.openPullRequest("Raise the limit of the basket to 200 positions", "feature/basket-limit");

  const bobs = await bob.openSignPage(first);
  await bobs.getByRole("button", { name: "Approve" }).click(patience);
  await bob.awaitOutcome(bobs, bobs.getByText("You approved this commit"));

  const page = await carol.context.newPage();
  await page.setViewportSize({ width: 360, height: 480 });
  await page.goto(world.page("pr", first));
  await expect(page.getByText("1 of 2 approvals", { exact: false }).first()).toBeVisible(patience);
  await expect(page.getByText("Live", { exact: true })).toBeVisible(patience);
  await page.screenshot({ path: picture("panel") });

  await page.setViewportSize({ width: 1280, height: 860 });
  await page.goto(world.page("sign", first));
  await expect(page.getByRole("button", { name: "Approve" })).toBeEnabled(patience);
  await page.screenshot({ path: picture("sign") });

  await page.setViewportSize({ width: 1280, height: 620 });
  await page.goto(stack.server);
  await expect(page.getByRole("row", { name: /Raise the limit/ })).toBeVisible(patience);
  await expect(page.getByRole("listitem").filter({ hasText: "Raise the limit" }).first()).toBeVisible(patience);
  await page.screenshot({ path: picture("dashboard") });
  for (const person of [alice, bob, carol]) await person.context.close();
});
