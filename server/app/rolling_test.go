package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/signedapproval/bitbucket/migrations"
	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// expand is the migration of the next release: as the rules want it, what is there is added to, and nobody is locked out. The
// number of a delivery's attempt gets a column of another name; servers of before go on writing the one that they know.
const expand = `-- +goose NO TRANSACTION
-- +goose Up
alter table signedapproval_pull_requests add column next_note text not null default '';
create table signedapproval_next (id bigint primary key);
grant select, insert on signedapproval_next to signedapproval_app;
create index concurrently signedapproval_next_note on signedapproval_pull_requests (workspace_id, next_note);
alter table signedapproval_deliveries add column try_number integer;
alter table signedapproval_deliveries alter column attempt drop not null;
-- +goose StatementBegin
create function signedapproval_both_numbers() returns trigger language plpgsql as $$ begin
	new.try_number := coalesce(new.try_number, new.attempt);
	new.attempt := coalesce(new.attempt, new.try_number);
	return new;
end $$;
-- +goose StatementEnd
create trigger signedapproval_both_numbers before insert on signedapproval_deliveries for each row execute function signedapproval_both_numbers();
update signedapproval_deliveries set try_number = attempt where try_number is null;
`

// contract is the migration of the release after it, which takes away what no server of the next release needs.
const contract = `-- contract: expanded in %[1]d
-- +goose Up
drop trigger signedapproval_both_numbers on signedapproval_deliveries;
drop function signedapproval_both_numbers();
alter table signedapproval_deliveries drop column attempt;
alter table signedapproval_deliveries alter column try_number set not null;
update signedapproval_schema_floor set version = %[1]d;
`

// nextProgram is the product's next release: this one with one migration more, which needs no column any more that is
// replaced there. lastProgram is the one after it, which takes that column away.
var (
	nextProgram = sync.OnceValues(func() (string, error) { return releaseWith("next", expand) })
	lastProgram = sync.OnceValues(func() (string, error) { return releaseWith("last", expand, contract) })
)

// releaseWith builds the product with further migrations, which may name the first of them.
func releaseWith(name string, further ...string) (string, error) {
	current, err := program()
	if err != nil {
		return "", err
	}
	newest, err := migrations.Newest()
	if err != nil {
		return "", err
	}
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(current), name+"-")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	put := func(content string, path ...string) error {
		copied := filepath.Join(dir, strconv.Itoa(len(replace)))
		replace[filepath.Join(append([]string{top}, path...)...)] = copied
		return os.WriteFile(copied, []byte(content), 0o600)
	}
	for i, text := range further {
		if strings.Contains(text, "%[1]d") {
			text = fmt.Sprintf(text, newest+1)
		}
		if err := put(text, "migrations", fmt.Sprintf("%04d_%s.sql", newest+int64(i)+1, name)); err != nil {
			return "", err
		}
	}
	const old, renamed = "event_key, attempt, outcome, body)\n\t\tselect", "event_key, try_number, outcome, body)\n\t\tselect"
	source, err := os.ReadFile(filepath.Join(top, "server", "store", "delivery.go"))
	if err == nil && strings.Count(string(source), old) != 1 {
		err = errors.New("nothing in delivery.go says which columns a delivery is written to")
	}
	if err == nil {
		err = put(strings.Replace(string(source), old, renamed, 1), "server", "store", "delivery.go")
	}
	document, encoding := json.Marshal(map[string]any{"Replace": replace})
	overlay, path := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "server")
	if err := errors.Join(err, encoding, os.WriteFile(overlay, document, 0o600)); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-overlay", overlay, "-o", path, "github.com/signedapproval/bitbucket/server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the %s release: %w\n%s", name, err, out)
	}
	return path, nil
}

