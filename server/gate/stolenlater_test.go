package gate_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestAKeyIsReportedWhenAllIsOver lets a request end in each way, and then has bob say that the key with which he decided
// may have been in other hands by then. Nothing is tallied again. The evidence holds where what the others signed is
// enough, and says what is wrong where it is not.
func TestAKeyIsReportedWhenAllIsOver(t *testing.T) {
	t.Parallel()
	approve := func(people ...string) func(*world, int64) {
		return func(w *world, number int64) {
			for _, name := range people {
				w.decides(number, name, approval.Approve)
			}
		}
	}
	merge := func(w *world, number int64) { w.land(number) }
	for name, c := range map[string]struct {
		decide, end func(w *world, number int64)
		state       approval.State // that stands, by whom; empty where none does
		by          string         // or what it is without what the key signed; empty for too few approvals
	}{
		"merged, and the other suffices":     {approve("bob", "carol"), merge, approval.Approved, "approved by Carol"},
		"superseded, and the other suffices": {approve("bob", "carol"), func(w *world, _ int64) { w.push("more.txt", "more") }, approval.Approved, "approved by Carol"},
		"declined, and the other suffices":   {approve("bob", "carol"), func(w *world, number int64) { w.post(number, "decline", nil) }, approval.Approved, "approved by Carol"},
		"a draft, and the other suffices":    {approve("bob", "carol"), func(w *world, number int64) { w.edit(number, map[string]any{"draft": true}) }, approval.Approved, "approved by Carol"},
		"cancelled, and the other suffices": {approve("bob", "carol"), func(w *world, _ int64) {
			_, err := w.gate.Cancel(w.t.Context(), w.workspace, w.repository, "the repository was removed")
			w.must(err)
		}, approval.Approved, "approved by Carol"},
		"merged, and it was he alone":     {approve("bob"), merge, "", ""},
		"superseded, and it was he alone": {approve("bob"), func(w *world, _ int64) { w.push("more.txt", "more") }, "", ""},
		"superseded when he had rejected it": {func(w *world, number int64) {
			w.decides(number, "carol", approval.Approve)
			w.decides(number, "bob", approval.Reject)
		}, func(w *world, _ int64) { w.push("more.txt", "more") }, approval.Rejected, "rejected by Bob"},
		"merged, and he had taken back a rejection": {func(w *world, number int64) {
			w.decides(number, "carol", approval.Approve)
			w.decides(number, "bob", approval.Reject)
			w.decides(number, "bob", approval.Withdraw) // who did is not known any more
		}, merge, "", "REJECTED (rejected by Bob)"},
		"merged by an override of his": {func(w *world, number int64) { w.overrides(number, "bob") }, merge, "", ""},
		"merged by an override of another, and he approved": {func(w *world, number int64) {
			w.overrides(number, "dave")
			w.decides(number, "bob", approval.Approve)
		}, merge, approval.Overridden, "overridden by Dave; 0 of 1 approval"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newCrew(t)
			w.administrator()
			rule := w.rule(1, "bob", "carol")
			rule.Override = &approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Accounts: []string{w.people["bob"].AccountID, w.people["dave"].AccountID}}}
			w.save(rule)
			number := w.open()
			w.settle()
			c.decide(w, number)
			w.settle()
			before, id := w.view(number).Verdict, w.view(number).Request.ID
			c.end(w, number)
			w.event(number)
			w.drainAll()
			var ended store.ApprovalRequest
			w.in(func(tx *store.Tx) (err error) {
				ended, err = tx.Request(t.Context(), id)
				return err
			})
			w.reportStolen("bob")
			w.drainAll()
			w.fell(id, c.state == "", name)
			w.in(func(tx *store.Tx) error {
				now, err := tx.Request(t.Context(), id)
				if now.State != ended.State || string(now.Facts) != string(ended.Facts) {
					t.Errorf("the request was %s, and is %s", ended.State, now.State)
				}
				return err
			})
			data, err := w.gate.Bundle(t.Context(), w.people["alice"].Person, w.workspace, id)
			w.must(err)
			report := evidence.Verify(data, w.anchors())
			w.check(true)
			if c.state == "" {
				if last, _ := report.Failed(); !report.Stolen() || last.Name != "tally" || last.Code != evidence.CodeStolen || !strings.Contains(report.Sentence(), "it is "+cmp.Or(c.by, "PENDING (0 of 1 approval")) {
					t.Errorf("the bundle: %s", report.Sentence())
				}
			} else if report.ExitCode() != 0 || report.Verdict.State != c.state || report.Verdict.Sentence != c.by {
				t.Errorf("the bundle: exit %d, %s", report.ExitCode(), report.Sentence())
			}
			b, err := evidence.ParseBundle(data)
			w.must(err)
			if b.Verdict.State != before.State || b.Verdict.Sentence != before.Sentence {
				t.Errorf("what was written of the verdict is now %s: %s", b.Verdict.State, b.Verdict.Sentence)
			}
			if !strings.HasPrefix(name, "merged") {
				return
			}
			seen := w.merged(number)
			rows, _, err := w.audit(w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour)))
			w.must(err)
			i := slices.IndexFunc(rows, func(r attest.Row) bool { return r.Commit == seen.LandedCommit })
			if i < 0 {
				t.Fatalf("the audit: %+v", rows)
			}
			row := rows[i]
			review, refused := w.gate.Review(t.Context(), w.people["alice"].Person, w.workspace, seen.LandedCommit, gate.CommitScope{}, web)
			if c.state == "" {
				if row.Kind != attest.KindViolation || row.Request != id || !strings.Contains(row.Reason, "reported as stolen since before then") {
					t.Errorf("the audit: %+v", row)
				}
				if refusal.Code(refused) != gate.CodeStolenKey {
					t.Errorf("the attestation: %v", refused)
				}
				return
			}
			w.must(refused)
			if want := map[approval.State]string{approval.Approved: attest.KindApproved, approval.Overridden: attest.KindOverride}[c.state]; row.Kind != want || review.Merge.Kind != want || review.Verdict.State != string(c.state) {
				t.Errorf("the audit: %+v, the attestation: %+v", row, review)
			}
			for _, a := range review.Approvals {
				if a.Person == w.people["bob"].ID {
					t.Errorf("the attestation counts bob: %+v", review.Approvals)
				}
			}
			var status store.CommitStatus
			w.in(func(tx *store.Tx) (err error) {
				status, err = tx.Status(t.Context(), w.view(number).PullRequest.ID, seen.HeadCommit)
				return err
			})
			if !status.Paid() {
				t.Errorf("the status: %+v", status)
			}
		})
	}
}

