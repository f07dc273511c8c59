package jobs

import (
	"errors"
	"math/rand/v2"
	"time"
)

// The bounds of the pause after a failure; the pause is drawn evenly from below the bound, so that
// jobs which failed together do not come back together.
const (
	firstPause   = time.Second
	longestPause = 10 * time.Minute
	leastPause   = 100 * time.Millisecond
)

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that trying again cannot cure: the job is dead at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent tells whether an error bears the mark of [Permanent].
func IsPermanent(err error) bool {
	var gone permanent
	return errors.As(err, &gone)
}

type later struct {
	error
	at time.Time
}

func (l later) Unwrap() error              { return l.error }
func (l later) RetryAt() (time.Time, bool) { return l.at, true }

// Later marks an error that is nobody's fault and that is over at a known time, such as a spent
// budget: the job waits until then, and no attempt is counted. A handler may return any error in
// whose chain RetryAt() (time.Time, bool) answers true.
func Later(err error, at time.Time) error {
	if err == nil {
		return nil
	}
	return later{err, at}
}

// fate is what an error means for a job.
type fate struct {
	after       time.Duration
	burn        bool
	maxAttempts int
	outcome     string
}

func fateOf(err error, attempt, maxAttempts int, now time.Time) fate {
	if IsPermanent(err) {
		return fate{burn: true, maxAttempts: 1, outcome: OutcomeDead}
	}
	var timed interface{ RetryAt() (time.Time, bool) }
	if errors.As(err, &timed) {
		if at, ok := timed.RetryAt(); ok {
			// A second of jitter: all that waited for the same moment must not arrive at it together.
			return fate{after: max(at.Sub(now), 0) + rand.N(time.Second), maxAttempts: maxAttempts, outcome: OutcomeThrottled}
		}
	}
	return fate{after: pause(attempt), burn: true, maxAttempts: maxAttempts, outcome: OutcomeRetried}
}

// pause is exponential back-off with full jitter after the attempt+1st failure.
func pause(attempt int) time.Duration {
	bound := longestPause
	if attempt < 20 { // beyond, the shift would leave the bound behind anyway
		bound = min(firstPause<<attempt, longestPause)
	}
	return leastPause + rand.N(bound-leastPause)
}
