import type {
  ApprovalState,
  CommitStatusState,
  ConnectionState,
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
