import { describe, expect, test } from "vitest";
import { type PatchFile, readPatch } from "./patch.ts";

/** Every line that the page would show for a diff, put back together. */
function written(text: string): string {
  const { files, preamble } = readPatch(text);
  const lines = [...preamble];
  for (const file of files) {
    lines.push(...file.header);
    for (const hunk of file.hunks) {
      lines.push(hunk.content);
      for (const change of hunk.changes) {
        lines.push({ insert: "+", delete: "-", normal: " " }[change.type] + change.content);
        if (hunk.unended.has(change)) lines.push("\\ No newline at end of file");
      }
    }
    lines.push(...file.stray);
  }
  return lines.map((line) => `${line}\n`).join("");
}

function only(text: string): PatchFile {
  const { files } = readPatch(text);
  expect(files).toHaveLength(1);
  return files[0] as PatchFile;
}

const modified = `diff --git a/src/pay.ts b/src/pay.ts
index 1c2d3e4..5f6a7b8 100644
--- a/src/pay.ts
+++ b/src/pay.ts
@@ -10,3 +10,4 @@ export function pay() {
 one
-two
+2
+two and a half
 three
@@ -40 +41 @@
-last
\\ No newline at end of file
+last
`;

describe("what Git writes", () => {
  test("a modified file", () => {
    const file = only(modified);
    expect(file).toMatchObject({ path: "src/pay.ts", kind: "modified", facts: [], stray: [], added: 3, removed: 2 });
    expect(file.hunks[0]?.changes.map((change) => change.type)).toEqual([
      "normal",
      "delete",
      "insert",
      "insert",
      "normal",
    ]);
    expect(file.hunks[1]?.changes).toMatchObject([{ lineNumber: 40 }, { lineNumber: 41 }]);
    expect([...(file.hunks[1]?.unended ?? [])]).toEqual([file.hunks[1]?.changes[0]]);
    expect(written(modified)).toBe(modified);
  });

  test.each<[string, string, Partial<PatchFile>]>([
    [
      "an added file",
      "diff --git a/a.txt b/a.txt\nnew file mode 100644\nindex 0000000..1\n--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1 @@\n+x\n",
      { path: "a.txt", kind: "added", facts: [], added: 1 },
    ],
    [
      "an empty file",
      "diff --git a/a.txt b/a.txt\nnew file mode 100644\nindex 0000000..e69de29\n",
      { path: "a.txt", kind: "added", facts: ["Empty."] },
    ],
    [
      "an executable file",
      "diff --git a/a.sh b/a.sh\nnew file mode 100755\nindex 0000000..1\n--- /dev/null\n+++ b/a.sh\n@@ -0,0 +1 @@\n+x\n",
      { kind: "added", facts: ["Its mode is 100755 (executable)."] },
    ],
    [
      "a symbolic link",
      "diff --git a/l b/l\nnew file mode 120000\nindex 0000000..1\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n",
      { kind: "added", facts: ["Its mode is 120000 (a symbolic link)."] },
    ],
    [
      "a deleted file",
      "diff --git a/a.txt b/a.txt\ndeleted file mode 100644\nindex 1..0000000\n--- a/a.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n",
      { path: "a.txt", kind: "deleted", removed: 1 },
    ],
    [
      "a rename and nothing else, with spaces",
      "diff --git a/old name.txt b/new name.txt\nsimilarity index 100%\nrename from old name.txt\nrename to new name.txt\n",
      { path: "new name.txt", kind: "renamed", facts: ["Renamed from old name.txt."], hunks: [] },
    ],
    [
      "a copy",
      "diff --git a/a b/b\nsimilarity index 90%\ncopy from a\ncopy to b\nindex 1..2 100644\n--- a/a\n+++ b/b\n@@ -1 +1 @@\n-x\n+y\n",
      { path: "b", kind: "copied", facts: ["Copied from a."] },
    ],
    [
      "a mode and nothing else",
      "diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n",
      { path: "run.sh", facts: ["Mode changed from 100644 (a plain file) to 100755 (executable)."], hunks: [] },
    ],
    [
      "a binary file",
      "diff --git a/logo.png b/logo.png\nindex 1..2 100644\nBinary files a/logo.png and b/logo.png differ\n",
      { path: "logo.png", facts: ["Binary: its contents cannot be shown as text."] },
    ],
    [
      "a submodule",
      "diff --git a/lib b/lib\nindex 1..2 160000\n--- a/lib\n+++ b/lib\n@@ -1 +1 @@\n-Subproject commit 1\n+Subproject commit 2\n",
      { path: "lib", facts: ["A submodule: the commit that it points at changes."] },
    ],
    [
      "a name that Git quotes",
      'diff --git "a/gr\\303\\266\\303\\237e\\t\\"x\\".txt" "b/gr\\303\\266\\303\\237e\\t\\"x\\".txt"\nold mode 100644\nnew mode 100755\n',
      { path: 'größe\t"x".txt' },
    ],
    [
      "a name with a space, which ends in a tab",
      "diff --git a/a b.txt b/a b.txt\nindex 1..2 100644\n--- a/a b.txt\t\n+++ b/a b.txt\t\n@@ -1 +1 @@\n-x\n+y\n",
      { path: "a b.txt" },
    ],
    [
      "lines that look like a header",
      "diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n--- a/secret\n-diff --git a/x b/x\n+++ b/secret\n+@@ -1 +1 @@\n",
      { path: "a", added: 2, removed: 2, stray: [] },
    ],
  ])("%s", (_, text, expected) => {
    expect(only(text)).toMatchObject(expected);
    expect(written(text)).toBe(text);
  });

  test("several files, in their order", () => {
    const text = modified + modified.replaceAll("pay.ts", "bank.ts");
    expect(readPatch(text).files.map((file) => [file.index, file.path])).toEqual([
      [0, "src/pay.ts"],
      [1, "src/bank.ts"],
    ]);
    expect(written(text)).toBe(text);
  });

  test("nothing", () => {
    expect(readPatch("")).toEqual({ files: [], preamble: [] });
  });
});

