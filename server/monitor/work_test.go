package monitor_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// grow gives a workspace so many more members with a key, every tenth vouched for, and every tenth time another policy.
func (g *governed) grow(from, to int) {
	g.t.Helper()
	for n := from; n < to; n++ {
		k := newToken(fmt.Sprint("per-member-", n), fmt.Sprint("member ", n))
		e := g.enrolment(k)
		if n%10 > 0 {
			g.enrol(k, e, evidence.ByLogIn, "")
			continue
		}
		vouched := g.countersigned(e, alice)
		e.Countersigned = &vouched
		g.enrol(k, e, evidence.ByCountersigner, alice.digest(g.t))
		g.setPolicy(fmt.Sprint("policy ", n), alice)
	}
}

// TestFollowingCostsWhatIsNew counts what a monitor does for a roster that grows: it looks at each version and rule once,
// however many passes there are, and asks for openings only when there is something new.
func TestFollowingCostsWhatIsNew(t *testing.T) {
	t.Parallel()
	const members = 40
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	a.stays = true
	pass := func() {
		t.Helper()
		g.publish()
		if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
			t.Fatalf("found %v, %v", found, err)
		}
	}
	count := func() [4]int {
		openings, versions, proofs, rules := a.monitor.Work()
		return [4]int{openings, versions, proofs, rules}
	}
	pass()
	// Alice and Bob in the roster, the protection, a policy.
	if got := count(); got != [4]int{1, 2, 2, 4} {
		t.Fatalf("at first: %v", got)
	}
	for n := range members {
		g.grow(n, n+1)
		pass()
		pass() // with nothing new
	}
	versions := members + 2
	if got, want := count(), [4]int{1 + members, versions, versions, versions + 2 + members/10}; got != want {
		t.Errorf("openings asked for, versions read, proofs, rules: %v, want %v", got, want)
	}

	// Other leaves: it is only made sure that what is in force still is.
	before := count()
	g.story(0, 3)
	pass()
	before[0]++
	if got := count(); got != before {
		t.Errorf("after other leaves: %v, want %v", got, before)
	}
}

// TestAMonitorThatStartsAgain reads the versions once more, and looks at nothing twice.
func TestAMonitorThatStartsAgain(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	g.grow(0, 20)
	g.publish()
	if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	g.grow(20, 21)
	g.publish()
	a.stays = true
	if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	if openings, versions, proofs, rules := a.monitor.Work(); openings != 1 || versions != 23 || proofs != 1 || rules != 2 {
		t.Errorf("%d openings, %d versions, %d proofs, %d rules", openings, versions, proofs, rules)
	}
}

// TestOtherAnchorsJudgeAgain begins at the first version with what a monitor did not know before.
func TestOtherAnchorsJudgeAgain(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	g.publish()
	if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	a.change = func(o *monitor.Options) {
		o.Workspace = workspace
		o.Mine = &monitor.Mine{People: []string{"per-alice"}}
	}
	found, err := a.pass(g.operator, g)
	if got := codes(found); err != nil || !slices.Equal(got, []monitor.Code{monitor.UnknownKey}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestWhatWasNotToldIsJudgedLater has a server hide a policy, a roster version or all openings, and tell them afterwards: that
// nobody signed is found then, and only once.
func TestWhatWasNotToldIsJudgedLater(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hide func(o *evidence.Openings)
		want []monitor.Code // while it is hidden
		told []monitor.Code // and after it was told
	}{
		"a policy": {
			func(o *evidence.Openings) { o.Policies = o.Policies[:1] },
			[]monitor.Code{monitor.PolicyWrong, monitor.PolicyWrong},
			[]monitor.Code{monitor.RuleUnsigned},
		},
		// Others signed enough, and what it hides is who else agreed.
		"an act of a policy": {
			func(o *evidence.Openings) { o.SignedActs = o.SignedActs[:len(o.SignedActs)-1] },
			[]monitor.Code{monitor.OpeningsWrong, monitor.RuleUnsigned, monitor.RuleUnsigned},
			nil,
		},
		// A hole in the roster keeps nobody from seeing what nobody signed.
		"a roster": {func(o *evidence.Openings) { o.Roster = o.Roster[:2] }, []monitor.Code{monitor.RosterWrong, monitor.RuleUnsigned}, nil},
		"one of it": {
			func(o *evidence.Openings) { o.Roster = slices.Concat(o.Roster[:2], o.Roster[1:2]) },
			[]monitor.Code{monitor.RosterWrong, monitor.RuleUnsigned},
			nil,
		},
		"one of it, with nothing in its place": {
			func(o *evidence.Openings) {
				o.Roster = slices.Concat(o.Roster[:2], []json.RawMessage{json.RawMessage(`{}`)})
			},
			[]monitor.Code{monitor.RosterWrong, monitor.RuleUnsigned},
			nil,
		},
	} {
		for _, stays := range []bool{false, true} {
			g, a := newGoverned(t), newAuditor(t)
			a.withOpenings(nil)
			a.stays = stays
			g.publish()
			if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
				t.Fatalf("%s: found %v, %v", name, found, err)
			}
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			g.setPolicy("weaker")
			g.setPolicy("after it", alice)
			g.publish()
			told := *g.openings
			lie := told
			c.hide(&lie)
			g.openings = &lie
			hidden, err := a.pass(g.operator, g)
			if got := codes(hidden); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s: hidden: found %v, %v, want %v", name, hidden, err, c.want)
			}
			a.onlyLasting(g, hidden)
			g.openings = &told
			found, err := a.pass(g.operator, g)
			if got := codes(found); err != nil || !slices.Equal(got, c.told) {
				t.Errorf("%s: told: found %v, %v", name, found, err)
			}
			if found, err := a.pass(g.operator, g); err != nil || len(found) > 0 {
				t.Errorf("%s: told again: %v, %v", name, found, err)
			}
		}
	}
}

