package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestFlush loses all of Redis while jobs come in: every job is done, and the epoch moves.
func TestFlush(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T) (url string, flush func()){
		"redis": func(t *testing.T) (string, func()) {
			server := redistest.Start(t)
			return server.URL(), func() { must(t, server.Client(t).FlushAll(t.Context()).Err()) }
		},
		"miniredis": func(t *testing.T) (string, func()) {
			server := miniredis.RunT(t)
			return "redis://" + server.Addr(), server.FlushAll
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, flush := begin(t)
			w := newWorld(t, url)
			q, other := w.queue(t, jobs.Options{}), w.queue(t, jobs.Options{})
			var blind atomic.Bool // the sweeps find nothing
			for _, q := range []*jobs.Queue{q, other} {
				due := q.Ledger.Due
				q.Ledger.Due = func(ctx context.Context, epoch int64, limit int) ([]jobs.Ring, time.Duration, error) {
					if blind.Load() {
						return nil, time.Hour, nil
					}
					return due(ctx, epoch, limit)
				}
				q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
				run(t, q)
			}
			w.rung(q)
			w.enqueueMany(t, "evaluate", 20)
			eventually(t, "the first jobs are done", w.allDone(t))
			before, err := w.QueueEpoch(t.Context())
			must(t, err)
			for range 3 {
				w.enqueueMany(t, "evaluate", 200)
				flush()
			}
			eventually(t, "all jobs are done", w.allDone(t))
			eventually(t, "a new epoch began, and Redis has it", func() bool {
				epoch, err := w.QueueEpoch(t.Context())
				must(t, err)
				found, err := w.client(t).Get(t.Context(), w.prefix+":epoch").Int64()
				return err == nil && epoch > before && found == epoch
			})
			// And the bell works again: a job is done although no sweep finds it.
			blind.Store(true)
			w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "after"})
			eventually(t, "the job is done", w.allDone(t))
		})
	}
}

// TestRedisDies kills Redis under load. While it is away jobs are done from the ledger; when it is
// back, empty, they go through it again.
func TestRedisDies(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	w := newWorld(t, server.URL())
	q := w.queue(t, jobs.Options{})
	q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
	q.Handle("reconcile", jobs.HandlerOptions{Background: true}, w.finish)
	w.rung(q)
	run(t, q)
	w.enqueueMany(t, "evaluate", 20)
	eventually(t, "jobs are done through Redis", w.allDone(t))
	rung := q.Stats().Rung

	w.enqueueMany(t, "evaluate", 100)
	server.Kill(t)
	w.enqueueMany(t, "evaluate", 300)
	w.enqueueMany(t, "reconcile", 50)
	eventually(t, "jobs are done without Redis", w.allDone(t))
	same(t, "Down", q.Stats().Down, true)
	w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "one more"})
	eventually(t, "a job is done without Redis", w.allDone(t))

	server.Restart(t)
	eventually(t, "Redis is back", func() bool { return !q.Stats().Down })
	eventually(t, "rings go through Redis", func() bool {
		w.enqueueMany(t, "evaluate", 5)
		eventually(t, "jobs are done", w.allDone(t))
		return q.Stats().Rung > rung+100
	})
}

// TestRedisHangs freezes Redis: connections stay, answers do not come.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	w := newWorld(t, server.URL())
	q := w.queue(t, jobs.Options{})
	q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
	w.rung(q)
	run(t, q)
	w.enqueueMany(t, "evaluate", 5)
	eventually(t, "jobs are done through Redis", w.allDone(t))
	server.Pause(t)
	w.enqueueMany(t, "evaluate", 50)
	eventually(t, "jobs are done although Redis hangs", w.allDone(t))
	server.Resume(t)
	eventually(t, "Redis is back", func() bool { return !q.Stats().Down })
	w.enqueueMany(t, "evaluate", 50)
	eventually(t, "jobs are done through Redis", w.allDone(t))
}

// TestRestartedRedisIsNoticed: one that was replaced by another which bears the same epoch, as after
// a fail-over that lost the last writes, is not believed.
func TestRestartedRedisIsNoticed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	w := newWorld(t, server.URL())
	q := w.queue(t, jobs.Options{})
	q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
	first, err := q.SweepOnce(t.Context())
	must(t, err)
	calm, err := q.SweepOnce(t.Context())
	must(t, err)
	if calm.Healed || calm.Epoch != first.Epoch {
		t.Fatalf("a second sweep = %+v after %+v, want nothing new", calm, first)
	}
	server.Kill(t)
	server.Restart(t)
	must(t, w.client(t).Set(t.Context(), w.prefix+":epoch", first.Epoch, 0).Err())
	after, err := q.SweepOnce(t.Context())
	must(t, err)
	if !after.Healed || after.Epoch <= first.Epoch {
		t.Errorf("the sweep after the restart = %+v, want a new epoch after %d", after, first.Epoch)
	}
}

func TestSweepOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{})
		q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
		swept, err := q.SweepOnce(t.Context())
		must(t, err)
		if !swept.Healed || swept.Degraded || swept.Dispatched != 0 {
			t.Errorf("the first sweep = %+v, want a new epoch and nothing else", swept)
		}
		// Due for long, and rung by nobody: of a workspace and kind a share is dispatched at a time.
		for _, kind := range []string{"evaluate", "status", "merge", "fan", "builds"} {
			w.enqueueMany(t, kind, 110)
		}
		w.super(t, `update signedapproval_jobs set updated_at = now() - interval '1 minute'`)
		again, err := q.SweepOnce(t.Context())
		must(t, err)
		if again.Healed || again.Dispatched != 550 || again.Epoch != swept.Epoch || again.Calm {
			t.Errorf("the second sweep = %+v, want 550 jobs dispatched in epoch %d", again, swept.Epoch)
		}
		same(t, "entries", w.entries(t), 550)
		idle, err := q.SweepOnce(t.Context())
		must(t, err)
		same(t, "dispatched by a third", idle.Dispatched, 0)

		// Redis says something later than the ledger: the ledger was restored from a backup.
		must(t, w.client(t).Set(t.Context(), w.prefix+":epoch", 1000, 0).Err())
		restored, err := q.SweepOnce(t.Context())
		must(t, err)
		if !restored.Healed || restored.Epoch != 1001 || restored.Dispatched != 550 {
			t.Errorf("the sweep after a restore = %+v, want epoch 1001 and all jobs dispatched again", restored)
		}
	})
}

// TestTwoReplicasHealToOneEpoch lets replicas notice the same loss at the same time.
func TestTwoReplicasHealToOneEpoch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		done := make(chan error, 4)
		for range cap(done) {
			q := w.queue(t, jobs.Options{})
			go func() {
				_, err := q.SweepOnce(context.WithoutCancel(t.Context()))
				done <- err
			}()
		}
		for range cap(done) {
			must(t, <-done)
		}
		q := w.queue(t, jobs.Options{})
		eventually(t, "the ledger and Redis agree", func() bool {
			swept, err := q.SweepOnce(t.Context())
			must(t, err)
			return !swept.Healed
		})
	})
}

func TestSweepWithoutTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	q := w.queue(t, jobs.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cancel()
	if _, err := q.SweepOnce(ctx); err == nil {
		t.Error("a sweep without the ledger is no error")
	}
}

// TestAJobIsGivenBackThoughTheLedgerStumbles: the handler fails because the ledger does, which is
// there again a moment later. The job does not wait for the end of its lease.
func TestAJobIsGivenBackThoughTheLedgerStumbles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	q := w.queue(t, jobs.Options{})
	var stumbles atomic.Int32
	retry := q.Ledger.Retry
	q.Ledger.Retry = func(ctx context.Context, claim jobs.Claim, reason string, after time.Duration, burn bool, most int) (bool, error) {
		if stumbles.Add(1) <= 2 {
			return false, errors.New("the connection was cut")
		}
		return retry(ctx, claim, reason, after, burn, most)
	}
	var failed atomic.Bool
	q.Handle("evaluate", jobs.HandlerOptions{Lease: time.Hour}, func(ctx context.Context, job jobs.Job) error {
		if !failed.Swap(true) {
			return errors.New("the connection was cut")
		}
		return w.finish(ctx, job)
	})
	run(t, q)
	w.rung(q)
	w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "one"})
	eventually(t, "the job is done", w.allDone(t))
	same(t, "times that it was given back", stumbles.Load(), 3)
}

// TestAClaimThatStumblesIsTriedAgain: the ring of a job that could not be claimed is not lost, whether
// or not it came through Redis. No later sweep helps: this ledger names each due job once.
func TestAClaimThatStumblesIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, alive := range []bool{true, false} {
		t.Run(fmt.Sprintf("Redis lives: %t", alive), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			w := newWorld(t, server.URL())
			q := w.queue(t, jobs.Options{})
			var stumbles, named atomic.Int32
			claim, due := q.Ledger.Claim, q.Ledger.Due
			q.Ledger.Claim = func(ctx context.Context, id int64, holder string, lease time.Duration) (jobs.Job, bool, error) {
				if stumbles.Add(1) <= 2 {
					return jobs.Job{}, false, errors.New("the connection was cut")
				}
				return claim(ctx, id, holder, lease)
			}
			q.Ledger.Due = func(ctx context.Context, epoch int64, limit int) ([]jobs.Ring, time.Duration, error) {
				if named.Load() > 0 {
					return nil, time.Hour, nil
				}
				rings, next, err := due(ctx, epoch, limit)
				named.Add(int32(len(rings)))
				return rings, next, err
			}
			q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
			if !alive {
				server.Kill(t)
			}
			run(t, q)
			w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "one"})
			eventually(t, "the job is done", w.allDone(t))
			if n := stumbles.Load(); n < 3 { // and more where this one is so slow that it takes over from itself
				t.Errorf("%d claims", n)
			}
			same(t, "times that a sweep named it", named.Load(), 1)
		})
	}
}
