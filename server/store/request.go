package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// States of an approval request. The first five are alive: at most one request of a pull request
// is in one of them, which an index enforces.
const (
	RequestPending    = "PENDING"
	RequestApproved   = "APPROVED"
	RequestRejected   = "REJECTED"
	RequestExpired    = "EXPIRED"
	RequestOverridden = "OVERRIDDEN"
	RequestSuperseded = "SUPERSEDED"
	RequestCancelled  = "CANCELLED"
)

// ApprovalRequest asks whether one commit may go into one branch under one rule.
type ApprovalRequest struct {
	ID                string
	PullRequestID     string
	Round             int
	HeadCommit        string
	DestinationBranch string
	PolicyVersionID   string
	Rule              []byte // RFC 8785
	RuleDigest        string
	State             string
	Sentence          string
	Verdict           json.RawMessage // approval.Verdict as last tallied
	Facts             json.RawMessage // approval.Facts that it was tallied from
	OutcomeSalt       []byte          // opens what the verdict's leaf commits to; nil before the first and once somebody was erased
	RequestedAt       time.Time
	ExpiresAt         time.Time
	Overdue           bool // whether that is past, by the clock of the database
	DecidedAt         *time.Time
	ClosedAt          *time.Time
}

// Alive tells whether the request can still change its state.
func (r ApprovalRequest) Alive() bool {
	return r.State != RequestSuperseded && r.State != RequestCancelled
}

// Cursor is the place of r in a list ordered by time of asking.
func (r ApprovalRequest) Cursor() string { return cursor(r.RequestedAt, r.ID) }

const requestColumns = `id, pull_request_id, round, head_commit, destination_branch, policy_version_id, rule, rule_digest,
	state, sentence, verdict, facts, outcome_salt, requested_at, expires_at, expires_at <= now() as overdue, decided_at, closed_at`

// requestStates are all of them.
var requestStates = []string{
	RequestPending, RequestApproved, RequestRejected, RequestExpired, RequestOverridden, RequestSuperseded, RequestCancelled,
}

const requestAlive = `state in ('PENDING', 'APPROVED', 'REJECTED', 'EXPIRED', 'OVERRIDDEN')`

// Request reads a request by its id.
func (tx *Tx) Request(ctx context.Context, id string) (ApprovalRequest, error) {
	return tx.request(ctx, `id = $2`, id)
}

// LiveRequest reads the request of a pull request that is alive.
func (tx *Tx) LiveRequest(ctx context.Context, pullRequestID string) (ApprovalRequest, error) {
	return tx.request(ctx, `pull_request_id = $2 and `+requestAlive, pullRequestID)
}

// LastRequest reads the request of a pull request that was opened last, alive or not.
func (tx *Tx) LastRequest(ctx context.Context, pullRequestID string) (ApprovalRequest, error) {
	return tx.request(ctx, `pull_request_id = $2 order by round desc limit 1`, pullRequestID)
}

