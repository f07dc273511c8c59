package monitor_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// enrolOwn enrols a further key of a person by one that they have.
func (g *governed) enrolOwn(k, by token) {
	g.t.Helper()
	e := g.enrolment(k)
	authority := by.assert(e.Act)
	e.Authority = &authority
	g.enrol(k, e, evidence.ByOwnKey, by.digest(g.t))
}

// reported has a person sign that a key of theirs is revoked, and maybe since when it was in other hands, and writes the leaf. It gives the
// change of the roster that follows.
func (g *governed) reported(k, by token, since *time.Time) evidence.RosterChange {
	g.t.Helper()
	act := g.act(evidence.Act{Purpose: evidence.Revoke, Signer: evidence.Party{Person: k.key.Person}, Revocation: &evidence.RevocationDocument{
		Person: k.key.Person, Key: k.digest(g.t), CompromisedSince: since,
	}})
	signed := evidence.SignedAct{Act: act, Assertion: by.assert(act)}
	proof, err := signed.Digest()
	g.must(err)
	g.openings.SignedActs = append(g.openings.SignedActs, signed)
	g.about(evidence.KeyRevoked{Person: k.key.Person, Key: k.digest(g.t), By: evidence.ByOwnKey, Revocation: proof})
	return evidence.RosterChange{Event: evidence.KeyRemoved, Key: k.key, By: evidence.ByOwnKey, Proof: proof, Signer: by.digest(g.t), IssuedAt: g.issued(act), CompromisedSince: since}
}

// byOperator is a change of the roster that takes a key out on nobody's signature.
func byOperator(k token) evidence.RosterChange {
	return evidence.RosterChange{Event: evidence.KeyRemoved, Key: k.key, By: evidence.ByOperator}
}

var second = newToken("per-alice", "alice's second")

// TestARevocationThatNoRosterFollows is in the log, where its person finds it, and in no version of the roster, by which bundles go.
func TestARevocationThatNoRosterFollows(t *testing.T) {
	t.Parallel()
	strange := evidence.WorkspaceID(seed("of another workspace"), workspace)
	for name, write := range map[string]func(g *governed){
		"a report of a stolen key": func(g *governed) {
			since := g.now.Add(-time.Minute)
			g.reported(alice, second, &since)
		},
		"by its own key":      func(g *governed) { g.reported(alice, alice, nil) },
		"without a signature": func(g *governed) { g.about(evidence.KeyRevoked{Person: "per-alice", Key: alice.digest(t)}) },
		"by somebody else here": func(g *governed) {
			g.say(evidence.KeyRevoked{Person: "per-alice", Key: alice.digest(t), By: evidence.ByCountersigner, Revocation: g.revocation(alice, nil, bob)})
		},
		"in a leaf that names another workspace": func(g *governed) {
			g.write(evidence.Leaf{Workspace: strange, Body: evidence.KeyRevoked{Person: "per-alice", Key: alice.digest(t), By: evidence.ByOwnKey, Revocation: digest}})
		},
		"twice": func(g *governed) {
			g.reported(alice, second, nil)
			g.reported(alice, second, nil)
		},
		"of a key that comes into the roster later": func(g *governed) {
			g.now = g.now.Add(24 * time.Hour)
			g.about(evidence.KeyRevoked{Person: "per-carol", Key: carol.digest(t)})
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
		},
	} {
		for _, stays := range []bool{false, true} {
			g, a := newGoverned(t), newAuditor(t)
			a.withOpenings(nil)
			a.stays = stays
			g.enrolOwn(second, alice)
			write(g)
			g.publish()
			pass := func(after time.Duration) []monitor.Code {
				t.Helper()
				a.now = g.now.Add(after)
				found, err := a.pass(g.operator, g)
				if err != nil {
					t.Fatal(err)
				}
				return slices.DeleteFunc(codes(found), func(code monitor.Code) bool { return code == monitor.GenesisMissing }) // of the other workspace
			}
			if got := pass(late - time.Minute); len(got) > 0 {
				t.Errorf("%s: %v, though the roster may still follow", name, got)
			}
			for n := range 3 { // with nothing new in the log
				if got := pass(late + time.Duration(n+1)*time.Second); !slices.Equal(got, []monitor.Code{monitor.RevocationUnfollowed}) {
					t.Errorf("%s: %v, want an alarm in each pass", name, got)
				}
			}
			g.now = a.now
			for _, k := range []token{alice, carol} {
				if known := slices.ContainsFunc(g.changes, func(c evidence.RosterChange) bool { return c.Key.Equal(k.key) }); known {
					g.roster(byOperator(k))
				}
			}
			g.publish()
			if got := pass(24 * time.Hour); len(got) > 0 {
				t.Errorf("%s: %v, though the roster followed", name, got)
			}
			later := newAuditor(t)
			later.withOpenings(nil)
			later.now = g.now.Add(time.Hour)
			if found, err := later.pass(g.operator, g); err != nil || slices.Contains(codes(found), monitor.RevocationUnfollowed) {
				t.Errorf("%s: one that begins later: %v, %v", name, found, err)
			}
		}
	}
}

// TestARevocationThatIsDatedAhead does not wait for its time.
func TestARevocationThatIsDatedAhead(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	g.write(evidence.Leaf{Time: g.now.Add(1000 * time.Hour), Body: evidence.KeyRevoked{Person: "per-alice", Key: alice.digest(t)}})
	g.publish()
	if found, err := a.pass(g.operator, g); err != nil || !slices.Contains(codes(found), monitor.RevocationUnfollowed) {
		t.Errorf("%v, %v", found, err)
	}
}

