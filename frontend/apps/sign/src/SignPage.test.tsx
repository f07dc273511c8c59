import { openGraph } from "@signedapproval/graph/client";
import {
  alice,
  bob,
  carol,
  decision,
  head,
  olderHead,
  passkey,
  place,
  pullRequest,
  request,
  requirement,
  rule,
  server,
  viewer,
  viewerCan,
  world,
} from "@signedapproval/graph/fixtures";
import { MockApi } from "@signedapproval/graph/mockapi";
import { GraphProvider } from "@signedapproval/graph/provider";
import { violations } from "@signedapproval/ui/accessibility.ts";
import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { documentOf, enrolOf, keyAct, registered } from "./actfixture.ts";
import { hex, sha256 } from "./bytes.ts";
import { keepMade } from "./made.ts";
import { canonical } from "./prepared.ts";
import { SignPage } from "./SignPage.tsx";
import { prepared, shown, statementOf, times } from "./statementfixture.ts";

const diffText = `diff --git a/src/pay.ts b/src/pay.ts
index 1c2d3e4..5f6a7b8 100644
--- a/src/pay.ts
+++ b/src/pay.ts
@@ -1 +1 @@
-old
+if (admin\u202e) pay();
diff --git a/logo.png b/logo.png
index 1..2 100644
Binary files a/logo.png and b/logo.png differ
`;
const diffBytes = new TextEncoder().encode(diffText);
const diffSha256 = hex(await sha256(diffBytes));
const diff = {
  content: Buffer.from(diffBytes).toString("base64"),
  sha256: diffSha256,
  size: diffBytes.length,
  headCommit: head,
  destinationCommit: olderHead,
  mergeBases: [olderHead],
};
const what = shown({ diffSha256, diffSize: diffBytes.length });
const made = await registered();
const enrols = await enrolOf(await documentOf("person-carol"));

/** A browser with passkeys: each ceremony is answered, or refused with the error that is set. */
class Authenticator {
  created = 0;
  signed: unknown[] = [];
  refuse: { create?: DOMException; get?: DOMException } = {};

  install() {
    class Key {
      readonly answer: unknown;
      constructor(answer: unknown) {
        this.answer = answer;
      }
      toJSON() {
        return this.answer;
      }
      static parseCreationOptionsFromJSON = (options: unknown) => options;
      static parseRequestOptionsFromJSON = (options: unknown) => options;
    }
    vi.stubGlobal("PublicKeyCredential", Key);
    vi.stubGlobal("isSecureContext", true);
    const credentials = {
      create: async () => {
        if (this.refuse.create) throw this.refuse.create;
        this.created++;
        return new Key(made.response);
      },
      get: async ({ publicKey }: { publicKey: unknown }) => {
        if (this.refuse.get) throw this.refuse.get;
        this.signed.push(publicKey);
        return new Key({ id: "signed" });
      },
    };
    Object.defineProperty(navigator, "credentials", { value: credentials, configurable: true });
    Object.defineProperty(navigator, "userActivation", { value: { isActive: true }, configurable: true });
  }
}

let authenticator: Authenticator;
beforeEach(() => {
  authenticator = new Authenticator();
  authenticator.install();
  window.localStorage.clear();
});
afterEach(() => {
  vi.unstubAllGlobals();
  Reflect.deleteProperty(navigator, "credentials");
});

interface Setup {
  request?: Record<string, unknown>;
  viewer?: Record<string, unknown>;
  query?: Record<string, unknown>;
}

async function open({ request: like = {}, viewer: who = {}, query = {} }: Setup = {}) {
  const asked = request({ decisions: [], diff, ...like });
  const api = new MockApi(
    world({
      viewer: viewer(who),
      server: server({ origin: window.location.origin }),
      pullRequest: pullRequest({ request: asked }),
      node: () => asked,
      ...query,
    }),
  );
  const statement = await statementOf({ ...what, origin: window.location.origin });
  api.world.Mutation = {
    prepareDecision: async () => ({
      ...(await prepared(statement)),
      expiresAt: "2026-11-22T10:05:00Z",
      userErrors: [],
    }),
    submitDecision: async () => ({
      decision: decision({
        id: "made",
        action: "APPROVE",
        account: carol,
        statementSha256: hex(await sha256(new TextEncoder().encode(canonical(statement)))),
      }),
      request: request({
        state: "APPROVED",
        sentence: "approved by Bob Tanaka and Carol Okafor",
        viewerCan: viewerCan({ approve: false, reject: true, withdraw: true }),
      }),
      userErrors: [],
    }),
    beginPasskey: { options: "{}", userErrors: [] },
    finishPasskey: async () => ({
      passkey: passkey({ id: "passkey-2", state: "UNCONFIRMED" }),
      act: await keyAct("NEW_KEY", enrols),
      userErrors: [],
    }),
    continuePasskey: async () => ({
      passkey: passkey({ id: "passkey-2", state: "UNCONFIRMED" }),
      act: await keyAct("NEW_KEY", enrols),
      userErrors: [],
    }),
    confirmPasskey: { passkey: passkey({ id: "passkey-2" }), act: null, userErrors: [] },
    reportLostPasskeys: { passkeys: [passkey({ state: "REVOKED" })], userErrors: [] },
  };
  const view = render(
    <GraphProvider graph={openGraph({ fetch: api.fetch })}>
      <SignPage location={{ pathname: `/sign/${place}`, search: "" }} />
    </GraphProvider>,
  );
  return { api, ...view };
}

