package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/store"
)

// TestLedger is the life of one job as a table: what is done to it, and what it is afterwards.
func TestLedger(t *testing.T) {
	t.Parallel()
	spec := store.JobSpec{Kind: "evaluate", Key: "1", Workspace: acme, Payload: map[string]int{"number": 1}}
	// world is what the steps of one row share.
	type world struct {
		*house
		job  store.Job // claimed last
		held []store.Job
	}
	type step func(*testing.T, *world)
	enqueue := func(at ...time.Duration) step {
		return func(t *testing.T, w *world) {
			s := spec
			if len(at) > 0 {
				s.RunAt = time.Now().Add(at[0])
			}
			w.enqueue(t, s)
		}
	}
	claim := func(t *testing.T, w *world) {
		w.job = w.claim(t, w.house.job(t, "evaluate", "1").ID, alice)
		w.held = append(w.held, w.job)
	}
	seated := func(at ...time.Duration) step {
		return func(t *testing.T, w *world) {
			asked, filled := 0, 0
			w.Seat = func(kind, workspace string) (store.Seat, bool) {
				asked++
				same(t, "a seat for", kind+" of "+workspace, "evaluate of "+acme)
				return store.Seat{Holder: alice, Lease: time.Minute, Fill: func(job *store.Job) {
					if filled++; job != nil {
						w.job = *job
						w.held = append(w.held, w.job)
						same(t, "payload", string(job.Payload), `{"number":1}`)
					}
				}}, true
			}
			enqueue(at...)(t, w)
			w.Seat = nil
			same(t, "seats asked for", asked, 1-len(at))
			same(t, "seats filled or left", filled, asked)
		}
	}
	cannotClaim := func(t *testing.T, w *world) {
		_, ok, err := w.ClaimJob(t.Context(), w.house.job(t, "evaluate", "1").ID, bob, time.Minute)
		must(t, err)
		same(t, "claimed", ok, false)
	}
	finish := func(next ...time.Duration) step {
		return func(t *testing.T, w *world) {
			var at time.Time
			if len(next) > 0 {
				at = time.Now().Add(next[0])
			}
			must(t, w.finish(t.Context(), w.job.Claim, at))
		}
	}
	finishLost := func(claim int) step {
		return func(t *testing.T, w *world) {
			wantError(t, "finish", w.finish(t.Context(), w.held[claim].Claim, time.Time{}), store.ErrLeaseLost)
		}
	}
	retry := func(after time.Duration, burn bool, most int, dead bool) step {
		return func(t *testing.T, w *world) {
			got, err := w.RetryJob(t.Context(), w.job.Claim, "it failed", after, burn, most)
			must(t, err)
			same(t, "dead", got, dead)
		}
	}
	retryLost := func(t *testing.T, w *world) {
		_, err := w.RetryJob(t.Context(), w.held[0].Claim, "late", 0, true, 5)
		wantError(t, "retry", err, store.ErrLeaseLost)
	}
	extend := func(t *testing.T, w *world) { must(t, w.ExtendJob(t.Context(), w.job.Claim, time.Hour)) }
	extendLost := func(t *testing.T, w *world) {
		wantError(t, "extend", w.ExtendJob(t.Context(), w.held[0].Claim, time.Hour), store.ErrLeaseLost)
	}
	leaseEnds := func(t *testing.T, w *world) {
		w.super(t, `update signedapproval_jobs set leased_until = now() - interval '1 second'`)
	}
	comesDue := func(t *testing.T, w *world) {
		w.super(t, `update signedapproval_jobs set run_at = now() - interval '1 second'`)
	}
	requeue := func(t *testing.T, w *world) {
		must(t, w.RequeueJob(t.Context(), w.house.job(t, "evaluate", "1").ID))
	}

	for _, test := range []struct {
		name  string
		steps []step
		want  row // without ID
		rung  int // by the last step
	}{
		{"asked for", []step{enqueue()}, row{Seq: 1, State: "READY", Due: true}, 1},
		{"asked for twice", []step{enqueue(), enqueue()}, row{Seq: 2, State: "READY", Due: true}, 1},
		{"asked for later", []step{enqueue(time.Hour)}, row{Seq: 1, State: "READY"}, 0},
		{"later and then now", []step{enqueue(time.Hour), enqueue()}, row{Seq: 2, State: "READY", Due: true}, 1},
		{"now and then later", []step{enqueue(), enqueue(time.Hour)}, row{Seq: 2, State: "READY", Due: true}, 1},
		{"not due", []step{enqueue(time.Hour), cannotClaim}, row{Seq: 1, State: "READY"}, 0},
		{"claimed", []step{enqueue(), claim}, row{Seq: 1, Fence: 1, State: "READY", Due: true, Held: true}, 0},
		{"claimed once", []step{enqueue(), claim, cannotClaim}, row{Seq: 1, Fence: 1, State: "READY", Due: true, Held: true}, 0},
		{"finished", []step{enqueue(), claim, finish()}, row{Seq: 1, Fence: 1, State: "DONE"}, 0},
		{"done stays done", []step{enqueue(), claim, finish(), cannotClaim}, row{Seq: 1, Fence: 1, State: "DONE"}, 0},
		{"finished until later", []step{enqueue(), claim, finish(time.Hour)}, row{Seq: 1, Fence: 1, State: "READY"}, 0},
		{"finished until now", []step{enqueue(), claim, finish(-time.Second)}, row{Seq: 1, Fence: 1, State: "READY", Due: true}, 1},
		{"finished twice", []step{enqueue(), claim, finish(), finishLost(0)}, row{Seq: 1, Fence: 1, State: "DONE"}, 0},
		{"asked for while it runs", []step{enqueue(), claim, enqueue()}, row{Seq: 2, Fence: 1, State: "READY", Due: true, Held: true}, 0},
		{"asked for while it ran", []step{enqueue(), claim, enqueue(), finish()}, row{Seq: 2, Fence: 1, State: "READY", Due: true}, 1},
		{"asked for while it ran, finished until later", []step{enqueue(), claim, enqueue(), finish(time.Hour)}, row{Seq: 2, Fence: 1, State: "READY", Due: true}, 1},
		{"asked for after it was done", []step{enqueue(), claim, finish(), enqueue()}, row{Seq: 2, Fence: 1, State: "READY", Due: true}, 1},
		{"done, asked for later", []step{enqueue(), claim, finish(), enqueue(time.Hour)}, row{Seq: 2, Fence: 1, State: "READY"}, 0},

		{"seated", []step{seated()}, row{Seq: 1, Fence: 1, State: "READY", Due: true, Held: true}, 0},
		{"seated, for later", []step{seated(time.Hour)}, row{Seq: 1, State: "READY"}, 0},
		{"later and then seated", []step{enqueue(time.Hour), seated()}, row{Seq: 2, Fence: 1, State: "READY", Due: true, Held: true}, 0},
		{"seated once", []step{seated(), cannotClaim}, row{Seq: 1, Fence: 1, State: "READY", Due: true, Held: true}, 0},
		{"seated, finished", []step{seated(), finish()}, row{Seq: 1, Fence: 1, State: "DONE"}, 0},
		{"seated again", []step{seated(), finish(), seated()}, row{Seq: 2, Fence: 2, State: "READY", Due: true, Held: true}, 0},
		{"seated again, finished again", []step{seated(), finish(), seated(), finish(), finishLost(0)}, row{Seq: 2, Fence: 2, State: "DONE"}, 0},
		{"seated, asked for while it ran", []step{seated(), enqueue(), finish()}, row{Seq: 2, Fence: 1, State: "READY", Due: true}, 1},
		{"no seat for what somebody has", []step{enqueue(), claim, seated()}, row{Seq: 2, Fence: 1, State: "READY", Due: true, Held: true}, 0},
		{"no seat for what was left behind", []step{enqueue(), claim, leaseEnds, seated()}, row{Seq: 2, Fence: 1, State: "READY", Due: true, Held: true}, 1},
		{"no seat for what failed", []step{enqueue(), claim, retry(time.Hour, true, 5, false), seated()}, row{Seq: 2, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed", Due: true}, 1},
		{"no seat for what was dead", []step{enqueue(), claim, retry(0, true, 1, true), seated()}, row{Seq: 2, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed", Due: true}, 1},
		{"seated, left behind", []step{seated(), leaseEnds, claim, finishLost(0)}, row{Seq: 1, Fence: 2, State: "READY", Attempt: 1, LastError: store.HolderDied, Due: true, Held: true}, 0},

		{"failed", []step{enqueue(), claim, retry(time.Hour, true, 5, false)}, row{Seq: 1, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed"}, 0},
		{"failed, due at once", []step{enqueue(), claim, retry(0, true, 5, false)}, row{Seq: 1, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed", Due: true}, 1},
		{"throttled", []step{enqueue(), claim, retry(time.Hour, false, 1, false)}, row{Seq: 1, Fence: 1, State: "READY", LastError: "it failed"}, 0},
		{"failed, then finished", []step{enqueue(), claim, retry(0, true, 5, false), claim, finish()}, row{Seq: 1, Fence: 2, State: "DONE"}, 0},
		{"failed too often", []step{enqueue(), claim, retry(0, true, 2, false), claim, retry(0, true, 2, true)}, row{Seq: 1, Fence: 2, State: "DEAD", Attempt: 2, LastError: "it failed"}, 0},
		{"cannot be cured", []step{enqueue(), claim, retry(0, true, 1, true)}, row{Seq: 1, Fence: 1, State: "DEAD", Attempt: 1, LastError: "it failed"}, 0},
		{"dead stays dead", []step{enqueue(), claim, retry(0, true, 1, true), cannotClaim}, row{Seq: 1, Fence: 1, State: "DEAD", Attempt: 1, LastError: "it failed"}, 0},
		{"dead, asked for again", []step{enqueue(), claim, retry(0, true, 1, true), enqueue()}, row{Seq: 2, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed", Due: true}, 1},
		{"dead, requeued", []step{enqueue(), claim, retry(0, true, 1, true), requeue}, row{Seq: 2, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed", Due: true}, 1},
		{"asked for while it failed", []step{enqueue(), claim, enqueue(), retry(time.Hour, true, 5, false)}, row{Seq: 2, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed", Due: true}, 1},
		{"asked for while it failed for the last time", []step{enqueue(), claim, enqueue(), retry(time.Hour, true, 1, false)}, row{Seq: 2, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed", Due: true}, 1},
		{"backed off, asked for", []step{enqueue(), claim, retry(time.Hour, true, 5, false), enqueue()}, row{Seq: 2, Fence: 1, State: "READY", Attempt: 1, LastError: "it failed", Due: true}, 1},
		{"backed off, due", []step{enqueue(), claim, retry(time.Hour, true, 5, false), comesDue, claim}, row{Seq: 1, Fence: 2, State: "READY", Attempt: 1, LastError: "it failed", Due: true, Held: true}, 0},

		{"taken over", []step{enqueue(), claim, leaseEnds, claim}, row{Seq: 1, Fence: 2, State: "READY", Attempt: 1, LastError: store.HolderDied, Due: true, Held: true}, 0},
		{"the first of two finishes", []step{enqueue(), claim, leaseEnds, claim, finishLost(0)}, row{Seq: 1, Fence: 2, State: "READY", Attempt: 1, LastError: store.HolderDied, Due: true, Held: true}, 0},
		{"the second of two finishes", []step{enqueue(), claim, leaseEnds, claim, finish(), finishLost(0)}, row{Seq: 1, Fence: 2, State: "DONE"}, 0},
		{"the first of two fails", []step{enqueue(), claim, leaseEnds, claim, retryLost}, row{Seq: 1, Fence: 2, State: "READY", Attempt: 1, LastError: store.HolderDied, Due: true, Held: true}, 0},
		{"the first of two extends", []step{enqueue(), claim, leaseEnds, claim, extendLost}, row{Seq: 1, Fence: 2, State: "READY", Attempt: 1, LastError: store.HolderDied, Due: true, Held: true}, 0},
		{"late, but nobody took over", []step{enqueue(), claim, leaseEnds, finish()}, row{Seq: 1, Fence: 1, State: "DONE"}, 0},
		{"extended in time", []step{enqueue(), claim, leaseEnds, extend, cannotClaim}, row{Seq: 1, Fence: 1, State: "READY", Due: true, Held: true}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &world{house: open(t)}
			for _, step := range test.steps {
				w.rings()
				step(t, w)
			}
			same(t, "rings", len(w.rings()), test.rung)
			got := w.house.job(t, "evaluate", "1")
			test.want.ID = got.ID
			// By how much a fence grows is nobody's business: want says how many claims there were.
			last := int64(0)
			for _, job := range w.held {
				if job.Fence <= last {
					t.Errorf("a claim has the fence %d after %d", job.Fence, last)
				}
				last = job.Fence
			}
			same(t, "fence", got.Fence, last)
			got.Fence = int64(len(w.held))
			same(t, "row", got, test.want)
		})
	}
}

func TestClaimedJobSaysWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1", Workspace: acme, Payload: map[string]int{"number": 7}},
		store.JobSpec{Kind: "sweep", Key: "global"})
	job := h.claim(t, h.job(t, "evaluate", "1").ID, alice)
	var payload map[string]int
	must(t, json.Unmarshal(job.Payload, &payload))
	same(t, "kind, key, workspace and number", fmt.Sprint(job.Kind, job.Key, job.Workspace, payload["number"]), fmt.Sprint("evaluate", "1", acme, 7))
	global := h.claim(t, h.job(t, "sweep", "global").ID, alice)
	same(t, "workspace and payload", global.Workspace+string(global.Payload), "{}")
}

// TestASeatIsFilledOnce: whoever keeps one gets it back from a transaction that fails, and from deliveries that ask for
// nothing new; and one is enough for a job that several deliveries ask for.
func TestASeatIsFilledOnce(t *testing.T) {
	t.Parallel()
	h := open(t)
	var kept int
	var claimed, left []string
	h.Seat = func(kind, _ string) (store.Seat, bool) {
		kept++
		return store.Seat{Holder: alice, Lease: time.Minute, Fill: func(job *store.Job) {
			if job == nil {
				left = append(left, kind)
			} else {
				claimed = append(claimed, job.Key)
			}
		}}, true
	}
	told := func(what string, wantKept int, wantClaimed string, wantLeft int) {
		t.Helper()
		same(t, what+": kept, claimed, left", fmt.Sprint(kept, claimed, len(left)), fmt.Sprintf("%d %s %d", wantKept, wantClaimed, wantLeft))
		kept, claimed, left = 0, nil, nil
	}
	spec := func(key string) store.JobSpec { return store.JobSpec{Kind: "evaluate", Key: key, Workspace: acme} }

	failed := errors.New("it failed")
	wantError(t, "the transaction", h.Outside(t.Context(), func(sh *store.Shared) error {
		must(t, sh.Enqueue(t.Context(), spec("1")))
		return failed
	}), failed)
	told("failed before its end", 0, "[]", 0)
	wantError(t, "the end", h.Outside(t.Context(), func(sh *store.Shared) error {
		must(t, sh.FinishJob(t.Context(), store.Claim{ID: 99, Seq: 1, Fence: 1}, time.Time{}))
		return sh.Enqueue(t.Context(), spec("1"))
	}), store.ErrLeaseLost)
	told("failed at its end", 1, "[]", 1)
	h.enqueue(t, spec("1"), spec("2"), spec("1"))
	told("two jobs", 2, "[1 2]", 0)

	delivery := func(request, key string) store.Delivery {
		return store.Delivery{
			RequestUUID: request, Workspace: acme, Repository: alice, EventKey: "pullrequest:created", Attempt: 1, Outcome: store.DeliveryParsed,
			Body: []byte("{}"), Jobs: []store.JobSpec{spec(key)},
		}
	}
	first, second := delivery(alice, "3"), delivery(bob, "3")
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{first, second}))
	told("deliveries", 1, "[3]", 0)
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{first}))
	told("a repeat", 1, "[]", 1)
	same(t, "rings", len(h.rings()), 0)
}

func TestEnqueueRefusesWhatIsNoJob(t *testing.T) {
	t.Parallel()
	h := open(t)
	for name, spec := range map[string]store.JobSpec{
		"no kind": {Key: "1"}, "no key": {Kind: "evaluate"}, "no JSON": {Kind: "evaluate", Key: "1", Payload: func() {}},
		"no workspace": {Kind: "evaluate", Key: "1", Workspace: "acme"},
	} {
		err := h.Outside(t.Context(), func(sh *store.Shared) error { return sh.Enqueue(t.Context(), spec) })
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestLostLeaseTakesItsEffectAlong: what a worker wrote with a claim that somebody has taken over
// does not stay.
func TestLostLeaseTakesItsEffectAlong(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
	id := h.job(t, "evaluate", "1").ID
	first := h.claim(t, id, alice)
	h.super(t, `update signedapproval_jobs set leased_until = now() - interval '1 second'`)
	second := h.claim(t, id, bob)
	effect := func(job store.Job, key string) error {
		return h.Outside(t.Context(), func(sh *store.Shared) error {
			must(t, sh.FinishJob(t.Context(), job.Claim, time.Time{}))
			return sh.Enqueue(t.Context(), store.JobSpec{Kind: "effect", Key: key})
		})
	}
	wantError(t, "the first worker", effect(first, "first"), store.ErrLeaseLost)
	must(t, effect(second, "second"))
	var effects string
	h.read(t, &effects, `select string_agg(key, ',') from signedapproval_jobs where kind = 'effect'`)
	same(t, "effects", effects, "second")
}

func TestReasonIsCutAndClean(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
	job := h.claim(t, h.job(t, "evaluate", "1").ID, alice)
	_, err := h.RetryJob(t.Context(), job.Claim, "nul \x00 bad \xff "+strings.Repeat("é", 1000), 0, true, 5)
	must(t, err)
	got := h.job(t, "evaluate", "1").LastError
	if !strings.HasPrefix(got, "nul  bad \uFFFD é") || len(got) > 510 || !strings.HasSuffix(got, "é…") {
		t.Errorf("last error = %d bytes %q", len(got), got)
	}
}

func TestDueJobs(t *testing.T) {
	t.Parallel()
	const epoch = 5
	for _, test := range []struct {
		name, change string // of a job that was asked for and dispatched in this epoch a moment ago
		want         bool
	}{
		{"just dispatched", ``, false},
		{"dispatched in another epoch", `dispatch_epoch = 4`, true},
		{"dispatched long ago", `dispatched_at = now() - interval '61 seconds'`, true},
		{"deferred just now", `dispatch_epoch = -1`, false},
		{"deferred for long enough", `dispatch_epoch = -1, dispatched_at = now() - interval '3 seconds'`, true},
		{"dispatched less long ago", `dispatched_at = now() - interval '59 seconds'`, false},
		{"became due since", `dispatched_at = now() - interval '10 seconds', run_at = now() - interval '5 seconds'`, true},
		{"its lease ran out since", `dispatched_at = now() - interval '10 seconds', leased_until = now() - interval '1 second', holder = gen_random_uuid()`, true},
		{"held", `dispatched_at = null, leased_until = now() + interval '1 minute', holder = gen_random_uuid(), updated_at = now() - interval '1 hour'`, false},
		{"not due", `dispatched_at = null, run_at = now() + interval '1 minute'`, false},
		{"its own ring is on its way", `dispatched_at = null, updated_at = now() - interval '1 second'`, false},
		{"its own ring was lost", `dispatched_at = null, updated_at = now() - interval '3 seconds'`, true},
		{"scheduled, and rung by nobody", `dispatched_at = null, updated_at = now() - interval '1 second', run_at = now() - interval '1 millisecond'`, true},
		{"rung, claimed, and its worker died", `dispatched_at = null, leased_until = now() - interval '1 millisecond', holder = gen_random_uuid()`, true},
		{"done", `dispatch_epoch = 4, state = 'DONE'`, false},
		{"dead", `dispatch_epoch = 4, state = 'DEAD'`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			h.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
			h.super(t, `update signedapproval_jobs set run_at = now() - interval '1 hour', updated_at = now() - interval '1 hour', dispatched_at = now(), dispatch_epoch = $1`, int64(epoch))
			if test.change != "" {
				h.super(t, `update signedapproval_jobs set `+test.change)
			}
			rings, _, err := h.DueJobs(t.Context(), epoch, 10)
			must(t, err)
			same(t, "due", len(rings) == 1, test.want)
			again, _, err := h.DueJobs(t.Context(), epoch, 10)
			must(t, err)
			same(t, "due again at once", len(again), 0)
			if test.want && (rings[0].Kind != "evaluate" || rings[0].Key != "1" || rings[0].ID == 0) {
				t.Errorf("ring = %+v", rings[0])
			}
		})
	}
}

func TestDueJobsShareTheWork(t *testing.T) {
	t.Parallel()
	h := open(t)
	var specs []store.JobSpec
	for n := range 100 {
		specs = append(specs, store.JobSpec{Kind: "evaluate", Key: fmt.Sprint(n)})
	}
	h.enqueue(t, specs...)
	h.super(t, `update signedapproval_jobs set updated_at = now() - interval '1 minute'`)
	var guard sync.Mutex
	seen := map[int64]int{}
	var sweepers sync.WaitGroup
	for range 4 {
		sweepers.Go(func() {
			for {
				rings, _, err := h.DueJobs(t.Context(), 1, 7)
				if err != nil {
					t.Error(err)
					return
				}
				if len(rings) == 0 {
					return
				}
				guard.Lock()
				for _, ring := range rings {
					seen[ring.ID]++
				}
				guard.Unlock()
			}
		})
	}
	sweepers.Wait()
	// A sweeper that found all the rest locked may stop early; nothing is left over all the same.
	rest, _, err := h.DueJobs(t.Context(), 1, 200)
	must(t, err)
	for _, ring := range rest {
		seen[ring.ID]++
	}
	same(t, "jobs dispatched", len(seen), 100)
	for id, times := range seen {
		if times != 1 {
			t.Errorf("job %d was dispatched %d times", id, times)
		}
	}
}

// TestDueJobsAreSharedOut: of one workspace with thousands that are due only a share is dispatched at a
// time, and others come before its second.
func TestDueJobsAreSharedOut(t *testing.T) {
	t.Parallel()
	h := open(t)
	var specs []store.JobSpec
	for n := range 1000 {
		specs = append(specs, store.JobSpec{Kind: "evaluate", Key: fmt.Sprint(n), Workspace: acme})
	}
	h.enqueue(t, specs...)
	h.super(t, `update signedapproval_jobs set run_at = now() - interval '1 hour', updated_at = now() - interval '1 hour'`)
	h.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "other", Workspace: globex})
	h.super(t, `update signedapproval_jobs set updated_at = now() - interval '1 minute' where key = 'other'`)

	first, next, err := h.DueJobs(t.Context(), 1, 2)
	must(t, err)
	var whose []string
	for _, ring := range first {
		whose = append(whose, ring.Workspace)
	}
	slices.Sort(whose)
	same(t, "the first two", fmt.Sprint(whose), fmt.Sprint([]string{acme, globex}))
	same(t, "next", next, 0)
	rest, _, err := h.DueJobs(t.Context(), 1, 5000)
	must(t, err)
	same(t, "the rest of the share", len(rest), 127)
	none, next, err := h.DueJobs(t.Context(), 1, 5000)
	must(t, err)
	same(t, "beyond the share", len(none), 0)
	same(t, "next", next, 0)

	// As they are claimed, others come.
	for _, ring := range rest[:10] {
		h.claim(t, ring.ID, alice)
	}
	more, _, err := h.DueJobs(t.Context(), 1, 5000)
	must(t, err)
	same(t, "as many as were claimed", len(more), 10)

	// Those that were put off come again, but not at once.
	var ids []int64
	for _, ring := range more {
		ids = append(ids, ring.ID)
	}
	must(t, h.DeferJobs(t.Context(), append(ids, rest[0].ID)))
	same(t, "put off", h.count(t, `signedapproval_jobs where dispatch_epoch = -1`), 10)
	none, _, err = h.DueJobs(t.Context(), 1, 5000)
	must(t, err)
	same(t, "at once", len(none), 0)
}

// TestWhenTheNextJobIsDue is what the sweep sleeps by.
func TestWhenTheNextJobIsDue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, change string // of a job that was just dispatched
		least, most  time.Duration
	}{
		{"just dispatched", ``, 50 * time.Second, time.Minute},
		{"done", `state = 'DONE'`, time.Hour, time.Hour},
		{"scheduled", `run_at = now() + interval '20 minutes'`, 15 * time.Minute, 20 * time.Minute},
		{"scheduled for later than anybody sleeps", `run_at = now() + interval '40 days'`, time.Hour, time.Hour},
		{"held", `leased_until = now() + interval '20 minutes', holder = gen_random_uuid()`, 15 * time.Minute, 20 * time.Minute},
		{"deferred", `dispatch_epoch = -1, dispatched_at = now() + interval '20 minutes'`, 15 * time.Minute, 21 * time.Minute},
		{"its own ring is on its way", `dispatched_at = null, updated_at = now() + interval '20 minutes'`, 15 * time.Minute, 21 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			h.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
			h.super(t, `update signedapproval_jobs set run_at = now() - interval '1 hour', updated_at = now() - interval '1 hour', dispatched_at = now(), dispatch_epoch = 1`)
			if test.change != "" {
				h.super(t, `update signedapproval_jobs set `+test.change)
			}
			_, next, err := h.DueJobs(t.Context(), 1, 10)
			must(t, err)
			if next < test.least || next > test.most {
				t.Errorf("next = %v, want %v to %v", next, test.least, test.most)
			}
		})
	}
}

func TestDeadJobsAreListedAndRequeued(t *testing.T) {
	t.Parallel()
	h := open(t)
	var want []string
	for n := range 5 {
		key := fmt.Sprint(n)
		want = append(want, key)
		h.enqueue(t, store.JobSpec{Kind: "merge", Key: key, Workspace: acme, Payload: map[string]int{"n": n}})
		job := h.claim(t, h.job(t, "merge", key).ID, alice)
		_, err := h.RetryJob(t.Context(), job.Claim, "refused", 0, true, 1)
		must(t, err)
	}
	var got []string
	var after store.DeadCursor
	for {
		page, err := h.DeadJobs(t.Context(), after, 2)
		must(t, err)
		if len(page) == 0 {
			break
		}
		for _, dead := range page {
			got, after = append(got, dead.Key), dead.Cursor()
			if dead.Kind != "merge" || dead.Workspace != acme || dead.LastError != "refused" || dead.Attempt != 1 || dead.DiedAt.IsZero() {
				t.Errorf("dead job = %+v", dead)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("dead jobs = %v, want %v", got, want)
	}
	must(t, h.RequeueJob(t.Context(), h.job(t, "merge", "2").ID))
	wantError(t, "requeue a job that is alive", h.RequeueJob(t.Context(), h.job(t, "merge", "2").ID), store.ErrNotFound)
	wantError(t, "requeue no job", h.RequeueJob(t.Context(), 987654), store.ErrNotFound)
	left, err := h.DeadJobs(t.Context(), store.DeadCursor{}, 10)
	must(t, err)
	same(t, "dead jobs left", len(left), 4)
}

func TestJobLag(t *testing.T) {
	t.Parallel()
	h := open(t)
	lag, err := h.JobLag(t.Context())
	must(t, err)
	same(t, "lag without jobs", lag, 0)
	h.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"}, store.JobSpec{Kind: "evaluate", Key: "2"})
	h.super(t, `update signedapproval_jobs set run_at = now() - interval '1 hour' where key = '1'`)
	lag, err = h.JobLag(t.Context())
	must(t, err)
	if lag < time.Hour || lag > 2*time.Hour {
		t.Errorf("lag = %v, want an hour", lag)
	}
	h.claim(t, h.job(t, "evaluate", "1").ID, alice)
	lag, err = h.JobLag(t.Context())
	must(t, err)
	if lag >= time.Hour {
		t.Errorf("lag = %v although the old job is held", lag)
	}
}

func TestUnattended(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme, globex)
	// A transaction of another workspace has used the connection before.
	must(t, h.InWorkspace(t.Context(), globex, func(*store.Tx) error { return nil }))
	for _, test := range []struct {
		name, change string
		want         int
	}{
		{"statuses that nobody pays", `select`, 2},
		{"one is paid", `update signedapproval_bitbucket_commit_statuses set paid_version = owed_version where workspace_id = '` + globex + `'`, 1},
		{"a job pays the other", `insert into signedapproval_jobs (kind, key, payload, state, run_at) values ('status', '` + acme + `:' || repeat('a', 40), '{}', 'READY', now())`, 0},
		{"a request has run out", `update signedapproval_approval_requests set expires_at = now() - interval '1 minute' where workspace_id = '` + globex + `'`, 1},
		{"a job evaluates it", `insert into signedapproval_jobs (kind, key, payload, state, run_at) values ('evaluate', '` + globex + `/` + globex + `:1', '{}', 'READY', now())`, 0},
	} {
		h.super(t, test.change)
		found, err := h.Unattended(t.Context(), 10)
		must(t, err)
		if len(found) != test.want {
			t.Errorf("%s: unattended = %v, want %d", test.name, found, test.want)
		}
	}
	one, err := h.Unattended(t.Context(), 0)
	must(t, err)
	same(t, "unattended, at most none", len(one), 0)
}

// TestNothingAskedForIsLost lets enqueuers and workers race on a few keys. Each request writes a
// number down before it is asked for; a worker reads the numbers and finishes. When the ledger is
// quiet, every number has been read.
func TestNothingAskedForIsLost(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const keys, askers, each = 3, 4, 40
	var guard sync.Mutex
	written, read := map[string]int{}, map[string]int{}
	var asking, working sync.WaitGroup
	for a := range askers {
		asking.Go(func() {
			for n := range each {
				key := fmt.Sprint((a + n) % keys)
				err := h.Outside(ctx, func(sh *store.Shared) error {
					guard.Lock()
					written[key]++
					guard.Unlock()
					return sh.Enqueue(ctx, store.JobSpec{Kind: "count", Key: key}, store.JobSpec{Kind: "other", Key: key})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	for range 3 {
		conn := connect(t, h.AppURL)
		working.Go(func() {
			for {
				var last bool
				select {
				case <-done:
					last = true
				default:
				}
				worked := false
				rows, err := conn.Query(ctx, `select id from signedapproval_jobs`)
				if err != nil {
					t.Error(err)
					return
				}
				ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
				if err != nil {
					t.Error(err)
					return
				}
				for _, id := range ids {
					job, ok, err := h.ClaimJob(ctx, id, alice, time.Minute)
					if err != nil {
						t.Error(err)
						return
					}
					if !ok {
						continue
					}
					worked = true
					guard.Lock()
					seen := written[job.Key]
					guard.Unlock()
					// The finish of one job asks for another, as evaluations ask for statuses.
					err = h.Outside(ctx, func(sh *store.Shared) error {
						if err := sh.FinishJob(ctx, job.Claim, time.Time{}); err != nil || job.Kind == "other" {
							return err
						}
						return sh.Enqueue(ctx, store.JobSpec{Kind: "other", Key: job.Key})
					})
					if err != nil {
						t.Errorf("finish %s %s: %v", job.Kind, job.Key, err)
						return
					}
					if job.Kind == "count" {
						guard.Lock()
						read[job.Key] = max(read[job.Key], seen)
						guard.Unlock()
					}
				}
				if last && !worked {
					return
				}
			}
		})
	}
	asking.Wait()
	close(done)
	working.Wait()
	var open int
	h.read(t, &open, `select count(*)::integer from signedapproval_jobs where state <> 'DONE' or holder is not null`)
	same(t, "jobs not done", open, 0)
	for key, n := range written {
		same(t, "numbers read of key "+key, read[key], n)
	}
}

func TestLease(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	claim, ok, err := h.TryLease(ctx, "refresh", acme, acme, alice, time.Minute)
	must(t, err)
	same(t, "taken", ok, true)
	_, ok, err = h.TryLease(ctx, "refresh", acme, acme, bob, time.Minute)
	must(t, err)
	same(t, "taken by another meanwhile", ok, false)

	// A job of that name waits for the lease, and is rung when it is given back.
	h.enqueue(t, store.JobSpec{Kind: "refresh", Key: acme, Workspace: acme})
	same(t, "rings while the lease is held", len(h.rings()), 0)
	_, ok, err = h.ClaimJob(ctx, claim.ID, bob, time.Minute)
	must(t, err)
	same(t, "claimed meanwhile", ok, false)
	within := func(fn func(*store.Shared) error) error { return h.Outside(ctx, fn) }
	must(t, within(func(sh *store.Shared) error { return sh.HoldLease(ctx, claim) }))
	must(t, within(func(sh *store.Shared) error { return sh.ReleaseLease(ctx, claim) }))
	same(t, "rings", strings.Join(h.rings(), ","), "refresh "+acme)
	wantError(t, "release twice", within(func(sh *store.Shared) error { return sh.ReleaseLease(ctx, claim) }), store.ErrLeaseLost)
	wantError(t, "hold what was released", within(func(sh *store.Shared) error { return sh.HoldLease(ctx, claim) }), store.ErrLeaseLost)
	job := h.claim(t, claim.ID, bob)
	same(t, "attempts", job.Attempt, 0)

	// While the job runs there is no lease; when its lease ran out there is.
	_, ok, err = h.TryLease(ctx, "refresh", acme, acme, alice, time.Minute)
	must(t, err)
	same(t, "taken while the job runs", ok, false)
	h.super(t, `update signedapproval_jobs set leased_until = now() - interval '1 second'`)
	_, ok, err = h.TryLease(ctx, "refresh", acme, acme, alice, time.Minute)
	must(t, err)
	same(t, "taken from a dead worker", ok, true)
	wantError(t, "the dead worker's finish", h.finish(ctx, job.Claim, time.Time{}), store.ErrLeaseLost)
}

func TestQueueEpoch(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	for _, test := range []struct {
		seen, floor, want int64
	}{{1, 0, 2}, {1, 0, 2}, {2, 9, 10}, {10, 3, 11}, {2, 99, 11}} {
		got, err := h.MoveQueueEpoch(ctx, test.seen, test.floor)
		must(t, err)
		same(t, fmt.Sprintf("epoch after moving from %d above %d", test.seen, test.floor), got, test.want)
	}
}

func TestSpentCalls(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	calls, known, err := h.Spent(ctx, "connection:1")
	must(t, err)
	same(t, "known", known, false)
	same(t, "calls", calls, 0)
	for range 2 {
		must(t, h.AddSpent(ctx, "connection:1", 30))
	}
	must(t, h.AddSpent(ctx, "connection:2", 5))
	calls, known, err = h.Spent(ctx, "connection:1")
	must(t, err)
	same(t, "known", known, true)
	same(t, "calls", calls, 60)

	// An hour later: somewhere between all of them and none.
	h.super(t, `update signedapproval_api_budgets set hour = hour - interval '1 hour'`)
	calls, _, err = h.Spent(ctx, "connection:1")
	must(t, err)
	if calls < 0 || calls > 60 {
		t.Errorf("calls = %d, want 0 to 60", calls)
	}
	h.super(t, `update signedapproval_api_budgets set hour = hour - interval '3 days'`)
	must(t, h.AddSpent(ctx, "connection:1", 1))
	var hours int
	h.read(t, &hours, `select count(*)::integer from signedapproval_api_budgets where token_key = 'connection:1'`)
	same(t, "hours kept", hours, 1)
}

func TestPostgresErrorsAreNotLeaseLost(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := h.finish(ctx, store.Claim{ID: 1}, time.Time{})
	if err == nil || errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("error = %v, want one that says nothing about the lease", err)
	}
}

// TestAClaimFindsItsJobByItsID, and reads no other job that is due, whatever PostgreSQL knew of them when it planned.
func TestAClaimFindsItsJobByItsID(t *testing.T) {
	t.Parallel()
	h := open(t)
	const jobs = 40
	specs := make([]store.JobSpec, jobs)
	for i := range specs {
		specs[i] = store.JobSpec{Kind: "kind", Key: fmt.Sprint(i)}
	}
	h.enqueue(t, specs...)
	var first int64
	h.read(t, &first, `select min(id) from signedapproval_jobs`)
	h.Close() // what it counted is not counted any more
	outside := connect(t, h.SuperURL)
	scans := func(index string) (n int64) {
		must(t, outside.QueryRow(t.Context(), `select idx_scan from pg_stat_user_indexes where indexrelname = $1`, index).Scan(&n))
		return n
	}
	due := scans("signedapproval_jobs_run_at_idx")
	s := reopen(t, h.AppURL, store.NewKeyset())
	for i := range int64(jobs) {
		_, ok, err := s.ClaimJob(t.Context(), first+i, uuid(1), time.Minute)
		must(t, err)
		same(t, "claimed", ok, true)
	}
	s.Close()
	eventually(t, "its scans are counted", func() bool {
		return scans("signedapproval_jobs_pkey")+scans("signedapproval_jobs_run_at_idx") >= jobs+due
	})
	same(t, "scans of what is due", scans("signedapproval_jobs_run_at_idx"), due)
}
