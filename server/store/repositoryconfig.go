package store

import (
	"context"
	"fmt"
	"time"
)

// States of a repository config.
const (
	// RepositoryActive: the gate works.
	RepositoryActive = "ACTIVE"
	// RepositoryAttention: it does not, or not surely; Attention says why.
	RepositoryAttention = "ATTENTION"
)

// RepositoryConfig is a gated repository.
type RepositoryConfig struct {
	RepositoryID     string // the Bitbucket UUID, bare and in lower case
	Slug             string // as last seen
	FullName         string // as last seen; display only
	Name             string // as last seen
	PolicyVersionID  string
	HookID           string // of the webhook endpoint; "" where there is none: the app is told of events by itself
	State            string
	Attention        string // a sentence for the administrator; "" while ACTIVE
	CreatedAt        time.Time
	UpdatedAt        time.Time // when an administrator last saved it
	ReconciledAt     *time.Time
	ReconcileSeconds *int // the interval that the reconciler currently keeps; nil before its first walk
}

// Cursor is the place of c in a list ordered by name.
func (c RepositoryConfig) Cursor() string { return cursor(c.Name, c.RepositoryID) }

const repositoryConfigColumns = `repository_id, slug, full_name, name, policy_version_id, coalesce(hook_id::text, '') as hook_id, state, attention,
	created_at, updated_at, reconciled_at, reconcile_seconds`

// PutRepositoryConfig stores what an administrator saved. A new config with a webhook endpoint is in
// ATTENTION with the given sentence until its webhook is confirmed; one without is ACTIVE. Of a present
// one, state and attention stay, unless it gets another endpoint, or loses it. State and the time columns of
// c are not read.
func (tx *Tx) PutRepositoryConfig(ctx context.Context, c RepositoryConfig) (RepositoryConfig, error) {
	stored, err := single[RepositoryConfig](ctx, tx.tx, `
		insert into signedapproval_bitbucket_repo_configs as c (workspace_id, repository_id, slug, full_name, name,
			policy_version_id, hook_id, state, attention)
		values ($1, $2, $3, $4, $5, $6, nullif($7, '')::uuid,
			case when $7 = '' then 'ACTIVE' else 'ATTENTION' end, case when $7 = '' then '' else $8 end)
		on conflict (workspace_id, repository_id) do update set slug = excluded.slug, full_name = excluded.full_name,
			name = excluded.name, policy_version_id = excluded.policy_version_id, hook_id = excluded.hook_id,
			state = case when c.hook_id is not distinct from excluded.hook_id then c.state else excluded.state end,
			attention = case when c.hook_id is not distinct from excluded.hook_id then c.attention else excluded.attention end,
			updated_at = now()
		returning `+repositoryConfigColumns,
		tx.Workspace, c.RepositoryID, c.Slug, c.FullName, c.Name, c.PolicyVersionID, c.HookID, c.Attention)
	if err != nil {
		return RepositoryConfig{}, fmt.Errorf("store: put repository config: %w", err)
	}
	return stored, nil
}

// RepositoryConfig reads a config by the repository's UUID.
func (tx *Tx) RepositoryConfig(ctx context.Context, repositoryID string) (RepositoryConfig, error) {
	return single[RepositoryConfig](ctx, tx.tx, `select `+repositoryConfigColumns+` from signedapproval_bitbucket_repo_configs
		where workspace_id = $1 and repository_id = $2`, tx.Workspace, repositoryID)
}

// RepositoryConfigBySlug reads a config by the slug that was last seen; the newest where a rename
// left two.
func (tx *Tx) RepositoryConfigBySlug(ctx context.Context, slug string) (RepositoryConfig, error) {
	return single[RepositoryConfig](ctx, tx.tx, `select `+repositoryConfigColumns+` from signedapproval_bitbucket_repo_configs
		where workspace_id = $1 and slug = $2 order by updated_at desc limit 1`, tx.Workspace, slug)
}

