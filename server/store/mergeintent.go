package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// States of a merge intent.
const (
	MergePlanned = "PLANNED" // wanted; nothing was asked of Bitbucket
	MergeCalling = "CALLING" // asked, or about to be: the outcome is unknown until Bitbucket is read again
	MergeMerged  = "MERGED"
	MergeRefused = "REFUSED"
)

// MergeIntent is the one attempt to merge one head of one pull request.
type MergeIntent struct {
	PullRequestID string
	HeadCommit    string
	RequestID     string
	Strategy      string
	State         string
	TaskID        string // Bitbucket's merge task while it runs
	Sentence      string
	MergeCommit   string // 40 hex digits once landed
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

const mergeColumns = `pull_request_id, head_commit, request_id, strategy, state, task_id, sentence, merge_commit, created_at, updated_at`

// PlanMerge records the intent to merge a head. It answers false where the head was planned
// before, except that an intent that was refused may be planned again for a new request.
func (tx *Tx) PlanMerge(ctx context.Context, m MergeIntent) (bool, error) {
	tag, err := tx.tx.Exec(ctx, `
		insert into signedapproval_merge_intents as old (workspace_id, pull_request_id, head_commit, request_id, strategy, state)
		values ($1, $2, $3, $4, $5, 'PLANNED')
		on conflict (workspace_id, pull_request_id, head_commit) do update
			set request_id = excluded.request_id, strategy = excluded.strategy, state = 'PLANNED', sentence = '', updated_at = now()
			where old.state in ('PLANNED', 'REFUSED') and old.request_id <> excluded.request_id`,
		tx.Workspace, m.PullRequestID, m.HeadCommit, m.RequestID, m.Strategy)
	if err != nil {
		return false, fmt.Errorf("store: plan merge: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// Merge reads the intent for a head.
func (tx *Tx) Merge(ctx context.Context, pullRequestID, headCommit string) (MergeIntent, error) {
	rows, err := tx.tx.Query(ctx, `select `+mergeColumns+` from signedapproval_merge_intents
		where workspace_id = $1 and pull_request_id = $2 and head_commit = $3`, tx.Workspace, pullRequestID, headCommit)
	if err != nil {
		return MergeIntent{}, fmt.Errorf("store: read merge intent: %w", err)
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[MergeIntent])
	return m, one(err)
}

// OpenMerges lists the intents of a pull request that came to no end yet.
func (tx *Tx) OpenMerges(ctx context.Context, pullRequestID string) ([]MergeIntent, error) {
	return list[MergeIntent](ctx, tx.tx, `select `+mergeColumns+` from signedapproval_merge_intents
		where workspace_id = $1 and pull_request_id = $2 and state in ('PLANNED', 'CALLING') order by head_commit`, tx.Workspace, pullRequestID)
}

// PlannedMerges lists the pull requests of a repository that wait to be merged at a commit, by our ids.
func (tx *Tx) PlannedMerges(ctx context.Context, repositoryID, headCommit string) ([]string, error) {
	rows, err := tx.tx.Query(ctx, `
		select m.pull_request_id from signedapproval_merge_intents m
		where m.workspace_id = $1 and m.head_commit = $3 and m.state = 'PLANNED'
			and (select p.repository_id from signedapproval_pull_requests p where p.workspace_id = $1 and p.id = m.pull_request_id) = $2`, tx.Workspace, repositoryID, headCommit)
	if err != nil {
		return nil, fmt.Errorf("store: planned merges: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	slices.Sort(ids) // not by PostgreSQL, which has an index of that order, of all merges
	return ids, err
}

// MoveMerge moves an intent on; from names the states it may be moved from, so that two movers
// cannot both succeed. It answers ErrConflict where it stands elsewhere.
func (tx *Tx) MoveMerge(ctx context.Context, m MergeIntent, from ...string) error {
	tag, err := tx.tx.Exec(ctx, `
		update signedapproval_merge_intents set state = $4, task_id = $5, sentence = $6, merge_commit = $7, updated_at = now()
		where workspace_id = $1 and pull_request_id = $2 and head_commit = $3 and state = any($8)`,
		tx.Workspace, m.PullRequestID, m.HeadCommit, m.State, m.TaskID, m.Sentence, m.MergeCommit, from)
	if err != nil {
		return fmt.Errorf("store: move merge intent: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrConflict
	}
	return nil
}