async function press(name: string) {
  const button = await screen.findByRole("button", { name });
  await vi.waitFor(() => expect(button).toBeEnabled(), { timeout: 10_000 });
  await userEvent.click(button);
}

const operations = (api: MockApi) => api.calls.map((call) => call.operation);

describe("what is shown", () => {
  test("everything that is signed", async () => {
    const { container } = await open({ request: { decisions: [decision({ comment: "Looks right." })] } });
    const title = "Check the coupon before the payment";
    expect(await screen.findByRole("heading", { level: 1, name: title })).toBeVisible();
    expect(screen.getByText("acme/web-shop")).toBeVisible();
    expect(screen.getByText("Alice Moreau")).toBeVisible();
    expect(screen.getByText("feature/coupon-check")).toBeVisible();
    expect(screen.getByText("release/1.0")).toBeVisible();
    expect(container.querySelector(".sign__commit code")?.textContent).toBe(head);
    expect(screen.getByText(/2 people with write permission must approve/)).toBeVisible();
    expect(screen.getByText("Looks right.")).toBeVisible();
    expect(await screen.findByText("2 files changed")).toBeVisible();
    expect(screen.getByText(carol.accountId)).toBeVisible();
    const file = screen.getByRole("region", { name: "src/pay.ts" });
    expect(within(file).getByTitle("right-to-left override (U+202E)")).toBeVisible();
    expect(screen.getByText("1 character that does not show")).toBeVisible();
    expect(screen.getAllByText("Binary: its contents cannot be shown as text.")[0]).toBeVisible();
    expect(await violations(container)).toEqual([]);
  });

  test("a long file is folded with a count, and can be unfolded", async () => {
    const lines = Array.from({ length: 1_234 }, (_, index) => `+line ${index}`).join("\n");
    const text = `diff --git a/a b/a\nnew file mode 100644\nindex 0..1\n--- /dev/null\n+++ b/a\n@@ -0,0 +1,1234 @@\n${lines}\n`;
    const bytes = Buffer.from(text);
    const long = {
      ...diff,
      content: bytes.toString("base64"),
      size: bytes.length,
      sha256: hex(await sha256(new Uint8Array(bytes))),
    };
    await open({ request: { diff: long } });
    expect(await screen.findByText("1,234 lines are folded.")).toBeVisible();
    expect(screen.queryByText("line 1233")).toBeNull();
    await userEvent.click(screen.getByRole("button", { name: "Show 1,234 lines" }));
    expect(screen.getByText("line 1233")).toBeVisible();
  });

  test("bytes that do not have the digest that was given for them are refused", async () => {
    await open({ request: { diff: { ...diff, sha256: "0".repeat(64) } } });
    expect(await screen.findByRole("alert")).toHaveTextContent("The bytes that arrived do not have the digest");
    expect(screen.getByRole("button", { name: "Approve" })).toBeDisabled();
  });

  test("a change that cannot be read can be asked for again", async () => {
    const { api } = await open();
    api.refuse("Change", "BITBUCKET_UNAVAILABLE", "Bitbucket did not answer.", 200);
    expect(await screen.findByRole("alert")).toHaveTextContent("Could not read the change");
    expect(screen.getByRole("button", { name: "Approve" })).toBeDisabled();
    api.release("Change");
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByText("2 files changed")).toBeVisible();
  });

  test("an empty change is told as one", async () => {
    const nothing = { ...diff, content: "", size: 0, sha256: hex(await sha256(new Uint8Array())) };
    await open({ request: { diff: nothing } });
    expect(await screen.findByText("The commit changes no file.")).toBeVisible();
  });
});

