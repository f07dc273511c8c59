import { expect, test } from "vitest";
import { openHost } from "./forge.ts";
import { HostUnavailable } from "./host.ts";

// In a file of its own, where Atlassian's modules were not loaded with a bridge before.
test("a page for Bitbucket's frame that stands elsewhere says so", async () => {
  document.head.innerHTML = '<meta name="signedapproval-origin" content="https://app.example">';
  const error: unknown = await openHost().catch((error: unknown) => error);
  expect(error).toBeInstanceOf(HostUnavailable);
  expect((error as Error).message).toContain("works only inside Bitbucket");
});
