import { Button } from "@signedapproval/ui/Button";
import { hiddenIn } from "@signedapproval/ui/characters.ts";
import { Lozenge, type Tone } from "@signedapproval/ui/Lozenge";
import { Visible } from "@signedapproval/ui/Visible";
import { memo, useMemo } from "react";
import { Decoration, Diff, type DiffProps, Hunk, type RenderToken, type TokenNode } from "react-diff-view";
import type { PatchFile } from "./patch.ts";
import "react-diff-view/style/index.css";
import "./ChangedFile.css";

const kinds: Record<PatchFile["kind"], { word: string; tone: Tone; diff: DiffProps["diffType"] }> = {
  added: { word: "Added", tone: "success", diff: "add" },
  deleted: { word: "Deleted", tone: "danger", diff: "delete" },
  modified: { word: "Modified", tone: "neutral", diff: "modify" },
  renamed: { word: "Renamed", tone: "information", diff: "rename" },
  copied: { word: "Copied", tone: "information", diff: "copy" },
};

/** How many lines of the diff belong to the file. */
export function linesOf(file: PatchFile): number {
  return file.stray.length + file.hunks.reduce((sum, hunk) => sum + hunk.changes.length, 0);
}

/** How many characters of the file's part of the diff would not show. */
export function hiddenInFile(file: PatchFile): number {
  const lines = [file.path, ...file.stray, ...file.hunks.map((hunk) => hunk.content)];
  for (const hunk of file.hunks) for (const change of hunk.changes) lines.push(withoutReturn(change.content));
  return lines.reduce((sum, line) => sum + hiddenIn(line), 0);
}

/** The element that a link to a file leads to. */
export function anchorOf(file: PatchFile): string {
  return `file-${file.index + 1}`;
}

/** The kind of change in a word and a colour. */
export function KindLozenge({ file }: { file: PatchFile }) {
  const { word, tone } = kinds[file.kind];
  return <Lozenge tone={tone}>{word}</Lozenge>;
}

/** Added and removed lines. */
export function Counts({ file }: { file: Pick<PatchFile, "added" | "removed"> }) {
  return (
    <span className="change__counts">
      <span className="change__added">
        +{file.added} <span className="sa-hidden">lines added</span>
      </span>{" "}
      <span className="change__removed">
        −{file.removed} <span className="sa-hidden">lines removed</span>
      </span>
    </span>
  );
}

export interface ChangedFileProps {
  file: PatchFile;
  open: boolean;
  onToggle: () => void;
}

/** One file of the change. Folded, it says how many lines are not shown. */
export const ChangedFile = memo(function ChangedFile({ file, open, onToggle }: ChangedFileProps) {
  const lines = linesOf(file);
  const body = `${anchorOf(file)}-lines`;
  return (
    <section className="change" id={anchorOf(file)} aria-labelledby={`${anchorOf(file)}-name`}>
      <header className="change__head">
        <h3 className="change__name" id={`${anchorOf(file)}-name`}>
          <Visible text={file.path} />
        </h3>
        <KindLozenge file={file} />
        <Counts file={file} />
        {lines > 0 && (
          <Button appearance="subtle" aria-expanded={open} aria-controls={body} onClick={onToggle}>
            {open ? "Fold" : `Show ${lines.toLocaleString()} ${lines === 1 ? "line" : "lines"}`}
          </Button>
        )}
      </header>
      {file.facts.length > 0 && (
        <ul className="change__facts">
          {file.facts.map((fact) => (
            <li key={fact}>
              <Visible text={fact} />
            </li>
          ))}
        </ul>
      )}
      <details className="change__header">
        <summary>What Git says about the file</summary>
        <pre>
          <Lines lines={file.header} />
        </pre>
      </details>
      <div id={body} hidden={!open}>
        {open && <FileLines file={file} />}
      </div>
      {!open && <p className="change__folded">{lines.toLocaleString()} lines are folded.</p>}
    </section>
  );
});

function FileLines({ file }: { file: PatchFile }) {
  const tokens = useMemo(() => tokensOf(file), [file]);
  return (
    <>
      {file.hunks.length > 0 && (
        <Diff
          viewType="unified"
          diffType={kinds[file.kind].diff}
          hunks={file.hunks}
          tokens={tokens}
          renderToken={renderToken}
        >
          {(hunks) =>
            hunks.flatMap((hunk) => [
              <Decoration key={`head ${hunk.content}`}>
                <div className="change__hunk">
                  <Visible text={hunk.content} />
                </div>
              </Decoration>,
              <Hunk key={hunk.content} hunk={hunk} />,
            ])
          }
        </Diff>
      )}
      {file.stray.length > 0 && (
        <div className="change__stray">
          <p>These lines of the diff belong to no part that could be read:</p>
          <pre>
            <Lines lines={file.stray} />
          </pre>
        </div>
      )}
    </>
  );
}

/** Lines as they are, with what does not show in them marked. */
export function Lines({ lines }: { lines: readonly string[] }) {
  let number = 0;
  return lines.map((line) => (
    <span key={number++} className="change__raw">
      <Visible text={line} />
      {"\n"}
    </span>
  ));
}

/** A carriage return at the end is how Windows ends lines; inside a line it is marked as any other control character. */
function withoutReturn(content: string): string {
  return content.endsWith("\r") ? content.slice(0, -1) : content;
}

/** The text of each line, by its number on either side, as react-diff-view looks it up. */
function tokensOf(file: PatchFile): { old: TokenNode[][]; new: TokenNode[][] } {
  const tokens: { old: TokenNode[][]; new: TokenNode[][] } = { old: [], new: [] };
  for (const hunk of file.hunks) {
    for (const change of hunk.changes) {
      const line: TokenNode[] = [{ type: "line", value: withoutReturn(change.content) }];
      if (change.content.endsWith("\r")) line.push({ type: "ending", value: "CR" });
      if (hunk.unended.has(change)) line.push({ type: "ending", value: "no line feed at the end" });
      if (change.type === "normal") {
        tokens.old[change.oldLineNumber - 1] = line;
        tokens.new[change.newLineNumber - 1] = line;
      } else {
        tokens[change.type === "insert" ? "new" : "old"][change.lineNumber - 1] = line;
      }
    }
  }
  return tokens;
}

const renderToken: RenderToken = (token, _renderDefault, index) => {
  const value = String(token["value"]);
  if (token.type === "ending") {
    return (
      <span key={index} className="change__ending">
        {value}
      </span>
    );
  }
  // A cell without text would have no height.
  return value === "" ? " " : <Visible key={index} text={value} />;
};
