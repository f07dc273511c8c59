package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// What the nearest peer that can be run reached, on a machine like the one that this was written on: policy-bot 1.36.2
// with two team approvals.
const (
	peerP50, peerP99 = 3.7, 7.2 // ms, no remote latency
	peerRemoteP50    = 360      // ms, remote latency 50 ms, 10 per second
	peerPerSecond    = 762      // evaluations, no remote latency
	peerRefused      = 0.72     // of 100 per second at 50 ms
	peerBurst        = 167      // accepted of 5,000
	peerLost         = 500      // of 500 in flight
)

// slow makes calls to Bitbucket take so much more, once what went before is over.
func (w *world) slow(ctx context.Context, delay time.Duration) error {
	w.front.delay.Store(0)
	if err := w.rest(ctx); err != nil {
		return err
	}
	w.front.delay.Store(int64(delay))
	return nil
}

// known opens pull requests and lets the server know them: they show INPROGRESS.
func (w *world) known(ctx context.Context, n int) ([]pull, error) {
	list, err := w.open(n)
	if err != nil {
		return nil, err
	}
	if _, _, err := pour(ctx, 16, n, 0, func(ctx context.Context, i int) error { return w.accepted(ctx, list[i]) }); err != nil {
		return nil, err
	}
	if err := w.shown(ctx, "INPROGRESS", list); err != nil {
		return nil, err
	}
	return list, w.rest(ctx)
}

func (w *world) shown(ctx context.Context, state string, list []pull) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if _, err := w.front.wait(ctx, state, list); err != nil {
		return fmt.Errorf("%d of %d pull requests show %s: %w", w.front.has(state, list), len(list), state, err)
	}
	return nil
}

// toInProgress sends webhooks at a rate and answers how long after each its status was there.
func (w *world) toInProgress(ctx context.Context, list []pull, rate int) ([]time.Duration, error) {
	began, err := paced(ctx, len(list), rate, func(ctx context.Context, i int) error { return w.accepted(ctx, list[i]) })
	if err != nil {
		return nil, err
	}
	return w.since(ctx, began, "INPROGRESS", list)
}

func (w *world) since(ctx context.Context, began []time.Time, state string, list []pull) ([]time.Duration, error) {
	if err := w.shown(ctx, state, list); err != nil {
		return nil, err
	}
	ended, err := w.front.wait(ctx, state, list)
	return between(began, ended), err
}

// signed prepares a decision on each pull request. People take turns.
func (w *world) signed(ctx context.Context, list []pull) ([]func(context.Context) error, error) {
	submit := make([]func(context.Context) error, len(list))
	failed := make(chan error, len(w.approvers))
	for turn, who := range w.approvers {
		go func() {
			for i := turn; i < len(list); i += len(w.approvers) {
				signed, err := who.Sign(ctx, list[i].Place, "APPROVE")
				if err != nil {
					failed <- err
					return
				}
				submit[i] = func(ctx context.Context) error { _, err := who.Submit(ctx, signed); return err }
			}
			failed <- nil
		}()
	}
	var err error
	for range w.approvers {
		err = cmp.Or(err, <-failed)
	}
	if err != nil {
		err = fmt.Errorf("a decision cannot be prepared: %w", err)
	}
	return submit, err
}

