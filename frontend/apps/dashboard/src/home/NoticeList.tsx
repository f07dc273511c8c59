import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { isSafe } from "@signedapproval/ui/Link";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useMutation } from "urql";
import { PageLink } from "../PageLink.tsx";
import "./NoticeList.css";
import { Pages } from "../Pages.tsx";

const NoticesQuery = graphql(`
  query Notices($after: String) {
    viewer {
      notices(first: 20, after: $after) {
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

const noticeFragment = graphql(`
  fragment NoticeRow_notice on Notice {
    id
    title
    sentence
    path
    createdAt
    readAt
  }
`);

const ReadNotice = graphql(`
  mutation ReadNotice($input: ReadNoticeInput!) {
    readNotice(input: $input) {
      notice {
        id
        readAt
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** The inbox, newest first. */
export function NoticeList() {
  return (
    <Pages
      query={NoticesQuery}
      variables={{}}
      doing="read your notices"
      list={({ viewer }) => viewer?.notices}
      empty={({ viewer }) => viewer && <EmptyState title="No notices">What concerns you is told here.</EmptyState>}
    >
      {(edges) => (
        <ul className="notices">
          {edges.map(({ node }) => (
            <NoticeRow key={node.id} notice={node} />
          ))}
        </ul>
      )}
    </Pages>
  );
}

function NoticeRow({ notice: masked }: { notice: FragmentType<typeof noticeFragment> }) {
  const notice = readFragment(noticeFragment, masked);
  const [{ fetching, error }, read] = useMutation(ReadNotice);
  const failure = failureOf(error);
  const markRead = () => read({ input: { id: notice.id } });
  return (
    <li className={`notice${notice.readAt ? "" : " notice--unread"}`}>
      <div className="notice__text">
        <p className="notice__title">
          {isSafe(notice.path) ? (
            <PageLink path={notice.path} onFollow={() => !notice.readAt && void markRead()}>
              <Visible text={notice.title} />
            </PageLink>
          ) : (
            <Visible text={notice.title} />
          )}
          {!notice.readAt && <span className="sa-hidden"> (unread)</span>}
        </p>
        <p className="sa-subtle">
          <Visible text={notice.sentence} />
        </p>
        <p className="sa-small sa-subtle">
          <Time value={notice.createdAt} />
        </p>
        {failure && <ErrorNote failure={failure} doing="mark the notice as read" />}
      </div>
      {!notice.readAt && (
        <Button appearance="subtle" busy={fetching} onClick={() => void markRead()}>
          Mark as read
          <span className="sa-hidden">: {notice.title}</span>
        </Button>
      )}
    </li>
  );
}
