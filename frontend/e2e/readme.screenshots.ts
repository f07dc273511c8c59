import { fileURLToPath } from "node:url";
import { expect } from "@playwright/test";
import { test } from "./stack.ts";

// The pictures of the README, of the real pages before a simulated Bitbucket. Take them again with "make screenshots".

const picture = (name: string) => fileURLToPath(new URL(`screenshots/${name}.png`, import.meta.url));

test("the panel, the sign page and the dashboard", async ({ world, person }) => {
  const alice = await person("alice");
  await alice.signIn();
  await alice.gate();
  const bob = await person("bob");
  await bob.signIn();
  const carol = await person("carol");
  await carol.signIn();

  await world.push("refunds", {
    "src/pay.ts":
      "export function pay(order: Order) {\n\tbank.charge(order.card, order.total());\n}\n\n" +
      "export function refund(order: Order, amount: Money) {\n\tif (amount.over(order.total())) throw new TooMuch(amount);\n" +
      "\tbank.credit(order.card, amount);\n}\n",
    "README.md": "# Web shop\n\nPayments and refunds.\n",
  });
  const refunds = await world.openPullRequest("Refund an order in part", "refunds");
  await world.push("currency", { "src/currency.ts": 'export const currencies = ["EUR", "CHF"] as const;\n' });
  const currency = await world.openPullRequest("Take Swiss francs", "currency");

  // Bob approves the first one, so that the pictures show a quorum under way.
  const signing = await bob.openSignPage(refunds);
  await signing.getByRole("button", { name: "Approve", exact: true }).click();
  await expect(signing.getByText(/approved/i).first()).toBeVisible();

  const panel = await carol.context.newPage();
  await panel.setViewportSize({ width: 380, height: 420 });
  await panel.goto(world.page("pr", refunds));
  await expect(panel.locator(".panel__sentence")).toContainText("1 of 2 approvals");
  await panel.screenshot({ path: picture("panel"), animations: "disabled" });

  const sign = await carol.context.newPage();
  await sign.setViewportSize({ width: 1280, height: 900 });
  await sign.goto(world.page("sign", refunds));
  await expect(sign.getByRole("button", { name: "Approve", exact: true })).toBeEnabled();
  await sign.screenshot({ path: picture("sign"), animations: "disabled" });

  const home = await carol.context.newPage();
  await home.setViewportSize({ width: 1280, height: 640 });
  await home.goto(world.stack.server);
  await expect(home.getByRole("link", { name: "Take Swiss francs" }).first()).toBeVisible();
  await expect(home.getByText(`Pull request #${currency}`)).toBeVisible();
  await home.screenshot({ path: picture("dashboard"), animations: "disabled" });
});
