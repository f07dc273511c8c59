package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
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
	must(t, s.Flush(ctx, acme))
	same(t, "round trips of a flush", len(count.take()), 1)
}

// TestDurable is on one server, since starting one takes longer than what is done with it.
func TestDurable(t *testing.T) {
	t.Parallel()
	d := dbtest.NewDurable(t)
	t.Run("a server that does not sync is refused", func(t *testing.T) { noSyncIsRefused(t, d) })
	t.Run("the log's head waits for no disk", func(t *testing.T) { headWaitsForNoDisk(t, d) })
	t.Run("jobs wait for no disk", func(t *testing.T) { jobsWaitForNoDisk(t, d) })
	t.Run("what turns green waits for the disk once", func(t *testing.T) { greenWaitsOnce(t, d) })
	t.Run("what was appended outlives a crash", func(t *testing.T) { appendsOutliveACrash(t, d) })
}

// noSyncIsRefused has PostgreSQL give up on a crash of the machine, and then not.
func noSyncIsRefused(t *testing.T, d *dbtest.Durable) {
	t.Helper()
	ctx := t.Context()
	running := reopen(t, d.AppURL, store.NewKeyset())
	must(t, running.CheckDurable(ctx))
	super := connect(t, d.SuperURL)
	for _, c := range []struct{ statement, code string }{
		{`alter system set fsync = off`, store.CodeNotDurable},
		{`alter system reset fsync`, ""},
	} {
		for _, statement := range []string{c.statement, `select pg_reload_conf()`} {
			_, err := super.Exec(ctx, statement)
			must(t, err)
		}
		eventually(t, c.statement, func() bool { return refusal.Code(running.CheckDurable(ctx)) == c.code })
		s, err := store.Open(ctx, d.AppURL, nil)
		if err == nil {
			s.Close()
		}
		if refusal.Code(err) != c.code || c.code != "" && !strings.Contains(err.Error(), "fsync is off") {
			t.Errorf("%s: Open answers %v", c.statement, err)
		}
	}
}

// TestADatabaseThatMayForgetIsRefused: whoever says that a commit is answered before it is durable, and however.
func TestADatabaseThatMayForgetIsRefused(t *testing.T) {
	t.Parallel()
	for setting, taken := range map[string]bool{"on": true, "remote_apply": true, "off": false, "local": false, "remote_write": false} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			address := func(t *testing.T, by string) string {
				t.Helper()
				d := dbtest.New(t)
				if by == "" {
					u, err := url.Parse(d.AppURL)
					must(t, err)
					query := u.Query()
					query.Set("synchronous_commit", setting)
					u.RawQuery = query.Encode()
					return u.String()
				}
				_, err := connect(t, d.SuperURL).Exec(t.Context(), fmt.Sprintf(by, d.Name)+` set synchronous_commit = `+setting)
				must(t, err)
				return d.AppURL
			}
			for name, by := range map[string]string{
				"by the connection string": "", "of the database": "alter database %s",
				"of the login": "alter role signedapproval_test_app in database %s",
			} {
				s, err := store.Open(t.Context(), address(t, by), nil)
				if err == nil {
					s.Close()
				}
				if want := map[bool]string{false: store.CodeNotDurable}[taken]; refusal.Code(err) != want || (err == nil) != taken {
					t.Errorf("%s: Open answers %v", name, err)
				}
				if !taken && !strings.Contains(err.Error(), "synchronous_commit is "+setting) {
					t.Errorf("%s: the error does not say what is wrong: %v", name, err)
				}
			}
		})
	}
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
	all.Go(func() { answered <- s.Flush(ctx, acme) })
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

// seating has a store claim each job that it is asked for, and gives the channel to which those that begin are sent.
func seating(s *store.Store) <-chan store.Job {
	begun := make(chan store.Job, 16)
	s.Seat = func(string, string) (store.Seat, bool) {
		return store.Seat{Holder: uuid(99), Lease: time.Minute, Fill: func(j *store.Job) {
			if j != nil {
				begun <- *j
			}
		}}, true
	}
	return begun
}

// jobsWaitForNoDisk: while nothing becomes durable, the jobs that a webhook and a leaf ask for begin all the same, and what
// they can do again ends. Nobody else is answered.
func jobsWaitForNoDisk(t *testing.T, d *dbtest.Durable) {
	t.Helper()
	ctx := t.Context()
	s := reopen(t, d.AppURL, store.NewKeyset())
	begun := seating(s)
	resume := d.Stall()
	answered := make(chan error, 3)
	go func() { answered <- s.AcceptDeliveries(ctx, []store.Delivery{delivery(1)}) }()
	of := map[string]store.Job{}
	for range 2 {
		job := <-begun
		of[job.Kind] = job
	}
	entry := []byte("entry of a job")
	must(t, s.InWorkspace(ctx, acme, func(tx *store.Tx) error {
		tx.AppendLeaf(acme, evidence.LeafHash(entry), entry, "", 0)
		must(t, tx.Enqueue(ctx, store.JobSpec{Kind: "status", Key: "1", Workspace: acme}))
		return tx.FinishRepeatable(ctx, of["evaluate"].Claim, time.Time{})
	}))
	same(t, "what follows", (<-begun).Kind, "status")
	s.Seat = nil
	go func() { answered <- s.AcceptDeliveries(ctx, []store.Delivery{delivery(1)}) }() // a repeat, of which there is nothing to write
	go func() {
		answered <- s.InWorkspace(ctx, acme, func(tx *store.Tx) error { return tx.FinishJob(ctx, of["fan"].Claim, time.Time{}) })
	}()
	eventually(t, "the others wait", func() bool { return d.Stalled() == 3 })
	same(t, "answers", len(answered), 0)
	resume()
	for range cap(answered) {
		must(t, <-answered)
	}
}

