import { graphql } from "@signedapproval/graph/generated";

export const RedeemTicket = graphql(`
  mutation RedeemTicket($input: RedeemTicketInput!) {
    redeemTicket(input: $input) {
      account {
        accountId
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/**
 * Takes the ticket out of the page's address, before anything else can see it there: not the history, not a link, not a
 * reader who copies the address. Null where the page was opened without one.
 */
export function takeTicket(page: Pick<Window, "location" | "history"> = window): string | null {
  const { hash, pathname, search } = page.location;
  const [, ticket] = /^#ticket=([\w.~-]{1,512})$/u.exec(hash) ?? [];
  if (hash) page.history.replaceState(page.history.state, "", pathname + search);
  return ticket ?? null;
}
