package store

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
)

// TestATransactionThatFailedCommitsNothing, though whoever carries it out overlooks that a statement failed.
func TestATransactionThatFailedCommitsNothing(t *testing.T) {
	t.Parallel()
	vault, err := OpenVault(NewKeyset())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dbtest.New(t).AppURL, vault)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	const insert = `insert into signedapproval_jobs (kind, key, payload, state, run_at) values ('k', $1, '{}', 'READY', now())`
	fails := errors.New("fn fails")
	for name, fn := range map[string]func(context.Context, *Shared) error{
		"in PostgreSQL, behind a write": func(ctx context.Context, sh *Shared) error {
			if _, err := sh.tx.Exec(ctx, insert, "1"); err != nil {
				return err
			}
			_, _ = sh.tx.Exec(ctx, `select 1 / $1::integer`, 0)
			return nil
		},
		"before it began": func(ctx context.Context, sh *Shared) error {
			_, _ = sh.tx.Exec(ctx, `select no_such_column from signedapproval_jobs where id = $1`, 1)
			_, _ = sh.tx.Exec(ctx, insert, "2")
			return fails
		},
		"before it began, with more to come": func(ctx context.Context, sh *Shared) error {
			_, _ = sh.tx.Exec(ctx, `select no_such_column from signedapproval_jobs where id = $1`, 1)
			rows, err := sh.tx.Query(ctx, insert+` returning id`, "3")
			if err == nil {
				rows.Close()
			}
			var id int64
			_ = sh.tx.QueryRow(ctx, insert+` returning id`, "4").Scan(&id)
			batch := &pgx.Batch{}
			batch.Queue(insert, "5")
			_ = sh.tx.batch(ctx, batch)
			sh.tx.later(insert, "6")
			return nil
		},
		"with what waited": func(ctx context.Context, sh *Shared) error {
			if _, err := sh.Now(ctx); err != nil {
				return err
			}
			sh.tx.later(insert, "7")
			_, _ = sh.tx.Exec(ctx, `select no_such_column from signedapproval_jobs where id = $1`, 1)
			return sh.Enqueue(ctx, JobSpec{Kind: "k", Key: "8"})
		},
	} {
		if err := s.Outside(t.Context(), func(sh *Shared) error { return fn(t.Context(), sh) }); err == nil {
			t.Errorf("%s: it is said to be committed", name)
		}
	}
	var n int
	if err := s.pool.QueryRow(t.Context(), `select count(*) from signedapproval_jobs`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d writes of transactions that failed are there, %v", n, err)
	}
}
