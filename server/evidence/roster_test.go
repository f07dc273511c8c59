package evidence_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// rosterStory is a pull request while the roster moves: Carol is vouched for,
// Bob enrols a second key with his first, which is then revoked, and Dave's key
// is revoked by nobody's signature after he approved.
func rosterStory(w *world) {
	w.vouch("carol", w.tokens["bob"])
	w.second("bob")
	w.open("old")
	w.signedBy = func(person string) token {
		if person == "bob" {
			person = "bob2"
		}
		return w.tokens[person]
	}
	w.decide("bob", evidence.Approve)
	w.revoke("bob", w.token("bob2"), nil)
	w.decide("carol", evidence.Reject)
	w.decide("carol", evidence.Withdraw)
	w.decide("dave", evidence.Approve)
	w.revoke("dave", nil, nil)
}

// second gives a person another key, which the first one signs for.
func (w *world) second(name string) {
	w.t.Helper()
	k := es256(w.t, name+"2")
	k.key.Person = "per-" + name
	w.tokens[name+"2"] = k
	w.enrol(name+"2", w.token(name), nil)
}

// another gives a person a further key, for which nobody signs.
func (w *world) another(name string) {
	w.t.Helper()
	k := es256(w.t, name+" again")
	k.key.Person = "per-" + name
	w.tokens[name+" again"] = k
	w.enrol(name+" again", nil, nil)
}

func TestRosterMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.newest()
	rosterStory(w)
	data := w.encoded()
	anchors := w.anchors()
	// The oldest version has not Bob's second key, which his first signed for. In the newest Bob's first and
	// Dave's are revoked, which takes nothing from what they signed before.
	for name, version := range map[string]evidence.Digest{"first": first, "newest": w.newest()} {
		anchors.Roster = version
		if report := evidence.Verify(data, anchors); report.ExitCode() != 0 {
			t.Errorf("with the %s roster pinned: %s", name, report.Sentence())
		}
	}
	report := evidence.Verify(data, evidence.Anchors{})
	var said []string
	for _, fact := range report.Facts {
		if fact.Name == "key" {
			said = append(said, fact.Value[65:]+": "+string(fact.Label))
		}
	}
	if diff := cmp.Diff([]string{
		"of person per-bob, known by own-key: signed", "of person per-carol, known by countersigner: signed", "of person per-dave, known by countersigner: signed",
	}, said); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// compromisedStory is a pull request whose first approval does not count any more, since its key may
// have been in other hands.
func compromisedStory(w *world) {
	w.open("old")
	at := w.tick()
	w.decide("carol", evidence.Approve)
	w.revoke("carol", w.token("bob"), &at)
	w.tallied[0].Compromised = true
	w.decide("bob", evidence.Approve)
}

func TestDecisionsOfACompromisedKeyDoNotCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	compromisedStory(w)
	report := evidence.Verify(w.encoded(), w.anchors())
	if report.ExitCode() != 0 || report.Verdict.State != approval.Pending || !strings.Contains(report.Verdict.Sentence, "1 of 2") {
		t.Error(report.Sentence())
	}
}

