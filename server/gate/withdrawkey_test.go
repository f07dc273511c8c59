package gate_test

import (
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// TestARejectionIsTakenBackOnlyByAKeyThatCounts: a withdrawal that would have no effect is refused, before anybody signs where no key
// of the person counts, else when it is signed with one that does not. Whatever else they said anybody can take back.
func TestARejectionIsTakenBackOnlyByAKeyThatCounts(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{"a key that nobody vouched for": gate.CodeLoginOnlyKey, "a key of another model": gate.CodeUnprovedModel} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.governed()
			maker, err := passkeytest.NewMaker([16]byte{1})
			w.must(err)
			w.ceremonies.Attest, w.gate.Models = true, w.metadata(7, maker)
			rule := w.rule(1, "bob", "carol")
			rule.Keys = &approval.KeyDemand{Countersigned: true}
			if code == gate.CodeUnprovedModel {
				rule.Keys = &approval.KeyDemand{Models: []string{maker.Model}}
			}
			w.save(rule)
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.decides(number, "bob", approval.Withdraw) // of what never counted
			w.decides(number, "bob", approval.Reject)
			w.settle()
			if w.view(number).Request.State != "REJECTED" {
				t.Fatalf("the request is %s", w.view(number).Request.State)
			}
			_, err = w.decide(number, "bob", approval.Withdraw)
			if refusal.Code(err) != code || !strings.Contains(err.Error(), "This rule counts only passkeys") {
				t.Errorf("with no key that counts: %v", err)
			}

			bob, alice := w.people["bob"], w.people["alice"]
			if code == gate.CodeLoginOnlyKey {
				w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, w.workspace, w.keyID(bob)))
			} else { // he is asked to sign with one that counts, and may still take the other one
				weak := bob.key
				bob.key = passkeytest.New(origin)
				bob.key.Maker = maker
				w.enrol(bob)
				strong, before := bob.key, len(w.view(number).Decisions)
				bob.key = weak
				if _, err = w.decide(number, "bob", approval.Withdraw); refusal.Code(err) != code || !strings.Contains(err.Error(), "nothing was decided") {
					t.Errorf("with the key that does not count: %v", err)
				}
				if n := len(w.view(number).Decisions); n != before {
					t.Errorf("%d decisions are on record, and not %d", n, before)
				}
				bob.key = strong
			}
			w.decides(number, "bob", approval.Withdraw)
			w.settle()
			if v := w.view(number); v.Request.State != "PENDING" {
				t.Errorf("the request is %s", v.Request.State)
			}
		})
	}
}
