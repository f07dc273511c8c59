import { expect, type FrameLocator, type Locator, type Page, type Route } from "@playwright/test";
import axe from "axe-core";
import { type Person, test, type World, withoutPolls, withoutStreams } from "./stack.ts";
import { violationsOn } from "./violations.ts";

// The app from the Marketplace, as people meet it inside Bitbucket. Its pages stand in frames of another site, under
// the policy and the sandbox that Forge gives them.

/** How long the gate may take from something that happens on Bitbucket to something that a page shows. */
const patience = { timeout: 60_000 };

/** The frame of one of the app's modules on a page of Bitbucket's. */
const framed = (page: Page, module: string): FrameLocator => page.frameLocator(`#forge-${module}`);

/** What the panel in the sidebar says of a pull request. */
const sentenceIn = (page: Page): Locator => framed(page, "pr-card").locator(".panel__sentence");

/** Counts how often a page or a frame in it is loaded from now on. */
function loads(page: Page): () => number {
  let count = 0;
  page.on("framenavigated", () => count++);
  return () => count;
}

/** Opens the page of a pull request on Bitbucket, and waits until the panel shows the approvals. */
async function openPanel(person: Person, number: number, sentence = /0 of 2 approvals/): Promise<Page> {
  const page = await person.openBitbucket(`/web-shop/pull-requests/${number}`);
  await expect(async () => {
    await page.reload();
    await expect(sentenceIn(page)).toHaveText(sentence, { timeout: 5_000 });
  }).toPass(patience);
  return page;
}

/** Presses the panel's button and agrees to leave Bitbucket. */
async function leave(person: Person, panel: Page): Promise<Page> {
  await framed(panel, "pr-card")
    .getByRole("link", { name: /^Approve/ })
    .click();
  const leaving = panel.getByRole("dialog", { name: "You are leaving Bitbucket" });
  await expect(leaving).toContainText(`${person.world.stack.server}/sign/`);
  const popup = person.context.waitForEvent("page");
  await leaving.getByRole("button", { name: "Continue" }).click();
  return popup;
}

