package gate_test

import (
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// runsOut ends the time of all requests that are alive.
func (w *world) runsOut() {
	w.t.Helper()
	w.sql(`update signedapproval_approval_requests set expires_at = now(), facts = jsonb_set(facts, '{request,expiresAt}', to_jsonb(now())) where state in ('PENDING', 'APPROVED', 'REJECTED', 'OVERRIDDEN')`)
}

// renews has somebody ask again for the request of a pull request.
func (w *world) renews(number int64, who string) error {
	w.t.Helper()
	_, err := w.gate.Renew(w.t.Context(), w.people[who].Person, w.workspace, w.view(number).Request.ID)
	return err
}

// TestARejectedRequestIsAskedForAgain has bob reject, and be away when the time is up. Before that nobody can ask again. Then
// the next request has time anew: the rejection stands in it as in the first, no approval is taken along, and it can be overridden.
func TestARejectedRequestIsAskedForAgain(t *testing.T) {
	w := newCrew(t)
	rule := w.rule(1, "bob", "carol")
	rule.Override = &approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Accounts: []string{w.people["dave"].AccountID}}}
	w.save(rule)
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "carol", approval.Approve)
	w.decides(number, "bob", approval.Reject)
	w.settle()
	first := w.view(number)
	w.refused("before the time is up", w.renews(number, "carol"), refusal.BadInput)
	if first.Can.Renew || first.Request.State != store.RequestRejected {
		t.Fatalf("%s, %+v", first.Request.State, first.Can)
	}
	w.runsOut()
	_, err := w.override(number, "dave", "The site is down, and Bob is on a plane.")
	w.refused("an override when the time is up", err, gate.CodeExpired)
	for _, who := range []string{"alice", "bob", "carol", "dave"} {
		v, err := w.gate.ViewRequest(t.Context(), w.people[who].Person, w.workspace, first.Request.ID)
		w.must(err)
		if !v.Can.Renew || v.Can.Approve || v.Can.Override || v.Can.Code != gate.CodeExpired {
			t.Errorf("%s can %+v", who, v.Can)
		}
	}
	w.must(w.renews(number, "alice"))
	w.refused("twice", w.renews(number, "alice"), refusal.BadInput)
	w.settle()
	next := w.view(number)
	if next.Request.ID == first.Request.ID || next.Request.State != store.RequestRejected || next.Can.Renew || next.Request.Overdue {
		t.Fatalf("the next request is %s, %+v", next.Request.State, next.Can)
	}
	w.expect(number, head, "FAILED", "rejected by Bob")
	if a := w.mergeCheck(number); a.Success {
		t.Errorf("the merge check says %+v", a)
	}
	if counted := next.Verdict.Requirements[0].Counted; len(counted) != 0 {
		t.Errorf("taken along: %+v", counted)
	}
	w.overrides(number, "dave")
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "overridden by Dave; rejected by Bob; 0 of 1 approval")
	w.decides(number, "bob", approval.Withdraw)
	w.decides(number, "dave", approval.Withdraw)
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
	w.decides(number, "carol", approval.Withdraw) // of what she approved in the first
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
	w.check(true)
}

// TestWhatWasTakenBackInTimeIsNotAskedForAgain has bob take his rejection back in time, and nobody look at it by then:
// the request is approved, and asking again does not take that away. Taken back too late, it is asked for again.
func TestWhatWasTakenBackInTimeIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"in time": false, "too late": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob", "carol"))
			number := w.open()
			w.settle()
			head := w.view(number).PullRequest.HeadCommit
			w.decides(number, "carol", approval.Approve)
			w.decides(number, "bob", approval.Reject)
			w.settle()
			if late {
				w.runsOut()
			}
			w.decides(number, "bob", approval.Withdraw)
			if !late {
				w.runsOut()
			}
			err := w.renews(number, "carol")
			if late {
				w.must(err)
			} else {
				w.refused("what is approved", err, refusal.BadInput)
			}
			w.settle()
			if late {
				w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
			} else {
				w.expect(number, head, "SUCCESSFUL", "approved by Carol")
			}
			w.check(true)
		})
	}
}

// TestADecisionThatWaitedUntilTheTimeWasUp has bob approve in time, and his approval wait for the pull request while the time
// ends, carol rejects it, and a verdict says so. It could count for nothing, so it is refused, and he is told.
func TestADecisionThatWaitedUntilTheTimeWasUp(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	w.wire.Set(fault.Trap{On: func(e fault.Event) bool {
		sent := strings.Join(e.Statements, "\n")
		return !e.Commit && strings.Contains(sent, "signedapproval_pull_requests") && strings.Contains(sent, "for update")
	}, Mishap: fault.Slow, Meanwhile: func() {
		w.runsOut()
		w.decides(number, "carol", approval.Reject)
		w.onlyAll(store.KindEvaluate)
	}})
	_, err := w.decide(number, "bob", approval.Approve)
	if w.wire.Clear() != 1 {
		t.Fatal("nothing happened meanwhile")
	}
	w.refused("what had to wait", err, gate.CodeExpired)
	if n := w.decided(); n != 1 {
		t.Errorf("%d decisions were taken", n)
	}
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "FAILED", "rejected by Carol")
	w.check(true)
}
