package gate_test

import (
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
)

// The clock of the database goes back behind the expiry, as after a failover: what had expired does not turn green.
func TestAClockThatGoesBackGivesNoTimeBack(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	w.decides(number, "carol", approval.Reject)
	w.settle()
	w.sql(`update signedapproval_approval_requests set expires_at = now(), facts = jsonb_set(facts, '{request,expiresAt}', to_jsonb(now())) where state = 'REJECTED'`)
	w.decides(number, "carol", approval.Withdraw)
	w.settle()
	if s, sentence := w.shown(number, head); s != "FAILED" || w.view(number).Request.State != string(approval.Expired) {
		t.Fatal(s, sentence)
	}
	// As if the clock were two hours back: the expiry, and then the time of the last verdict, lie ahead.
	w.sql(`update signedapproval_approval_requests set expires_at = now() + interval '1 hour', facts = jsonb_set(jsonb_set(facts, '{request,expiresAt}', to_jsonb(now() + interval '1 hour')), '{now}', to_jsonb(now() + interval '2 hours')) where state = 'EXPIRED'`)
	for range 2 { // it stays so from look to look
		w.event(number)
		w.settle()
		if s, sentence := w.shown(number, head); s != "FAILED" || w.view(number).Request.State != string(approval.Expired) {
			t.Error(s, sentence)
		}
	}
}
