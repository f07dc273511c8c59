import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, type Page } from "@playwright/test";
import { test as base } from "./stack.ts";
import { violationsOn } from "./violations.ts";

// The page on which anybody can have evidence checked, as the server serves it. The bundles are the published vectors, and
// what the page must say of them stands in their files.

const root = fileURLToPath(new URL("../../", import.meta.url));
const vectors = join(root, "server/evidence/testdata/vectors/bundles");
const run = promisify(execFile);

interface Vector {
  exitCode: number;
  step?: string;
  sentence: string;
  anchors: Record<string, unknown>;
  bundle: string;
}

const vector = (name: string): Vector => JSON.parse(readFileSync(join(vectors, name), "utf8"));
const good = vector("good-approved.json");
const bad = vector("bad-a-replayed-assertion.json");
/** What the page calls the exit code. */
const called = ({ exitCode }: Vector) => ["proved: approved", "failed", "operator-asserted"][exitCode];
const anchorsOf = ({ anchors }: Vector) => JSON.stringify({ format: "signedapproval.anchors/v1", ...anchors });

interface Fixtures {
  /** A folder of the test's own. */
  folder: string;
  /** Writes a file there and returns its path. */
  put: (name: string, content: string | Uint8Array) => string;
  /** What the browser refused the page; there must be nothing when a test ends. */
  complaints: string[];
}

const test = base.extend<Fixtures>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright asks for an object pattern
  folder: async ({}, use) => {
    const folder = mkdtempSync(join(tmpdir(), "signedapproval-verify-"));
    await use(folder);
    rmSync(folder, { recursive: true, force: true });
  },
  put: async ({ folder }, use) => {
    await use((name, content) => {
      const path = join(folder, name);
      writeFileSync(path, content);
      return path;
    });
  },
  // biome-ignore lint/correctness/noEmptyPattern: Playwright asks for an object pattern
  complaints: async ({}, use) => {
    await use([]);
  },
  page: async ({ page, stack, complaints }, use) => {
    page.on("console", (message) => {
      if (/Content Security Policy|Trusted ?Type/iu.test(message.text())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    // Somebody listens from the start: whether the browser opens its own chooser is decided before a key is pressed.
    page.on("filechooser", () => {});
    await page.goto(`${stack.server}/verify`);
    await expect(page.getByRole("button", { name: "Choose bundles" })).toBeVisible({ timeout: 60_000 });
    await use(page);
    expect(complaints).toEqual([]);
  },
});

// Some of these compile a program, and some check the largest file that there may be.
test.describe.configure({ timeout: 180_000 });

/** Drags files from the desktop over the page and lets go of them there. */
async function drop(page: Page, ...files: string[]) {
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"] as const) {
    await session.send("Input.dispatchDragEvent", { type, x: 200, y: 200, data });
  }
  await session.detach();
}

/** Chooses files with a button of the page. */
async function choose(page: Page, button: string, files: string | string[]) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: button }).click();
  await (await chooser).setFiles(files);
}

const result = (page: Page, file: string) =>
  page.getByRole("listitem").filter({ has: page.getByRole("heading", { name: file, exact: true }) });

test("bundle and anchors that are dropped are checked offline, and nothing is sent", async ({ page, put, folder }) => {
  const requests: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.context().setOffline(true);
  const bundle = put("evidence.json", good.bundle);
  const anchors = put("anchors.json", anchorsOf(good));

  await drop(page, bundle, anchors);

  await expect(page.getByText(good.sentence).first()).toBeVisible();
  await expect(page.getByText(`Exit code ${good.exitCode}: `)).toBeVisible();
  await expect(page.getByRole("button", { name: "Remove the anchors" })).toBeVisible();

  // The command line is the reference: the report is its own, and so is everything on the page.
  const program = join(folder, "signedapproval");
  await run("go", ["build", "-o", program, "./server"], { cwd: root });
  const reference = await run(program, ["verify", "--json", "--anchors", anchors, bundle]).catch(
    (error: { code: number; stdout: string }) => error,
  );
  expect("code" in reference ? reference.code : 0).toBe(good.exitCode);
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download the report" }).click();
  expect((await download).suggestedFilename()).toBe("evidence.report.json");
  const report = readFileSync(await (await download).path(), "utf8");
  expect(report).toBe(reference.stdout);

  const { steps, facts, missing } = JSON.parse(report);
  const rows = (caption: string) =>
    page.getByRole("table", { name: caption }).locator("tbody").getByRole("row").allInnerTexts();
  const inRow = (row: string) => row.split(/\s*\t\s*/u);
  const asSteps = (await rows("Steps of evidence.json")).map(inRow);
  expect(asSteps).toEqual(
    steps.map((step: Record<string, unknown>) => [
      String(step["number"]),
      step["name"],
      step["result"],
      step["detail"],
    ]),
  );
  const asFacts = (await rows("Facts of evidence.json")).map(inRow);
  expect(asFacts).toEqual(facts.map((fact: Record<string, unknown>) => [fact["label"], fact["name"], fact["value"]]));
  for (const anchor of missing ?? [])
    await expect(page.getByRole("listitem").getByText(anchor, { exact: true })).toBeVisible();
  expect(createHash("sha256").update(good.bundle).digest("hex"), "the sum beside the file is the file's").toBe(
    await page.locator("dt", { hasText: "SHA-256 of the file" }).locator("+ dd code").textContent(),
  );

  expect(requests.filter((address) => !address.startsWith("blob:"))).toEqual([]);
});

