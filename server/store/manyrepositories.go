package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// PolicyVersionsByID reads policy versions by their ids, in any order; unknown ids are left out.
func (tx *Tx) PolicyVersionsByID(ctx context.Context, ids []string) ([]PolicyVersion, error) {
	return list[PolicyVersion](ctx, tx.tx, ofEach(byID, `select `+policyVersionColumns+` from signedapproval_policy_versions
		where workspace_id = $1 and id = wanted.id limit 1`), tx.Workspace, ids)
}

// AccountNames reads what accounts were called when somebody last looked: those who sign in here by
// their sign-in, the others by the lists of repositories' people. Unknown accounts are left out.
func (tx *Tx) AccountNames(ctx context.Context, accountIDs []string) (map[string]string, error) {
	rows, err := tx.tx.Query(ctx, `
		select distinct on (account_id) account_id, name from (
			select account_id, name, 1 as rank, signed_in_at as at from signedapproval_people where account_id = any($2)
			union all
			select account_id, name, 2, fetched_at from signedapproval_repository_people
			where workspace_id = $1 and account_id = any($2) and name <> ''
		) known order by account_id, rank, at desc`, tx.Workspace, accountIDs)
	if err != nil {
		return nil, fmt.Errorf("store: read names of accounts: %w", err)
	}
	names := make(map[string]string, len(accountIDs))
	var account, name string
	_, err = pgx.ForEachRow(rows, []any{&account, &name}, func() error {
		names[account] = name
		return nil
	})
	return names, err
}
