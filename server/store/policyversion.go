package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// PolicyVersion is one immutable version of a repository's rules.
type PolicyVersion struct {
	ID           string
	RepositoryID string
	Version      int    // 1, 2, 3, … within the repository
	Document     []byte // RFC 8785; empty where the repository is gated no longer
	Digest       string // lower-case hex SHA-256 of Document; "" where that is empty
	CreatedBy    string // person
	CreatedVia   string // "session" or "token:<id>"
	CreatedAt    time.Time
}

// Cursor is the place of v in a list ordered by newest first.
func (v PolicyVersion) Cursor() string { return cursor(v.Version) }

const policyVersionColumns = `id, repository_id, version, document, digest, created_by, created_via, created_at`

// PutPolicyVersion stores a document as the newest version of a repository's rules. A document that
// is the newest version already makes no new one: then created is false. Savers of one repository
// wait for each other, and for those of [Tx.HoldRules]. Of v, RepositoryID, Document, Digest, CreatedBy and CreatedVia are read.
func (tx *Tx) PutPolicyVersion(ctx context.Context, v PolicyVersion) (stored PolicyVersion, created bool, err error) {
	// There may be no row yet that could be locked.
	_, err = tx.tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('policy:' || $1 || ':' || $2, 0))`, tx.Workspace, v.RepositoryID)
	if err != nil {
		return PolicyVersion{}, false, fmt.Errorf("store: lock policy versions: %w", err)
	}
	newest, err := tx.NewestPolicyVersion(ctx, v.RepositoryID)
	switch {
	case err == nil && newest.Digest == v.Digest:
		return newest, false, nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return PolicyVersion{}, false, fmt.Errorf("store: read newest policy version: %w", err)
	}
	stored, err = single[PolicyVersion](ctx, tx.tx, `
		insert into signedapproval_policy_versions (workspace_id, repository_id, version, document, digest, created_by, created_via)
		values ($1, $2, $3, $4, $5, $6, $7)
		returning `+policyVersionColumns,
		tx.Workspace, v.RepositoryID, newest.Version+1, v.Document, v.Digest, v.CreatedBy, v.CreatedVia)
	if err != nil {
		return PolicyVersion{}, false, fmt.Errorf("store: insert policy version: %w", err)
	}
	return stored, true, nil
}

// holdRules waits for no more than who writes a policy of the repository, or a version of the roster, needs to commit.
const holdRules = `select pg_advisory_xact_lock_shared(hashtextextended('roster:' || $1, 0)),
	pg_advisory_xact_lock_shared(hashtextextended('policy:' || $1 || ':' || $2, 0))`

// HoldRules keeps the policy of a repository and the workspace's roster as they are from the next statement on until this
// transaction ends, beside others that do the same. What says in the log that something follows from them must hold them
// before it reads them: else their next versions could come into the log first, and it would be said behind them.
//
// Whoever locks a pull request too does that first: nobody who waits for one holds up all others. Who changes the rules waits for no
// pull request, and for nobody who does.
func (tx *Tx) HoldRules(repositoryID string) { tx.tx.later(holdRules, tx.Workspace, repositoryID) }

// NewestPolicyVersion reads the newest version of a repository, also one that ended its gating; [ErrNotFound] without any.
func (tx *Tx) NewestPolicyVersion(ctx context.Context, repositoryID string) (PolicyVersion, error) {
	return single[PolicyVersion](ctx, tx.tx, `select `+policyVersionColumns+` from signedapproval_policy_versions
		where workspace_id = $1 and repository_id = $2 order by version desc limit 1`, tx.Workspace, repositoryID)
}

// PolicyVersion reads a version by its id.
func (tx *Tx) PolicyVersion(ctx context.Context, id string) (PolicyVersion, error) {
	return single[PolicyVersion](ctx, tx.tx, `select `+policyVersionColumns+` from signedapproval_policy_versions
		where workspace_id = $1 and id = $2`, tx.Workspace, id)
}

// ErrPolicyBehind says that a repository's config names another policy than the newest one of the repository. No use case
// does that, and nobody who follows the log could see it: what is in the log is the newest one.
var ErrPolicyBehind = errors.New("store: the policy in force is not the newest one of its repository")

// selectPolicyInForce reads the version that a config names and the newest one, in one statement: nothing comes between.
const selectPolicyInForce = `
	with gated as (select policy_version_id as id from signedapproval_bitbucket_repo_configs where workspace_id = $1 and repository_id = $2),
		newest as (select id from signedapproval_policy_versions where workspace_id = $1 and repository_id = $2 order by version desc limit 1)
	select ` + policyVersionColumns + ` from signedapproval_policy_versions
	where workspace_id = $1 and id in (select id from gated union select id from newest) and exists (select from gated)`

func policyInForce(rows pgx.Rows) (PolicyVersion, error) {
	versions, err := pgx.CollectRows(rows, pgx.RowToStructByName[PolicyVersion])
	switch {
	case err != nil:
		return PolicyVersion{}, err
	case len(versions) == 0:
		return PolicyVersion{}, ErrNotFound
	case len(versions) > 1:
		return PolicyVersion{}, ErrPolicyBehind
	}
	return versions[0], nil
}

// PolicyInForce reads the version by which a repository is gated: [ErrNotFound] where it is not, [ErrPolicyBehind] where
// that is not its newest one, by which nothing may be judged.
func (tx *Tx) PolicyInForce(ctx context.Context, repositoryID string) (PolicyVersion, error) {
	rows, err := tx.tx.Query(ctx, selectPolicyInForce, tx.Workspace, repositoryID)
	if err != nil {
		return PolicyVersion{}, fmt.Errorf("store: read the policy in force: %w", err)
	}
	return policyInForce(rows)
}

// PolicyVersions lists the versions of a repository's rules, newest first, without those that ended its gating.
func (tx *Tx) PolicyVersions(ctx context.Context, repositoryID string, page Page) ([]PolicyVersion, bool, error) {
	var before int
	started, err := page.keys(&before)
	if err != nil {
		return nil, false, err
	}
	versions, err := list[PolicyVersion](ctx, tx.tx, `select `+policyVersionColumns+` from signedapproval_policy_versions
		where workspace_id = $1 and repository_id = $2 and digest <> '' and (not $3 or version < $4) order by version desc limit $5`,
		tx.Workspace, repositoryID, started, before, page.limit()+1)
	if err != nil {
		return nil, false, fmt.Errorf("store: list policy versions: %w", err)
	}
	versions, more := paged(versions, page)
	return versions, more, nil
}

// PoliciesByDigest reads the documents of policies, of whatever repositories, by their digests; unknown ones are left out.
func (tx *Tx) PoliciesByDigest(ctx context.Context, digests []string) (map[string][]byte, error) {
	type policy struct {
		Digest   string
		Document []byte
	}
	policies, err := list[policy](ctx, tx.tx, `select distinct digest, document from signedapproval_policy_versions
		where workspace_id = $1 and digest = any($2) and digest <> ''`, tx.Workspace, digests)
	if err != nil {
		return nil, fmt.Errorf("store: policies by digest: %w", err)
	}
	byDigest := make(map[string][]byte, len(policies))
	for _, p := range policies {
		byDigest[p.Digest] = p.Document
	}
	return byDigest, nil
}