describe("who may not", () => {
  test("somebody who is not signed in is led to sign in and back", async () => {
    const { api } = await open();
    api.refuse("Sign", "UNAUTHENTICATED", "Sign in first.", 401);
    expect(await screen.findByRole("link", { name: "Sign in with Bitbucket" })).toBeVisible();
  });

  test("a pull request that may not be seen is not found", async () => {
    await open({ query: { pullRequest: null } });
    expect(await screen.findByText(/your Bitbucket account may not see it/)).toBeVisible();
  });

  test("the author is told why", async () => {
    const can = viewerCan({ approve: false, reject: false, code: "AUTHOR", reason: "You are the author." });
    await open({ request: { viewerCan: can } });
    expect(await screen.findByText("You are the author.")).toBeVisible();
    expect(screen.queryByRole("button", { name: "Approve" })).toBeNull();
  });

  test("nothing is asked for", async () => {
    await open({ query: { pullRequest: pullRequest({ request: null, sentence: "no rule asks for approvals" }) } });
    expect(await screen.findByText("no rule asks for approvals")).toBeVisible();
  });
});

describe("a rule that asks something of keys", () => {
  const aaguid = "11111111-2222-3333-4444-555555555555";
  const unknown = "22222222-2222-3333-4444-555555555555";
  const sentence = "Carol Okafor approved with a key that nobody has countersigned";
  const ignored = { account: carol, code: "LOGIN_ONLY_KEY", sentence };

  test("says so before anything is signed", async () => {
    const models = [
      { aaguid, description: "Example Key" },
      { aaguid: unknown, description: null },
    ];
    const { container } = await open({ request: { rule: rule({ keys: { countersigned: true, models } }) } });
    expect(await screen.findByText(/count only with a passkey that somebody else vouched for/)).toBeVisible();
    expect(screen.getByText(/proved to be of the model/)).toHaveTextContent(`the model Example Key or ${unknown}.`);
    expect(await violations(container)).toEqual([]);
  });

  test("tells the viewer once that their key falls short", async () => {
    const { container } = await open({
      request: {
        requirements: [requirement({ ignored: [ignored] }), requirement({ name: "Security", ignored: [ignored] })],
      },
    });
    const note = await screen.findByRole("alert");
    expect(note).toHaveTextContent("Your decision is recorded, but it does not count");
    expect(within(note).getAllByText(`${sentence}.`)).toHaveLength(1);
    expect(await violations(container)).toEqual([]);
  });

  test.each([
    ["another person's key", { ...ignored, account: bob }],
    ["what is not for the key", { ...ignored, code: "NOT_AN_APPROVER" }],
  ])("says nothing of %s", async (_, decision) => {
    await open({ request: { requirements: [requirement({ ignored: [decision] })] } });
    expect(await screen.findByRole("button", { name: "Approve" })).toBeVisible();
    expect(screen.queryByText(/it does not count/)).toBeNull();
  });
});

describe("a key that the rule does not take", () => {
  const keyProblem = { code: "NO_PASSKEY", sentence: "This rule counts only passkeys of the model Example Key." };

  test("is told before anything is signed, with the way to the keys", async () => {
    const { container } = await open({ request: { keyProblem } });
    expect(await screen.findByText("No passkey of yours would count")).toBeVisible();
    expect(screen.getByText(keyProblem.sentence)).toBeVisible();
    expect(screen.getByRole("link", { name: "Your passkeys" })).toHaveAttribute("href", "/settings/passkeys");
    expect(screen.getByRole("button", { name: "Approve" })).toBeVisible();
    expect(authenticator.signed).toEqual([]);
    expect(await violations(container)).toEqual([]);
  });

  test("is nothing to somebody who can only withdraw", async () => {
    await open({ request: { keyProblem, viewerCan: viewerCan({ approve: false, reject: false, withdraw: true }) } });
    expect(await screen.findByRole("button", { name: "Withdraw my decision" })).toBeVisible();
    expect(screen.queryByText(keyProblem.sentence)).toBeNull();
  });
});