// TestAHoleInTheRoster takes one version out of it for good, and looks at what comes after: a rule that nobody signed is
// found, one that somebody signed whose key the hole may hold is not called unsigned, and once the hole is filled it is judged.
func TestAHoleInTheRoster(t *testing.T) {
	t.Parallel()
	for _, stays := range []bool{false, true} {
		g, a := newGoverned(t), newAuditor(t)
		a.withOpenings(nil)
		a.stays = stays
		g.publish()
		if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
			t.Fatalf("found %v, %v", found, err)
		}
		second := newToken("per-alice", "alice's second")
		e := g.enrolment(second)
		authority := alice.assert(e.Act)
		e.Authority = &authority
		g.enrol(second, e, evidence.ByOwnKey, alice.digest(t)) // this version is not told
		g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
		g.setPolicy("signed by the key in the hole", second)
		g.setPolicy("signed by nobody")
		g.setPolicy("signed by a ghost", newToken("per-alice", "ghost"))
		g.setPolicy("signed by a stranger", newToken("per-dave", "dave"))
		g.publish()
		told := *g.openings
		lie := told
		lie.Roster = slices.Clone(told.Roster)
		lie.Roster[2] = json.RawMessage(`{}`)
		g.openings = &lie
		for _, want := range [][]monitor.Code{{monitor.RosterWrong, monitor.RuleUnsigned, monitor.RuleUnsigned}, {monitor.RosterWrong}} {
			found, err := a.pass(g.operator, g)
			if got := codes(found); err != nil || !slices.Equal(got, want) {
				t.Errorf("with the hole: found %v, %v, want %v", found, err, want)
			}
			named := func(f monitor.Finding) bool {
				return f.Code == monitor.RosterWrong && strings.HasSuffix(f.Subject, "version 3")
			}
			if !slices.ContainsFunc(found, named) {
				t.Errorf("nobody says which version is missing: %v", found)
			}
		}
		g.openings = &told
		found, err := a.pass(g.operator, g)
		if got := codes(found); err != nil || !slices.Equal(got, []monitor.Code{monitor.RuleUnsigned}) {
			t.Errorf("without it: found %v, %v", found, err)
		}
	}
}