// TestARejectionThatAThiefTookBack has bob reject, somebody with another key of his take that back, and bob report that key:
// he rejects it again by that, and can take it back himself.
func TestARejectionThatAThiefTookBack(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	bob := w.people["bob"]
	first := bob.key
	w.decides(number, "carol", approval.Approve)
	w.decides(number, "bob", approval.Reject)
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	stolen, since := w.keyID(bob), time.Now().Truncate(time.Second)
	w.decides(number, "bob", approval.Withdraw)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
	bob.key = first
	w.revokes(bob, stolen, first, since)
	w.settle()
	w.expect(number, head, "FAILED", "rejected by Bob")
	w.decides(number, "bob", approval.Withdraw)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
	if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 {
		t.Errorf("the evidence: %s", report.Sentence())
	}
	if _, err := w.decide(number, "bob", approval.Withdraw); refusal.Code(err) != gate.CodeNothingToTake {
		t.Errorf("once more: %v", err)
	}
}

// TestARejectionThatAnUnfitKeyTookBack has bob reject with a key of a model that the rule asks for, and withdraw with one that is not:
// the rejection stands, and he can take it back with the better key.
func TestARejectionThatAnUnfitKeyTookBack(t *testing.T) {
	w := newWorld(t)
	maker, err := passkeytest.NewMaker([16]byte{1})
	w.must(err)
	w.ceremonies.Attest, w.gate.Models = true, w.metadata(7, maker)
	bob, carol := w.people["bob"], w.people["carol"]
	weak := bob.key
	for _, p := range []*person{bob, carol} {
		p.key = passkeytest.New(origin)
		p.key.Maker = maker
		w.enrol(p)
	}
	better := bob.key
	rule := w.rule(1, "bob", "carol")
	rule.Keys = &approval.KeyDemand{Models: []string{maker.Model}}
	w.save(rule)
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "carol", approval.Approve)
	w.decides(number, "bob", approval.Reject)
	bob.key = weak
	withdrawsInVain := func(why string) {
		t.Helper()
		if _, err := w.decide(number, "bob", approval.Withdraw); refusal.Code(err) != gate.CodeUnprovedModel {
			t.Errorf("%s: %v", why, err)
		}
		w.settle()
		w.expect(number, head, "FAILED", "rejected by Bob")
	}
	withdrawsInVain("with a key that does not count")
	bob.key = better
	w.decides(number, "bob", approval.Withdraw)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
	anchors := w.anchors()
	anchors.Models = w.gate.Models
	if report := evidence.Verify(w.bundle(number), anchors); report.ExitCode() != 0 {
		t.Errorf("the evidence: %s", report.Sentence())
	}
	bob.key = weak
	if _, err := w.decide(number, "bob", approval.Withdraw); refusal.Code(err) != gate.CodeNothingToTake {
		t.Errorf("once more: %v", err)
	}
	w.decides(number, "bob", approval.Reject)
	withdrawsInVain("of what such a key said itself")
	bob.key = better
	w.decides(number, "bob", approval.Withdraw)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
	if v := w.view(number); v.Can.Withdraw {
		t.Error("there is something to withdraw")
	}
}