describe("overriding", () => {
  const can = viewerCan({
    approve: false,
    reject: false,
    code: "NOT_APPROVER",
    reason: "This rule does not ask for your approval.",
    override: true,
    overrideCode: "",
    overrideReason: "",
  });
  const override = { quorum: 2, missing: 1, overriddenBy: [bob], canStillOverride: [carol, alice], ignored: [] };

  test("is not offered where it cannot be done", async () => {
    await open({ request: { override, viewerCan: viewerCan() } });
    expect(await screen.findByRole("button", { name: "Approve" })).toBeVisible();
    expect(screen.queryByRole("button", { name: "Override" })).toBeNull();
    expect(screen.getByText("An override waits").closest(".sa-note")).toHaveTextContent(
      "Bob Tanaka wants the rule overridden for this commit. It takes 2 people; 1 more has to sign it too: Alice Moreau can.",
    );
  });

  test("needs a reason, which is part of what is signed", async () => {
    const { api, container } = await open({ request: { override, viewerCan: can } });
    const reason = "The site is down.";
    const says = shown({ ...what, origin: window.location.origin, action: "OVERRIDE", comment: reason });
    const statement = await statementOf(says);
    api.world.Mutation = {
      prepareDecision: async () => ({
        ...(await prepared(statement)),
        expiresAt: "2026-11-22T10:05:00Z",
        userErrors: [],
      }),
      submitDecision: async () => ({
        decision: decision({
          id: "made",
          action: "OVERRIDE",
          account: carol,
          comment: reason,
          statementSha256: hex(await sha256(new TextEncoder().encode(canonical(statement)))),
        }),
        request: request({
          state: "OVERRIDDEN",
          sentence: "overridden by Bob Tanaka and Carol Okafor; 0 of 2 approvals",
          viewerCan: viewerCan({ approve: false, reject: false, withdraw: true }),
        }),
        userErrors: [],
      }),
    };
    const section = await screen.findByRole("region", { name: "Override the rule" });
    expect(section).toHaveTextContent(
      "without the approvals that the rule asks for. It is recorded and shown for ever.",
    );
    expect(section).toHaveTextContent(
      "Bob Tanaka wants the rule overridden for this commit. It takes 2 people; 1 more has",
    );
    expect(screen.getByText("This rule does not ask for your approval.")).toBeVisible();
    await screen.findByText("2 files changed");
    const button = within(section).getByRole("button", { name: "Override" });
    expect(button).toBeDisabled();
    await userEvent.type(within(section).getByLabelText("Reason"), "   ");
    expect(button).toBeDisabled();
    await userEvent.type(within(section).getByLabelText("Reason"), reason);
    expect(await violations(container)).toEqual([]);
    await press("Override");
    expect(await screen.findByText("You overrode the rule for this commit")).toBeVisible();
    expect(screen.getByText("Overridden by Bob Tanaka and Carol Okafor; 0 of 2 approvals")).toBeVisible();
    expect(api.calls.find((call) => call.operation === "PrepareDecision")?.variables["input"]).toEqual({
      requestId: "request-1",
      action: "OVERRIDE",
      headCommit: head,
      diffSha256,
      comment: reason,
    });
    expect(authenticator.signed).toHaveLength(1);
  });

  test("never signs an approval in its place", async () => {
    const { api } = await open({ request: { override, viewerCan: can } });
    const section = await screen.findByRole("region", { name: "Override the rule" });
    await userEvent.type(within(section).getByLabelText("Reason"), "Now.");
    await press("Override"); // the server prepares an approval
    expect(await screen.findByText("Refused: this is not what you were shown")).toBeVisible();
    expect(operations(api)).not.toContain("SubmitDecision");
    expect(authenticator.signed).toHaveLength(0);
  });
});

