import { execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type BrowserContext, expect, type Locator, type Page } from "@playwright/test";
import { type Authenticator, test as base } from "./fixtures.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const documents: Record<string, string> = JSON.parse(
  readFileSync(join(root, "frontend/packages/graph/src/generated/persisted-documents.json"), "utf8"),
);

/** Every operation that the pages send, by its name. */
export const operations = new Map(
  Object.entries(documents).map(([hash, text]) => {
    const [, kind = "", name = ""] = /(query|mutation|subscription) (\w+)/.exec(text) ?? [];
    return [name, { hash, kind }] as const;
  }),
);

/** The server and the simulated Bitbucket, with nothing of a story played yet. */
export class Stack {
  /** Where our server is. */
  readonly server: string;
  /** Where the simulated Bitbucket is. */
  readonly bitbucket: string;
  #made = 0;

  constructor(addresses: { server: string; bitbucket: string }) {
    this.server = addresses.server;
    this.bitbucket = addresses.bitbucket;
  }

  /** Does something at Bitbucket that a story takes for granted, by the simulator's control door. */
  async control<Answer = unknown>(name: string, body: unknown): Promise<Answer> {
    const response = await fetch(`${this.bitbucket}/sim/${name}`, { method: "POST", body: JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error(`/sim/${name}: ${JSON.stringify(answer)}`);
    return answer as Answer;
  }

  /**
   * A workspace of its own with people of its own, so that no test sees what another does. It can be given a name, once.
   */
  async newWorld(name?: string): Promise<World> {
    const label = name?.toLowerCase() ?? `acme-${process.pid}${this.#made++}`;
    const names = { alice: `alice-${label}`, bob: `bob-${label}`, carol: `carol-${label}` };
    const display = { alice: "Alice Moreau", bob: "Bob Tanaka", carol: "Carol Okafor" };
    for (const [who, nickname] of Object.entries(names)) {
      await this.control("people", { nickname, display_name: display[who as keyof typeof display] });
    }
    const slug = label;
    const { uuid } = await this.control<{ uuid: string }>("workspaces", {
      slug,
      name: name ?? label,
      premium: true,
      owners: [names.alice],
      members: [names.bob, names.carol],
    });
    const world = new World(this, slug, bare(uuid), names);
    await world.addRepository("web-shop", "Web Shop");
    return world;
  }
}

/** Bitbucket writes UUIDs in braces; addresses of ours have none. */
const bare = (uuid: string) => uuid.replace(/[{}]/g, "");

type Who = "alice" | "bob" | "carol";

/** One workspace: alice owns it, bob and carol may write. */
export class World {
  readonly stack: Stack;
  readonly slug: string;
  readonly uuid: string;
  /** The nicknames on Bitbucket. */
  readonly names: Record<Who, string>;
  readonly repositories = new Map<string, string>();

  constructor(stack: Stack, slug: string, uuid: string, names: Record<Who, string>) {
    this.stack = stack;
    this.slug = slug;
    this.uuid = uuid;
    this.names = names;
  }

  async addRepository(slug: string, name: string): Promise<void> {
    const { uuid } = await this.stack.control<{ uuid: string }>("repositories", {
      workspace: this.slug,
      slug,
      name,
      permissions: { [this.names.bob]: "write", [this.names.carol]: "write" },
      files: {
        "README.md": "# Web shop\n",
        "src/pay.ts": "export function pay(order: Order) {\n\tbank.charge(order.card, order.total());\n}\n",
      },
    });
    this.repositories.set(slug, bare(uuid));
    await this.push("release/1.0", {}, "alice", slug);
  }

  /** Pushes files to a branch, which begins at main where there is none. */
  async push(branch: string, files: Record<string, string>, who: Who = "alice", slug = "web-shop"): Promise<string> {
    const commit = { repository: `${this.slug}/${slug}`, branch, person: this.names[who], message: "Change", files };
    return (await this.stack.control<{ hash: string }>("commits", commit)).hash;
  }

  /** Opens a pull request of alice's, as she would. */
  async openPullRequest(title: string, source: string, destination = "release/1.0"): Promise<number> {
    const spec = { repository: `${this.slug}/web-shop`, author: this.names.alice, title, source, destination };
    return (await this.stack.control<{ id: number }>("pullrequests", spec)).id;
  }

  /** The address of a pull request's page on the simulated Bitbucket. */
  bitbucketPage(number: number): string {
    return `${this.stack.bitbucket}/${this.slug}/web-shop/pull-requests/${number}`;
  }

  /** The address of a page of ours about a pull request. */
  page(kind: "pr" | "sign", number: number): string {
    return `${this.stack.server}/${kind}/${this.uuid}/${this.repositories.get("web-shop")}/${number}`;
  }
}

/** Somebody at a browser of their own. */
export class Person {
  readonly world: World;
  readonly nickname: string;
  readonly context: BrowserContext;
  readonly #addAuthenticator: (page: Page) => Promise<Authenticator>;
  #passkeys: Awaited<ReturnType<Authenticator["credentials"]>> = [];

  constructor(
    world: World,
    who: Who,
    context: BrowserContext,
    addAuthenticator: (page: Page) => Promise<Authenticator>,
  ) {
    this.world = world;
    this.nickname = world.names[who];
    this.context = context;
    this.#addAuthenticator = addAuthenticator;
  }

  /** Signs in without looking: what the consent page would do. */
  async signIn(): Promise<void> {
    const { server } = this.world.stack;
    await this.#consent(`${server}/auth/sign-in?return_to=/`);
  }

  async #consent(address: string): Promise<void> {
    const asked = await this.context.request.get(address);
    expect(asked.ok(), await asked.text()).toBe(true);
    const form = { person: this.nickname, decision: "allow" };
    const answered = await this.context.request.post(asked.url(), { form });
    expect(answered.ok(), `${answered.url()}: ${await answered.text()}`).toBe(true);
  }

  /** Allows what Bitbucket's consent page asks. */
  async allow(page: Page): Promise<void> {
    await expect(page).toHaveURL(/\/site\/oauth2\/authorize/);
    await page.locator(`input[name=person][value="${this.nickname}"]`).check();
    await page.getByRole("button", { name: "Allow" }).click();
  }

  /** Logs in on the simulated Bitbucket by choosing who one is, where it asks. */
  async logIn(page: Page): Promise<void> {
    if (!page.url().includes("/account/signin")) return;
    await page.locator(`button[name=person][value="${this.nickname}"]`).click();
  }

  /** Opens a page of the simulated Bitbucket, logging in on the way where needed. */
  async openBitbucket(path: string): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(`${this.world.stack.bitbucket}/${this.world.slug}${path}`);
    await this.logIn(page);
    return page;
  }

