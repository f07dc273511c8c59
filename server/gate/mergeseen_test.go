package gate_test

import (
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

// merged is the merge of a pull request as it was seen.
func (w *world) merged(number int64) (m store.MergeSeen) {
	w.t.Helper()
	w.in(func(tx *store.Tx) (err error) {
		m, err = tx.MergeSeen(w.t.Context(), w.repository, number)
		return err
	})
	return m
}

// administrator makes alice known as one.
func (w *world) administrator() {
	w.t.Helper()
	w.must(w.store.Outside(w.t.Context(), func(sh *store.Shared) error {
		return sh.PutMemberships(w.t.Context(), w.people["alice"].ID, map[string]store.Role{w.workspace: store.RoleAdmin})
	}))
}

func (w *world) land(number int64) {
	w.t.Helper()
	w.post(number, "merge", map[string]any{"type": "pullrequest"})
}

// TestMergesAreRecorded merges in several ways: each is on record once, with what the check had said.
func TestMergesAreRecorded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		merge          func(w *world) (number int64)
		kind           string
		asked, checked bool
	}{
		"approved, and the check said yes": {func(w *world) int64 {
			number := approved(w)
			w.mergeCheck(number)
			w.land(number)
			return number
		}, store.MergeSeenApproved, true, true},
		"approved, and nobody asked": {func(w *world) int64 {
			number := approved(w)
			w.land(number)
			return number
		}, store.MergeSeenApproved, false, false},
		"by the gate": {func(w *world) int64 {
			rule := w.rule(1, "bob")
			rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
			w.save(rule)
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.untilMerged(number)
			return number
		}, store.MergeSeenApproved, false, false},
		"although the check said no": {func(w *world) int64 {
			number := pending(w)
			w.mergeCheck(number)
			w.land(number)
			return number
		}, store.MergeSeenViolation, true, false},
		"not approved, and nobody asked": {func(w *world) int64 {
			number := pending(w)
			w.land(number)
			return number
		}, store.MergeSeenViolation, false, false},
		"asked about another head": {func(w *world) int64 {
			number := approved(w)
			w.mergeCheck(number)
			w.push("src/nozzle.go", "package evil\n")
			w.land(number)
			return number
		}, store.MergeSeenViolation, false, false},
		"yes, and then no": {func(w *world) int64 {
			number := approved(w)
			w.mergeCheck(number)
			w.decides(number, "carol", approval.Withdraw)
			w.decides(number, "carol", approval.Reject)
			w.settle()
			w.mergeCheck(number)
			w.land(number)
			return number
		}, store.MergeSeenViolation, true, false},
		"never seen open": {func(w *world) int64 {
			w.save(w.rule(1, "bob"))
			w.settle()
			w.openSilently()
			w.land(1)
			return 1
		}, store.MergeSeenViolation, false, false},
		"approved, and gone when it was merged": {func(w *world) int64 {
			number := approved(w)
			w.disappear(number)
			w.land(number)
			return number
		}, store.MergeSeenApproved, false, false},
		"not approved, and gone when it was merged": {func(w *world) int64 {
			number := pending(w)
			w.disappear(number)
			w.land(number)
			return number
		}, store.MergeSeenViolation, false, false},
		"another head, and gone when it was merged": {func(w *world) int64 {
			number := approved(w)
			w.disappear(number)
			w.push("src/nozzle.go", "package evil\n")
			w.land(number)
			return number
		}, store.MergeSeenViolation, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.administrator()
			number := c.merge(w)
			for range 2 { // the second look changes nothing
				w.event(number)
				w.settle()
			}
			m := w.merged(number)
			if m.Kind != c.kind || m.Asked != c.asked || m.Checked != c.checked || m.DestinationBranch != release || m.Sentence == "" {
				t.Errorf("seen %+v", m)
			}
			if m.ByGate != (name == "by the gate") {
				t.Errorf("merged by the gate: %t", m.ByGate)
			}
			if (m.PullRequestID == nil) != strings.HasPrefix(name, "never") {
				t.Errorf("of %v", m.PullRequestID)
			}
			violations := 0
			if c.kind == store.MergeSeenViolation {
				violations = 1
			}
			told := 0
			for _, notice := range w.inbox("alice") {
				if notice.Kind == store.AlarmMergedUnapproved {
					told++
				}
			}
			if n := w.alarms(store.AlarmMergedUnapproved); n != violations || told != violations {
				t.Errorf("%d alarms, %d notices, want %d", n, told, violations)
			}
			w.in(func(tx *store.Tx) error {
				list, more, err := tx.Violations(t.Context(), w.repository, store.Page{})
				if len(list) != violations || more {
					t.Errorf("%d violations are listed", len(list))
				}
				return err
			})
		})
	}
}

// disappear lets Bitbucket deny the pull request while the gate looks at it.
func (w *world) disappear(number int64) {
	w.t.Helper()
	_, err := w.sim.AddFault(bitbucketsim.Fault{Method: "GET", Path: `/pullrequests/\d+$`, Status: 404, Times: 1})
	w.must(err)
	w.event(number)
	w.settle()
	if v := w.view(number); v.PullRequest.State != "GONE" {
		w.t.Fatalf("the pull request is %s", v.PullRequest.State)
	}
}
