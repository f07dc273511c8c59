package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// seated connects the ledger's transactions to the seats of a queue, as the server does.
func (w *world) seated(q *jobs.Queue) {
	w.Seat = func(kind, workspace string) (store.Seat, bool) {
		lease, fill, ok := q.Seat(kind, workspace)
		return store.Seat{Holder: q.Holder, Lease: lease, Fill: func(j *store.Job) {
			if j == nil {
				fill(nil)
				return
			}
			fill(&jobs.Job{Claim: jobs.Claim(j.Claim), Kind: j.Kind, Key: j.Key, Workspace: j.Workspace, Payload: j.Payload})
		}}, ok
	}
}

// TestASeatedJobNeedsNoRing: nobody rings, nobody sweeps, and the stream stays empty; and what follows from a job is seated
// as well.
func TestASeatedJobNeedsNoRing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{Sweep: time.Hour})
		q.Handle("first", jobs.HandlerOptions{Seated: true}, func(ctx context.Context, job jobs.Job) error {
			return w.Outside(ctx, func(sh *store.Shared) error {
				if err := sh.Enqueue(ctx, store.JobSpec{Kind: "second", Key: job.Key}); err != nil {
					return err
				}
				return sh.FinishJob(ctx, store.Claim(job.Claim), time.Time{})
			})
		})
		q.Handle("second", jobs.HandlerOptions{Seated: true}, w.finish)
		q.Handle("rung", jobs.HandlerOptions{}, w.finish)
		q.Handle("background", jobs.HandlerOptions{Background: true, Seated: true}, w.finish)
		w.seated(q)
		w.enqueue(t, store.JobSpec{Kind: "first", Key: "before"}, store.JobSpec{Kind: "unknown", Key: "1"})
		same(t, "claimed before the queue runs", w.jobs(t, `fence > 0`), 0)
		stop := run(t, q)
		eventually(t, "the queue has seats", func() bool {
			_, fill, ok := q.Seat("first", workspace)
			if ok {
				fill(nil)
			}
			return ok
		})
		w.enqueue(t, store.JobSpec{Kind: "first", Key: "1"}, store.JobSpec{Kind: "rung", Key: "1"}, store.JobSpec{Kind: "background", Key: "1"})
		eventually(t, "both jobs are done", func() bool { return w.runs("second", "1") == 1 })
		same(t, "done", w.jobs(t, `state = 'DONE' and fence > 0`), 2)
		same(t, "waiting for a ring", w.jobs(t, `state = 'READY' and holder is null`), 4)
		same(t, "entries", w.entries(t), 0)
		stop()
		w.enqueue(t, store.JobSpec{Kind: "first", Key: "after"})
		same(t, "waiting for a ring after the end", w.jobs(t, `state = 'READY' and holder is null`), 5)
	})
}

// TestASeatedJobIsFinishedBeforeTheEnd: a queue that stops waits for it, and gives back what does not end.
func TestASeatedJobIsFinishedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		q := w.queue(t, jobs.Options{Sweep: time.Hour}) // with time enough for a busy machine to give it back
		g := newGate(t)
		q.Handle("stuck", jobs.HandlerOptions{Seated: true}, g.pass)
		w.seated(q)
		stop := run(t, q)
		eventually(t, "a job is seated", func() bool {
			w.enqueue(t, store.JobSpec{Kind: "stuck", Key: "1"})
			return w.jobs(t, `holder is not null`) == 1
		})
		g.await(t, 1)
		stop()
		same(t, "given back without blame", w.jobs(t, `state = 'READY' and holder is null and attempt = 0`), 1)
	})
}
