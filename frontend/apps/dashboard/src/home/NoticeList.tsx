import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { isSafe } from "@signedapproval/ui/Link";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useMutation, useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { More } from "../More.tsx";
import { PageLink } from "../PageLink.tsx";
import { pageAfter, usePages } from "../pages.ts";
import "./NoticeList.css";

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
  const { pages, more } = usePages();
  return pages.map((after, index) => (
    <NoticePage key={after ?? ""} after={after} last={index === pages.length - 1} onMore={more} />
  ));
}

function NoticePage({
  after,
  last,
  onMore,
}: {
  after: string | undefined;
  last: boolean;
  onMore: (after: string) => void;
}) {
  const [result, ask] = useQuery({ query: NoticesQuery, variables: pageAfter(after) });
  return (
    <Answer result={result} ask={ask} doing="read your notices">
      {({ viewer }) => {
        if (!viewer) return null;
        const { edges, pageInfo } = viewer.notices;
        if (edges.length === 0) return <EmptyState title="No notices">What concerns you is told here.</EmptyState>;
        return (
          <>
            <ul className="notices">
              {edges.map(({ node }) => (
                <NoticeRow key={node.id} notice={node} />
              ))}
            </ul>
            <More pageInfo={pageInfo} last={last} onMore={onMore} />
          </>
        );
      }}
    </Answer>
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