  /** Sends one of the pages' own operations. */
  async ask<Data = Record<string, unknown>>(operation: string, variables: Record<string, unknown> = {}): Promise<Data> {
    const documentId = operations.get(operation)?.hash;
    const response = await this.context.request.post(`${this.world.stack.server}/graphql?${operation}`, {
      data: { documentId, variables },
      headers: { accept: "application/graphql-response+json" },
    });
    const answer = (await response.json()) as { data?: Data; errors?: unknown };
    if (!answer.data || answer.errors) throw new Error(`${operation}: ${JSON.stringify(answer)}`);
    return answer.data;
  }

  /** Connects the workspace and gates its repository; this person must administer it. */
  async gate(rule: Record<string, unknown> = {}): Promise<void> {
    const begun = await this.ask<{ beginConnect: { url: string } }>("BeginConnect", {
      input: { returnTo: "/settings/bitbucket" },
    });
    await this.#consent(begun.beginConnect.url);
    const granted = await this.ask<{ viewer: { grants: { id: string }[] } }>("Grants");
    const grantId = granted.viewer.grants[0]?.id;
    const connected = await this.ask<{ connectWorkspace: { workspace: { id: string } | null; userErrors: unknown[] } }>(
      "ConnectWorkspace",
      { input: { grantId, workspaceUuid: this.world.uuid } },
    );
    expect(connected.connectWorkspace.userErrors).toEqual([]);
    await this.saveRule(rule, connected.connectWorkspace.workspace?.id ?? "");
  }

  /** Installs the app in the workspace and gates its repository; this person must administer it. */
  async gateWithApp(rule: Record<string, unknown> = {}): Promise<void> {
    const { stack, slug } = this.world;
    await stack.control("forge/installations", { workspace: slug, person: this.nickname });
    let workspaceId: string | undefined;
    await expect(async () => {
      // Signing in tells us of this person's workspaces.
      await this.signIn();
      const asked = await this.ask<{ workspace: { id: string } | null }>("Repositories", { workspace: slug });
      workspaceId = asked.workspace?.id;
      expect(workspaceId).toBeDefined();
    }).toPass({ timeout: 60_000 });
    await this.saveRule(rule, workspaceId ?? "");
  }

  /** Saves the rule of the repository: two approvals into release branches, unless told otherwise. */
  async saveRule(rule: Record<string, unknown>, workspaceId: string): Promise<void> {
    const input = {
      workspaceId,
      repositoryUuid: this.world.repositories.get("web-shop"),
      rules: [
        {
          name: "Release branches",
          branches: ["release/*"],
          requirements: [{ name: "Approval", quorum: 2, everyone: true }],
          ...rule,
        },
      ],
    };
    const saved = await this.ask<{ saveRepository: { userErrors: unknown[] } }>("SaveRepository", { input });
    expect(saved.saveRepository.userErrors).toEqual([]);
  }

