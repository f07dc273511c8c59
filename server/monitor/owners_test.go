package monitor_test

import (
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// enrolFor enrols a key for an account: after a log-in, or by the word of one of the person's own.
func (g *governed) enrolFor(k token, account *evidence.PersonOpening, own ...token) {
	g.t.Helper()
	commitment, err := account.Commitment()
	g.must(err)
	object, client := []byte("attestation object"), []byte("client data")
	act := g.act(evidence.Act{Purpose: evidence.Enrol, Signer: evidence.Party{Person: k.key.Person, Commitment: commitment}, Key: &evidence.KeyDocument{
		Key: k.key, AttestationObject: approval.DigestOf(object), ClientData: approval.DigestOf(client),
	}})
	e := evidence.Enrolment{Act: act, Possession: k.assert(act), AttestationObject: object, ClientDataJSON: client}
	by, signer := evidence.ByLogIn, evidence.Digest("")
	for _, one := range own {
		e.Authority, by, signer = new(one.assert(act)), evidence.ByOwnKey, one.digest(g.t)
	}
	g.enrol(k, e, by, signer)
	g.openings.Enrolments[len(g.openings.Enrolments)-1].Owner = account
}

// hideOwner leaves out of the openings for whose account a key was enrolled.
func (g *governed) hideOwner(k token) {
	for i, e := range g.openings.Enrolments {
		if slices.Equal(e.Enrolment.Possession.CredentialID, k.key.CredentialID) {
			g.openings.Enrolments[i].Owner = nil
		}
	}
}

var ghost = newToken("per-mallory", "a ghost")

// TestAnAccountHasOnePerson: somebody whom the server invents has the account of somebody else, so as to approve as that one.
func TestAnAccountHasOnePerson(t *testing.T) {
	t.Parallel()
	bobs := accountOf("per-bob")
	again := *bobs
	again.Salt = seed("another time")
	for name, c := range map[string]struct {
		write  func(g *governed)
		at     []monitor.Code // at once
		lasts  []monitor.Code // after the time in which an erased person's keys are gone, and in each pass from then on
		listed bool           // by account
	}{
		"a ghost": {func(g *governed) { g.enrolFor(ghost, &again) }, []monitor.Code{monitor.AccountTwice}, nil, false},
		"a ghost that came first": {func(g *governed) {
			g.enrolFor(ghost, accountOf("per-carol"))
			g.enrolFor(carol, accountOf("per-carol"))
		}, []monitor.Code{monitor.AccountTwice}, nil, false},
		"a ghost whose owner is not told": {func(g *governed) {
			g.enrolFor(ghost, &again)
			g.hideOwner(ghost)
		}, nil, []monitor.Code{monitor.OwnerUntold}, false},
		"a ghost whose owner is told otherwise": {func(g *governed) {
			g.enrolFor(ghost, &again)
			g.openings.Enrolments[len(g.openings.Enrolments)-1].Owner = accountOf("per-carol")
		}, []monitor.Code{monitor.RosterUnproved}, nil, false},
		"a ghost beside a person who is revoked and told": {func(g *governed) {
			g.roster(byOperator(bob))
			g.enrolFor(ghost, &again)
		}, []monitor.Code{monitor.AccountTwice}, nil, false},
		"a ghost where the account is listed": {func(g *governed) {
			g.roster(byOperator(bob))
			g.hideOwner(bob)
			g.enrolFor(ghost, &again)
		}, []monitor.Code{monitor.UnknownKey}, nil, true},
		"somebody who was erased and comes back": {func(g *governed) {
			g.about(evidence.KeyRevoked{Person: "per-bob", Key: bob.digest(g.t)})
			g.hideOwner(bob)
			g.enrolFor(ghost, &again)
			g.roster(byOperator(bob))
		}, nil, nil, false},
		"somebody who was erased": {func(g *governed) {
			g.roster(byOperator(bob))
			g.hideOwner(bob)
		}, nil, nil, false},
		"a further key of a person": {func(g *governed) { g.enrolFor(newToken("per-bob", "bob's second"), &again, bob) }, nil, nil, false},
		"keys of nobody's account": {func(g *governed) {
			for _, k := range []token{carol, ghost} {
				nobody := accountOf(k.key.Person)
				nobody.AccountID = ""
				g.enrolFor(k, nobody)
			}
		}, []monitor.Code{monitor.RosterUnproved, monitor.RosterUnproved}, nil, false},
	} {
		for _, stays := range []bool{false, true} {
			for _, later := range []bool{false, true} { // whether the monitor begins when it is done
				g, a := newGoverned(t), newAuditor(t)
				a.stays = stays
				a.change = func(o *monitor.Options) {
					o.Workspace = workspace
					if c.listed {
						o.Mine = &monitor.Mine{Accounts: []string{bobs.AccountID}, Keys: []evidence.Digest{bob.digest(t)}}
					}
				}
				pass := func() []monitor.Code {
					t.Helper()
					g.publish()
					found, err := a.pass(g.operator, g)
					g.must(err)
					return codes(found)
				}
				if !later {
					pass()
				}
				c.write(g)
				if got := pass(); !slices.Equal(got, c.at) {
					t.Errorf("%s, later %t: %v, want %v", name, later, got, c.at)
				}
				for range 2 {
					g.now = g.now.Add(2 * late)
					if got := pass(); !slices.Equal(got, c.lasts) {
						t.Errorf("%s, later %t, after a while: %v, want %v", name, later, got, c.lasts)
					}
				}
			}
		}
	}
}

// TestAnOwnerThatIsToldLater is judged then.
func TestAnOwnerThatIsToldLater(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	again := accountOf("per-bob")
	g.enrolFor(ghost, again)
	hidden := &g.openings.Enrolments[len(g.openings.Enrolments)-1]
	hidden.Owner = nil
	g.publish()
	for _, want := range [][]monitor.Code{nil, {monitor.OwnerUntold}, {monitor.OwnerUntold}} {
		if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), want) {
			t.Errorf("%v, %v, want %v", found, err, want)
		}
		a.now = g.now.Add(late + time.Duration(len(a.found)+2)*time.Second)
	}
	hidden.Owner = again
	for _, want := range [][]monitor.Code{{monitor.AccountTwice}, nil} {
		if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), want) {
			t.Errorf("%v, %v, want %v", found, err, want)
		}
	}
}

// TestWhoseAccountItIsNotTold: the openings name the ghost's owner, and hide the one whose account it is. Who saw that before knows it.
func TestWhoseAccountItIsNotTold(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		g, a := newGoverned(t), newAuditor(t)
		a.withOpenings(nil)
		pass := func(want ...monitor.Code) {
			t.Helper()
			g.publish()
			if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), want) {
				t.Errorf("later %t: %v, %v, want %v", later, found, err, want)
			}
		}
		if !later {
			pass()
		}
		g.enrolFor(ghost, accountOf("per-bob"))
		g.hideOwner(bob)
		if !later {
			pass(monitor.AccountTwice)
			continue
		}
		pass()
		g.now = g.now.Add(2 * late)
		pass(monitor.OwnerUntold)
	}
}
