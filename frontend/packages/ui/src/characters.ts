/** A stretch of text: shown as it is, or a character that would not show, with its name. */
export interface Piece {
  text: string;
  /** What the mark says, such as `U+202E`; absent where the text shows by itself. */
  mark?: string;
  /** What the character is, in words. */
  name?: string;
}

// What many people know by name; everything else is named by its kind.
const names: Record<string, string> = {
  "\u0000": "null",
  "\u0007": "bell",
  "\u0008": "backspace",
  "\u000b": "line tabulation",
  "\u000c": "form feed",
  "\r": "carriage return",
  "\u001b": "escape",
  "\u007f": "delete",
  "\u0085": "next line",
  "\u00a0": "no-break space",
  "\u00ad": "soft hyphen",
  "\u034f": "combining grapheme joiner",
  "\u061c": "Arabic letter mark",
  "\u115f": "Hangul filler",
  "\u1160": "Hangul filler",
  "\u180e": "Mongolian vowel separator",
  "\u200b": "zero width space",
  "\u200c": "zero width non-joiner",
  "\u200d": "zero width joiner",
  "\u200e": "left-to-right mark",
  "\u200f": "right-to-left mark",
  "\u2028": "line separator",
  "\u2029": "paragraph separator",
  "\u202a": "left-to-right embedding",
  "\u202b": "right-to-left embedding",
  "\u202c": "pop directional formatting",
  "\u202d": "left-to-right override",
  "\u202e": "right-to-left override",
  "\u2060": "word joiner",
  "\u2066": "left-to-right isolate",
  "\u2067": "right-to-left isolate",
  "\u2068": "first strong isolate",
  "\u2069": "pop directional isolate",
  "\u2800": "blank Braille pattern",
  "\u3000": "ideographic space",
  "\u3164": "Hangul filler",
  "\ufeff": "zero width no-break space",
  "\uffa0": "halfwidth Hangul filler",
  "\ufffc": "object replacement character",
  "\u{16fe4}": "Khitan small script filler",
  "\u{1d159}": "null notehead",
};

// Controls except tab and line feed; formatting, among it all that turn the direction of writing; spaces that are not the
// space; what fonts leave blank on purpose; private, unassigned and lone surrogate code points, which have no agreed look.
const hidden =
  /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800\ufffc\u{16fe4}\u{1d159}]|(?! )\p{Zs}/gu;

const shownAsIs = new Set(["\t", "\n"]);

// Bytes that are not UTF-8 travel as these lone surrogates: see decode.
const firstByte = 0xdc80;
const lastByte = 0xdcff;

function nameOf(character: string, code: number): string {
  if (code >= firstByte && code <= lastByte) return "byte that is not UTF-8";
  const known = names[character];
  if (known) return known;
  if (/\p{Cc}/u.test(character)) return "control character";
  if (/\p{Zs}/u.test(character)) return "unusual space";
  if (/\p{Co}/u.test(character)) return "private use character";
  if (/\p{Cs}/u.test(character)) return "half of a surrogate pair";
  if (/\p{Cn}/u.test(character)) return "unassigned character";
  return "invisible character";
}

function markOf(code: number): string {
  if (code >= firstByte && code <= lastByte) return `0x${(code - 0xdc00).toString(16).toUpperCase()}`;
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

// One picture out of several code points, as Unicode lists them: what stands between them hides nothing.
const emoji = /\p{RGI_Emoji}/gv;

// These are pictures by list and letters or signs by their look, with the selector and without it.
const letterlike = /^[\u00a9\u00ae\u2122\p{L}]\ufe0f$/u;

/** Finds every character which does not show, or moves its neighbours. */
function* hiddenCharacters(text: string): Generator<{ character: string; index: number }> {
  const pictures = text.matchAll(emoji);
  let picture = pictures.next();
  for (const { 0: character, index } of text.matchAll(hidden)) {
    while (!picture.done && picture.value.index + picture.value[0].length <= index) picture = pictures.next();
    const inside = !picture.done && picture.value.index <= index && !letterlike.test(picture.value[0]);
    if (!inside && !shownAsIs.has(character)) yield { character, index };
  }
}

/** Splits a text so that every character which does not show, or moves its neighbours, can be marked. */
export function pieces(text: string): Piece[] {
  const result: Piece[] = [];
  let from = 0;
  for (const { character, index } of hiddenCharacters(text)) {
    if (index > from) result.push({ text: text.slice(from, index) });
    const code = character.codePointAt(0) ?? 0;
    result.push({ text: character, mark: markOf(code), name: nameOf(character, code) });
    from = index + character.length;
  }
  if (from < text.length) result.push({ text: text.slice(from) });
  return result;
}

/** How many characters of a text would not show. */
export function hiddenIn(text: string): number {
  return [...hiddenCharacters(text)].length;
}

/** A text without the characters that would not show, for places that cannot hold marks, such as a window's title. */
export function withoutHidden(text: string): string {
  return pieces(text)
    .filter((piece) => !piece.mark)
    .map((piece) => piece.text)
    .join("");
}

/**
 * Reads bytes as UTF-8 without losing any: a byte that does not belong to a character becomes the lone surrogate U+DC00
 * plus its value, which {@link pieces} marks. Different bytes never give the same text.
 */
export function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return decodeByteWise(bytes);
  }
}

function decodeByteWise(bytes: Uint8Array): string {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at] as number;
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    try {
      parts.push(strict.decode(bytes.subarray(at, at + length)));
      at += length;
    } catch {
      parts.push(String.fromCharCode(0xdc00 + lead));
      at++;
    }
  }
  return parts.join("");
}
