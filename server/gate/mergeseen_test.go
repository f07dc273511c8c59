package gate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
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

// TestAnOverrideThatIsApprovedMeanwhileIsNoViolation merges what was overridden, while the approval that was missing comes.
func TestAnOverrideThatIsApprovedMeanwhileIsNoViolation(t *testing.T) {
	w := newWorld(t)
	w.administrator()
	w.save(w.breakable(1, "carol"))
	number := w.open()
	w.settle()
	w.overrides(number, "carol")
	w.settle()
	w.wire.Set(fault.Trap{On: fault.Commits("insert into signedapproval_decisions"), Mishap: fault.Slow, Meanwhile: func() { w.land(number) }})
	w.decides(number, "bob", approval.Approve)
	if w.wire.Clear() != 1 {
		t.Fatal("it was not merged meanwhile")
	}
	w.drainAll()
	v, seen := w.view(number), w.merged(number)
	if seen.Kind != store.MergeSeenOverride || v.Request.State != store.RequestApproved {
		t.Fatalf("seen as %s: %s; its request is %s", seen.Kind, seen.Sentence, v.Request.State)
	}
	_, report := w.proven(v.Request.ID)
	if report.Verdict == nil || report.Verdict.State != approval.Approved {
		t.Fatal(report.Sentence())
	}
	rows, _, err := w.audit(w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour)))
	w.must(err)
	i := slices.IndexFunc(rows, func(r attest.Row) bool { return r.Commit == seen.LandedCommit })
	if i < 0 || rows[i].Kind != attest.KindOverride {
		t.Errorf("the audit: %+v", rows)
	}
	review, err := w.gate.Review(t.Context(), w.people["alice"].Person, w.workspace, seen.LandedCommit, gate.CommitScope{}, web)
	w.must(err)
	if review.Merge == nil || review.Merge.Kind != attest.KindOverride {
		t.Errorf("the attestation: %+v", review.Merge)
	}
}

// TestTheEvidenceOfAMergeThatWasSeenLate ends before the merge: the request had been cancelled by then. An audit lists what landed all the same.
func TestTheEvidenceOfAMergeThatWasSeenLate(t *testing.T) {
	w := newWorld(t)
	number := approved(w)
	id := w.view(number).Request.ID
	w.disappear(number)
	w.land(number)
	w.event(number)
	w.settle()
	b, report := w.proven(id)
	last, err := evidence.ParseLeaf(b.Chain[len(b.Chain)-1])
	w.must(err)
	if closed, ok := last.Body.(evidence.RequestClosed); !ok || closed.Reason != "cancelled" {
		t.Errorf("the evidence ends with %+v", last.Body)
	}
	if change, ok := report.Change(); !ok || change.Landed != "" || b.Verdict.State != approval.Approved {
		t.Errorf("%s: %+v", b.Verdict.State, change)
	}
	rows, _, err := w.audit(w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour)))
	w.must(err)
	landed := w.merged(number).LandedCommit
	i := slices.IndexFunc(rows, func(r attest.Row) bool { return r.Commit == landed })
	if i < 0 || rows[i].Kind != attest.KindApproved || rows[i].Request != id {
		t.Errorf("the audit: %+v", rows)
	}
}

// TestAPaymentIsNoLookAtThePullRequest: a call to merge is lost, and lands where nothing is asked for. That a status was paid is no look at the pull
// request: what our own call merged is on record all the same.
func TestAPaymentIsNoLookAtThePullRequest(t *testing.T) {
	t.Parallel()
	for name, paid := range map[string]bool{"nothing in between": false, "a status is paid in between": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.losesTheCall()
			w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
			w.event(number)
			w.onlyAll(store.KindEvaluate) // STOPPED is owed now
			w.land(number)                // the call
			w.unanswered()
			w.sql(`update signedapproval_pull_requests set synced_at = synced_at - interval '31 seconds'`)
			if paid {
				w.onlyAll(store.KindStatus)
			}
			w.event(number)
			w.onlyAll(store.KindEvaluate)
			w.drainAll()
			var n int
			w.must(w.super.QueryRow(t.Context(), `select count(*) from signedapproval_merges_seen where kind = $1`, store.MergeSeenViolation).Scan(&n))
			if n != 1 {
				v := w.view(number)
				t.Errorf("%d violations on record; pull request %s, merge %s: %s", n, v.PullRequest.State, v.Merge.State, v.Merge.Sentence)
			}
		})
	}
}

// TestAMergeFromBeforeTheRuleBrokeNone: a pull request is merged to a branch that no rule covers; a rule comes; a status of before is paid; then the
// merge is seen. It broke no rule.
func TestAMergeFromBeforeTheRuleBrokeNone(t *testing.T) {
	t.Parallel()
	for name, paid := range map[string]bool{"nothing in between": false, "a status is paid in between": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob"))
			number := w.open()
			w.settle()
			w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
			w.event(number)
			w.onlyAll(store.KindEvaluate) // STOPPED is owed now
			w.land(number)
			both := w.rule(1, "bob")
			both.Branches = []string{"release/*", "main"}
			w.save(both)
			if paid {
				w.onlyAll(store.KindStatus)
			}
			w.event(number)
			w.onlyAll(store.KindEvaluate)
			var n int
			w.must(w.super.QueryRow(t.Context(), `select count(*) from signedapproval_merges_seen where kind = $1`, store.MergeSeenViolation).Scan(&n))
			if n != 0 {
				t.Errorf("%d violations on record of a merge that no rule asked approval for", n)
			}
		})
	}
}
