package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// PullRequest is a pull request of a gated repository, as it was last read from Bitbucket.
type PullRequest struct {
	ID                 string
	RepositoryID       string
	Number             int64
	Title              string
	State              string // OPEN, MERGED, DECLINED, SUPERSEDED, GONE
	Draft              bool
	AuthorAccountID    string // "" where Bitbucket names nobody
	AuthorName         string
	SourceRepositoryID *string // nil: the fork is gone
	SourceBranch       string
	HeadCommit         string // 40 hex digits
	DestinationBranch  string
	StatusKey          string
	ChainID            string
	ChainSequence      int64     // of the last leaf; 0 before the first
	ChainLeaf          string    // hex hash of the last leaf; "" before the first
	Version            int64     // moves with every change a screen may show
	SyncedAt           time.Time // what Bitbucket said is of then or later
	CreatedAt          time.Time
}

// Cursor is the place of p in a list ordered by newest first.
func (p PullRequest) Cursor() string { return cursor(p.CreatedAt, p.ID) }

const pullRequestColumns = `id, repository_id, number, title, state, draft, author_account_id, author_name,
	source_repository_id, source_branch, head_commit, destination_branch, status_key, chain_id, chain_sequence,
	chain_leaf, version, synced_at, created_at`

// LockPullRequest reads a pull request and keeps every other writer of it waiting until this
// transaction ends. It is the first statement of whatever changes the request, the decisions, the
// chain or the owed status of a pull request: that is what makes a verdict one moment's truth.
func (tx *Tx) LockPullRequest(ctx context.Context, repositoryID string, number int64) (PullRequest, error) {
	return tx.pullRequest(ctx, `repository_id = $2 and number = $3 for update`, repositoryID, number)
}

// LockPullRequestByID is LockPullRequest for a caller that knows our id.
func (tx *Tx) LockPullRequestByID(ctx context.Context, id string) (PullRequest, error) {
	return tx.pullRequest(ctx, `id = $2 for update`, id)
}

// PullRequest reads a pull request by our id.
func (tx *Tx) PullRequest(ctx context.Context, id string) (PullRequest, error) {
	return tx.pullRequest(ctx, `id = $2`, id)
}

// FindPullRequest reads a pull request by its repository and number.
func (tx *Tx) FindPullRequest(ctx context.Context, repositoryID string, number int64) (PullRequest, error) {
	return tx.pullRequest(ctx, `repository_id = $2 and number = $3`, repositoryID, number)
}

func (tx *Tx) pullRequest(ctx context.Context, where string, args ...any) (PullRequest, error) {
	rows, err := tx.tx.Query(ctx, `select `+pullRequestColumns+` from signedapproval_pull_requests where workspace_id = $1 and `+where,
		append([]any{tx.Workspace}, args...)...)
	if err != nil {
		return PullRequest{}, fmt.Errorf("store: read pull request: %w", err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[PullRequest])
	return p, one(err)
}

// InsertPullRequest stores a pull request that was not known, before the next statement, and gives what is stored. The
// transaction fails where another one was faster.
func (tx *Tx) InsertPullRequest(ctx context.Context, p PullRequest) (PullRequest, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return PullRequest{}, err
	}
	p.Version, p.CreatedAt = 1, now
	tx.insert(p.ID, `
		insert into signedapproval_pull_requests (workspace_id, id, repository_id, number, title, state, draft,
			author_account_id, author_name, source_repository_id, source_branch, head_commit, destination_branch,
			status_key, chain_id, chain_sequence, chain_leaf, version, synced_at, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, now())`,
		tx.insertedPullRequest(p))
	return p, nil
}

func (tx *Tx) insertedPullRequest(p PullRequest) []any {
	return []any{
		tx.Workspace, p.ID, p.RepositoryID, p.Number, p.Title, p.State, p.Draft, p.AuthorAccountID, p.AuthorName,
		p.SourceRepositoryID, p.SourceBranch, p.HeadCommit, p.DestinationBranch, p.StatusKey, p.ChainID, p.ChainSequence, p.ChainLeaf, p.Version, p.SyncedAt,
	}
}

// UpdatePullRequest writes what Bitbucket said and where the chain stands. The caller holds the lock.
func (tx *Tx) UpdatePullRequest(_ context.Context, p PullRequest) error {
	if tx.inserts(p.ID, tx.insertedPullRequest(p)) {
		return nil
	}
	tx.tx.later(`
		update signedapproval_pull_requests set title = $3, state = $4, draft = $5, author_account_id = $6,
			author_name = $7, source_repository_id = $8, source_branch = $9, head_commit = $10,
			destination_branch = $11, chain_sequence = $12, chain_leaf = $13, version = $14, synced_at = $15
		where workspace_id = $1 and id = $2`,
		tx.Workspace, p.ID, p.Title, p.State, p.Draft, p.AuthorAccountID, p.AuthorName, p.SourceRepositoryID,
		p.SourceBranch, p.HeadCommit, p.DestinationBranch, p.ChainSequence, p.ChainLeaf, p.Version, p.SyncedAt)
	return nil
}

// MoveChain writes where the chain of a pull request stands, and nothing that Bitbucket said. The
// caller holds the lock.
func (tx *Tx) MoveChain(ctx context.Context, p PullRequest) error {
	_, err := tx.tx.Exec(ctx, `
		update signedapproval_pull_requests set chain_sequence = $3, chain_leaf = $4, version = version + 1
		where workspace_id = $1 and id = $2`, tx.Workspace, p.ID, p.ChainSequence, p.ChainLeaf)
	if err != nil {
		return fmt.Errorf("store: move chain: %w", err)
	}
	return nil
}

// OpenPullRequests lists all pull requests of a repository that we believe to be open, of the whole workspace where
// repositoryID is ""; branch narrows those of a repository to those that come from that branch.
func (tx *Tx) OpenPullRequests(ctx context.Context, repositoryID, branch string) ([]PullRequest, error) {
	where, arguments := `workspace_id = $1 and state = 'OPEN'`, []any{tx.Workspace}
	if repositoryID != "" {
		where, arguments = where+` and repository_id = $2 and ($3 = '' or source_branch = $3)`, append(arguments, repositoryID, branch)
	}
	rows, err := tx.tx.Query(ctx, `select `+pullRequestColumns+` from signedapproval_pull_requests
		where `+where+` order by repository_id, number`, arguments...)
	if err != nil {
		return nil, fmt.Errorf("store: list open pull requests: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[PullRequest])
}

// PullRequests lists the open pull requests of a repository, newest first.
func (tx *Tx) PullRequests(ctx context.Context, repositoryID string, page Page) ([]PullRequest, bool, error) {
	at, id, err := page.after()
	if err != nil {
		return nil, false, err
	}
	rows, err := tx.tx.Query(ctx, `select `+pullRequestColumns+` from signedapproval_pull_requests
		where workspace_id = $1 and repository_id = $4 and state = 'OPEN' and (created_at, id) < `+newestFirst+`
		order by created_at desc, id desc limit $5`, tx.Workspace, at, id, repositoryID, page.limit()+1)
	if err != nil {
		return nil, false, fmt.Errorf("store: list pull requests: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PullRequest])
	if err != nil {
		return nil, false, err
	}
	list, more := paged(list, page)
	return list, more, nil
}
