// Package store keeps the truth: it is the only package that speaks SQL.
//
// Queries on tenant tables are methods of [Tx], which exists only inside [Store.InWorkspace], so a
// query that forgot its workspace does not compile. Queries on tenantless tables are methods of
// [Shared], which Tx embeds. Row-level security stands behind both.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signedapproval/bitbucket/migrations"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// ErrNotFound says that no such row exists, or that it belongs to another workspace: callers
// cannot tell the two apart, and must not.
var ErrNotFound = errors.New("store: not found")

// ErrConflict says that another transaction was there first: read again, and decide again.
var ErrConflict = errors.New("store: another transaction was faster")

// statementTimeout bounds every transaction; a slow database is an error, never a hung caller.
const statementTimeout = 15 * time.Second

// Store is a pool of connections of the application role. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	// Vault seals secrets before they reach a table.
	Vault *Vault
	// Ring is called after the commit of a transaction that enqueued jobs. It is best effort: the
	// sweep finds what it loses. app sets it before the first transaction; nil rings nothing.
	Ring func(ctx context.Context, rings []Ring)
	// Seat is asked for room for a job that a transaction asks for and that is due at once; see [Seat]. It never waits.
	// Set by app; nil has no room.
	Seat func(kind, workspace string) (Seat, bool)
	// NoMail says that notices are not mailed, so that nobody is asked to. Set by app.
	NoMail bool
	// DeliveryDays is for how many days deliveries are kept; 0 means [DeliveryDays], and more than [MostDeliveryDays]
	// must not be asked for. Set by app.
	DeliveryDays int
	// Changed is called after the commit of a transaction that changed what a screen may show, with
	// the topics given to [Shared.Touch]. Best effort, set by app; nil tells nobody.
	Changed func(ctx context.Context, topics []string)
	// Grown is called after the commit of a transaction that appended to the log. Best effort, set by
	// app; nil tells nobody.
	Grown func()

	rosters *lru.Cache[string, *evidence.Roster] // replayed, by the digest of their newest version
}

// Open connects to url as the application's login and refuses a login that row-level security
// would not bind, and a database that is not durable. tune, where given, changes the pool's settings, for tracing.
func Open(ctx context.Context, url string, vault *Vault, tune ...func(*pgxpool.Config)) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("store: the database URL cannot be parsed") // pgx's error may quote the password
	}
	if config.MaxConns < 16 {
		config.MaxConns = 16
	}
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	newest, err := migrations.Newest()
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["application_name"] = migrations.Application(newest) // a contract waits for it to go
	// Each statement is planned once, for whatever values it will get. With the values at hand PostgreSQL takes a workspace
	// that came, or grew, after the last ANALYZE for one of which there is nothing, and reads all of it again and again
	// where an index leads to one row; what it does not know the value of it takes for one workspace among those that
	// there are. So no statement may need its values for a good plan: see TestHistoryCostsNothing.
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	// What is open is found by an index that holds nothing else. How much that is PostgreSQL cannot know: it takes a third of
	// all statuses ever for owed, and would rather read the table as a whole, or by a bitmap, which meets whatever was open
	// since the table was last cleaned up, each time anew. An index scan takes that out of its way: see
	// TestWhatIsOverCostsNothing. Nor is a table of one page read whole, which a new installation has for its first minutes:
	// the plan would be kept when there are thousands. See TestWhatIsPlannedEarlyHolds.
	config.ConnConfig.RuntimeParams["enable_bitmapscan"] = "off"
	config.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
	config.ConnConfig.RuntimeParams["jit"] = "off" // nothing here runs for so long that compiling it would pay
	for _, change := range tune {
		change(config)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("store: open pool: %w", err)
	}
	rosters, err := lru.New[string, *evidence.Roster](rostersKept)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{pool: pool, Vault: vault, rosters: rosters}
	for _, check := range []func(context.Context) error{s.refuseMightyRole, s.CheckDurable} {
		if err := check(ctx); err != nil {
			pool.Close()
			return nil, err
		}
	}
	return s, nil
}

// refuseMightyRole makes a wrong connection string an error at start instead of a silent hole: a
// superuser, a BYPASSRLS role and whoever may act as the tables' owner could see every tenant.
func (s *Store) refuseMightyRole(ctx context.Context) error {
	var mighty bool
	err := s.pool.QueryRow(ctx, `
		select r.rolsuper or r.rolbypassrls or exists (
			select from pg_class c where c.relname like 'signedapproval\_%' and pg_has_role(r.oid, c.relowner, 'member'))
		from pg_roles r where r.rolname = current_user`).Scan(&mighty)
	if err != nil {
		return fmt.Errorf("store: read the login's rights: %w", err)
	}
	if mighty {
		return errors.New("store: the server's database login must not be a superuser, bypass row-level security or own the tables; connect as a member of signedapproval_app")
	}
	return nil
}

// Close ends all connections.
func (s *Store) Close() { s.pool.Close() }

