import type { ApprovalState } from "@signedapproval/graph/generated/graphql.ts";

/** Which requests a list shows. */
export type RequestFilter = "open" | "decided" | "all";

/** The states behind each filter; none: every state. */
export const filters: Record<RequestFilter, { label: string; states: ApprovalState[] | null }> = {
  open: { label: "Open", states: ["PENDING", "REJECTED", "EXPIRED"] },
  decided: { label: "Decided and closed", states: ["APPROVED", "OVERRIDDEN", "SUPERSEDED", "CANCELLED"] },
  all: { label: "All", states: null },
};

export function isRequestFilter(value: unknown): value is RequestFilter {
  return typeof value === "string" && Object.hasOwn(filters, value);
}
