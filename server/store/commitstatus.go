package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// CommitStatus is the build status that Bitbucket should show on one commit of a pull request.
// It is owed while OwedVersion is above PaidVersion.
type CommitStatus struct {
	PullRequestID string
	Commit        string
	RepositoryID  string
	RequestID     string
	Key           string
	RefName       string
	State         string // INPROGRESS, SUCCESSFUL, FAILED, STOPPED
	Description   string
	URL           string
	OwedVersion   int64
	PaidVersion   int64
	PaidAt        *time.Time
	OwedSince     time.Time  // since when Bitbucket may show something else, while it is owed
	DoubtUntil    *time.Time // a call whose outcome is unknown may still land until then
	Problem       string
	// Cosignatures is how many witnesses must have cosigned a checkpoint that covers what the status says before
	// SUCCESSFUL may be shown.
	Cosignatures int
}

// Paid tells whether Bitbucket has confirmed exactly this status.
func (s CommitStatus) Paid() bool { return s.PaidVersion >= s.OwedVersion }

const statusColumns = `pull_request_id, commit, repository_id, request_id, key, refname, state, description, url,
	owed_version, paid_version, paid_at, owed_since, doubt_until, problem, cosignatures`

// says tells whether Bitbucket is to show the same by both.
func (s CommitStatus) says(other CommitStatus) bool {
	return s.RefName == other.RefName && s.State == other.State && s.Description == other.Description && s.URL == other.URL && s.Cosignatures == other.Cosignatures
}

// OweStatus sets what Bitbucket should show, with the commit. known is the status of this commit as it was read since the
// caller locked the pull request, which nobody else then changes in this; nil for none. It answers whether anything is
// owed now that was not before; the caller then enqueues the job that pays.
func (tx *Tx) OweStatus(known *CommitStatus, s CommitStatus) (owed bool) {
	if known != nil && known.says(s) {
		return false
	}
	tx.tx.later(`
		insert into signedapproval_bitbucket_commit_statuses as old (workspace_id, pull_request_id, commit, repository_id,
			request_id, key, refname, state, description, url, cosignatures)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		on conflict (workspace_id, pull_request_id, commit) do update
			set request_id = excluded.request_id, refname = excluded.refname, state = excluded.state,
				description = excluded.description, url = excluded.url, cosignatures = excluded.cosignatures, owed_version = old.owed_version + 1,
				owed_since = case when old.paid_version < old.owed_version then old.owed_since else now() end,
				problem = '' -- whoever tries to pay it finds out anew
			where (old.refname, old.state, old.description, old.url, old.cosignatures)
				is distinct from (excluded.refname, excluded.state, excluded.description, excluded.url, excluded.cosignatures)`,
		tx.Workspace, s.PullRequestID, s.Commit, s.RepositoryID, s.RequestID, s.Key, s.RefName, s.State, s.Description, s.URL, s.Cosignatures)
	return true
}

// OweStatusAgain makes a paid status owed once more: somebody else has overwritten it.
func (tx *Tx) OweStatusAgain(ctx context.Context, pullRequestID, commit string) error {
	_, err := tx.tx.Exec(ctx, `
		update signedapproval_bitbucket_commit_statuses set owed_version = owed_version + 1, owed_since = now()
		where workspace_id = $1 and pull_request_id = $2 and commit = $3 and paid_version = owed_version`,
		tx.Workspace, pullRequestID, commit)
	if err != nil {
		return fmt.Errorf("store: owe status again: %w", err)
	}
	return nil
}

// Status reads the status of one commit of a pull request.
func (tx *Tx) Status(ctx context.Context, pullRequestID, commit string) (CommitStatus, error) {
	list, err := tx.statuses(ctx, `pull_request_id = $2 and commit = $3`, pullRequestID, commit)
	if err == nil && len(list) == 0 {
		return CommitStatus{}, ErrNotFound
	}
	if err != nil {
		return CommitStatus{}, err
	}
	return list[0], nil
}

