package gate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestFaultsOfAnOverride plays the rows of the failure matrix that the road of an override adds: a pull request is opened,
// overridden by carol, whom the administrator hears of, and stays open.
func TestFaultsOfAnOverride(t *testing.T) {
	t.Parallel()
	for step, trap := range map[fault.Step]fault.Trap{
		fault.CommitOverride:   {On: fault.Commits("insert into signedapproval_decisions")},
		fault.CommitOverridden: {On: fault.Commits("update signedapproval_approval_requests"), Skip: 1},
	} {
		t.Run(string(step), func(t *testing.T) {
			w := newWorld(t)
			w.administrator()
			w.save(w.breakable(1, "carol"))
			w.settle()
			fault.Run(t, step, func(t *testing.T, m fault.Mishap, armed bool) fault.Outcome {
				w.t = t
				defer func() { w.t = nil }()
				w.wire.Clear()
				if armed {
					w.wire.Set(fault.Trap{On: trap.On, Skip: trap.Skip, Mishap: m, Meanwhile: w.meanwhile})
				}
				number := w.openOn("feature/" + uuid.NewString())
				w.roadOfAnOverride(number)
				fired := w.wire.Clear()
				w.must(w.wire.Land())
				w.statusEvent(number)
				w.roadOfAnOverride(number)
				return fault.Outcome{Fired: fired, End: w.endOfAnOverride(number)}
			})
			w.t = t
		})
	}
}

// roadOfAnOverride does what is due, and lets carol override, until Bitbucket shows it and nothing is due.
func (w *world) roadOfAnOverride(number int64) {
	w.t.Helper()
	for range 400 {
		rings := w.due()
		for _, ring := range rings {
			_ = w.do(ring) // it is tried again
			if w.wire.Fired() > 0 {
				w.check(false)
			}
		}
		if len(rings) > 0 {
			continue
		}
		v := w.view(number)
		switch {
		case v.Request != nil && v.Request.State == store.RequestOverridden && v.Status.Paid():
			w.check(true)
			return
		case v.Request != nil && len(v.Decisions) == 0:
			_, _ = w.override(number, "carol", "The site is down.") // whom nobody answered tries again
			if w.wire.Dead() {
				w.wire.Revive()
			}
		default:
			w.soon()
		}
	}
	v := w.view(number)
	w.t.Fatalf("no end of the road: %+v %+v", v.PullRequest, v.Request)
}

// endOfAnOverride says in what state a pull request is that was overridden, and how often the administrator was told.
func (w *world) endOfAnOverride(number int64) string {
	w.t.Helper()
	v := w.view(number)
	state, sentence := w.shown(number, v.PullRequest.HeadCommit)
	events, _, err := w.gate.History(w.t.Context(), v, 0, 1000)
	w.must(err)
	var leaves []string
	for _, e := range events {
		leaves = append(leaves, e.Type)
	}
	slices.Sort(leaves)
	causes := fmt.Sprintf("leaves %q", leaves)
	if slices.Equal(leaves, []string{"decision", "request-opened", "status-paid", "status-paid", "verdict", "verdict"}) {
		causes = "one leaf per cause"
	}
	told := 0
	for _, n := range w.inbox("alice") {
		if n.Kind == "OVERRIDDEN" && n.PullRequestID != nil && *n.PullRequestID == v.PullRequest.ID {
			told++
		}
	}
	times := fmt.Sprintf("the administrator told %d times", told)
	if told == 1 {
		times = "the administrator told once"
	}
	by, _, _ := strings.Cut(sentence, ";")
	return strings.Join([]string{strings.ToLower(v.PullRequest.State), by, "status " + state, causes, times}, "; ")
}
