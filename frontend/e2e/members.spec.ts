import { createHash } from "node:crypto";
import { expect, type Page } from "@playwright/test";
import { canonical } from "../apps/sign/src/prepared.ts";
import { type Person, test } from "./stack.ts";
import { violationsOn } from "./violations.ts";

// The keys of a workspace's members: what is said about them, by whom, and how they change where the workspace is protected.

const patience = { timeout: 60_000 };

/** Signs in and makes a passkey on the page that is answered. */
async function withPasskey(person: Person, name: string): Promise<Page> {
  await person.signIn();
  const page = await person.context.newPage();
  const authenticator = await person.handPasskeys(page);
  await page.goto(`${person.world.stack.server}/settings/passkeys`);
  await page.getByLabel("Name of the new passkey (optional)").fill(name);
  await page.getByRole("button", { name: "Add a passkey" }).click(patience);
  await person.confirmPasskey(page);
  await expect(page.getByText("The passkey can sign for you now.")).toBeVisible(patience);
  await person.keepPasskeys(authenticator);
  return page;
}

/** Signs the newest proposal that waits. */
async function sign(page: Page): Promise<void> {
  await page.reload();
  await page.getByRole("button", { name: "Sign…" }).first().click(patience);
  await page.getByRole("button", { name: "Sign with my passkey" }).click(patience);
  await expect(page.getByRole("dialog")).toBeHidden(patience);
}

