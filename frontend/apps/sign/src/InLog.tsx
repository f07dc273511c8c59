import { Button } from "@signedapproval/ui/Button";
import { useCallback, useEffect, useState } from "react";
import { fetchReceipt, NotYet, type Recorded } from "./receipt.ts";

type State =
  | { is: "waiting" }
  | { is: "late" }
  | { is: "wrong"; why: string }
  | { is: "recorded"; recorded: Recorded; href: string };

/** How often the page asks by itself before it leaves that to the reader. */
const attempts = 4;

export interface InLogProps {
  /** Where the receipt is. */
  path: string;
  /** The SHA-256 of the statement that was signed. */
  statementSha256: string;
}

/** Whether the log has the decision: said only once its proof was checked here. */
export function InLog({ path, statementSha256 }: InLogProps) {
  const [state, setState] = useState<State>({ is: "waiting" });
  const [round, setRound] = useState(0);
  const again = useCallback(() => {
    setState({ is: "waiting" });
    setRound((last) => last + 1);
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round asks again
  useEffect(() => {
    let here = true;
    let href = "";
    void (async () => {
      const state = await ask(path, statementSha256, () => here);
      if (!here) return;
      if (state.is === "recorded") href = state.href;
      setState(state);
    })();
    return () => {
      here = false;
      if (href) URL.revokeObjectURL(href);
    };
  }, [path, statementSha256, round]);

  switch (state.is) {
    case "waiting":
      return <p role="status">Signed. It is being recorded in the log…</p>;
    case "late":
      return (
        <>
          <p role="status">
            Signed, and kept by the server. The log has not published it yet: nothing turns green before it has.
          </p>
          <Button onClick={again}>Ask again</Button>
        </>
      );
    case "wrong":
      return (
        <>
          <p role="alert">
            Signed, but the server’s proof that it is recorded does not hold: {state.why}. Tell an administrator.
          </p>
          <Button onClick={again}>Ask again</Button>
        </>
      );
    case "recorded":
      return (
        <p role="status">
          Recorded as leaf {state.recorded.index} of the log, under a checkpoint of {state.recorded.size} leaves: this
          page has checked the proof.{" "}
          <a href={state.href} download="receipt.json">
            Keep the receipt
          </a>
        </p>
      );
  }
}

async function ask(path: string, statementSha256: string, wanted: () => boolean): Promise<State> {
  for (let attempt = 1; ; attempt++) {
    try {
      const recorded = await fetchReceipt(path, statementSha256);
      return { is: "recorded", recorded, href: URL.createObjectURL(recorded.file) };
    } catch (error) {
      if (!(error instanceof NotYet)) return { is: "wrong", why: error instanceof Error ? error.message : "unknown" };
      if (attempt === attempts || !wanted()) return { is: "late" };
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
    }
  }
}