describe("approving", () => {
  test("signs the statement that was checked, and shows what was signed", async () => {
    const { api, container } = await open();
    await press("Approve");
    expect(await screen.findByText("You approved this commit")).toBeVisible();
    const prepare = api.calls.find((call) => call.operation === "PrepareDecision");
    expect(prepare?.variables["input"]).toEqual({
      requestId: "request-1",
      action: "APPROVE",
      headCommit: head,
      diffSha256,
    });
    expect(api.calls.find((call) => call.operation === "SubmitDecision")?.variables["input"]).toEqual({
      requestId: "request-1",
      response: '{"id":"signed"}',
    });
    expect(operations(api)).not.toContain("BeginPasskey");
    expect(screen.getByRole("alert")).toHaveTextContent("6".repeat(64));
    expect(screen.getByText("Approved by Bob Tanaka and Carol Okafor")).toBeVisible();
    expect(screen.getByRole("link", { name: "Back to the approvals" })).toHaveAttribute("href", `/pr/${place}`);
    expect(await violations(container)).toEqual([]);
  });

  test("enrols a passkey first where there is none: it confirms itself, and the decision goes on", async () => {
    const { api, container } = await open({ viewer: { passkeys: [passkey({ state: "REVOKED" })] } });
    await press("Approve");
    const confirm = await screen.findByRole("button", { name: "Confirm with your new passkey" });
    expect(confirm).toHaveFocus();
    expect(screen.getByText(/It is enrolled for Carol Okafor/)).toHaveTextContent(carol.accountId);
    expect(await violations(container)).toEqual([]);
    expect(operations(api)).not.toContain("PrepareDecision");
    await userEvent.keyboard("{Enter}");
    expect(await screen.findByText("You approved this commit")).toBeVisible();
    expect(authenticator.created).toBe(1);
    expect(operations(api).filter((name) => /Passkey|Decision/.test(name))).toEqual([
      "BeginPasskey",
      "FinishPasskey",
      "ConfirmPasskey",
      "PrepareDecision",
      "SubmitDecision",
    ]);
  });

  test("takes up a passkey that was never confirmed, or makes another", async () => {
    keepMade(carol.accountId, "passkey-2", made.key);
    const { api } = await open({ viewer: { passkeys: [passkey({ id: "passkey-2", state: "UNCONFIRMED" })] } });
    await press("Approve");
    await press("Not now");
    expect(await screen.findByText("Your new passkey is not confirmed yet")).toBeVisible();
    await press("Approve");
    await press("Make another passkey");
    await press("Confirm with your new passkey");
    expect(await screen.findByText("You approved this commit")).toBeVisible();
    expect(operations(api).filter((name) => /Passkey/.test(name))).toEqual([
      "ContinuePasskey",
      "ContinuePasskey",
      "BeginPasskey",
      "FinishPasskey",
      "ConfirmPasskey",
    ]);
  });

  test("a further passkey is confirmed with one that is there, after a refusal too", async () => {
    const { api } = await open({ viewer: { passkeys: [] } });
    const confirmed = [
      { passkey: null, act: null, userErrors: [{ code: "PASSKEY_REFUSED", message: "It does not hold.", path: [] }] },
      {
        passkey: passkey({ id: "passkey-2", state: "UNCONFIRMED" }),
        act: await keyAct("OWN_KEY", enrols),
        userErrors: [],
      },
      { passkey: passkey({ id: "passkey-2" }), act: null, userErrors: [] },
    ];
    Object.assign(api.world.Mutation ?? {}, { confirmPasskey: () => confirmed.shift() });
    await press("Approve");
    await press("Confirm with your new passkey");
    expect(await screen.findByText("The passkey was not accepted.")).toBeVisible();
    authenticator.refuse.get = new DOMException("x", "NotAllowedError");
    await press("Confirm with your new passkey");
    expect(await screen.findByText("Nothing was signed.")).toBeVisible();
    authenticator.refuse = {};
    await press("Confirm with your new passkey");
    await press("Confirm with a passkey that you already have");
    expect(await screen.findByText("You approved this commit")).toBeVisible();
  });

  test("who has lost every passkey waits for an administrator", async () => {
    const { api } = await open({ viewer: { passkeys: [] } });
    const confirmed = [
      {
        passkey: passkey({ id: "passkey-2", state: "UNCONFIRMED" }),
        act: await keyAct("OWN_KEY", enrols),
        userErrors: [],
      },
      { passkey: passkey({ id: "passkey-2", state: "WAITING_FOR_COUNTERSIGNER" }), act: null, userErrors: [] },
    ];
    Object.assign(api.world.Mutation ?? {}, { confirmPasskey: () => confirmed.shift() });
    await press("Approve");
    await press("Confirm with your new passkey");
    await press("I have none of them any more");
    await press("Revoke them all");
    await press("Confirm with your new passkey");
    expect(await screen.findByText("Your passkey waits for an administrator")).toBeVisible();
    expect(operations(api).filter((name) => /Passkey|Decision/.test(name))).toEqual([
      "BeginPasskey",
      "FinishPasskey",
      "ConfirmPasskey",
      "ReportLostPasskeys",
      "ContinuePasskey",
      "ConfirmPasskey",
    ]);
  });

  test("signs no act that is not what the page announced", async () => {
    const ghosts = await enrolOf(await documentOf("person-carol", 7));
    const acts = [await keyAct("NEW_KEY", ghosts), await keyAct("NEW_KEY", enrols, { options: "{}" })];
    for (const act of acts) {
      const { api, unmount } = await open({ viewer: { passkeys: [] } });
      Object.assign(api.world.Mutation ?? {}, {
        finishPasskey: { passkey: passkey({ id: "passkey-2", state: "UNCONFIRMED" }), act, userErrors: [] },
      });
      await press("Approve");
      await press("Confirm with your new passkey");
      expect(await screen.findByText("Refused: this is not what you were shown")).toBeVisible();
      expect(authenticator.signed).toEqual([]);
      unmount();
    }
  });

  test("has no passkey that is there agree to another than the one that was made", async () => {
    const { api } = await open({ viewer: { passkeys: [] } });
    const ghosts = await keyAct("OWN_KEY", await enrolOf(await documentOf("person-carol", 7)));
    const unconfirmed = passkey({ id: "passkey-2", state: "UNCONFIRMED" });
    Object.assign(api.world.Mutation ?? {}, { confirmPasskey: { passkey: unconfirmed, act: ghosts, userErrors: [] } });
    await press("Approve");
    await press("Confirm with your new passkey");
    await press("Confirm with a passkey that you already have");
    expect(await screen.findByRole("alert")).toHaveTextContent(
      "Refused: this is not what you were shownWhat was prepared for signing differs from this page in the key.",
    );
    expect(authenticator.signed).toHaveLength(1);
  });

  test("confirms no passkey of which this browser does not know that it made it", async () => {
    const { api } = await open({ viewer: { passkeys: [passkey({ id: "passkey-2", state: "UNCONFIRMED" })] } });
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent("Your passkey was made elsewhere");
    expect(screen.getByRole("link", { name: "Your passkeys" })).toHaveAttribute("href", "/settings/passkeys");
    expect(authenticator.signed).toEqual([]);
    expect(operations(api)).not.toContain("ContinuePasskey");
  });

  test("asks for one more press where the browser wants it", async () => {
    await open({ viewer: { passkeys: [] } });
    authenticator.refuse.get = new DOMException("denied", "NotAllowedError");
    Object.defineProperty(navigator, "userActivation", { value: { isActive: false }, configurable: true });
    await press("Approve");
    await press("Confirm with your new passkey");
    expect(await screen.findByText("Press the button once more.")).toBeVisible();
    authenticator.refuse = {};
    await press("Confirm with your new passkey");
    expect(await screen.findByText("You approved this commit")).toBeVisible();
  });

  test("signs nothing where the statement differs from the page", async () => {
    const { api } = await open();
    const evil = await statementOf({ ...what, origin: window.location.origin, destinationBranch: "main" });
    Object.assign(api.world.Mutation ?? {}, {
      prepareDecision: async () => ({ ...(await prepared(evil)), expiresAt: null, userErrors: [] }),
    });
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent(
      "Refused: this is not what you were shownWhat was prepared for signing differs from this page in the destination.",
    );
    expect(authenticator.signed).toEqual([]);
    expect(operations(api)).not.toContain("SubmitDecision");
  });

  test("signs nothing for another account than the one that it shows", async () => {
    const { api } = await open();
    const another = { ...carol, accountId: bob.accountId };
    const others = await statementOf({ ...what, origin: window.location.origin, signer: another });
    Object.assign(api.world.Mutation ?? {}, {
      prepareDecision: async () => ({ ...(await prepared(others)), expiresAt: null, userErrors: [] }),
    });
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent("differs from this page in who signs.");
    expect(authenticator.signed).toEqual([]);
  });

  test("signs no decision that is dated otherwise", async () => {
    const { api } = await open();
    const dated = await statementOf({ ...what, origin: window.location.origin });
    Object.assign(dated.predicate, times(Date.now() + 30 * 24 * 3_600_000));
    Object.assign(api.world.Mutation ?? {}, {
      prepareDecision: async () => ({ ...(await prepared(dated)), expiresAt: null, userErrors: [] }),
    });
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent(
      /Refused: the time is not right.* by the clock of this device it is .*If this clock is wrong, set it right/,
    );
    expect(authenticator.signed).toEqual([]);
    expect(operations(api)).not.toContain("SubmitDecision");
  });

  test("signs no act that is dated in the future", async () => {
    const { api } = await open({ viewer: { passkeys: [] } });
    const dated = structuredClone(enrols);
    Object.assign(dated.predicate, times(Date.now() + 30 * 24 * 3_600_000));
    const act = await keyAct("NEW_KEY", dated);
    Object.assign(api.world.Mutation ?? {}, {
      finishPasskey: { passkey: passkey({ id: "passkey-2", state: "UNCONFIRMED" }), act, userErrors: [] },
    });
    await press("Approve");
    await press("Confirm with your new passkey");
    expect(await screen.findByText("Refused: the time is not right")).toBeVisible();
    expect(authenticator.signed).toEqual([]);
  });

  test("tells when another statement was recorded than the one that was signed", async () => {
    const { api } = await open();
    Object.assign(api.world.Mutation ?? {}, {
      submitDecision: {
        decision: decision({ id: "made", statementSha256: "9".repeat(64) }),
        request: request(),
        userErrors: [],
      },
    });
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent("The record differs from what you signed");
  });

  test("asks once, however often the button is pressed", async () => {
    const { api } = await open();
    api.hold("PrepareDecision");
    await press("Approve");
    expect(await screen.findByText("Preparing what you sign…")).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Approve" }));
    expect(screen.getByRole("button", { name: "Reject" })).toBeDisabled();
    expect(operations(api).filter((name) => name === "PrepareDecision")).toHaveLength(1);
  });
});

