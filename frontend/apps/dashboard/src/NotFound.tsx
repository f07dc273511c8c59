import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Link } from "@tanstack/react-router";

/** An address that leads nowhere. */
export function NotFound() {
  return (
    <>
      <h1>Not found</h1>
      <EmptyState title="There is no such page" action={<Link to="/">Go to the start</Link>}>
        The address may be mistyped, or the page may have moved.
      </EmptyState>
    </>
  );
}
