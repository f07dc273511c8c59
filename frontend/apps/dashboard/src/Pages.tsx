import type { ReactNode } from "react";
import { type TypedDocumentNode, useQuery } from "urql";
import { Answer } from "./Answer.tsx";
import { More } from "./More.tsx";
import { pageAfter, usePages } from "./pages.ts";

interface Connection<Edge> {
  edges: readonly Edge[];
  pageInfo: { hasNextPage: boolean; endCursor: string | null };
}

export interface PagesProps<Data, Variables extends { after?: string | null | undefined }, Edge> {
  query: TypedDocumentNode<Data, Variables>;
  /** What is asked for, but for the page. With others it is another list: give it another key. */
  variables: Omit<Variables, "after">;
  /** What is being read, as the end of "Could not …". */
  doing: string;
  /** The list in what was answered. */
  list: (data: Data) => Connection<Edge> | null | undefined;
  /** What to show where there is no list or nothing in it. */
  empty: (data: Data) => ReactNode;
  /** What to show of a page's entries. */
  children: (edges: readonly Edge[]) => ReactNode;
}

/** A list that is read page by page: each page asks for itself, and the last one offers the next. */
export function Pages<Data, Variables extends { after?: string | null | undefined }, Edge>(
  props: PagesProps<Data, Variables, Edge>,
) {
  const { pages, more } = usePages();
  return pages.map((after, index) => (
    <Page key={after ?? ""} {...props} after={after} last={index === pages.length - 1} onMore={more} />
  ));
}

interface PageProps {
  after: string | undefined;
  last: boolean;
  onMore: (after: string) => void;
}

function Page<Data, Variables extends { after?: string | null | undefined }, Edge>({
  query,
  variables,
  doing,
  list,
  empty,
  children,
  after,
  last,
  onMore,
}: PagesProps<Data, Variables, Edge> & PageProps) {
  const [result, ask] = useQuery({ query, variables: { ...variables, ...pageAfter(after) } as Variables });
  return (
    <Answer result={result} ask={ask} doing={doing}>
      {(data) => {
        const found = list(data);
        // What an error kept from being read is not empty.
        if (!found && result.error) return null;
        if (!found?.edges.length) return empty(data);
        return (
          <>
            {children(found.edges)}
            <More pageInfo={found.pageInfo} last={last} onMore={onMore} />
          </>
        );
      }}
    </Answer>
  );
}
