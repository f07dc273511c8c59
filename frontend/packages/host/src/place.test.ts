import { describe, expect, test } from "vitest";
import { placeOf, uuidOf } from "./place.ts";

const workspace = "3f2b8a10-6f0e-4a55-9d7c-1b2f3e4d5c6b";
const repository = "9a1c7d42-0b6e-4f38-8e21-7c5d4b3a2f10";

describe("placeOf", () => {
  test.each([`/pr/${workspace}/${repository}/7`, `/sign/${workspace}/${repository}/7/`])("reads %s", (path) => {
    expect(placeOf(path)).toEqual({ workspace, repository, number: 7 });
  });

  test("takes upper case for the same identifier", () => {
    expect(placeOf(`/pr/${workspace.toUpperCase()}/${repository}/7`)?.workspace).toBe(workspace);
  });

  test.each([
    "/",
    "/pr",
    `/pr/${workspace}/${repository}`,
    `/pr/${workspace}/${repository}/0`,
    `/pr/${workspace}/${repository}/07`,
    `/pr/${workspace}/${repository}/-1`,
    `/pr/${workspace}/${repository}/7/x`,
    `/pr/{${workspace}}/${repository}/7`,
    `/pr/acme/web-shop/7`,
    `/x/pr/${workspace}/${repository}/7`,
  ])("refuses %s", (path) => {
    expect(placeOf(path)).toBeNull();
  });
});

describe("uuidOf", () => {
  test.each([workspace, `{${workspace}}`, `{${workspace.toUpperCase()}}`])("reads %s", (value) => {
    expect(uuidOf(value)).toBe(workspace);
  });

  test.each([`{${workspace}`, `${workspace}}`, `${workspace}x`, "", "acme", 7, null, undefined, {}])(
    "refuses %s",
    (value) => {
      expect(uuidOf(value)).toBeNull();
    },
  );
});
