package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Notice is an entry of a person's inbox.
type Notice struct {
	ID            string
	PersonID      string
	WorkspaceID   string
	PullRequestID *string
	RequestID     *string
	Kind          string // APPROVAL_WANTED, NEEDS_RECONNECTING, …
	DedupeKey     string // one cause makes one notice
	Title         string
	Sentence      string
	Path          string // on our origin
	CreatedAt     time.Time
	ReadAt        *time.Time
	MailedAt      *time.Time
}

// Cursor is the place of n in a list ordered by newest first.
func (n Notice) Cursor() string { return cursor(n.CreatedAt, n.ID) }

const noticeColumns = `id, person_id, workspace_id, pull_request_id, request_id, kind, dedupe_key, title, sentence, path,
	created_at, read_at, mailed_at`

// AddNotice puts notices into people's inboxes, in one statement, and where notices are mailed, enqueues their mail; a
// notice with the same dedupe key is left as it is.
func (sh *Shared) AddNotice(ctx context.Context, notices ...Notice) error {
	if len(notices) == 0 {
		return nil
	}
	var people, workspaces, kinds, keys, titles, sentences, paths []string
	var pullRequests, requests []*string
	for _, n := range notices {
		people, workspaces = append(people, n.PersonID), append(workspaces, n.WorkspaceID)
		pullRequests, requests = append(pullRequests, n.PullRequestID), append(requests, n.RequestID)
		kinds, keys, titles = append(kinds, n.Kind), append(keys, n.DedupeKey), append(titles, n.Title)
		sentences, paths = append(sentences, n.Sentence), append(paths, n.Path)
	}
	// In the order of the keys, like everybody, so that no two transactions wait for each other.
	return sh.added(ctx, sh.tx.later(`
		insert into signedapproval_notices (person_id, workspace_id, pull_request_id, request_id, kind, dedupe_key, title, sentence, path)
		select person::uuid, workspace::uuid, pull_request::uuid, request::uuid, kind, key, title, sentence, path
		from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
			as n (person, workspace, pull_request, request, kind, key, title, sentence, path)
		order by key
		on conflict (dedupe_key) do nothing returning id, person_id, workspace_id`,
		people, workspaces, pullRequests, requests, kinds, keys, titles, sentences, paths))
}

// AddNoticeFor puts a notice into the inboxes of the persons with these Bitbucket account ids, up to most of them, as
// [Shared.AddNotice] does; accounts that never signed in are left out. Behind a colon its dedupe key gets the id of the person.
func (sh *Shared) AddNoticeFor(ctx context.Context, accountIDs []string, most int, n Notice) error {
	if len(accountIDs) == 0 {
		return nil
	}
	return sh.added(ctx, sh.tx.later(`
		insert into signedapproval_notices (person_id, workspace_id, pull_request_id, request_id, kind, dedupe_key, title, sentence, path)
		select person, $3::uuid, $4::uuid, $5::uuid, $6::text, key, $8::text, $9::text, $10::text
		from (select id as person, $7::text || ':' || id as key from signedapproval_people where account_id = any($1) limit $2) told
		order by key
		on conflict (dedupe_key) do nothing returning id, person_id, workspace_id`,
		accountIDs, most, n.WorkspaceID, n.PullRequestID, n.RequestID, n.Kind, n.DedupeKey, n.Title, n.Sentence, n.Path))
}

// added has what AddNotice and AddNoticeFor wrote taken in.
func (sh *Shared) added(ctx context.Context, added *pgx.QueuedQuery) error {
	var id, person, workspace string
	added.Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&id, &person, &workspace}, func() error {
			sh.Touch("inbox:" + person)
			if sh.noMail {
				return nil
			}
			return sh.Enqueue(ctx, AskNotify(workspace, id))
		})
		return err
	})
	if sh.noMail {
		return nil
	}
	if err := sh.tx.batch(ctx, &pgx.Batch{}); err != nil { // the ledger must know before the commit
		return fmt.Errorf("store: add notices: %w", err)
	}
	return nil
}