func TestReplayRoster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.second("bob")
	w.vouch("carol", w.tokens["dave"])
	since := w.tick()
	w.revoke("bob", w.token("carol"), &since)
	changes := w.versions()
	genesis := evidence.LeafDigest(w.genesis)
	r, err := evidence.ReplayRoster(genesis, changes)
	if err != nil {
		t.Fatal(err)
	}
	if r.Workspace != workspaceUUID || r.Versions() != 6 || r.Digest(6) != w.newest() || r.Digest(0) != "" || r.Digest(7) != "" {
		t.Errorf("%s, %d versions", r.Workspace, r.Versions())
	}
	if n, ok := r.VersionOf(r.Digest(4)); n != 4 || !ok {
		t.Errorf("version %d", n)
	}
	if _, ok := r.VersionOf(genesis); ok {
		t.Error("the genesis is a version")
	}
	live := func(version int64) (people []string) {
		for _, k := range r.LiveAt(version) {
			people = append(people, k.Key.Person)
		}
		return people
	}
	for version, want := range map[int64][]string{
		0: nil, 1: {"per-bob"}, 3: {"per-bob", "per-carol", "per-dave"}, 5: {"per-bob", "per-carol", "per-dave", "per-bob"}, 6: {"per-carol", "per-dave", "per-bob"},
	} {
		if diff := cmp.Diff(want, live(version)); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", version, diff)
		}
	}
	identity := func(name string, version int64) evidence.Identity {
		k, ok := r.Key(w.tokens[name].key.CredentialID)
		if !ok {
			t.Fatalf("no key of %s", name)
		}
		return r.IdentityAt(k, version)
	}
	for _, c := range []struct {
		name    string
		version int64
		want    evidence.Identity
	}{
		{"bob", 6, evidence.ByLogIn},
		{"bob2", 6, evidence.ByLogIn}, // an own key does not lift itself
		{"carol", 4, evidence.ByLogIn},
		{"carol", 5, evidence.ByCountersigner},
		{"dave", 3, evidence.ByCountersigner},
	} {
		if got := identity(c.name, c.version); got != c.want {
			t.Errorf("%s is known by %s at version %d, want %s", c.name, got, c.version, c.want)
		}
	}
	if _, ok := r.Key([]byte("none")); ok {
		t.Error("a key that nobody has")
	}
	bob, _ := r.Key(w.tokens["bob"].key.CredentialID)
	if bob.Removed != 6 || bob.CompromisedSince == nil || !bob.CompromisedSince.Equal(since) || len(r.Keys()) != 4 {
		t.Errorf("%+v", bob)
	}
	keys, acts := r.Behind([][]byte{w.tokens["bob2"].key.CredentialID, []byte("none")})
	var behind []string
	for _, k := range keys {
		behind = append(behind, k.Key.Person)
	}
	// Bob's second key goes back to his first, which Carol revoked, for whom Dave
	// vouches, for whom Bob's first vouches.
	if diff := cmp.Diff([]string{"per-bob", "per-carol", "per-dave", "per-bob"}, behind); diff != "" || len(acts) != 2 {
		t.Errorf("%d acts, keys (-want +got):\n%s", len(acts), diff)
	}
	empty, err := evidence.ReplayRoster(genesis, nil)
	if err != nil || empty.Versions() != 0 || len(empty.LiveAt(9)) != 0 {
		t.Errorf("an empty roster: %v", err)
	}
}

