package jobs_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
)

// TestSuspectsRunAlone: of the jobs whose workers died time and again a process runs one at a time, while
// those that only failed, and those whose worker died once, run beside each other as ever.
func TestSuspectsRunAlone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		history string // what has become of the jobs so far
		alone   bool
	}{
		{"workers died twice", `holder = gen_random_uuid(), leased_until = now() - interval '1 second', attempt = 1`, true},
		{"a worker died once", `holder = gen_random_uuid(), leased_until = now() - interval '1 second', attempt = 0`, false},
		{"failed often", `attempt = 3, last_error = 'Bitbucket did not answer'`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, redistest.URL(t))
			q := w.queue(t, jobs.Options{})
			const n = 4
			w.enqueueMany(t, "evaluate", n)
			w.super(t, `update signedapproval_jobs set `+test.history)
			var running, most atomic.Int32
			together := make(chan struct{}) // closed once all run at the same time
			q.Handle("evaluate", jobs.HandlerOptions{Lease: time.Minute}, func(ctx context.Context, job jobs.Job) error {
				now := running.Add(1)
				defer running.Add(-1)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				if now == n {
					close(together)
				}
				if !test.alone { // each waits for all the others
					select {
					case <-together:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				return w.finish(ctx, job)
			})
			run(t, q)
			eventually(t, "all jobs are done", w.allDone(t))
			want := int32(n)
			if test.alone {
				want = 1
			}
			same(t, "jobs at a time", most.Load(), want)
		})
	}
}
