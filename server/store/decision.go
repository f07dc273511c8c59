package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Decision is one signed act of one person. The application can neither change nor delete what was signed, only
// forget who a person was.
type Decision struct {
	ID                string
	PullRequestID     string
	RequestID         string
	PersonID          string
	AccountID         string
	Name              string
	Action            string // APPROVE, REJECT, WITHDRAW
	HeadCommit        string
	DestinationBranch string
	RuleDigest        string
	Sequence          int64  // of its leaf in the pull request's chain
	Statement         []byte // the very bytes that were signed
	Assertion         []byte // the whole assertion, JSON
	Openings          []byte // what the statement's commitments hide, JSON
	Comment           string
	LeafHash          string // hex
	DecidedAt         time.Time
	Identity          string // by what the key was known, in the roster that the signer was shown
	CredentialID      []byte // the key that signed

	// What package gate finds out about the key; it is never stored. Model is the AAGUID of its authenticator, where that
	// is proved. Compromised says that it may have been in other hands by then, or does not stand, as the workspace's
	// roster judges.
	Model       string `db:"-"`
	Compromised bool   `db:"-"`
}

const decisionColumns = `id, pull_request_id, request_id, person_id, account_id, name, action, head_commit,
	destination_branch, rule_digest, sequence, statement, assertion, openings, comment, leaf_hash, decided_at, identity,
	credential_id`

// InsertDecision stores a verified decision, with the commit, and gives it the time of the transaction. The caller holds the
// pull request's lock.
func (tx *Tx) InsertDecision(ctx context.Context, d Decision) (_ Decision, err error) {
	if d.DecidedAt, err = tx.Now(ctx); err != nil {
		return Decision{}, err
	}
	tx.tx.later(`
		insert into signedapproval_decisions (workspace_id, id, pull_request_id, request_id, person_id, account_id, name,
			action, head_commit, destination_branch, rule_digest, sequence, statement, assertion, openings, comment, leaf_hash, decided_at, identity, credential_id)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, now(), $18, $19)`,
		tx.Workspace, d.ID, d.PullRequestID, d.RequestID, d.PersonID, d.AccountID, d.Name, d.Action, d.HeadCommit,
		d.DestinationBranch, d.RuleDigest, d.Sequence, d.Statement, d.Assertion, d.Openings, d.Comment, d.LeafHash, d.Identity, d.CredentialID)
	return d, nil
}

// Decision reads a decision by its id.
func (tx *Tx) Decision(ctx context.Context, id string) (Decision, error) {
	list, err := tx.decisions(ctx, `id = $2`, id)
	if err == nil && len(list) == 0 {
		return Decision{}, ErrNotFound
	}
	if err != nil {
		return Decision{}, err
	}
	return list[0], nil
}

// Decisions lists all decisions of a pull request in the order of its chain.
func (tx *Tx) Decisions(ctx context.Context, pullRequestID string) ([]Decision, error) {
	return tx.decisions(ctx, `pull_request_id = $2`, pullRequestID)
}

// DecisionsOn lists the decisions about one commit of a pull request, whatever request they were
// given to, in the order of its chain: what a tally looks at.
func (tx *Tx) DecisionsOn(ctx context.Context, pullRequestID, headCommit string) ([]Decision, error) {
	return tx.decisions(ctx, `pull_request_id = $2 and head_commit = $3`, pullRequestID, headCommit)
}

const (
	selectDecisions = `select ` + decisionColumns + ` from signedapproval_decisions where workspace_id = $1 and `
	inChain         = ` order by pull_request_id, sequence`
)

func (tx *Tx) decisions(ctx context.Context, where string, args ...any) ([]Decision, error) {
	rows, err := tx.tx.Query(ctx, selectDecisions+where+inChain, append([]any{tx.Workspace}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("store: read decisions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Decision])
}

// Decided is a pull request with an open request.
type Decided struct {
	RepositoryID string
	Number       int64
}

// DecidedWith lists the open pull requests with a request that is alive and decisions by any of the keys.
func (tx *Tx) DecidedWith(ctx context.Context, credentialIDs [][]byte) ([]Decided, error) {
	return list[Decided](ctx, tx.tx, `
		select p.repository_id, p.number from signedapproval_pull_requests p
		where p.workspace_id = $1 and p.state = 'OPEN' -- looked up for one after the other: most of what was decided is closed
			and (select true from signedapproval_decisions where workspace_id = $1 and pull_request_id = p.id and credential_id = any($2) limit 1)
			and (select true from signedapproval_approval_requests where workspace_id = $1 and pull_request_id = p.id
				and state not in ('SUPERSEDED', 'CANCELLED') limit 1)
		order by p.repository_id, p.number`, tx.Workspace, credentialIDs)
}