// Ping answers whether the database is reachable.
func (s *Store) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// Shared is a transaction as far as tenantless tables are concerned. It belongs to one goroutine.
type Shared struct {
	tx      *transaction
	vault   *Vault
	noMail  bool
	rosters *lru.Cache[string, *evidence.Roster]
	// jobs, finished and leaves are written last, by settle, in this order: a transaction that holds a
	// row of the ledger waits for nothing but the log's head, and one that holds the head for nothing
	// but its commit. So no two of them can wait for each other, and the head, one row for everybody,
	// is held for a moment only.
	jobs     []ledgerEntry
	finished []finish
	leaves   []leaf
	rings    []Ring
	seat     func(kind, workspace string) (Seat, bool)
	seats    seats
	// unanswered says that nobody is answered by this transaction: see [Shared.FinishRepeatable].
	unanswered bool
	touch      []string
	// inserted are inserts of rows, by id.
	inserted map[string]*pgx.QueuedQuery
}

// Tx is a transaction inside one workspace.
type Tx struct {
	*Shared
	// Workspace is the workspace's UUID, bare and in lower case.
	Workspace string
}

// insert inserts a row, which has an id, before the next statement. What is written to it before that is inserted: see inserts.
func (tx *Tx) insert(id, statement string, arguments []any) {
	if tx.inserted == nil {
		tx.inserted = map[string]*pgx.QueuedQuery{}
	}
	tx.inserted[id] = tx.tx.later(statement, arguments...)
}

// inserts has a row inserted with other arguments, where its insert was not sent yet, so that one statement writes it. It
// answers false for any other row.
func (tx *Tx) inserts(id string, arguments []any) bool {
	q, ok := tx.inserted[id]
	if !ok || !slices.Contains(tx.tx.waiting, q) {
		return false
	}
	q.Arguments = arguments
	return true
}

// InWorkspace runs fn in a transaction that sees the rows of one workspace. It commits when fn
// returns nil. fn must not call the network.
func (s *Store) InWorkspace(ctx context.Context, workspace string, fn func(*Tx) error) error {
	if !ValidID(workspace) {
		return fmt.Errorf("store: %q is no workspace: %w", workspace, ErrNotFound)
	}
	return s.begin(ctx, workspace, func(sh *Shared) error { return fn(&Tx{Shared: sh, Workspace: workspace}) })
}

// Reading runs fn, which writes nothing, on the rows of one workspace. What it reads in one round trip is of one moment;
// nothing is begun before and nothing committed after, so that one read is one round trip. Of what is read by two
// of them the second is of a later moment, as it is in [Store.InWorkspace]. fn must not call the network.
func (s *Store) Reading(ctx context.Context, workspace string, fn func(*Tx) error) error {
	if !ValidID(workspace) {
		return fmt.Errorf("store: %q is no workspace: %w", workspace, ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	tx, err := s.beginReading(ctx, workspace)
	if err != nil {
		return err
	}
	defer tx.end(ctx)
	sh := &Shared{tx: tx, vault: s.Vault, noMail: s.NoMail, rosters: s.rosters}
	if err = fn(&Tx{Shared: sh, Workspace: workspace}); err == nil {
		sh.settle()
		err = tx.commit(ctx)
	}
	s.renew(err)
	return err
}

// Outside runs fn in a transaction that sees tenantless tables only.
func (s *Store) Outside(ctx context.Context, fn func(*Shared) error) error {
	return s.begin(ctx, "", fn)
}

func (s *Store) begin(ctx context.Context, workspace string, fn func(*Shared) error) error {
	bounded, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	sh := &Shared{vault: s.Vault, noMail: s.NoMail, rosters: s.rosters, seat: s.Seat}
	defer func() { sh.seats.fill(false) }() // unless they were
	if err := s.carryOut(bounded, workspace, sh, fn); err != nil {
		s.renew(err)
		return err
	}
	if len(sh.rings) > 0 && s.Ring != nil {
		s.Ring(context.WithoutCancel(ctx), sh.rings)
	}
	if len(sh.touch) > 0 && s.Changed != nil {
		s.Changed(context.WithoutCancel(ctx), sh.touch)
	}
	if len(sh.leaves) > 0 && s.Grown != nil {
		s.Grown()
	}
	return nil
}

func (s *Store) carryOut(ctx context.Context, workspace string, sh *Shared, fn func(*Shared) error) (err error) {
	if sh.tx, err = s.beginTransaction(ctx, workspace); err != nil {
		return err
	}
	defer sh.tx.end(ctx)
	if err := fn(sh); err != nil {
		return err
	}
	sh.settle()
	if err := whySettled(sh.tx.commit(ctx)); err != nil {
		return err
	}
	sh.seats.fill(true)
	if !sh.tx.apart || sh.unanswered {
		return nil
	}
	if err := sh.tx.conn.SendBatch(ctx, flushed()).Close(); err != nil {
		return fmt.Errorf("store: make durable: %w", err)
	}
	return nil
}

// Touch names a topic whose screens should look again once this transaction is committed.
func (sh *Shared) Touch(topic string) {
	if !slices.Contains(sh.touch, topic) {
		sh.touch = append(sh.touch, topic)
	}
}

// Now is the transaction's time by the database's clock: the only clock that decides anything.
func (sh *Shared) Now(ctx context.Context) (time.Time, error) {
	if sh.tx.now.IsZero() { // it has not begun
		if err := sh.tx.batch(ctx, &pgx.Batch{}); err != nil {
			return time.Time{}, err
		}
	}
	return sh.tx.now.UTC(), nil
}

// one turns "no rows" into ErrNotFound.
func one(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// violates tells whether err is the violation of a unique constraint.
func violates(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505"
}