func (tx *Tx) request(ctx context.Context, where string, args ...any) (ApprovalRequest, error) {
	rows, err := tx.tx.Query(ctx, `select `+requestColumns+` from signedapproval_approval_requests where workspace_id = $1 and `+where,
		append([]any{tx.Workspace}, args...)...)
	if err != nil {
		return ApprovalRequest{}, fmt.Errorf("store: read approval request: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[ApprovalRequest])
	return r, one(err)
}

// InsertRequest opens a round of a pull request, the one after its last, before the next statement, and gives what is stored.
// The caller holds the pull request's lock and has closed the round before.
func (tx *Tx) InsertRequest(ctx context.Context, r ApprovalRequest) (ApprovalRequest, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return ApprovalRequest{}, err
	}
	r.State, r.Verdict, r.Facts, r.RequestedAt, r.Overdue = RequestPending, json.RawMessage("{}"), json.RawMessage("{}"), now, !now.Before(r.ExpiresAt)
	tx.insert(r.ID, `
		insert into signedapproval_approval_requests (workspace_id, id, pull_request_id, round, head_commit,
			destination_branch, policy_version_id, rule, rule_digest, state, sentence, verdict, facts, requested_at, expires_at, outcome_salt, decided_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now(), $14, $15, case when $10 in ('APPROVED', 'REJECTED', 'OVERRIDDEN') then now() end)`,
		tx.insertedRequest(r))
	return r, nil
}

func (tx *Tx) insertedRequest(r ApprovalRequest) []any {
	return []any{
		tx.Workspace, r.ID, r.PullRequestID, r.Round, r.HeadCommit, r.DestinationBranch, r.PolicyVersionID, r.Rule, r.RuleDigest,
		r.State, r.Sentence, r.Verdict, r.Facts, r.ExpiresAt, r.OutcomeSalt,
	}
}

// SaveVerdict stores what a tally said about a live request, and has everybody for whom it waited
// or waits now look at their inbox again. The caller holds the pull request's lock; where the request is not alive, the
// transaction fails with [ErrLeaseLost], for the caller never had one.
func (tx *Tx) SaveVerdict(_ context.Context, r ApprovalRequest) error {
	if tx.inserts(r.ID, tx.insertedRequest(r)) {
		tx.touchWaiting(r.ID)
		return nil
	}
	tx.touchWaiting(r.ID)
	tx.tx.later(`
		with saved as (update signedapproval_approval_requests set state = $3, sentence = $4, verdict = $5, facts = $6, policy_version_id = $7, outcome_salt = $8,
			decided_at = case when $3 in ('APPROVED', 'REJECTED', 'OVERRIDDEN') and state <> $3 then now()
				when $3 in ('APPROVED', 'REJECTED', 'OVERRIDDEN') then decided_at end
		where workspace_id = $1 and id = $2 and `+ofRow(requestAlive)+` returning id)
		select signedapproval_lease_lost() where not exists (select from saved)`,
		tx.Workspace, r.ID, r.State, r.Sentence, r.Verdict, r.Facts, r.PolicyVersionID, r.OutcomeSalt)
	if r.State == RequestPending { // else it waits for nobody
		tx.touchWaiting(r.ID)
	}
	return nil
}

// touchWaiting touches the inboxes of the people for whom a request waits, whether they were told of
// it or not: somebody who signed in only after it was opened has no notice of it.
func (tx *Tx) touchWaiting(requestID string) {
	tx.touchInboxes(`select p.id from (
			select distinct jsonb_path_query(case when state = 'PENDING' then verdict end, '$.requirements[*].canStillApprove[*].accountId') #>> '{}' as account_id
			from signedapproval_approval_requests where workspace_id = $1 and id = $2) waiting
		cross join lateral (select id from signedapproval_people where account_id = waiting.account_id limit 1) p`, tx.Workspace, requestID)
}

// CloseRequest ends a request for good, SUPERSEDED or CANCELLED, and with it what its notices ask
// for. Closing a closed one changes nothing.
func (tx *Tx) CloseRequest(ctx context.Context, id, state, sentence string) error {
	tx.touchWaiting(id)
	tx.tx.later(`
		update signedapproval_approval_requests set state = $3, sentence = $4, closed_at = now()
		where workspace_id = $1 and id = $2 and `+ofRow(requestAlive), tx.Workspace, id, state, sentence)
	return tx.ReadNoticesOf(ctx, id, "")
}

// RequestsOf lists the requests of a pull request, newest round first.
func (tx *Tx) RequestsOf(ctx context.Context, pullRequestID string, page Page) ([]ApprovalRequest, bool, error) {
	return tx.requests(ctx, page, `select `+requestColumns+` from signedapproval_approval_requests
		where workspace_id = $1 and pull_request_id = $5 and (requested_at, id) < `+newestFirst+`
		order by requested_at desc, id desc limit $4`, pullRequestID)
}

// Requests lists the requests on pull requests of the given repositories, newest first; no states
// means all.
func (tx *Tx) Requests(ctx context.Context, repositoryIDs, states []string, page Page) ([]ApprovalRequest, bool, error) {
	if states = slices.Compact(slices.Sorted(slices.Values(states))); len(states) == 0 {
		states = requestStates
	}
	// A page of each state, of which an index knows the order: what is asked for may be rare among all that there was.
	return tx.requests(ctx, page, `select r.* from unnest($5::text[]) as wanted (state) cross join lateral (
			select `+requestColumns+` from signedapproval_approval_requests asked
			where workspace_id = $1 and asked.state = wanted.state and (requested_at, id) < `+newestFirst+` and `+inRepositories+`
			order by requested_at desc, id desc limit $4) r
		order by requested_at desc, id desc limit $4`, states, repositoryIDs)
}

// inRepositories narrows requests, called asked, to the pull requests of the repositories in $6. It is looked up for one
// request after the other, and only until the page is full.
const inRepositories = `(select repository_id from signedapproval_pull_requests where workspace_id = $1 and id = asked.pull_request_id) = any($6::uuid[])`

// AllRequestsOf lists all requests of a pull request in the order in which they were opened.
func (tx *Tx) AllRequestsOf(ctx context.Context, pullRequestID string) ([]ApprovalRequest, error) {
	return list[ApprovalRequest](ctx, tx.tx, `select `+requestColumns+` from signedapproval_approval_requests
		where workspace_id = $1 and pull_request_id = $2 order by round`, tx.Workspace, pullRequestID)
}

// RequestsAskingModels lists the requests that are alive, of pull requests that are open, whose rule asks for models of
// authenticators.
func (tx *Tx) RequestsAskingModels(ctx context.Context) ([]ApprovalRequest, error) {
	return list[ApprovalRequest](ctx, tx.tx, `select `+requestColumns+` from signedapproval_approval_requests r
		where workspace_id = $1 and `+requestAlive+`
			and exists (select from signedapproval_pull_requests p where p.workspace_id = $1 and p.id = r.pull_request_id and p.state = 'OPEN')
			and convert_from(rule, 'UTF8')::jsonb #> '{keys,models}' is not null
		order by requested_at, id`, tx.Workspace)
}

func (tx *Tx) requests(ctx context.Context, page Page, statement string, arguments ...any) ([]ApprovalRequest, bool, error) {
	at, id, err := page.after()
	if err != nil {
		return nil, false, err
	}
	rows, err := tx.tx.Query(ctx, statement, append([]any{tx.Workspace, at, id, page.limit() + 1}, arguments...)...)
	if err != nil {
		return nil, false, fmt.Errorf("store: list approval requests: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ApprovalRequest])
	if err != nil {
		return nil, false, err
	}
	list, more := paged(list, page)
	return list, more, nil
}

// Waiting lists the pending requests on pull requests of the given repositories that accountID can
// still approve, oldest first.
func (tx *Tx) Waiting(ctx context.Context, repositoryIDs []string, accountID string, page Page) ([]ApprovalRequest, bool, error) {
	waitsFor, err := json.Marshal(map[string]any{"requirements": []any{map[string]any{
		"canStillApprove": []any{map[string]any{"accountId": accountID}},
	}}})
	if err != nil {
		return nil, false, err
	}
	// The state is a parameter so that nothing but the index of this order will do: those of what is pending are of all
	// workspaces. PostgreSQL knows nothing of a verdict's content, takes what it is compared with for rare, and would read
	// and sort all that waits; of a case it knows less, and goes through the index until the page is full.
	return tx.requests(ctx, page, `select `+requestColumns+` from signedapproval_approval_requests asked
		where workspace_id = $1 and state = $5 and (requested_at, id) > `+oldestFirst+`
			and case when verdict @> $7::jsonb then `+inRepositories+` end
		order by requested_at, id limit $4`, RequestPending, repositoryIDs, waitsFor)
}
