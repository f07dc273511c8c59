package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The queries of this file read together, in one round trip, what is needed together. Each still sees what was
// committed before it, and not before the first of them.

// maybe reads a row that need not be there.
func maybe[T any](into **T) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
		if err = one(err); errors.Is(err, ErrNotFound) {
			return nil
		}
		*into = &row
		return err
	}
}

// exactly reads a row that must be there.
func exactly[T any](into *T) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
		return one(err)
	}
}

// readTogether has reads carried out in one round trip, as a transaction of their own that sees one workspace.
func (s *Store) readTogether(ctx context.Context, workspace string, batch *pgx.Batch) error {
	if !ValidID(workspace) {
		return fmt.Errorf("store: %q is no workspace: %w", workspace, ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	// A batch outside of any transaction is one: what it sets holds until its end.
	whole := &pgx.Batch{}
	whole.Queue(`select set_config('app.workspace', $1, true)`, workspace)
	whole.QueuedQueries = append(whole.QueuedQueries, batch.QueuedQueries...)
	if err := s.pool.SendBatch(ctx, whole).Close(); err != nil {
		return fmt.Errorf("store: read together: %w", err)
	}
	return nil
}

const (
	selectWorkspace        = `select ` + workspaceColumns + ` from signedapproval_workspaces where workspace_id = $1`
	selectRepositoryConfig = `select ` + repositoryConfigColumns + ` from signedapproval_bitbucket_repo_configs where workspace_id = $1 and repository_id = $2`
	selectPullRequest      = `select ` + pullRequestColumns + ` from signedapproval_pull_requests where workspace_id = $1 and repository_id = $2 and number = $3`
	selectStatus           = `select ` + statusColumns + ` from signedapproval_bitbucket_commit_statuses where workspace_id = $1 and pull_request_id = $2 and commit = $3`
	selectMerge            = `select ` + mergeColumns + ` from signedapproval_merge_intents where workspace_id = $1 and pull_request_id = $2 and head_commit = $3`
)

// PullRequestVersion tells of which repository a pull request is, and its version: two equal versions are the same state.
func (s *Store) PullRequestVersion(ctx context.Context, workspace, id string) (repositoryID string, version int64, err error) {
	if !ValidID(id) {
		return "", 0, ErrNotFound
	}
	batch := &pgx.Batch{}
	batch.Queue(`select repository_id::text, version from signedapproval_pull_requests where workspace_id = $1 and id = $2`, workspace, id).
		QueryRow(func(row pgx.Row) error { return one(row.Scan(&repositoryID, &version)) })
	return repositoryID, version, s.readTogether(ctx, workspace, batch)
}

// Gated is what is known of a pull request before Bitbucket is asked.
type Gated struct {
	Repository  *RepositoryConfig // nil where it is not gated
	Policy      *PolicyVersion    // in force; nil where it is not gated
	PullRequest *PullRequest      // nil where it is not known
}

// Gated reads what is known of a pull request. [ErrPolicyBehind] as of [Tx.PolicyInForce].
func (s *Store) Gated(ctx context.Context, workspace, repositoryID string, number int64) (g Gated, err error) {
	batch := &pgx.Batch{}
	batch.Queue(selectRepositoryConfig, workspace, repositoryID).Query(maybe(&g.Repository))
	queuePolicyInForce(batch, workspace, repositoryID, &g.Policy)
	batch.Queue(selectPullRequest, workspace, repositoryID, number).Query(maybe(&g.PullRequest))
	return g, s.readTogether(ctx, workspace, batch)
}

// Settling is what an evaluation settles upon.
type Settling struct {
	Workspace   Workspace
	PullRequest *PullRequest      // locked as by [Tx.LockPullRequest]; nil where it is not known
	Repository  *RepositoryConfig // nil where it is not gated
	Live        *ApprovalRequest  // the request that is alive; nil for none
}

// Settling locks a pull request and reads, then, what an evaluation settles upon.
func (tx *Tx) Settling(ctx context.Context, repositoryID string, number int64) (s Settling, err error) {
	batch := &pgx.Batch{}
	batch.Queue(selectWorkspace, tx.Workspace).Query(exactly(&s.Workspace))
	batch.Queue(selectPullRequest+` for update`, tx.Workspace, repositoryID, number).Query(maybe(&s.PullRequest))
	batch.Queue(selectRepositoryConfig, tx.Workspace, repositoryID).Query(maybe(&s.Repository))
	batch.Queue(`select `+requestColumns+` from signedapproval_approval_requests where workspace_id = $1 and `+requestAlive+`
		and pull_request_id = (select id from signedapproval_pull_requests where workspace_id = $1 and repository_id = $2 and number = $3)`,
		tx.Workspace, repositoryID, number).Query(maybe(&s.Live))
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Settling{}, fmt.Errorf("store: read what to settle: %w", err)
	}
	return s, nil
}

// Asked is what an approval is judged by.
type Asked struct {
	Request    ApprovalRequest
	Repository *RepositoryConfig // nil where it is not gated any more
	Policy     *PolicyVersion    // in force; nil where it is not gated any more
}

// Asked reads a request together with the rules in force. [ErrPolicyBehind] as of [Tx.PolicyInForce].
func (tx *Tx) Asked(ctx context.Context, repositoryID, requestID string) (a Asked, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`select `+requestColumns+` from signedapproval_approval_requests where workspace_id = $1 and id = $2`, tx.Workspace, requestID).Query(exactly(&a.Request))
	batch.Queue(selectRepositoryConfig, tx.Workspace, repositoryID).Query(maybe(&a.Repository))
	queuePolicyInForce(batch, tx.Workspace, repositoryID, &a.Policy)
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Asked{}, fmt.Errorf("store: read what was asked: %w", err)
	}
	return a, nil
}

