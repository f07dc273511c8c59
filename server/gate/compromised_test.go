package gate_test

import (
	"context"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestWhatACompromisedKeyDecidedCountsNoMore lets bob say, after he approved, that his key may have been in other hands
// by then: nobody touches the pull request, and it is no longer approved.
func TestWhatACompromisedKeyDecidedCountsNoMore(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")

	bob := w.people["bob"]
	stolen := w.keyID(bob)
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	since := time.Now().Add(-time.Hour)
	act, err := w.keys.PrepareRevocation(t.Context(), bob.Person, bob.session, stolen, &since)
	w.must(err)
	answer, err := bob.key.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(t.Context(), bob.Person, bob.session, string(answer))
	w.must(err)
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
	ignored := w.view(number).Verdict.Requirements[0].Ignored
	if len(ignored) != 1 || ignored[0].Reason != approval.CompromisedKey {
		t.Errorf("ignored %+v", ignored)
	}
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
}

// TestEvidenceOfACompromisedKey lets bob revoke a key with another one that he had before it was in other hands: the
// evidence shows the approval by it, and that it does not count.
func TestEvidenceOfACompromisedKey(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	stolen, first := w.keyID(bob), bob.key
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	second := bob.key
	since := time.Now().Truncate(time.Second).Add(time.Second) // acts have whole seconds, and the enrolment's comes before
	<-time.After(time.Until(since))
	bob.key = first
	w.decides(number, "bob", approval.Approve)
	w.settle()
	bob.key = second
	act, err := w.keys.PrepareRevocation(t.Context(), bob.Person, bob.session, stolen, &since)
	w.must(err)
	answer, err := bob.key.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(t.Context(), bob.Person, bob.session, string(answer))
	w.must(err)
	w.settle()
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "SUCCESSFUL", "approved by Carol")
	if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 || len(report.Verdict.Requirements[0].Ignored) != 1 {
		t.Errorf("%s: %+v", report.Sentence(), report.Verdict)
	}
}

// TestAKeyThatACompromisedKeyEnrolledDoesNotCount lets bob approve with a second key, and then revoke the first one, which
// signed for it, as having been in other hands before that; he signs this with the second one. The approval counts no
// more, the second key is out of the roster, and the evidence says so and verifies.
func TestAKeyThatACompromisedKeyEnrolledDoesNotCount(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	stolen, since := w.keyID(bob), time.Now().Truncate(time.Second).Add(-time.Second)
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	second := w.keyID(bob)
	w.decides(number, "bob", approval.Approve)
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	before, anchors := w.bundle(number), w.anchors()

	act, err := w.keys.PrepareRevocation(t.Context(), bob.Person, bob.session, stolen, &since)
	w.must(err)
	answer, err := bob.key.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(t.Context(), bob.Person, bob.session, string(answer))
	w.must(err)
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")

	if report := evidence.Verify(before, anchors); report.ExitCode() != 0 {
		t.Errorf("the bundle of before, which does not know: %s", report.Sentence())
	}
	data := w.bundle(number)
	report := evidence.Verify(data, w.anchors())
	if report.ExitCode() != 0 {
		t.Fatal(report.Sentence())
	}
	if ignored := report.Verdict.Requirements[0].Ignored; len(ignored) != 1 || ignored[0].Reason != approval.CompromisedKey {
		t.Errorf("ignored %+v", ignored)
	}
	bundle, err := evidence.ParseBundle(data)
	w.must(err)
	var changes []evidence.RosterChange
	for _, document := range bundle.Roster {
		change, err := evidence.ParseRosterChange(document)
		w.must(err)
		changes = append(changes, change)
	}
	roster, err := evidence.ReplayRoster(evidence.LeafDigest(bundle.Genesis), changes)
	w.must(err)
	if key, found := roster.Key(second); !found || key.Removed == 0 || roster.Stands(key) {
		t.Errorf("the key that the stolen one enrolled: %v %+v", found, key)
	}
}

// TestAKeyThatACompromisedKeyCountersignedDoesNotCount has carol vouch for the key with which bob recovers, and alice say
// afterwards that carol's key was in other hands by then: bob's key counts nowhere, neither what it decided nor for
// anything new, and the evidence says so and verifies.
func TestAKeyThatACompromisedKeyCountersignedDoesNotCount(t *testing.T) {
	w := newWorld(t)
	w.governed()
	alice, bob, carol := w.people["alice"], w.people["bob"], w.people["carol"]
	role := w.keys.Role
	w.keys.Role = func(ctx context.Context, p store.Person, workspace string, fresh bool) (store.Role, error) {
		if p.ID == carol.ID && workspace == w.workspace {
			return store.RoleAdmin, nil
		}
		return role(ctx, p, workspace, fresh)
	}
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	_, err := w.keys.ReportLost(t.Context(), bob.Person)
	w.must(err)
	recovered, since := w.made(bob), time.Now().Truncate(time.Second).Add(-time.Second)
	act, err := w.keys.PrepareCountersignature(t.Context(), carol.Person, carol.session, w.workspace, recovered.ID)
	w.must(err)
	answer, err := carol.key.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(t.Context(), carol.Person, carol.session, string(answer))
	w.must(err)
	w.decides(number, "bob", approval.Approve)
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	if n := len(w.counting(bob)); n != 1 {
		t.Fatalf("%d keys of Bob's count", n)
	}

	w.vouch(w.keys.PrepareMemberRevocation(t.Context(), alice.Person, alice.session, w.workspace, w.keyID(carol), &since))
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
	if counting := w.counting(bob); len(counting) != 0 {
		t.Errorf("keys of Bob's that count: %+v", counting)
	}
	if key, found := w.roster().Key(recovered.ID); !found || key.Removed == 0 || w.roster().Stands(key) {
		t.Errorf("Bob's key in the roster: %v %+v", found, key)
	}
	if _, err := w.decide(number, "bob", approval.Withdraw); refusal.Code(err) != gate.CodeKeyWaits {
		t.Errorf("Bob decides: %v", err)
	}
	report := evidence.Verify(w.bundle(number), w.anchors())
	if report.ExitCode() != 0 || report.Verdict.State != approval.Pending {
		t.Fatalf("the bundle: %s", report.Sentence())
	}
	if ignored := report.Verdict.Requirements[0].Ignored; len(ignored) != 1 || ignored[0].Reason != approval.CompromisedKey {
		t.Errorf("ignored %+v", ignored)
	}
}