// TestReleasesTakeOver: while people work, the next release migrates and takes the place of the servers one by one, and the one
// after it takes away what the first ones needed.
func TestReleasesTakeOver(t *testing.T) {
	t.Parallel()
	for _, build := range []func() (string, error){nextProgram, lastProgram} {
		if _, err := build(); err != nil {
			t.Fatal(err)
		}
	}
	c := newCluster(t, options{servers: 2, patience: 4 * patience})
	replaced := make(chan error, 1)
	go func() { replaced <- c.replace() }()
	// Pull requests are opened, and people approve them, all the time.
	var list []opened
	for working := true; working; {
		select {
		case err := <-replaced:
			c.must(err)
			working = false
		default:
			pr := c.open(fmt.Sprintf("rolling%02d", len(list)))
			list = append(list, pr)
			c.eventually("it waits for approval", func() bool { return c.status(pr.head) == bitbucket.StatusInProgress })
			c.approveBoth([]opened{pr})
		}
	}
	c.untilMerged(list)
	c.atRest()
	c.mergedOnce(list)
}

// replace does what an operator does: two servers are replaced by the next release, and these by the last.
func (c *cluster) replace() error {
	before := c.servers[:2:2]
	// The order is: first the schema, then the servers.
	early, last := c.add(nextProgram), c.add(lastProgram)
	if err := errors.Join(early.refused("SCHEMA_TOO_OLD"), last.refused("SCHEMA_TOO_OLD")); err != nil {
		return err
	}
	// Every new server may be told to migrate first: one does, the others wait for it.
	failed := make(chan error, 3)
	for range cap(failed) {
		go func() { failed <- c.migrate(nextProgram) }()
	}
	if err := errors.Join(<-failed, <-failed, <-failed); err != nil {
		return err
	}
	late := c.add(nextProgram)
	for _, step := range []func() error{
		func() error { return c.mergesGoOn(before...) }, // by servers that know nothing of it
		early.start,
		func() error { return c.mergesGoOn(early, before[0], before[1]) }, // side by side
		func() error { return before[0].end(syscall.SIGTERM) },
		// One is left that needs what is to be taken away.
		c.tooEarly,
		func() error { return last.refused("SCHEMA_TOO_OLD") },
		func() error { return c.mergesGoOn(early, before[1]) },
		late.start,
		func() error { return before[1].end(syscall.SIGTERM) },
		func() error { return c.mergesGoOn(early, late) },
		// It is taken away beneath servers that do without it, and that have written to it a moment ago.
		func() error { return c.migrate(lastProgram) },
		func() error { return c.migrate(lastProgram) }, // again changes nothing
		func() error { return c.mergesGoOn(early, late) },
		func() error { return before[0].refused("SCHEMA_TOO_NEW") },
		last.start,
		func() error { return errors.Join(early.end(syscall.SIGTERM), late.end(syscall.SIGTERM)) },
		func() error { return c.mergesGoOn(last) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// migrate brings the schema up to date as a release does.
func (c *cluster) migrate(program func() (string, error)) error {
	path, err := program()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(c.ctx, path, "migrate")
	cmd.Env = append(os.Environ(), "DATABASE_OWNER_URL="+c.db.OwnerURL)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("migrate: %w\n%s", err, out)
	}
	return err
}

// tooEarly fails unless the last release is refused to take away what a server needs, and takes nothing away.
func (c *cluster) tooEarly() error {
	if err := c.migrate(lastProgram); err == nil || !strings.Contains(err.Error(), "SERVERS_TOO_OLD") {
		return fmt.Errorf("what a server needs is taken away: %w", err)
	}
	if _, err := c.query(`select attempt::text from signedapproval_deliveries limit 1`); err != nil {
		return err
	}
	return nil
}

// mergesGoOn waits for one more merge, and for servers to be ready.
func (c *cluster) mergesGoOn(servers ...*server) error {
	for _, s := range servers {
		if status, text, err := s.get(*s.address.Load(), "/readyz"); err != nil || status != http.StatusOK {
			return fmt.Errorf("a server that serves is not ready: %d %s %w", status, text, err)
		}
	}
	var failed error
	count := func() int {
		merged, err := c.query(`select pull_request_id::text from signedapproval_merge_intents where state = 'MERGED'`)
		failed = errors.Join(failed, err)
		return len(merged)
	}
	before := count()
	return errors.Join(c.wait("one more is merged", func() bool { return failed != nil || count() > before }), failed)
}

// refused fails unless a server ends by itself, with a code.
func (s *server) refused(code string) error {
	if err := s.start(); err == nil || !strings.Contains(s.log.tail(4000), code) {
		return fmt.Errorf("a server was started on a schema that it does not work on: %w\n%s", err, s.log.tail(4000))
	}
	return nil
}