// TestOpeningsOutOfReach loses nothing: what is new is looked at once they can be read.
func TestOpeningsOutOfReach(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	a.stays = true
	g.publish()
	if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	g.setPolicy("weaker")
	g.publish()
	g.lie = func(path string, body []byte) (int, []byte) {
		if strings.HasSuffix(path, "/openings") {
			return http.StatusForbidden, nil
		}
		return http.StatusOK, body
	}
	for range 2 {
		if found, err := a.pass(g.operator, g); err == nil || len(found) > 0 {
			t.Fatalf("out of reach: found %v, %v", found, err)
		}
	}
	g.lie = nil
	found, err := a.pass(g.operator, g)
	if got := codes(found); err != nil || !slices.Equal(got, []monitor.Code{monitor.RuleUnsigned}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestRowsThatChangeWithoutALeaf has somebody at the database change what the log has leaves of, or add what it has not.
func TestRowsThatChangeWithoutALeaf(t *testing.T) {
	t.Parallel()
	weaker := policyNamed("weaker", "nowhere")
	for name, c := range map[string]struct {
		change func(g *governed)
		want   []monitor.Code
	}{
		"the policy in force": {func(g *governed) { g.openings.Policies[0].Policy = weaker }, []monitor.Code{monitor.PolicyWrong}},
		"no policy any more":  {func(g *governed) { g.openings.Policies = nil }, []monitor.Code{monitor.PolicyWrong}},
		"a policy more": {func(g *governed) {
			g.openings.Policies = append(g.openings.Policies, evidence.OpenedPolicy{Repository: repository, Version: 2, Policy: weaker})
		}, []monitor.Code{monitor.PolicyWrong}},
		"a policy of another repository": {func(g *governed) {
			g.openings.Policies = append(g.openings.Policies, evidence.OpenedPolicy{Repository: workspace, Version: 1, Policy: weaker})
		}, []monitor.Code{monitor.PolicyWrong}},
		"the protection in force": {func(g *governed) { g.openings.Protections[0].People = []string{"per-bob"} }, []monitor.Code{monitor.OpeningsWrong}},
		"a protection more": {func(g *governed) {
			g.openings.Protections = append(g.openings.Protections, evidence.ProtectionDocument{Version: 2, People: []string{}})
		}, []monitor.Code{monitor.OpeningsWrong}},
		"the newest version of the roster": {func(g *governed) { g.openings.Roster[1] = g.openings.Roster[0] }, []monitor.Code{monitor.RosterWrong}},
		"no roster any more":               {func(g *governed) { g.openings.Roster = nil }, []monitor.Code{monitor.RosterWrong}},
		"a version of the roster more":     {func(g *governed) { g.openings.Roster = append(g.openings.Roster, g.openings.Roster[0]) }, []monitor.Code{monitor.RosterWrong}},
	} {
		for _, stays := range []bool{false, true} {
			g, a := newGoverned(t), newAuditor(t)
			a.withOpenings(nil)
			a.stays = stays
			g.publish()
			if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
				t.Fatalf("%s: found %v, %v", name, found, err)
			}
			told := *g.openings
			lie := told
			lie.Policies, lie.Protections, lie.Roster = slices.Clone(told.Policies), slices.Clone(told.Protections), slices.Clone(told.Roster)
			g.openings = &lie
			c.change(g)
			// What is more may be on its way, so only after a while; but then for as long as it lasts.
			pass := func(n int) []monitor.Finding {
				g.story(n, n+1)
				g.now = g.now.Add(2 * late)
				g.publish()
				found, err := a.pass(g.operator, g)
				g.must(err)
				return found
			}
			pass(0)
			for n := range 3 {
				if found := pass(n + 1); !slices.Equal(codes(found), c.want) {
					t.Errorf("%s: found %v, want %v", name, found, c.want)
				}
			}
			g.openings = &told
			if found := pass(4); len(codes(found)) > 0 {
				t.Errorf("%s: put right: %v", name, found)
			}
			g.openings = &lie
			pass(5)
			if found := pass(6); !slices.Equal(codes(found), c.want) {
				t.Errorf("%s: and wrong again: found %v, want %v", name, found, c.want)
			}
		}
	}
}

// TestOpeningsThatAreWithheld for longer than a server may be out of order are an alarm, for as long as they are.
func TestOpeningsThatAreWithheld(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	g.publish()
	told := g.openings
	pass := func(after time.Duration, given bool, want ...monitor.Code) {
		t.Helper()
		g.openings = nil
		if given {
			g.openings = told
		}
		g.now = g.now.Add(after)
		g.publish()
		if found, err := a.pass(g.operator, g); !slices.Equal(codes(found), want) || (err == nil) != given {
			t.Fatalf("found %v, want %v; %v", found, want, err)
		}
	}
	for n := range 2 {
		pass(time.Second, false)
		pass(late, false)
		pass(time.Second, false, monitor.OpeningsWithheld)
		pass(late, false, monitor.OpeningsWithheld)
		pass(time.Second, true)
		g.story(n, n+1) // or nothing would be asked for
	}
	pass(2*late, false)
	pass(time.Second, true)
}

// TestWhatKeepsFromJudgingIsToldWhileItLasts: openings that cannot be followed were an alarm once and were put right. When the rules change
// without a signature they are the same again, so that nobody sees it: each pass says so, by a monitor that stays and by one that starts.
func TestWhatKeepsFromJudgingIsToldWhileItLasts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hide func(o *evidence.Openings)
		want monitor.Code
	}{
		"another salt":    {func(o *evidence.Openings) { o.Salt = seed("another") }, monitor.OpeningsWrong},
		"another genesis": {func(o *evidence.Openings) { o.Genesis = []byte("{}") }, monitor.OpeningsWrong},
		"no roster":       {func(o *evidence.Openings) { o.Roster = nil }, monitor.RosterWrong},
		"no protection":   {func(o *evidence.Openings) { o.Protections = nil }, monitor.OpeningsWrong},
		"no policy":       {func(o *evidence.Openings) { o.Policies = nil }, monitor.PolicyWrong},
	} {
		for _, stays := range []bool{false, true} {
			g, a := newGoverned(t), newAuditor(t)
			a.withOpenings(nil)
			a.stays = stays
			right := g.openings
			pass := func(hidden bool) []monitor.Code {
				t.Helper()
				shown := *right
				if hidden {
					c.hide(&shown)
				}
				g.openings = &shown
				g.publish()
				found, err := a.pass(g.operator, g)
				g.must(err)
				return codes(found)
			}
			for range 2 {
				if got := pass(true); !slices.Contains(got, c.want) {
					t.Errorf("%s: at first: %v", name, got)
				}
			}
			if got := pass(false); slices.Contains(got, c.want) {
				t.Errorf("%s: put right: %v", name, got)
			}
			g.openings = right
			g.setPolicy("weaker") // signed by nobody
			before := len(a.found)
			for range 3 {
				if got := pass(true); !slices.Contains(got, c.want) {
					t.Errorf("%s: wrong again, and silent: %v", name, got)
				}
			}
			if got := pass(false); slices.Contains(got, c.want) {
				t.Errorf("%s: put right again: %v", name, got)
			}
			unsigned := slices.DeleteFunc(codes(a.found[before:]), func(code monitor.Code) bool { return code != monitor.RuleUnsigned })
			if len(unsigned) != 1 {
				t.Errorf("%s: that nobody signed was told %d times", name, len(unsigned))
			}
			if got := pass(false); len(got) > 0 {
				t.Errorf("%s: told again: %v", name, got)
			}
		}
	}
}

