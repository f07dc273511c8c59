package store

import (
	"context"
	"errors"
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

// AddNotice puts a notice into a person's inbox and, where notices are mailed, enqueues its mail; a
// notice with the same dedupe key is left as it is.
func (sh *Shared) AddNotice(ctx context.Context, n Notice) error {
	var id string
	err := sh.tx.QueryRow(ctx, `
		insert into signedapproval_notices (person_id, workspace_id, pull_request_id, request_id, kind, dedupe_key, title, sentence, path)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		on conflict (dedupe_key) do nothing returning id`,
		n.PersonID, n.WorkspaceID, n.PullRequestID, n.RequestID, n.Kind, n.DedupeKey, n.Title, n.Sentence, n.Path).Scan(&id)
	if err = one(err); errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store: add notice: %w", err)
	}
	sh.Touch("inbox:" + n.PersonID)
	if sh.noMail {
		return nil
	}
	return sh.Enqueue(ctx, AskNotify(n.WorkspaceID, id))
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
			and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
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
func (sh *Shared) ReadNoticesOf(ctx context.Context, requestID, personID string) error {
	return sh.touchInboxes(ctx, `update signedapproval_notices set read_at = now()
		where request_id = $1 and ($2 = '' or person_id = nullif($2, '')::uuid) and read_at is null returning person_id`, requestID, personID)
}

// ReadNoticesKeyed marks the notices with these dedupe keys as read.
func (sh *Shared) ReadNoticesKeyed(ctx context.Context, dedupeKeys []string) error {
	return sh.touchInboxes(ctx, `update signedapproval_notices set read_at = now()
		where dedupe_key = any($1) and read_at is null returning person_id`, dedupeKeys)
}

func (sh *Shared) touchInboxes(ctx context.Context, query string, arguments ...any) error {
	rows, err := sh.tx.Query(ctx, query, arguments...)
	if err != nil {
		return fmt.Errorf("store: inboxes: %w", err)
	}
	people, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, id := range people {
		sh.Touch("inbox:" + id)
	}
	return err
}

// MailedNotice records that a notice was handed to the mail server.
func (sh *Shared) MailedNotice(ctx context.Context, id string) error {
	_, err := sh.tx.Exec(ctx, `update signedapproval_notices set mailed_at = now() where id = $1`, id)
	if err != nil {
		return fmt.Errorf("store: record mail: %w", err)
	}
	return nil
}
