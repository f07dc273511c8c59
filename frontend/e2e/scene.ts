import { expect } from "@playwright/test";
import { test as base, Person, type World } from "./stack.ts";

/** A gated workspace with one open pull request, and its administrator at a browser. Tests look at it and leave it as it is. */
export interface Scene {
  world: World;
  alice: Person;
  /** Of the pull request, in the repository. */
  number: number;
  /** The node id of the pull request. */
  pullRequest: string;
  /** The node id of its request. */
  request: string;
}

export const test = base.extend<object, { scene: Scene }>({
  scene: [
    async ({ browser, stack }, use) => {
      const world = await stack.newWorld();
      await world.addRepository("docs", "The Docs");
      const context = await browser.newContext();
      const alice = new Person(world, "alice", context, () => Promise.reject(new Error("nobody signs in this scene")));
      await alice.signIn();
      await alice.gate({ branches: ["release/1.0"], authorMayApprove: true });
      await world.push("feature/basket", {
        "src/basket.ts": "export const limit = 100; // \u202eonly for admins\u2069\n",
        "src/pay.ts": "export function pay(order: Order) {\n\tbank.charge(order.card, order.total(), limit);\n}\n",
      });
      const number = await world.openPullRequest("Raise the limit of the basket", "feature/basket");
      await use({ world, alice, number, ...(await asked(alice, number)) });
      await context.close();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

/** Waits until the gate has asked for the approvals of a pull request. */
async function asked(person: Person, number: number): Promise<{ pullRequest: string; request: string }> {
  const { world } = person;
  const variables = { workspace: world.uuid, repository: world.repositories.get("web-shop"), number };
  const found = { pullRequest: "", request: "" };
  await expect(async () => {
    const { pullRequest } = await person.ask<{ pullRequest: { id: string; request: { id: string } | null } | null }>(
      "Panel",
      variables,
    );
    found.pullRequest = pullRequest?.id ?? "";
    found.request = pullRequest?.request?.id ?? "";
    expect(found.request).not.toBe("");
  }).toPass({ timeout: 60_000 });
  return found;
}
