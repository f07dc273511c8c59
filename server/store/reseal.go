package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Reseal encrypts again, with the vault's primary key, every secret that another key sealed, and
// returns how many there were. It runs beside a server at work: each value is exchanged in a
// transaction of its own and only if it is still the one that was read; a value that was replaced
// meanwhile is read again. A value that does not open stops it, and keeps its bytes.
func (s *Store) Reseal(ctx context.Context) (int, error) {
	rows, err := s.pool.Query(ctx, `select id::text from signedapproval_sealed_workspaces() as id`)
	if err != nil {
		return 0, fmt.Errorf("store: reseal: %w", err)
	}
	workspaces, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, fmt.Errorf("store: reseal: %w", err)
	}
	count := 0
	for _, c := range sealedColumns {
		if !c.tenant {
			n, err := s.resealColumn(ctx, c, s.Outside)
			if count += n; err != nil {
				return count, err
			}
			continue
		}
		for _, workspace := range workspaces {
			n, err := s.resealColumn(ctx, c, func(ctx context.Context, fn func(*Shared) error) error {
				return s.InWorkspace(ctx, workspace, func(tx *Tx) error { return fn(tx.Shared) })
			})
			if count += n; err != nil {
				return count, err
			}
		}
	}
	return count, nil
}

// resealColumn walks one column, row by row, in transactions that within opens.
func (s *Store) resealColumn(ctx context.Context, c sealedColumn, within func(context.Context, func(*Shared) error) error) (int, error) {
	prefix := s.Vault.keys.Load().prefix
	count := 0
	for {
		var found bool
		err := within(ctx, func(sh *Shared) error {
			var row string
			var sealed []byte
			// The names are constants of this package. The lock waits for a writer at work, and then
			// looks at what that one left.
			err := sh.tx.QueryRow(ctx, fmt.Sprintf(`
				select %[2]s::text, %[3]s from %[1]s
				where %[3]s is not null and substring(%[3]s from 1 for %[4]d) <> $1
				order by 1 limit 1 for update`, c.table, c.row, c.column, prefixSize), prefix[:]).Scan(&row, &sealed)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			plain, err := s.Vault.Open(c.table, row, c.column, sealed)
			if err != nil {
				return err
			}
			resealed, err := s.Vault.Seal(c.table, row, c.column, plain)
			if err != nil {
				return err
			}
			_, err = sh.tx.Exec(ctx, fmt.Sprintf(`update %[1]s set %[3]s = $1 where %[2]s = $2::uuid and %[3]s = $3`,
				c.table, c.row, c.column), resealed, row, sealed)
			found = true
			return err
		})
		if err != nil {
			return count, fmt.Errorf("store: reseal %s.%s: %w", c.table, c.column, err)
		}
		if !found {
			return count, nil
		}
		count++
	}
}