test("neither the page nor its worker can reach anything once it has loaded", async ({ page, stack, complaints }) => {
  /** What of the policy kept an address from being asked. */
  const refusal = (address: string) =>
    new Promise<string>((resolve) => {
      addEventListener("securitypolicyviolation", ({ effectiveDirective, originalPolicy }) =>
        resolve(`${effectiveDirective} by ${originalPolicy}`),
      );
      fetch(address).then(
        () => resolve("none: it was reached"),
        () => {},
      );
    });
  expect(await page.evaluate(refusal, `${stack.server}/livez`)).toContain("connect-src by default-src 'none'");
  const [worker] = page.workers();
  expect(await worker?.evaluate(refusal, `${stack.server}/livez`)).toContain("connect-src by default-src 'none'");
  // The page's own console says it too, each time.
  complaints.length = 0;
});

test("it is served to anybody, framed by nobody, and alone may compile WebAssembly", async ({ stack, request }) => {
  const policy = async (path: string) => (await request.get(stack.server + path)).headers()["content-security-policy"];
  const verify = (await policy("/verify")) ?? "";
  expect(verify).toContain("script-src 'self' 'wasm-unsafe-eval';");
  expect(verify).toContain("frame-ancestors 'none'");
  expect(verify).not.toMatch(/unsafe-inline|unsafe-eval'(?<!wasm-unsafe-eval')|https?:|\*/u);
  for (const path of ["/", "/verify/", "/sign/a/b/1", "/pr/a/b/1"]) {
    expect(await policy(path), path).not.toContain("wasm");
  }
});

test("several bundles have a verdict each, and start again when the anchors change", async ({ page, put }) => {
  const bundles = [put("good.json", good.bundle), put("bad.json", bad.bundle), put("none.json", "no evidence")];
  await choose(page, "Choose bundles", bundles);
  await expect(page.getByRole("status").getByText("3 files: 1 operator-asserted, 2 failed.")).toBeVisible();
  await expect(result(page, "bad.json")).toContainText(bad.sentence);
  await expect(result(page, "none.json")).toContainText("FAILED at step 1 (bundle): ");
  await expect(result(page, "good.json")).toContainText("Exit code 2: ");
  await expect(page.getByRole("table", { name: "Steps of" })).toHaveCount(0);
  await result(page, "bad.json").locator("summary").click();
  await expect(result(page, "bad.json").getByText("The steps after it were not taken.")).toBeVisible();

  // The anchors are recognised where they were not meant to be.
  await choose(page, "Choose bundles", put("my anchors.json", anchorsOf(good)));
  await expect(page.getByText("my anchors.json says that it is an anchors file: it was put there.")).toBeVisible();
  await expect(result(page, "good.json")).toContainText(good.sentence);
  await expect(page.getByRole("status").getByText(`3 files: 1 ${called(good)}, 2 failed.`)).toBeVisible();

  await page.getByRole("button", { name: "Remove the anchors" }).click();
  await expect(page.getByRole("status").getByText("3 files: 1 operator-asserted, 2 failed.")).toBeVisible();
  await expect(result(page, "good.json")).toContainText("Exit code 2: ");

  await choose(
    page,
    "Choose an anchors file",
    put("broken.json", '{"format":"signedapproval.anchors/v1","relyingParties":"x"}'),
  );
  await expect(page.getByRole("alert")).toContainText("not an anchors document");

  await page.getByRole("button", { name: "Start over" }).click();
  await expect(page.getByRole("heading", { name: /Results?/ })).toHaveCount(0);
  await expect(page.getByRole("alert")).toHaveCount(0);
  await expect(page.getByRole("button", { name: "Choose bundles" })).toBeFocused();
});

