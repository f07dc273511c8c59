import type { ApprovalState, PullRequestState } from "@signedapproval/graph/generated/graphql.ts";
import type { Tone } from "@signedapproval/ui/Lozenge";

/** A state in a word and a colour. */
export interface Badge {
  label: string;
  tone: Tone;
}

const requestBadges: Record<ApprovalState, Badge> = {
  PENDING: { label: "Waiting", tone: "information" },
  APPROVED: { label: "Approved", tone: "success" },
  REJECTED: { label: "Rejected", tone: "danger" },
  EXPIRED: { label: "Expired", tone: "warning" },
  SUPERSEDED: { label: "Superseded", tone: "neutral" },
  CANCELLED: { label: "Cancelled", tone: "neutral" },
  OVERRIDDEN: { label: "Overridden", tone: "discovery" },
};

const closedBadges: Record<Exclude<PullRequestState, "OPEN">, Badge> = {
  MERGED: { label: "Merged", tone: "success" },
  DECLINED: { label: "Declined", tone: "neutral" },
  SUPERSEDED: { label: "Superseded", tone: "neutral" },
  GONE: { label: "Gone", tone: "neutral" },
};

/** What a pull request and its request amount to: a closed pull request speaks before its request does. */
export function badgeOf(pullRequest: {
  state: PullRequestState;
  draft: boolean;
  request: { state: ApprovalState } | null | undefined;
}): Badge {
  if (pullRequest.state !== "OPEN") return closedBadges[pullRequest.state];
  if (pullRequest.draft) return { label: "Draft", tone: "neutral" };
  if (!pullRequest.request) return { label: "No rule asks", tone: "neutral" };
  return requestBadges[pullRequest.request.state];
}
