package main

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"
)

// paced does n things at a rate per second, whether or not those before have ended, and answers when each began. Its
// error is the first of theirs.
func paced(ctx context.Context, n, rate int, do func(ctx context.Context, i int) error) ([]time.Time, error) {
	began := make([]time.Time, n)
	failed := make(chan error, n)
	first := time.Now()
	for i := range n {
		// By the clock and not by a ticker, which leaves out what a busy machine cannot do in time.
		timer := time.NewTimer(time.Until(first.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		began[i] = time.Now()
		go func() { failed <- do(ctx, i) }()
	}
	var err error
	for range n {
		if err = <-failed; err != nil {
			return began, err
		}
	}
	return began, nil
}

// pour does things from so many goroutines until n are done or, where n is 0, the time is up, and answers how many were done and how long
// each took.
func pour(ctx context.Context, senders, n int, length time.Duration, do func(ctx context.Context, i int) error) (took []time.Duration, whole time.Duration, err error) {
	if n == 0 {
		n = 1 << 30
	}
	if length == 0 {
		length = time.Hour
	}
	type share struct {
		took []time.Duration
		err  error
	}
	shares := make(chan share, senders)
	var next atomic.Int64
	began := time.Now()
	for range senders {
		go func() {
			var s share
			for s.err == nil && time.Since(began) < length {
				i := int(next.Add(1)) - 1
				if i >= n {
					break
				}
				start := time.Now()
				s.err = do(ctx, i)
				s.took = append(s.took, time.Since(start))
			}
			shares <- s
		}()
	}
	for range senders {
		s := <-shares
		took, err = append(took, s.took...), cmp.Or(err, s.err)
	}
	return took, time.Since(began), err
}

func between(began, ended []time.Time) []time.Duration {
	took := make([]time.Duration, len(began))
	for i := range began {
		took[i] = ended[i].Sub(began[i])
	}
	return took
}
