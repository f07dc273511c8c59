import { useEffect, useState } from "react";
import { Note } from "./Note.tsx";
import { Time } from "./Time.tsx";

/** How long writing a build status may take before the reader is told that it does, in milliseconds. */
export const patience = 3_000;

export interface OwedStatusProps {
  /** The build status that is owed; null or undefined where none is. */
  status: { owedSince?: string | null | undefined; problem: string } | null | undefined;
}

/** Says that Bitbucket does not show what stands here, once that takes longer than it should. */
export function OwedStatus({ status }: OwedStatusProps) {
  const since = status?.owedSince;
  // The page's own clock and the server's need not agree: what counts is how long this page has seen it.
  const [late, setLate] = useState<string | null>(null);
  useEffect(() => {
    if (!since) return;
    const timer = setTimeout(() => setLate(since), patience);
    return () => clearTimeout(timer);
  }, [since]);
  if (!status) return null;
  if (status.problem) {
    return (
      <Note tone="warning" title="The build status on Bitbucket is not right">
        {status.problem}
        {since && (
          <>
            {" "}
            It has been so since <Time value={since} exact />.
          </>
        )}
      </Note>
    );
  }
  if (!since || late !== since) return null;
  return (
    <Note tone="warning" title="Bitbucket does not show this yet">
      The build status has not reached Bitbucket since <Time value={since} exact />. It is tried again by itself;
      decisions that were made are kept, and need not be made again.
    </Note>
  );
}
