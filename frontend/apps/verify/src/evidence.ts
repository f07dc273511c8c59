/** What the report of a verification says, as the command line prints it with `--json`. Words and numbers are Go's. */
export interface Report {
  steps: Step[];
  facts: Fact[] | null;
  /** The anchors without which the operator's word is needed. */
  missing: string[] | null;
  /** What a bundle came to; absent where a step failed, and from the report of a receipt, which is about no request. */
  verdict?: { state: string };
  /** The merge is called a violation by its own record. */
  violation?: boolean;
  /** How the request ended where nothing of it was merged. */
  closed?: string;
}

export interface Step {
  number: number;
  name: string;
  result: string;
  detail: string;
  /** Of the refusal, where the step failed. */
  code?: string;
}

export interface Fact {
  name: string;
  value: string;
  /** On what it rests. */
  label: string;
}

/** What came of checking one bundle. */
export interface Outcome {
  /** As the command line ends with: 0, 1 or 2. */
  exitCode: number;
  sentence: string;
  /** The text of the report. */
  report: string;
}

/** Why something could not even be checked. */
export interface Problem {
  problem: string;
}

/** What a file says that it is; empty where it does not say. */
export type Kind = "bundle" | "receipt" | "anchors" | "";

/** The functions of the compiled package evidence; see wasm/main.go. */
export interface EvidenceVerifier {
  /** The version of Go that compiled it. */
  readonly go: string;
  /** How large a bundle may be, in bytes. */
  readonly maxBundle: number;
  kind(file: Uint8Array): Kind;
  /** Why an anchors document is refused; empty where it is not. */
  problem(anchors: Uint8Array): string;
  verify(bundle: Uint8Array, anchors: Uint8Array | null): Outcome | Problem;
}
