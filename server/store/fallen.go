package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// FallenVerdict is a verdict that let something be merged and does not stand any more, since a key was reported as stolen.
type FallenVerdict struct {
	RequestID     string
	Sequence      int64 // of its leaf in the pull request's chain
	PullRequestID string
	RosterVersion int64  // which reports the key
	Was           string // APPROVED or OVERRIDDEN
	StandsAs      string // what it is without what stolen keys signed
	Merged        bool   // by when that was looked at
	FoundAt       time.Time
}

// Cursor is the place of v in a list ordered by newest first.
func (v FallenVerdict) Cursor() string { return cursor(v.FoundAt, v.RequestID) }

const fallenColumns = `request_id, sequence, pull_request_id, roster_version, was, stands_as, merged, found_at`

// PutFallenVerdict stores a verdict that fell. One that is stored already stays as it is: it fell by another report, or the same.
func (tx *Tx) PutFallenVerdict(ctx context.Context, v FallenVerdict) error {
	_, err := tx.tx.Exec(ctx, `
		insert into signedapproval_fallen_verdicts (workspace_id, request_id, sequence, pull_request_id, roster_version, was, stands_as, merged)
		values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing`,
		tx.Workspace, v.RequestID, v.Sequence, v.PullRequestID, v.RosterVersion, v.Was, v.StandsAs, v.Merged)
	if err != nil {
		return fmt.Errorf("store: put fallen verdict: %w", err)
	}
	return nil
}

// FallenVerdicts lists what reports took down, newest first.
func (tx *Tx) FallenVerdicts(ctx context.Context, page Page) ([]FallenVerdict, bool, error) {
	at, id, err := page.after()
	if err != nil {
		return nil, false, err
	}
	rows, err := list[FallenVerdict](ctx, tx.tx, `select `+fallenColumns+` from signedapproval_fallen_verdicts
		where workspace_id = $1 and (found_at, request_id) < `+newestFirst+`
		order by found_at desc, request_id desc limit $4`, tx.Workspace, at, id, page.limit()+1)
	if err != nil {
		return nil, false, fmt.Errorf("store: list fallen verdicts: %w", err)
	}
	rows, more := paged(rows, page)
	return rows, more, nil
}

// Fallen is what one report took down.
type Fallen struct {
	PullRequests int
	Merged       int // of them
	// Some are the first of them, those that were merged before the others.
	Some []FallenPullRequest
}

// FallenPullRequest names a pull request with a verdict that fell.
type FallenPullRequest struct {
	Repository string // workspace/name, or the UUID where it is no longer gated
	Number     int64
	Merged     bool
}

// FallenBy counts what the report that is a version of the roster took down, and names at most so many pull requests.
func (tx *Tx) FallenBy(ctx context.Context, rosterVersion int64, most int) (f Fallen, err error) {
	err = tx.tx.QueryRow(ctx, `select count(distinct pull_request_id), count(distinct pull_request_id) filter (where merged)
		from signedapproval_fallen_verdicts where workspace_id = $1 and roster_version = $2`, tx.Workspace, rosterVersion).Scan(&f.PullRequests, &f.Merged)
	if err == nil {
		f.Some, err = list[FallenPullRequest](ctx, tx.tx, `
			select coalesce(c.full_name, p.repository_id::text) as repository, p.number, f.merged
			from (select pull_request_id, bool_or(merged) as merged from signedapproval_fallen_verdicts
				where workspace_id = $1 and roster_version = $2 group by pull_request_id) f
			join signedapproval_pull_requests p on p.workspace_id = $1 and p.id = f.pull_request_id
			left join signedapproval_bitbucket_repo_configs c on c.workspace_id = $1 and c.repository_id = p.repository_id
			order by f.merged desc, repository, p.number limit $3`, tx.Workspace, rosterVersion, most)
	}
	if err != nil {
		return Fallen{}, fmt.Errorf("store: count fallen verdicts: %w", err)
	}
	return f, nil
}

// PullRequestsDecidedWith lists the pull requests, by their ids after one, on which somebody ever decided with a key.
func (tx *Tx) PullRequestsDecidedWith(ctx context.Context, credentialID []byte, after string, limit int) ([]string, error) {
	rows, err := tx.tx.Query(ctx, `select distinct pull_request_id from signedapproval_decisions
		where workspace_id = $1 and credential_id = $2 and pull_request_id > $3 order by pull_request_id limit $4`, tx.Workspace, credentialID, after, limit)
	if err != nil {
		return nil, fmt.Errorf("store: pull requests decided with a key: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
