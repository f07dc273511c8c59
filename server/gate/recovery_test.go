package gate_test

import (
	"context"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// governed makes alice the administrator of the workspace and everybody else a member.
func (w *world) governed() {
	w.t.Helper()
	alice := w.people["alice"].ID
	w.keys.Role = func(_ context.Context, p store.Person, workspace string, _ bool) (store.Role, error) {
		switch {
		case workspace != w.workspace:
			return store.RoleNone, nil
		case p.ID == alice:
			return store.RoleAdmin, nil
		}
		return store.RoleMember, nil
	}
	w.sql(`insert into signedapproval_memberships (person_id, workspace_id, role)
		select id, $1::uuid, case when id = $2::uuid then 'ADMIN' else 'MEMBER' end from signedapproval_people`, w.workspace, alice)
}

// vouch has alice sign an act about somebody else's key.
func (w *world) vouch(act people.KeyAct, err error) {
	w.t.Helper()
	w.must(err)
	alice := w.people["alice"]
	answer, err := alice.key.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(w.t.Context(), alice.Person, alice.session, string(answer))
	w.must(err)
}

// made makes a key of a person that waits, for want of another one, for a countersigner.
func (w *world) made(p *person) store.Credential {
	w.t.Helper()
	ctx := w.t.Context()
	p.key = passkeytest.New(origin)
	options, err := w.keys.BeginPasskey(ctx, p.Person, p.session, "new")
	w.must(err)
	answer, err := p.key.Create([]byte(options))
	w.must(err)
	_, act, err := w.keys.FinishPasskey(ctx, p.Person, p.session, "", string(answer))
	w.must(err)
	answer, err = p.key.Get(act.Options)
	w.must(err)
	key, next, err := w.keys.ConfirmPasskey(ctx, p.Person, p.session, string(answer))
	w.must(err)
	if next != nil || key.EnrolledAt != nil {
		w.t.Fatalf("the key does not wait: %+v", key)
	}
	return key
}

// TestARecoveredKeyIsProved: a key that somebody else vouched for comes into the roster with that act, counts under a rule
// that asks for it, and goes out by one, with the time since when it was in other hands.
func TestARecoveredKeyIsProved(t *testing.T) {
	w := newWorld(t)
	w.governed()
	rule := w.rule(1, "bob", "carol")
	rule.Keys = &approval.KeyDemand{Countersigned: true}
	w.save(rule)
	number := w.open()
	w.settle()
	bob, alice := w.people["bob"], w.people["alice"]

	// A key that rests on the log-in alone does not count here.
	w.decides(number, "bob", approval.Approve)
	w.settle()
	if v := w.view(number); v.Request.State != store.RequestPending {
		t.Fatalf("the approval by a log-in's key: %s %s", v.Request.State, v.Request.Sentence)
	}
	if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 {
		t.Errorf("the bundle of it: %s", report.Sentence())
	}
	w.decides(number, "bob", approval.Withdraw)

	// All keys are lost; the next one waits until alice vouches for it.
	_, err := w.keys.ReportLost(t.Context(), bob.Person)
	w.must(err)
	fresh := w.made(bob)
	if _, err := w.decide(number, "bob", approval.Approve); refusal.Code(err) != gate.CodeKeyWaits {
		t.Errorf("with a key that waits: %v", err)
	}
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, w.workspace, fresh.ID))
	w.decides(number, "bob", approval.Approve)
	w.settle()
	v := w.view(number)
	if v.Request.State != store.RequestApproved {
		t.Fatalf("the approval by a countersigned key: %s %s", v.Request.State, v.Request.Sentence)
	}
	// The roster is pinned as it was while bob's first key counted and alice's did: hers signed for his next.
	data, anchors := w.bundle(number), w.anchors()
	anchors.Roster = w.roster().Digest(2)
	if report := evidence.Verify(data, anchors); report.ExitCode() != 0 {
		t.Errorf("the bundle: %s, %+v", report.Sentence(), report.Steps)
	}
	b, err := evidence.ParseBundle(data)
	w.must(err)
	if last := b.Enrolments[len(b.Enrolments)-1]; last.Enrolment.Countersigned == nil || last.Countersigner == nil || last.Countersigner.AccountID != alice.AccountID {
		t.Errorf("the last enrolment: %+v", last)
	}

	// Alice says that it is in other hands, since an hour: what it decided does not count any more.
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	w.vouch(w.keys.PrepareMemberRevocation(t.Context(), alice.Person, alice.session, w.workspace, fresh.ID, &since))
	w.settle()
	roster := w.roster()
	key, ok := roster.Key(fresh.ID)
	if !ok || key.Removed != roster.Versions() || key.CompromisedSince == nil || !key.CompromisedSince.Equal(since) {
		t.Errorf("the key in the roster: %+v", key)
	}
	if report := evidence.Verify(data, anchors); report.ExitCode() != 0 {
		t.Errorf("the bundle of before, which does not know: %s", report.Sentence())
	}
	if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 || report.Verdict.State != approval.Pending {
		t.Errorf("a bundle with a decision by a key in other hands: %d %s", report.ExitCode(), report.Sentence())
	}
}
