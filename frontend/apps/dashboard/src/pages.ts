import { useState } from "react";

/** How many entries a page of a list has. */
export const pageSize = 20;

/** The pages of a list that are shown: each by the cursor that it begins after, the first by none. */
export function usePages() {
  const [pages, setPages] = useState<(string | undefined)[]>([undefined]);
  return { pages, more: (after: string) => setPages((before) => [...before, after]) };
}

/** The variables of one page. The first page has no `after` at all, so that live updates find it in the cache. */
export function pageAfter(after: string | undefined): { after?: string } {
  return after ? { after } : {};
}