// queuePolicyInForce reads the rules in force in a repository; nil for none.
func queuePolicyInForce(batch *pgx.Batch, workspace, repositoryID string, into **PolicyVersion) {
	batch.Queue(selectPolicyInForce, workspace, repositoryID).Query(func(rows pgx.Rows) error {
		inForce, err := policyInForce(rows)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		*into = &inForce
		return err
	})
}

// LockTogether locks a pull request as [Tx.LockPullRequestByID] does, and reads its workspace.
func (tx *Tx) LockTogether(ctx context.Context, id string) (w Workspace, pr PullRequest, err error) {
	batch := &pgx.Batch{}
	batch.Queue(selectWorkspace, tx.Workspace).Query(exactly(&w))
	batch.Queue(`select `+pullRequestColumns+` from signedapproval_pull_requests where workspace_id = $1 and id = $2 for update`, tx.Workspace, id).Query(exactly(&pr))
	if err := tx.tx.batch(ctx, batch); err != nil {
		return w, pr, fmt.Errorf("store: lock a pull request: %w", err)
	}
	return w, pr, nil
}

// Owed is what one commit of a pull request should show.
type Owed struct {
	Status CommitStatus
	// Size and Published are the end of the pull request's chain, see [Tx.ChainEnd].
	Size      int64
	Published bool
	// Asked says that the job of the claim was asked for again since it was claimed, so that what is owed may be of
	// later, and not durable yet: see [Store.Flush].
	Asked bool
}

// Owed reads the status of one commit of a pull request, then the end of its chain, and then whether it was asked for
// again since the claim.
func (s *Store) Owed(ctx context.Context, claim Claim, workspace, pullRequestID, commit string) (o Owed, err error) {
	batch := &pgx.Batch{}
	batch.Queue(selectStatus, workspace, pullRequestID, commit).Query(exactly(&o.Status))
	batch.Queue(chainEnd, workspace, pullRequestID).QueryRow(func(row pgx.Row) error { return one(row.Scan(&o.Size, &o.Published)) })
	batch.Queue(`select not exists (select from signedapproval_jobs where id = $1 and seq = $2)`, claim.ID, claim.Seq).
		QueryRow(func(row pgx.Row) error { return row.Scan(&o.Asked) })
	return o, s.readTogether(ctx, workspace, batch)
}

// Around is what a screen shows around a pull request.
type Around struct {
	Workspace  Workspace
	Repository *RepositoryConfig // nil where it is no longer gated
	Status     *CommitStatus     // on the head; nil for none
	Merge      *MergeIntent      // of the head; nil for none
}

// Around reads what a screen shows around a pull request.
func (tx *Tx) Around(ctx context.Context, pr PullRequest) (a Around, err error) {
	batch := &pgx.Batch{}
	batch.Queue(selectWorkspace, tx.Workspace).Query(exactly(&a.Workspace))
	batch.Queue(selectRepositoryConfig, tx.Workspace, pr.RepositoryID).Query(maybe(&a.Repository))
	batch.Queue(selectStatus, tx.Workspace, pr.ID, pr.HeadCommit).Query(maybe(&a.Status))
	batch.Queue(selectMerge, tx.Workspace, pr.ID, pr.HeadCommit).Query(maybe(&a.Merge))
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Around{}, fmt.Errorf("store: read around a pull request: %w", err)
	}
	return a, nil
}
