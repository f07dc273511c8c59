package store_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/store"
)

const day = 24 * time.Hour

// age makes deliveries as old as if they had come so long ago.
func (h *house) age(t *testing.T, by time.Duration, requests ...string) {
	t.Helper()
	h.super(t, `update signedapproval_deliveries set received_at = now() - $1::interval, week = signedapproval_delivery_week(now() - $1::interval)
		where request_uuid = any($2::uuid[])`, by, requests)
}

func TestOldDeliveriesAreForgotten(t *testing.T) {
	t.Parallel()
	h := open(t)
	ages := []time.Duration{0, 8 * day, 15 * day, 22 * day, 29 * day, 38 * day, 45 * day} // each in a week of its own
	for n, by := range ages {
		must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{delivery(n)}))
		h.age(t, by, uuid(n))
	}
	forget := func(days, want int, kept ...int) {
		t.Helper()
		h.DeliveryDays = days
		emptied, err := h.ForgetDeliveries(t.Context())
		must(t, err)
		same(t, "weeks that were emptied", emptied, want)
		same(t, "deliveries", h.count(t, "signedapproval_deliveries"), len(kept))
		for _, n := range kept {
			_, err := h.DeliveryBody(t.Context(), uuid(n))
			must(t, err)
		}
	}
	// Two of one week: the younger keeps the older one company.
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{delivery(100)}))
	h.super(t, `update signedapproval_deliveries set week = (select week from signedapproval_deliveries where request_uuid = $1), received_at = now() - interval '41 days'
		where request_uuid = $2`, uuid(5), uuid(100))
	forget(store.MostDeliveryDays, 1, 0, 1, 2, 3, 4, 5, 100)
	forget(39, 0, 0, 1, 2, 3, 4, 5, 100)
	forget(0, 1, 0, 1, 2, 3, 4)
	forget(0, 0, 0, 1, 2, 3, 4)
	forget(1, 4, 0)
}

// TestNobodyWaitsBehindForgottenDeliveries: while a backup reads them, old weeks are left alone, and deliveries come in.
func TestNobodyWaitsBehindForgottenDeliveries(t *testing.T) {
	t.Parallel()
	h := open(t)
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{delivery(1)}))
	h.age(t, 40*day, uuid(1))
	reader := connect(t, h.SuperURL)
	backup, err := reader.Begin(t.Context())
	must(t, err)
	_, err = backup.Exec(t.Context(), `select body from signedapproval_deliveries`)
	must(t, err)
	emptied, err := h.ForgetDeliveries(t.Context())
	must(t, err)
	same(t, "weeks that were emptied under a reader", emptied, 0)
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{delivery(2)}))
	must(t, backup.Rollback(t.Context()))
	emptied, err = h.ForgetDeliveries(t.Context())
	must(t, err)
	same(t, "weeks that were emptied", emptied, 1)
	same(t, "deliveries", h.count(t, "signedapproval_deliveries"), 1)
}

// TestARepeatIsKnownForAWeek: also where the first copy came into another partition.
func TestARepeatIsKnownForAWeek(t *testing.T) {
	t.Parallel()
	h := open(t)
	for n, by := range []time.Duration{0, time.Hour, 6 * day, 7 * day} {
		d := delivery(n)
		must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{d}))
		h.age(t, by, uuid(n))
		h.rings()
		must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{d}))
		same(t, fmt.Sprintf("copies of one that came %s ago", by), h.count(t, "signedapproval_deliveries where request_uuid = '"+uuid(n)+"'"), 1)
		same(t, "rung by the repeat", len(h.rings()), 0)
	}
}

