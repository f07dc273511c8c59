import { Button } from "@signedapproval/ui/Button";
import { Note } from "@signedapproval/ui/Note";
import { Visible } from "@signedapproval/ui/Visible";
import { useEffect, useId, useRef, useState, useSyncExternalStore } from "react";
import { CheckedBundle } from "./CheckedBundle.tsx";
import type { Desk, Papers } from "./desk.ts";
import { countInWords } from "./words.ts";

/** Where files are put down, and what came of them. */
export function Bench({ desk }: { desk: Desk }) {
  const papers = useSyncExternalStore(desk.watch, desk.papers);
  const { anchors, checks, remarks } = papers;
  const over = useDrop((files) => desk.add(files));
  const section = useRef<HTMLElement>(null);
  const used = anchors !== null || checks.length > 0 || remarks.length > 0;
  return (
    <>
      <section
        ref={section}
        className={over ? "verify__files verify__files--over" : "verify__files"}
        aria-labelledby="files"
      >
        <h2 id="files">Files</h2>
        <p>Drop bundles, receipts and an anchors file anywhere on this page, or choose them here.</p>
        <div className="verify__pickers">
          <div className="sa-stack sa-stack--tight">
            <Picker appearance="primary" multiple onPick={(files) => desk.add(files, "bundle")}>
              Choose bundles
            </Picker>
            <p className="sa-subtle">
              {checks.length === 0 ? "None yet." : `${checks.length} ${checks.length === 1 ? "file" : "files"}.`}
            </p>
          </div>
          <div className="sa-stack sa-stack--tight">
            <Picker onPick={(files) => desk.add(files, "anchors")}>Choose an anchors file</Picker>
            <Anchors anchors={anchors} onRemove={() => desk.removeAnchors()} />
          </div>
        </div>
        {anchors?.problem && (
          <Note tone="danger" urgent title="The anchors file is refused, and nothing is checked against it">
            <Visible text={anchors.problem} />
          </Note>
        )}
        {remarks.length > 0 && (
          <Note tone="information" urgent>
            <ul>
              {remarks.map((remark) => (
                <li key={remark}>
                  <Visible text={remark} />
                </li>
              ))}
            </ul>
          </Note>
        )}
        {used && (
          <div>
            <Button
              onClick={() => {
                desk.clear();
                // This button goes away, and the keyboard would lose its place.
                section.current?.querySelector("button")?.focus();
              }}
            >
              Start over
            </Button>
          </div>
        )}
      </section>
      <Progress papers={papers} />
      {checks.length > 0 && (
        <section className="sa-stack" aria-labelledby="results">
          <h2 id="results">{checks.length === 1 ? "Result" : "Results"}</h2>
          <ul className="sa-stack">
            {checks.map((check) => (
              <li key={check.id}>
                <CheckedBundle check={check} alone={checks.length === 1} />
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function Anchors({ anchors, onRemove }: { anchors: Papers["anchors"]; onRemove: () => void }) {
  if (!anchors) {
    return <p className="sa-subtle">None: every bundle then rests on the operator's word in part.</p>;
  }
  return (
    <p className="sa-row">
      <span className="sa-wrap">
        <Visible text={anchors.file.name} />
      </span>
      <Button appearance="link" onClick={onRemove}>
        Remove the anchors
      </Button>
    </p>
  );
}

/** How far the checking is; read aloud when it is through. */
function Progress({ papers: { checks } }: { papers: Papers }) {
  const id = useId();
  const done = checks.filter(({ state }) => state === "done" || state === "refused");
  const busy = done.length < checks.length;
  return (
    <div className="verify__progress">
      {busy && (
        <>
          <label htmlFor={id}>
            Checking file {done.length + 1} of {checks.length}…
          </label>
          {/* Without a value while there is one: how far it is with one bundle is not known. */}
          <progress id={id} max={checks.length} {...(checks.length > 1 && { value: done.length })} />
        </>
      )}
      <p role="status" className="verify__sum">
        {!busy && checks.length > 0 && countInWords(done.map(({ checked }) => checked))}
      </p>
    </div>
  );
}

interface PickerProps {
  onPick: (files: File[]) => void;
  multiple?: boolean;
  appearance?: "primary";
  children: string;
}

/** A button that opens the browser's file chooser. */
function Picker({ onPick, multiple = false, appearance, children }: PickerProps) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <div>
      <Button {...(appearance && { appearance })} onClick={() => input.current?.click()}>
        {children}
      </Button>
      <input
        ref={input}
        type="file"
        hidden
        multiple={multiple}
        accept=".json,application/json"
        onChange={({ target }) => {
          onPick(Array.from(target.files ?? []));
          // The same file can be chosen again after it was changed.
          target.value = "";
        }}
      />
    </div>
  );
}

/** Takes files that are dropped anywhere on the page; true while some are held over it. */
function useDrop(onDrop: (files: File[]) => void): boolean {
  const [over, setOver] = useState(false);
  const latest = useRef(onDrop);
  useEffect(() => {
    latest.current = onDrop;
  });
  useEffect(() => {
    // Whatever is dropped, the browser must not leave the page for it.
    const hold = (event: DragEvent) => {
      event.preventDefault();
      const files = event.dataTransfer?.types.includes("Files") ?? false;
      if (event.dataTransfer) event.dataTransfer.dropEffect = files ? "copy" : "none";
      setOver(files);
    };
    const leave = (event: DragEvent) => {
      if (!event.relatedTarget) setOver(false);
    };
    const drop = (event: DragEvent) => {
      event.preventDefault();
      setOver(false);
      const files = Array.from(event.dataTransfer?.files ?? []);
      if (files.length > 0) latest.current(files);
    };
    const end = new AbortController();
    const { signal } = end;
    window.addEventListener("dragenter", hold, { signal });
    window.addEventListener("dragover", hold, { signal });
    window.addEventListener("dragleave", leave, { signal });
    window.addEventListener("drop", drop, { signal });
    return () => end.abort();
  }, []);
  return over;
}
