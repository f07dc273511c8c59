import type { Kind, Outcome, Problem } from "./evidence.ts";

/** The worker's first message: it can be asked, or why it cannot. */
export type Ready = { go: string; maxBundle: number } | Problem;

/** A question to the worker. */
export interface Asked {
  id: number;
  ask: "sort" | "admit" | "verify";
  file: File;
  /** What a bundle is verified against; null for nothing. */
  anchors: File | null;
}

/** What came of a bundle, and the SHA-256 of its bytes. */
export type Checked = (Outcome | Problem) & { sha256: string };

/** The worker's answer to a question, or why it has none. */
export type Answer = { id: number } & ({ result: Kind | string | Checked } | Problem);
