package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// early is what lets a transaction go of its locks before it is durable.
const early = "set local synchronous_commit = off"

// TestOnlyWhatAppendsCommitsEarly: the setting comes before the lock on the log's head, and what makes it durable comes
// behind the commit, in the same round trip. Nothing else is said to commit early.
func TestOnlyWhatAppendsCommitsEarly(t *testing.T) {
	t.Parallel()
	s, count := counted(t)
	ctx := t.Context()
	append := func(tx *store.Tx) { tx.AppendLeaf(acme, [32]byte{}, []byte("entry"), "", 0) }
	for name, run := range map[string]struct {
		fn    func(*store.Tx) error
		early bool
	}{
		"a job":                {func(tx *store.Tx) error { return tx.Enqueue(ctx, store.JobSpec{Kind: "kind", Key: "key"}) }, false},
		"a read":               {func(tx *store.Tx) error { _, err := tx.OpenAlarms(ctx); return err }, false},
		"a leaf":               {func(tx *store.Tx) error { append(tx); return nil }, true},
		"a leaf behind a read": {func(tx *store.Tx) error { append(tx); _, err := tx.OpenAlarms(ctx); return err }, true},
		"two leaves, and a job": {func(tx *store.Tx) error {
			append(tx)
			append(tx)
			return tx.Enqueue(ctx, store.JobSpec{Kind: "kind", Key: "key"})
		}, true},
	} {
		count.take()
		must(t, s.InWorkspace(ctx, acme, run.fn))
		trips := count.take()
		whole := slices.Concat(trips...)
		same(t, name+": is told to commit early", slices.Contains(whole, early), run.early)
		if !run.early {
			same(t, name+": is flushed", strings.Contains(strings.Join(whole, " "), "pg_logical_emit_message"), false)
			continue
		}
		last := trips[len(trips)-1]
		place := slices.Index(last, early)
		if place < 0 || len(last) != place+4 || !strings.Contains(last[place+1], "signedapproval_log_head") || last[place+2] != "commit" ||
			!strings.Contains(last[place+3], "pg_logical_emit_message(true") {
			t.Errorf("%s: the last round trip has %q", name, last)
		}
	}
	count.take()
	must(t, s.Reading(ctx, acme, func(tx *store.Tx) error { return tx.Flush(ctx) }))
	same(t, "round trips of a flush", len(count.take()), 1)
}

// TestDurable is on one server, since starting one takes longer than what is done with it.
func TestDurable(t *testing.T) {
	t.Parallel()
	d := dbtest.NewDurable(t)
	t.Run("the log's head waits for no disk", func(t *testing.T) { headWaitsForNoDisk(t, d) })
	t.Run("what was appended outlives a crash", func(t *testing.T) { appendsOutliveACrash(t, d) })
}

// headWaitsForNoDisk: while nothing becomes durable, eight writers get past the lock on the log's head all
// the same, and none of them is answered. A commit that appends nothing is seen by nobody before it is durable.
func headWaitsForNoDisk(t *testing.T, d *dbtest.Durable) {
	t.Helper()
	ctx := t.Context()
	s := reopen(t, d.AppURL, store.NewKeyset())
	outside := connect(t, d.SuperURL)
	read := func(sql string) (n int64) {
		must(t, outside.QueryRow(ctx, sql).Scan(&n))
		return n
	}
	const writers = 8
	resume := d.Stall()
	var all sync.WaitGroup
	answered := make(chan error, 2*writers)
	for w := range writers {
		all.Go(func() {
			entry := fmt.Appendf(nil, "entry %d", w)
			answered <- s.Outside(ctx, func(sh *store.Shared) error { sh.AppendLeaf(acme, evidence.LeafHash(entry), entry, "", 0); return nil })
		})
	}
	all.Go(func() {
		answered <- s.Outside(ctx, func(sh *store.Shared) error { return sh.Enqueue(ctx, store.JobSpec{Kind: "kind", Key: "key"}) })
	})
	all.Go(func() { answered <- s.Reading(ctx, acme, func(tx *store.Tx) error { return tx.Flush(ctx) }) })
	eventually(t, "all wait to be durable", func() bool { return d.Stalled() == writers+2 })
	same(t, "leaves that are seen", read(`select count(*) from signedapproval_leaves`), writers)
	same(t, "size of the log", read(`select size from signedapproval_log_head`), writers)
	same(t, "jobs that are seen", read(`select count(*) from signedapproval_jobs`), 0)
	same(t, "answers", len(answered), 0)
	resume()
	all.Wait()
	close(answered)
	for err := range answered {
		must(t, err)
	}
	same(t, "jobs that are seen", read(`select count(*) from signedapproval_jobs`), 1)
	// Of those that come next on the same connections none is early by that.
	var setting string
	must(t, connect(t, d.AppURL).QueryRow(ctx, `show synchronous_commit`).Scan(&setting))
	same(t, "synchronous_commit", setting, "on")
}