/** Approves by way of the panel, as somebody who comes to our pages for the first time. */
async function approve(person: Person, panel: Page): Promise<Page> {
  const page = await leave(person, panel);
  await expect(page.getByText("Sign in to see the change")).toBeVisible(patience);
  expect(page.url(), "the ticket is out of the address").not.toContain("#");
  await page.getByRole("link", { name: "Sign in with Bitbucket" }).click();
  await person.allow(page);
  await expect(page).toHaveURL(/\/sign\//);
  await person.handPasskeys(page);
  await page.getByRole("button", { name: "Approve", exact: true }).click();
  await person.awaitOutcome(page, page.getByText("You approved this commit"));
  return page;
}

/** Goes to a page of ours in the settings of the repository on Bitbucket. */
async function openSettings(page: Page, world: World): Promise<FrameLocator> {
  await page.goto(`${world.stack.bitbucket}/${world.slug}/web-shop/admin`);
  await page.getByRole("link", { name: "Signed approvals" }).click();
  await expect(page.getByRole("heading", { name: "Signed approvals" })).toBeVisible();
  return framed(page, "repo-settings");
}

/** Loads the repository's settings again and again until the enforcement screen says something. */
async function untilEnforcement(page: Page, world: World, says: RegExp): Promise<FrameLocator> {
  const settings = await openSettings(page, world);
  await expect(async () => {
    await page.reload();
    await expect(settings.getByRole("table", { name: "Enforcement" })).toContainText(says, { timeout: 5_000 });
  }).toPass(patience);
  return settings;
}

/** Presses Bitbucket's own button: with the keyboard, for it moves down while the frames above it grow. */
const merge = (page: Page) => page.getByRole("button", { name: "Merge", exact: true }).press("Enter");

test("an installed app gates a repository, and Bitbucket itself refuses what it refuses", async ({ world, person }) => {
  test.setTimeout(240_000);
  const [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];

  // Alice installs the app, and makes its check required.
  const page = await alice.openBitbucket("/workspace");
  await page.getByRole("link", { name: "Installed apps" }).click();
  const app = page.getByTestId("app");
  await app.getByRole("button", { name: "Install" }).click();
  await expect(app.getByTestId("app-state")).toHaveText("Installed");
  await page.goto(`${world.stack.bitbucket}/${world.slug}/workspace`);
  await page.getByRole("link", { name: "Custom merge checks" }).click();
  await page.getByRole("button", { name: "Enable custom merge checks" }).click();
  await expect(page.getByTestId("custom-merge-checks-state")).toHaveText("enabled");
  await page.goto(`${world.stack.bitbucket}/${world.slug}/web-shop/admin/merge-checks`);
  await page.getByLabel("Merge check").selectOption("Signed approvals");
  await page.getByLabel("Branch pattern").fill("release/*");
  await page.getByLabel("Required").check();
  await page.getByRole("button", { name: "Add merge check" }).click();
  await expect(page.getByTestId("merge-check")).toContainText("Required");

  // She gates the repository without leaving Bitbucket.
  let settings = await openSettings(page, world);
  await settings.getByLabel("Name", { exact: true }).fill("Release branches");
  await settings.getByLabel("Destination branches").fill("release/*");
  await settings.getByLabel("Approvals needed").fill("2");
  await settings.getByRole("button", { name: "Gate this repository" }).click();
  await expect(settings.getByText("Version 1 is in force.")).toBeVisible(patience);

  // A pull request that nobody has approved is not merged.
  await world.push("feature/coupon", { "src/coupon.ts": "export const coupon = 10;\n" });
  await page.goto(`${world.stack.bitbucket}/${world.slug}/web-shop/pull-requests/new?source=feature/coupon`);
  await page.getByLabel("Destination branch").selectOption("release/1.0");
  await page.getByLabel("Title").fill("Check the coupon before the payment");
  await page.getByRole("button", { name: "Create pull request" }).click();
  await expect(page.getByTestId("state")).toHaveText("OPEN");
  const number = Number(new URL(page.url()).pathname.split("/").at(-1));
  const watching = await openPanel(alice, number);
  await page.reload();
  await merge(page);
  await expect(page.getByRole("alert")).toContainText("Signed approvals: 0 of 2 approvals; waiting for");
  await page.getByRole("link", { name: "Back" }).click();
  await expect(page.getByTestId("state")).toHaveText("OPEN");
  await expect(page.getByTestId("merge-check-merge-check-on-merge")).toContainText("failed");

  // Until now everybody could push around it: one click closes that.
  settings = await untilEnforcement(page, world, /Open/);
  await expect(settings.getByRole("table", { name: "Merge checks" })).toContainText("0 of 2 approvals");
  await settings.getByRole("button", { name: /^Fix/ }).click();
  await settings.getByRole("button", { name: "Make the restrictions" }).click();
  await expect(settings.getByRole("table", { name: "Enforcement" })).toContainText("Unknown", patience);

  // Bob and Carol approve; what alice watches follows by itself.
  const loaded = loads(watching);
  await expect(framed(watching, "pr-card").getByText("Live", { exact: true })).toBeVisible(patience);
  await approve(bob, await openPanel(bob, number));
  await expect(sentenceIn(watching)).toContainText("1 of 2 approvals", patience);
  const carols = await openPanel(carol, number, /1 of 2 approvals/);
  await approve(carol, carols);
  await expect(sentenceIn(carols)).toHaveText(/^Approved by/, patience);
  await expect(sentenceIn(watching)).toHaveText(/^Approved by/, patience);
  await expect(framed(watching, "pr-panel").locator(".panel__sentence")).toHaveText(/^Approved by/, patience);
  expect(loaded()).toBe(0);
  await expect(async () => {
    await page.goto(world.bitbucketPage(number));
    await expect(page.getByText("SUCCESSFUL", { exact: true })).toBeVisible({ timeout: 1_000 });
  }).toPass(patience);
  await merge(page);
  await expect(page.getByTestId("state")).toHaveText("MERGED");
  await expect(framed(watching, "pr-card").getByText("Merged", { exact: true })).toBeVisible(patience);

  // She lets people push again. The next look, which a change of the rules asks for, says that the gate is open.
  await page.goto(`${world.stack.bitbucket}/${world.slug}/web-shop/admin/branch-restrictions`);
  await page.getByRole("button", { name: "Remove push on release/*" }).click();
  settings = await openSettings(page, world);
  await settings.getByLabel("Name", { exact: true }).fill("Releases");
  await settings.getByRole("button", { name: "Save the rules" }).click();
  await expect(settings.getByText("Version 2 is in force.")).toBeVisible(patience);
  settings = await untilEnforcement(page, world, /Open/);
  await expect(settings.getByRole("table", { name: "Enforcement" })).toContainText(
    "Everybody with write permission can push to these branches without a pull request.",
  );
  await expect(settings.getByText("Every merge that was seen had its approvals or an override.")).toBeVisible();

  // She takes everything away that holds Bitbucket back, and merges what nobody has approved.
  await page.goto(`${world.stack.bitbucket}/${world.slug}/web-shop/admin/branch-restrictions`);
  await page.getByRole("button", { name: "Remove require_passing_builds_to_merge on release/*" }).click();
  await page.goto(`${world.stack.bitbucket}/${world.slug}/web-shop/admin/merge-checks`);
  await page.getByRole("button", { name: /^Remove/ }).click();
  await world.push("feature/discount", { "src/discount.ts": "export const discount = 90;\n" });
  const around = await world.openPullRequest("Raise the discount", "feature/discount");
  const panel = await openPanel(alice, around);
  await merge(panel);
  await expect(panel.getByTestId("state")).toHaveText("MERGED");

  // That is on record, for everybody who looks after the repository.
  settings = await untilEnforcement(page, world, /without SignedApproval's merge check being asked/);
  const violations = settings.getByRole("table", { name: "Violations" });
  await expect(violations.getByRole("row")).toHaveCount(2);
  await expect(violations).toContainText(`#${around} Raise the discount`);
  await expect(violations).toContainText("Not asked");
  await page.goto(`${world.stack.bitbucket}/${world.slug}/workspace`);
  await page.getByRole("navigation", { name: "Apps" }).getByRole("link", { name: "Signed approvals" }).click();
  await expect(framed(page, "dashboard").getByText("merged without", { exact: false }).first()).toBeVisible(patience);
});

/** Installs the app, gates the repository and opens a pull request, without looking. */
async function openGated(alice: Person): Promise<number> {
  const { world } = alice;
  await alice.gateWithApp();
  await world.push("feature/basket", { "src/basket.ts": "export const limit = 100;\n" });
  return world.openPullRequest("Raise the limit of the basket", "feature/basket");
}

test("without a stream the panel asks by itself, and without that it stays behind", async ({ person }) => {
  test.setTimeout(180_000);
  const [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
  const number = await openGated(alice);
  await withoutStreams(alice.context);
  await withoutStreams(carol.context);
  await withoutPolls(carol.context);
  const polled = await openPanel(alice, number);
  const behind = await openPanel(carol, number);
  await expect(framed(polled, "pr-card").getByText("Updated every few seconds")).toBeVisible(patience);
  await expect(framed(behind, "pr-card").getByText("Updated every few seconds")).toBeVisible(patience);
  const loaded = [loads(polled), loads(behind)];
  await approve(bob, await openPanel(bob, number));
  await expect(sentenceIn(polled)).toContainText("1 of 2 approvals", patience);
  await expect(sentenceIn(behind)).toContainText("0 of 2 approvals");
  expect(loaded.map((count) => count())).toEqual([0, 0]);
});

/** The session that somebody has on our pages. */
const session = async (person: Person) =>
  (await person.context.cookies(person.world.stack.server)).find(({ name }) => name.includes("signedapproval"))?.value;

test("a ticket opens nothing for somebody else, and nothing twice", async ({ person }) => {
  test.setTimeout(180_000);
  const [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
  const number = await openGated(alice);

  // Bob has logged in on Bitbucket at Carol's browser; on our pages she is still there.
  await carol.signIn();
  const carols = await session(carol);
  const shared = carol.context;
  await shared.clearCookies({ name: "bitbucketsim_session" });
  const panel = await shared.newPage();
  await panel.goto(carol.world.bitbucketPage(number));
  await bob.logIn(panel);
  await expect(sentenceIn(panel)).toContainText("0 of 2 approvals", patience);
  const asked = new Map<Page, string[]>();
  shared.on("request", (request) => {
    const { pathname, search } = new URL(request.url());
    if (pathname !== "/graphql" || request.frame().parentFrame() !== null) return;
    const page = request.frame().page();
    asked.set(page, [...(asked.get(page) ?? []), search]);
  });
  const page = await leave(carol, panel);
  await expect(page.getByText("You are signed in here as somebody else")).toBeVisible(patience);
  expect(asked.get(page), "nothing else was asked of the server").toEqual(["?RedeemTicket"]);
  await expect(page.getByText(/basket/i)).toHaveCount(0);
  await expect(page.getByRole("button", { name: /^(Approve|Reject)$/ })).toHaveCount(0);
  expect(await violationsOn(page)).toEqual([]);

  // The way on is to sign in as who one is; the session is then another one, and the ticket is not in it.
  await page.getByRole("link", { name: "Sign in with Bitbucket" }).click();
  await bob.allow(page);
  await expect(page).toHaveURL(/\/sign\//);
  await expect(page.getByText("Signed in as Bob Tanaka.")).toBeVisible(patience);
  await expect(page.getByText("export const limit = 100;")).toBeVisible(patience);
  expect(await session(carol)).not.toBe(carols);

  // The address with the next ticket, read off the panel: it opens once.
  const link = framed(panel, "pr-card").getByRole("link", { name: /^Approve/ });
  await expect(link).toHaveAttribute("href", /#ticket=[\w-]{20,}$/, patience);
  const address = (await link.getAttribute("href")) ?? "";
  const first = await shared.newPage();
  await first.goto(address);
  await expect(first.getByText("Signed in as Bob Tanaka.")).toBeVisible(patience);
  expect(first.url()).not.toContain("#");
  const second = await shared.newPage();
  await second.goto(address);
  await expect(second.getByText("This way in has expired")).toBeVisible(patience);
  expect(asked.get(second)).toEqual(["?RedeemTicket"]);
  await second.getByRole("button", { name: "Go on without it" }).click();
  await expect(second.getByText("export const limit = 100;")).toBeVisible(patience);
});

test("whoever does not leave Bitbucket is shown the address", async ({ person }) => {
  const [alice, bob] = [await person("alice"), await person("bob")];
  const number = await openGated(alice);
  const panel = await openPanel(bob, number);
  const card = framed(panel, "pr-card");
  await card.getByRole("link", { name: /^Approve/ }).click();
  await panel.getByRole("button", { name: "Cancel" }).click();
  const blocked = card.getByRole("alert");
  await expect(blocked).toContainText("No tab opened. Open this address yourself:");
  await expect(blocked.getByRole("link")).toHaveText(bob.world.page("sign", number));
  await expect(blocked.getByRole("link")).toHaveAttribute("href", /#ticket=/);
  await (await leave(bob, panel)).waitForURL(/\/sign\//);
});

/** What the bridge can bring in place of an answer, and what the panel then says. */
const troubles: Record<string, { answer: (route: Route) => Promise<void>; title: string; says: string }> = {
  "a server that fails": {
    answer: answered(500, { error: { code: "INTERNAL", message: "Something went wrong." } }),
    title: "Could not read the approvals",
    says: "The server did not answer as it should.",
  },
  "a server that cannot ask Bitbucket": {
    answer: answered(200, {
      data: null,
      errors: [{ message: "Bitbucket did not answer.", extensions: { code: "BITBUCKET_UNAVAILABLE" } }],
    }),
    title: "Could not read the approvals",
    says: "Bitbucket did not answer.",
  },
  "a person whom Bitbucket lets ask nothing": {
    answer: answered(403, { error: "Forbidden" }),
    title: "Could not read the approvals",
    says: "Bitbucket does not let this app ask for you.",
  },
  "a pull request that the person may not see": {
    answer: answered(200, { data: { pullRequest: null } }),
    title: "Nothing to show",
    says: "or your Bitbucket account may not see it",
  },
  "an answer that comes too late": {
    answer: rejected("Remote invocation timed out after 25 seconds"),
    title: "Could not read the approvals",
    says: "Bitbucket could not pass this on to SignedApproval.",
  },
  "an answer that is too large": {
    answer: rejected("The response from remote exceeds the limit of 5 MB"),
    title: "Could not read the approvals",
    says: "Bitbucket could not pass this on to SignedApproval.",
  },
  "too many questions": {
    answer: rejected("Remote invocation calls are rate limited at 500/25s", 429),
    title: "Could not read the approvals",
    says: "This page asked too often.",
  },
};

/** The remote's answer, as Bitbucket passes it on. */
function answered(status: number, body: unknown) {
  const payload = { status, headers: { "content-type": ["application/json"] }, body };
  const json = status < 300 ? { success: true, payload } : { success: false, error: payload };
  return (route: Route) => route.fulfill({ json });
}

/** Bitbucket's own refusal. */
function rejected(error: string, status = 502) {
  return (route: Route) => route.fulfill({ status, json: { error } });
}

test("the panel says what is wrong, and tries again", async ({ person }) => {
  test.setTimeout(120_000);
  const [alice, bob] = [await person("alice"), await person("bob")];
  const number = await openGated(alice);
  const page = await openPanel(bob, number);
  const card = framed(page, "pr-card");
  // What it shows while it waits.
  let go = () => {};
  const waiting = new Promise<void>((resolve) => {
    go = resolve;
  });
  await page.route(/\/invoke$/, (route) => waiting.then(() => route.continue()));
  await page.reload();
  await expect(card.getByText("Reading the approvals…")).toBeVisible(patience);
  go();
  await expect(sentenceIn(page)).toContainText("0 of 2 approvals", patience);
  await page.unroute(/\/invoke$/);

  for (const [name, { answer, title, says }] of Object.entries(troubles)) {
    await test.step(name, async () => {
      await page.route(/\/invoke$/, answer);
      await page.reload();
      await expect(card.getByText(title)).toBeVisible(patience);
      await expect(card.getByText(says)).toBeVisible();
      expect(await complaintsIn(page, "pr-card")).toEqual([]);
      await page.unroute(/\/invoke$/);
      if (title === "Nothing to show") return;
      await card.getByRole("button", { name: "Try again" }).click();
      await expect(sentenceIn(page)).toContainText("0 of 2 approvals", patience);
    });
  }

  await page.route(/\/context$/, rejected("The page is no longer open", 404));
  await page.reload();
  await expect(card.getByText("This page could not start")).toBeVisible(patience);
  await expect(card.getByText("Bitbucket does not answer this page.")).toBeVisible();
  expect(await complaintsIn(page, "pr-card")).toEqual([]);
});

/** What axe finds in a frame of the app; what it finds on Bitbucket's own page is not ours to mend. */
async function complaintsIn(page: Page, module: string) {
  const element = await page.locator(`#forge-${module}`).elementHandle();
  const frame = await element?.contentFrame();
  // A colour on its way is none that anybody reads.
  await frame?.evaluate(() =>
    Promise.allSettled(document.getAnimations().flatMap((it) => (it instanceof CSSTransition ? [it.finished] : []))),
  );
  await frame?.evaluate(axe.source);
  const results = await frame?.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
  expect(results?.passes.length, "the frame was looked at").toBeGreaterThan(5);
  return results?.violations.map(({ id, nodes }) => ({ id, at: nodes.map(({ target }) => target) }));
}

/** The pages of the app, by the way that leads to each on Bitbucket. */
const pages: Record<string, { path: string; menu?: string; link?: string; module: string; shows: string }> = {
  "the panel beside a pull request": {
    path: "/web-shop/pull-requests/1",
    module: "pr-card",
    shows: "Can still approve",
  },
  "the panel above a pull request": {
    path: "/web-shop/pull-requests/1",
    module: "pr-panel",
    shows: "Can still approve",
  },
  "the dashboard": {
    path: "/workspace",
    menu: "Apps",
    link: "Signed approvals",
    module: "dashboard",
    shows: "Notices",
  },
  "the repository's settings": {
    path: "/web-shop/admin",
    menu: "Repository settings",
    link: "Signed approvals",
    module: "repo-settings",
    shows: "Recent merge checks",
  },
  "the workspace's settings": {
    path: "/workspace",
    menu: "Workspace settings",
    link: "Signed approvals",
    module: "workspace-settings",
    shows: "Statuses and merges bear",
  },
  "the personal settings": {
    path: "/workspace",
    menu: "Personal settings",
    link: "My passkeys for signed approvals",
    module: "personal-settings",
    shows: "No passkey yet",
  },
};

test("the pages in frames can be used by everybody, and take Bitbucket's colours", async ({ person, world }) => {
  test.setTimeout(180_000);
  const alice = await person("alice");
  const page = await openPanel(alice, await openGated(alice));
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted ?Type/iu.test(message.text())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  for (const [name, { path, menu, link, module, shows }] of Object.entries(pages)) {
    await test.step(name, async () => {
      await page.emulateMedia({ colorScheme: "light" });
      await page.goto(`${world.stack.bitbucket}/${world.slug}${path}`);
      if (menu) {
        await page
          .getByRole("navigation", { name: menu, exact: true })
          .getByRole("link", { name: link ?? "", exact: true })
          .click();
      }
      const frame = framed(page, module);
      const root = frame.locator("html");
      await expect(frame.getByText(shows).first()).toBeVisible(patience);
      const backgrounds: string[] = [];
      for (const colorScheme of ["light", "dark"] as const) {
        // Bitbucket tells the frame at once; nothing is loaded again.
        await page.emulateMedia({ colorScheme });
        await expect(root).toHaveAttribute("data-color-mode", colorScheme);
        expect(await complaintsIn(page, module)).toEqual([]);
        backgrounds.push(await root.evaluate((element) => getComputedStyle(element).backgroundColor));
      }
      expect(new Set(backgrounds).size, "the colours differ").toBe(2);
      const overflow = await root.evaluate((element) => element.scrollWidth - element.clientWidth);
      expect(overflow, "the frame must not scroll sideways").toBe(0);
    });
  }
  expect(complaints).toEqual([]);
});