// greenWaitsOnce: a status that is to turn green waits for the disk when it is looked at for the last time, and not before; any
// other, and one for which witnesses may have something else written first, when it is read.
func greenWaitsOnce(t *testing.T, d *dbtest.Durable) {
	t.Helper()
	ctx := t.Context()
	h := &house{Store: reopen(t, d.AppURL, store.NewKeyset()), Database: d.Database}
	seed(t, h, acme)
	entry := []byte("entry of a chain")
	must(t, h.InWorkspace(ctx, acme, func(tx *store.Tx) error {
		tx.AppendLeaf(acme, evidence.LeafHash(entry), entry, "chain", 1)
		return tx.Enqueue(ctx, store.JobSpec{Kind: "status", Key: "green", Workspace: acme})
	}))
	h.super(t, `update signedapproval_pull_requests set chain_id = 'chain', chain_sequence = 1 where workspace_id = $1`, acme)
	claim := h.claim(t, h.job(t, "status", "green").ID, uuid(1)).Claim
	green := store.CommitStatus{PullRequestID: acme, Commit: strings.Repeat("b", 40), RepositoryID: acme, RequestID: acme, Key: "k", State: "SUCCESSFUL"}
	of := func(commit string, change func(*store.CommitStatus)) store.CommitStatus {
		status := green
		status.Commit = strings.Repeat(commit, 40)
		change(&status)
		return status
	}
	all := []store.CommitStatus{
		green, of("c", func(s *store.CommitStatus) { s.State = "INPROGRESS" }), of("d", func(*store.CommitStatus) {}),
		of("e", func(s *store.CommitStatus) { s.Cosignatures = 1 }),
	}
	must(t, h.InWorkspace(ctx, acme, func(tx *store.Tx) error {
		for _, status := range all {
			tx.OweStatus(nil, status)
		}
		_, err := tx.PayStatus(ctx, acme, strings.Repeat("d", 40), 1, 0)
		return err
	}))
	resume := d.Stall()
	owed, err := h.Owed(ctx, claim, acme, acme, green.Commit)
	must(t, err)
	same(t, "what is to turn green is durable", owed.Durable, false)
	answered := make(chan error, len(all))
	for _, status := range all[1:] {
		go func() {
			owed, err := h.Owed(ctx, claim, acme, acme, status.Commit)
			if err == nil && !owed.Durable {
				err = fmt.Errorf("what is owed on %s is not durable", status.Commit)
			}
			answered <- err
		}()
	}
	go func() {
		answered <- h.Reading(ctx, acme, func(tx *store.Tx) error {
			green, err := tx.Green(ctx, claim, green)
			if err == nil && !green.Durable {
				err = errors.New("what turns green is not durable")
			}
			return err
		})
	}()
	eventually(t, "the others wait", func() bool { return d.Stalled() == len(all) })
	same(t, "answers", len(answered), 0)
	resume()
	for range all {
		must(t, <-answered)
	}
	claim.Fence++
	wantError(t, "another's claim", h.Reading(ctx, acme, func(tx *store.Tx) error { _, err := tx.Green(ctx, claim, green); return err }), store.ErrLeaseLost)
}

// TestAClaimThatACrashTookBackFinishesNothing: its job goes on, and the next to claim the row has another fence.
func TestAClaimThatACrashTookBackFinishesNothing(t *testing.T) {
	t.Parallel()
	h := open(t)
	begun := seating(h.Store)
	finish := func(job store.Job) error {
		return h.InWorkspace(t.Context(), acme, func(tx *store.Tx) error { return tx.FinishJob(t.Context(), job.Claim, time.Time{}) })
	}
	told := delivery(1)
	told.Jobs = told.Jobs[:1]
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{told}))
	must(t, finish(<-begun))
	var row string
	h.read(t, &row, `select to_jsonb(j)::text from signedapproval_jobs j`)
	told.RequestUUID = uuid(2)
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{told}))
	lost := <-begun
	h.super(t, `delete from signedapproval_jobs`) // the crash: the row is as it was before, and the delivery is not there
	h.super(t, `delete from signedapproval_deliveries where request_uuid = $1`, uuid(2))
	h.super(t, `insert into signedapproval_jobs overriding system value select * from jsonb_populate_record(null::signedapproval_jobs, $1::jsonb)`, row)
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{told}))
	job := <-begun
	same(t, "asked for", job.Seq, lost.Seq)
	wantError(t, "the end of what was lost", finish(lost), store.ErrLeaseLost)
	must(t, finish(job))
}
