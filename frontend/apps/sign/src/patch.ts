import { decode } from "@signedapproval/ui/characters.ts";
import type { ChangeData, HunkData } from "react-diff-view";

/** What a diff says about one file. Every line of the diff is in exactly one place of one of these. */
export interface PatchFile {
  /** Where it stands in the diff, from 0. */
  index: number;
  /** Its name after the change; before it where it was deleted. */
  path: string;
  kind: "added" | "deleted" | "modified" | "renamed" | "copied";
  /** What happened beside the lines: modes, names, binary contents, a submodule. A sentence each. */
  facts: string[];
  /** The lines above the first hunk, as they are. */
  header: string[];
  hunks: PatchHunk[];
  /** Lines that are in no hunk and in no header, as they are; none in what Git writes. */
  stray: string[];
  added: number;
  removed: number;
}

/** A hunk as react-diff-view draws it, and which of its lines end without a line feed. */
export interface PatchHunk extends HunkData {
  unended: Set<ChangeData>;
}

/** A whole diff. */
export interface Patch {
  files: PatchFile[];
  /** Lines before the first file; none in what Git writes. */
  preamble: string[];
}

const hunkHead = /^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(?: .*)?$/u;
const headerLine =
  /^(?:diff --git|index|old mode|new mode|deleted file mode|new file mode|(?:dis)?similarity index|(?:rename|copy) (?:from|to)|---|\+\+\+|Binary files) /u;
const unendedMark = "\\ No newline at end of file";
const submodule = "160000";

/**
 * Reads a diff as Git writes it. It is strict about hunks: a line that a hunk's head has not announced is not part of
 * it, and is kept as a stray line. So nothing that is signed can fail to be shown.
 */
export function readPatch(text: string): Patch {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const patch: Patch = { files: [], preamble: [] };
  let at = 0;
  while (at < lines.length && !isFileHead(lines[at])) patch.preamble.push(lines[at++] as string);
  while (at < lines.length) {
    const from = at++;
    while (at < lines.length && !isFileHead(lines[at])) {
      const hunk = readHunk(lines, at);
      at = hunk ? hunk.end : at + 1;
    }
    patch.files.push(readFile(lines.slice(from, at), patch.files.length));
  }
  return patch;
}

function isFileHead(line: string | undefined): boolean {
  return line?.startsWith("diff --git ") === true;
}

function readFile(lines: readonly string[], index: number): PatchFile {
  const header: string[] = [];
  const stray: string[] = [];
  const hunks: PatchHunk[] = [];
  let oldLine = 0;
  let newLine = 0;
  for (let at = 0; at < lines.length; ) {
    const read = readHunk(lines, at);
    // Numbers that run backwards would put two lines into one place of the screen.
    if (read && read.hunk.oldStart >= oldLine && read.hunk.newStart >= newLine) {
      hunks.push(read.hunk);
      oldLine = read.hunk.oldStart + read.hunk.oldLines;
      newLine = read.hunk.newStart + read.hunk.newLines;
      at = read.end;
    } else {
      const line = lines[at++] as string;
      // A line that is no header ends the header: what follows must be seen, not folded with it.
      const inHeader = hunks.length === 0 && stray.length === 0 && headerLine.test(line);
      (inHeader ? header : stray).push(line);
    }
  }
  const changes = hunks.flatMap((hunk) => hunk.changes);
  return {
    index,
    ...describe(header),
    header,
    hunks,
    stray,
    added: changes.filter((change) => change.type === "insert").length,
    removed: changes.filter((change) => change.type === "delete").length,
  };
}

/** Reads the hunk that begins at a line; null where none does, or where its lines are not those it announces. */
function readHunk(lines: readonly string[], from: number): { hunk: PatchHunk; end: number } | null {
  const content = lines[from] ?? "";
  const head = hunkHead.exec(content);
  if (!head) return null;
  const [oldStart, oldLines, newStart, newLines] = [head[1], head[2] ?? "1", head[3], head[4] ?? "1"].map(Number) as [
    number,
    number,
    number,
    number,
  ];
  const changes: ChangeData[] = [];
  const unended = new Set<ChangeData>();
  let oldAt = oldStart;
  let newAt = newStart;
  let at = from + 1;
  for (; at < lines.length; at++) {
    const line = lines[at] as string;
    const rest = line.slice(1);
    const done = oldAt === oldStart + oldLines && newAt === newStart + newLines;
    const last = changes.at(-1);
    if (line === unendedMark && last && !unended.has(last)) unended.add(last);
    else if (done) break;
    else if (line.startsWith("+")) changes.push({ type: "insert", content: rest, lineNumber: newAt++, isInsert: true });
    else if (line.startsWith("-")) changes.push({ type: "delete", content: rest, lineNumber: oldAt++, isDelete: true });
    else if (line.startsWith(" ")) {
      changes.push({
        type: "normal",
        content: rest,
        oldLineNumber: oldAt++,
        newLineNumber: newAt++,
        isNormal: true,
      });
    } else break;
  }
  if (oldAt !== oldStart + oldLines || newAt !== newStart + newLines) return null;
  return { hunk: { content, oldStart, oldLines, newStart, newLines, changes, unended }, end: at };
}

