import { failureOf } from "@signedapproval/graph/failure";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Spinner } from "@signedapproval/ui/Spinner";
import type { ReactNode } from "react";
import type { UseQueryExecute, UseQueryState } from "urql";

export interface AnswerProps<Data, Variables extends Record<string, unknown>> {
  result: UseQueryState<Data, Variables>;
  ask: UseQueryExecute;
  /** What is being read, as the end of "Could not …". */
  doing: string;
  /** What to show of what was answered. */
  children: (data: Data) => ReactNode;
}

/** A query on the screen: on its way, refused, or answered. What was answered stays while it is asked again. */
export function Answer<Data, Variables extends Record<string, unknown>>({
  result,
  ask,
  doing,
  children,
}: AnswerProps<Data, Variables>) {
  const failure = failureOf(result.error);
  const note = failure && (
    <ErrorNote failure={failure} doing={doing} onRetry={() => ask({ requestPolicy: "network-only" })} />
  );
  if (result.data && failure?.kind !== "signed-out") {
    return (
      <>
        {note}
        {children(result.data)}
      </>
    );
  }
  return note ?? <Spinner />;
}