// AllRepositoryConfigs lists the workspace's configs by name.
func (tx *Tx) AllRepositoryConfigs(ctx context.Context) ([]RepositoryConfig, error) {
	return list[RepositoryConfig](ctx, tx.tx, `select `+repositoryConfigColumns+` from signedapproval_bitbucket_repo_configs
		where workspace_id = $1 order by name collate "C", repository_id`, tx.Workspace)
}

// RepositoryConfigs lists configs by name. only, where it is not nil, narrows the list to those
// repositories.
func (tx *Tx) RepositoryConfigs(ctx context.Context, only []string, page Page) ([]RepositoryConfig, bool, error) {
	name, id, err := page.afterName()
	if err != nil {
		return nil, false, err
	}
	configs, err := list[RepositoryConfig](ctx, tx.tx, `select `+repositoryConfigColumns+` from signedapproval_bitbucket_repo_configs
		where workspace_id = $1 and ($2::uuid[] is null or repository_id = any($2))
			and ($3::text is null or (name collate "C", repository_id) > ($3, $4::uuid))
		order by name collate "C", repository_id limit $5`, tx.Workspace, only, name, id, page.limit()+1)
	if err != nil {
		return nil, false, fmt.Errorf("store: list repository configs: %w", err)
	}
	configs, more := paged(configs, page)
	return configs, more, nil
}

// SetRepositoryState says whether the gate works in a repository; attention is "" with ACTIVE.
// ErrNotFound where the repository is not gated any more.
func (tx *Tx) SetRepositoryState(ctx context.Context, repositoryID, state, attention string) error {
	return tx.updateRepository(ctx, "set repository state", `state = $3, attention = $4`, repositoryID, state, attention)
}

// SetHook says which webhook endpoint a repository has; "" for none.
func (tx *Tx) SetHook(ctx context.Context, repositoryID, hookID string) error {
	return tx.updateRepository(ctx, "set the repository's webhook", `hook_id = nullif($3, '')::uuid`, repositoryID, hookID)
}

// RenameRepository writes down what a repository is called now.
func (tx *Tx) RenameRepository(ctx context.Context, repositoryID, slug, fullName, name string) error {
	return tx.updateRepository(ctx, "rename repository", `slug = $3, full_name = $4, name = $5`, repositoryID, slug, fullName, name)
}

// SetReconciled notes that the reconciler walked a repository now, and the interval that it keeps.
func (tx *Tx) SetReconciled(ctx context.Context, repositoryID string, interval time.Duration) error {
	return tx.updateRepository(ctx, "mark repository reconciled", `reconciled_at = now(), reconcile_seconds = $3`,
		repositoryID, int(interval.Seconds()))
}

func (tx *Tx) updateRepository(ctx context.Context, what, set string, repositoryID string, args ...any) error {
	done, err := tx.tx.Exec(ctx, `update signedapproval_bitbucket_repo_configs set `+set+`
		where workspace_id = $1 and repository_id = $2`, append([]any{tx.Workspace, repositoryID}, args...)...)
	if err != nil {
		return fmt.Errorf("store: %s: %w", what, err)
	}
	if done.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

// DeleteRepositoryConfig ends the gating of a repository. Its policy versions and all that was
// decided stay.
func (tx *Tx) DeleteRepositoryConfig(ctx context.Context, repositoryID string) (RepositoryConfig, error) {
	return single[RepositoryConfig](ctx, tx.tx, `delete from signedapproval_bitbucket_repo_configs
		where workspace_id = $1 and repository_id = $2 returning `+repositoryConfigColumns, tx.Workspace, repositoryID)
}

// CountRepositoryConfigs counts the gated repositories of the workspace.
func (tx *Tx) CountRepositoryConfigs(ctx context.Context) (int, error) {
	var n int
	err := tx.tx.QueryRow(ctx, `select count(*) from signedapproval_bitbucket_repo_configs where workspace_id = $1`, tx.Workspace).Scan(&n)
	return n, err
}
