package jobs_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

const quietWorkspace = "bbbbbbbb-0000-4000-8000-000000000002"

// TestANoisyWorkspaceHoldsUpNobody: one has 5,000 jobs that are due and that all hang, another has one.
// It is done after those that run already, and no more, in whatever way the 5,000 became due.
func TestANoisyWorkspaceHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const noise, concurrency = 5000, 4
	for _, test := range []struct {
		replicas int
		rung     bool // by their transactions; else the sweep finds them
	}{{1, true}, {1, false}, {3, true}, {3, false}} {
		t.Run(fmt.Sprintf("%d processes, rung %t", test.replicas, test.rung), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, redistest.URL(t))
			begun := make(chan struct{}, noise)
			gate := make(chan struct{})
			release := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(release)
			var noisy, before atomic.Int64 // those of the noisy one that were begun, and that had been when the other's was
			before.Store(-1)
			var queues []*jobs.Queue
			for range test.replicas {
				q := w.queue(t, jobs.Options{Concurrency: concurrency, Reserve: 1})
				q.Handle("evaluate", jobs.HandlerOptions{}, func(ctx context.Context, job jobs.Job) error {
					if job.Workspace == quietWorkspace {
						before.Store(noisy.Load())
						return w.finish(ctx, job)
					}
					noisy.Add(1)
					begun <- struct{}{}
					select {
					case <-gate:
					case <-ctx.Done():
						return ctx.Err()
					}
					return w.finish(ctx, job)
				})
				queues = append(queues, q)
			}
			waiting := func() (n int) {
				for _, q := range queues {
					n += q.Stats().Waiting
				}
				return n
			}
			if test.rung {
				w.rung(queues[0])
			}
			w.enqueueMany(t, "evaluate", noise)
			if !test.rung {
				w.super(t, `update signedapproval_jobs set updated_at = now() - interval '1 minute'`)
			}
			for _, q := range queues {
				run(t, q)
			}
			// All places that one workspace may have are taken, and its jobs wait for more.
			for range test.replicas * concurrency {
				<-begun
			}
			eventually(t, "others of the noisy one wait", func() bool { return waiting() > 50 })
			w.rung(queues[0])
			w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "the other's", Workspace: quietWorkspace})
			eventually(t, "the other's job is done although all those hang", func() bool {
				return w.jobs(t, `workspace_id = '`+quietWorkspace+`' and state = 'DONE'`) == 1
			})
			same(t, "jobs of the noisy workspace that began before it", before.Load(), int64(test.replicas*concurrency))
			release()
		})
	}
}

// TestPoisonHoldsUpNobody: jobs that always panic, and jobs that always fail, are tried again and again
// while the others of their workspace are done, and end among the dead.
func TestPoisonHoldsUpNobody(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{Concurrency: 2, Reserve: 1})
		q.Handle("panics", jobs.HandlerOptions{MaxAttempts: 3}, func(context.Context, jobs.Job) error { panic("poison") })
		q.Handle("fails", jobs.HandlerOptions{MaxAttempts: 3}, func(context.Context, jobs.Job) error { return errFailed })
		q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
		w.rung(q)
		run(t, q)
		w.enqueueMany(t, "panics", 10)
		w.enqueueMany(t, "fails", 10)
		w.enqueueMany(t, "evaluate", 50)
		eventually(t, "the others are done", func() bool { return w.jobs(t, `kind = 'evaluate' and state = 'DONE'`) == 50 })
		eventually(t, "the poison is dead", func() bool { return w.jobs(t, `kind <> 'evaluate' and state = 'DEAD' and attempt = 3`) == 20 })
		// A worker counts after it has given back.
		eventually(t, "each was tried three times", func() bool { return q.Stats().Retried+q.Stats().Dead >= 60 })
		same(t, "attempts", q.Stats().Retried+q.Stats().Dead, 60)
	})
}
