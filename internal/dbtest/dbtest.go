// Package dbtest gives each test a PostgreSQL database of its own with the product's schema: on the
// server that DATABASE_URL names, as superuser, or on one that lives as long as the test binary. The
// product takes neither with fsync or synchronous_commit off.
//
// The schema is applied once, to a template; a test's database is a copy of it. Where a test failed
// its database is kept, for as long as its server lives.
package dbtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/embeddedpg"
	"github.com/signedapproval/bitbucket/migrations"
)

// The logins that tests connect as. They belong to the whole server, so their names are fixed.
const (
	ownerRole = "signedapproval_test_owner"
	appRole   = "signedapproval_test_app"
)

// setupLock is the advisory lock under which test binaries that share a server prepare it.
const setupLock = 7_212_052_061

// Database is one test's database, under each of the logins that matter.
type Database struct {
	Name string
	// AppURL is what the server connects with: a member of signedapproval_app that owns nothing.
	AppURL string
	// OwnerURL is what migrations connect with: the owner of the tables, no superuser.
	OwnerURL string
	// SuperURL is the superuser, whom nothing binds.
	SuperURL string
}

// New makes a migrated database that is dropped when the test ends.
func New(t testing.TB) Database {
	t.Helper()
	return create(t, true)
}

// NewEmpty makes a database without any schema, for tests of the migrations.
func NewEmpty(t testing.TB) Database {
	t.Helper()
	return create(t, false)
}

func create(t testing.TB, migrated bool) Database {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	// t.Context is done when cleanups run.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	name := databaseName(t.Name())
	if err := s.create(ctx, name, migrated); err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dbtest: database %s is kept for as long as its server lives; with DATABASE_URL that is yours to say", name)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.exec(ctx, "drop database "+name+" with (force)"); err != nil {
			t.Errorf("dbtest: %v", err)
		}
	})
	return s.database(name)
}

func (s *server) create(ctx context.Context, name string, migrated bool) error {
	statement := "create database " + name + " owner " + ownerRole
	if migrated {
		statement += " template " + s.template
	}
	return s.exec(ctx, statement)
}

func (s *server) database(name string) Database {
	return Database{
		Name:     name,
		AppURL:   s.url(name, appRole),
		OwnerURL: s.url(name, ownerRole),
		SuperURL: s.url(name, ""),
	}
}

// Waiting counts who waits for a lock on a table of the connection's database. Copies of a template
// name their tables by the same numbers, and all databases of a server share one list of locks.
func Waiting(t testing.TB, conn *pgx.Conn, table string) (count int) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `select count(*) from pg_locks where not granted and relation = $1::regclass
		and database = (select oid from pg_database where datname = current_database())`, table).Scan(&count)
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	return count
}

// databaseName makes an identifier that needs no quotes and that no other test has.
func databaseName(test string) string {
	const most = 40 // of the 63 that Postgres allows
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	return fmt.Sprintf("test_%s_%s", name[:min(len(name), most)], strings.ToLower(rand.Text()[:10]))
}

// server is a PostgreSQL that is ready to copy the template.
type server struct {
	super    url.URL
	template string
}

var shared = sync.OnceValues(func() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dsn := os.Getenv("DATABASE_URL")
	if dsn == "" {
		// Nobody stops it: it is tethered to this process, and the next start removes its files.
		embedded, err := embeddedpg.Start(ctx, embeddedpg.Config{Unsafe: true})
		if err != nil {
			return nil, fmt.Errorf("dbtest: %w", err)
		}
		dsn = embedded.DSN
	}
	return prepared(ctx, dsn)
})

// prepared makes the server at dsn ready.
func prepared(ctx context.Context, dsn string) (*server, error) {
	super, err := url.Parse(dsn)
	if err != nil || super.Scheme != "postgres" && super.Scheme != "postgresql" {
		return nil, errors.New("dbtest: DATABASE_URL must be a URL: postgres://superuser:password@host:port/database")
	}
	digest, err := schemaDigest()
	if err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	s := &server{super: *super, template: "signedapproval_template_" + digest}
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	return s, nil
}

// schemaDigest tells one state of the migrations from another.
func schemaDigest() (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(migrations.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := migrations.Files.ReadFile(path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(content), content)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil))[:16], err
}

// prepare makes the logins and the template where they are missing. Several test binaries may do so
// at once on one server.
func (s *server) prepare(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `select pg_advisory_lock($1)`, setupLock); err != nil {
		return err
	}
	for role, rights := range map[string]string{ownerRole: "createrole", appRole: ""} {
		// The password is the same for every test binary that knows the superuser's URL, and for nobody else.
		_, err := conn.Exec(ctx, fmt.Sprintf(`
			do $$ begin
				if not exists (select from pg_roles where rolname = '%[1]s') then
					create role %[1]s login %[2]s password '%[3]s';
				end if;
			end $$`, role, rights, s.password(role)))
		if err != nil {
			return err
		}
	}
	var made bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, s.template).Scan(&made); err != nil || made {
		return err
	}
	// Made under another name, so that a half-made template is never copied.
	raw := s.template + "_new"
	if _, err := conn.Exec(ctx, "drop database if exists "+raw+" with (force)"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "create database "+raw+" owner "+ownerRole); err != nil {
		return err
	}
	if err := migrations.Apply(ctx, s.url(raw, ownerRole)); err != nil {
		return err
	}
	for _, statement := range []string{
		"grant signedapproval_app to " + appRole,
		"alter database " + raw + " rename to " + s.template,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// url is the address of a database under a login; "" is the superuser.
func (s *server) url(database, role string) string {
	u := s.super
	u.Path = "/" + database
	if role != "" {
		u.User = url.UserPassword(role, s.password(role))
	}
	return u.String()
}

func (s *server) password(role string) string {
	sum := sha256.Sum256([]byte(role + " " + s.super.User.String()))
	return hex.EncodeToString(sum[:])
}

func (s *server) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.super.String())
	if err != nil {
		return nil, errors.New("cannot connect as superuser: " + firstLine(err)) // the rest may quote the URL
	}
	return conn, nil
}

func (s *server) exec(ctx context.Context, statement string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, statement)
	return err
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
