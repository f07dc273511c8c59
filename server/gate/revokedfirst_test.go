package gate_test

import (
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// revokesUndated lets a person revoke a key of theirs with a signature, by another one or that very key.
func (w *world) revokesUndated(p *person, id []byte, signer *passkeytest.Authenticator) {
	w.t.Helper()
	act, err := w.keys.PrepareRevocation(w.t.Context(), p.Person, p.session, id, nil)
	w.must(err)
	answer, err := signer.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(w.t.Context(), p.Person, p.session, string(answer))
	w.must(err)
}

// undated are the ways in which a key goes out of use with no word on since when it was in other hands. who has it is thief.
func undated() map[string]func(w *world, bob *person, stolen []byte, thief *passkeytest.Authenticator) {
	return map[string]func(w *world, bob *person, stolen []byte, thief *passkeytest.Authenticator){
		"by an administrator": func(w *world, _ *person, stolen []byte, _ *passkeytest.Authenticator) {
			alice := w.people["alice"]
			w.vouch(w.keys.PrepareMemberRevocation(w.t.Context(), alice.Person, alice.session, w.workspace, stolen, nil))
		},
		"by the thief, with the key itself": func(w *world, bob *person, stolen []byte, thief *passkeytest.Authenticator) {
			w.revokesUndated(bob, stolen, thief)
		},
		"by a click": func(w *world, bob *person, stolen []byte, _ *passkeytest.Authenticator) {
			_, err := w.keys.RevokePasskey(w.t.Context(), bob.Person, stolen)
			w.must(err)
		},
	}
}

// TestARevocationThatCameFirst: bob's key is taken out of use without a word on since when it was in other hands. Then he, or an
// administrator, finds out and says so: what it approved counts no more, at once and in the evidence, and what
// it signed for falls.
func TestARevocationThatCameFirst(t *testing.T) {
	for name, revoke := range undated() {
		for who, report := range map[string]func(w *world, bob *person, stolen []byte, first *passkeytest.Authenticator, since time.Time){
			"bob": func(w *world, bob *person, stolen []byte, first *passkeytest.Authenticator, since time.Time) {
				w.revokes(bob, stolen, first, since)
			},
			"alice": func(w *world, _ *person, stolen []byte, _ *passkeytest.Authenticator, since time.Time) {
				alice := w.people["alice"]
				w.vouch(w.keys.PrepareMemberRevocation(w.t.Context(), alice.Person, alice.session, w.workspace, stolen, &since))
			},
		} {
			t.Run(name+", reported by "+who, func(t *testing.T) {
				w := newWorld(t)
				w.governed()
				w.save(w.rule(1, "bob", "carol"))
				number := w.open()
				w.settle()
				bob := w.people["bob"]
				first := bob.key
				bob.key = passkeytest.New(origin)
				w.enrol(bob)
				stolen, thief := w.keyID(bob), bob.key
				w.decides(number, "bob", approval.Approve)
				bob.key = passkeytest.New(origin)
				w.enrol(bob) // with the stolen one
				ghost := w.keyID(bob)
				w.settle()
				head := w.view(number).PullRequest.HeadCommit
				w.expect(number, head, "SUCCESSFUL", "approved by Bob")
				revoke(w, bob, stolen, thief)
				w.settle()
				w.expect(number, head, "SUCCESSFUL", "approved by Bob")
				since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
				report(w, bob, stolen, first, since)
				if a := w.mergeCheck(number); a.Success {
					t.Errorf("before the roster follows, the merge check says %+v", a)
				}
				w.settle()
				w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
				bundle := evidence.Verify(w.bundle(number), w.anchors())
				if bundle.ExitCode() != 0 || bundle.Verdict.State != approval.Pending {
					t.Errorf("the evidence: %s", bundle.Sentence())
				}
				key, _ := w.roster().Key(stolen)
				fell, found := w.roster().Key(ghost)
				if key.CompromisedSince == nil || !key.CompromisedSince.Equal(since) || !found || fell.Removed == 0 || w.roster().Stands(fell) {
					t.Errorf("the roster says %+v, and of what it signed for %+v", key, fell)
				}
				notices := 0
				w.must(w.super.QueryRow(t.Context(), `select count(*) from signedapproval_notices where kind = 'KEY_REPORTED' and person_id = $1`, bob.ID).Scan(&notices))
				// Who revoked it for the workspace alone leaves a key to its person that is revoked by what they say.
				if want := map[bool]int{true: 0, false: 1}[name == "by an administrator" && who == "bob"]; notices != want {
					t.Errorf("bob has %d notices of it", notices)
				}
			})
		}
	}
}

// TestARevocationThatCameFirstWhenAllIsOver is the same of what was merged: its evidence falls.
func TestARevocationThatCameFirstWhenAllIsOver(t *testing.T) {
	for name, revoke := range undated() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.governed()
			w.save(w.rule(1, "bob", "carol"))
			number := w.open()
			w.settle()
			bob := w.people["bob"]
			first := bob.key
			bob.key = passkeytest.New(origin)
			w.enrol(bob)
			stolen := w.keyID(bob)
			w.decides(number, "bob", approval.Approve)
			w.settle()
			w.land(number)
			w.event(number)
			w.drainAll()
			revoke(w, bob, stolen, bob.key)
			w.settle()
			if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 {
				t.Errorf("the evidence of what was merged: %s", report.Sentence())
			}
			w.revokes(bob, stolen, first, time.Now().Add(-time.Hour))
			w.settle()
			report := evidence.Verify(w.bundle(number), w.anchors())
			if report.ExitCode() != 1 || !report.Stolen() {
				t.Errorf("the evidence of what was merged, after the report: %s", report.Sentence())
			}
		})
	}
}