  /** Opens the sign page, with this person's passkeys at hand. */
  async openSignPage(number: number): Promise<Page> {
    const page = await this.context.newPage();
    await this.handPasskeys(page);
    await page.goto(this.world.page("sign", number));
    return page;
  }

  /** Puts this person's passkeys within reach of a page. */
  async handPasskeys(page: Page): Promise<Authenticator> {
    const authenticator = await this.#addAuthenticator(page);
    await authenticator.add(this.#passkeys);
    return authenticator;
  }

  /** Confirms a passkey that was made on a page with itself and, where it is asked for, with one that is there. */
  async confirmPasskey(page: Page, { own = false } = {}): Promise<void> {
    const patience = { timeout: 60_000 };
    await page.getByRole("button", { name: "Confirm with your new passkey" }).click(patience);
    if (own) await page.getByRole("button", { name: "Confirm with a passkey that you already have" }).click(patience);
  }

  /** Waits for what a decision comes to; who has no passkey yet confirms the one that is made on the way. */
  async awaitOutcome(page: Page, outcome: Locator): Promise<void> {
    const confirm = page.getByRole("button", { name: "Confirm with your new passkey" });
    await expect(confirm.or(outcome)).toBeVisible({ timeout: 60_000 });
    if (await confirm.isVisible()) await confirm.click();
    await expect(outcome).toBeVisible({ timeout: 60_000 });
  }

  /** Remembers the passkeys that were made or used on a page. */
  async keepPasskeys(authenticator: Authenticator): Promise<void> {
    this.#passkeys = await authenticator.credentials();
  }
}

interface TestFixtures {
  /** A workspace of the test's own. */
  world: World;
  /** Opens a browser for somebody of that workspace. */
  person: (who: Who) => Promise<Person>;
}

interface WorkerFixtures {
  stack: Stack;
}

/** How long the whole stack may take to build and start, in milliseconds. */
const startTime = 180_000;

async function start(): Promise<{ stack: Stack; stop: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "signedapproval-e2e-"));
  const program = join(folder, "demo");
  const addresses = join(folder, "addresses.json");
  await promisify(execFile)("go", ["build", "-o", program, "./demo"], { cwd: root });
  let output = "";
  const child = spawn(program, ["-hold", "-json", addresses, "-dir", join(folder, "run")], { cwd: root });
  child.stdout.on("data", (chunk) => (output += chunk));
  child.stderr.on("data", (chunk) => (output += chunk));
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + startTime;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the demo ended before it was up:\n${output}`);
    const text = await readFile(addresses, "utf8").catch(() => "");
    if (text) return { stack: new Stack(JSON.parse(text)), stop };
    if (Date.now() > deadline) {
      await stop();
      throw new Error(`the demo did not come up:\n${output}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Set to try whether the tests notice: the pages then get no event stream, and those in a frame do not ask again. */
const withoutLiveUpdates = process.env["WITHOUT_LIVE_UPDATES"] === "1";

export const test = base.extend<TestFixtures, WorkerFixtures>({
  stack: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright asks for an object pattern
    async ({}, use) => {
      const { stack, stop } = await start();
      await use(stack);
      await stop();
    },
    { scope: "worker", timeout: startTime },
  ],
  world: async ({ stack }, use) => {
    await use(await stack.newWorld());
  },
  person: async ({ browser, world, addAuthenticator, colorScheme }, use) => {
    const contexts: BrowserContext[] = [];
    await use(async (who) => {
      const context = await browser.newContext({ colorScheme: colorScheme ?? "light" });
      contexts.push(context);
      if (withoutLiveUpdates) {
        await withoutStreams(context);
        await withoutPolls(context);
      }
      return new Person(world, who, context, addAuthenticator);
    });
    for (const context of contexts) await context.close();
  },
});

/** Lets no event stream through. */
export async function withoutStreams(context: BrowserContext | Page): Promise<void> {
  await context.route(/\/graphql\?\w+Changed$/, (route) => route.abort());
}

/** Lets a page in Bitbucket's frame ask for a pull request once, and not again when no stream tells it of changes. */
export async function withoutPolls(context: BrowserContext | Page): Promise<void> {
  const asked = new Set<string>();
  await context.route(/\/forge\/frames\/[^/]+\/invoke$/, (route) => {
    const question = `${route.request().url()} ${route.request().postDataJSON().path}`;
    if (!question.endsWith("?Panel") || !asked.has(question)) {
      asked.add(question);
      return route.continue();
    }
    return route.fulfill({ status: 502, json: { error: "Invalid response from remote - remote network error" } });
  });
}
