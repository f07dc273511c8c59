package jobs

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type notYet struct{ error }

func (notYet) RetryAt() (time.Time, bool) { return time.Time{}, false }
func (n notYet) Unwrap() error            { return n.error }

func TestFateOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	failed := errors.New("it failed")
	for _, test := range []struct {
		name    string
		err     error
		burn    bool
		most    int
		outcome string
		from    time.Duration
		to      time.Duration
	}{
		{"an error", failed, true, 7, OutcomeRetried, leastPause, 8 * time.Second},
		{"permanent", Permanent(failed), true, 1, OutcomeDead, 0, 0},
		{"permanent inside", fmt.Errorf("merge: %w", Permanent(failed)), true, 1, OutcomeDead, 0, 0},
		{"later", Later(failed, now.Add(time.Minute)), false, 7, OutcomeThrottled, time.Minute, time.Minute + time.Second},
		{"later inside", fmt.Errorf("call: %w", Later(failed, now.Add(time.Minute))), false, 7, OutcomeThrottled, time.Minute, time.Minute + time.Second},
		{"later, and it is later", Later(failed, now.Add(-time.Hour)), false, 7, OutcomeThrottled, 0, time.Second},
		{"later, without a time", notYet{failed}, true, 7, OutcomeRetried, leastPause, 8 * time.Second},
		{"permanent although later", Permanent(Later(failed, now.Add(time.Minute))), true, 1, OutcomeDead, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := fateOf(test.err, 3, 7, now)
			if f.burn != test.burn || f.maxAttempts != test.most || f.outcome != test.outcome || f.after < test.from || f.after > test.to {
				t.Errorf("fate = %+v, want burn %t, %d attempts, %s, after %v to %v", f, test.burn, test.most, test.outcome, test.from, test.to)
			}
			if !errors.Is(test.err, failed) {
				t.Error("the cause is hidden")
			}
		})
	}
	if Permanent(nil) != nil || Later(nil, now) != nil {
		t.Error("no error became one")
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		attempt := rapid.IntRange(0, 1_000_000).Draw(r, "attempt")
		bound := longestPause
		if attempt < 10 {
			bound = min(time.Second<<attempt, longestPause)
		}
		if got := pause(attempt); got < leastPause || got > bound {
			r.Fatalf("pause(%d) = %v, want %v to %v", attempt, got, leastPause, bound)
		}
	})
}
