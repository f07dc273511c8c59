package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// list reads all rows of a query into structs, columns by name: account_id goes into AccountID.
func list[T any](ctx context.Context, tx *transaction, sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

// single reads the one row of a query into a struct; ErrNotFound where there is none.
func single[T any](ctx context.Context, tx *transaction, sql string, args ...any) (T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		var none T
		return none, err
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
	return row, one(err)
}

// ofRow is a condition on the one row that the columns of a key find. It is hidden from PostgreSQL's planner, which else
// may think an index good that has only rows of that condition, such as those that are due: it plans once, for whatever
// is in there later, and every claim of a job would read all that are due as soon as there are many.
func ofRow(condition string) string { return `coalesce(` + condition + `, false)` }
