import type { Kind } from "./evidence.ts";
import type { Checked } from "./messages.ts";
import type { Verifier } from "./verifier.ts";

/** Where a file can lie. */
export type Place = "bundle" | "anchors";

/** Where files belong by what they say that they are. A receipt is checked like a bundle. */
const places: Record<Exclude<Kind, "">, Place> = { bundle: "bundle", receipt: "bundle", anchors: "anchors" };
const names: Record<Exclude<Kind, "">, string> = {
  bundle: "a bundle",
  receipt: "a receipt",
  anchors: "an anchors file",
};

/** A bundle or a receipt on the page. */
export interface Check {
  id: number;
  file: File;
  /** Refused: it is too large or cannot be read, whatever the anchors are. */
  state: "waiting" | "checking" | "done" | "refused";
  /** What came of it; absent until it is done. */
  checked?: Checked | { problem: string };
}

/** Everything on the page. A new object after each change. */
export interface Papers {
  /** The anchors, and why they are refused; empty where they are not. */
  anchors: { file: File; problem: string } | null;
  checks: readonly Check[];
  /** What the reader should know about the files that were last added. */
  remarks: readonly string[];
}

const empty: Papers = { anchors: null, checks: [], remarks: [] };

/**
 * Holds the files of an auditor and has the bundles checked, one after the other, against the anchors that lie there. When
 * the anchors change, all are checked again. A file that cannot be put anywhere is never dropped silently.
 */
export class Desk {
  readonly #verifier: Verifier;
  readonly #watchers = new Set<() => void>();
  #papers = empty;
  #last = 0;
  /** Counts how often the desk was cleared: files that were picked up before are not put down after. */
  #cleared = 0;
  /** Files are put down one group after the other. */
  #putting = Promise.resolve();
  #working = false;

  constructor(verifier: Verifier) {
    this.#verifier = verifier;
  }

  readonly papers = () => this.#papers;

  readonly watch = (watcher: () => void) => {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  };

  /**
   * Puts files where they belong: by what they say that they are, and where they do not say, where the reader meant them
   * to be.
   */
  add(files: readonly File[], meant?: Place) {
    const cleared = this.#cleared;
    this.#putting = this.#putting.then(async () => {
      if (cleared !== this.#cleared) return;
      this.#change({ remarks: [] });
      for (const file of files) {
        const put = await this.#place(file, meant);
        if (cleared !== this.#cleared) return;
        put();
      }
      void this.#work();
    });
  }

  /** Takes the anchors away. */
  removeAnchors() {
    this.#replaceAnchors(null);
    void this.#work();
  }

  /** Takes everything away. */
  clear() {
    this.#cleared++;
    this.#change(empty);
  }

  /** Finds out where a file belongs, and returns what puts it there. */
  async #place(file: File, meant: Place | undefined): Promise<() => void> {
    const limit = this.#verifier.maxBundle;
    if (file.size > limit) {
      const problem = `It has ${inBytes(file.size)}, and a file may have ${inBytes(limit)} at most.`;
      return () => this.#addRefused(file, problem);
    }
    try {
      const said = await this.#verifier.sort(file);
      const place = (said && places[said]) || meant || "bundle";
      const problem = place === "anchors" ? await this.#verifier.admit(file) : "";
      return () => {
        if (said && meant && place !== meant) {
          this.#remark(`${file.name} says that it is ${names[said]}: it was put there.`);
        }
        if (place === "bundle") this.#add({ id: ++this.#last, file, state: "waiting" });
        else {
          const before = this.#papers.anchors;
          if (before) this.#remark(`${file.name} has taken the place of ${before.file.name}.`);
          this.#replaceAnchors({ file, problem });
        }
      };
    } catch (error) {
      return () => this.#addRefused(file, sentenceOf(error));
    }
  }

  #addRefused(file: File, problem: string) {
    this.#add({ id: ++this.#last, file, state: "refused", checked: { problem } });
  }

  #add(check: Check) {
    this.#change({ checks: [...this.#papers.checks, check] });
  }

  #remark(remark: string) {
    this.#change({ remarks: [...this.#papers.remarks, remark] });
  }

  #replaceAnchors(anchors: Papers["anchors"]) {
    const checks = this.#papers.checks.map((check): Check => {
      const { id, file, state } = check;
      return state === "refused" ? check : { id, file, state: "waiting" };
    });
    this.#change({ anchors, checks });
  }

  async #work() {
    if (this.#working) return;
    this.#working = true;
    for (;;) {
      const next = this.#papers.checks.find(({ state }) => state === "waiting");
      if (!next) break;
      const checking: Check = { ...next, state: "checking" };
      this.#replace(next, checking);
      const { anchors } = this.#papers;
      const against = anchors && !anchors.problem ? anchors.file : null;
      const checked = await this.#verifier
        .verify(next.file, against)
        .catch((error: unknown) => ({ problem: sentenceOf(error) }));
      // Where the anchors have changed meanwhile, or the desk was cleared, it is there no more.
      this.#replace(checking, { ...checking, state: "done", checked });
    }
    this.#working = false;
  }

  #replace(before: Check, after: Check) {
    this.#change({ checks: this.#papers.checks.map((check) => (check === before ? after : check)) });
  }

  #change(change: Partial<Papers>) {
    this.#papers = { ...this.#papers, ...change };
    for (const watcher of this.#watchers) watcher();
  }
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function inBytes(count: number): string {
  return `${count.toLocaleString("en")} bytes`;
}
