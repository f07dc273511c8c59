import { violations } from "@signedapproval/ui/accessibility.ts";
import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";
import type { Report } from "./evidence.ts";
import type { Loaded } from "./load.ts";
import type { Checked } from "./messages.ts";
import { VerifyPage } from "./VerifyPage.tsx";
import type { Verifier } from "./verifier.ts";

const command = "go build -o verifier.wasm";

/** A file's name has the state in capitals; without one it is the report of a receipt. */
function verdictOf(name: string): Partial<Report> {
  const state = /[A-Z]{3,}/u.exec(name)?.[0];
  return {
    ...(state ? { verdict: { state } } : {}),
    ...(name.includes("violation") ? { violation: true } : {}),
    ...(name.includes("superseded") ? { closed: "superseded" } : {}),
  };
}

/** A verifier that takes a file's name for its content, and answers when it is told to. */
class Scripted implements Verifier {
  readonly go = "go1.26";
  readonly maxBundle = 1024;
  readonly asked: string[] = [];
  #waiting: (() => void)[] = [];
  held = false;

  sort = async (file: File) => {
    if (file.name === "folder") throw new Error("The browser could not read this file.");
    return file.name.startsWith("anchors") ? "anchors" : file.name.startsWith("bundle") ? "bundle" : "";
  };
  admit = async (file: File) => (file.name.includes("bad") ? "format must be something" : "");
  verify = async (file: File, anchors: File | null): Promise<Checked> => {
    this.asked.push(`${file.name} against ${anchors?.name ?? "nothing"}`);
    if (this.held) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const exitCode = Number(/\d/u.exec(file.name)?.[0] ?? 1);
    const report: Report = {
      steps: [
        { number: 1, name: "invented", result: "ok", detail: "a step that no page knows" },
        ...(file.name.includes("stolen")
          ? [{ number: 2, name: "tally", result: "failed", detail: "without it", code: "stolen_key" }]
          : []),
        ...(file.name.includes("going on") ? [{ number: 3, name: "verdict", result: "ok", detail: "as it was" }] : []),
        ...(exitCode === 1 && !file.name.includes("stolen alone")
          ? [{ number: 4, name: "broken", result: "failed", detail: "it broke\u202e", code: "odd" }]
          : []),
      ],
      facts: exitCode === 1 ? null : [{ name: "colour", value: "green", label: "guessed" }],
      missing: exitCode === 2 ? ["moonlight"] : null,
      ...verdictOf(file.name),
    };
    return {
      exitCode,
      sentence: `${file.name} ${anchors ? "anchored" : "loose"}`,
      report: JSON.stringify(report),
      sha256: "ab".repeat(32),
    };
  };