describe("what Git does not write is shown all the same", () => {
  test("a hunk that is shorter than it says", () => {
    const text = modified.replace("@@ -10,3 +10,4 @@", "@@ -10,9 +10,9 @@");
    const file = only(text);
    expect(file.header).toHaveLength(4);
    expect(file.stray).toContain("+two and a half");
  });

  test("a remark that Git does not make", () => {
    expect(only(modified.replace("No newline at end of file", "Approved by everybody")).stray).toContain(
      "\\ Approved by everybody",
    );
  });

  test("lines behind a hunk that it does not announce", () => {
    const text = modified.replace("@@ -10,3 +10,4 @@", "@@ -10,2 +10,2 @@");
    expect(only(text).stray).toContain("+two and a half");
  });

  test("hunks whose numbers run backwards, which would cover each other", () => {
    const file = only(modified.replace("@@ -40 +41 @@", "@@ -11 +11 @@"));
    expect(file.hunks).toHaveLength(1);
    expect(file.stray).toContain("-last");
  });

  test("text before the first file, and a binary patch", () => {
    const text = `From: somebody\n${modified}diff --git a/x b/x\nindex 1..2 100644\nGIT binary patch\nliteral 3\nKc$~{k\n\n`;
    const patch = readPatch(text);
    expect(patch.preamble).toEqual(["From: somebody"]);
    expect(patch.files[1]?.stray).toEqual(["GIT binary patch", "literal 3", "Kc$~{k", ""]);
    expect(written(text)).toBe(text);
  });
});

test("no line is ever lost, whatever the diff", () => {
  const parts = modified.split("\n");
  let seed = 3;
  const next = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed % below;
  };
  const sorted = (text: string) => text.split("\n").sort().join("\n");
  for (let round = 0; round < 1_000; round++) {
    const lines = Array.from({ length: 1 + next(25) }, () => parts[next(parts.length)] as string);
    const text = `${lines.join("\n")}\n`;
    const shown = written(text);
    // Only the order may differ: stray lines stand behind the hunks of their file.
    expect(sorted(shown)).toBe(sorted(text));
  }
});
