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