// UnpaidStatuses lists what is owed on the pull requests of a repository, "" for all of the workspace.
func (tx *Tx) UnpaidStatuses(ctx context.Context, repositoryID string) ([]CommitStatus, error) {
	return tx.statuses(ctx, `owed_version > paid_version and ($2 = '' or repository_id = nullif($2, '')::uuid)`, repositoryID)
}

// UnpaidStatusesOf lists what is owed on the commits of one pull request.
func (tx *Tx) UnpaidStatusesOf(ctx context.Context, pullRequestID string) ([]CommitStatus, error) {
	return tx.statuses(ctx, `owed_version > paid_version and pull_request_id = $2`, pullRequestID)
}

// Paid is what a status is found at that Bitbucket has confirmed.
type Paid struct {
	PullRequest PullRequest // locked as by [Tx.LockPullRequestByID]
	Workspace   Workspace
	Merge       *MergeIntent // of the status's commit; nil for none
	DoubtUntil  *time.Time   // until when the status must be read back once more; nil for never
}

// PayStatus locks the pull request, and records then that Bitbucket confirmed version, and that nothing stands in the way. A
// later version stays owed. doubt, above zero, says that an earlier call has an unknown outcome and may land until
// that long from now.
func (tx *Tx) PayStatus(ctx context.Context, pullRequestID, commit string, version int64, doubt time.Duration) (p Paid, err error) {
	batch := &pgx.Batch{}
	batch.Queue(lockPullRequest, tx.Workspace, pullRequestID).Query(exactly(&p.PullRequest))
	batch.Queue(selectWorkspace, tx.Workspace).Query(exactly(&p.Workspace))
	batch.Queue(`
		update signedapproval_bitbucket_commit_statuses set
			paid_at = case when paid_version < $4 then now() else paid_at end,
			paid_version = greatest(paid_version, least($4, owed_version)), problem = '',
			doubt_until = case when $5::interval > '0' then greatest(doubt_until, now() + $5) else doubt_until end
		where workspace_id = $1 and pull_request_id = $2 and commit = $3
		returning case when doubt_until > now() then doubt_until end`,
		tx.Workspace, pullRequestID, commit, version, doubt).QueryRow(func(row pgx.Row) error { return one(row.Scan(&p.DoubtUntil)) })
	batch.Queue(`select `+mergeColumns+` from signedapproval_merge_intents where workspace_id = $1 and pull_request_id = $2 and head_commit = $3`,
		tx.Workspace, pullRequestID, commit).Query(maybe(&p.Merge))
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Paid{}, fmt.Errorf("store: pay status: %w", err)
	}
	return p, nil
}

// DoubtStatus remembers that a call has an unknown outcome, and may land until that long from now.
func (tx *Tx) DoubtStatus(ctx context.Context, pullRequestID, commit string, doubt time.Duration) error {
	_, err := tx.tx.Exec(ctx, `
		update signedapproval_bitbucket_commit_statuses set doubt_until = greatest(doubt_until, now() + $4)
		where workspace_id = $1 and pull_request_id = $2 and commit = $3`, tx.Workspace, pullRequestID, commit, doubt)
	if err != nil {
		return fmt.Errorf("store: doubt a status: %w", err)
	}
	return nil
}

// SetStatusProblem records why a status cannot be written.
func (tx *Tx) SetStatusProblem(ctx context.Context, pullRequestID, commit, problem string) error {
	_, err := tx.tx.Exec(ctx, `
		update signedapproval_bitbucket_commit_statuses set problem = $4
		where workspace_id = $1 and pull_request_id = $2 and commit = $3`, tx.Workspace, pullRequestID, commit, problem)
	if err != nil {
		return fmt.Errorf("store: record status problem: %w", err)
	}
	return nil
}

func (tx *Tx) statuses(ctx context.Context, where string, args ...any) ([]CommitStatus, error) {
	rows, err := tx.tx.Query(ctx, `select `+statusColumns+` from signedapproval_bitbucket_commit_statuses
		where workspace_id = $1 and `+where, append([]any{tx.Workspace}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("store: read statuses: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[CommitStatus])
}