// TestAVersionThatTheLogLeavesOut of the roster keeps every later one from being read, and each pass says so.
func TestAVersionThatTheLogLeavesOut(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	e := g.enrolment(carol)
	entries, stored := g.entries, g.stored
	g.enrol(carol, e, evidence.ByLogIn, "")
	g.entries, g.stored = entries, stored // there is no leaf of it
	g.enrol(newToken("per-dave", "dave"), g.enrolment(newToken("per-dave", "dave")), evidence.ByLogIn, "")
	g.setPolicy("weaker", newToken("per-alice", "ghost"))
	g.publish()
	for _, want := range [][]monitor.Code{{monitor.RosterWrong, monitor.VersionGap}, {monitor.RosterWrong}, {monitor.RosterWrong}} {
		found, err := a.pass(g.operator, g)
		got := codes(found)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("found %v, %v, want %v", found, err, want)
		}
	}
}

// TestAPolicyThatIsNotToldAnyMore was in force at an answer that nobody judged yet. That it is in force no longer is no reason to be silent.
func TestAPolicyThatIsNotToldAnyMore(t *testing.T) {
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
	told := g.openings.Policies
	g.openings.Policies = slices.Concat(told[:1], told[2:])
	for range 2 {
		if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.PolicyWrong}) {
			t.Errorf("found %v, %v", found, err)
		}
	}
	g.openings.Policies = told
	if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.UnfoundedYes}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestOpeningsMayBeAhead of the log as far as it was read, for as long as it takes to be published.
func TestOpeningsMayBeAhead(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	g.publish()
	g.setPolicy("second", bob)
	for range 2 {
		if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
			t.Fatalf("found %v, %v", found, err)
		}
	}
	g.now = g.now.Add(2 * late)
	g.publish()
	a.quiet(g.operator)
	g.now = g.now.Add(2 * late)
	a.quiet(g.operator)
}
