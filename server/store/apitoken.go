package store

import (
	"context"
	"fmt"
	"time"
)

// Scopes of an API token. None of them can make a decision.
const (
	ScopeRead      = "READ"
	ScopeConfigure = "CONFIGURE"
)

// APIToken lets a script speak for one person in one workspace.
type APIToken struct {
	ID          string
	WorkspaceID string
	PersonID    string
	Name        string
	Prefix      string // its first characters, to recognise it by
	Scopes      []string
	CreatedAt   time.Time
	ExpiresAt   time.Time
	LastUsedAt  *time.Time // to the minute; nil: never
	RevokedAt   *time.Time
}

const apiTokenColumns = `id, workspace_id, person_id, name, prefix, scopes, created_at, expires_at, last_used_at, revoked_at`

// InsertAPIToken stores a token by its SHA-256. The workspace's and person's ids, name, prefix and
// scopes of t are read.
func (sh *Shared) InsertAPIToken(ctx context.Context, t APIToken, hash []byte, lifetime time.Duration) (APIToken, error) {
	stored, err := single[APIToken](ctx, sh.tx, `
		insert into signedapproval_api_tokens (workspace_id, person_id, name, token_hash, prefix, scopes, expires_at)
		values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
		returning `+apiTokenColumns,
		t.WorkspaceID, t.PersonID, t.Name, hash, t.Prefix, t.Scopes, lifetime.Seconds())
	if err != nil {
		return APIToken{}, fmt.Errorf("store: insert API token: %w", err)
	}
	return stored, nil
}

// UseAPIToken reads the token with this hash if it is neither expired nor revoked, and notes its use
// to the minute. ErrNotFound for every other.
func (sh *Shared) UseAPIToken(ctx context.Context, hash []byte) (APIToken, error) {
	t, err := single[APIToken](ctx, sh.tx, `select `+apiTokenColumns+` from signedapproval_api_tokens
		where token_hash = $1 and expires_at > now() and revoked_at is null`, hash)
	if err != nil {
		return APIToken{}, err
	}
	_, err = sh.tx.Exec(ctx, `
		update signedapproval_api_tokens set last_used_at = date_trunc('minute', now())
		where id = $1 and (last_used_at is null or last_used_at < date_trunc('minute', now()))`, t.ID)
	if err != nil {
		return APIToken{}, fmt.Errorf("store: note API token as used: %w", err)
	}
	return t, nil
}

// APIToken reads a token by its id, whatever its state.
func (sh *Shared) APIToken(ctx context.Context, id string) (APIToken, error) {
	return single[APIToken](ctx, sh.tx, `select `+apiTokenColumns+` from signedapproval_api_tokens where id = $1`, id)
}

// APITokens lists the tokens of a workspace, newest first: all of them, or those of one person.
func (sh *Shared) APITokens(ctx context.Context, workspace string, personID *string) ([]APIToken, error) {
	return list[APIToken](ctx, sh.tx, `select `+apiTokenColumns+` from signedapproval_api_tokens
		where workspace_id = $1 and ($2::uuid is null or person_id = $2) order by created_at desc, id desc`, workspace, personID)
}

// CountAPITokens counts the tokens of a person in a workspace that still work.
func (sh *Shared) CountAPITokens(ctx context.Context, workspace, personID string) (int, error) {
	var n int
	err := sh.tx.QueryRow(ctx, `select count(*) from signedapproval_api_tokens
		where workspace_id = $1 and person_id = $2 and expires_at > now() and revoked_at is null`, workspace, personID).Scan(&n)
	return n, err
}

// RevokeAPIToken ends a token at once; one that was revoked before keeps its time.
func (sh *Shared) RevokeAPIToken(ctx context.Context, id string) (APIToken, error) {
	return single[APIToken](ctx, sh.tx, `
		update signedapproval_api_tokens set revoked_at = coalesce(revoked_at, now()) where id = $1
		returning `+apiTokenColumns, id)
}

// RevokeAPITokens ends all tokens of a workspace and tells how many worked until now.
func (sh *Shared) RevokeAPITokens(ctx context.Context, workspace string) (int, error) {
	done, err := sh.tx.Exec(ctx, `
		update signedapproval_api_tokens set revoked_at = now()
		where workspace_id = $1 and revoked_at is null and expires_at > now()`, workspace)
	return int(done.RowsAffected()), err
}