// road measures the two roads to a status without remote latency, by turns with the bare sum of their parts.
func road(ctx context.Context, w *world) (figures []Figure, err error) {
	const rate, turns = 100, 4
	n := w.mode.of(1000, 240)
	walker, stop, err := w.newWalker(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	for _, decision := range []bool{false, true} {
		if decision {
			n = w.mode.of(800, 160)
		}
		if err := w.warm(ctx, walker, decision); err != nil {
			return figures, err
		}
		walker.parts.took = map[string][]time.Duration{}
		var took, bare []time.Duration
		for range turns {
			each, their, err := w.turn(ctx, walker, n/turns, rate, decision)
			if err != nil {
				return figures, err
			}
			took, bare = append(took, each...), append(bare, their...)
		}
		name := "webhook to INPROGRESS"
		if decision {
			name = "signed decision to SUCCESSFUL"
		}
		name += fmt.Sprintf(", no remote latency, %d/s", rate)
		sum := milliseconds(percentile(bare, 0.5))
		p50 := shown(name+", p50", milliseconds(percentile(took, 0.5)), "ms", true).beside(sum).times(3)
		p99 := shown(name+", p99", milliseconds(percentile(took, 0.99)), "ms", true).beside(sum).times(6)
		if !decision {
			p50, p99 = p50.demand("below policy-bot's 3.7 ms", p50.Value < peerP50), p99.demand("below policy-bot's 7.2 ms", p99.Value < peerP99)
		}
		figures = append(figures,
			p50.noting("the limit is the bare sum of the parts: %s; before, %d of either went %d at a time, so that each connection had planned its statements",
				walker.parts.String(), warmed, warmedAtOnce),
			p99.noting("the limit is the p50 of the bare sum; its own p99 is %s ms", number(milliseconds(percentile(bare, 0.99)))))
	}
	return figures, nil
}

// warmed is how many walk either road, warmedAtOnce at a time, before the first turn.
const warmed, warmedAtOnce = 96, 16

// warm has the connections of either side plan their statements: PostgreSQL does that when a connection uses one for the first
// time, which takes it longer than the whole road does then. There are as many at once as a pool has connections.
func (w *world) warm(ctx context.Context, walker *walker, decision bool) error {
	list, err := w.known(ctx, warmed)
	if err != nil {
		return err
	}
	if decision {
		submit, err := w.signed(ctx, list)
		if err != nil {
			return err
		}
		if _, _, err = pour(ctx, warmedAtOnce, warmed, 0, func(ctx context.Context, i int) error { return submit[i](ctx) }); err != nil {
			return err
		}
		if err := w.shown(ctx, "SUCCESSFUL", list); err != nil {
			return err
		}
		if err := w.rest(ctx); err != nil {
			return err
		}
	}
	_, _, err = pour(ctx, warmedAtOnce, warmed, 0, func(ctx context.Context, i int) error {
		_, err := walker.walk(ctx, list[i], decision)
		return err
	})
	return err
}

// turn is one turn of ours and one of the bare road.
func (w *world) turn(ctx context.Context, walker *walker, n, rate int, decision bool) (took, bare []time.Duration, err error) {
	if !decision {
		list, err := w.open(n)
		if err != nil {
			return nil, nil, err
		}
		if took, err = w.toInProgress(ctx, list, rate); err != nil {
			return nil, nil, err
		}
		bare, err = w.walks(ctx, walker, list, rate, decision)
		return took, bare, err
	}
	list, err := w.known(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	submit, err := w.signed(ctx, list)
	if err != nil {
		return nil, nil, err
	}
	if err := w.rest(ctx); err != nil {
		return nil, nil, err
	}
	// Each person is one browser, and takes one thing at a time; they take turns, so that none waits for another.
	began, err := paced(ctx, n, rate, func(ctx context.Context, i int) error { return submit[i](ctx) })
	if err != nil {
		return nil, nil, err
	}
	if took, err = w.since(ctx, began, "SUCCESSFUL", list); err != nil {
		return nil, nil, err
	}
	bare, err = w.walks(ctx, walker, list, rate, decision)
	return took, bare, err
}

func (w *world) walks(ctx context.Context, walker *walker, list []pull, rate int, decision bool) ([]time.Duration, error) {
	if err := w.rest(ctx); err != nil {
		return nil, err
	}
	bare := make([]time.Duration, len(list))
	_, err := paced(ctx, len(list), rate, func(ctx context.Context, i int) (err error) {
		bare[i], err = walker.walk(ctx, list[i], decision)
		return err
	})
	return bare, err
}

// remote measures with a Bitbucket that takes 50 ms for each call.
func remote(ctx context.Context, w *world) (figures []Figure, err error) {
	const latency = 50 * time.Millisecond
	defer w.front.delay.Store(0)
	list, err := w.open(w.mode.of(200, 60))
	if err != nil {
		return nil, err
	}
	w.front.trace(list)
	if err := w.slow(ctx, latency); err != nil {
		return nil, err
	}
	took, err := w.toInProgress(ctx, list, 10)
	if err != nil {
		return nil, err
	}
	longest := slices.Max(w.front.longest("INPROGRESS"))
	limit := milliseconds(2 * latency)
	figures = append(figures,
		shown("remote calls one after another, webhook to INPROGRESS, at most", float64(longest), "calls", true).atMost(2),
		shown("webhook to INPROGRESS, remote latency 50 ms, 10/s, p50", milliseconds(percentile(took, 0.5)), "ms", true).beside(limit).atMost(130).
			noting("the limit is two calls; policy-bot takes %d ms", peerRemoteP50),
		shown("webhook to INPROGRESS, remote latency 50 ms, 10/s, p99", milliseconds(percentile(took, 0.99)), "ms", true).beside(limit))

	const rate = 100
	seconds := w.mode.of(30, 5)
	w.front.delay.Store(0)
	if list, err = w.open(rate * seconds); err != nil {
		return figures, err
	}
	if err := w.slow(ctx, latency); err != nil {
		return figures, err
	}
	var refused atomic.Int64
	began, err := paced(ctx, len(list), rate, func(ctx context.Context, i int) error {
		status, err := w.post(ctx, list[i].hook, list[i].hook.RequestUUID)
		if status/100 != 2 {
			refused.Add(1)
		}
		return err
	})
	if err != nil {
		return figures, err
	}
	name := fmt.Sprintf("webhook to INPROGRESS, remote latency 50 ms, %d/s for %d s", rate, seconds)
	figures = append(figures, shown(name+", refused", float64(refused.Load()), "webhooks", true).exactly(0).noting("policy-bot refuses %s of them", number(peerRefused)))
	if took, err = w.since(ctx, began, "INPROGRESS", list); err != nil {
		return figures, err // what was refused never shows a status
	}
	return append(figures,
		shown(name+", p50", milliseconds(percentile(took, 0.5)), "ms", true).beside(limit),
		shown(name+", p99", milliseconds(percentile(took, 0.99)), "ms", true).beside(limit).atMost(300)), nil
}
