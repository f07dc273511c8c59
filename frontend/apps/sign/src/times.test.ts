import { describe, expect, test, vi } from "vitest";
import { Refusal } from "./refusal.ts";
import { checkTimes } from "./times.ts";

const now = Date.parse("2026-11-22T10:00:00Z");
const minute = 60_000;
const day = 24 * 60 * minute;

function refusalOf(kind: "decision" | "act", from: unknown, to: unknown): string {
  vi.spyOn(Date, "now").mockReturnValue(now);
  const text = (at: unknown) => (typeof at === "number" ? new Date(now + at).toISOString().replace(".000", "") : at);
  try {
    checkTimes(kind, { issuedAt: text(from), expiresAt: text(to) });
  } catch (error) {
    if (!(error instanceof Refusal) || error.code !== "STATEMENT_TIME") throw error;
    return error.message;
  }
  return "";
}

describe("the times of what is to be signed", () => {
  test.each<["decision" | "act", string, number, number]>([
    ["decision", "as a server writes them", 0, 5 * minute],
    ["decision", "the longest", 0, 60 * minute],
    ["decision", "a clock that is behind", 5 * minute, 10 * minute],
    ["decision", "a clock that is ahead", -5 * minute, 0],
    ["act", "as a server writes them", 0, 5 * minute],
    ["act", "of a proposal", 0, 7 * day],
    ["act", "the longest", 5 * minute, 8 * day + 5 * minute],
    ["act", "an enrolment that has waited", -6 * day, day],
  ])("are accepted of a %s: %s", (kind, _, from, to) => {
    expect(refusalOf(kind, from, to)).toBe("");
  });

  test.each<["decision" | "act", string, unknown, unknown]>([
    ["decision", "for longer than an hour", 0, 60 * minute + 1000],
    ["act", "for longer than eight days", 0, 8 * day + 1000],
    ["decision", "that end before they begin", 0, -1000],
    ["act", "that end when they begin", 0, 0],
    ["decision", "that are missing", undefined, undefined],
    ["act", "without an end", 0, undefined],
    ["act", "without a beginning", undefined, day],
    ["decision", "of another form", now, now + minute],
    ["act", "that no calendar has", "2026-13-22T10:00:00Z", "2026-13-22T11:00:00Z"],
  ])("are refused of a %s: %s", (kind, _, from, to) => {
    const given = typeof from === "number" && from > day ? String(from) : from;
    expect(refusalOf(kind, given, to)).toContain("for longer than it may be");
  });

  test.each<["decision" | "act", string, number]>([
    ["decision", "next month", 30 * day],
    ["decision", "in more than five minutes", 5 * minute + 1000],
    ["decision", "more than five minutes ago", -5 * minute - 1000],
    ["act", "next month", 30 * day],
    ["act", "in more than five minutes", 5 * minute + 1000],
  ])("are refused of a %s that was made %s, and both clocks are named", (kind, _, from) => {
    const message = refusalOf(kind, from, from + minute);
    expect(message).toContain(new Date(now + from).toISOString().slice(0, 19));
    expect(message).toContain("by the clock of this device it is 2026-11-22T10:00:00Z");
    expect(message).toContain("If this clock is wrong, set it right");
  });
});
