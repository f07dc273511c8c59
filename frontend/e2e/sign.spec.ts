import { createHash } from "node:crypto";
import { expect, type Page, type Route } from "@playwright/test";
import { test as base, type Person, type World, withoutStreams } from "./stack.ts";

// What the sign page and the server refuse, each with its own words, and what they let through all the same.

const patience = { timeout: 60_000 };

interface Asked {
  alice: Person;
  bob: Person;
  number: number;
}

/** Gates the repository and asks for the approvals of a pull request of alice's. */
async function ask(alice: Person, world: World, rule?: Record<string, unknown>): Promise<number> {
  await alice.signIn();
  await alice.gate(rule);
  await world.push("feature/basket", { "src/basket.ts": "export const limit = 100;\n" });
  const number = await world.openPullRequest("Raise the limit of the basket", "feature/basket");
  const variables = { workspace: world.uuid, repository: world.repositories.get("web-shop"), number };
  await expect(async () => {
    const { pullRequest } = await alice.ask<{ pullRequest: { request: unknown } | null }>("Panel", variables);
    expect(pullRequest?.request).toBeTruthy();
  }).toPass(patience);
  return number;
}

const test = base.extend<{ asked: Asked }>({
  asked: async ({ world, person }, use) => {
    const [alice, bob] = [await person("alice"), await person("bob")];
    const number = await ask(alice, world);
    await bob.signIn();
    await use({ alice, bob, number });
  },
});

async function open(person: Person, number: number) {
  const page = await person.context.newPage();
  const authenticator = await person.handPasskeys(page);
  await page.goto(person.world.page("sign", number));
  await expect(page.getByText("1 file changed")).toBeVisible(patience);
  return { page, authenticator };
}

const approve = (page: Page) => page.getByRole("button", { name: "Approve", exact: true });

/** Answers an operation otherwise than the server did. */
async function tamper(page: Page, operation: string, change: (data: never, route: Route) => void) {
  await page.route(
    (address) => address.search === `?${operation}`,
    async (route) => {
      const response = await route.fetch();
      const answer = await response.json();
      change(answer.data as never, route);
      await route.fulfill({ response, json: answer });
    },
  );
}

/** Remembers the requests of an operation. */
function sent(page: Page, operation: string): string[] {
  const bodies: string[] = [];
  page.on("request", (request) => {
    if (request.url().endsWith(`/graphql?${operation}`)) bodies.push(request.postData() ?? "");
  });
  return bodies;
}

async function approvals(person: Person, world: World, number: number): Promise<number> {
  const variables = { workspace: world.uuid, repository: world.repositories.get("web-shop"), number };
  const { pullRequest } = await person.ask<{ pullRequest: { request: { decisions: unknown[] } } }>("Sign", variables);
  return pullRequest.request.decisions.length;
}

test("a person who fails to verify themselves signs nothing, and can try again", async ({ asked, world }) => {
  const { page, authenticator } = await open(asked.bob, asked.number);
  await approve(page).click();
  await asked.bob.confirmPasskey(page);
  await expect(page.getByText("You approved this commit")).toBeVisible(patience);
  await page.getByRole("button", { name: "Withdraw my decision" }).click();
  await expect(page.getByText("You withdrew your decision")).toBeVisible(patience);
  await authenticator.setVerifies(false);
  await approve(page).click();
  await expect(page.getByRole("alert").filter({ hasText: "Nothing was signed" })).toBeVisible(patience);
  expect(await approvals(asked.alice, world, asked.number)).toBe(2);
  await authenticator.setVerifies(true);
  await approve(page).click();
  await expect(page.getByText("You approved this commit")).toBeVisible(patience);
});