// appendsOutliveACrash: PostgreSQL is crashed while eight writers append.
func appendsOutliveACrash(t *testing.T, d *dbtest.Durable) {
	t.Helper()
	ctx := t.Context()
	var mu sync.Mutex
	answered := map[[32]byte]bool{}
	for round := range 2 {
		s := reopen(t, d.AppURL, store.NewKeyset())
		before := len(answered)
		var all sync.WaitGroup
		enough := make(chan struct{})
		for w := range 8 {
			all.Go(func() {
				for n := 0; ; n++ {
					entry := fmt.Appendf(nil, "entry %d of writer %d in round %d", n, w, round)
					hash := evidence.LeafHash(entry)
					if err := s.Outside(ctx, func(sh *store.Shared) error { sh.AppendLeaf(acme, hash, entry, "", 0); return nil }); err != nil {
						return // PostgreSQL is gone
					}
					mu.Lock()
					answered[hash] = true
					if len(answered) == before+400 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		d.Crash()
		all.Wait()
		s.Close()
		d.Recover()
	}
	h := &house{Store: reopen(t, d.AppURL, store.NewKeyset()), Database: d.Database}
	_, head, err := h.GrowTree(ctx) // which looks at every leaf
	must(t, err)
	size, err := h.LogSize(ctx)
	must(t, err)
	same(t, "leaves in the tree", head.Size, size)
	rows, err := connect(t, h.AppURL).Query(ctx, `select index, hash from signedapproval_leaves order by index`)
	must(t, err)
	var index, next int64
	var hash []byte
	_, err = pgx.ForEachRow(rows, []any{&index, &hash}, func() error {
		same(t, "index", index, next)
		next++
		delete(answered, [32]byte(hash))
		return nil
	})
	must(t, err)
	same(t, "leaves", next, size)
	if len(answered) > 0 {
		t.Errorf("%d leaves that were answered are lost", len(answered))
	}
}

// TestAFlushThatFailsIsNoSuccess: whoever appends is not told that it is done by the commit alone.
func TestAFlushThatFailsIsNoSuccess(t *testing.T) {
	t.Parallel()
	h := open(t)
	// Newer releases of PostgreSQL give it another parameter.
	h.super(t, `do $$ declare f regprocedure; begin
		for f in select oid from pg_proc where proname = 'pg_logical_emit_message' loop
			execute format('revoke execute on function %s from public', f);
		end loop;
	end $$`)
	add := func(ctx context.Context) error {
		return h.Outside(ctx, func(sh *store.Shared) error { sh.AppendLeaf(acme, [32]byte{}, []byte("entry"), "", 0); return nil })
	}
	if err := add(t.Context()); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("an append that may be lost: %v", err)
	}
	var size int64
	h.read(t, &size, `select size from signedapproval_log_head`)
	same(t, "size of the log", size, 1)
}