// TestARevocationThatTheRosterFollows is quiet, however the log is read: at each of its leaves, in one pass, over the end of what is read
// at once, and long after.
func TestARevocationThatTheRosterFollows(t *testing.T) {
	t.Parallel()
	other := evidence.WorkspaceID(seed("of another workspace"), workspace)
	for name, write := range map[string]func(g *governed, wait func()){
		"a report of a stolen key": func(g *governed, wait func()) {
			since := g.now
			change := g.reported(alice, second, &since)
			wait()
			g.roster(change)
		},
		"a server by itself": func(g *governed, wait func()) {
			g.about(evidence.KeyRevoked{Person: "per-alice", Key: alice.digest(t)})
			wait()
			g.roster(byOperator(alice))
		},
		"a key that comes in with its revocation, long after it": func(g *governed, wait func()) {
			g.about(evidence.KeyRevoked{Person: "per-carol", Key: carol.digest(t)})
			g.now = g.now.Add(time.Hour)
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			wait()
			g.roster(byOperator(carol))
		},
		"a key that is in no roster here": func(g *governed, wait func()) {
			g.about(evidence.KeyRevoked{Person: "per-carol", Key: carol.digest(t)})
			wait()
			g.now = g.now.Add(time.Hour)
		},
		"somebody else, in another workspace": func(g *governed, wait func()) {
			g.write(evidence.Leaf{Workspace: other, Body: evidence.Genesis{Salt: digest}})
			g.write(evidence.Leaf{Workspace: other, Body: evidence.KeyRevoked{Person: "per-alice", Key: alice.digest(t), By: evidence.ByCountersigner, Revocation: digest}})
			wait()
			g.now = g.now.Add(time.Hour)
		},
		"a late report": func(g *governed, wait func()) {
			since := g.now
			g.roster(g.reported(alice, second, nil))
			g.now = g.now.Add(time.Hour)
			change := g.reported(alice, second, &since)
			wait()
			g.roster(change)
		},
	} {
		for _, far := range []bool{false, true} {
			if far && name != "a report of a stolen key" {
				continue // it is about how much is read at once
			}
			t.Run(fmt.Sprint(name, " ", far), func(t *testing.T) {
				t.Parallel()
				g, each := newGoverned(t), newAuditor(t)
				each.withOpenings(nil)
				g.enrolOwn(second, alice)
				quiet := func(a *auditor) {
					t.Helper()
					g.publish()
					if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 || slices.ContainsFunc(found, func(f monitor.Finding) bool { return f.Code == monitor.RevocationUntold }) {
						t.Errorf("%v, %v", found, err)
					}
				}
				write(g, func() {
					quiet(each)
					if far {
						g.story(0, 500)
					}
				})
				quiet(each)
				g.now = g.now.Add(time.Hour)
				quiet(each)
				once := newAuditor(t)
				once.withOpenings(nil)
				quiet(once)
			})
		}
	}
}

// TestASignedRevocationThatTheRosterDoesNotName has the key taken out on the operator's word, which hides since when it was in other hands,
// or a late report written down and no more.
func TestASignedRevocationThatTheRosterDoesNotName(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(g *governed){
		"taken out by the operator": func(g *governed) {
			since := g.now
			g.reported(alice, second, &since)
			g.roster(byOperator(alice))
		},
		"a late report": func(g *governed) {
			since := g.now
			g.roster(g.reported(alice, second, nil))
			g.reported(alice, second, &since)
		},
	} {
		g, a := newGoverned(t), newAuditor(t)
		a.withOpenings(nil)
		g.enrolOwn(second, alice)
		write(g)
		g.publish()
		for _, want := range []int{0, 1, 0} {
			found, err := a.pass(g.operator, g)
			notices := slices.DeleteFunc(slices.Clone(found), func(f monitor.Finding) bool { return f.Code != monitor.RevocationUntold || !f.Notice })
			if err != nil || len(codes(found)) > 0 || len(notices) != want {
				t.Errorf("%s: %v, %v, want %d notices", name, found, err, want)
			}
			g.now = g.now.Add(time.Hour)
		}
	}
}

// TestAKeyThatIsRevokedElsewhere counts here, and that is worth a notice: a report of one's own key can be written down as somebody else's,
// who has no voice here.
func TestAKeyThatIsRevokedElsewhere(t *testing.T) {
	t.Parallel()
	strange := evidence.WorkspaceID(seed("of another workspace"), workspace)
	for _, counts := range []bool{true, false} {
		g, a := newGoverned(t), newAuditor(t)
		a.withOpenings(nil)
		if !counts {
			g.roster(g.reported(alice, alice, nil))
		}
		g.write(evidence.Leaf{Workspace: strange, Body: evidence.KeyRevoked{Person: "per-alice", Key: alice.digest(t), By: evidence.ByCountersigner, Revocation: digest}})
		g.publish()
		for pass := range 3 {
			found, err := a.pass(g.operator, g)
			notices := slices.DeleteFunc(slices.Clone(found), func(f monitor.Finding) bool { return f.Code != monitor.RevokedElsewhere || !f.Notice })
			alarms := slices.DeleteFunc(codes(found), func(code monitor.Code) bool { return code == monitor.GenesisMissing }) // of the other workspace
			want := 0
			if counts && pass == 0 {
				want = 1
			}
			if err != nil || len(alarms) > 0 || len(notices) != want {
				t.Errorf("pass %d, counts %t: %v, %v, want %d notices", pass, counts, found, err, want)
			}
			g.now = g.now.Add(time.Hour)
		}
	}
}
