import { type Failure, failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { FullCommit } from "@signedapproval/ui/Commit";
import { decode } from "@signedapproval/ui/characters.ts";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { Spinner } from "@signedapproval/ui/Spinner";
import { useEffect, useState } from "react";
import { useClient } from "urql";
import { fromBase64, hex, sha256 } from "./bytes.ts";
import { Change } from "./Change.tsx";

const ChangeQuery = graphql(`
  query Change($id: ID!) {
    node(id: $id) {
      id
      ... on ApprovalRequest {
        diff {
          content
          sha256
          size
          headCommit
          destinationCommit
          mergeBases
        }
      }
    }
  }
`);

/** What is on the screen, by the digest of the very bytes that were decoded for it. */
export interface RenderedChange {
  requestId: string;
  diffSha256: string;
  diffSize: number;
  headCommit: string;
  destinationCommit: string;
  mergeBases: readonly string[];
}

type State =
  | { kind: "loading" }
  | { kind: "failed"; failure: Failure }
  | { kind: "unreadable" }
  | { kind: "shown"; text: string; change: RenderedChange };

export interface ShownChangeProps {
  requestId: string;
  /** Called once the change is on the screen. */
  onRendered: (change: RenderedChange) => void;
}

/** Reads the change of a request, computes the digest of its bytes, and shows those bytes. */
export function ShownChange({ requestId, onRendered }: ShownChangeProps) {
  const client = useClient();
  const [attempt, setAttempt] = useState(0);
  const [state, setState] = useState<State>({ kind: "loading" });

  // biome-ignore lint/correctness/useExhaustiveDependencies: another attempt reads again
  useEffect(() => {
    let left = false;
    setState({ kind: "loading" });
    const read = async () => {
      const { data, error } = await client
        .query(ChangeQuery, { id: requestId }, { requestPolicy: "network-only" })
        .toPromise();
      const node = data?.node;
      const diff = node?.__typename === "ApprovalRequest" ? node.diff : null;
      const next = diff
        ? await render(requestId, diff)
        : ({ kind: "failed", failure: failureOf(error) ?? gone } as const);
      if (!left) setState(next);
    };
    void read();
    return () => {
      left = true;
    };
  }, [client, requestId, attempt]);

  useEffect(() => {
    if (state.kind === "shown") onRendered(state.change);
  }, [state, onRendered]);

  switch (state.kind) {
    case "loading":
      return <Spinner label="Reading the change from Bitbucket…" />;
    case "failed":
      return (
        <ErrorNote failure={state.failure} doing="read the change" onRetry={() => setAttempt((count) => count + 1)} />
      );
    case "unreadable":
      return (
        <Note tone="danger" title="Refused: the change is not what it claims to be" urgent>
          The bytes that arrived do not have the digest that was given for them. Nothing can be signed here.
        </Note>
      );
    case "shown":
      return (
        <>
          <Change text={state.text} />
          <Digest change={state.change} />
        </>
      );
  }
}

const gone: Failure = { kind: "unavailable", code: "", message: "The change could not be read. Try again." };

async function render(
  requestId: string,
  diff: Omit<RenderedChange, "requestId" | "diffSha256" | "diffSize"> & { content: string; sha256: string },
): Promise<State> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = fromBase64(diff.content);
  } catch {
    return { kind: "unreadable" };
  }
  const diffSha256 = hex(await sha256(bytes));
  if (diffSha256 !== diff.sha256) return { kind: "unreadable" };
  const { headCommit, destinationCommit, mergeBases } = diff;
  return {
    kind: "shown",
    text: decode(bytes),
    change: { requestId, diffSha256, diffSize: bytes.length, headCommit, destinationCommit, mergeBases },
  };
}

function Digest({ change }: { change: RenderedChange }) {
  return (
    <details className="sign__digest">
      <summary>What exactly was compared</summary>
      <dl>
        <dt>SHA-256 of the {change.diffSize.toLocaleString()} bytes shown</dt>
        <dd>
          <FullCommit hash={change.diffSha256} />
        </dd>
        <dt>Destination commit</dt>
        <dd>
          <FullCommit hash={change.destinationCommit} />
        </dd>
        {change.mergeBases.map((base) => (
          <div key={base}>
            <dt>Merge base</dt>
            <dd>
              <FullCommit hash={base} />
            </dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
