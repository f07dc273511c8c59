package store

import (
	"context"
	"fmt"
	"time"
)

// Triggers of a merge check.
const (
	CheckOnMerge  = "ON_MERGE"  // somebody merges: the answer is the authority
	CheckPreMerge = "PRE_MERGE" // Bitbucket wants to show something; it may be stale soon
)

// MergeCheck is a question of Bitbucket's merge check, and its answer. A row is never changed.
type MergeCheck struct {
	ID                string
	RepositoryID      string
	Number            int64
	PullRequestID     *string // nil: the gate does not know the pull request
	Trigger           string
	HeadCommit        string  // 40 hex digits; "" where it could not be read
	DestinationBranch string  // "" where it could not be read
	AccountID         string  // who asked; "" where nobody is named
	AskerSalt         []byte  // opens the leaf's commitment to AccountID; nil without a leaf or an account
	RequestID         *string // that was judged; nil where there was none
	Success           bool
	Code              string
	Sentence          string
	AskedAt           time.Time
}

const mergeCheckColumns = `id, repository_id, number, pull_request_id, trigger, head_commit, destination_branch, account_id, asker_salt,
	request_id, success, code, sentence, asked_at`

// PutMergeCheck stores an answer. ID and AskedAt of m are not read: answers about a pull request that is
// locked follow each other as they were given, however long each waited for the lock.
func (tx *Tx) PutMergeCheck(ctx context.Context, m MergeCheck) error {
	_, err := tx.tx.Exec(ctx, `
		insert into signedapproval_merge_checks (workspace_id, repository_id, number, pull_request_id, trigger, head_commit,
			destination_branch, account_id, asker_salt, request_id, success, code, sentence, asked_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, clock_timestamp())`,
		tx.Workspace, m.RepositoryID, m.Number, m.PullRequestID, m.Trigger, m.HeadCommit, m.DestinationBranch, m.AccountID, m.AskerSalt,
		m.RequestID, m.Success, m.Code, m.Sentence)
	if err != nil {
		return fmt.Errorf("store: put merge check: %w", err)
	}
	return nil
}

// HasMergeCheck tells whether the last question about a pull request with this trigger was the same, and
// got the same answer within that time: Bitbucket asks once for each level on which the check is
// configured. An answer that was followed by another one is not the last word, and is to be stored again.
func (tx *Tx) HasMergeCheck(ctx context.Context, m MergeCheck, within time.Duration) (bool, error) {
	var has bool
	err := tx.tx.QueryRow(ctx, `select exists (select from (
			select * from signedapproval_merge_checks where workspace_id = $1 and repository_id = $2 and number = $3 and trigger = $5
			order by asked_at desc, id desc limit 1) as last
		where asked_at > clock_timestamp() - make_interval(secs => $4)
			and head_commit = $6 and destination_branch = $7 and account_id = $8 and success = $9 and code = $10
			and pull_request_id is not distinct from $11 and request_id is not distinct from $12)`,
		tx.Workspace, m.RepositoryID, m.Number, within.Seconds(), m.Trigger, m.HeadCommit, m.DestinationBranch, m.AccountID, m.Success, m.Code,
		m.PullRequestID, m.RequestID).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("store: look for merge check: %w", err)
	}
	return has, nil
}

// CheckedOnMerge tells whether the on-merge check was asked about a head of a pull request, and
// whether its last word was yes. A question whose head could not be read counts as asked. Where head
// is "", a question about any head counts.
func (tx *Tx) CheckedOnMerge(ctx context.Context, repositoryID string, number int64, head string) (asked, yes bool, err error) {
	err = tx.tx.QueryRow(ctx, `
		select count(*) > 0, coalesce((array_agg(success order by asked_at desc) filter (where head_commit <> ''))[1], false)
		from signedapproval_merge_checks
		where workspace_id = $1 and repository_id = $2 and number = $3 and trigger = 'ON_MERGE' and ($4 = '' or head_commit in ('', $4))`,
		tx.Workspace, repositoryID, number, head).Scan(&asked, &yes)
	if err != nil {
		return false, false, fmt.Errorf("store: read merge checks: %w", err)
	}
	return asked, yes, nil
}

// OnMergeChecks lists the last questions of a repository that were asked on a merge, newest first.
func (tx *Tx) OnMergeChecks(ctx context.Context, repositoryID string, limit int) ([]MergeCheck, error) {
	return list[MergeCheck](ctx, tx.tx, `select `+mergeCheckColumns+` from signedapproval_merge_checks
		where workspace_id = $1 and repository_id = $2 and trigger = 'ON_MERGE' order by asked_at desc, id desc limit $3`,
		tx.Workspace, repositoryID, limit)
}

// RecentMergeChecks lists the last questions of each repository, newest first, up to limit of each.
func (tx *Tx) RecentMergeChecks(ctx context.Context, repositoryIDs []string, limit int) ([]MergeCheck, error) {
	return list[MergeCheck](ctx, tx.tx, `select c.* from unnest($2::uuid[]) as r (id), lateral (
			select `+mergeCheckColumns+` from signedapproval_merge_checks
			where workspace_id = $1 and repository_id = r.id order by asked_at desc, id desc limit $3) c
		order by c.asked_at desc, c.id desc`, tx.Workspace, repositoryIDs, limit)
}