func TestReplayRosterRefuses(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for name, tell := range map[string]func(w *world){
		"a gap": func(w *world) { w.tamperChange = func(c *evidence.RosterChange) { c.Version++ }; w.second("bob") },
		"another history": func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) { c.Previous = digestOf("x") }
			w.second("bob")
		},
		"another workspace": func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) { c.Workspace = repositoryUUID }
			w.second("bob")
		},
		"a key twice":               func(w *world) { w.enrol("bob", nil, nil) },
		"a further key on a log-in": func(w *world) { w.another("bob") },
		"a further key on a log-in of somebody who has none any more": func(w *world) {
			w.revoke("bob", nil, nil)
			w.another("bob")
		},
		"a further key on a log-in of somebody whose first one was countersigned": func(w *world) { w.another("dave") },
		"a credential twice": func(w *world) {
			k := es256(w.t, "erin")
			k.key.CredentialID = w.tokens["bob"].key.CredentialID
			w.tokens["erin"] = k
			w.enrol("erin", nil, nil)
		},
		"a public key twice": func(w *world) {
			k := es256(w.t, "erin")
			k.key.PublicKey = w.tokens["bob"].key.PublicKey
			w.tokens["erin"] = k
			w.enrol("erin", nil, nil)
		},
		"a key that is absent": func(w *world) { w.tokens["erin"] = es256(w.t, "erin"); w.revoke("erin", nil, nil) },
		"a key revoked twice":  func(w *world) { w.revoke("bob", nil, nil); w.revoke("bob", nil, nil) },
		"a report of a revoked key by itself": func(w *world) {
			w.second("bob")
			w.revoke("bob", nil, nil)
			w.revoke("bob", w.token("bob"), &since)
		},
		"a report of a revoked key without a time": func(w *world) {
			w.revoke("bob", w.token("carol"), nil)
			w.revoke("bob", w.token("carol"), nil)
		},
		"a report of a revoked key without a time that takes back another": func(w *world) {
			w.revoke("bob", w.token("carol"), &since)
			w.revoke("bob", w.token("carol"), nil)
		},
		"a report of a revoked key of the same time": func(w *world) {
			w.revoke("bob", w.token("carol"), &since)
			w.revoke("bob", w.token("dave"), &since)
		},
		"a report of a revoked key of a later time": func(w *world) {
			w.revoke("bob", w.token("carol"), &since)
			later := since.Add(time.Hour)
			w.revoke("bob", w.token("dave"), &later)
		},
		"a report of a revoked key by one that was revoked": func(w *world) {
			w.revoke("dave", nil, nil)
			w.revoke("bob", nil, nil)
			w.revoke("bob", w.token("dave"), &since)
		},
		"vouching for a revoked key": func(w *world) {
			w.revoke("carol", nil, nil)
			w.vouch("carol", w.tokens["bob"])
		},
		"a key that is another": func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) { c.Key.BackupEligible = true }
			w.revoke("bob", w.token("carol"), &since)
		},
		"a signer who was revoked": func(w *world) {
			bob := w.token("bob")
			w.second("bob")
			w.revoke("bob", nil, nil)
			w.vouch("carol", *bob)
		},
		"a signer who never was": func(w *world) {
			w.vouch("carol", es256(w.t, "stranger"))
		},
		"somebody else as one's own": func(w *world) {
			w.tokens["erin"] = es256(w.t, "erin")
			w.enrol("erin", w.token("bob"), nil)
		},
		"oneself as somebody else": func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) { c.Signer = digestOfKey(w.t, w.tokens["carol"].key) }
			w.vouch("carol", w.tokens["bob"])
		},
		"one's own agreement": func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) {
				c.Agreed = []evidence.Agreement{{Signer: digestOfKey(w.t, w.tokens["carol"].key), Proof: digestOf("act"), IssuedAt: *c.IssuedAt}}
			}
			w.vouch("carol", w.tokens["bob"])
		},
		"one person's agreement twice": func(w *world) {
			w.second("bob")
			w.vouch("carol", w.tokens["bob"], w.tokens["bob2"])
		},
		"another person's agreement twice": func(w *world) {
			w.second("bob")
			w.vouch("carol", w.tokens["dave"], w.tokens["bob"], w.tokens["bob2"])
		},
		"the agreement of a stranger": func(w *world) { w.vouch("carol", w.tokens["bob"], es256(w.t, "stranger")) },
		"an agreement by a key that was revoked": func(w *world) {
			w.revoke("dave", nil, nil)
			w.vouch("carol", w.tokens["bob"], w.tokens["dave"])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tell(w)
			if _, err := evidence.ReplayRoster(evidence.LeafDigest(w.genesis), w.versions()); evidence.CodeOf(err) != evidence.CodeRoster {
				t.Errorf("got %v", err)
			}
		})
	}
	w := newWorld(t)
	if _, err := evidence.ReplayRoster(digestOf("another genesis"), w.versions()); evidence.CodeOf(err) != evidence.CodeRoster {
		t.Errorf("another genesis: %v", err)
	}
}

// allForgeries are the lies about decisions, overrides, rosters and the log.
func allForgeries() []forged {
	return slices.Concat(forgeries(), overrideForgeries(), proofForgeries(), modelForgeries(), lateForgeries(), ghostlyForgeries(), revokedForgeries())
}

// TestAReportOfARevokedKey: it moves the time back, and nothing else; what the key signed for falls with it.
func TestAReportOfARevokedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.second("bob")
	at := w.tick()
	third := es256(t, "bob3")
	third.key.Person = "per-bob"
	w.tokens["bob3"] = third
	w.enrol("bob3", w.token("bob2"), nil)
	before := at.Add(-time.Hour)
	w.revoke("bob2", w.token("bob2"), nil)
	removed := int64(len(w.roster))
	for _, since := range []time.Time{at, before} {
		w.revoke("bob2", w.token("bob"), &since)
		roster, err := evidence.ReplayRoster(evidence.LeafDigest(w.genesis), w.versions())
		if err != nil {
			t.Fatal(err)
		}
		key, _ := roster.Key(w.tokens["bob2"].key.CredentialID)
		enrolled, _ := roster.Key(w.tokens["bob3"].key.CredentialID)
		if key.Removed != removed || key.CompromisedSince == nil || !key.CompromisedSince.Equal(since) || roster.Stands(enrolled) || !roster.Stands(key) {
			t.Errorf("since %s: %+v", since, key)
		}
	}
}
