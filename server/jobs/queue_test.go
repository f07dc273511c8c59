package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

func TestJobsAreDone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{})
		q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
		q.Handle("reconcile", jobs.HandlerOptions{Background: true}, w.finish)
		w.rung(q)
		run(t, q)
		w.enqueueMany(t, "evaluate", 60)
		w.enqueueMany(t, "reconcile", 20)
		eventually(t, "all jobs are done", w.allDone(t))
		for i := range 60 {
			same(t, fmt.Sprint("runs of evaluate ", i), w.runs("evaluate", fmt.Sprint(i)), 1)
		}
		// An entry is removed once its job was claimed: the streams do not grow.
		eventually(t, "the streams are empty", func() bool { return w.entries(t) == 0 })
		// A worker counts its job after it has finished it.
		eventually(t, "all are counted, and none is running", func() bool {
			stats := q.Stats()
			return stats.Done >= 80 && stats.Running+stats.RunningBackground == 0
		})
		same(t, "Done", q.Stats().Done, 80)
	})
}

func TestHandlerSeesItsJob(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{})
		seen := make(chan jobs.Job, 1)
		q.Handle("evaluate", jobs.HandlerOptions{}, func(ctx context.Context, job jobs.Job) error {
			seen <- job
			return w.finish(ctx, job)
		})
		w.rung(q)
		run(t, q)
		w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "r:7", Workspace: workspace, Payload: map[string]int{"number": 7}})
		job := <-seen
		var payload map[string]int
		must(t, json.Unmarshal(job.Payload, &payload))
		same(t, "kind, key, workspace, number, attempt",
			fmt.Sprint(job.Kind, job.Key, job.Workspace, payload["number"], job.Attempt), fmt.Sprint("evaluate", "r:7", workspace, 7, 0))
	})
}

// TestLostRingsAreFound: nothing rings, and the sweep finds the work.
func TestLostRingsAreFound(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{})
		q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
		run(t, q)
		w.enqueueMany(t, "evaluate", 10)
		eventually(t, "all jobs are done", w.allDone(t))
		if swept := q.Stats().Swept; swept < 10 {
			t.Errorf("Swept = %d, want all of the 10 jobs", swept)
		}
	})
}

func TestDelayedJobsWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	q := w.queue(t, jobs.Options{})
	q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
	w.rung(q)
	run(t, q)
	w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "later", RunAt: time.Now().Add(time.Hour)},
		store.JobSpec{Kind: "evaluate", Key: "soon", RunAt: time.Now().Add(300 * time.Millisecond)})
	eventually(t, "the job that came due is done", func() bool { return w.runs("evaluate", "soon") == 1 })
	same(t, "runs of the job that is not due", w.runs("evaluate", "later"), 0)
	w.super(t, `update signedapproval_jobs set run_at = now() where key = 'later'`)
	eventually(t, "the other came due", w.allDone(t))
}

func TestDuplicateRingsRunOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q, other := w.queue(t, jobs.Options{}), w.queue(t, jobs.Options{})
		gate := newGate(t)
		for _, q := range []*jobs.Queue{q, other} {
			q.Handle("evaluate", jobs.HandlerOptions{}, func(ctx context.Context, job jobs.Job) error {
				if err := gate.pass(ctx, job); err != nil {
					return err
				}
				return w.finish(ctx, job)
			})
			run(t, q)
		}
		w.Ring = func(ctx context.Context, rings []store.Ring) {
			for range 10 {
				q.Ring(ctx, toJobs(rings))
				other.Ring(ctx, toJobs(rings))
			}
		}
		w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
		gate.await(t, 1)
		eventually(t, "the other rings found nothing to claim", func() bool {
			return q.Stats().Duplicates+other.Stats().Duplicates >= 19
		})
		gate.open()
		eventually(t, "the job is done", w.allDone(t))
		same(t, "runs", w.runs("evaluate", "1"), 1)
		same(t, "begun besides", len(gate.inside), 0)
	})
}

