package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/signedapproval/bitbucket/migrations"
	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// nextProgram is the product's next release: this one, built with one migration more.
var nextProgram = sync.OnceValues(func() (string, error) {
	current, err := program()
	if err != nil {
		return "", err
	}
	newest, err := migrations.Newest()
	if err != nil {
		return "", err
	}
	dir, top := filepath.Dir(current), filepath.Join("..", "..")
	if top, err = filepath.Abs(top); err != nil {
		return "", err
	}
	migration, overlay := filepath.Join(dir, "next.sql"), filepath.Join(dir, "overlay.json")
	document, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(top, "migrations", fmt.Sprintf("%04d_next.sql", newest+1)): migration}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "next")
	if err := errors.Join(
		// As the rules want it: what is there is added to, and nobody is locked out.
		os.WriteFile(migration, []byte(`-- +goose NO TRANSACTION
-- +goose Up
alter table signedapproval_pull_requests add column next_note text not null default '';
create table signedapproval_next (id bigint primary key);
grant select, insert on signedapproval_next to signedapproval_app;
create index concurrently signedapproval_next_note on signedapproval_pull_requests (workspace_id, next_note);
`), 0o600),
		os.WriteFile(overlay, document, 0o600),
	); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-overlay", overlay, "-o", path, "github.com/signedapproval/bitbucket/server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the next release: %w\n%s", err, out)
	}
	return path, nil
})

// TestTheNextReleaseTakesOver: while people work, the next release migrates and takes the place of the servers one by one.
func TestTheNextReleaseTakesOver(t *testing.T) {
	t.Parallel()
	if _, err := nextProgram(); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, options{servers: 2})
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

// replace does what an operator does: two servers are replaced by the next release.
func (c *cluster) replace() error {
	before := c.servers[:2:2]
	// The order is: first the schema, then the servers.
	early := c.add(nextProgram)
	if err := errors.Join(early.refused("SCHEMA_TOO_OLD"), c.mergesGoOn(before...)); err != nil {
		return err
	}
	// Every new server may be told to migrate first: one does, the others wait for it.
	next, err := nextProgram()
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	for range cap(failed) {
		go func() {
			cmd := exec.CommandContext(c.ctx, next, "migrate")
			cmd.Env = append(os.Environ(), "DATABASE_OWNER_URL="+c.db.OwnerURL)
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("migrate: %w\n%s", err, out)
			}
			failed <- err
		}()
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
		late.start,
		func() error { return before[1].end(syscall.SIGTERM) },
		func() error { return c.mergesGoOn(early, late) },
		// A migration takes away what the old ones need: they do not start any more, and the new ones go on.
		func() error {
			_, err := c.query(`update signedapproval_schema_floor set version = (select max(version_id) from ` + migrations.VersionTable + `) returning version::text`)
			return err
		},
		func() error { return before[0].refused("SCHEMA_TOO_NEW") },
		func() error { return c.mergesGoOn(early, late) },
	} {
		if err := step(); err != nil {
			return err
		}
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
