import { describe, expect, test } from "vitest";
import { decode, hiddenIn, pieces, withoutHidden } from "./characters.ts";

const bidi = ["\u061c", "\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e"];
const isolates = ["\u2066", "\u2067", "\u2068", "\u2069"];
const widthless = [
  "\u200b",
  "\u200c",
  "\u200d",
  "\u2060",
  "\ufeff",
  "\u00ad",
  "\u034f",
  "\u180e",
  "\u{e0001}",
  "\u{e0061}",
];
const blanks = ["\u2800", "\u3164", "\u115f", "\u1160", "\uffa0", "\ufffc", "\u{16fe4}", "\u{1d159}"];
const spaces = [
  "\u00a0",
  "\u1680",
  "\u2000",
  "\u2003",
  "\u200a",
  "\u202f",
  "\u205f",
  "\u3000",
  "\u2028",
  "\u2029",
  "\u0085",
];
const controls = ["\u0000", "\u0008", "\u000b", "\u000c", "\r", "\u001b", "\u007f", "\u009b"];
const unshown = ["\ue000", "\u{10ffff}", "\ud800", "\udfff", "\ufff9"];

describe("pieces", () => {
  test.each([...bidi, ...isolates, ...widthless, ...blanks, ...spaces, ...controls, ...unshown])(
    "marks %j",
    (hidden) => {
      const parts = pieces(`a${hidden}b`);
      const code = hidden.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0");
      expect(parts).toEqual([
        { text: "a" },
        { text: hidden, mark: `U+${code}`, name: expect.any(String) },
        { text: "b" },
      ]);
      expect(hiddenIn(`a${hidden}b`)).toBe(1);
    },
  );

  test.each([
    "plain text",
    "\tindented\n",
    "Grüße, 世界, שלום, مرحبا, Ünïcödé",
    "e\u0301",
    "👍🏽",
    "❤\ufe0f",
    "👩‍💻",
    "👩🏽‍💻",
    "👩‍❤️‍👨",
    "⛹️‍♀️",
    "1\ufe0f\u20e3",
    "🏳\ufe0f‍🌈",
    "",
  ])("leaves %j as it is", (text) => {
    expect(pieces(text)).toEqual(text === "" ? [] : [{ text }]);
    expect(hiddenIn(text)).toBe(0);
  });

  test("names what many people know", () => {
    expect(pieces("\u202e")[0]?.name).toBe("right-to-left override");
    expect(pieces("\ue000")[0]?.name).toBe("private use character");
  });

  test("marks a joiner that joins nothing, also beside an emoji", () => {
    expect(hiddenIn("👩\u200d")).toBe(1);
    expect(hiddenIn("\u200d💻")).toBe(1);
    expect(hiddenIn("pass\u200dword")).toBe(1);
    expect(hiddenIn("a\ufe0f")).toBe(1);
    expect(hiddenIn("™\u200d™")).toBe(1);
  });

  // Else a comment seems to end where it goes on, and two names look like one.
  test.each([
    "/* *\ufe0f/",
    "admin1\ufe0f",
    "#\ufe0fif",
    "1\ufe0fa\u20e3",
    "❤\ufe0f\ufe0f",
    "👍\ufe0f",
    "\u00a9\ufe0f",
    "\u2122\ufe0f",
    "\u2139\ufe0f = 1",
  ])("marks the selector in %j", (text) => {
    expect(hiddenIn(text)).toBe(1);
    expect(withoutHidden(text)).toBe(text.replace(/\ufe0f(?!.*\ufe0f)/u, ""));
  });

  test("leaves flags and families as they are, and marks what stands beside them", () => {
    const flag = "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
    expect(hiddenIn(`${flag} 👨‍👩‍👧‍👦 5\ufe0f\u20e3`)).toBe(0);
    expect(pieces(`${flag}\u{e0061}👨‍👩‍👧‍👦\u200d`).map(({ mark }) => mark ?? "")).toEqual([
      "",
      "U+E0061",
      "",
      "U+200D",
    ]);
  });

  test("loses nothing: the parts are the text", () => {
    let seed = 7;
    const next = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed;
    };
    for (let round = 0; round < 500; round++) {
      const text = Array.from({ length: next() % 12 }, () => String.fromCodePoint(next() % 0x3100)).join("");
      const parts = pieces(text);
      expect(parts.map((part) => part.text).join("")).toBe(text);
      expect(parts.filter((part) => part.mark)).toHaveLength(hiddenIn(text));
    }
  });
});

test("a title loses what would not show in it", () => {
  expect(withoutHidden("Fix \u202eeht bug\u200b 👩‍💻")).toBe("Fix eht bug 👩‍💻");
});

describe("decode", () => {
  const bytes = (...values: number[]) => new Uint8Array(values);

  test("reads UTF-8, a byte order mark included", () => {
    expect(decode(new TextEncoder().encode("\ufeffaß世👍"))).toBe("\ufeffaß世👍");
  });

  test.each([
    ["a stray continuation byte", bytes(0x61, 0x80, 0x62), "a", "0x80", "b"],
    ["Latin-1", bytes(0x61, 0xe9, 0x62), "a", "0xE9", "b"],
    ["an overlong slash", bytes(0x61, 0xc0, 0x62), "a", "0xC0", "b"],
    ["a cut character", bytes(0x61, 0xe4, 0x62), "a", "0xE4", "b"],
  ])("marks %s", (_, given, before, mark, after) => {
    expect(pieces(decode(given)).map((part) => part.mark ?? part.text)).toEqual([before, mark, after]);
  });

  test("keeps characters beside bad bytes whole", () => {
    const text = decode(bytes(...new TextEncoder().encode("世👍"), 0xff, ...new TextEncoder().encode("ß")));
    expect(pieces(text).map((part) => part.mark ?? part.text)).toEqual(["世👍", "0xFF", "ß"]);
  });

  test("gives different texts for different bytes", { timeout: 30_000 }, () => {
    const seen = new Map<string, string>();
    for (let a = 0; a < 256; a++) {
      for (let b = 0; b < 256; b += 5) {
        const text = decode(bytes(a, b));
        expect(seen.get(text), `${a} ${b}`).toBeUndefined();
        seen.set(text, `${a} ${b}`);
      }
    }
  });
});