test("somebody whose passkey is on another device makes one here and signs", async ({ asked }) => {
  const { page, authenticator } = await open(asked.bob, asked.number);
  await approve(page).click();
  await asked.bob.confirmPasskey(page);
  await expect(page.getByText("You approved this commit")).toBeVisible(patience);
  const elsewhere = await authenticator.credentials();
  await authenticator.clear();
  await page.getByRole("button", { name: "Withdraw my decision" }).click();
  await page.getByRole("button", { name: "Make a passkey on this device" }).click(patience);
  await expect.poll(async () => (await authenticator.credentials()).length, patience).toBe(1);
  await page.getByRole("button", { name: "Confirm with your new passkey" }).click(patience);
  const other = page.getByRole("button", { name: "Confirm with a passkey that you already have" });
  await expect(other).toBeVisible(patience);
  // A virtual authenticator holds one passkey of a person, so that the phone takes the place of this device for a moment.
  const here = await authenticator.credentials();
  await authenticator.clear();
  await authenticator.add(elsewhere);
  await other.click();
  await expect(other).toHaveCount(0);
  await expect(page.getByText("Your passkey signs what you see here.")).toBeVisible(patience);
  await authenticator.clear();
  await authenticator.add(here);
  await expect(page.getByText("Your passkey signs what you see here.")).toBeVisible(patience);
  await page.getByRole("button", { name: "Withdraw my decision" }).click();
  await expect(page.getByText("You withdrew your decision")).toBeVisible(patience);
});

test("the author is told why they cannot approve", async ({ asked }) => {
  const { page } = await open(asked.alice, asked.number);
  await expect(page.getByText(/author/i).last()).toBeVisible();
  await expect(approve(page)).toHaveCount(0);
});

test("somebody without permission is told of nothing", async ({ world, person }) => {
  const [alice, carol] = [await person("alice"), await person("carol")];
  // What Bitbucket says of permissions is believed for some minutes, so it is said before anybody asks.
  await world.stack.control("permissions", { repository: `${world.slug}/web-shop`, person: carol.nickname, level: "" });
  const number = await ask(alice, world, { requirements: [{ name: "Approval", quorum: 1, everyone: true }] });
  await carol.signIn();
  const page = await carol.context.newPage();
  for (const kind of ["sign", "pr"] as const) {
    await page.goto(world.page(kind, number));
    await expect(page.getByText(/your Bitbucket account may not see it/)).toBeVisible(patience);
    await expect(page.getByText("Raise the limit of the basket")).toHaveCount(0);
  }
});

test("a commit that is pushed between showing and signing is refused", async ({ asked, world }) => {
  // Without a stream the page does not learn of it before the server does.
  await withoutStreams(asked.bob.context);
  const { page } = await open(asked.bob, asked.number);
  await world.push("feature/basket", { "src/basket.ts": "export const limit = 1e9;\n" });
  await approve(page).click();
  await asked.bob.confirmPasskey(page);
  const alert = page.getByRole("alert").filter({ has: page.getByRole("button", { name: "Reload the page" }) });
  await expect(alert).toBeVisible(patience);
  await expect(page.getByText("You approved this commit")).toHaveCount(0);
  await alert.getByRole("button", { name: "Reload the page" }).click();
  await expect(page.getByText("export const limit = 1e9;")).toBeVisible(patience);
});

test("a change whose bytes are not what they claim to be is not shown for signing", async ({ asked }) => {
  const page = await asked.bob.context.newPage();
  await tamper(page, "Change", (data: { node: { diff: { content: string } } }) => {
    const text = Buffer.from(data.node.diff.content, "base64").toString().replace("limit = 100", "limit = 999");
    data.node.diff.content = Buffer.from(text).toString("base64");
  });
  await page.goto(asked.bob.world.page("sign", asked.number));
  await expect(page.getByText("Refused: the change is not what it claims to be")).toBeVisible(patience);
  await expect(approve(page)).toBeDisabled();
});

test("a change that was exchanged together with its digest is refused by the server", async ({ asked }) => {
  const page = await asked.bob.context.newPage();
  await asked.bob.handPasskeys(page);
  await tamper(page, "Change", (data: { node: { diff: { content: string; sha256: string; size: number } } }) => {
    const bytes = Buffer.from("diff --git a/x b/x\nold mode 100644\nnew mode 100755\n");
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    Object.assign(data.node.diff, { content: bytes.toString("base64"), sha256, size: bytes.length });
  });
  await page.goto(asked.bob.world.page("sign", asked.number));
  await approve(page).click(patience);
  await asked.bob.confirmPasskey(page);
  await expect(page.getByText("The change is another one now")).toBeVisible(patience);
});

