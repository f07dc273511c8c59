import type { Tone } from "@signedapproval/ui/Lozenge";
import type { Check } from "./desk.ts";
import type { Outcome, Report, Step } from "./evidence.ts";

/** What the exit code of the command line means. */
interface Meaning {
  tone: Tone;
  /** In a word or two. */
  name: string;
  sentence: string;
}

const meanings: Record<number, Meaning> = {
  1: { tone: "danger", name: "Failed", sentence: "Exit code 1: a step failed. This file proves nothing." },
  2: {
    tone: "warning",
    name: "Operator-asserted",
    sentence:
      "Exit code 2: everything that the file says about itself holds, but some of it rests on the operator's word. What is missing stands below.",
  },
};

/** The code of a step that finds nothing wrong but a key that was reported as stolen. */
const stolenKey = "stolen_key";

const stolen: Meaning = {
  tone: "danger",
  name: "Failed: stolen key",
  sentence:
    "Exit code 1: what this file proves was so, and does not stand any more. It rests on a key that was reported as having been in other hands by then. No other step fails.",
};

/** Whether a verification ended at its last step, because that failed: for a stolen key alone it goes on. */
export function ended(steps: readonly Step[]): boolean {
  const last = steps.at(-1);
  return last?.result === "failed" && last.code !== stolenKey;
}

const everything = "Exit code 0: everything holds, and everything is anchored in what you gave.";

/** What an exit code means for a file with this report. That evidence holds is one thing, and that it is of an approval another. */
export function meaningOf({ exitCode, report }: Pick<Outcome, "exitCode" | "report">): Meaning {
  if (exitCode === 0) return proved(JSON.parse(report));
  if (exitCode === 1 && onlyStolen(JSON.parse(report))) return stolen;
  return meanings[exitCode] ?? { tone: "neutral", name: `Exit code ${exitCode}`, sentence: `Exit code ${exitCode}.` };
}

function onlyStolen({ steps }: Report): boolean {
  const failed = steps.filter(({ result }) => result === "failed");
  return failed.length > 0 && failed.every(({ code }) => code === stolenKey);
}

/** Only an approval has the colour of one. */
function proved({ verdict, violation, closed }: Report): Meaning {
  if (!verdict) {
    return {
      tone: "information",
      name: "Proved: recorded",
      sentence: `${everything} What is proved is that a decision is recorded, and not what became of it.`,
    };
  }
  const state = verdict.state.toLowerCase();
  if (violation) {
    return {
      tone: "warning",
      name: `Proved: ${state}, and a violation`,
      sentence: `${everything} What is proved is the verdict, and that the merge was a violation: it does not speak for what landed.`,
    };
  }
  if (closed) {
    return {
      tone: "information",
      name: `Proved: ${state}, then ${closed}`,
      sentence: `${everything} What is proved is that the verdict was reached. By the operator's word the request was ${closed} and nothing merged: it lets nothing through any more.`,
    };
  }
  if (verdict.state === "APPROVED") return { tone: "success", name: "Proved: approved", sentence: everything };
  return {
    tone: "information",
    name: `Proved: ${state}`,
    sentence: `${everything} What is proved is that the request is ${state}: this is no approval.`,
  };
}

/** For a file with which nothing could be done. */
export const notChecked: Meaning = { tone: "danger", name: "Not checked", sentence: "This file could not be checked." };

/** How the files came out, in one sentence. */
export function countInWords(outcomes: readonly Check["checked"][]): string {
  const counts = new Map<string, number>();
  for (const outcome of outcomes) {
    const { name } = outcome && "exitCode" in outcome ? meaningOf(outcome) : notChecked;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const parts = Array.from(counts, ([name, count]) => `${count} ${name.toLowerCase()}`);
  return `${outcomes.length} ${outcomes.length === 1 ? "file" : "files"}: ${parts.join(", ")}.`;
}

const resultTones: Record<string, Tone> = { ok: "success", failed: "danger", "operator-asserted": "warning" };

/** The colour of a step's result. */
export function toneOfResult(result: string): Tone {
  return resultTones[result] ?? "neutral";
}

const labels: Record<string, { tone: Tone; sentence: string }> = {
  signed: { tone: "success", sentence: "an approver's authenticator signed it" },
  recomputed: { tone: "information", sentence: "the verifier worked it out itself" },
  "operator-asserted": { tone: "warning", sentence: "only the operator says so" },
};

/** The colour of a fact's label. */
export function toneOfLabel(label: string): Tone {
  return labels[label]?.tone ?? "neutral";
}

/** On what the facts with a label rest; empty for a label that the page does not know. */
export function restsOn(label: string): string {
  return labels[label]?.sentence ?? "";
}