/** Holds what is on the screen against what every page must be, narrow and wide, in both colour schemes. */
async function fits(page: Page, name: string): Promise<void> {
  for (const width of [360, 1280]) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      expect(await violationsOn(page), `${name}, ${width}, ${colorScheme}`).toEqual([]);
      await page.screenshot({ path: test.info().outputPath(`${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
    const cut = await page.evaluate((right) => {
      const controls = [...document.querySelectorAll<HTMLElement>("main :is(button, a, input, select)")];
      const out = controls.filter((it) => it.getBoundingClientRect().right > right).map((it) => it.innerText);
      return document.documentElement.scrollWidth > right ? ["the page", ...out] : out;
    }, width);
    expect(cut, `cut off at ${width}`).toEqual([]);
  }
}

test("a member's key is vouched for, and revoked by the signatures of those who protect the workspace", async ({
  world,
  person,
}) => {
  test.setTimeout(240_000);
  const [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
  await alice.signIn();
  await alice.gate();
  const [alices, bobs, carols] = [
    await withPasskey(alice, "Desk key"),
    await withPasskey(bob, "Laptop"),
    await withPasskey(carol, "Phone"),
  ];
  const keys = `${world.stack.server}/settings/keys?workspace=${world.slug}`;
  const protection = `${world.stack.server}/settings/protection?workspace=${world.slug}`;
  const members = alices.getByRole("group", { name: "Keys of members" });

  await alices.goto(keys);
  await members.getByRole("button", { name: "Countersign Phone of Carol Okafor" }).click(patience);
  await alices.getByRole("button", { name: "Countersign with my passkey" }).click();
  await expect(members).toContainText("Countersigned by Alice Moreau", patience);

  await alices.goto(protection);
  await alices.getByRole("button", { name: "Protect this workspace…" }).click(patience);
  const who = alices.getByRole("group", { name: "People with a passkey" });
  await who.getByLabel("Alice Moreau").check(patience);
  await who.getByLabel("Bob Tanaka").check();
  await alices.getByRole("button", { name: "Propose" }).click();
  await expect(alices.getByText("It is proposed.")).toBeVisible(patience);
  await sign(alices);
  await bobs.goto(protection);
  await sign(bobs);
  await expect(bobs.getByText("Applied", { exact: true })).toBeVisible(patience);

  // What an administrator wants to do with a member's key is a proposal now, and the key is what it was.
  const revoke = async (button: string, answer: string) => {
    await alices.goto(keys);
    await members.getByRole("button", { name: button }).click(patience);
    const dialog = alices.getByRole("dialog");
    await dialog.getByLabel("Somebody else may have had it").check();
    await dialog.getByLabel("Since when").fill("2026-01-02T03:04");
    await dialog.getByRole("button", { name: "Revoke with a passkey" }).click();
    await expect(alices.getByText(answer)).toBeVisible(patience);
  };
  const propose = async (button: string) => {
    await revoke(button, "nothing has changed yet");
    await alices.getByRole("link", { name: "See the proposal" }).click();
    await expect(alices.getByText("0 of 2 signatures")).toBeVisible(patience);
  };
  await revoke("Revoke Laptop of Bob Tanaka", "besides Bob Tanaka, too few protect the rules of this workspace");
  await propose("Revoke Phone of Carol Okafor");
  await alices.getByRole("button", { name: "Withdraw" }).click();
  await expect(alices.getByText("Withdrawn", { exact: true })).toBeVisible(patience);
  await propose("Revoke Phone of Carol Okafor");
  await alices.goto(keys);
  await expect(members.getByRole("button", { name: "Revoke Phone of Carol Okafor" })).toBeVisible(patience);
  await expect(members.getByText("Revoked", { exact: true })).toHaveCount(0);

  // She whose key it is can sign nothing; the two who protect the workspace both have to.
  await carols.goto(protection);
  await expect(carols.getByText("A change of rules needs the signatures of 2 of")).toBeVisible(patience);
  await expect(carols.getByRole("button", { name: "Sign…" })).toHaveCount(0);
  await alices.goto(protection);
  await sign(alices);
  await expect(alices.getByText("1 of 2 signatures")).toBeVisible(patience);
  await sign(bobs);
  await expect(bobs.getByText("Applied", { exact: true })).toHaveCount(2, patience);
  await alices.reload();
  await alices.getByRole("button", { name: "End the protection…" }).click(patience);
  await alices.getByRole("button", { name: "Propose" }).click();
  await expect(alices.getByText("Waits for signatures", { exact: true })).toBeVisible(patience);
  await fits(alices, "protection");

  await alices.goto(keys);
  await expect(members.getByText("Revoked", { exact: true })).toBeVisible(patience);
  await expect(members).toContainText(/Revoked by Alice Moreau and Bob Tanaka.*; does not count since/);
  await expect(members.getByRole("button", { name: "Revoke Phone of Carol Okafor" })).toHaveCount(0);
  await fits(alices, "keys");
});

test("a key that a stolen one signed for shows its owner where it fell, and with which", async ({ world, person }) => {
  test.setTimeout(240_000);
  const [alice, bob] = [await person("alice"), await person("bob")];
  await alice.signIn();
  await alice.gate();
  await world.push("feature/coupon", { "src/coupon.ts": "export const coupon = 10;\n" });
  const number = await world.openPullRequest("Check the coupon", "feature/coupon");
  const page = await withPasskey(bob, "Laptop");
  const signing = await bob.context.newPage();
  const used = await bob.handPasskeys(signing);
  await signing.goto(world.page("sign", number));
  await signing.getByRole("button", { name: "Approve", exact: true }).click(patience);
  await bob.awaitOutcome(signing, signing.getByText("You approved this commit"));
  await bob.keepPasskeys(used);
  await signing.close();

  // Another authenticator makes a second one, for which the first one signs.
  await page.close();
  const passkeys = await bob.context.newPage();
  const authenticator = await bob.handPasskeys(passkeys);
  const held = await authenticator.credentials();
  await authenticator.clear();
  await passkeys.goto(`${world.stack.server}/settings/passkeys`);
  await passkeys.getByLabel("Name of the new passkey (optional)").fill("Blue key");
  await passkeys.getByRole("button", { name: "Add a passkey" }).click(patience);
  await passkeys.getByRole("button", { name: "Confirm with your new passkey" }).click(patience);
  await authenticator.clear();
  await authenticator.add(held);
  await passkeys.getByRole("button", { name: "Confirm with a passkey that you already have" }).click(patience);
  await expect(passkeys.getByText("The passkey can sign for you now.")).toBeVisible(patience);
  await expect(passkeys.getByRole("rowheader", { name: "Blue key", exact: true })).toBeVisible(patience);

  await passkeys.getByRole("button", { name: "Revoke Laptop" }).click();
  const dialog = passkeys.getByRole("dialog");
  await dialog.getByLabel("Somebody else may have had it").check();
  await dialog.getByLabel("Since when").fill("2026-01-02T03:04");
  await expect(dialog.getByRole("heading", { name: "Revoke Laptop?" })).toHaveCSS("text-align", "start");
  await dialog.getByRole("button", { name: "Revoke with a passkey" }).click();
  await expect(dialog).toBeHidden(patience);
  await expect(passkeys.getByText("The passkey can sign for you now.")).toHaveCount(0);

  // The page is not loaded again: what was said of one key is shown with the other.
  const name = `Blue key Counts no longer in ${world.slug}`;
  await expect(passkeys.getByRole("rowheader", { name, exact: true })).toBeVisible(patience);
  const row = passkeys.getByRole("row", { name: /Blue key/ });
  await expect(row).toContainText(
    /goes back to Laptop of Bob Tanaka, which may have been in other hands since .*, as Bob Tanaka said/,
  );
  await expect(passkeys.getByRole("rowheader", { name: "Laptop Revoked", exact: true })).toBeVisible();
  await expect(passkeys.getByText("None of your passkeys stands everywhere")).toBeVisible();
  await fits(passkeys, "passkeys");

  // What it signed for would fall with it, so it is not asked, and the new one waits for an administrator.
  await authenticator.clear();
  await passkeys.getByLabel("Name of the new passkey (optional)").fill("Green key");
  await passkeys.getByRole("button", { name: "Add a passkey" }).click(patience);
  await passkeys.getByRole("button", { name: "Confirm with your new passkey" }).click(patience);
  await expect(passkeys.getByText("The passkey waits for an administrator")).toBeVisible(patience);
  await expect(passkeys.getByRole("rowheader", { name: /Green key Waits for an administrator/ })).toBeVisible(patience);
  await passkeys.screenshot({ path: test.info().outputPath("fallen.png"), fullPage: true });

  await passkeys.goto(world.stack.server);
  await expect(passkeys.getByText(`“Blue key” counts no longer in ${world.slug}`)).toBeVisible(patience);
});

/** Has the server answer an operation otherwise: to another question, or with something else. */
async function tamper(
  page: Page,
  operation: string,
  how: {
    input?: (input: Record<string, unknown>) => void;
    act?: (act: { statement: string; options: string }) => void;
  },
): Promise<void> {
  await page.route(new RegExp(`/graphql\\?${operation}$`), async (route) => {
    const asked = route.request().postDataJSON();
    how.input?.(asked.variables.input);
    const response = await route.fetch({ postData: asked });
    const answer = await response.json();
    for (const payload of Object.values<{ act?: { statement: string; options: string } | null }>(answer.data)) {
      if (payload.act) how.act?.(payload.act);
    }
    await route.fulfill({ response, json: answer });
  });
}

/** The act about another key that says everything else as an act does, for the authenticator to sign. */
function exchangeKey(act: { statement: string; options: string }): void {
  const said = JSON.parse(Buffer.from(act.statement, "base64url").toString());
  const sha256 = (text: string) => createHash("sha256").update(text);
  said.predicate.key.key.publicKey = Buffer.from("a key of the server's own").toString("base64url");
  const digest = sha256(canonical(said.predicate.key.key)).digest("hex");
  said.predicate.meaning = `I enrol the key ${digest} under my name.`;
  said.subject[0].digest.sha256 = sha256(canonical(said.predicate.key)).digest("hex");
  act.statement = Buffer.from(canonical(said)).toString("base64url");
  act.options = JSON.stringify({ ...JSON.parse(act.options), challenge: sha256(canonical(said)).digest("base64url") });
}

test("a server that hands out an act about something else gets no signature", async ({ world, person }) => {
  test.setTimeout(240_000);
  const [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
  await alice.signIn();
  await alice.gate();
  const page = await withPasskey(alice, "Desk key");
  await withPasskey(bob, "Laptop");
  await withPasskey(carol, "Phone");
  const members = page.getByRole("group", { name: "Keys of members" });
  const signed: string[] = [];
  page.on("request", (request) => {
    if (/\/graphql\?(SignKeyAct|ConfirmPasskey)$/.test(request.url())) signed.push(request.url());
  });
  const refused = async (difference: string) => {
    await expect(page.getByText("Refused: this is not what you were shown")).toBeVisible(patience);
    await expect(page.getByText(`differs from this page in ${difference}.`)).toBeVisible();
    expect(signed).toEqual([]);
  };

  // Carol's key is vouched for, and the server asks for a signature about Bob's.
  await page.goto(`${world.stack.server}/settings/keys?workspace=${world.slug}`);
  const { workspace } = await alice.ask<{
    workspace: { keyHolders: { edges: { node: { person: { name: string }; keys: { id: string }[] } }[] } };
  }>("MemberKeys", { workspace: world.slug, first: 20 });
  const bobs = workspace.keyHolders.edges.find(({ node }) => node.person.name === "Bob Tanaka")?.node.keys[0]?.id;
  await tamper(page, "PrepareKeyAct", { input: (input) => Object.assign(input, { key: bobs }) });
  await members.getByRole("button", { name: "Countersign Phone of Carol Okafor" }).click(patience);
  await page.getByRole("button", { name: "Countersign with my passkey" }).click();
  await refused("the key");
  await page.getByRole("button", { name: "Not now" }).click();
  await page.unrouteAll();

  // It is said since when it was stolen, and the server leaves that out.
  await tamper(page, "PrepareKeyAct", { input: (input) => void delete input["compromisedSince"] });
  await members.getByRole("button", { name: "Revoke Phone of Carol Okafor" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Somebody else may have had it").check();
  await dialog.getByLabel("Since when").fill("2026-01-02T03:04");
  await dialog.getByRole("button", { name: "Revoke with a passkey" }).click();
  await refused("since when somebody else may have had the key");
  await page.unrouteAll();
  await page.close();

  // A further key is made, and the server has the first one agree to a key of its own.
  const passkeys = await alice.context.newPage();
  const authenticator = await alice.handPasskeys(passkeys);
  const held = await authenticator.credentials();
  await authenticator.clear();
  await passkeys.goto(`${world.stack.server}/settings/passkeys`);
  await tamper(passkeys, "ConfirmPasskey", { act: exchangeKey });
  await passkeys.getByRole("button", { name: "Add a passkey" }).click(patience);
  await passkeys.getByRole("button", { name: "Confirm with your new passkey" }).click(patience);
  await authenticator.clear();
  await authenticator.add(held);
  await passkeys.getByRole("button", { name: "Confirm with a passkey that you already have" }).click(patience);
  await expect(passkeys.getByText("differs from this page in the key.")).toBeVisible(patience);
  const [{ signCount = 0 } = {}] = held;
  expect((await authenticator.credentials()).map((credential) => credential.signCount)).toEqual([signCount]);
});