  letGo() {
    this.held = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

async function open() {
  const verifier = new Scripted();
  const loading: Promise<Loaded> = Promise.resolve({
    verifier,
    sha256: "cd".repeat(32),
    size: 7_000_000,
    address: "/assets/verify/verifier.wasm.gz",
  });
  const view = render(<VerifyPage loading={loading} command={command} />);
  await screen.findByRole("button", { name: "Choose bundles" });
  const [bundles, anchors] = Array.from(view.container.querySelectorAll<HTMLInputElement>("input[type=file]"));
  if (!bundles || !anchors) throw new Error("the page has no file inputs");
  const file = (name: string) => new File(["x"], name);
  const choose = async (input: HTMLInputElement, ...names: string[]) =>
    userEvent.upload(input, names.map(file), { applyAccept: false });
  return { verifier, bundles, anchors, choose, ...view };
}

describe("the verify page", () => {
  test("says what it is, and which verifier it runs", async () => {
    const { container } = await open();
    expect(screen.getByText("A convenience, not the reference")).toBeVisible();
    expect(screen.getByTestId("module")).toHaveTextContent("cd".repeat(32));
    expect(screen.getByText("7,000,000 bytes, go1.26")).toBeVisible();
    expect(screen.getByTestId("build")).toHaveTextContent(command);
    expect(await violations(container)).toEqual([]);
  });

  test("shows steps and facts that it has never heard of, and what is missing", async () => {
    const { bundles, choose, container } = await open();
    await choose(bundles, "bundle 2.json");
    const steps = await screen.findByRole("table", { name: "Steps of bundle 2.json" });
    expect(within(steps).getByRole("rowheader", { name: "invented" })).toBeVisible();
    const facts = screen.getByRole("table", { name: "Facts of bundle 2.json" });
    expect(within(facts).getByText("guessed")).toBeVisible();
    expect(screen.getByText("moonlight")).toBeVisible();
    expect(screen.getByText(/^Exit code 2: /)).toBeVisible();
    expect(await violations(container)).toEqual([]);
  });

  test("shows where a bundle failed, with characters that would not show", async () => {
    const { bundles, choose } = await open();
    await choose(bundles, "bundle 1.json");
    const steps = await screen.findByRole("table", { name: "Steps of bundle 1.json" });
    expect(within(steps).getByText("odd")).toBeVisible();
    expect(within(steps).getByTitle(/U\+202E/u)).toBeInTheDocument();
    expect(screen.getByText("The steps after it were not taken.")).toBeVisible();
    expect(screen.queryByRole("table", { name: /^Facts/ })).toBeNull();
    expect(screen.getByText(/^Exit code 1: /)).toBeVisible();
  });

  test.each(["bundle 1 stolen alone.json", "bundle 1 stolen alone, going on.json"])(
    "says of %s that nothing but a stolen key is wrong",
    async (name) => {
      const { bundles, choose, container } = await open();
      await choose(bundles, name);
      expect(await screen.findByText("Failed: stolen key")).toHaveClass("sa-lozenge--danger");
      expect(screen.getByText(/does not stand any more\..* No other step fails\.$/)).toBeVisible();
      expect(screen.queryByText(/proves nothing|were not taken/)).toBeNull();
      expect(await violations(container)).toEqual([]);
    },
  );

  test("says of a stolen key beside something else what is worse", async () => {
    const { bundles, choose } = await open();
    await choose(bundles, "bundle 1 stolen.json");
    expect(await screen.findByText(/This file proves nothing\.$/)).toBeVisible();
    expect(screen.getByText("The steps after it were not taken.")).toBeVisible();
  });

  test("an exit code that it does not know is none of success", async () => {
    const { bundles, choose } = await open();
    await choose(bundles, "bundle 7.json");
    expect(await screen.findByText("Exit code 7.")).toBeVisible();
    expect(screen.queryByText(/^Proved/)).toBeNull();
  });

  test.each([
    ["bundle 0 APPROVED.json", "Proved: approved", "success", /in what you gave\.$/],
    ["bundle 0 REJECTED.json", "Proved: rejected", "information", /the request is rejected: this is no approval\.$/],
    ["bundle 0 EXPIRED.json", "Proved: expired", "information", /this is no approval\.$/],
    ["bundle 0 OVERRIDDEN.json", "Proved: overridden", "information", /this is no approval\.$/],
    ["bundle 0 UNHEARD.json", "Proved: unheard", "information", /this is no approval\.$/],
    [
      "bundle 0 APPROVED violation.json",
      "Proved: approved, and a violation",
      "warning",
      /it does not speak for what landed\.$/,
    ],
    [
      "bundle 0 APPROVED superseded.json",
      "Proved: approved, then superseded",
      "information",
      /lets nothing through any more\.$/,
    ],
    ["bundle 0.json", "Proved: recorded", "information", /a decision is recorded, and not what became of it\.$/],
  ])("says of %s what was proved, and shows an approval alone as one", async (name, headline, tone, sentence) => {
    const { bundles, choose, container } = await open();
    await choose(bundles, name);
    const lozenge = await screen.findByText(headline);
    expect(lozenge).toHaveClass(`sa-lozenge--${tone}`);
    expect(screen.getByText(sentence)).toBeVisible();
    expect(screen.getByText(`1 file: 1 ${headline.toLowerCase()}.`)).toBeVisible();
    expect(container.querySelectorAll(".sa-lozenge--success, .sa-note--success").length > 1).toBe(tone === "success");
    expect(await violations(container)).toEqual([]);
  });

  test("checks everything again when the anchors change", async () => {
    const { bundles, anchors, choose, verifier } = await open();
    await choose(bundles, "bundle 2.json", "bundle 0.json");
    expect(await screen.findByText("2 files: 1 operator-asserted, 1 proved: recorded.")).toBeVisible();
    await choose(bundles, "anchors.json");
    expect(await screen.findByText(/anchors.json says that it is an anchors file/)).toBeVisible();
    expect(await screen.findByText("bundle 0.json anchored")).toBeVisible();
    await choose(anchors, "anchors two.json");
    expect(await screen.findByText("anchors two.json has taken the place of anchors.json.")).toBeVisible();
    await waitFor(() => expect(verifier.asked.at(-1)).toBe("bundle 0.json against anchors two.json"));
    await choose(anchors, "anchors bad.json");
    expect(await screen.findByText("format must be something")).toBeVisible();
    await waitFor(() => expect(verifier.asked.at(-1)).toBe("bundle 0.json against nothing"));
    await userEvent.click(screen.getByRole("button", { name: "Remove the anchors" }));
    expect(screen.queryByText("format must be something")).toBeNull();
  });

  test("leaves open what a reader opened when everything is checked again", async () => {
    const { bundles, anchors, choose } = await open();
    await choose(bundles, "bundle 2.json", "bundle 0.json");
    expect(await screen.findByText("2 files: 1 operator-asserted, 1 proved: recorded.")).toBeVisible();
    const details = (sentence: string) => screen.getByText(sentence).closest("details");
    expect(details("bundle 2.json loose")?.open).toBe(false);
    await userEvent.click(screen.getByText("bundle 2.json loose"));
    expect(details("bundle 2.json loose")?.open).toBe(true);
    await choose(anchors, "anchors.json");
    expect(await screen.findByText("bundle 0.json anchored")).toBeVisible();
    expect(details("bundle 2.json anchored")?.open).toBe(true);
    expect(details("bundle 0.json anchored")?.open).toBe(false);
  });

  test("never shows an answer that belongs to other anchors", async () => {
    const { bundles, anchors, choose, verifier } = await open();
    verifier.held = true;
    await choose(bundles, "bundle 0.json");
    await waitFor(() => expect(verifier.asked).toEqual(["bundle 0.json against nothing"]));
    await choose(anchors, "anchors.json");
    await screen.findByText("anchors.json");
    verifier.letGo();
    expect(await screen.findByText("bundle 0.json anchored")).toBeVisible();
    expect(verifier.asked).toEqual(["bundle 0.json against nothing", "bundle 0.json against anchors.json"]);
  });

  test("starts over, whatever is under way", async () => {
    const { bundles, choose, verifier } = await open();
    verifier.held = true;
    await choose(bundles, "bundle 0.json", "bundle 2.json");
    expect(await screen.findByLabelText("Checking file 1 of 2…")).toBeInTheDocument();
    await userEvent.click(screen.getByRole("button", { name: "Start over" }));
    expect(screen.getByRole("button", { name: "Choose bundles" })).toHaveFocus();
    verifier.letGo();
    await choose(bundles, "bundle 1.json");
    expect(await screen.findByText("1 file: 1 failed.")).toBeVisible();
    expect(verifier.asked).toEqual(["bundle 0.json against nothing", "bundle 1.json against nothing"]);
  });

  test("says of each file why it was not checked", async () => {
    const { bundles } = await open();
    const large = new File([new Uint8Array(1025)], "bundle large.json");
    await userEvent.upload(bundles, [large, new File([], "folder")], { applyAccept: false });
    expect(await screen.findByText("2 files: 2 not checked.")).toBeVisible();
    expect(screen.getByText(/1,025 bytes, and a file may have 1,024 bytes at most/)).toBeVisible();
    expect(screen.getByText("The browser could not read this file.")).toBeVisible();
  });

  test("says that the verifier could not be loaded", async () => {
    const loading = Promise.reject(new Error("The server answered 503 for the verifier."));
    render(<VerifyPage loading={loading} command={command} />);
    expect(await screen.findByRole("alert")).toHaveTextContent("The server answered 503 for the verifier.");
    expect(screen.getByText(/signedapproval verify bundle.json/)).toBeVisible();
  });
});