// TestTheRingOfWeeksIsLongEnough: as long as a delivery may be kept its week is not the one that is written to.
func TestTheRingOfWeeksIsLongEnough(t *testing.T) {
	t.Parallel()
	h := open(t)
	// A week stays until its youngest is too old, which is up to seven days after its oldest is.
	var clashes int
	h.read(t, &clashes, `
		select count(*)::integer from generate_series('2026-01-01'::timestamptz, '2027-12-31', '13 hours') now, generate_series(7 * 24, ($1 + 7) * 24 - 1, 5) age
		where signedapproval_delivery_week(now) = signedapproval_delivery_week(now - age * interval '1 hour')`, store.MostDeliveryDays)
	same(t, "weeks that come again too early", clashes, 0)
}

func TestForgettingIsDoneInBatches(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.super(t, `insert into signedapproval_sessions (token_hash, expires_at) select sha256(n::text::bytea), now() - interval '1 day' from generate_series(1, $1) n`, 2*store.ForgetBatch+1)
	h.super(t, `insert into signedapproval_sessions (token_hash, expires_at) values ('alive', now() + interval '1 day')`)
	h.super(t, `insert into signedapproval_jobs (kind, key, payload, state, run_at, updated_at)
		select 'evaluate', n::text, '{}', 'DONE', now(), now() - interval '31 days' from generate_series(1, $1) n`, store.ForgetBatch+1)
	for _, left := range [][2]int{{store.ForgetBatch + 2, 1}, {2, 0}, {1, 0}, {1, 0}} {
		must(t, h.Outside(t.Context(), func(sh *store.Shared) error { return sh.ForgetExpired(t.Context()) }))
		same(t, "sessions", h.count(t, "signedapproval_sessions"), left[0])
		same(t, "jobs", h.count(t, "signedapproval_jobs"), left[1])
	}
}

// TestWhatIsTrueIsNeverForgotten makes everything there is ten years old.
func TestWhatIsTrueIsNeverForgotten(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme)
	h.super(t, `insert into signedapproval_leaves (index, hash, entry, workspace_id) values (0, '\x00', '\x00', $1)`, acme)
	h.super(t, `insert into signedapproval_people (account_id, account_uuid, name, salt) values ('a', $1, 'A', '\x00')`, alice)
	h.super(t, `insert into signedapproval_notices (person_id, workspace_id, kind, dedupe_key, title, sentence, path) select id, $1, 'k', 'd', 't', 's', '/' from signedapproval_people limit 1`, acme)
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{delivery(1)}))
	conn := connect(t, h.SuperURL)
	rows, err := conn.Query(t.Context(), `select c.relname::text, a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid
		where c.relkind in ('r', 'p') and not c.relispartition and c.relname like 'signedapproval\_%' and a.atttypid = 'timestamptz'::regtype and not a.attisdropped`)
	must(t, err)
	type column struct{ Table, Name string }
	times, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	must(t, err)
	for _, c := range times {
		h.super(t, `update `+c.Table+` set `+c.Name+` = `+c.Name+` - interval '10 years'`)
	}
	counts := func() map[string]int {
		found := map[string]int{}
		for _, c := range times {
			found[c.Table] = h.count(t, c.Table)
		}
		return found
	}
	before := counts()
	emptied, err := h.ForgetDeliveries(t.Context())
	must(t, err)
	same(t, "weeks that were emptied", emptied, 1)
	must(t, h.Outside(t.Context(), func(sh *store.Shared) error { return sh.ForgetExpired(t.Context()) }))
	after := counts()
	transient := []string{"api_budgets", "challenges", "deliveries", "jobs", "oauth_states", "pending_grants", "sessions", "stream_tokens", "tickets"}
	for _, table := range slices.Sorted(maps.Keys(before)) {
		if after[table] != before[table] && !slices.Contains(transient, table[len("signedapproval_"):]) {
			t.Errorf("%s had %d rows and has %d", table, before[table], after[table])
		}
	}
	same(t, "deliveries", after["signedapproval_deliveries"], 0)
	if before["signedapproval_decisions"] == 0 || before["signedapproval_notices"] == 0 {
		t.Error("nothing was there")
	}
}