describe("each refusal has its own words", () => {
  const refusals: [string, string, string][] = [
    [
      "AUTHOR",
      "Authors do not approve their own pull request here.",
      "Authors do not approve their own pull request here",
    ],
    ["NOT_APPROVER", "The rule does not ask you.", "The rule does not ask you"],
    ["FORBIDDEN", "Your Bitbucket account may not write here.", "You may not decide this"],
    ["HEAD_CHANGED", "The pull request has changed.", "The pull request has changed"],
    ["DIFF_CHANGED", "The page shows another diff.", "The change is another one now"],
    ["EXPIRED", "Nobody decided in time.", "The request has expired"],
    ["ALREADY_DECIDED", "You have approved already.", "You have decided already"],
    ["CHALLENGE", "This signature was used already.", "This signature cannot be used"],
    ["ASSERTION", "The signature does not hold.", "The signature does not hold"],
    ["REVOKED_KEY", "This key was revoked.", "This passkey was revoked"],
    ["COUNTER", "The counter went back.", "This passkey may have been copied"],
    ["SOMETHING_NEW", "A sentence of a newer server.", "Nothing was signed"],
  ];
  test.each(refusals)("%s", async (code, message, title) => {
    const { api } = await open();
    const answer = { decision: null, request: null, userErrors: [{ code, message, path: [] }] };
    Object.assign(api.world.Mutation ?? {}, { submitDecision: answer });
    await press("Approve");
    const alert = await screen.findByRole("alert");
    expect(alert).toHaveTextContent(title);
    expect(alert).toHaveTextContent(message);
    expect(screen.queryByText("You approved this commit")).toBeNull();
  });

  test("a changed head offers to reload", async () => {
    const { api } = await open();
    const answer = {
      statement: null,
      options: null,
      expiresAt: null,
      userErrors: [{ code: "HEAD_CHANGED", message: "It moved.", path: [] }],
    };
    Object.assign(api.world.Mutation ?? {}, { prepareDecision: answer });
    await press("Approve");
    expect(await screen.findByRole("button", { name: "Reload the page" })).toBeVisible();
  });

  test.each([
    ["NotAllowedError", "Nothing was signed"],
    ["SecurityError", "Passkeys do not work at this address"],
    ["UnknownError", "The passkey did not work"],
  ])("a browser's %s", async (name, title) => {
    await open();
    authenticator.refuse.get = new DOMException("x", name);
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent(title);
  });

  test("a passkey that is on no device here can be made here", async () => {
    const { api } = await open();
    authenticator.refuse.get = new DOMException("x", "NotAllowedError");
    await press("Approve");
    await userEvent.click(await screen.findByRole("button", { name: "Make a passkey on this device" }));
    await vi.waitFor(() => expect(operations(api)).toContain("FinishPasskey"), { timeout: 10_000 });
    authenticator.refuse = {};
    await press("Confirm with your new passkey");
    await vi.waitFor(() => expect(operations(api)).toContain("ConfirmPasskey"), { timeout: 10_000 });
    await press("Approve");
    expect(await screen.findByText("You approved this commit")).toBeVisible();
  });

  test("a device that holds a passkey already says so", async () => {
    await open({ viewer: { passkeys: [] } });
    authenticator.refuse.create = new DOMException("x", "InvalidStateError");
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent("This device already holds one of your passkeys");
  });

  test("a browser without passkeys", async () => {
    vi.stubGlobal("PublicKeyCredential", undefined);
    await open();
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent("This browser cannot use passkeys here");
  });

  test("a session that ended", async () => {
    const { api } = await open();
    api.refuse("PrepareDecision", "UNAUTHENTICATED", "Sign in first.", 401);
    await press("Approve");
    expect(await screen.findByRole("link", { name: "Sign in with Bitbucket" })).toBeVisible();
  });

  test("a server that cannot be reached", async () => {
    const { api } = await open();
    api.answer("PrepareDecision", () => Promise.reject(new TypeError("network")));
    await press("Approve");
    expect(await screen.findByRole("alert")).toHaveTextContent("The server cannot be reached");
  });
});

