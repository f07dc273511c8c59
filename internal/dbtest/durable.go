package dbtest

import (
	"context"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/embeddedpg"
	"github.com/signedapproval/bitbucket/internal/tether"
)

// Durable is a migrated database on a server of its own, which can be crashed, and stalled. What it has committed outlives
// a crash of PostgreSQL, though not of the machine. It belongs to one goroutine, and ends with its test.
type Durable struct {
	Database

	t      testing.TB
	dir    string
	server *embeddedpg.Server // nil while there is none
	super  *url.URL
}

// NewDurable starts the server. Nothing else runs on it.
func NewDurable(t testing.TB) *Durable {
	t.Helper()
	dir, err := tether.Dir("sakept", 0)
	if err != nil {
		t.Fatal(err)
	}
	return NewDurableIn(t, dir)
}

// NewDurableIn is [NewDurable] with everything that PostgreSQL keeps in a folder, which is made if it is missing. The account
// that PostgreSQL runs as must be able to enter the folder above it.
func NewDurableIn(t testing.TB, dir string) *Durable {
	t.Helper()
	d := &Durable{t: t, dir: dir, Database: Database{Name: databaseName(t.Name())}}
	t.Cleanup(func() {
		if d.server != nil {
			if err := d.server.Stop(); err != nil {
				t.Error(err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d.start(ctx)
	s, err := prepared(ctx, d.server.DSN)
	if err == nil {
		err = s.create(ctx, d.Name, true)
	}
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	return d
}

// start starts the server on what is there, and sets the addresses.
func (d *Durable) start(ctx context.Context) {
	d.t.Helper()
	started, err := embeddedpg.Start(ctx, embeddedpg.Config{Dir: d.dir, Unsafe: true})
	if err != nil {
		d.t.Fatalf("dbtest: %v", err)
	}
	d.server = started
	if d.super, err = url.Parse(started.DSN); err != nil {
		d.t.Fatalf("dbtest: %v", err)
	}
	d.Database = (&server{super: *d.super}).database(d.Name)
}

// Crash ends the server at once, with what it had in memory, if it has not ended by itself. Nothing answers until
// [Durable.Recover].
func (d *Durable) Crash() {
	d.t.Helper()
	server := d.server
	d.server = nil
	if err := server.Crash(); err != nil {
		d.t.Fatalf("dbtest: %v", err)
	}
}

// Recover starts the server again, under other addresses.
func (d *Durable) Recover() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	d.start(ctx)
}

// probe is the name of the session by which a stall is told.
const probe = "signedapproval stall"

// Stall has every commit wait that must be durable, as for a standby that does not answer: what it wrote is seen by
// nobody, and its caller is not answered. A commit that waits for no disk does not wait. The stall lasts until the
// function that it answers is called, which must be done.
func (d *Durable) Stall() (resume func()) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), time.Minute)
	defer cancel()
	d.configure(ctx, "alter system set synchronous_standby_names = 'nobody'")
	// PostgreSQL takes up a setting in its own time. The stall is there once a commit waits.
	over, probing := make(chan struct{}), make(chan error, 1)
	go func() { probing <- d.commits(over) }()
	for stalled := false; !stalled; {
		stalled = d.waits(ctx, `application_name = '`+probe+`' and wait_event = 'SyncRep'`) == 1
	}
	return func() {
		d.t.Helper()
		close(over)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), time.Minute)
		defer cancel()
		d.configure(ctx, "alter system reset synchronous_standby_names")
		if err := <-probing; err != nil {
			d.t.Errorf("dbtest: %v", err)
		}
	}
}

// Stalled is how many transactions of the product wait at the moment until they are durable.
func (d *Durable) Stalled() int {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	return d.waits(ctx, `application_name like 'signedapproval/%' and wait_event = 'SyncRep'`)
}

// configure changes a setting of the server.
func (d *Durable) configure(ctx context.Context, statement string) {
	d.t.Helper()
	s := server{super: *d.super}
	for _, one := range []string{statement, "select pg_reload_conf()"} {
		if err := s.exec(ctx, one); err != nil {
			d.t.Fatalf("dbtest: %v", err)
		}
	}
}

// waits counts sessions.
func (d *Durable) waits(ctx context.Context, which string) (count int) {
	d.t.Helper()
	conn, err := pgx.Connect(ctx, d.SuperURL)
	if err == nil {
		err = conn.QueryRow(ctx, "select count(*) from pg_stat_activity where "+which).Scan(&count)
		_ = conn.Close(ctx)
	}
	if err != nil {
		d.t.Fatalf("dbtest: %v", err)
	}
	return count
}

// commits commits again and again until it is over.
func (d *Durable) commits(over <-chan struct{}) error {
	ctx := context.WithoutCancel(d.t.Context())
	config, err := pgx.ParseConfig(d.SuperURL)
	if err != nil {
		return err
	}
	config.RuntimeParams["application_name"] = probe
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		if _, err := conn.Exec(ctx, `select pg_logical_emit_message(true, 'stall', ''::text)`); err != nil {
			return err
		}
		select {
		case <-over:
			return nil
		default:
		}
	}
}
