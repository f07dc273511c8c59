package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signedapproval/bitbucket/server/store"
)

func TestUnavailable(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		nil:                              false,
		errors.New("a text"):             false,
		store.ErrNotFound:                false,
		store.ErrConflict:                false,
		context.Canceled:                 false,
		context.DeadlineExceeded:         false,
		&pgconn.PgError{}:                false,
		&pgconn.PgError{Code: "23505"}:   false, // a duplicate
		&pgconn.PgError{Code: "57014"}:   false, // cancelled, as a statement that took too long is
		&pgconn.PgError{Code: "40001"}:   false,
		&pgconn.PgError{Code: "53100"}:   true, // disk full
		&pgconn.PgError{Code: "53200"}:   true, // out of memory
		&pgconn.PgError{Code: "53300"}:   true, // too many connections
		&pgconn.PgError{Code: "57P01"}:   true, // shutting down
		&pgconn.PgError{Code: "57P03"}:   true, // starting
		&pgconn.PgError{Code: "58030"}:   true, // input or output
		&pgconn.PgError{Code: "08006"}:   true,
		&pgconn.PgError{Code: "25006"}:   true, // a standby
		&pgconn.PgError{Code: "25P02"}:   false,
		&net.OpError{Err: syscall.EPIPE}: true,
		io.ErrUnexpectedEOF:              true, // PostgreSQL died
	} {
		if got := store.Unavailable(err); got != want {
			t.Errorf("Unavailable(%v) = %t", err, got)
		}
		if err != nil {
			same(t, fmt.Sprint(err, ", wrapped"), store.Unavailable(fmt.Errorf("store: %w", err)), want)
		}
	}
	if _, err := pgconn.Connect(t.Context(), "postgres://a@127.0.0.1:1/b?sslmode=disable"); !store.Unavailable(err) {
		t.Errorf("a database that is away: %v", err)
	}
}
