import { Button } from "@signedapproval/ui/Button";

export interface MoreProps {
  pageInfo: { hasNextPage: boolean; endCursor: string | null };
  /** Whether this is the last page that is shown. */
  last: boolean;
  onMore: (after: string) => void;
}

/** Shows the next page of a list, where there is one. */
export function More({ pageInfo, last, onMore }: MoreProps) {
  const { hasNextPage, endCursor } = pageInfo;
  if (!last || !hasNextPage || !endCursor) return null;
  return (
    <p>
      <Button onClick={() => onMore(endCursor)}>Show more</Button>
    </p>
  );
}