test("a comment is sent with the decision, and is part of what must be signed", async () => {
  const { api } = await open();
  const statement = await statementOf({ ...what, origin: window.location.origin, action: "REJECT", comment: "Twice!" });
  Object.assign(api.world.Mutation ?? {}, {
    prepareDecision: async () => ({ ...(await prepared(statement)), expiresAt: null, userErrors: [] }),
    submitDecision: async () => ({
      decision: decision({
        id: "made",
        action: "REJECT",
        statementSha256: hex(await sha256(new TextEncoder().encode(canonical(statement)))),
      }),
      request: request({ sentence: "rejected by Carol Okafor" }),
      userErrors: [],
    }),
  });
  await userEvent.type(await screen.findByLabelText("Comment (optional)"), "  Twice! ");
  await press("Reject");
  expect(await screen.findByText("You rejected this commit")).toBeVisible();
  const prepare = api.calls.find((call) => call.operation === "PrepareDecision");
  expect(prepare?.variables["input"]).toMatchObject({ action: "REJECT", comment: "Twice!" });
});

test("signs nothing where the server committed to another comment than the one that was typed", async () => {
  const { api } = await open();
  const swapped = await statementOf({ ...what, origin: window.location.origin, comment: "All of it is fine." });
  Object.assign(api.world.Mutation ?? {}, {
    prepareDecision: async () => ({ ...(await prepared(swapped)), expiresAt: null, userErrors: [] }),
  });
  await userEvent.type(await screen.findByLabelText("Comment (optional)"), "Only the tests.");
  await press("Approve");
  expect(await screen.findByRole("alert")).toHaveTextContent("differs from this page in the comment.");
  expect(authenticator.signed).toEqual([]);
  expect(operations(api)).not.toContain("SubmitDecision");
});

