import { graphql } from "@signedapproval/graph/generated";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { sentenceCase } from "@signedapproval/ui/sentence.ts";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useEffect } from "react";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { More } from "../More.tsx";
import { pageAfter, usePages } from "../pages.ts";
import "./History.css";

const HistoryQuery = graphql(`
  query History($id: ID!, $after: String) {
    node(id: $id) {
      id
      ... on PullRequest {
        history(first: 50, after: $after) {
          edges {
            cursor
            node {
              sequence
              type
              sentence
              at
              leafHash
            }
          }
          pageInfo {
            hasNextPage
            endCursor
          }
        }
      }
    }
  }
`);

/** A pull request's chain of leaves, oldest first. It is read again whenever the version moves. */
export function History({ pullRequest, version }: { pullRequest: string; version: number }) {
  const { pages, more } = usePages();
  return pages.map((after, index) => (
    <HistoryPage
      key={after ?? ""}
      pullRequest={pullRequest}
      version={version}
      after={after}
      last={index === pages.length - 1}
      onMore={more}
    />
  ));
}

interface HistoryPageProps {
  pullRequest: string;
  version: number;
  after: string | undefined;
  last: boolean;
  onMore: (after: string) => void;
}

function HistoryPage({ pullRequest, version, after, last, onMore }: HistoryPageProps) {
  const [result, ask] = useQuery({ query: HistoryQuery, variables: { id: pullRequest, ...pageAfter(after) } });
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new version is what asks again
  useEffect(() => {
    // Leaves are only appended, so only the last page can have grown.
    if (last) ask({ requestPolicy: "network-only" });
  }, [version]);
  return (
    <Answer result={result} ask={ask} doing="read the history">
      {({ node }) => {
        if (node?.__typename !== "PullRequest") return <EmptyState title="No history" />;
        const { edges, pageInfo } = node.history;
        if (edges.length === 0) return <EmptyState title="No history">Nothing has happened yet.</EmptyState>;
        return (
          <>
            <ol className="history">
              {edges.map(({ node: entry }) => (
                <li key={entry.sequence}>
                  <span className="history__number">{entry.sequence}</span>
                  <div className="sa-wrap">
                    <p>
                      <Visible text={sentenceCase(entry.sentence)} />
                    </p>
                    <p className="sa-small sa-subtle">
                      {entry.type}, <Time value={entry.at} exact />
                    </p>
                    <code className="history__leaf" title="Leaf hash">
                      {entry.leafHash}
                    </code>
                  </div>
                </li>
              ))}
            </ol>
            <More pageInfo={pageInfo} last={last} onMore={onMore} />
          </>
        );
      }}
    </Answer>
  );
}
