import { Button } from "@signedapproval/ui/Button";
import { Note } from "@signedapproval/ui/Note";
import { Spinner } from "@signedapproval/ui/Spinner";
import { useEffect, useMemo, useState } from "react";
import { About } from "./About.tsx";
import { Bench } from "./Bench.tsx";
import { Desk } from "./desk.ts";
import type { Loaded } from "./load.ts";
import "./VerifyPage.css";

export interface VerifyPageProps {
  /** The verifier, as soon as it is there. */
  loading: Promise<Loaded>;
  /** What builds the verifier from the source. */
  command: string;
}

/** Where an auditor has bundles checked, in the browser alone. */
export function VerifyPage({ loading, command }: VerifyPageProps) {
  const [loaded, setLoaded] = useState<Loaded | Error>();
  useEffect(() => {
    loading.then(setLoaded, (error: unknown) => setLoaded(error instanceof Error ? error : new Error(String(error))));
  }, [loading]);
  const desk = useMemo(() => (loaded && !(loaded instanceof Error) ? new Desk(loaded.verifier) : null), [loaded]);
  return (
    <main className="verify">
      <header className="sa-stack sa-stack--tight">
        <h1>Verify evidence</h1>
        <p>
          Checks evidence bundles and receipts in this browser, step by step. The files stay on your device: once the
          verifier is loaded, the browser lets this page connect to nothing, and it works offline.
        </p>
      </header>
      <Note tone="information" title="A convenience, not the reference">
        This page is served by the party that you are checking. A dishonest server could serve a page that says yes to
        everything. What counts is the command line, built by you from the source:{" "}
        <code className="sa-wrap">signedapproval verify bundle.json --anchors anchors.json</code>
      </Note>
      {desk ? (
        <Bench desk={desk} />
      ) : loaded instanceof Error ? (
        <Note
          tone="danger"
          title="The verifier could not be loaded"
          urgent
          actions={<Button onClick={() => window.location.reload()}>Reload</Button>}
        >
          {loaded.message} The command line does the same.
        </Note>
      ) : (
        <Spinner label="Loading the verifier…" />
      )}
      <About command={command} loaded={loaded instanceof Error ? undefined : loaded} />
    </main>
  );
}
