package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signedapproval/bitbucket/server/evidence"
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

// every reads all rows.
func every[T any](into *[]T) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
		return err
	}
}

// readTogether has reads carried out in one round trip, as a transaction of their own that sees one workspace.
func (s *Store) readTogether(ctx context.Context, workspace string, batch *pgx.Batch) error {
	_, err := s.readTogetherAt(ctx, workspace, batch)
	return err
}

// readTogetherAt is readTogether, and answers when that was, by the database's clock.
func (s *Store) readTogetherAt(ctx context.Context, workspace string, batch *pgx.Batch) (now time.Time, err error) {
	if !ValidID(workspace) {
		return now, fmt.Errorf("store: %q is no workspace: %w", workspace, ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	// A batch outside of any transaction is one: what it sets holds until its end.
	whole := &pgx.Batch{}
	whole.Queue(enterWorkspace, workspace).QueryRow(func(row pgx.Row) error { return row.Scan(&now, nil) })
	whole.QueuedQueries = append(whole.QueuedQueries, batch.QueuedQueries...)
	if err := s.pool.SendBatch(ctx, whole).Close(); err != nil {
		return now, fmt.Errorf("store: read together: %w", err)
	}
	return now.UTC(), nil
}

const (
	selectWorkspace        = `select ` + workspaceColumns + ` from signedapproval_workspaces where workspace_id = $1`
	selectRepositoryConfig = `select ` + repositoryConfigColumns + ` from signedapproval_bitbucket_repo_configs where workspace_id = $1 and repository_id = $2`
	selectPullRequest      = `select ` + pullRequestColumns + ` from signedapproval_pull_requests where workspace_id = $1 and repository_id = $2 and number = $3`
	selectStatus           = `select ` + statusColumns + ` from signedapproval_bitbucket_commit_statuses where workspace_id = $1 and pull_request_id = $2 and commit = $3`
	lockPullRequest        = `select ` + pullRequestColumns + ` from signedapproval_pull_requests where workspace_id = $1 and id = $2 for update`
	// pullRequestAt is the id of the pull request of a repository and number.
	pullRequestAt = `(select id from signedapproval_pull_requests where workspace_id = $1 and repository_id = $2 and number = $3)`
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

// StatusUnder reads the status on the head of the pull request whose build statuses bear a key; [ErrNotFound] where there is none.
func (s *Store) StatusUnder(ctx context.Context, workspace, key string) (status CommitStatus, err error) {
	const of = ` from signedapproval_pull_requests where workspace_id = $1 and status_key = $2)`
	batch := &pgx.Batch{}
	batch.Queue(`select `+statusColumns+` from signedapproval_bitbucket_commit_statuses
		where workspace_id = $1 and pull_request_id = (select id`+of+` and commit = (select head_commit`+of, workspace, key).Query(exactly(&status))
	return status, s.readTogether(ctx, workspace, batch)
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
	Given       Given             // about the commit of Live; nothing for none
	Status      *CommitStatus     // on the commit of Live; nil for none
}

// Settling locks a pull request, holds the rules, as [Tx.HoldRules] does, and reads, then, what an evaluation settles upon.
func (tx *Tx) Settling(ctx context.Context, repositoryID string, number int64) (s Settling, err error) {
	batch := &pgx.Batch{}
	batch.Queue(selectWorkspace, tx.Workspace).Query(exactly(&s.Workspace))
	batch.Queue(selectPullRequest+` for update`, tx.Workspace, repositoryID, number).Query(maybe(&s.PullRequest))
	batch.Queue(holdRules, tx.Workspace, repositoryID)
	batch.Queue(selectRepositoryConfig, tx.Workspace, repositoryID).Query(maybe(&s.Repository))
	const asked = ` from signedapproval_approval_requests where workspace_id = $1 and ` + requestAlive + ` and pull_request_id = ` + pullRequestAt
	batch.Queue(`select `+requestColumns+asked, tx.Workspace, repositoryID, number).Query(maybe(&s.Live))
	batch.Queue(selectDecisions+`pull_request_id = `+pullRequestAt+` and head_commit = (select head_commit`+asked+`)`+inChain,
		tx.Workspace, repositoryID, number).Query(every(&s.Given.Decisions))
	queueSaid(batch, tx.Workspace, &s.Given.said)
	batch.Queue(`select `+statusColumns+` from signedapproval_bitbucket_commit_statuses
		where workspace_id = $1 and pull_request_id = `+pullRequestAt+` and commit = (select head_commit`+asked+`)`, tx.Workspace, repositoryID, number).Query(maybe(&s.Status))
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
	Given      Given             // about the commit of Request
}

func (a *Asked) queue(batch *pgx.Batch, workspace, repositoryID, requestID string) {
	const request = ` from signedapproval_approval_requests where workspace_id = $1 and id = $2`
	batch.Queue(`select `+requestColumns+request, workspace, requestID).Query(exactly(&a.Request))
	batch.Queue(selectRepositoryConfig, workspace, repositoryID).Query(maybe(&a.Repository))
	queuePolicyInForce(batch, workspace, repositoryID, &a.Policy)
	batch.Queue(selectDecisions+`pull_request_id = (select pull_request_id`+request+`) and head_commit = (select head_commit`+request+`)`+inChain, workspace, requestID).
		Query(every(&a.Given.Decisions))
	queueSaid(batch, workspace, &a.Given.said)
}

// Asked reads a request together with the rules in force, and then what was decided. [ErrPolicyBehind] as of
// [Tx.PolicyInForce].
func (tx *Tx) Asked(ctx context.Context, repositoryID, requestID string) (a Asked, err error) {
	batch := &pgx.Batch{}
	a.queue(batch, tx.Workspace, repositoryID, requestID)
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

// Signed is what an assertion over a kept statement is verified by.
type Signed struct {
	// PullRequestID and RepositoryID are of the request that is decided.
	PullRequestID, RepositoryID string
	// Permission is the person's in that repository, as it was known less than [RightsAge] ago; nil where it must be read anew.
	Permission *string

	Challenge  *Challenge  // is gone from the database; nil where there is none
	Credential *Credential // of the assertion; nil where there is none
	Keys       Keys        // of the person, as by [Tx.Keys]
	Roster     *evidence.Roster
}

// TakeSigned takes a challenge of a decision on a request, as [Shared.TakeChallenge] does, and reads, then, by what the assertion with
// the credential of this id is to be verified. It fails with [ErrNotFound] where there is no such request.
func (tx *Tx) TakeSigned(ctx context.Context, requestID string, challenge []byte, person Person, sessionHash, credentialID []byte) (s Signed, err error) {
	if !ValidID(requestID) {
		return Signed{}, ErrNotFound
	}
	const theirs = ` where credential_id in (select id from signedapproval_credentials where person_id = $1) order by created_at, workspace_id, credential_id`
	var accused said
	var newest *RosterVersion
	batch := &pgx.Batch{}
	batch.Queue(`select id::text, repository_id::text, (`+knownRight(`permission`, `'none'`, `p.repository_id`, `$3`, `$4`)+`)
		from signedapproval_pull_requests p
		where workspace_id = $1 and id = (select pull_request_id from signedapproval_approval_requests where workspace_id = $1 and id = $2)`,
		tx.Workspace, requestID, person.AccountID, RightsAge.Seconds()).
		QueryRow(func(row pgx.Row) error { return one(row.Scan(&s.PullRequestID, &s.RepositoryID, &s.Permission)) })
	batch.Queue(takeChallenge, challenge, ChallengeDecide, person.ID, sessionHash).Query(maybe(&s.Challenge))
	batch.Queue(`select `+credentialColumns+` from signedapproval_credentials where id = $1`, credentialID).Query(maybe(&s.Credential))
	batch.Queue(selectCredentialsOf, person.ID).Query(every(&s.Keys.Credentials))
	batch.Queue(`select `+countersignatureColumns+` from signedapproval_key_countersignatures`+theirs, person.ID).Query(every(&s.Keys.Countersignatures))
	batch.Queue(`select `+keyRevocationColumns+` from signedapproval_key_revocations`+theirs, person.ID).Query(every(&s.Keys.Revocations))
	batch.Queue(`select `+keyReportColumns+` from signedapproval_key_reports
		where credential_id in (select id from signedapproval_credentials where person_id = $1) order by created_at, id`, person.ID).Query(every(&s.Keys.Reports))
	queueSaid(batch, tx.Workspace, &accused)
	batch.Queue(newestRoster, tx.Workspace).Query(maybe(&newest))
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Signed{}, fmt.Errorf("store: take what was signed: %w", err)
	}
	judgement, err := tx.judgement(ctx, accused)
	if err != nil {
		return Signed{}, err
	}
	s.Keys.roster = judgement.Roster
	if newest == nil {
		newest = &RosterVersion{}
	}
	s.Roster, err = tx.rosterUpTo(ctx, *newest)
	return s, err
}

// Deciding is what a verified decision meets.
type Deciding struct {
	Used        bool // false: as [Shared.UseCredential] fails with [ErrNotFound], and nothing must be decided
	PullRequest PullRequest
	Live        *ApprovalRequest // the request that is alive; nil for none
	Given       Given            // about the commit of Live
	Workspace   Workspace
	Roster      *evidence.Roster // which stays as it is until the decision is in the log
}

// Deciding notes that a key made a decision, as [Shared.UseCredential] does, locks the pull request as [Tx.LockPullRequestByID]
// does, holds the rules, as [Tx.HoldRules] does, and reads then what the decision meets.
func (tx *Tx) Deciding(ctx context.Context, credentialID []byte, signCount int64, backupState bool, repositoryID, pullRequestID string) (d Deciding, err error) {
	var newest RosterVersion
	const asked = ` from signedapproval_approval_requests where workspace_id = $1 and ` + requestAlive + ` and pull_request_id = $2`
	batch := &pgx.Batch{}
	batch.Queue(useCredential, credentialID, signCount, backupState).Exec(func(tag pgconn.CommandTag) error {
		d.Used = tag.RowsAffected() > 0
		return nil
	})
	batch.Queue(selectWorkspace, tx.Workspace).Query(exactly(&d.Workspace))
	batch.Queue(lockPullRequest, tx.Workspace, pullRequestID).Query(exactly(&d.PullRequest))
	batch.Queue(holdRules, tx.Workspace, repositoryID)
	batch.Queue(newestRoster, tx.Workspace).Query(exactly(&newest))
	batch.Queue(`select `+requestColumns+asked, tx.Workspace, pullRequestID).Query(maybe(&d.Live))
	batch.Queue(selectDecisions+`pull_request_id = $2 and head_commit = (select head_commit`+asked+`)`+inChain, tx.Workspace, pullRequestID).Query(every(&d.Given.Decisions))
	queueSaid(batch, tx.Workspace, &d.Given.said)
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Deciding{}, fmt.Errorf("store: read what a decision meets: %w", err)
	}
	d.Roster, err = tx.rosterUpTo(ctx, newest)
	return d, err
}

// Owed is what one commit of a pull request should show.
type Owed struct {
	Status CommitStatus
	// Size and Published are the end of the pull request's chain, see [Tx.ChainEnd].
	Size      int64
	Published bool
	// Durable says that all of it is, and the claim of whoever asked.
	Durable bool
}

// queue reads it, while claim holds, which fails with [ErrLeaseLost] else.
func (o *Owed) queue(batch *pgx.Batch, claim Claim, workspace, pullRequestID, commit string) {
	batch.Queue(`select from signedapproval_jobs where id = $1 and `+ofRow(`fence = $2 and holder is not null`), claim.ID, claim.Fence).
		QueryRow(func(row pgx.Row) error {
			if err := row.Scan(); !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			return ErrLeaseLost
		})
	batch.Queue(selectStatus, workspace, pullRequestID, commit).Query(exactly(&o.Status))
	batch.Queue(chainEnd, workspace, pullRequestID).QueryRow(func(row pgx.Row) error { return one(row.Scan(&o.Size, &o.Published)) })
}

// Owed reads the status of one commit of a pull request and the end of its chain, of one moment. What it answers is durable, and
// so is the claim of whoever asks, which need not have been before: from then on whoever takes the job over knows that somebody
// may be writing the status. A status that is to turn green without witnesses alone is not, since that is for [Tx.Green] to do,
// when it is published. It fails with [ErrLeaseLost] where the claim does not hold.
func (s *Store) Owed(ctx context.Context, claim Claim, workspace, pullRequestID, commit string) (o Owed, err error) {
	batch := &pgx.Batch{}
	o.queue(batch, claim, workspace, pullRequestID, commit)
	batch.Queue(flush+` where not exists (select from signedapproval_bitbucket_commit_statuses
		where workspace_id = $1 and pull_request_id = $2 and commit = $3 and state = 'SUCCESSFUL' and owed_version > paid_version and cosignatures = 0)`,
		workspace, pullRequestID, commit).Exec(func(tag pgconn.CommandTag) error {
		o.Durable = tag.RowsAffected() > 0
		return nil
	})
	err = s.Reading(ctx, workspace, func(tx *Tx) error { return tx.tx.batch(ctx, batch) })
	if err != nil {
		return Owed{}, fmt.Errorf("store: read what is owed: %w", err)
	}
	return o, nil
}

// Green is what a status that is about to say SUCCESSFUL rests on, beside what is owed.
type Green struct {
	Owed
	PullRequest PullRequest
	Judged      Asked
}

// Green reads, all of one moment in [Store.Reading], what [Store.Owed] reads, and what that rests on while it is of the
// request that was. What it answers is durable, and so is the claim of whoever asks. It fails with [ErrLeaseLost] where that does
// not hold, and with [ErrPolicyBehind] as of [Tx.PolicyInForce].
func (tx *Tx) Green(ctx context.Context, claim Claim, was CommitStatus) (Green, error) {
	g := Green{Owed: Owed{Durable: true}}
	batch := &pgx.Batch{}
	g.queue(batch, claim, tx.Workspace, was.PullRequestID, was.Commit)
	batch.Queue(`select `+pullRequestColumns+` from signedapproval_pull_requests where workspace_id = $1 and id = $2`, tx.Workspace, was.PullRequestID).Query(exactly(&g.PullRequest))
	g.Judged.queue(batch, tx.Workspace, was.RepositoryID, was.RequestID)
	batch.Queue(flush)
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Green{}, fmt.Errorf("store: read what is to turn green: %w", err)
	}
	return g, nil
}

// Which names a pull request: by its id, by that of one of its requests, or by its place on Bitbucket.
type Which struct {
	ID, RequestID string // "" where it is named otherwise
	RepositoryID  string
	Number        int64
	AccountID     string // who looks at it
}

// Screen is what a screen shows of a pull request, all of one moment where it is read by [Store.Reading].
type Screen struct {
	Workspace   Workspace
	PullRequest PullRequest
	Repository  *RepositoryConfig // nil where it is no longer gated
	Status      *CommitStatus     // on the head; nil for none
	Merge       *MergeIntent      // of the head; nil for none
	Request     *ApprovalRequest  // the one that names the pull request, else the last one; nil for none
	Given       Given             // about the commit of Request
	Permission  *string           // of who looks, as in [Signed]
}

// Screen reads what a screen shows of a pull request; [ErrNotFound] where there is no such one.
func (tx *Tx) Screen(ctx context.Context, which Which) (s Screen, err error) {
	id, arguments := `$2::uuid`, []any{tx.Workspace, which.ID}
	request := `pull_request_id = $2::uuid order by round desc limit 1`
	switch {
	case which.RequestID != "":
		id, arguments = `(select pull_request_id from signedapproval_approval_requests where workspace_id = $1 and id = $2)`, []any{tx.Workspace, which.RequestID}
		request = `id = $2`
	case which.ID == "":
		id, arguments = pullRequestAt, []any{tx.Workspace, which.RepositoryID, which.Number}
		request = `pull_request_id = ` + id + ` order by round desc limit 1`
	}
	of := func(column string) string {
		return `(select ` + column + ` from signedapproval_pull_requests where workspace_id = $1 and id = ` + id + `)`
	}
	const asked = ` from signedapproval_approval_requests where workspace_id = $1 and `
	batch := &pgx.Batch{}
	batch.Queue(`select `+pullRequestColumns+` from signedapproval_pull_requests where workspace_id = $1 and id = `+id, arguments...).Query(exactly(&s.PullRequest))
	last := len(arguments)
	batch.Queue(knownRight(`permission`, `'none'`, of("repository_id"), fmt.Sprint("$", last+1), fmt.Sprint("$", last+2)),
		append(slices.Clip(arguments), which.AccountID, RightsAge.Seconds())...).Query(func(rows pgx.Rows) (err error) {
		if s.Permission, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[*string]); errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	batch.Queue(selectWorkspace, tx.Workspace).Query(exactly(&s.Workspace))
	batch.Queue(`select `+repositoryConfigColumns+` from signedapproval_bitbucket_repo_configs where workspace_id = $1 and repository_id = `+of("repository_id"),
		arguments...).Query(maybe(&s.Repository))
	batch.Queue(`select `+statusColumns+` from signedapproval_bitbucket_commit_statuses
		where workspace_id = $1 and pull_request_id = `+id+` and commit = `+of("head_commit"), arguments...).Query(maybe(&s.Status))
	batch.Queue(`select `+mergeColumns+` from signedapproval_merge_intents
		where workspace_id = $1 and pull_request_id = `+id+` and head_commit = `+of("head_commit"), arguments...).Query(maybe(&s.Merge))
	batch.Queue(`select `+requestColumns+asked+request, arguments...).Query(maybe(&s.Request))
	batch.Queue(selectDecisions+`pull_request_id = `+id+` and head_commit = (select head_commit`+asked+request+`)`+inChain, arguments...).Query(every(&s.Given.Decisions))
	queueSaid(batch, tx.Workspace, &s.Given.said)
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Screen{}, fmt.Errorf("store: read what a screen shows: %w", err)
	}
	return s, nil
}
