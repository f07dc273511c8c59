package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Enforcement is what the doctor last found out about the branches of one pattern.
type Enforcement struct {
	RepositoryID string
	Pattern      string
	State        string          // ENFORCED, WARNS_ONLY, OPEN, UNKNOWN
	Reasons      json.RawMessage // as package workspace writes them
	HeldAt       *time.Time      // when a "no" of the on-merge check was last seen to hold; nil: never
	CheckedAt    time.Time
	ChangedAt    time.Time // of the state
}

const enforcementColumns = `repository_id, pattern, state, reasons, held_at, checked_at, changed_at`

// Enforcements lists what is known of the patterns of the given repositories, by repository and pattern.
func (tx *Tx) Enforcements(ctx context.Context, repositoryIDs ...string) ([]Enforcement, error) {
	rows, err := list[Enforcement](ctx, tx.tx, `select `+enforcementColumns+` from signedapproval_enforcements
		where workspace_id = $1 and repository_id = any($2) order by repository_id, pattern collate "C"`, tx.Workspace, repositoryIDs)
	if err != nil {
		return nil, fmt.Errorf("store: list enforcements: %w", err)
	}
	return rows, nil
}

// PutEnforcement stores what was found out now. CheckedAt and ChangedAt are not read.
func (tx *Tx) PutEnforcement(ctx context.Context, e Enforcement) error {
	_, err := tx.tx.Exec(ctx, `
		insert into signedapproval_enforcements as old (workspace_id, repository_id, pattern, state, reasons, held_at)
		values ($1, $2, $3, $4, $5, $6)
		on conflict (workspace_id, repository_id, pattern) do update set state = excluded.state, reasons = excluded.reasons,
			held_at = excluded.held_at, checked_at = now(),
			changed_at = case when old.state = excluded.state then old.changed_at else now() end`,
		tx.Workspace, e.RepositoryID, e.Pattern, e.State, e.Reasons, e.HeldAt)
	if err != nil {
		return fmt.Errorf("store: put enforcement: %w", err)
	}
	return nil
}

// KeepEnforcements forgets the patterns of a repository that are not among the given ones, and names them.
func (tx *Tx) KeepEnforcements(ctx context.Context, repositoryID string, patterns []string) ([]string, error) {
	gone, err := list[struct{ Pattern string }](ctx, tx.tx, `delete from signedapproval_enforcements
		where workspace_id = $1 and repository_id = $2 and pattern <> all($3::text[]) returning pattern`,
		tx.Workspace, repositoryID, append([]string{}, patterns...))
	if err != nil {
		return nil, fmt.Errorf("store: forget enforcements: %w", err)
	}
	names := make([]string, len(gone))
	for i, one := range gone {
		names[i] = one.Pattern
	}
	return names, nil
}

// LockRepositoryConfig reads a config and keeps every other who locks or saves it waiting until this
// transaction ends.
func (tx *Tx) LockRepositoryConfig(ctx context.Context, repositoryID string) (RepositoryConfig, error) {
	return single[RepositoryConfig](ctx, tx.tx, `select `+repositoryConfigColumns+` from signedapproval_bitbucket_repo_configs
		where workspace_id = $1 and repository_id = $2 for update`, tx.Workspace, repositoryID)
}
