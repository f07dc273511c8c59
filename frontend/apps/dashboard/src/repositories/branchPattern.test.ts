import { describe, expect, test } from "vitest";
import { firstMatch, matches } from "./branchPattern.ts";

describe("a pattern", () => {
  test.each<[string, string, boolean]>([
    ["main", "main", true],
    ["main", "main2", false],
    ["main", "Main", false],
    ["main", "x/main", false],
    ["release/*", "release/1.0", true],
    ["release/*", "release/1.0/hot", false],
    ["release/*", "release", false],
    ["*", "main", true],
    ["*", "a/b", false],
    ["hotfix/**", "hotfix/a", true],
    ["hotfix/**", "hotfix/a/b/c", true],
    ["hotfix/**", "hotfix", true],
    ["hotfix/**", "hotfixes", false],
    ["**", "anything/at/all", true],
    ["**/fix", "fix", true],
    ["**/fix", "a/b/fix", true],
    ["**/fix", "a/prefix", false],
    ["a/**/z", "a/z", true],
    ["a/**/z", "a/b/c/z", true],
    ["a/**/z", "az", false],
    ["a**z", "abcz", true],
    ["a**z", "a/z", false],
    ["release/1.?", "release/1.0", true],
    ["release/1.?", "release/1.10", false],
    ["release/1.?", "release/1./", false],
    ["v[0-9]", "v7", true],
    ["v[0-9]", "vx", false],
    ["v[!0-9]", "vx", true],
    ["v[^0-9]", "v7", false],
    ["{main,develop}", "develop", true],
    ["{main,develop}", "mainX", false],
    ["release/{1,2}.*", "release/2.5", true],
    ["{release/*,hotfix/**}", "hotfix/a/b", true],
    ["a.b", "axb", false],
    ["a+b", "a+b", true],
    ["(x)", "(x)", true],
    ["$a^", "$a^", true],
    ["a\\*b", "a*b", true],
    ["a\\*b", "axb", false],
    ["größe/*", "größe/世界", true],
    ["?", "👍", true],
    ["[a", "[a", false],
    ["{a", "{a", false],
    ["a\\", "a\\", false],
    ["", "", true],
  ])("%j and branch %j: %s", (pattern, branch, expected) => {
    expect(matches([pattern], branch)).toBe(expected);
  });
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
