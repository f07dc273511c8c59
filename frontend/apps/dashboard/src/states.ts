import type {
  ApprovalState,
  CommitStatusState,
  ConnectionState,
  EnforcementState,
  Identity,
  InstallationState,
  PullRequestState,
} from "@signedapproval/graph/generated/graphql.ts";
import type { Tone } from "@signedapproval/ui/Lozenge";

/** A state in a word and a colour. */
export interface Badge {
  label: string;
  tone: Tone;
}

export const requestBadges: Record<ApprovalState, Badge> = {
  PENDING: { label: "Waiting", tone: "information" },
  APPROVED: { label: "Approved", tone: "success" },
  REJECTED: { label: "Rejected", tone: "danger" },
  EXPIRED: { label: "Expired", tone: "warning" },
  SUPERSEDED: { label: "Superseded", tone: "neutral" },
  CANCELLED: { label: "Cancelled", tone: "neutral" },
  OVERRIDDEN: { label: "Overridden", tone: "discovery" },
};

export const pullRequestBadges: Record<PullRequestState, Badge> = {
  OPEN: { label: "Open", tone: "information" },
  MERGED: { label: "Merged", tone: "success" },
  DECLINED: { label: "Declined", tone: "neutral" },
  SUPERSEDED: { label: "Superseded", tone: "neutral" },
  GONE: { label: "Gone", tone: "neutral" },
};

export const statusBadges: Record<CommitStatusState, Badge> = {
  INPROGRESS: { label: "In progress", tone: "information" },
  SUCCESSFUL: { label: "Successful", tone: "success" },
  FAILED: { label: "Failed", tone: "danger" },
  STOPPED: { label: "Stopped", tone: "neutral" },
};

export const connectionBadges: Record<ConnectionState, Badge> = {
  ACTIVE: { label: "Connected", tone: "success" },
  NEEDS_RECONNECTING: { label: "Needs reconnecting", tone: "warning" },
  DISCONNECTED: { label: "Disconnected", tone: "neutral" },
};

export const installationBadges: Record<InstallationState, Badge> = {
  ACTIVE: { label: "Installed", tone: "success" },
  AWAITING_CONFIRMATION: { label: "Awaits confirmation", tone: "warning" },
  UNINSTALLED: { label: "Uninstalled", tone: "neutral" },
};

/** Whose name a workspace is written to in. */
export const identities: Record<Identity, string> = {
  APP: "The app's name",
  CONNECTION: "The name of who connected it",
  NOBODY: "Nobody's name: nothing is written",
};

export const enforcementBadges: Record<EnforcementState, Badge> = {
  ENFORCED: { label: "Enforced", tone: "success" },
  WARNS_ONLY: { label: "Warns only", tone: "warning" },
  OPEN: { label: "Open", tone: "danger" },
  UNKNOWN: { label: "Unknown", tone: "neutral" },
};

const worst: EnforcementState[] = ["OPEN", "WARNS_ONLY", "UNKNOWN", "ENFORCED"];

/** The state of the least enforced of several patterns; null where there is none. */
export function leastEnforced(patterns: readonly { state: EnforcementState }[]): Badge | null {
  const state = worst.find((one) => patterns.some((pattern) => pattern.state === one));
  return state ? enforcementBadges[state] : null;
}