// Notices lists a person's inbox, newest first: what is of one workspace, or of all where workspaceID is
// ""; so does UnreadNotices.
func (sh *Shared) Notices(ctx context.Context, personID, workspaceID string, page Page) ([]Notice, bool, error) {
	at, id, err := page.after()
	if err != nil {
		return nil, false, err
	}
	rows, err := sh.tx.Query(ctx, `select `+noticeColumns+` from signedapproval_notices
		where person_id = $1 and ($5 = '' or workspace_id = nullif($5, '')::uuid)
			and (created_at, id) < `+newestFirst+`
		order by created_at desc, id desc limit $4`, personID, at, id, page.limit()+1, workspaceID)
	if err != nil {
		return nil, false, fmt.Errorf("store: list notices: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Notice])
	if err != nil {
		return nil, false, err
	}
	list, more := paged(list, page)
	return list, more, nil
}

// UnreadNotices counts a person's unread notices, up to 100.
func (sh *Shared) UnreadNotices(ctx context.Context, personID, workspaceID string) (int, error) {
	var n int
	err := sh.tx.QueryRow(ctx, `select count(*) from (select from signedapproval_notices
		where person_id = $1 and read_at is null and ($2 = '' or workspace_id = nullif($2, '')::uuid) limit 100) unread`,
		personID, workspaceID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("store: count notices: %w", err)
	}
	return n, nil
}

// Notice reads one notice.
func (sh *Shared) Notice(ctx context.Context, id string) (Notice, error) {
	rows, err := sh.tx.Query(ctx, `select `+noticeColumns+` from signedapproval_notices where id = $1`, id)
	if err != nil {
		return Notice{}, fmt.Errorf("store: read notice: %w", err)
	}
	n, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Notice])
	return n, one(err)
}

// ReadNotice marks a notice of a person as read.
func (sh *Shared) ReadNotice(ctx context.Context, personID, id string) (Notice, error) {
	rows, err := sh.tx.Query(ctx, `update signedapproval_notices set read_at = coalesce(read_at, now())
		where id = $1 and person_id = $2 returning `+noticeColumns, id, personID)
	if err != nil {
		return Notice{}, fmt.Errorf("store: mark notice read: %w", err)
	}
	n, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Notice])
	if err == nil {
		sh.Touch("inbox:" + personID)
	}
	return n, one(err)
}

// ReadNoticesOf marks the notices about a request as read, those of one person or, where personID is
// "", of everybody: nothing is asked of them any more.
func (sh *Shared) ReadNoticesOf(_ context.Context, requestID, personID string) error {
	sh.touchInboxes(`update signedapproval_notices set read_at = now()
		where request_id = $1 and ($2 = '' or person_id = nullif($2, '')::uuid) and read_at is null returning person_id`, requestID, personID)
	return nil
}

// ReadNoticesKeyed marks the notices with these dedupe keys as read.
func (sh *Shared) ReadNoticesKeyed(_ context.Context, dedupeKeys []string) error {
	sh.touchInboxes(`update signedapproval_notices set read_at = now()
		where dedupe_key = any($1) and read_at is null returning person_id`, dedupeKeys)
	return nil
}

// touchInboxes touches the inboxes of the people whom a statement answers, which is carried out before the next one.
func (sh *Shared) touchInboxes(query string, arguments ...any) {
	sh.tx.later(query, arguments...).Query(func(rows pgx.Rows) error {
		people, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range people {
			sh.Touch("inbox:" + id)
		}
		return err
	})
}

// MailedNotice records that a notice was handed to the mail server.
func (sh *Shared) MailedNotice(ctx context.Context, id string) error {
	_, err := sh.tx.Exec(ctx, `update signedapproval_notices set mailed_at = now() where id = $1`, id)
	if err != nil {
		return fmt.Errorf("store: record mail: %w", err)
	}
	return nil
}
