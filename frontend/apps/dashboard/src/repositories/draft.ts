import type { RuleInput } from "@signedapproval/graph/generated/graphql.ts";

/** A rule while it is edited. Numbers are text as it was typed; the server says what is wrong with them. */
export interface RuleDraft {
  key: string;
  name: string;
  /** One pattern a line. */
  branches: string;
  requirements: RequirementDraft[];
  authorMayApprove: boolean;
  expiresAfter: string;
  expiresUnit: ExpiryUnit;
  /** null: nobody can override. */
  override: QuorumDraft | null;
  /** null: nothing is merged. */
  autoMerge: { strategy: string; closeSourceBranch: boolean; messageTemplate: string } | null;
  keys: KeysDraft;
  /** How many witnesses must have cosigned the log. */
  cosignatures: string;
}

/** Which keys count for approvals and overrides; every one while nothing is asked of them. */
export interface KeysDraft {
  /** Only those that somebody else vouched for. */
  countersigned: boolean;
  /** Only those that are proved to be of one of these models; of any where there are none. */
  models: readonly Model[];
}

/** A model of authenticators: its AAGUID, and what its maker calls it where the server knows. */
export interface Model {
  aaguid: string;
  description: string | null;
}

/** How many people, and out of whom. */
export interface QuorumDraft {
  quorum: string;
  everyone: boolean;
  approvers: readonly { accountId: string; name: string }[];
}

export interface RequirementDraft extends QuorumDraft {
  key: string;
  name: string;
}

export type ExpiryUnit = "minutes" | "hours" | "days";

export const unitSeconds: Record<ExpiryUnit, number> = { minutes: 60, hours: 3_600, days: 86_400 };

let made = 0;
const newKey = () => `draft-${made++}`;

export function newRequirement(): RequirementDraft {
  return { key: newKey(), name: "Approval", quorum: "1", everyone: true, approvers: [] };
}

/** The rule that a repository begins with: one approval of anybody who may write, for a week. */
export function newRule(name: string, branches: string): RuleDraft {
  return {
    key: newKey(),
    name,
    branches,
    requirements: [newRequirement()],
    authorMayApprove: false,
    expiresAfter: "7",
    expiresUnit: "days",
    override: null,
    autoMerge: null,
    keys: { countersigned: false, models: [] },
    cosignatures: "0",
  };
}

interface SavedQuorum {
  quorum: number;
  everyone: boolean;
  approvers: readonly { accountId: string; name: string }[];
}

/** A rule in force, as the API gives it. */
export interface SavedRule {
  name: string;
  branches: readonly string[];
  requirements: readonly (SavedQuorum & { name: string })[];
  override: SavedQuorum | null;
  authorMayApprove: boolean;
  expiresAfterSeconds: number;
  autoMerge: { strategy: string; closeSourceBranch: boolean; messageTemplate: string } | null;
  keys: KeysDraft | null;
  cosignatures: number;
}

/** Opens a saved rule for editing. */
export function draftOf(rule: SavedRule): RuleDraft {
  const units = ["days", "hours", "minutes"] as const;
  const unit = units.find((unit) => rule.expiresAfterSeconds % unitSeconds[unit] === 0) ?? "minutes";
  return {
    key: newKey(),
    name: rule.name,
    branches: rule.branches.join("\n"),
    requirements: rule.requirements.map((requirement) => ({
      key: newKey(),
      name: requirement.name,
      ...quorumDraftOf(requirement),
    })),
    authorMayApprove: rule.authorMayApprove,
    expiresAfter: String(rule.expiresAfterSeconds / unitSeconds[unit]),
    expiresUnit: unit,
    override: rule.override && quorumDraftOf(rule.override),
    autoMerge: rule.autoMerge && {
      strategy: rule.autoMerge.strategy,
      closeSourceBranch: rule.autoMerge.closeSourceBranch,
      messageTemplate: rule.autoMerge.messageTemplate,
    },
    keys: rule.keys ?? { countersigned: false, models: [] },
    cosignatures: String(rule.cosignatures),
  };
}

function quorumDraftOf({ quorum, everyone, approvers }: SavedQuorum): QuorumDraft {
  return { quorum: String(quorum), everyone, approvers };
}

/** The patterns of a rule: one a line, empty lines mean nothing. */
export function patternsOf(branches: string): string[] {
  return branches
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

/** The rules as they are sent. What is no whole number becomes one that the server refuses beside its field. */
export function inputOf(rules: readonly RuleDraft[]): RuleInput[] {
  return rules.map((rule) => ({
    name: rule.name.trim(),
    branches: patternsOf(rule.branches),
    requirements: rule.requirements.map((requirement) => ({
      name: requirement.name.trim(),
      ...quorumOf(requirement),
    })),
    authorMayApprove: rule.authorMayApprove,
    expiresAfterSeconds: wholeNumber(rule.expiresAfter) * unitSeconds[rule.expiresUnit],
    ...(rule.override && { override: quorumOf(rule.override) }),
    ...(rule.autoMerge && { autoMerge: rule.autoMerge }),
    ...keysOf(rule.keys),
    // Nothing typed is none; what is no number must not be taken for none.
    cosignatures: rule.cosignatures.trim() === "" ? 0 : wholeNumber(rule.cosignatures, -1),
  }));
}

function keysOf({ countersigned, models }: KeysDraft): Pick<RuleInput, "keys"> {
  if (!countersigned && models.length === 0) return {};
  // The server keeps them in this order, and counts in it where it names one.
  return { keys: { countersigned, models: models.map((model) => model.aaguid).sort() } };
}

function quorumOf({ quorum, everyone, approvers }: QuorumDraft) {
  return {
    quorum: wholeNumber(quorum),
    everyone,
    approvers: everyone ? [] : approvers.map((account) => account.accountId),
  };
}

// Above every limit, and small enough that no unit takes it out of what an Int can hold.
const most = 20_000;

function wholeNumber(text: string, refused = 0): number {
  return /^\d{1,9}$/u.test(text.trim()) ? Math.min(Number(text), most) : refused;
}

/** The problems of a form by the field that each is about. */
export class Problems {
  readonly #problems: readonly { path: string; message: string }[];

  constructor(errors: readonly { message: string; path: readonly string[] }[]) {
    this.#problems = errors.map(({ path, message }) => ({ path: normal(path.join(".")), message }));
  }

  /** What is wrong with a field, or with something inside of it. */
  at(path: string): string | undefined {
    const found = this.#problems.filter((problem) => problem.path === path || problem.path.startsWith(`${path}.`));
    return found.length > 0 ? [...new Set(found.map((problem) => problem.message))].join(" ") : undefined;
  }

  /** Everything that is wrong, in the order of the form. */
  get all(): string[] {
    return this.#problems.map((problem) => problem.message);
  }
}

/** `rules[0].requirements[1].approvers.accounts[2]` and `rules.0.requirements.1.approvers.2` are the same place. */
function normal(path: string): string {
  return path
    .replace(/\[(\d+)\]/gu, ".$1")
    .replace(/^input\./u, "")
    .replace(/\.approvers\.accounts/u, ".approvers");
}
