package evidence_test

import (
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// A key that was revoked, undated, decides nothing behind the leaf of its revocation, whatever its signer is said to have been
// shown. Where that leaf is, at the latest, is told by the head that is an anchor, by the place of the newest version, and by
// what signers before were shown.

// outdated has everybody who signs from here on be shown the roster as it is now.
func (w *world) outdated() {
	w.t.Helper()
	roster := w.newest()
	w.tamperStatement = func(s *evidence.Statement) { s.Roster = roster }
}

// pinnedNow are anchors with the head of the log as it is now.
func (w *world) pinnedNow() evidence.Anchors {
	w.t.Helper()
	w.publish()
	anchors := w.anchors()
	anchors.LogHead = new(w.head)
	return anchors
}

// revokedKey is a story in which carol's key is revoked and approves.
type revokedKey struct {
	name string
	tell func(w *world) evidence.Anchors
	step string // that fails
}

func revokedKeys() []revokedKey {
	revoke := func(w *world) { w.revoke("carol", w.token("bob"), nil) }
	behind := func(w *world) evidence.Anchors {
		w.open("old")
		w.outdated()
		revoke(w)
		anchors := w.pinnedNow()
		w.decide("carol", evidence.Approve) // at that very head
		w.decide("bob", evidence.Approve)
		return anchors
	}
	return []revokedKey{
		{"when it had decided", func(w *world) evidence.Anchors {
			w.open("old")
			w.decide("carol", evidence.Approve)
			revoke(w)
			anchors := w.pinnedNow()
			w.decide("bob", evidence.Approve)
			return anchors
		}, ""},
		{"behind the head that is an anchor", func(w *world) evidence.Anchors {
			w.open("old")
			anchors := w.pinnedNow()
			w.decide("carol", evidence.Approve)
			revoke(w)
			w.decide("bob", evidence.Approve)
			return anchors
		}, ""},
		{"before the head that is an anchor", func(w *world) evidence.Anchors {
			anchors := behind(w)
			w.vouch("bob", w.tokens["dave"]) // so that the newest version is behind it
			return anchors
		}, "anchors"},
		{"before the newest version of the roster", behind, "log"},
		{"before somebody decided who was shown that", func(w *world) evidence.Anchors {
			w.open("old")
			before, _ := w.statement("carol", evidence.Approve)
			revoke(w)
			w.decide("bob", evidence.Approve)
			w.tamperStatement = func(s *evidence.Statement) {
				s.Roster, s.ChainHead, s.LogHead = before.Roster, before.ChainHead, before.LogHead
			}
			w.decide("carol", evidence.Approve)
			return w.anchors()
		}, "assertions"},
	}
}

func (r revokedKey) make(t *testing.T) ([]byte, evidence.Anchors) {
	t.Helper()
	w := newWorld(t)
	anchors := r.tell(w)
	return w.encoded(), anchors
}

func revokedForgeries() (list []forged) {
	for _, r := range revokedKeys() {
		if r.step != "" {
			list = append(list, forged{"decided by a key that was revoked " + r.name, r.make, r.step, evidence.CodeRevoked})
		}
	}
	return list
}

func TestARevokedKeyDecidesNothingBehindThat(t *testing.T) {
	t.Parallel()
	for _, r := range revokedKeys() {
		data, anchors := r.make(t)
		report := evidence.Verify(data, anchors)
		failed, _ := report.Failed()
		if failed.Name != r.step || r.step == "" && report.ExitCode() != 0 || r.step != "" && failed.Code != evidence.CodeRevoked {
			t.Errorf("a key that was revoked %s: exit %d, %s", r.name, report.ExitCode(), report.Sentence())
		}
	}
}
