package monitor_test

import (
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// rule sets a policy with one rule for branches.
func (g *governed) rule(branches ...string) {
	g.t.Helper()
	g.policyOf(policyNamed("All", branches...), alice)
}

// stolen has alice report somebody's key.
func (g *governed) stolen(k token, since time.Time) {
	g.t.Helper()
	c := evidence.RosterChange{Event: evidence.KeyRemoved, Key: k.key, By: evidence.ByCountersigner, Proof: g.revocation(k, &since, alice), Signer: alice.digest(g.t), CompromisedSince: &since}
	c.IssuedAt = g.issued(g.openings.SignedActs[len(g.openings.SignedActs)-1].Act)
	g.roster(c)
}

// other is a repository without rules.
const other = "{1f8e7d6c-5b4a-4392-8170-6f5e4d3c2b1b}"

// asked puts the merge check's question about a branch to a pull request of which nothing was asked.
func (g *governed) asked(number int64, branch string) {
	g.t.Helper()
	g.askedOf(number, repository, branch)
	g.openings.Chains = append(g.openings.Chains, evidence.OpenedChain{ID: evidence.ChainID(salt, repository, number), Repository: repository, PullRequest: number})
}

// askedOf puts it about a branch of any repository, and the openings leave out about which pull request that was.
func (g *governed) askedOf(number int64, of, branch string) {
	g.t.Helper()
	g.chain(number).say(evidence.MergeChecked{
		Trigger: evidence.TriggerOnMerge, Answer: evidence.AnswerYes, Code: evidence.CheckNoRule, Commit: commit, Destination: evidence.BranchID(salt, of, branch),
	})
}

// TestAnAnswerThatOnlyOpeningsExplain looks at a "yes" of which the log alone does not tell whether it could be given.
func TestAnAnswerThatOnlyOpeningsExplain(t *testing.T) {
	t.Parallel()
	// Somebody decides, the merge check counts it, and before the verdict something else happens.
	between := func(happens func(g *governed)) func(*governed) {
		return func(g *governed) {
			c := g.chain(9).say(opened("r"), made("r"), verdict("r", "APPROVED"), made("r"), checked(evidence.CheckApproved, "r"))
			happens(g)
			c.say(verdict("r", "REJECTED"))
		}
	}
	long := func(g *governed) { g.now = g.now.Add(2 * late) }
	for name, c := range map[string]struct {
		story   func(g *governed)
		alarms  []monitor.Code
		notices []monitor.Code // with openings
	}{
		"a key is reported as stolen": {between(func(g *governed) { g.stolen(bob, g.now.Add(-3*time.Second)) }), nil, []monitor.Code{monitor.HurriedYes}},
		"a key is reported as stolen since after all that was decided": {func(g *governed) {
			c := g.chain(9).say(opened("r"), made("r"), verdict("r", "APPROVED"), made("r"))
			since := g.now.Add(time.Second)
			c.say(checked(evidence.CheckApproved, "r"))
			g.stolen(bob, since)
			c.say(verdict("r", "REJECTED"))
		}, []monitor.Code{monitor.UnfoundedYes}, []monitor.Code{monitor.HurriedYes}},
		"a key is reported as stolen that came after the answer": {between(func(g *governed) {
			e := g.enrolment(carol)
			vouched := g.countersigned(e, alice)
			e.Countersigned = &vouched
			g.enrol(carol, e, evidence.ByCountersigner, alice.digest(g.t))
			g.stolen(carol, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
		}), []monitor.Code{monitor.UnfoundedYes}, []monitor.Code{monitor.HurriedYes}},
		"a key is reported as stolen after another one that took nothing back": {between(func(g *governed) {
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			g.stolen(bob, g.now.Add(-5*time.Second))
		}), nil, []monitor.Code{monitor.HurriedYes}},
		"a key is enrolled": {between(func(g *governed) {
			e := g.enrolment(carol)
			vouched := g.countersigned(e, alice)
			e.Countersigned = &vouched
			g.enrol(carol, e, evidence.ByCountersigner, alice.digest(g.t))
		}), []monitor.Code{monitor.UnfoundedYes}, []monitor.Code{monitor.HurriedYes}},
		"a key is revoked, and nobody says it was stolen": {between(func(g *governed) { g.revoke(bob, alice) }), []monitor.Code{monitor.UnfoundedYes}, []monitor.Code{monitor.HurriedYes}},
		"a policy changes": {between(func(g *governed) { g.rule("main") }), []monitor.Code{monitor.UnfoundedYes}, nil},
		"a key was reported before the answer": {func(g *governed) {
			c := g.chain(9).say(opened("r"), made("r"), verdict("r", "APPROVED"), made("r"))
			g.stolen(bob, g.now)
			c.say(checked(evidence.CheckApproved, "r"), verdict("r", "REJECTED"))
		}, []monitor.Code{monitor.UnfoundedYes}, nil},
		"a key is reported after the verdict": {func(g *governed) {
			between(func(*governed) {})(g)
			g.stolen(bob, g.now)
		}, []monitor.Code{monitor.UnfoundedYes}, nil},

		"no rule, and there is one": {func(g *governed) {
			g.rule("main")
			long(g)
			g.asked(9, "main")
		}, []monitor.Code{monitor.UnfoundedYes}, nil},
		"no rule, and a pattern covers the branch": {func(g *governed) {
			g.rule("release/*")
			long(g)
			g.asked(9, "release/1.0")
			g.openings.Chains[len(g.openings.Chains)-1].Branch = "release/1.0"
		}, []monitor.Code{monitor.UnfoundedYes}, nil},
		"no rule, and the branch of another pull request tells": {func(g *governed) {
			g.rule("release/*")
			long(g)
			g.asked(9, "release/1.0")
			g.openings.Chains[len(g.openings.Chains)-1].Branch = "feature/x"
			g.openings.Chains = append(g.openings.Chains, evidence.OpenedChain{ID: g.chain(10).id, Repository: repository, PullRequest: 10, Branch: "release/1.0"})
		}, []monitor.Code{monitor.UnfoundedYes}, nil},
		"no rule for a branch that nothing names": {func(g *governed) {
			g.rule("release/*")
			long(g)
			g.asked(9, "release/1.0")
			g.openings.Chains[len(g.openings.Chains)-1].Branch = "feature/x"
		}, nil, []monitor.Code{monitor.UntoldBranch}},
		"no rule for a branch that no rule is for": {func(g *governed) {
			g.rule("main", "release/*")
			long(g)
			g.asked(9, "feature/x")
			g.openings.Chains[len(g.openings.Chains)-1].Branch = "feature/x"
		}, nil, nil},
		"a rule that comes in the moment": {func(g *governed) {
			g.rule("main")
			g.asked(9, "main")
		}, nil, nil},
		"a rule that comes later": {func(g *governed) {
			g.asked(9, "main")
			g.rule("main")
		}, nil, nil},
		"a rule that is changed to another in the moment": {func(g *governed) {
			g.rule("main")
			long(g)
			g.rule("ma*")
			g.asked(9, "main")
		}, []monitor.Code{monitor.UnfoundedYes}, nil},
		"no rule, of a pull request that the openings leave out": {func(g *governed) {
			g.rule("main")
			long(g)
			g.askedOf(9, repository, "main")
		}, []monitor.Code{monitor.UnfoundedYes}, nil},
		"no rule for a branch that nothing names, of a pull request that the openings leave out": {func(g *governed) {
			g.rule("release/*")
			long(g)
			g.askedOf(9, repository, "release/1.0")
		}, nil, []monitor.Code{monitor.UntoldBranch}},
		"no rule for a branch elsewhere, of a pull request that the openings leave out": {func(g *governed) {
			g.rule("main")
			long(g)
			g.askedOf(9, other, "main")
			g.openings.Chains = append(g.openings.Chains, evidence.OpenedChain{ID: evidence.ChainID(salt, other, 1), Repository: other, PullRequest: 1, Branch: "main"})
		}, nil, []monitor.Code{monitor.UntoldBranch}},
		"no rule anywhere, of a pull request that the openings leave out": {func(g *governed) {
			g.rule("main")
			g.ungate(alice)
			long(g)
			g.askedOf(9, repository, "main")
		}, nil, nil},
		"no rule for a branch of another repository": {func(g *governed) {
			g.rule("main")
			long(g)
			g.askedOf(9, other, "dev")
			g.openings.Chains = append(
				g.openings.Chains, evidence.OpenedChain{ID: evidence.ChainID(salt, repository, 9), Repository: repository, PullRequest: 9},
				evidence.OpenedChain{ID: evidence.ChainID(salt, other, 1), Repository: other, PullRequest: 1, Branch: "dev"},
			)
		}, []monitor.Code{monitor.UnfoundedYes}, nil},
		"no rule, of a pull request that is said to be another": {func(g *governed) {
			g.rule("release/*")
			long(g)
			g.askedOf(9, repository, "release/1.0")
			g.openings.Chains = append(g.openings.Chains, evidence.OpenedChain{ID: evidence.ChainID(salt, repository, 9), Repository: other, PullRequest: 9, Branch: "main"})
		}, []monitor.Code{monitor.OpeningsWrong}, []monitor.Code{monitor.UntoldBranch}},
		"no rule, and the rules in force cannot be read": {func(g *governed) {
			g.rule("main")
			g.policyOf([]byte(`{"format":"signedapproval.policy/v2","rules":[]}`), alice)
			long(g)
			g.asked(9, "main")
		}, []monitor.Code{monitor.PolicyUnreadable}, nil},
		"no rule, and there is one after rules that cannot be read": {func(g *governed) {
			g.policyOf([]byte(`{}`), alice)
			g.rule("main")
			long(g)
			g.asked(9, "main")
		}, []monitor.Code{monitor.PolicyUnreadable, monitor.UnfoundedYes}, nil},
		"a rule that was taken away": {func(g *governed) {
			g.rule("main")
			g.ungate(alice)
			long(g)
			g.asked(9, "main")
		}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, a := newGoverned(t), newAuditor(t)
			a.withOpenings(nil)
			c.story(g)
			g.publish()
			found, err := a.pass(g.operator, g)
			var notices []monitor.Code
			for _, f := range found {
				if f.Code == monitor.HurriedYes || f.Code == monitor.UntoldBranch {
					notices = append(notices, f.Code)
				}
			}
			if err != nil || !slices.Equal(codes(found), c.alarms) || !slices.Equal(notices, c.notices) {
				t.Fatalf("found %v, %v, want alarms %v and notices %v", found, err, c.alarms, c.notices)
			}
			if lasts := []monitor.Code{monitor.OpeningsWrong, monitor.PolicyUnreadable}; len(c.alarms) == 1 && slices.Contains(lasts, c.alarms[0]) {
				a.onlyLasting(g, found) // it keeps the answer from being judged
			} else {
				a.quiet(g.operator)
			}
		})
	}
}

// TestWhatOpeningsDoNotTellYetIsLookedAtAgain has the answer judged once the openings say what came in between.
func TestWhatOpeningsDoNotTellYetIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	c := g.chain(9).say(opened("r"), made("r"), verdict("r", "APPROVED"), made("r"), checked(evidence.CheckApproved, "r"))
	e := g.enrolment(carol)
	g.enrol(carol, e, evidence.ByLogIn, "")
	c.say(verdict("r", "REJECTED"))
	g.publish()
	whole := g.openings.Roster
	g.openings.Roster = whole[:len(whole)-1]
	if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.RosterWrong}) {
		t.Fatalf("found %v, %v", found, err)
	}
	g.openings.Roster = whole
	if found, err := a.pass(g.operator, g); err != nil || !slices.Contains(codes(found), monitor.UnfoundedYes) {
		t.Fatalf("found %v, %v", found, err)
	}
}

// TestARuleThatIsToldOtherwiseLater has the rule that was in force at an answer looked at once, and told otherwise when it is the newest
// no longer and the answer is judged.
func TestARuleThatIsToldOtherwiseLater(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	g.rule("main")
	g.publish()
	if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	g.now = g.now.Add(2 * late)
	g.asked(9, "main")
	g.now = g.now.Add(2 * late)
	g.rule("release/*")
	g.publish()
	rule := g.openings.Policies[1].Policy
	g.openings.Policies[1].Policy = nil
	if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.PolicyWrong}) {
		t.Fatalf("found %v, %v", found, err)
	}
	g.openings.Policies[1].Policy = rule
	if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.UnfoundedYes}) {
		t.Fatalf("found %v, %v", found, err)
	}
}
