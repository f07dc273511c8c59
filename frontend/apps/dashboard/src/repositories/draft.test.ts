import { describe, expect, test } from "vitest";
import { draftOf, inputOf, newRule, Problems, type RuleDraft } from "./draft.ts";

const saved = {
  name: "Release",
  branches: ["release/*", "!release/old"],
  requirements: [
    { name: "Approval", quorum: 2, everyone: true, approvers: [] },
    { name: "Security", quorum: 1, everyone: false, approvers: [{ accountId: "a", name: "Alice" }] },
  ],
  authorMayApprove: false,
  expiresAfterSeconds: 604_800,
  override: { quorum: 1, everyone: false, approvers: [{ accountId: "b", name: "Bob" }] },
  autoMerge: { strategy: "squash", closeSourceBranch: true, messageTemplate: "{title}" },
  keys: {
    countersigned: true,
    models: [
      { aaguid: "2", description: "Second Key" },
      { aaguid: "1", description: null },
    ],
  },
  cosignatures: 2,
};

test("a rule that is opened and sent unchanged is the same rule", () => {
  expect(inputOf([draftOf(saved)])).toEqual([
    {
      ...saved,
      requirements: [
        { name: "Approval", quorum: 2, everyone: true, approvers: [] },
        { name: "Security", quorum: 1, everyone: false, approvers: ["a"] },
      ],
      override: { quorum: 1, everyone: false, approvers: ["b"] },
      keys: { countersigned: true, models: ["1", "2"] },
    },
  ]);
});

test("nothing is sent for what cannot be overridden", () => {
  expect(inputOf([draftOf({ ...saved, override: null })])[0]).not.toHaveProperty("override");
});

test.each([
  [{ countersigned: false, models: [] }, undefined],
  [null, undefined],
  [
    { countersigned: true, models: [] },
    { countersigned: true, models: [] },
  ],
  [
    { countersigned: false, models: [{ aaguid: "1", description: null }] },
    { countersigned: false, models: ["1"] },
  ],
])("what is asked of keys (%j) is sent as %j", (keys, sent) => {
  expect(inputOf([draftOf({ ...saved, keys })])[0]?.keys).toEqual(sent);
});

test("nothing is sent for what is not merged", () => {
  expect(inputOf([draftOf({ ...saved, autoMerge: null })])[0]).not.toHaveProperty("autoMerge");
});

test.each([
  [60, "1", "minutes"],
  [5_400, "90", "minutes"],
  [7_200, "2", "hours"],
  [86_400, "1", "days"],
])("%i seconds are %s %s", (seconds, number, unit) => {
  expect(draftOf({ ...saved, expiresAfterSeconds: seconds })).toMatchObject({
    expiresAfter: number,
    expiresUnit: unit,
  });
});

describe("what was typed", () => {
  const draft = (like: Partial<RuleDraft>) => inputOf([{ ...newRule("A", "main"), ...like }])[0];

  test("loses spaces around it, and empty lines", () => {
    expect(draft({ name: " A ", branches: " main \n\n !old\n" })).toMatchObject({
      name: "A",
      branches: ["main", "!old"],
    });
  });

  test.each(["", "x", "-1", "1.5", "1e3"])("and is no whole number (%j) becomes what the server refuses", (text) => {
    expect(draft({ expiresAfter: text })?.expiresAfterSeconds).toBe(0);
  });

  test.each([
    ["", 0],
    [" 2 ", 2],
    ["two", -1],
    ["-1", -1],
    ["1.5", -1],
  ])("and is no number of witnesses (%j) is not taken for none", (text, cosignatures) => {
    expect(draft({ cosignatures: text })?.cosignatures).toBe(cosignatures);
  });

  test("stays within what a 32-bit number holds", () => {
    expect(draft({ expiresAfter: "999999999", expiresUnit: "days" })?.expiresAfterSeconds).toBeLessThan(2 ** 31);
  });

  test("forgets people where everyone may approve", () => {
    const [requirement] = draftOf(saved).requirements.slice(1);
    const everyone = { ...(requirement as RuleDraft["requirements"][0]), everyone: true };
    expect(draft({ requirements: [everyone] })?.requirements).toMatchObject([{ everyone: true, approvers: [] }]);
  });
});

describe("problems", () => {
  test.each([
    [["input", "rules", "0", "requirements", "1", "quorum"]],
    [["rules", "0", "requirements", "1", "quorum"]],
    [["rules[0]", "requirements[1]", "quorum"]],
    [["rules[0].requirements[1].quorum"]],
  ])("%j is one place", (path) => {
    const problems = new Problems([{ message: "Too many.", path }]);
    expect(problems.at("rules.0.requirements.1.quorum")).toBe("Too many.");
    expect(problems.at("rules.0.requirements.0.quorum")).toBeUndefined();
    expect(problems.all).toEqual(["Too many."]);
  });

  test("of something inside belong to what is around it", () => {
    const problems = new Problems([
      { message: "Not a member.", path: ["rules[0].requirements[0].approvers.accounts[2]"] },
      { message: "Not a member.", path: ["rules[0].requirements[0].approvers.accounts[3]"] },
    ]);
    expect(problems.at("rules.0.requirements.0.approvers")).toBe("Not a member.");
    expect(problems.at("rules.0.requirements.0.approver")).toBeUndefined();
  });
});