test("withdrawing takes back the viewer's decision that stands, and no other", async () => {
  const mine = decision({ id: "mine", account: carol, statementSha256: "7".repeat(64) });
  const { api } = await open({
    request: {
      decisions: [decision({ account: bob }), mine],
      viewerCan: viewerCan({ approve: false, reject: false, withdraw: true }),
    },
  });
  const statement = await statementOf({
    ...what,
    origin: window.location.origin,
    action: "WITHDRAW",
    withdraws: "7".repeat(64),
  });
  Object.assign(api.world.Mutation ?? {}, {
    prepareDecision: async () => ({ ...(await prepared(statement)), expiresAt: null, userErrors: [] }),
    submitDecision: async () => ({
      decision: decision({
        id: "made",
        action: "WITHDRAW",
        statementSha256: hex(await sha256(new TextEncoder().encode(canonical(statement)))),
      }),
      request: request(),
      userErrors: [],
    }),
  });
  await press("Withdraw my decision");
  expect(await screen.findByText("You withdrew your decision")).toBeVisible();
});

test("a commit that is pushed meanwhile stops the signing until the new change is shown", async () => {
  const { api } = await open();
  expect(await screen.findByText("2 files changed")).toBeVisible();
  await vi.waitFor(() => expect(api.listeners("SignChanged")).toBe(1), { timeout: 10_000 });
  const newer = request({ id: "request-2", round: 2, headCommit: olderHead, decisions: [] });
  api.world.Query = { ...api.world.Query, node: () => ({ ...newer, diff: { ...diff, headCommit: olderHead } }) };
  api.emit("SignChanged", { pullRequestChanged: pullRequest({ headCommit: olderHead, request: newer }) });
  expect(await screen.findByText("The pull request has changed")).toBeVisible();
  expect(screen.getByRole("button", { name: "Approve" })).toBeDisabled();
  await userEvent.click(screen.getByRole("button", { name: "Show the new change" }));
  await vi.waitFor(() => expect(screen.getByRole("button", { name: "Approve" })).toBeEnabled(), { timeout: 10_000 });
  expect(api.calls.filter((call) => call.operation === "Change").at(-1)?.variables).toEqual({ id: "request-2" });
});
