package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// PolicyVersion is one immutable version of a repository's rules.
type PolicyVersion struct {
	ID           string
	RepositoryID string
	Version      int    // 1, 2, 3, … within the repository
	Document     []byte // RFC 8785
	Digest       string // lower-case hex SHA-256 of Document
	CreatedBy    string // person
	CreatedVia   string // "session" or "token:<id>"
	CreatedAt    time.Time
}

// Cursor is the place of v in a list ordered by newest first.
func (v PolicyVersion) Cursor() string { return cursor(v.Version) }

const policyVersionColumns = `id, repository_id, version, document, digest, created_by, created_via, created_at`

// PutPolicyVersion stores a document as the newest version of a repository's rules. A document that
// is the newest version already makes no new one: then created is false. Savers of one repository
// wait for each other. Of v, RepositoryID, Document, Digest, CreatedBy and CreatedVia are read.
func (tx *Tx) PutPolicyVersion(ctx context.Context, v PolicyVersion) (stored PolicyVersion, created bool, err error) {
	// There may be no row yet that could be locked.
	_, err = tx.tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('policy:' || $1 || ':' || $2, 0))`, tx.Workspace, v.RepositoryID)
	if err != nil {
		return PolicyVersion{}, false, fmt.Errorf("store: lock policy versions: %w", err)
	}
	newest, err := single[PolicyVersion](ctx, tx.tx, `select `+policyVersionColumns+` from signedapproval_policy_versions
		where workspace_id = $1 and repository_id = $2 order by version desc limit 1`, tx.Workspace, v.RepositoryID)
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

// PolicyVersion reads a version by its id.
func (tx *Tx) PolicyVersion(ctx context.Context, id string) (PolicyVersion, error) {
	return single[PolicyVersion](ctx, tx.tx, `select `+policyVersionColumns+` from signedapproval_policy_versions
		where workspace_id = $1 and id = $2`, tx.Workspace, id)
}

// PolicyVersions lists the versions of a repository's rules, newest first.
func (tx *Tx) PolicyVersions(ctx context.Context, repositoryID string, page Page) ([]PolicyVersion, bool, error) {
	var before int
	started, err := page.keys(&before)
	if err != nil {
		return nil, false, err
	}
	versions, err := list[PolicyVersion](ctx, tx.tx, `select `+policyVersionColumns+` from signedapproval_policy_versions
		where workspace_id = $1 and repository_id = $2 and (not $3 or version < $4) order by version desc limit $5`,
		tx.Workspace, repositoryID, started, before, page.limit()+1)
	if err != nil {
		return nil, false, fmt.Errorf("store: list policy versions: %w", err)
	}
	versions, more := paged(versions, page)
	return versions, more, nil
}