test("a receipt is checked as what it is, wherever it is put", async ({ page, put }) => {
  const documents: { kind: string; name: string; document: string; anchors: Record<string, unknown> }[] = JSON.parse(
    readFileSync(join(vectors, "../documents.json"), "utf8"),
  );
  const receipt = documents.find(({ kind, name }) => kind === "receipt" && name === "good");
  if (!receipt) throw new Error("the vectors have no good receipt");
  await choose(page, "Choose an anchors file", put("receipt.json", receipt.document));
  await expect(page.getByText("receipt.json says that it is a receipt: it was put there.")).toBeVisible();
  await expect(result(page, "receipt.json")).toContainText("RECORDED: the decision over the statement ");
  await expect(page.getByText("Exit code 2: ")).toBeVisible();
  const anchors = JSON.stringify({ format: "signedapproval.anchors/v1", ...receipt.anchors });
  await drop(page, put("anchors.json", anchors));
  await expect(page.getByText("Exit code 0: ")).toBeVisible();
  await expect(page.getByRole("status").getByText("1 file: 1 proved: recorded.")).toBeVisible();
  await expect(page.getByRole("table", { name: "Steps of receipt.json" }).locator("tbody tr")).toHaveCount(3);
  expect(await violationsOn(page)).toEqual([]);
  await page.screenshot({ path: test.info().outputPath("receipt.png"), fullPage: true });
});

test("what is proved is said, and only an approval looks like one", async ({ page, put }) => {
  const shown = {
    approved: "good-approved",
    rejected: "good-rejected",
    pending: "good-pending",
    overridden: "good-overridden",
  };
  for (const [state, name] of [
    ...Object.entries(shown),
    ["approved, and a violation", "good-approved-too-late"] as const,
  ]) {
    const { bundle, sentence, ...of } = vector(`${name}.json`);
    await choose(page, "Choose bundles", [
      put(`${name}.json`, bundle),
      put("anchors.json", anchorsOf({ bundle, sentence, ...of })),
    ]);
    const headline = result(page, `${name}.json`).getByText(`Proved: ${state}`, { exact: true });
    await expect(headline).toBeVisible();
    if (state === "approved") await expect(headline).toHaveClass(/--success/u);
    else await expect(headline).not.toHaveClass(/--success/u);
    await expect(page.getByRole("status").getByText(`1 file: 1 proved: ${state}.`)).toBeVisible();
    expect(await violationsOn(page)).toEqual([]);
    await page.screenshot({ path: test.info().outputPath(`${name}.png`) });
    await page.getByRole("button", { name: "Start over" }).click();
  }
});

test("a file beyond the limit is refused unread, and the largest does not hold up the page", async ({ page, put }) => {
  const limit = 32 * 1024 * 1024;
  const large = Buffer.alloc(limit + 1, "x");
  await choose(page, "Choose bundles", put("too large.json", large));
  await expect(result(page, "too large.json")).toContainText("a file may have 33,554,432 bytes at most");

  const name = '{"format":"signedapproval.bundle/v1","x":"';
  large.write(name);
  large.write('"}', limit - 2);
  await choose(page, "Choose bundles", put("large.json", large.subarray(0, limit)));
  // The page answers while the worker is busy, and what was begun before is not shown after.
  await expect(result(page, "large.json")).toContainText("Checking…");
  await page.getByRole("button", { name: "Start over" }).click();
  await expect(page.getByRole("heading", { name: "large.json", exact: true })).toHaveCount(0);
  await choose(page, "Choose bundles", put("good.json", good.bundle));
  await expect(result(page, "good.json")).toContainText("APPROVED", { timeout: 60_000 });
  await expect(page.getByRole("heading", { name: "large.json", exact: true })).toHaveCount(0);
  await choose(page, "Choose bundles", put("large.json", large.subarray(0, limit)));
  await expect(result(page, "large.json")).toContainText("FAILED at step 1 (bundle): ", { timeout: 60_000 });
});