// TestAskedForWhileItRuns: what came meanwhile is looked at afterwards, once.
func TestAskedForWhileItRuns(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{})
		gate := newGate(t)
		q.Handle("evaluate", jobs.HandlerOptions{}, func(ctx context.Context, job jobs.Job) error {
			if err := gate.pass(ctx, job); err != nil {
				return err
			}
			return w.finish(ctx, job)
		})
		w.rung(q)
		run(t, q)
		w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
		gate.await(t, 1)
		for range 5 {
			w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
		}
		gate.open()
		eventually(t, "all is done", w.allDone(t))
		same(t, "runs", w.runs("evaluate", "1"), 2)
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		outcomes := make(chan string, 100)
		q := w.queue(t, jobs.Options{Observe: func(kind, outcome string, _ time.Duration) { outcomes <- kind + " " + outcome }})
		var fails, throttles atomic.Int32
		q.Handle("flaky", jobs.HandlerOptions{}, func(ctx context.Context, job jobs.Job) error {
			if fails.Add(1) == 1 {
				return errFailed
			}
			same(t, "attempt", job.Attempt, 1)
			return w.finish(ctx, job)
		})
		q.Handle("throttled", jobs.HandlerOptions{}, func(ctx context.Context, job jobs.Job) error {
			same(t, "attempt of a throttled job", job.Attempt, 0)
			if throttles.Add(1) == 1 {
				return fmt.Errorf("call: %w", jobs.Later(errFailed, time.Now()))
			}
			return w.finish(ctx, job)
		})
		q.Handle("hopeless", jobs.HandlerOptions{}, func(context.Context, jobs.Job) error {
			return fmt.Errorf("merge: %w", jobs.Permanent(errFailed))
		})
		q.Handle("panics", jobs.HandlerOptions{MaxAttempts: 1}, func(context.Context, jobs.Job) error { panic("a fault") })
		q.Handle("poison", jobs.HandlerOptions{MaxAttempts: 2}, func(context.Context, jobs.Job) error { return errFailed })
		w.rung(q)
		run(t, q)
		for _, kind := range []string{"flaky", "throttled", "hopeless", "panics", "poison"} {
			w.enqueue(t, store.JobSpec{Kind: kind, Key: "1"})
		}
		eventually(t, "two jobs are done and three dead", func() bool {
			return w.jobs(t, `state = 'DONE'`) == 2 && w.jobs(t, `state = 'DEAD'`) == 3
		})
		dead, err := w.DeadJobs(t.Context(), store.DeadCursor{}, 10)
		must(t, err)
		reasons := map[string]string{}
		for _, d := range dead {
			reasons[d.Kind] = fmt.Sprint(d.Attempt, " ", d.LastError)
		}
		same(t, "hopeless", reasons["hopeless"], "1 merge: it failed")
		same(t, "panics", reasons["panics"], "1 panic: a fault")
		same(t, "poison", reasons["poison"], "2 it failed")
		eventually(t, "all outcomes are told", func() bool { return len(outcomes) == 8 })
		told := map[string]int{}
		for range 8 {
			told[<-outcomes]++
		}
		for outcome, n := range map[string]int{
			"flaky retried": 1, "flaky done": 1, "throttled throttled": 1, "throttled done": 1, "hopeless dead": 1,
			"panics dead": 1, "poison retried": 1, "poison dead": 1,
		} {
			same(t, outcome, told[outcome], n)
		}
		stats := q.Stats()
		same(t, "Dead", stats.Dead, 3)
		same(t, "Retried", stats.Retried, 2)
		same(t, "Throttled", stats.Throttled, 1)
		same(t, "Panics", stats.Panics, 1)
	})
}

func TestRequeuedJobRunsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	q := w.queue(t, jobs.Options{})
	var cured atomic.Bool
	q.Handle("merge", jobs.HandlerOptions{}, func(ctx context.Context, job jobs.Job) error {
		if !cured.Load() {
			return jobs.Permanent(errFailed)
		}
		return w.finish(ctx, job)
	})
	w.rung(q)
	run(t, q)
	w.enqueue(t, store.JobSpec{Kind: "merge", Key: "1"})
	eventually(t, "the job is dead", func() bool { return w.jobs(t, `state = 'DEAD'`) == 1 })
	cured.Store(true)
	dead, err := w.DeadJobs(t.Context(), store.DeadCursor{}, 1)
	must(t, err)
	must(t, w.RequeueJob(t.Context(), dead[0].ID))
	eventually(t, "the job is done", w.allDone(t))
}

// TestUnknownKindStaysDue: another version of the program may know it.
func TestUnknownKindStaysDue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		older := w.queue(t, jobs.Options{})
		w.rung(older)
		stop := run(t, older)
		w.enqueue(t, store.JobSpec{Kind: "novel", Key: "1"})
		eventually(t, "the older one has seen it", func() bool { return older.Stats().Unknown > 0 })
		same(t, "due and untouched", w.jobs(t, `state = 'READY' and attempt = 0 and fence = 0`), 1)
		stop()
		newer := w.queue(t, jobs.Options{})
		newer.Handle("novel", jobs.HandlerOptions{}, w.finish)
		run(t, newer)
		w.super(t, `update signedapproval_jobs set dispatched_at = now() - interval '61 seconds', updated_at = now() - interval '61 seconds'`)
		eventually(t, "the newer one has done it", w.allDone(t))
	})
}

// TestEntryOfADeadReader: a process that read an entry and died before it claimed the job, and one
// whose acknowledgement got lost.
func TestEntryOfADeadReader(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		client := w.client(t)
		q := w.queue(t, jobs.Options{})
		q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
		swept, err := q.SweepOnce(t.Context()) // makes the groups
		must(t, err)

		w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "read"}, store.JobSpec{Kind: "evaluate", Key: "done"})
		var ids [2]int64
		for i, key := range []string{"read", "done"} {
			w.read(t, &ids[i], `select id from signedapproval_jobs where key = $1`, key)
			for _, stream := range w.streams()[1:2] {
				must(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: map[string]any{"id": ids[i], "kind": "evaluate", "key": key}}).Err())
			}
		}
		stream := w.streams()[1]
		got, err := client.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "workers", Consumer: "dead", Streams: []string{stream, ">"}}).Result()
		must(t, err)
		same(t, "entries that the dead one read", len(got[0].Messages), 2)
		job, ok, err := w.ClaimJob(t.Context(), ids[1], workspace, time.Minute)
		must(t, err)
		same(t, "claimed by the dead one", ok, true)
		must(t, w.finish(t.Context(), jobs.Job{Claim: jobs.Claim(job.Claim), Kind: "evaluate", Key: "done"}))

		// The ledger must not be what finds it: to it, the ring is on its way.
		w.super(t, `update signedapproval_jobs set dispatched_at = now(), dispatch_epoch = $1`, swept.Epoch)

		run(t, q)
		eventually(t, "the job that was only read is done", w.allDone(t))
		eventually(t, "no entry is left", func() bool { return w.entries(t) == 0 })
		same(t, "runs of the job that was done", w.runs("evaluate", "done"), 1)
		if n := q.Stats().Reclaimed; n < 2 { // and more where this one is so slow that it takes over from itself
			t.Errorf("it took over %d entries", n)
		}
	})
}

func TestForeignEntryIsRemoved(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{})
		run(t, q)
		must(t, w.client(t).XAdd(t.Context(), &redis.XAddArgs{Stream: w.streams()[1], Values: map[string]any{"what": "ever"}}).Err())
		eventually(t, "the entry is gone", func() bool { return w.entries(t) == 0 })
	})
}

