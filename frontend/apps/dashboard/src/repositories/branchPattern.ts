/**
 * Branch patterns as the server reads them, to try them out before they are saved: `*` and `?` stay inside one segment
 * between slashes, `**` as a whole segment crosses segments, `[a-z]` is a class, `{a,b}` an alternative, a backslash takes
 * the next character as it is. The server alone decides; what it refuses is refused when the rule is saved. One table of
 * examples holds the two together.
 */
export function matches(patterns: readonly string[], branch: string): boolean {
  const excluded = patterns.some((pattern) => pattern.startsWith("!") && expression(pattern.slice(1))?.test(branch));
  if (excluded) return false;
  return patterns.some((pattern) => !pattern.startsWith("!") && expression(pattern)?.test(branch));
}

/** The first rule that applies to a branch, from 0; -1 where none does. */
export function firstMatch(rules: readonly { branches: readonly string[] }[], branch: string): number {
  return rules.findIndex((rule) => matches(rule.branches, branch));
}

/** A pattern as a regular expression; null where it cannot be read. */
function expression(pattern: string): RegExp | null {
  try {
    return new RegExp(`^${translate(pattern)}$`, "su");
  } catch {
    return null;
  }
}

function translate(pattern: string): string {
  let out = "";
  let depth = 0;
  for (let at = 0; at < pattern.length; ) {
    const rest = pattern.slice(at);
    const startsSegment = at === 0 || /[/{,]/u.test(pattern[at - 1] ?? "");
    const across = (depth > 0 ? /^\*\*(\/|$|(?=[,}]))/u : /^\*\*(\/|$)/u).exec(rest);
    if (startsSegment && across) {
      // `a/**/b` is also `a/b`, and `a/**` is also `a`.
      if (across[1] === "/") out += "(?:[^/]*/)*";
      else out = out.endsWith("/") ? `${out.slice(0, -1)}(?:/.*)?` : `${out}.*`;
      at += across[0].length;
      continue;
    }
    const stars = /^\*+/u.exec(rest);
    if (stars) {
      out += "[^/]*";
      at += stars[0].length;
      continue;
    }
    const group = /^\[(\^|!)?((?:\\.|[^\]\\])+)\]/su.exec(rest);
    if (group) {
      out += `(?!/)[${group[1] ? "^" : ""}${escapeInClass(group[2] ?? "")}]`;
      at += group[0].length;
      continue;
    }
    const character = String.fromCodePoint(pattern.codePointAt(at) ?? 0);
    at += character.length;
    if (character === "?") out += "[^/]";
    else if (character === "{") {
      out += "(?:";
      depth++;
    } else if (character === "}" && depth > 0) {
      out += ")";
      depth--;
    } else if (character === "," && depth > 0) out += "|";
    else if (character === "\\" && at < pattern.length) {
      const literal = String.fromCodePoint(pattern.codePointAt(at) ?? 0);
      out += literally(literal);
      at += literal.length;
    } else if (character === "[" || character === "{" || character === "\\") throw new Error("unfinished");
    else out += literally(character);
  }
  if (depth > 0) throw new Error("unfinished");
  return out;
}

function literally(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/gu, "\\$&");
}

function escapeInClass(text: string): string {
  return text.replace(/\\(.)|([[\]^&~])/gsu, (_, escaped: string | undefined, plain: string | undefined) => {
    const character = escaped ?? plain ?? "";
    return /[\\\]^[&~-]/u.test(character) ? `\\${character}` : character;
  });
}
