package attack_test

import (
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// rejected is a story in which bob and dave approve and carol rejects: before dave signs, or after everybody.
func rejected(t *testing.T, last bool) *cast {
	t.Helper()
	c := stage(t)
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	if last {
		c.decide(c.dave, evidence.Approve)
		c.decide(c.carol, evidence.Reject)
	} else {
		c.decide(c.carol, evidence.Reject)
		c.decide(c.dave, evidence.Approve)
	}
	c.control(c.operator)
	if state := c.make().verdict.State; state != approval.Rejected {
		t.Fatalf("the control is %s", state)
	}
	return c
}

// unreject drops the rejection with the verdict on it.
func unreject(o *operator) {
	o.t.Helper()
	i := slices.IndexFunc(o.events, func(e event) bool { return purposeOf(o.t, e) == evidence.Reject })
	o.events = slices.Delete(o.events, i, i+2)
}

func onHistories() []attack {
	return []attack{
		{
			wants: "hide a rejection that a later signer of the pull request was shown", caught: []string{"step 7 statements: chain"},
			try: func(t *testing.T) []string {
				c := rejected(t, false)
				unreject(c.operator)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "hide a rejection after which nobody signed, by rewriting the log", admits: "hide a rejection after which nobody signed",
			caught: []string{"exit 0, UNWITNESSED", "step 14 witnesses: witness", "monitor: fork"},
			try: func(t *testing.T) (got []string) {
				c := rejected(t, true)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				forged := c.twin()
				unreject(forged)
				forged.landed("landed", "approved")
				bundle := forged.bundle()
				got = append(got, verify(bundle, unwitnessed(c.pinned)), verify(bundle, c.pinned))
				return append(got, watcher.pass(forged, forged.publish())...)
			},
		},
		{
			wants: "hide a rejection after which nobody signed, by a second history of the pull request in one log", admits: "hide a rejection after which nobody signed",
			caught: []string{"exit 0", "monitor: chain_fork", "monitor: chain_fork"},
			try: func(t *testing.T) (got []string) {
				c := rejected(t, true)
				r := c.make()
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				// The other history goes on after the last approval, in the same log: leaves beyond the rejection are left out of
				// the bundle alone.
				at := slices.IndexFunc(c.events, func(e event) bool { return purposeOf(t, e) == evidence.Reject })
				forged := c.twin()
				forged.events[at], forged.events[at+1] = event{raw: r.entries[at]}, event{raw: r.entries[at+1]}
				forged.landed("landed", "approved")
				forged.drop(func(e event) bool { _, merged := e.body.(evidence.Merged); return merged })
				if len(forged.make().entries) != len(r.entries)+2 {
					t.Fatal("it is not the same log")
				}
				got = append(got, verify(forged.bundle(), c.pinned))
				return append(got, watcher.pass(forged, forged.publish())...)
			},
		},
		{
			wants: "hide a rejection from the tally", caught: []string{"step 10 facts: invalid"},
			try: func(t *testing.T) []string {
				c := rejected(t, true)
				c.facts = func(f *approval.Facts) {
					f.Decisions = slices.DeleteFunc(f.Decisions, func(d approval.Decision) bool { return d.Action == approval.Reject })
				}
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "hide a rejection: leave it in the chain and out of the bundle", caught: []string{"step 6 decisions: chain"},
			try: func(t *testing.T) []string {
				c := rejected(t, true)
				b := c.document()
				b.Decisions = b.Decisions[:len(b.Decisions)-1]
				b.Enrolments = slices.DeleteFunc(b.Enrolments, func(e evidence.EnrolledKey) bool { return e.Owner.AccountID == "acc-carol" })
				data, err := b.Encode()
				must(t, err)
				return []string{verify(data, c.pinned)}
			},
		},
		{
			wants: "hide a rejection: present the verdict of before it", caught: []string{"step 10 facts: invalid", "step 12 verdict: chain"},
			try: func(t *testing.T) []string {
				c := rejected(t, true)
				forged := c.twin()
				forged.events = forged.events[:len(forged.events)-1] // the rejection is there, and no verdict on it
				got := []string{verify(forged.bundle(), unwitnessed(c.pinned))}
				b := forged.document()
				b.Facts, b.Verdict = c.make().facts, c.make().verdict // the verdict on it, which no leaf has
				data, err := b.Encode()
				must(t, err)
				return append(got, verify(data, unwitnessed(c.pinned)))
			},
		},
		{
			wants: "backdate a leaf that a later signer was shown", caught: []string{"step 7 statements: chain"},
			try: func(t *testing.T) []string {
				c := played(t)
				forged := c.twin()
				i := slices.IndexFunc(forged.events, func(e event) bool { return purposeOf(t, e) == evidence.Reject })
				forged.events[i].at = forged.events[i].at.Add(-time.Hour)
				return []string{verify(forged.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "backdate the last verdict, by rewriting the log", admits: "wrong time",
			caught: []string{"exit 0, UNWITNESSED", "step 14 witnesses: witness", "monitor: fork"},
			try: func(t *testing.T) (got []string) {
				c := played(t)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				forged := c.twin()
				backdate(forged, time.Hour)
				bundle := forged.bundle()
				got = append(got, verify(bundle, unwitnessed(c.pinned)), verify(bundle, c.pinned))
				return append(got, watcher.pass(forged, forged.publish())...)
			},
		},
		{
			wants: "backdate the last verdict, as it is written", admits: "wrong time",
			caught: []string{"exit 0", "monitor: late_leaf", "monitor: time_backwards"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(c.dave, evidence.Approve)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				c.control(c.operator)
				c.landed("landed", "approved")
				c.add(event{verdict: true})
				c.events[len(c.events)-1].at = c.now.Add(-24 * time.Hour)
				return append([]string{verify(c.bundle(), c.pinned)}, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: "delete a leaf from the middle of a chain, and leave the others", caught: []string{"step 3 chain: chain"},
			try: func(t *testing.T) []string {
				c := played(t)
				b := c.document()
				b.Chain, b.Log.Chain = slices.Delete(b.Chain, 3, 4), slices.Delete(b.Log.Chain, 3, 4)
				data, err := b.Encode()
				must(t, err)
				return []string{verify(data, c.pinned)}
			},
		},
		{
			wants: "delete a leaf from a chain, and make all others again", caught: []string{"step 7 statements: chain"},
			try: func(t *testing.T) []string {
				c := played(t)
				forged := c.twin()
				i := slices.IndexFunc(forged.events, func(e event) bool { return e.verdict })
				forged.events = slices.Delete(forged.events, i, i+1)
				return []string{verify(forged.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "delete a leaf of another workspace or pull request, which signers were shown in the log", caught: []string{"step 13 log: log", "monitor: fork"},
			try: func(t *testing.T) (got []string) {
				c := stage(t)
				c.say(evidence.Connection{Event: "broken"}, false)
				c.story(c.bob, c.carol, c.dave)
				c.control(c.operator)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				forged := c.twin()
				forged.drop(func(e event) bool { _, is := e.body.(evidence.Connection); return is })
				got = append(got, verify(forged.bundle(), unwitnessed(c.pinned)))
				forged.say(evidence.Connection{Event: "made"}, false)
				return append(got, watcher.pass(forged, forged.publish())...)
			},
		},
		{
			wants: "delete the newest leaf, which nobody signed after", admits: "take back or change a leaf that was published",
			caught: []string{"exit 0, UNWITNESSED", "step 14 witnesses: witness", "monitor: rollback"},
			try: func(t *testing.T) (got []string) {
				c := played(t)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				forged := c.twin()
				forged.events = forged.events[:len(forged.events)-1] // the merge
				bundle := forged.bundle()
				got = append(got, verify(bundle, unwitnessed(c.pinned)), verify(bundle, c.pinned))
				return append(got, watcher.pass(forged, forged.publish())...)
			},
		},
		{
			wants: `answer the merge check "yes" without a verdict, and record it`, caught: []string{"step 4 requests: chain", "monitor: unfounded_yes", "monitor: violation"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.control(c.operator)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				c.yes()
				c.say(evidence.Merged{Request: c.newest().ID, Kind: "approved", Commit: commit("landed")}, true)
				return append([]string{verify(c.bundle(), unwitnessed(c.pinned))}, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: "merge around the gate, call it approved, and have it approved afterwards", caught: []string{"step 12 verdict: chain", "monitor: unfounded_decision", "monitor: violation"},
			try: func(t *testing.T) []string {
				c := halfApproved(t)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				c.say(evidence.Merged{Request: c.newest().ID, Kind: "approved", Commit: c.commit("new")}, true)
				c.decide(c.dave, evidence.Approve)
				return append([]string{verify(c.bundle(), unwitnessed(c.pinned))}, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: `answer the merge check "yes", and show green, behind a verdict that it invents`, caught: []string{"step 12 verdict: chain"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.control(c.operator)
				c.say(evidence.VerdictReached{Request: c.newest().ID, State: "APPROVED", Outcome: approval.DigestOf(nil)}, true)
				c.landed("landed", "approved")
				c.add(event{verdict: true})
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: `answer the merge check "yes" after a rejection, before a verdict says so`, caught: []string{"step 12 verdict: chain"},
			try: func(t *testing.T) []string {
				c := rejected(t, true)
				verdict := c.events[len(c.events)-1]
				c.events = c.events[:len(c.events)-1]
				c.yes()
				c.events = append(c.events, verdict)
				c.events[len(c.events)-1].at = c.tick()
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: `answer the merge check "yes" because no rule asks, where one asked before and asks again`, admits: "with the code NO_RULE", caught: []string{"exit 0, UNWITNESSED"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.open("old")
				r := c.newest()
				c.say(evidence.RequestClosed{Request: r.ID, Reason: "cancelled"}, true)
				c.say(evidence.MergeChecked{
					Trigger: evidence.TriggerOnMerge, Answer: evidence.AnswerYes, Code: evidence.CheckNoRule, Commit: r.HeadCommit,
					Destination: evidence.BranchID(c.salt, c.repository, r.DestinationBranch),
				}, true)
				c.reopen("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(c.dave, evidence.Approve)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "present an approved request as still open, after another one took its place and was rejected", caught: []string{"step 4 requests: chain"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.open("old")
				c.decide(c.bob, evidence.Approve)
				c.decide(c.dave, evidence.Approve)
				c.control(c.operator)
				c.reopen("new")
				c.decide(c.carol, evidence.Reject)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: `answer the merge check "yes" without a verdict, record nothing, and see the merge`, caught: []string{"exit 0", "monitor: violation"},
			admits: "answer that is not recorded",
			try: func(t *testing.T) []string {
				c := stage(t)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.control(c.operator)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				// Bitbucket was told "yes", and no leaf says so: the bundle is as honest as before, and says PENDING.
				got := []string{verify(c.bundle(), c.pinned)}
				c.say(evidence.Merged{Request: c.newest().ID, Kind: "violation", Commit: commit("landed")}, true)
				return append(got, watcher.pass(c.operator, c.publish())...)
			},
		},
	}
}

// backdate sets the times of the last verdict and of what comes after it back.
func backdate(o *operator, by time.Duration) {
	after := false
	last := 0
	for i, e := range o.events {
		if e.verdict {
			last = i
		}
	}
	for i := range o.events {
		if after = after || i == last; after {
			o.events[i].at = o.events[i].at.Add(-by)
		}
	}
}