test("a statement that says something else is not signed", async ({ asked, world }) => {
  const { page } = await open(asked.bob, asked.number);
  const submitted = sent(page, "SubmitDecision");
  await tamper(
    page,
    "PrepareDecision",
    (data: { prepareDecision: { statement: string | null; options: string | null } }) => {
      const { statement, options } = data.prepareDecision;
      if (!statement || !options) return;
      // Another branch, and a challenge that fits: only reading it can tell.
      const text = Buffer.from(statement, "base64url").toString().replaceAll("release/1.0", "release/6.6");
      const challenge = createHash("sha256").update(text).digest("base64url");
      data.prepareDecision.statement = Buffer.from(text).toString("base64url");
      data.prepareDecision.options = JSON.stringify({ ...JSON.parse(options), challenge });
    },
  );
  await approve(page).click();
  await asked.bob.confirmPasskey(page);
  await expect(page.getByText("Refused: this is not what you were shown")).toBeVisible(patience);
  expect(submitted).toEqual([]);
  expect(await approvals(asked.alice, world, asked.number)).toBe(0);
});

for (const [typed, committed] of [
  ["Only the tests.", "All of it."],
  ["", "All of it."],
  ["Only the tests.", ""],
] as const) {
  test(`a comment of ${JSON.stringify(typed)} is not signed as ${JSON.stringify(committed)}`, async ({
    asked,
    world,
  }) => {
    const { page } = await open(asked.bob, asked.number);
    const submitted = sent(page, "SubmitDecision");
    // The whole of what is prepared fits itself; only the text is another one.
    await page.route(
      (address) => address.search === "?PrepareDecision",
      async (route) => {
        const body = route.request().postDataJSON() as { variables: { input: Record<string, unknown> } };
        const { comment: _, ...input } = body.variables.input;
        const postData = { ...body, variables: { input: committed ? { ...input, comment: committed } : input } };
        await route.fulfill({ response: await route.fetch({ postData }) });
      },
    );
    await page.getByLabel("Comment (optional)").fill(typed);
    await approve(page).click();
    await asked.bob.confirmPasskey(page);
    await expect(page.getByText("Refused: this is not what you were shown")).toBeVisible(patience);
    expect(submitted).toEqual([]);
    expect(await approvals(asked.alice, world, asked.number)).toBe(0);
  });
}

test("a decision is signed with the comment that was typed", async ({ asked, world }) => {
  const { page } = await open(asked.bob, asked.number);
  const text = 'Größe \u202e"ok" <&>\nzweite Zeile 😀';
  await page.getByLabel("Comment (optional)").fill(`  ${text} `);
  await approve(page).click();
  await asked.bob.confirmPasskey(page);
  await expect(page.getByText("You approved this commit")).toBeVisible(patience);
  expect(await approvals(asked.alice, world, asked.number)).toBe(1);
});

test("a signature that was used is not taken a second time", async ({ asked, world }) => {
  const { page } = await open(asked.bob, asked.number);
  const submitted = sent(page, "SubmitDecision");
  await approve(page).click();
  await asked.bob.confirmPasskey(page);
  await expect(page.getByText("You approved this commit")).toBeVisible(patience);
  const again = await asked.bob.context.request.post(`${world.stack.server}/graphql?SubmitDecision`, {
    headers: { "content-type": "application/json" },
    data: submitted[0] ?? "",
  });
  const { data } = await again.json();
  expect(data.submitDecision.decision).toBeNull();
  expect(data.submitDecision.userErrors).toHaveLength(1);
  expect(await approvals(asked.alice, world, asked.number)).toBe(1);
});

test("a session that ended leads to sign in, and nothing is signed", async ({ asked }) => {
  const { page } = await open(asked.bob, asked.number);
  await asked.bob.context.clearCookies();
  await approve(page).click();
  await expect(page.getByRole("link", { name: "Sign in with Bitbucket" })).toBeVisible(patience);
});