test("a file on which the verifier stops does not keep it from the next", async ({ page, put }) => {
  const deep = put("deep.json", "[".repeat(9_000) + "]".repeat(9_000));
  await choose(page, "Choose bundles", [deep, put("good.json", good.bundle)]);
  await expect(result(page, "good.json")).toContainText("APPROVED");
  await expect(result(page, "deep.json")).toContainText(/Not checked|Failed/u);
});

test("names of files and people show what they hold", async ({ page, put }) => {
  await choose(page, "Choose bundles", put("evil\u202egnp.json", good.bundle));
  await expect(page.getByRole("status").getByText("1 file: 1 operator-asserted.")).toBeVisible();
  await expect(page.locator("mark").first()).toBeVisible();
});

test("the keyboard is enough", async ({ page, put }) => {
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Choose bundles" })).toBeFocused();
  let chooser = page.waitForEvent("filechooser");
  await page.keyboard.press("Enter");
  await (await chooser).setFiles([put("good.json", good.bundle), put("bad.json", bad.bundle)]);
  await expect(page.getByRole("status").getByText("2 files: ")).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Choose an anchors file" })).toBeFocused();
  chooser = page.waitForEvent("filechooser");
  await page.keyboard.press("Space");
  await (await chooser).setFiles(put("anchors.json", anchorsOf(good)));
  await expect(page.getByRole("status").getByText("2 files: 1 proved: approved, 1 failed.")).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Remove the anchors" })).toBeFocused();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Start over" })).toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("table", { name: "Steps of good.json" })).toBeVisible();
  const download = page.getByRole("button", { name: "Download the report" });
  for (let i = 0; i < 4; i++) await page.keyboard.press("Tab");
  await expect(download).toBeFocused();
  const downloaded = page.waitForEvent("download");
  await page.keyboard.press("Enter");
  expect((await downloaded).suggestedFilename()).toBe("good.report.json");
});

for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [1280, 360]) {
    test(`results can be read by everybody, ${colorScheme}, ${width} wide`, async ({ page, put }) => {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 900 });
      await choose(page, "Choose bundles", put("good.json", good.bundle));
      await expect(page.getByRole("table")).toHaveCount(2);
      expect(await violationsOn(page)).toEqual([]);
      await choose(page, "Choose bundles", [put("bad.json", bad.bundle), put("none.json", "")]);
      await choose(page, "Choose an anchors file", put("anchors.json", "{}"));
      await result(page, "bad.json").locator("summary").click();
      await expect(page.getByRole("table")).toHaveCount(1);
      expect(await violationsOn(page)).toEqual([]);
      const overflow = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      expect(overflow, "the page must not scroll sideways").toBe(0);
    });
  }
}

test("every vector comes out in the browser as its file says", async ({ page, put }) => {
  const names = readdirSync(vectors).filter((name) => name.endsWith(".json"));
  for (const name of names) {
    const want = vector(name);
    await choose(page, "Choose bundles", [put(name, want.bundle), put("anchors.json", anchorsOf(want))]);
    const { exitCode, sentence } = want;
    await expect(result(page, name), name).toContainText(sentence);
    await expect(page.getByText(`Exit code ${exitCode}: `), name).toBeVisible();
    await page.getByRole("button", { name: "Start over" }).click();
  }
  expect(names.length).toBeGreaterThan(20);
});

test("the module is that of the source, wherever it is built", async ({ page, folder }) => {
  const { address, sum } = {
    address: await page.evaluate(
      () => performance.getEntriesByType("resource").find(({ name }) => name.includes(".wasm"))?.name ?? "",
    ),
    sum: await page.getByTestId("module").textContent(),
  };
  expect(address).toContain("/assets/verify/");
  for (const path of ["go.mod", "go.sum", "server", "frontend/apps/verify/wasm"]) {
    cpSync(join(root, path), join(folder, path), { recursive: true });
  }
  // What the page tells the reader to do, word by word.
  const command = (await page.getByTestId("build").textContent()) ?? "";
  await run("sh", ["-euc", command], { cwd: folder });
  expect(
    createHash("sha256")
      .update(readFileSync(join(folder, "verifier.wasm")))
      .digest("hex"),
  ).toBe(sum);
});
