import { Button } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Note } from "@signedapproval/ui/Note";
import { Visible } from "@signedapproval/ui/Visible";
import { useCallback, useMemo, useState } from "react";
import { anchorOf, ChangedFile, Counts, hiddenInFile, KindLozenge, Lines, linesOf } from "./ChangedFile.tsx";
import type { PatchFile } from "./patch.ts";
import { readPatch } from "./patch.ts";

/** Files that are longer than this begin folded, and so do all that follow once so many lines are shown. */
const longFile = 400;
const longChange = 2_000;

function foldedAtFirst(files: readonly PatchFile[]): Set<number> {
  const folded = new Set<number>();
  let shown = 0;
  for (const file of files) {
    const lines = linesOf(file);
    if (lines > longFile || shown + lines > longChange) folded.add(file.index);
    else shown += lines;
  }
  return folded;
}

/** The whole change, file by file. Nothing of the diff is left out; what is folded says how much it is. */
export function Change({ text }: { text: string }) {
  const patch = useMemo(() => readPatch(text), [text]);
  const [folded, setFolded] = useState(() => foldedAtFirst(patch.files));
  const suspicious = useMemo(() => patch.files.filter((file) => hiddenInFile(file) > 0), [patch]);
  const toggle = useCallback((index: number) => {
    setFolded((before) => {
      const after = new Set(before);
      if (!after.delete(index)) after.add(index);
      return after;
    });
  }, []);

  if (text === "") return <EmptyState title="No change">The commit changes no file.</EmptyState>;
  const foldedLines = patch.files.reduce((sum, file) => sum + (folded.has(file.index) ? linesOf(file) : 0), 0);
  const total = patch.files.reduce(
    (sum, { added, removed }) => ({ added: sum.added + added, removed: sum.removed + removed }),
    {
      added: 0,
      removed: 0,
    },
  );
  return (
    <section className="sa-stack" aria-label="Change">
      <div className="sa-row sa-row--apart">
        <h2>
          {patch.files.length === 1 ? "1 file changed" : `${patch.files.length.toLocaleString()} files changed`}{" "}
          <Counts file={total} />
        </h2>
        {foldedLines > 0 && (
          <Button onClick={() => setFolded(new Set())}>Show all {foldedLines.toLocaleString()} folded lines</Button>
        )}
      </div>
      {suspicious.length > 0 && <HiddenCharacters files={suspicious} />}
      <ul className="sign__files">
        {patch.files.map((file) => (
          <li key={file.index} className="sa-row">
            <KindLozenge file={file} />
            <a className="sa-wrap" href={`#${anchorOf(file)}`}>
              <Visible text={file.path} />
            </a>
            <Counts file={file} />
            {file.facts.map((fact) => (
              <span key={fact} className="sa-subtle sa-small sa-wrap">
                <Visible text={fact} />
              </span>
            ))}
          </li>
        ))}
      </ul>
      {patch.preamble.length > 0 && (
        <pre className="change">
          <Lines lines={patch.preamble} />
        </pre>
      )}
      {patch.files.map((file) => (
        <FileAt key={file.index} file={file} open={!folded.has(file.index)} toggle={toggle} />
      ))}
    </section>
  );
}

function FileAt({ file, open, toggle }: { file: PatchFile; open: boolean; toggle: (index: number) => void }) {
  const onToggle = useCallback(() => toggle(file.index), [toggle, file.index]);
  return <ChangedFile file={file} open={open} onToggle={onToggle} />;
}

function HiddenCharacters({ files }: { files: readonly PatchFile[] }) {
  const count = files.reduce((sum, file) => sum + hiddenInFile(file), 0);
  return (
    <Note
      tone="warning"
      title={count === 1 ? "1 character that does not show" : `${count} characters that do not show`}
    >
      <p>
        The change holds characters that editors do not show or that make text read in another order. Each is marked
        where it stands.
      </p>
      <ul>
        {files.map((file) => (
          <li key={file.index}>
            <a className="sa-wrap" href={`#${anchorOf(file)}`}>
              <Visible text={file.path} />
            </a>
            : {hiddenInFile(file)}
          </li>
        ))}
      </ul>
    </Note>
  );
}
