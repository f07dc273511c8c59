package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// transaction is a transaction that saves round trips. What it only has to write waits, see later, and travels with what
// is read next, or with the commit; its beginning is the first that waits. The order of the statements is that of the
// calls all the same, and PostgreSQL carries out nothing behind one that fails.
//
// So whatever the last statements lock is held no longer than PostgreSQL itself needs for the commit, and not for as
// long as this process, which may be busy, takes to ask for it.
type transaction struct {
	conn    *pgxpool.Conn
	waiting []*pgx.QueuedQuery
	// now is when it began, by the clock of the database; zero before that is known.
	now time.Time
	// begun says that something was sent.
	begun bool
	// failed is why something that waited was not carried out: its beginning, it may be. Nothing is, after that.
	failed error
	// early says that its locks are let go of before what it wrote is durable, and apart that what makes it durable is not sent
	// with its commit. See commitEarly.
	early, apart bool
	// rereads begins it anew: it is one of [Store.Reading], of which each round trip is a transaction; nil for others.
	rereads func()
}

// enterWorkspace has a transaction see the rows of one workspace, and answers its time.
const enterWorkspace = `select now(), set_config('app.workspace', $1, true)`

// rollbackTimeout bounds how long the end of a transaction that failed may take.
const rollbackTimeout = 5 * time.Second

// beginTransaction takes a connection. Nothing is sent yet.
func (s *Store) beginTransaction(ctx context.Context, workspace string) (*transaction, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	tx := &transaction{conn: conn}
	tx.begin("begin", workspace)
	return tx, nil
}

// beginReading takes a connection for reads, those of each round trip of one moment.
func (s *Store) beginReading(ctx context.Context, workspace string) (*transaction, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	tx := &transaction{conn: conn}
	tx.rereads = func() { tx.begin("begin isolation level repeatable read read only", workspace) }
	tx.rereads()
	return tx, nil
}

// begin has a transaction begun, in a workspace or in none.
func (t *transaction) begin(how, workspace string) {
	t.later(how)
	read := `select now()`
	var arguments []any
	if workspace != "" {
		read, arguments = enterWorkspace, []any{workspace}
	}
	t.later(read, arguments...).QueryRow(func(row pgx.Row) error {
		into := []any{&t.now, nil}[:len(arguments)+1]
		if !t.now.IsZero() {
			into[0] = nil // its first moment is its time
		}
		return row.Scan(into...)
	})
}

// later has a statement carried out before the next one, or with the commit. What is done with its answer must not
// decide whether the transaction commits: it may be known only afterwards. A statement that must not pass fails in SQL.
func (t *transaction) later(sql string, arguments ...any) *pgx.QueuedQuery {
	q := &pgx.QueuedQuery{SQL: sql, Arguments: arguments}
	t.waiting = append(t.waiting, q)
	return q
}

// send sends what waits and more behind it. The answers to what waited are taken in.
func (t *transaction) send(ctx context.Context, more ...*pgx.QueuedQuery) (pgx.BatchResults, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	waited := t.waiting
	t.waiting, t.begun = nil, true
	if t.rereads != nil {
		more = append(more, &pgx.QueuedQuery{SQL: "commit"})
		t.rereads()
	}
	results := t.conn.SendBatch(ctx, &pgx.Batch{QueuedQueries: append(waited, more...)})
	for _, q := range waited {
		if err := take(results, q); err != nil {
			_ = results.Close() // says the same
			t.failed = fmt.Errorf("store: what was to be carried out before: %w", err)
			return nil, err
		}
	}
	return results, nil
}

// take takes in the answer to one statement.
func take(results pgx.BatchResults, q *pgx.QueuedQuery) error {
	if q.Fn != nil {
		return q.Fn(results)
	}
	_, err := results.Exec()
	return err
}

// Exec carries out a statement.
func (t *transaction) Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error) {
	if len(t.waiting) == 0 && t.failed == nil {
		return t.conn.Exec(ctx, sql, arguments...)
	}
	results, err := t.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: arguments})
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := results.Exec()
	if closed := results.Close(); err == nil {
		err = closed
	}
	return tag, err
}

// Query carries out a statement and gives its rows, which must be closed before the next statement.
func (t *transaction) Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error) {
	if len(t.waiting) == 0 && t.failed == nil {
		return t.conn.Query(ctx, sql, arguments...)
	}
	results, err := t.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: arguments})
	if err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		_ = results.Close() // says the same
		return nil, err
	}
	return &lastRows{Rows: rows, results: results}, nil
}

// QueryRow carries out a statement that answers one row.
func (t *transaction) QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row {
	if len(t.waiting) == 0 && t.failed == nil {
		return t.conn.QueryRow(ctx, sql, arguments...)
	}
	results, err := t.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: arguments})
	return lastRow{results, err}
}