// revokes lets a person revoke a key of theirs as having been in other hands, with a signature by another one.
func (w *world) revokes(p *person, id []byte, signer *passkeytest.Authenticator, since time.Time) {
	w.t.Helper()
	act, err := w.keys.PrepareRevocation(w.t.Context(), p.Person, p.session, id, &since)
	w.must(err)
	answer, err := signer.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(w.t.Context(), p.Person, p.session, string(answer))
	w.must(err)
}

// TestAKeyWithoutAVoiceSaysNothingOfAnother revokes one of bob's keys in the workspace, and lets whoever has it say
// elsewhere that the key with which he approved, and which enrolled another one, was in other hands. It is taken out of
// use, as the operator's word; what it did counts here, at once and later, and the evidence verifies.
func TestAKeyWithoutAVoiceSaysNothingOfAnother(t *testing.T) {
	w := newWorld(t)
	w.governed()
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	bob, alice := w.people["bob"], w.people["alice"]
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	first, firstKey := w.keyID(bob), bob.key
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	second, secondKey := w.keyID(bob), bob.key
	w.enrolled[bob.ID] = firstKey
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	third, thirdKey := w.keyID(bob), bob.key
	bob.key = firstKey
	w.decides(number, "bob", approval.Approve)
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.vouch(w.keys.PrepareMemberRevocation(t.Context(), alice.Person, alice.session, w.workspace, second, nil))
	w.settle()

	w.revokes(bob, first, secondKey, since)
	for _, when := range []string{"before the roster follows", "when it has followed"} {
		w.event(number)
		if when == "when it has followed" {
			w.settle()
		} else {
			w.onlyAll(store.KindEvaluate)
		}
		if v := w.view(number); v.Request.State != store.RequestApproved || v.Decisions[0].Compromised {
			t.Errorf("%s: %s, %+v", when, v.Request.State, v.Decisions[0])
		}
		if a := w.mergeCheck(number); !a.Success {
			t.Errorf("%s: the merge check says %+v", when, a)
		}
		if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 {
			t.Errorf("%s: the bundle: %s", when, report.Sentence())
		}
		counting := w.counting(bob)
		if len(counting) != 1 || string(counting[0].ID) != string(third) {
			t.Errorf("%s: keys that count: %d", when, len(counting))
		}
	}
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	if key, found := w.roster().Key(first); !found || key.Removed == 0 || key.CompromisedSince != nil {
		t.Errorf("the roster says %+v", key)
	}
	bob.key = thirdKey
	w.decides(number, "bob", approval.Withdraw)
}

// TestWhatIsSaidHoldsBeforeTheRosterTellsOfIt lets bob say, with a key that the roster does not even have yet, that the one
// with which he approved was in other hands: no screen, no merge check and no merge counts it from then on, though the
// roster is still to follow. An evaluation that comes first lets it follow, so that its verdict can be proved.
func TestWhatIsSaidHoldsBeforeTheRosterTellsOfIt(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob", "carol")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	first := w.keyID(bob)
	w.decides(number, "bob", approval.Approve)
	w.allBut(store.KindMerge)
	head := w.view(number).PullRequest.HeadCommit
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	w.revokes(bob, first, bob.key, time.Now().Add(-time.Hour))

	if v := w.view(number); !v.Decisions[0].Compromised {
		t.Errorf("%+v", v.Decisions[0])
	}
	if a := w.mergeCheck(number); a.Success {
		t.Errorf("the merge check says %+v", a)
	}
	w.onlyAll(store.KindMerge)
	if n := w.calls("POST", "/merge$"); n != 0 {
		t.Errorf("%d merges were sent", n)
	}
	w.onlyAll(store.KindEvaluate)
	if v := w.view(number); v.Request.State != store.RequestPending {
		t.Errorf("%s", v.Request.State)
	}
	if key, found := w.roster().Key(first); !found || key.CompromisedSince == nil {
		t.Errorf("the roster says %+v", key)
	}
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
	if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 {
		t.Errorf("the bundle: %s", report.Sentence())
	}
}

// counting are the keys of a person that decide in the workspace.
func (w *world) counting(p *person) (counting []store.Credential) {
	w.t.Helper()
	w.must(w.store.InWorkspace(w.t.Context(), w.workspace, func(tx *store.Tx) error {
		keys, err := tx.Keys(w.t.Context(), p.ID)
		counting = keys.Counting(w.workspace)
		return err
	}))
	return counting
}
