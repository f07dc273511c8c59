package evidence_test

import (
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// vouching is a story of a rule that counts only keys for which somebody vouched, told to a verifier who pinned the
// roster in which the keys of Bob and Carol rest on a log-in.
type vouching struct {
	name  string
	story func(w *world)
	exit  int
	state approval.State
}

func (v vouching) make(t *testing.T) ([]byte, evidence.Anchors) {
	t.Helper()
	w := bareWorld(t)
	w.policy.Rules[0].Keys = &approval.KeyDemand{Countersigned: true}
	w.tokens["mallory"] = es256(t, "mallory")
	w.begin()
	pinned := w.newest()
	v.story(w)
	anchors := w.anchors()
	anchors.Roster = pinned
	return w.encoded(), anchors
}

// asked publishes the roster and opens a request, on which these people decide.
func (w *world) asked(action evidence.Purpose, people ...string) {
	w.t.Helper()
	w.publish()
	w.open("new")
	for _, name := range people {
		w.decide(name, action)
	}
}

// ghost is a person whom the operator invents when the roster has been pinned.
func ghost(w *world, vouchesFor ...string) {
	w.enrol("mallory", nil, nil)
	for _, name := range vouchesFor {
		w.vouch(name, w.tokens["mallory"])
	}
}

func vouchings() []vouching {
	return []vouching{
		{"a key that is known", func(w *world) {
			w.vouch("bob", w.tokens["dave"])
			w.vouch("carol", w.tokens["dave"])
			w.asked(evidence.Approve, "bob", "carol")
		}, 0, approval.Approved},
		{"a key for which a key that is known signed", func(w *world) {
			w.enrol("mallory", nil, w.token("dave"))
			w.vouch("bob", w.tokens["mallory"])
			w.vouch("carol", w.tokens["mallory"])
			w.asked(evidence.Approve, "bob", "carol")
		}, 0, approval.Approved},
		{"a ghost, and a key that is known too", func(w *world) {
			ghost(w, "bob", "carol")
			w.vouch("bob", w.tokens["dave"])
			w.vouch("carol", w.tokens["dave"])
			w.asked(evidence.Approve, "bob", "carol")
		}, 0, approval.Approved},
		{"a ghost, for one more than it takes", func(w *world) {
			ghost(w, "bob")
			w.vouch("carol", w.tokens["dave"])
			w.asked(evidence.Approve, "bob", "carol", "dave")
		}, 0, approval.Approved},
		{"a ghost, of what is rejected", func(w *world) {
			ghost(w, "bob")
			w.asked(evidence.Reject, "bob")
		}, 0, approval.Rejected},

		{"a ghost", func(w *world) {
			ghost(w, "bob", "carol")
			w.asked(evidence.Approve, "bob", "carol")
		}, 1, approval.Approved},
		{"a ghost, for one of two", func(w *world) {
			ghost(w, "bob")
			w.asked(evidence.Approve, "bob", "dave")
		}, 1, approval.Approved},
		{"a ghost, for the key that enrolled the one that signed", func(w *world) {
			ghost(w, "bob")
			w.second("bob")
			w.signedBy = func(person string) token { return latest(w, person+"2", person) }
			w.asked(evidence.Approve, "bob", "dave")
		}, 1, approval.Approved},
		{"a ghost for whom another one vouched", func(w *world) {
			w.tokens["mal"] = es256(w.t, "mal")
			w.enrol("mal", nil, nil)
			w.enrol("mallory", nil, w.token("mal"))
			w.vouch("bob", w.tokens["mallory"])
			w.asked(evidence.Approve, "bob", "dave")
		}, 1, approval.Approved},
		{"a ghost, for who takes a rejection back", func(w *world) {
			w.vouch("carol", w.tokens["dave"])
			ghost(w, "bob")
			w.asked(evidence.Approve, "carol", "dave")
			w.decide("bob", evidence.Reject)
			w.decide("bob", evidence.Withdraw)
		}, 1, approval.Approved},
	}
}

// TestWhoVouchesIsKnown: with a roster pinned, somebody whom the operator invented vouches for nobody.
func TestWhoVouchesIsKnown(t *testing.T) {
	t.Parallel()
	for _, v := range vouchings() {
		data, anchors := v.make(t)
		report := evidence.Verify(data, anchors)
		failed, _ := report.Failed()
		if report.ExitCode() != v.exit || v.exit == 0 && report.Verdict.State != v.state || v.exit == 1 && failed.Name != "anchors" {
			t.Errorf("%s: exit %d at %q, %s", v.name, report.ExitCode(), failed.Name, report.Sentence())
		}
		anchors.Roster = ""
		if unpinned := evidence.Verify(data, anchors); unpinned.ExitCode() != 2 {
			t.Errorf("%s, to somebody who pinned no roster: exit %d, %s", v.name, unpinned.ExitCode(), unpinned.Sentence())
		}
	}
}

// ghostlyForgeries are the stories of which the verdict rests on the word of somebody who was invented.
func ghostlyForgeries() (list []forged) {
	for _, v := range vouchings() {
		if v.exit == 1 {
			list = append(list, forged{"vouched for by " + v.name, v.make, "anchors", evidence.CodeKey})
		}
	}
	return list
}
