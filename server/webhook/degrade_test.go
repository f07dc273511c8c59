package webhook_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/webhook"
)

// super runs statements as superuser.
func (b *bench) super(t *testing.T, statements ...string) {
	t.Helper()
	conn := b.connect(t)
	for _, statement := range append([]string{`set default_transaction_read_only = off`}, statements...) {
		if _, err := conn.Exec(t.Context(), strings.ReplaceAll(statement, "DATABASE", b.database.Name)); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// endSessions ends what the servers have open, as a failover does.
const endSessions = `with theirs as materialized (
		select pid from pg_stat_activity where datname = current_database() and application_name like 'signedapproval/%')
	select pg_terminate_backend(pid, 5000) from theirs`

// TestTheDatabaseCannot: whatever keeps PostgreSQL from committing, the delivery is turned away with the answer that
// makes Bitbucket come again, nothing of it is there, and it goes on by itself when that is over.
func TestTheDatabaseCannot(t *testing.T) {
	t.Parallel()
	for _, trouble := range []struct {
		name, code   string
		begin, after []string
	}{
		{"its disk is full", "53100", []string{
			`create function disk_full() returns trigger language plpgsql as $$ begin
				raise 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$`,
			// At the commit, when everything is written.
			`create constraint trigger disk_full after insert or update on signedapproval_jobs deferrable initially deferred for each row execute function disk_full()`,
		}, []string{`drop trigger disk_full on signedapproval_jobs`}},
		{
			"it has no connection left", "53300",
			[]string{`alter database DATABASE connection limit 0`, endSessions},
			[]string{`alter database DATABASE connection limit -1`},
		},
		// Afterwards nobody ends the sessions that only read: the address leads to the new server, and they do not.
		{
			"it has become a standby", "25006",
			[]string{`alter database DATABASE set default_transaction_read_only = on`, endSessions},
			[]string{`alter database DATABASE reset default_transaction_read_only`},
		},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			b.intake.Start()
			conn := b.connect(t)
			hook := b.hook(t, workspaceUUID, repoUUID)
			before := uuid.NewString()
			b.deliver(t, hook, openedEvent, before, opened).accepted(t)
			b.seen()

			b.super(t, trouble.begin...)
			ids := make([]string, 8)
			answers := make(chan reply, len(ids))
			for i := range ids {
				ids[i] = uuid.NewString()
				r := b.request(t, hook, openedEvent, ids[i], opened)
				go func() { answers <- send(t, r) }()
			}
			for range ids {
				(<-answers).turnedAway(t)
			}
			if seen := b.seen(); len(seen) != len(ids) || slices.ContainsFunc(seen, func(s string) bool { return s != openedEvent+" "+webhook.OutcomeTurnedAway }) {
				t.Errorf("observed %q", seen)
			}
			if rows := stored(t, conn); len(rows) != 1 {
				t.Errorf("stored %v", rows)
			}
			if _, asked := ledger(t, conn); !slices.Equal(asked, []int64{1}) {
				t.Errorf("jobs were asked for %d times", asked)
			}
			if log := b.log.String(); !strings.Contains(log, trouble.code) || strings.Contains(log, string(hook.Secret)) {
				t.Errorf("logged %s", log)
			}

			b.super(t, trouble.after...)
			for _, id := range ids {
				eventually(t, "the repeat is accepted", func() bool { return b.deliver(t, hook, openedEvent, id, opened).status == http.StatusNoContent })
			}
			if rows := stored(t, conn); len(rows) != 1+len(ids) {
				t.Errorf("stored %v", rows)
			}
		})
	}
}