// TestLeaseLost: a worker whose job was taken over is told to stop, and gives nothing back.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	outcomes := make(chan string, 10)
	q := w.queue(t, jobs.Options{Observe: func(_, outcome string, _ time.Duration) { outcomes <- outcome }})
	gate := newGate(t)
	causes := make(chan error, 1)
	// Long enough for a busy machine to extend it in time: it must be lost to somebody, not run out.
	q.Handle("evaluate", jobs.HandlerOptions{Lease: 9 * time.Second}, func(ctx context.Context, job jobs.Job) error {
		err := gate.pass(ctx, job)
		causes <- context.Cause(ctx)
		return err
	})
	w.rung(q)
	run(t, q)
	w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
	gate.await(t, 1)
	w.super(t, `update signedapproval_jobs set fence = fence + 1, holder = $1, leased_until = now() + interval '1 hour'`, workspace)
	if cause := <-causes; !errors.Is(cause, store.ErrLeaseLost) {
		t.Errorf("the handler's context ended because of %v, want a lost lease", cause)
	}
	same(t, "outcome", <-outcomes, jobs.OutcomeLeaseLost)
	same(t, "still the other's", w.jobs(t, `fence = 2 and holder is not null and attempt = 0 and last_error = ''`), 1)
}

// TestLongJobKeepsItsLease: a job that runs much longer than its lease is not taken over.
func TestLongJobKeepsItsLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	gate := newGate(t)
	var fences []int64
	const lease = 6 * time.Second // extended every third of it, so that a busy machine may be late by the rest
	for range 2 {
		q := w.queue(t, jobs.Options{})
		q.Handle("evaluate", jobs.HandlerOptions{Lease: lease}, func(ctx context.Context, job jobs.Job) error {
			if err := gate.pass(ctx, job); err != nil {
				return err
			}
			fences = append(fences, job.Fence)
			return w.finish(ctx, job)
		})
		w.rung(q)
		run(t, q)
	}
	w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
	gate.await(t, 1)
	var first, until time.Time
	w.read(t, &first, `select leased_until from signedapproval_jobs`)
	eventually(t, "the lease was extended beyond its first end, twice over", func() bool {
		w.read(t, &until, `select leased_until from signedapproval_jobs`)
		return until.Sub(first) > 2*lease
	})
	gate.open()
	eventually(t, "the job is done", w.allDone(t))
	same(t, "claims", fmt.Sprint(fences), "[1]")
}

// TestHungHandlerLosesItsLease: one that obeys nothing does not keep its job for ever.
func TestHungHandlerLosesItsLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	q := w.queue(t, jobs.Options{Grace: 100 * time.Millisecond})
	hung := make(chan struct{})
	t.Cleanup(func() { close(hung) })
	var calls atomic.Int32
	q.Handle("evaluate", jobs.HandlerOptions{Lease: 2 * time.Second, Timeout: 100 * time.Millisecond}, func(ctx context.Context, job jobs.Job) error {
		if calls.Add(1) == 1 {
			<-hung
		}
		return w.finish(context.WithoutCancel(ctx), job) // Timeout is for the one that hangs
	})
	w.rung(q)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err == nil { // after Grace
			t.Error("Run does not say that a handler is still running")
		}
	})
	w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "1"})
	eventually(t, "the job was done by somebody else", w.allDone(t))
	same(t, "runs", w.runs("evaluate", "1"), 1)
	if n := calls.Load(); n < 2 { // a busy machine may miss Timeout once more; what is done is done once all the same
		t.Errorf("%d calls: the hung one kept the job", n)
	}
}