// TestALateReportByANewKey lets bob report, with a key of which the roster does not know yet, one that he revoked: that comes into it
// with the report, whatever runs first.
func TestALateReportByANewKey(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	first := bob.key
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	stolen := w.keyID(bob)
	w.decides(number, "bob", approval.Approve)
	w.settle()
	_, err := w.keys.RevokePasskey(t.Context(), bob.Person, stolen)
	w.must(err)
	w.settle()
	w.enrolled[bob.ID] = first
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	w.revokes(bob, stolen, bob.key, time.Now().Add(-time.Hour))
	w.event(number)
	w.onlyAll(store.KindEvaluate)
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
	if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 || report.Verdict.State != approval.Pending {
		t.Errorf("the evidence: %s", report.Sentence())
	}
}

// TestALateReportOnlyTakesAway: nothing can be said of a revoked key but that it was in other hands earlier than is known, and not
// by itself. A key without a voice here keeps nobody from saying it.
func TestALateReportOnlyTakesAway(t *testing.T) {
	w := newWorld(t)
	w.governed()
	w.save(w.rule(1, "bob", "carol"))
	w.settle()
	ctx, bob, alice := t.Context(), w.people["bob"], w.people["alice"]
	first, firstKey := w.keyID(bob), bob.key
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	stolen := w.keyID(bob)
	w.enrolled[bob.ID] = firstKey
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	muted, mutedKey := w.keyID(bob), bob.key
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.vouch(w.keys.PrepareMemberRevocation(ctx, alice.Person, alice.session, w.workspace, muted, nil))
	_, err := w.keys.RevokePasskey(ctx, bob.Person, stolen)
	w.must(err)
	w.settle()
	roster := w.roster().Versions()
	long := time.Unix(0, 0).UTC()
	w.revokes(bob, stolen, mutedKey, long)
	w.settle()
	if key, _ := w.roster().Key(stolen); key.CompromisedSince != nil || w.roster().Versions() != roster {
		t.Errorf("a key without a voice said of another: %+v", key)
	}
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	w.revokes(bob, stolen, firstKey, since)
	w.settle()
	if key, _ := w.roster().Key(stolen); key.CompromisedSince == nil || !key.CompromisedSince.Equal(since) || w.roster().Versions() != roster+1 {
		t.Errorf("bob's report: %+v", key)
	}
	later := since.Add(time.Minute)
	for name, again := range map[string]func() (people.KeyAct, error){
		"alice, without a time": func() (people.KeyAct, error) {
			return w.keys.PrepareMemberRevocation(ctx, alice.Person, alice.session, w.workspace, stolen, nil)
		},
		"alice, of the same time": func() (people.KeyAct, error) {
			return w.keys.PrepareMemberRevocation(ctx, alice.Person, alice.session, w.workspace, stolen, &since)
		},
		"alice, of a later time": func() (people.KeyAct, error) {
			return w.keys.PrepareMemberRevocation(ctx, alice.Person, alice.session, w.workspace, stolen, &later)
		},
		"bob, without a time": func() (people.KeyAct, error) {
			return w.keys.PrepareRevocation(ctx, bob.Person, bob.session, stolen, nil)
		},
	} {
		if _, err := again(); refusal.Code(err) != people.CodeRevoked {
			t.Errorf("%s: %v", name, err)
		}
	}
	before := since.Add(-time.Hour)
	w.vouch(w.keys.PrepareMemberRevocation(ctx, alice.Person, alice.session, w.workspace, stolen, &before))
	if key, _ := w.roster().Key(stolen); !key.CompromisedSince.Equal(before) {
		t.Errorf("alice's report: %+v", key)
	}
	// What is written does not depend on how often it is asked for.
	versions := w.roster().Versions()
	for range 2 {
		_, err := w.gate.SyncRoster(ctx, w.workspace, bob.ID)
		w.must(err)
	}
	if w.roster().Versions() != versions {
		t.Errorf("the roster went on to version %d", w.roster().Versions())
	}
	if key, _ := w.roster().Key(first); key.Removed != 0 {
		t.Errorf("the key that reported: %+v", key)
	}
}
