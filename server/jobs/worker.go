package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// suspect is how many failures make a job whose worker died run alone of its kind in a process: one that
// takes its process down each time would take the same others down with it, until they are dead too.
const suspect = 2

// postpone gives a suspect back for a moment, without blame.
func (q *Queue) postpone(h handler, job Job) {
	after := 200*time.Millisecond + rand.N(800*time.Millisecond)
	_, err := q.giveBack(job, errors.New(q.Ledger.LeftBehind), fate{after: after, maxAttempts: h.MaxAttempts, outcome: OutcomeHandedBack})
	if err != nil && !errors.Is(err, q.Ledger.LeaseLost) {
		q.stats.ledgerErrors.Add(1)
		q.Log.Error("a suspect job could not be given back", slog.Int64("job", job.ID), slog.Any("cause", err))
		return
	}
	q.stats.handedBack.Add(1)
}

// work looks at one ring: it claims the job, runs its handler and sees to what becomes of it. entry
// is nil where the ring did not come through Redis.
func (q *Queue) work(ring Ring, entry *ack) {
	h, known := q.handlers[ring.Kind]
	if !known {
		// Another version of this program knows it. The job stays due, and the sweep rings it again.
		q.stats.unknown.Add(1)
		q.Log.Warn("no handler for this kind of job", slog.String("kind", ring.Kind))
		q.acknowledge(entry)
		return
	}
	since := time.Now()
	ctx, cancel := context.WithTimeout(q.alive, ledgerTimeout)
	job, claimed, err := q.Ledger.Claim(ctx, ring.ID, q.Holder, h.Lease)
	cancel()
	if err != nil {
		// The entry stays, and is read again once it has been idle. A ring that came without Redis has
		// none: it waits here, as long as the sweep would.
		q.stats.ledgerErrors.Add(1)
		if entry == nil {
			time.AfterFunc(q.Sweep, func() { q.await(q.lane(ring.Kind), []waiting{{ring, nil}}) })
		}
		q.Log.Error("claim a job", slog.String("kind", ring.Kind), slog.Int64("job", ring.ID), slog.Any("error", err))
		return
	}
	// From here on the ledger sees to the job, whatever becomes of this process.
	q.acknowledge(entry)
	if !claimed {
		q.stats.duplicates.Add(1)
		return
	}
	if job.Orphaned && job.Attempt >= suspect {
		select {
		case q.quarantine <- struct{}{}:
			defer func() { <-q.quarantine }()
		default:
			q.postpone(h, job)
			return
		}
	}
	q.carryOut(h, job, since)
}

// carryOut runs the handler of a job that was claimed, not before since, and sees to what becomes of it.
func (q *Queue) carryOut(h handler, job Job, since time.Time) {
	began := time.Now()
	var err error
	if job.Attempt >= h.MaxAttempts {
		err = Permanent(errors.New("its workers died, or never finished it, time and again"))
	} else {
		err = q.run(h, job, since)
	}
	outcome := q.settle(h, job, err)
	if q.Observe != nil {
		q.Observe(job.Kind, outcome, time.Since(began))
	}
}

func (q *Queue) acknowledge(entry *ack) {
	if entry != nil {
		q.done(*entry)
	}
}

// run calls the handler while its lease is kept alive. When the lease is lost, or may be, the
// handler's context ends.
func (q *Queue) run(h handler, job Job, since time.Time) (err error) {
	ctx, cancel := context.WithTimeout(q.alive, h.Timeout)
	defer cancel()
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		q.keep(ctx, h, job, since, lose)
	}()
	defer func() {
		if p := recover(); p != nil {
			q.stats.panics.Add(1)
			q.Log.Error("a job panicked", slog.String("kind", job.Kind), slog.Int64("job", job.ID), slog.Any("panic", p),
				slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("panic: %v", p)
		}
		cause := context.Cause(ctx)
		lose(nil)
		<-kept
		// The handler's own error tells less than why its context ended.
		if err != nil && (errors.Is(cause, q.Ledger.LeaseLost) || errors.Is(cause, errStopping)) {
			err = cause
		}
	}()
	return h.run(ctx, job)
}

// keep extends the lease, which began at since or later, each third of its length until ctx ends.
func (q *Queue) keep(ctx context.Context, h handler, job Job, since time.Time, lose context.CancelCauseFunc) {
	ticker := time.NewTicker(h.Lease / 3)
	defer ticker.Stop()
	sure := since.Add(h.Lease)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		asked := time.Now()
		extend, cancel := context.WithTimeout(ctx, h.Lease/3)
		err := q.Ledger.Extend(extend, job.Claim, h.Lease)
		cancel()
		switch {
		case err == nil:
			sure = asked.Add(h.Lease)
		case errors.Is(err, q.Ledger.LeaseLost), time.Now().After(sure):
			lose(q.Ledger.LeaseLost)
			return
		}
	}
}

// settle tells the ledger what became of a job, and says so.
func (q *Queue) settle(h handler, job Job, err error) (outcome string) {
	if err == nil {
		q.stats.done.Add(1)
		return OutcomeDone
	}
	log := q.Log.With(slog.String("kind", job.Kind), slog.Int64("job", job.ID), slog.Int("attempt", job.Attempt), slog.Any("error", err))
	if errors.Is(err, q.Ledger.LeaseLost) {
		q.stats.leasesLost.Add(1)
		log.Warn("a job was taken over")
		return OutcomeLeaseLost
	}
	f := fateOf(err, job.Attempt, h.MaxAttempts, time.Now())
	if errors.Is(err, errStopping) {
		f = fate{maxAttempts: h.MaxAttempts, outcome: OutcomeHandedBack}
	}
	dead, retryErr := q.giveBack(job, err, f)
	switch {
	case errors.Is(retryErr, q.Ledger.LeaseLost):
		q.stats.leasesLost.Add(1)
		log.Warn("a job was taken over")
		return OutcomeLeaseLost
	case retryErr != nil:
		// The lease ends by itself, and the job is due again.
		q.stats.ledgerErrors.Add(1)
		log.Error("a failed job could not be given back", slog.Any("cause", retryErr))
		return f.outcome
	case dead:
		q.stats.dead.Add(1)
		log.Error("a job is dead")
		return OutcomeDead
	}
	switch f.outcome {
	case OutcomeThrottled:
		q.stats.throttled.Add(1)
	case OutcomeHandedBack:
		q.stats.handedBack.Add(1)
	default:
		// A permanent error of a job that was asked for again meanwhile is one more retry.
		f.outcome = OutcomeRetried
		q.stats.retried.Add(1)
		log.Warn("a job failed and is tried again", slog.Duration("after", f.after))
	}
	return f.outcome
}

// giveBack gives a claim back unfinished. What broke the handler may be the ledger itself, for the
// moment: a job that is not given back waits for the end of its lease, so it is tried a few times.
func (q *Queue) giveBack(job Job, reason error, f fate) (dead bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.alive), ledgerTimeout)
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause *= 3 {
		dead, err = q.Ledger.Retry(ctx, job.Claim, reason.Error(), f.after, f.burn, f.maxAttempts)
		if err == nil || errors.Is(err, q.Ledger.LeaseLost) || pause > 3*time.Second {
			return dead, err
		}
		wait(ctx, pause)
	}
}