// TestSlowJobsHoldUpNobody: jobs that wait move to the reserve; background kinds have slots of their
// own.
func TestSlowJobsHoldUpNobody(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{Concurrency: 2, Reserve: 6, Background: 1, Slow: 20 * time.Millisecond})
		gate := newGate(t)
		stuck := func(ctx context.Context, job jobs.Job) error {
			if err := gate.pass(ctx, job); err != nil {
				return err
			}
			return w.finish(ctx, job)
		}
		q.Handle("slow", jobs.HandlerOptions{}, stuck)
		q.Handle("reconcile", jobs.HandlerOptions{Background: true}, stuck)
		q.Handle("quick", jobs.HandlerOptions{}, w.finish)
		w.rung(q)
		run(t, q)
		w.enqueueMany(t, "reconcile", 20)
		w.enqueueMany(t, "slow", 6)
		gate.await(t, 7) // six slow ones, and one of the background
		w.enqueueMany(t, "quick", 30)
		eventually(t, "the quick ones are done", func() bool { return w.jobs(t, `kind = 'quick' and state = 'DONE'`) == 30 })
		// Those that are just done may count still, and the last of the slow ones not yet.
		eventually(t, "six slow ones are running, and one of the background", func() bool {
			stats := q.Stats()
			return stats.RunningSlow == 6 && stats.RunningBackground == 1
		})
		gate.open()
		eventually(t, "all are done", w.allDone(t))
	})
}

// TestStop: running jobs end, what was read and not begun goes back, and what does not end in time
// goes back without blame.
func TestStop(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{Concurrency: 2, Reserve: 1, Slow: time.Hour})
		gate := newGate(t)
		polite := make(chan struct{})
		q.Handle("polite", jobs.HandlerOptions{}, func(ctx context.Context, job jobs.Job) error {
			gate.inside <- job.Key
			<-polite
			return w.finish(ctx, job)
		})
		q.Handle("stuck", jobs.HandlerOptions{}, gate.pass)
		q.Handle("next", jobs.HandlerOptions{}, w.finish)
		w.rung(q)
		stop := run(t, q)
		w.enqueue(t, store.JobSpec{Kind: "polite", Key: "polite"}, store.JobSpec{Kind: "stuck", Key: "stuck"})
		gate.await(t, 2)
		w.enqueueMany(t, "next", 10)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			stop()
		}()
		close(polite)
		<-stopped
		same(t, "the polite one is done", w.jobs(t, `kind = 'polite' and state = 'DONE'`), 1)
		same(t, "the stuck one went back", w.jobs(t, `kind = 'stuck' and state = 'READY' and attempt = 0 and holder is null and run_at <= now()`), 1)
		same(t, "begun after the stop", w.jobs(t, `kind = 'next' and fence > 0`), w.jobs(t, `kind = 'next' and state = 'DONE'`))

		// Another replica gets at them without waiting for anything to run out.
		other := w.queue(t, jobs.Options{MinIdle: time.Hour})
		other.Handle("stuck", jobs.HandlerOptions{}, w.finish)
		other.Handle("next", jobs.HandlerOptions{}, w.finish)
		run(t, other)
		eventually(t, "all are done", w.allDone(t))
	})
}

func TestConsumersAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	q := w.queue(t, jobs.Options{})
	q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
	w.rung(q)
	stop := run(t, q)
	w.enqueueMany(t, "evaluate", 40) // some on each stream: Redis makes a consumer with its first entry
	eventually(t, "all jobs are done", w.allDone(t))
	client := w.client(t)
	consumers := func() int {
		all, err := client.XInfoConsumers(t.Context(), w.streams()[1], "workers").Result()
		if err != nil {
			return -1
		}
		return len(all)
	}
	same(t, "consumers", consumers(), 1)
	eventually(t, "no entry is left", func() bool { return w.entries(t) == 0 })
	stop()
	same(t, "consumers after the stop", consumers(), 0)
}

func TestNewWantsAWholeLedger(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a queue was made without a ledger")
		}
	}()
	jobs.New(jobs.Options{Redis: redis.NewClient(&redis.Options{})})
}

func TestConnectDoesNotQuoteThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"redis://:hunter2@[bad", "redis+cluster://:hunter2@[bad", "redis+sentinel://:hunter2@[bad", "redis+what://:hunter2@h:1", "hunter2"} {
		client, err := jobs.Connect(url)
		if err == nil {
			_ = client.Close()
			t.Errorf("Connect(%q) made a client", url)
		} else if got := err.Error(); got != "jobs: the Redis URL cannot be parsed" {
			t.Errorf("Connect(%q): error %q", url, got)
		}
	}
}