function describe(header: readonly string[]): Pick<PatchFile, "path" | "kind" | "facts"> {
  const value = (prefix: string) => header.find((line) => line.startsWith(prefix))?.slice(prefix.length);
  const name = (prefix: string) => pathOf(value(prefix));
  const facts: string[] = [];
  const [oldHead, newHead] = namesOfHead(header[0] ?? "");
  const from = name("rename from ") ?? name("copy from ") ?? sideOf(name("--- ")) ?? oldHead;
  const to = name("rename to ") ?? name("copy to ") ?? sideOf(name("+++ ")) ?? newHead;

  let kind: PatchFile["kind"] = "modified";
  const newMode = value("new file mode ");
  const oldMode = value("deleted file mode ");
  if (newMode !== undefined) kind = "added";
  else if (oldMode !== undefined) kind = "deleted";
  else if (value("rename from ") !== undefined) kind = "renamed";
  else if (value("copy from ") !== undefined) kind = "copied";

  if (kind === "renamed") facts.push(`Renamed from ${from}.`);
  if (kind === "copied") facts.push(`Copied from ${from}.`);
  const [before, after] = [value("old mode "), value("new mode ")];
  if (before !== undefined && after !== undefined)
    facts.push(`Mode changed from ${modeOf(before)} to ${modeOf(after)}.`);
  const mode = newMode ?? oldMode ?? after ?? value("index ")?.split(" ")[1];
  if (kind === "added" && newMode !== undefined && newMode !== "100644") facts.push(`Its mode is ${modeOf(newMode)}.`);
  if (mode === submodule || before === submodule) facts.push("A submodule: the commit that it points at changes.");
  if (value("Binary files ") !== undefined) {
    facts.push("Binary: its contents cannot be shown as text.");
  }
  if (header.length > 0 && kind === "added" && value("+++ ") === undefined && facts.length === 0) facts.push("Empty.");
  return { path: (kind === "deleted" ? from : to) ?? to ?? from ?? "", kind, facts };
}

function modeOf(mode: string): string {
  const words: Record<string, string> = {
    "100644": "a plain file",
    "100755": "executable",
    "120000": "a symbolic link",
    [submodule]: "a submodule",
  };
  return words[mode] ? `${mode} (${words[mode]})` : mode;
}

/** The two names of `diff --git a/… b/…`; both the same where the line alone cannot tell them apart. */
function namesOfHead(line: string): [string | undefined, string | undefined] {
  const names = line.slice("diff --git ".length);
  const quoted = /^("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)$/u.exec(names);
  if (quoted) return [sideOf(pathOf(quoted[1])), sideOf(pathOf(quoted[2]))];
  // Names with spaces are not quoted. Without a rename both are the same, so the line splits in its middle.
  const middle = (names.length - 1) / 2;
  const [left, right] = [names.slice(0, middle), names.slice(middle + 1)];
  if (Number.isInteger(middle) && left.slice(1) === right.slice(1)) return [sideOf(left), sideOf(right)];
  return [names, names];
}

function sideOf(name: string | undefined): string | undefined {
  if (name === undefined || name === "/dev/null") return undefined;
  return name.replace(/^[a-z]\//u, "");
}

const escapes: Record<string, number> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13, '"': 34, "\\": 92 };

/** A name as Git writes it: in quotes with escapes where it holds unusual bytes, with a tab behind it where it holds spaces. */
function pathOf(written: string | undefined): string | undefined {
  if (written === undefined) return undefined;
  const quoted = /^"((?:[^"\\]|\\.)*)"\t?$/u.exec(written);
  if (!quoted) return written.replace(/\t$/u, "");
  const bytes: number[] = [];
  const inside = quoted[1] ?? "";
  for (const part of inside.matchAll(/\\([0-7]{3})|\\(.)|([^\\]+)/gu)) {
    if (part[1]) bytes.push(Number.parseInt(part[1], 8) & 0xff);
    else if (part[2]) bytes.push(escapes[part[2]] ?? part[2].codePointAt(0) ?? 0);
    else bytes.push(...new TextEncoder().encode(part[3]));
  }
  return decode(new Uint8Array(bytes));
}
