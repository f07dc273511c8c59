package store

import (
	"context"
	"fmt"
	"time"
)

// Kinds of merges that were seen.
const (
	MergeSeenApproved  = "APPROVED"
	MergeSeenOverride  = "OVERRIDE"
	MergeSeenViolation = "VIOLATION"
)

// MergeSeen is a merge into a gated branch.
type MergeSeen struct {
	RepositoryID      string
	Number            int64
	PullRequestID     *string // nil: it was never seen open
	DestinationBranch string
	Kind              string
	HeadCommit        string // "" where it was never seen open
	LandedCommit      string // "" where Bitbucket does not say
	Asked             bool   // the on-merge check was asked about that head
	Checked           bool   // and its last word was yes
	ByGate            bool   // the gate itself merged that head; found out by PutMergeSeen
	Sentence          string
	SeenAt            time.Time
}

// Cursor is the place of m in a list ordered by newest first.
func (m MergeSeen) Cursor() string { return cursor(m.SeenAt, m.Number) }

const mergeSeenColumns = `repository_id, number, pull_request_id, destination_branch, kind, head_commit, landed_commit, asked, checked, by_gate, sentence, seen_at`

// PutMergeSeen stores a merge that was seen; one that is stored already stays as it is, and the answer
// is false. SeenAt and ByGate are not read.
func (tx *Tx) PutMergeSeen(ctx context.Context, m MergeSeen) (bool, error) {
	tag, err := tx.tx.Exec(ctx, `
		insert into signedapproval_merges_seen (workspace_id, repository_id, number, pull_request_id, destination_branch, kind, head_commit,
			landed_commit, asked, checked, sentence, by_gate)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, exists (select from signedapproval_merge_intents
			where workspace_id = $1 and pull_request_id = $4 and head_commit = $7 and state in ('CALLING', 'MERGED')))
		on conflict (workspace_id, repository_id, number) do nothing`,
		tx.Workspace, m.RepositoryID, m.Number, m.PullRequestID, m.DestinationBranch, m.Kind, m.HeadCommit, m.LandedCommit, m.Asked, m.Checked,
		m.Sentence)
	if err != nil {
		return false, fmt.Errorf("store: put merge seen: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// MergeSeen reads the merge of a pull request.
func (tx *Tx) MergeSeen(ctx context.Context, repositoryID string, number int64) (MergeSeen, error) {
	return single[MergeSeen](ctx, tx.tx, `select `+mergeSeenColumns+` from signedapproval_merges_seen
		where workspace_id = $1 and repository_id = $2 and number = $3`, tx.Workspace, repositoryID, number)
}

// LastMergesSeen lists, for each branch of a repository, the last merge of each kind as the check tells
// them apart: asked or not, said yes or not, made by the gate or not. However much is merged elsewhere
// since, none is left out.
func (tx *Tx) LastMergesSeen(ctx context.Context, repositoryID string) ([]MergeSeen, error) {
	// From each kind to the next by the index, and not over all that were ever seen.
	return list[MergeSeen](ctx, tx.tx, `
		with recursive last as (
			(select * from signedapproval_merges_seen where workspace_id = $1 and repository_id = $2
				order by destination_branch, asked, checked, by_gate, seen_at desc limit 1)
			union all
			select following.* from last cross join lateral (
				select * from signedapproval_merges_seen m where m.workspace_id = $1 and m.repository_id = $2
					and (m.destination_branch, m.asked, m.checked, m.by_gate) > (last.destination_branch, last.asked, last.checked, last.by_gate)
				order by m.destination_branch, m.asked, m.checked, m.by_gate, m.seen_at desc limit 1) following)
		select `+mergeSeenColumns+` from last order by destination_branch, asked, checked, by_gate`, tx.Workspace, repositoryID)
}

// Violations lists the merges of a repository that its rules had not approved, newest first.
func (tx *Tx) Violations(ctx context.Context, repositoryID string, page Page) ([]MergeSeen, bool, error) {
	var at *time.Time
	var number *int64
	var when time.Time
	var last int64
	if started, err := page.keys(&when, &last); err != nil {
		return nil, false, err
	} else if started {
		at, number = &when, &last
	}
	rows, err := list[MergeSeen](ctx, tx.tx, `select `+mergeSeenColumns+` from signedapproval_merges_seen
		where workspace_id = $1 and repository_id = $2 and kind = 'VIOLATION'
			and (seen_at, number) < (coalesce($3::timestamptz, 'infinity'), coalesce($4::bigint, 9223372036854775807))
		order by seen_at desc, number desc limit $5`, tx.Workspace, repositoryID, at, number, page.limit()+1)
	if err != nil {
		return nil, false, fmt.Errorf("store: list violations: %w", err)
	}
	rows, more := paged(rows, page)
	return rows, more, nil
}