// batch carries out statements together, and has their answers taken in.
func (t *transaction) batch(ctx context.Context, batch *pgx.Batch) error {
	results, err := t.send(ctx, batch.QueuedQueries...)
	if err != nil {
		return err
	}
	for _, q := range batch.QueuedQueries {
		if err := take(results, q); err != nil {
			_ = results.Close() // says the same
			return err
		}
	}
	return results.Close()
}

// commit carries out what waits, and commits. Where nothing was sent there is nothing to commit. What was committed early is
// durable by then, unless whoever called has yet to see to that.
func (t *transaction) commit(ctx context.Context) error {
	if t.rereads != nil {
		if len(t.waiting) != beginning {
			return errReadOnly
		}
		return t.failed
	}
	if !t.begun && len(t.waiting) == beginning {
		t.waiting = nil
		return nil
	}
	if t.failed != nil {
		return t.failed
	}
	if t.begun && t.conn.Conn().PgConn().TxStatus() != 'T' {
		return pgx.ErrTxCommitRollback // PostgreSQL would answer "rollback", and no error
	}
	if len(t.waiting) == 0 {
		_, err := t.conn.Exec(ctx, "commit")
		return err
	}
	end := &pgx.Batch{QueuedQueries: []*pgx.QueuedQuery{{SQL: "commit"}}}
	if t.early && !t.apart {
		end.Queue(flush)
	}
	return t.batch(ctx, end)
}

// commitEarly has the commit let go of the locks of the transaction as soon as its record is in the write-ahead log in
// PostgreSQL's memory, and not after the disk has it: who waits for them waits for no disk. Nobody is answered before it
// is durable all the same. Behind the commit, in the same round trip, a transaction of its own writes one record
// and commits as PostgreSQL is set up to, on disk and on the standbys that it must wait for; the write-ahead log is
// written in order, so what is before that record is there too. Those who come together share one write. Where that
// transaction fails, or its answer is lost, the caller gets an error, as when the answer to a commit is lost: what was
// written may be there, and may be gone. A job that was claimed with it begins before that transaction, which is sent then by
// itself; and what a job can do again waits for none: see [Shared.FinishRepeatable].
//
// Meanwhile others see what was written, and a crash of PostgreSQL may yet take it back, with everything that was
// committed later, and with nothing that was committed before. So whatever leaves this house, to Bitbucket,
// to the sink, to a witness, by mail, as an answer that somebody may rely on, must rest on more than having seen it:
//
//   - on a commit that was not early, of anybody, that came later than the commit of what was seen. Who sees the rows of
//     such a commit knows it durable, for it shows them only then. A checkpoint is one: all leaves that it covers
//     were seen before it was committed.
//   - on one's own transaction, if it wrote, or locked a row for update: its commit is durable when it is answered,
//     and comes after all that it read. Claiming a job that was rung, moving a merge to CALLING, making a challenge,
//     growing the tree of the log and answering a merge check are such transactions. A claim by a [Seat] is not.
//   - or on a flush behind what was read, in the same transaction, as of [Store.Owed] and [Tx.Green]. It is of the session that has
//     read: a crash ends that, while another session makes durable only what the crash has left.
//
// What a screen shows needs nothing of the kind: it is what is true at the moment, and no more.
func (t *transaction) commitEarly() {
	t.later(`set local synchronous_commit = off`)
	t.early = true
}

// flush has the transaction that it is of, which may be its own and may be one that only reads, wait until everything is durable that
// was committed before it. Anybody may do it. It is a record that says nothing: a commit without one is not waited for. It is for
// nobody but who decodes the log of this database, who can tell it by its name.
const flush = `select pg_logical_emit_message(true, 'signedapproval', ''::text)`

// flushed is a transaction of its own that flushes. As a batch it is planned once, as [pgxpool.Conn.Exec] of a statement without arguments
// is not.
func flushed() *pgx.Batch {
	return &pgx.Batch{QueuedQueries: []*pgx.QueuedQuery{{SQL: flush}}}
}

// errReadOnly says that what only reads was to write something at its end. What it would write at once PostgreSQL refuses.
var errReadOnly = errors.New("store: a transaction that only reads was to write")

// beginning is how many statements begin a transaction.
const beginning = 2

// end gives the connection back, and takes back what was not committed.
func (t *transaction) end(ctx context.Context) {
	defer t.conn.Release() // which closes one that is in the middle of something
	if !t.begun || t.conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, _ = t.conn.Exec(ctx, "rollback") // or the connection is closed, and PostgreSQL does it
}

// lastRows are the rows of the last statement of several that were sent together.
type lastRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

func (r *lastRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *lastRows) Close() {
	r.Rows.Close()
	if err := r.results.Close(); r.err == nil {
		r.err = err
	}
}

func (r *lastRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// lastRow is the row of the last statement of several that were sent together.
type lastRow struct {
	results pgx.BatchResults
	err     error
}

func (r lastRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	err := r.results.QueryRow().Scan(into...)
	if closed := r.results.Close(); err == nil {
		err = closed
	}
	return err
}
