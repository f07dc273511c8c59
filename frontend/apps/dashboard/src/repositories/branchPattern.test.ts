import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { firstMatch, matches } from "./branchPattern.ts";

// The server's own tests go through the same table.
const table = join(import.meta.dirname, "../../../../../server/approval/testdata/patterns.json");
const rows = JSON.parse(readFileSync(table, "utf8")) as { pattern: string; branch: string; matches: boolean }[];

test.each(rows)("$pattern and branch $branch: $matches", ({ pattern, branch, matches: expected }) => {
  expect(matches([pattern], branch)).toBe(expected);
});

describe("several patterns", () => {
  test("an exclusion wins wherever it stands", () => {
    for (const patterns of [
      ["release/*", "!release/old"],
      ["!release/old", "release/*"],
    ]) {
      expect(matches(patterns, "release/1.0")).toBe(true);
      expect(matches(patterns, "release/old")).toBe(false);
    }
  });

  test("an exclusion alone matches nothing", () => {
    expect(matches(["!release/old"], "main")).toBe(false);
    expect(matches([], "main")).toBe(false);
  });
});

test("the first rule that matches applies", () => {
  const rules = [{ branches: ["release/*", "!release/old"] }, { branches: ["main"] }, { branches: ["**"] }];
  expect(["release/1.0", "main", "release/old", "x"].map((branch) => firstMatch(rules, branch))).toEqual([0, 1, 2, 2]);
  expect(firstMatch(rules.slice(0, 2), "x")).toBe(-1);
});
