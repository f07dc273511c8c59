import { graphql } from "@signedapproval/graph/generated";
import { useSubscription } from "urql";
import { NoticeList } from "./NoticeList.tsx";
import { WaitingList } from "./WaitingList.tsx";

// Selects what the first pages of both lists and the header's count select, so that an event renews them in the cache.
const InboxChanged = graphql(`
  subscription InboxChanged {
    inboxChanged {
      unreadNotices
      waiting(first: 20) {
        edges {
          cursor
          node {
            id
            ...WaitingRow_request
          }
        }
        pageInfo {
          hasNextPage
          endCursor
        }
      }
      notices(first: 20) {
        edges {
          cursor
          node {
            id
            ...NoticeRow_notice
          }
        }
        pageInfo {
          hasNextPage
          endCursor
        }
      }
    }
  }
`);

/** What waits for the viewer, and what happened lately. */
export function HomePage() {
  useSubscription({ query: InboxChanged });
  return (
    <>
      <section className="sa-stack" aria-labelledby="waiting">
        <h1 id="waiting">Waiting for you</h1>
        <WaitingList />
      </section>
      <section className="sa-stack" aria-labelledby="notices">
        <h2 id="notices">Notices</h2>
        <NoticeList />
      </section>
    </>
  );
}
