package evidence_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// steal has somebody who holds Bob's key enrol another one with it and approve with that; then Bob finds
// out, and revokes the first key. What he revokes it with is the thief's: it holds.
func steal(w *world) {
	at := w.tick()
	w.second("bob")
	w.signedBy = func(person string) token { return latest(w, person+"2", person) }
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.revoke("bob", w.token("bob2"), &at)
}

// latest is the first of these tokens that there is.
func latest(w *world, names ...string) token {
	name := names[slices.IndexFunc(names, func(n string) bool { _, ok := w.tokens[n]; return ok })]
	return w.tokens[name]
}

// stealOn goes on from the thief's key to a third one, before Carol puts an end to the first.
func stealOn(w *world) {
	at := w.tick()
	w.second("bob")
	second, third := w.tokens["bob2"], es256(w.t, "bob3")
	third.key.Person = "per-bob"
	w.tokens["bob3"] = third
	w.enrol("bob3", &second, nil)
	w.signedBy = func(person string) token { return latest(w, person+"3", person) }
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.revoke("bob", w.token("carol"), &at)
}

// found has the gate know of a theft, and Dave approve.
func found(theft func(*world)) func(*world) {
	return func(w *world) {
		theft(w)
		w.tallied[0].Compromised = true
		w.decide("dave", evidence.Approve)
	}
}

// countersigningThief countersigns Carol's key with Bob's, where the rule asks for countersigned keys.
func countersigningThief(w *world) {
	thievish(w, func() { w.vouch("carol", w.tokens["bob"]) })
}

// agreeingThief agrees with Bob's key to what Dave signed first.
func agreeingThief(w *world) {
	thievish(w, func() { w.vouch("carol", w.tokens["dave"], w.tokens["bob"]) })
}

// thievish has Carol approve with a key for which Bob's signed while it was in other hands.
func thievish(w *world, vouch func()) {
	w.policy.Rules[0].Keys = &approval.KeyDemand{Countersigned: true}
	at := w.tick()
	vouch()
	w.open("old")
	w.decide("carol", evidence.Approve)
	w.revoke("bob", w.token("bob"), &at)
	w.decide("dave", evidence.Approve)
}

func TestWhatAKeyInOtherHandsAuthorisedDoesNotCount(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		story  func(*world)
		reason approval.Reason
	}{
		"a key that it enrolled":               {found(steal), approval.CompromisedKey},
		"a key that such a key enrolled":       {found(stealOn), approval.CompromisedKey},
		"that somebody's key is that person's": {countersigningThief, approval.LoginOnlyKey},
		"that it is, as one of a quorum":       {agreeingThief, approval.LoginOnlyKey},
	} {
		w := newWorld(t)
		c.story(w)
		report := evidence.Verify(w.encoded(), w.anchors())
		if report.ExitCode() != 0 || report.Verdict.State != approval.Pending {
			t.Errorf("%s: %s", name, report.Sentence())
			continue
		}
		if ignored := report.Verdict.Requirements[0].Ignored; len(ignored) != 1 || ignored[0].Reason != c.reason {
			t.Errorf("%s: %+v", name, ignored)
		}
	}
}

// TestStands judges the keys of a roster in which Carol's key is revoked as compromised at each of several
// times, around those at which it enrolled a key and countersigned another.
func TestStands(t *testing.T) {
	t.Parallel()
	newRoster := func(since func(before, between, after time.Time) *time.Time) (*evidence.Roster, *world) {
		w := newWorld(t)
		before := w.tick()
		w.second("carol") // signs at the next minute
		between := w.now.Add(time.Second)
		w.vouch("bob", w.tokens["carol"])
		after := w.now.Add(time.Second)
		w.revoke("carol", w.token("dave"), since(before, between, after))
		r, err := evidence.ReplayRoster(evidence.LeafDigest(w.genesis), w.versions())
		w.must(err)
		return r, w
	}
	for name, c := range map[string]struct {
		since  func(before, between, after time.Time) *time.Time
		stands map[string]bool
		bob    evidence.Identity
	}{
		"not at all":                   {func(_, _, _ time.Time) *time.Time { return nil }, map[string]bool{"bob": true, "carol": true, "carol2": true, "dave": true}, evidence.ByCountersigner},
		"after both":                   {func(_, _, after time.Time) *time.Time { return &after }, map[string]bool{"bob": true, "carol": true, "carol2": true, "dave": true}, evidence.ByCountersigner},
		"between the two":              {func(_, between, _ time.Time) *time.Time { return &between }, map[string]bool{"bob": true, "carol": true, "carol2": true, "dave": true}, evidence.Disowned},
		"before the key it signed for": {func(before, _, _ time.Time) *time.Time { return &before }, map[string]bool{"bob": true, "carol": true, "carol2": false, "dave": true}, evidence.Disowned},
	} {
		r, w := newRoster(c.since)
		stands := map[string]bool{}
		for person := range c.stands {
			key, _ := r.Key(w.tokens[person].key.CredentialID)
			stands[person] = r.Stands(key)
			if r.Compromised(key, w.now.Add(-time.Hour)) == r.Stands(key) {
				t.Errorf("%s: what the key of %s signed long before", name, person)
			}
		}
		if diff := cmp.Diff(c.stands, stands); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		bob, _ := r.Key(w.tokens["bob"].key.CredentialID)
		if got := r.IdentityAt(bob, r.Versions()); got != c.bob {
			t.Errorf("%s: Bob's key is known by %s", name, got)
		}
		carol, _ := r.Key(w.tokens["carol"].key.CredentialID)
		var resting []string
		for _, k := range r.RestingOn(carol.Digest) {
			resting = append(resting, k.Key.Person)
		}
		if diff := cmp.Diff([]string{"per-bob", "per-carol", "per-dave", "per-carol"}, resting); diff != "" {
			t.Errorf("%s: rests on Carol's key (-want +got):\n%s", name, diff)
		}
	}
}

// TestStandingOfManyRotations has three people exchange their keys in turn, each new one signed for by the
// newest ones of the two others. To follow each signature back by itself would not end.
func TestStandingOfManyRotations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	names := []string{"bob", "carol", "dave"}
	newest := map[string]token{}
	for _, name := range names {
		newest[name] = w.tokens[name]
	}
	for i := range 90 {
		person, first, second := names[i%3], newest[names[(i+1)%3]], newest[names[(i+2)%3]]
		name := fmt.Sprintf("%s after %d", person, i)
		next := es256(t, name)
		next.key.Person = "per-" + person
		w.tokens[name] = next
		about := evidence.KeyDocument{
			Key: next.key, AttestationObject: approval.DigestOf(seed("attestation " + name)), ClientData: approval.DigestOf(seed("client data " + name)),
		}
		agreed := false
		w.tamperChange = func(c *evidence.RosterChange) {
			if !agreed {
				agreed = true
				w.agree(c, evidence.Act{Purpose: evidence.Countersign, Workspace: workspaceUUID, Key: &about}, []token{second})
			}
		}
		w.enrol(name, nil, &first)
		w.tamperChange = nil
		newest[person] = next
	}
	w.signedBy = func(person string) token { return newest[person] }
	w.open("new")
	w.decide("bob", evidence.Approve)
	w.decide("carol", evidence.Approve)
	if r := evidence.Verify(w.encoded(), w.anchors()); r.ExitCode() != 0 {
		t.Errorf("exit code %d: %s", r.ExitCode(), r.Sentence())
	}
}
