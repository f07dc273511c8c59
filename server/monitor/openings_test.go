package monitor_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// governed is a workspace whose operator writes its roster and rules, and openings for them.
type governed struct {
	*operator
	changes    []evidence.RosterChange
	previous   evidence.Digest
	protection evidence.ProtectionDocument
	policies   int64
	policy     evidence.Digest
}

var alice, bob, carol = newToken("per-alice", "alice"), newToken("per-bob", "bob"), newToken("per-carol", "carol")

// newGoverned begins a workspace in which alice's key is known by a log-in, bob's by alice's word, and both can change the rules.
func newGoverned(t testing.TB) *governed {
	t.Helper()
	g := &governed{operator: newOperator(t)}
	g.previous = g.genesis()
	g.openings = &evidence.Openings{Format: evidence.OpeningsFormat, Workspace: workspace, Salt: salt, Genesis: g.entries[0]}
	g.enrol(alice, g.enrolment(alice), evidence.ByLogIn, "")
	e := g.enrolment(bob)
	vouched := g.countersigned(e, alice)
	e.Countersigned = &vouched
	g.enrol(bob, e, evidence.ByCountersigner, alice.digest(t))
	g.protect(1, []string{"per-alice", "per-bob"}, alice, bob)
	g.setPolicy("first", alice)
	return g
}

// enrolment is what a key signs to be enrolled.
func (g *governed) enrolment(k token) evidence.Enrolment {
	g.t.Helper()
	object, client := []byte("attestation object of "+k.key.Person), []byte("client data")
	act := g.act(evidence.Act{Purpose: evidence.Enrol, Signer: evidence.Party{Person: k.key.Person}, Key: &evidence.KeyDocument{
		Key: k.key, AttestationObject: approval.DigestOf(object), ClientData: approval.DigestOf(client),
	}})
	return evidence.Enrolment{Act: act, Possession: k.assert(act), AttestationObject: object, ClientDataJSON: client}
}

func (g *governed) countersigned(e evidence.Enrolment, by token) evidence.SignedAct {
	g.t.Helper()
	enrol, err := evidence.ParseAct(e.Act)
	g.must(err)
	act := g.act(evidence.Act{Purpose: evidence.Countersign, Workspace: workspace, Roster: g.previous, Signer: evidence.Party{Person: by.key.Person}, Key: enrol.Key})
	return evidence.SignedAct{Act: act, Assertion: by.assert(act)}
}

// enrol writes a key into the log and the roster.
func (g *governed) enrol(k token, e evidence.Enrolment, by evidence.Identity, signer evidence.Digest) {
	g.t.Helper()
	proof, err := e.Digest()
	g.must(err)
	g.about(evidence.KeyEnrolled{
		Person: k.key.Person, Key: k.digest(g.t), AttestationObject: digest, ClientData: digest, IdentifiedBy: string(by), Enrolment: proof,
	})
	g.openings.Enrolments = append(g.openings.Enrolments, evidence.EnrolledKey{Enrolment: e, Owner: ownerOf(g.t, e)})
	change := evidence.RosterChange{Event: evidence.KeyAdded, Key: k.key, By: by, Proof: proof, Signer: signer}
	switch by {
	case evidence.ByOwnKey:
		change.IssuedAt = g.issued(e.Act)
	case evidence.ByCountersigner:
		change.IssuedAt = g.issued(e.Countersigned.Act)
	case evidence.ByLogIn, evidence.ByOperator, evidence.Disowned: // nobody signed for it
	}
	g.roster(change)
}

// ownerOf opens whose account an enrolment is for, where it is that of its person.
func ownerOf(t testing.TB, e evidence.Enrolment) *evidence.PersonOpening {
	t.Helper()
	act, err := evidence.ParseAct(e.Act)
	if err != nil {
		t.Fatal(err)
	}
	return accountOf(act.Signer.Person)
}

// issued is when an act was issued.
func (g *governed) issued(act []byte) *time.Time {
	g.t.Helper()
	a, err := evidence.ParseAct(act)
	g.must(err)
	return &a.IssuedAt
}

// roster writes a version of the roster.
func (g *governed) roster(c evidence.RosterChange) {
	g.t.Helper()
	c.Workspace, c.Version, c.Previous = workspace, int64(len(g.changes)+1), g.previous
	document, err := c.Canonical()
	g.must(err)
	g.changes, g.previous = append(g.changes, c), approval.DigestOf(document)
	g.openings.Roster = append(g.openings.Roster, document)
	g.say(evidence.RosterVersion{Version: c.Version, Roster: g.previous})
}

// agree gives the acts of people over a document.
func (g *governed) agree(a evidence.Act, people []token) []evidence.Digest {
	g.t.Helper()
	list := []evidence.Digest{}
	for _, k := range people {
		a.Workspace, a.Roster, a.Signer = workspace, g.previous, evidence.Party{Person: k.key.Person}
		act := g.act(a)
		signed := evidence.SignedAct{Act: act, Assertion: k.assert(act)}
		d, err := signed.Digest()
		g.must(err)
		g.openings.SignedActs, list = append(g.openings.SignedActs, signed), append(list, d)
	}
	slices.Sort(list)
	return list
}

// revocation is the digest of what a person signs to revoke the key of another.
func (g *governed) revocation(k token, since *time.Time, by token) evidence.Digest {
	g.t.Helper()
	return g.agree(evidence.Act{Purpose: evidence.Revoke, Revocation: &evidence.RevocationDocument{
		Person: k.key.Person, Key: k.digest(g.t), CompromisedSince: since,
	}}, []token{by})[0]
}

// revoke takes a key out of the roster, by the word of others.
func (g *governed) revoke(k, by token, others ...token) {
	g.t.Helper()
	c := g.signedFor(evidence.KeyRemoved, k, g.revocation(k, nil, by), by)
	for _, other := range others {
		proof := g.revocation(k, nil, other)
		c.Agreed = append(c.Agreed, evidence.Agreement{
			Signer: other.digest(g.t), Proof: proof, IssuedAt: *g.issued(g.openings.SignedActs[len(g.openings.SignedActs)-1].Act),
		})
	}
	g.roster(c)
}

// signedFor is a change of a key by the act that somebody signed last.
func (g *governed) signedFor(event evidence.RosterEvent, k token, proof evidence.Digest, by token) evidence.RosterChange {
	g.t.Helper()
	issued := g.issued(g.openings.SignedActs[len(g.openings.SignedActs)-1].Act)
	return evidence.RosterChange{Event: event, Key: k.key, By: evidence.ByCountersigner, Proof: proof, Signer: by.digest(g.t), IssuedAt: issued}
}

// protect sets the protection.
func (g *governed) protect(quorum int, people []string, by ...token) {
	g.t.Helper()
	next := evidence.ProtectionDocument{Version: g.protection.Version + 1, Quorum: quorum, People: people}
	if g.protection.Version > 0 {
		var err error
		next.Previous, err = g.protection.Digest()
		g.must(err)
	}
	if next.People == nil {
		next.People = []string{}
	}
	d, err := next.Digest()
	g.must(err)
	g.protection = next
	g.openings.Protections = append(g.openings.Protections, next)
	g.say(evidence.ProtectionSet{Version: next.Version, Protection: d, Acts: g.agree(evidence.Act{Purpose: evidence.Protect, Protection: &next}, by)})
}

// setPolicy writes a version of the repository's policy.
func (g *governed) setPolicy(name string, by ...token) {
	g.t.Helper()
	g.policyOf(policyNamed(name, "nowhere"), by...)
}

// policyNamed is a policy of one rule with a name, for some branches.
func policyNamed(name string, branches ...string) json.RawMessage {
	return approval.Policy{Format: approval.Format, Rules: []approval.Rule{{
		Name: name, Branches: branches, ExpiresAfterSeconds: 86400,
		Requirements: []approval.Requirement{{Name: "Approval", Quorum: 1, Approvers: approval.Approvers{Everyone: true}}},
	}}}.Canonical()
}

// policyOf writes a version of the repository's policy, of any content.
func (g *governed) policyOf(document []byte, by ...token) {
	g.t.Helper()
	g.policies++
	about := evidence.PolicyDocument{Repository: repository, Version: g.policies, Previous: g.policy, Policy: approval.DigestOf(document)}
	g.policy = about.Policy
	g.openings.Policies = append(g.openings.Policies, evidence.OpenedPolicy{Repository: repository, Version: g.policies, Policy: document})
	g.say(evidence.PolicyVersion{
		Repository: evidence.RepositoryID(salt, repository), Version: g.policies, Policy: about.Policy,
		Acts: g.agree(evidence.Act{Purpose: evidence.SetPolicy, Policy: &about}, by),
	})
}

// ungate writes that the repository is gated no longer.
func (g *governed) ungate(by ...token) {
	g.t.Helper()
	g.policies++
	about := evidence.PolicyDocument{Repository: repository, Version: g.policies, Previous: g.policy}
	g.policy = ""
	g.openings.Policies = append(g.openings.Policies, evidence.OpenedPolicy{Repository: repository, Version: g.policies})
	g.say(evidence.PolicyVersion{
		Repository: evidence.RepositoryID(salt, repository), Version: g.policies,
		Acts: g.agree(evidence.Act{Purpose: evidence.SetPolicy, Policy: &about}, by),
	})
}

func (a *auditor) withOpenings(anchors func(*evidence.Anchors)) {
	a.change = func(options *monitor.Options) {
		options.Workspace = workspace
		options.Mine = &monitor.Mine{People: []string{"per-bob"}, Keys: []evidence.Digest{bob.digest(a.t)}}
		if anchors != nil {
			anchors(&options.Anchors)
		}
	}
}

// TestAWorkspaceThatIsInOrder replays a roster and rules that people signed, as they grow.
func TestAWorkspaceThatIsInOrder(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(func(anchors *evidence.Anchors) {
		anchors.Genesis = evidence.LeafDigest(g.entries[0])
		anchors.Roster = approval.DigestOf(g.openings.Roster[0])
	})
	g.publish()
	pass := func() {
		t.Helper()
		if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
			t.Fatalf("found %v, %v", found, err)
		}
	}
	pass()
	g.setPolicy("second", bob)
	second := newToken("per-alice", "alice's second")
	e := g.enrolment(second)
	authority := alice.assert(e.Act)
	e.Authority = &authority
	g.enrol(second, e, evidence.ByOwnKey, alice.digest(t))
	g.publish()
	pass()
	act := g.act(evidence.Act{Purpose: evidence.Revoke, Signer: evidence.Party{Person: "per-alice"}, Revocation: &evidence.RevocationDocument{Person: "per-alice", Key: alice.digest(t)}})
	signed := evidence.SignedAct{Act: act, Assertion: second.assert(act)}
	proof, err := signed.Digest()
	g.must(err)
	g.openings.SignedActs = append(g.openings.SignedActs, signed)
	g.roster(evidence.RosterChange{Event: evidence.KeyRemoved, Key: alice.key, By: evidence.ByOwnKey, Proof: proof, Signer: second.digest(t), IssuedAt: g.issued(act)})
	g.setPolicy("third", second)
	g.protect(2, []string{"per-alice", "per-bob"}, bob)
	g.setPolicy("fourth", bob, second)
	g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
	g.revoke(carol, bob, second)
	g.ungate(second, bob)
	g.setPolicy("gated again", bob, second)
	g.protect(0, nil, bob, second)
	g.setPolicy("fifth")
	g.publish()
	pass()
	if i := slices.IndexFunc(a.found, func(f monitor.Finding) bool { return f.Code == monitor.Unprotected && f.Notice }); i < 0 {
		t.Errorf("nobody said that the protection is off: %v", a.found)
	}
}

// revokedFirst revokes a key in the log, and lets the roster follow behind something else.
func (g *governed) revokedFirst(key token, then func()) {
	g.t.Helper()
	g.about(evidence.KeyRevoked{Person: key.key.Person, Key: key.digest(g.t)})
	then()
	g.roster(evidence.RosterChange{Event: evidence.KeyRemoved, Key: key.key, By: evidence.ByOperator})
}

// forgery is something that an operator does to a workspace's roster or rules, with the alarms about it.
type forgery struct {
	forge   func(g *governed)
	anchors func(*evidence.Anchors)
	want    []monitor.Code
}

// forgeries has one for each alarm.
func forgeries() map[string]forgery {
	return map[string]forgery{
		"a policy that nobody signed": {func(g *governed) { g.setPolicy("weaker") }, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a policy signed by somebody who cannot agree": {func(g *governed) {
			e := g.enrolment(carol)
			vouched := g.countersigned(e, bob)
			e.Countersigned = &vouched
			g.enrol(carol, e, evidence.ByCountersigner, bob.digest(g.t))
			g.setPolicy("weaker", carol)
		}, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a policy signed by a key that is in no roster": {func(g *governed) { g.setPolicy("weaker", newToken("per-bob", "ghost")) }, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a policy signed by a key that was revoked, before the roster follows": {func(g *governed) {
			g.revokedFirst(bob, func() { g.setPolicy("weaker", bob) })
		}, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a ghost key for which a key of its person signed that was revoked": {func(g *governed) {
			g.revokedFirst(bob, func() {
				ghost := newToken("per-bob", "ghost")
				e := g.enrolment(ghost)
				authority := bob.assert(e.Act)
				e.Authority = &authority
				g.enrol(ghost, e, evidence.ByOwnKey, bob.digest(g.t))
			})
		}, nil, []monitor.Code{monitor.RevokedVoucher, monitor.UnknownKey}},
		"a key vouched for by one that was revoked": {func(g *governed) {
			g.revokedFirst(bob, func() {
				e := g.enrolment(carol)
				vouched := g.countersigned(e, bob)
				e.Countersigned = &vouched
				g.enrol(carol, e, evidence.ByCountersigner, bob.digest(g.t))
			})
		}, nil, []monitor.Code{monitor.RevokedVoucher, monitor.RuleUnsigned}},
		"one person who signs for two": {func(g *governed) {
			g.protect(2, []string{"per-alice", "per-bob"}, alice)
			g.setPolicy("weaker", alice, alice)
		}, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a policy whose signatures are for another": {func(g *governed) {
			document := policyNamed("weaker", "nowhere")
			other := evidence.PolicyDocument{Repository: repository, Version: 2, Previous: g.policy, Policy: digest}
			g.openings.Policies = append(g.openings.Policies, evidence.OpenedPolicy{Repository: repository, Version: 2, Policy: document})
			g.say(evidence.PolicyVersion{
				Repository: evidence.RepositoryID(salt, repository), Version: 2, Policy: approval.DigestOf(document),
				Acts: g.agree(evidence.Act{Purpose: evidence.SetPolicy, Policy: &other}, []token{alice}),
			})
		}, nil, []monitor.Code{monitor.RuleUnsigned}},
		"rules that a stolen key agreed to": {func(g *governed) {
			g.setPolicy("agreed by a thief", bob)
			g.setPolicy("in force", bob)
			g.protect(1, []string{"per-alice", "per-bob"}, bob)
			since := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
			proof := g.revocation(bob, &since, alice)
			g.roster(evidence.RosterChange{
				Event: evidence.KeyRemoved, Key: bob.key, By: evidence.ByCountersigner, Proof: proof, Signer: alice.digest(g.t), CompromisedSince: &since,
				IssuedAt: g.issued(g.openings.SignedActs[len(g.openings.SignedActs)-1].Act),
			})
		}, nil, []monitor.Code{monitor.RuleCompromised, monitor.RuleCompromised}},
		"a repository that nobody let go":             {func(g *governed) { g.ungate() }, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a protection that nobody switched off":       {func(g *governed) { g.protect(0, nil) }, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a protection that its new people signed":     {func(g *governed) { g.protect(1, []string{"per-carol"}, carol) }, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a policy that the openings tell otherwise":   {func(g *governed) { g.openings.Policies[0].Policy = policyNamed("other", "nowhere") }, nil, []monitor.Code{monitor.PolicyWrong}},
		"a policy that the openings leave out":        {func(g *governed) { g.openings.Policies = nil }, nil, []monitor.Code{monitor.PolicyWrong}},
		"a protection that the openings leave out":    {func(g *governed) { g.openings.Protections = nil }, nil, []monitor.Code{monitor.OpeningsWrong}},
		"a roster that the openings end early":        {func(g *governed) { g.openings.Roster = g.openings.Roster[:1] }, nil, []monitor.Code{monitor.RosterWrong}},
		"a roster that the openings tell otherwise":   {func(g *governed) { g.openings.Roster[1] = g.openings.Roster[0] }, nil, []monitor.Code{monitor.RosterWrong}},
		"openings of another salt":                    {func(g *governed) { g.openings.Salt = seed("another") }, nil, []monitor.Code{monitor.OpeningsWrong}},
		"openings of another genesis":                 {func(g *governed) { g.openings.Genesis = g.entries[1] }, nil, []monitor.Code{monitor.OpeningsWrong}},
		"a genesis that is not the pinned one":        {func(*governed) {}, func(a *evidence.Anchors) { a.Genesis = digest }, []monitor.Code{monitor.OpeningsWrong}},
		"a roster of which none is the pinned one":    {func(*governed) {}, func(a *evidence.Anchors) { a.Roster = digest }, []monitor.Code{monitor.RosterWrong}},
		"enrolments that the openings leave out":      {func(g *governed) { g.openings.Enrolments = g.openings.Enrolments[:1] }, nil, []monitor.Code{monitor.RosterUnproved}},
		"signatures for another page than the pinned": {func(*governed) {}, func(a *evidence.Anchors) { a.RelyingParties[0].ID = "other.example" }, []monitor.Code{monitor.RosterUnproved, monitor.RosterUnproved, monitor.RuleUnsigned}},
		"a ghost key whose enrolment somebody else signed": {func(g *governed) {
			ghost := newToken("per-carol", "ghost")
			e := g.enrolment(ghost)
			e.Possession = carol.assert(e.Act)
			g.enrol(ghost, e, evidence.ByLogIn, "")
		}, nil, []monitor.Code{monitor.RosterUnproved}},
		"a ghost key on a log-in of somebody who has one, and what it signs": {func(g *governed) {
			ghost := newToken("per-alice", "ghost")
			g.enrol(ghost, g.enrolment(ghost), evidence.ByLogIn, "")
			g.setPolicy("weaker", ghost)
			g.protect(0, nil, ghost)
		}, nil, []monitor.Code{monitor.RosterWrong, monitor.SecondLogIn}},
		"a ghost key on a log-in of which the log says that an own key signed for it": {func(g *governed) {
			ghost := newToken("per-carol", "ghost")
			e := g.enrolment(ghost)
			proof, err := e.Digest()
			g.must(err)
			g.about(evidence.KeyEnrolled{Person: "per-carol", Key: ghost.digest(g.t), AttestationObject: digest, ClientData: digest, IdentifiedBy: "own-key", Enrolment: proof})
			g.openings.Enrolments = append(g.openings.Enrolments, evidence.EnrolledKey{Enrolment: e})
			g.roster(evidence.RosterChange{Event: evidence.KeyAdded, Key: ghost.key, By: evidence.ByLogIn, Proof: proof})
		}, nil, []monitor.Code{monitor.KeyUnlogged}},
		"a ghost key that nobody of the person authorised": {func(g *governed) {
			ghost := newToken("per-bob", "ghost")
			e := g.enrolment(ghost)
			authority := ghost.assert(e.Act)
			e.Authority = &authority
			g.enrol(ghost, e, evidence.ByOwnKey, bob.digest(g.t))
		}, nil, []monitor.Code{monitor.RosterUnproved, monitor.UnknownKey}},
		"a ghost key that is in the roster and not enrolled in the log": {func(g *governed) {
			ghost := newToken("per-carol", "ghost")
			e := g.enrolment(ghost)
			proof, err := e.Digest()
			g.must(err)
			g.openings.Enrolments = append(g.openings.Enrolments, evidence.EnrolledKey{Enrolment: e, Owner: ownerOf(g.t, e)})
			g.roster(evidence.RosterChange{Event: evidence.KeyAdded, Key: ghost.key, By: evidence.ByLogIn, Proof: proof})
		}, nil, []monitor.Code{monitor.KeyUnlogged}},
		"a countersignature for another key": {func(g *governed) {
			e := g.enrolment(carol)
			vouched := g.countersigned(g.enrolment(newToken("per-carol", "other")), alice)
			e.Countersigned = &vouched
			g.enrol(carol, e, evidence.ByCountersigner, alice.digest(g.t))
		}, nil, []monitor.Code{monitor.RosterUnproved, monitor.RuleUnsigned}},
		"a key revoked by one where two have to": {func(g *governed) {
			g.protect(2, []string{"per-alice", "per-bob"}, alice)
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			g.revoke(carol, bob)
		}, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a key vouched for by one where two have to": {func(g *governed) {
			g.protect(2, []string{"per-alice", "per-bob"}, alice)
			e := g.enrolment(carol)
			vouched := g.countersigned(e, alice)
			e.Countersigned = &vouched
			g.enrol(carol, e, evidence.ByCountersigner, alice.digest(g.t))
		}, nil, []monitor.Code{monitor.RuleUnsigned}},
		"a key revoked by two of whom one cannot agree": {func(g *governed) {
			g.protect(2, []string{"per-alice", "per-bob"}, alice)
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			dave := newToken("per-dave", "dave")
			g.enrol(dave, g.enrolment(dave), evidence.ByLogIn, "")
			g.revoke(dave, bob, carol)
		}, nil, []monitor.Code{monitor.RuleUnsigned}},
		"an agreement over something else": {func(g *governed) {
			g.protect(2, []string{"per-alice", "per-bob"}, alice)
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			since := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
			other := g.revocation(carol, &since, alice)
			mine := g.revocation(carol, nil, bob)
			g.roster(evidence.RosterChange{
				Event: evidence.KeyRemoved, Key: carol.key, By: evidence.ByCountersigner, Proof: mine, Signer: bob.digest(g.t),
				IssuedAt: g.issued(g.openings.SignedActs[len(g.openings.SignedActs)-1].Act),
				Agreed:   []evidence.Agreement{{Signer: alice.digest(g.t), Proof: other, IssuedAt: *g.issued(g.openings.SignedActs[len(g.openings.SignedActs)-2].Act)}},
			})
		}, nil, []monitor.Code{monitor.RosterUnproved, monitor.RuleUnsigned}},
		"an agreement that is not opened": {func(g *governed) {
			g.protect(2, []string{"per-alice", "per-bob"}, alice)
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			g.revoke(carol, bob, alice)
			g.openings.SignedActs = g.openings.SignedActs[:len(g.openings.SignedActs)-1]
		}, nil, []monitor.Code{monitor.RosterUnproved, monitor.RuleUnsigned}},
		"a revocation that is another's": {func(g *governed) {
			act := g.act(evidence.Act{Purpose: evidence.Revoke, Signer: evidence.Party{Person: "per-alice"}, Revocation: &evidence.RevocationDocument{Person: "per-alice", Key: alice.digest(g.t)}})
			signed := evidence.SignedAct{Act: act, Assertion: alice.assert(act)}
			proof, err := signed.Digest()
			g.must(err)
			g.openings.SignedActs = append(g.openings.SignedActs, signed)
			g.roster(evidence.RosterChange{Event: evidence.KeyRemoved, Key: bob.key, By: evidence.ByCountersigner, Proof: proof, Signer: alice.digest(g.t), IssuedAt: g.issued(act)})
		}, nil, []monitor.Code{monitor.RosterUnproved, monitor.RuleUnsigned}},
		"a roster that adds a key twice": {func(g *governed) {
			g.roster(evidence.RosterChange{Event: evidence.KeyAdded, Key: bob.key, By: evidence.ByLogIn, Proof: g.changes[1].Proof})
		}, nil, []monitor.Code{monitor.RosterWrong}},
		"a policy signed by a key before it was in the roster": {func(g *governed) {
			early := newToken("per-bob", "early")
			g.setPolicy("weaker", early)
			e := g.enrolment(early)
			authority := bob.assert(e.Act)
			e.Authority = &authority
			g.enrol(early, e, evidence.ByOwnKey, bob.digest(g.t))
		}, nil, []monitor.Code{monitor.RuleUnsigned, monitor.UnknownKey}},
	}
}

// onlyLasting makes a pass that must tell again what lasts of what was told before, and nothing else: what is wrong with the openings,
// and a policy that keeps an answer from being judged.
func (a *auditor) onlyLasting(g *governed, before []monitor.Finding) {
	a.t.Helper()
	told := func(found []monitor.Finding) (list []string) {
		for _, f := range found {
			if !f.Notice && slices.Contains([]monitor.Code{monitor.OpeningsWrong, monitor.RosterWrong, monitor.PolicyWrong, monitor.PolicyUnreadable}, f.Code) {
				list = append(list, string(f.Code)+" "+f.Subject)
			}
		}
		return list
	}
	again, err := a.pass(g.operator, g)
	if err != nil || !slices.Equal(told(again), told(before)) || len(told(again)) != len(again) {
		a.t.Errorf("told again: %v, %v, after %v", again, err, before)
	}
}

// TestAWorkspaceThatIsNot has everything looked at in one pass, and then in passes after each leaf.
func TestAWorkspaceThatIsNot(t *testing.T) {
	t.Parallel()
	for name, c := range forgeries() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, a := newGoverned(t), newAuditor(t)
			a.withOpenings(c.anchors)
			before := len(g.entries)
			c.forge(g)
			g.publish()
			found, err := a.pass(g.operator, g)
			got := codes(found)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, c.want) {
				t.Fatalf("found %v, %v, want %v", found, err, c.want)
			}
			for range 2 {
				a.onlyLasting(g, found)
			}
			if before == len(g.entries) {
				return // nothing of it is new
			}
			for _, restarted := range []bool{true, false} {
				a := newAuditor(t)
				a.withOpenings(c.anchors)
				a.stays = !restarted
				a.leafByLeaf(g.operator)
				got := codes(a.once())
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("leaf by leaf, restarted %v: found %v, want %v", restarted, a.found, c.want)
				}
			}
		})
	}
}

// TestWhoAgreedBesides hides that a stolen key agreed to a rule to which enough others did. It is an alarm that an act is not told, and
// what it says is found once it is.
func TestWhoAgreedBesides(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]func(g *governed){
		"a policy":     func(g *governed) { g.setPolicy("agreed by a thief", alice, bob) },
		"a protection": func(g *governed) { g.protect(1, []string{"per-alice", "per-bob"}, alice, bob) },
	} {
		g, a := newGoverned(t), newAuditor(t)
		a.withOpenings(nil)
		rule(g)
		agreed := g.openings.SignedActs
		g.stolen(bob, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
		g.publish()
		told := *g.openings
		lie := told
		lie.SignedActs = slices.Concat(agreed[:len(agreed)-1], told.SignedActs[len(agreed):])
		g.openings = &lie
		found, err := a.pass(g.operator, g)
		if got := codes(found); err != nil || !slices.Contains(got, monitor.OpeningsWrong) || slices.Contains(got, monitor.RuleUnsigned) {
			t.Errorf("%s: hidden: %v, %v", name, found, err)
		}
		g.openings = &told
		found, err = a.pass(g.operator, g)
		if err != nil || len(found) != 1 || found[0].Code != monitor.RuleCompromised || !strings.HasPrefix(found[0].Subject, name[len("a "):]) {
			t.Errorf("%s: told: %v, %v", name, found, err)
		}
	}
}

// TestWhatWasSaidOfAKeyBeforeItCame: a workspace revokes a key that its roster did not have yet, changes its rules, and the key comes in with what
// was said of it then.
func TestWhatWasSaidOfAKeyBeforeItCame(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	said := g.signedFor(evidence.KeyRemoved, carol, g.revocation(carol, nil, bob), bob)
	g.protect(2, []string{"per-alice", "per-bob"}, bob)
	g.about(evidence.KeyRevoked{Person: bob.key.Person, Key: bob.digest(t)}) // the roster follows behind
	g.now = g.now.Add(30 * 24 * time.Hour)
	g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
	g.now = g.now.Add(-time.Second) // the next leaf is of the same time
	g.roster(said)
	g.roster(evidence.RosterChange{Event: evidence.KeyRemoved, Key: bob.key, By: evidence.ByOperator})
	g.publish()
	if found, err := a.pass(g.operator, g); err != nil || len(codes(found)) > 0 {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestWhoRevokesAKeyThatCounted: too few revoke a key that has come into the roster, by a leaf of the time with which it came. It could decide in between.
func TestWhoRevokesAKeyThatCounted(t *testing.T) {
	t.Parallel()
	g, a := newGoverned(t), newAuditor(t)
	a.withOpenings(nil)
	g.protect(2, []string{"per-alice", "per-bob"}, bob)
	g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
	came := g.now
	g.chain(7).say(evidence.RequestOpened{Request: "req-1", Document: digest}, evidence.DecisionMade{Request: "req-1", Statement: digest, Assertion: digest})
	said := g.signedFor(evidence.KeyRemoved, carol, g.revocation(carol, nil, bob), bob)
	g.now = came.Add(-time.Second) // as in the test before
	g.roster(said)
	g.publish()
	if found, err := a.pass(g.operator, g); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.RuleUnsigned}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestWhatHadExpiredCountsForNothing has people sign, and the operator file it when what they signed has expired.
func TestWhatHadExpiredCountsForNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file func(g *governed, wait func())
		want monitor.Code
	}{
		"a policy": {func(g *governed, wait func()) {
			document := policyNamed("weak", "nowhere")
			about := evidence.PolicyDocument{Repository: repository, Version: g.policies + 1, Previous: g.policy, Policy: approval.DigestOf(document)}
			acts := g.agree(evidence.Act{Purpose: evidence.SetPolicy, Policy: &about}, []token{alice, bob})
			wait()
			g.openings.Policies = append(g.openings.Policies, evidence.OpenedPolicy{Repository: repository, Version: about.Version, Policy: document})
			g.say(evidence.PolicyVersion{Repository: evidence.RepositoryID(salt, repository), Version: about.Version, Policy: about.Policy, Acts: acts})
		}, monitor.RuleUnsigned},
		"a revocation": {func(g *governed, wait func()) {
			e := g.enrolment(carol)
			vouched := g.countersigned(e, alice)
			e.Countersigned = &vouched
			g.enrol(carol, e, evidence.ByCountersigner, alice.digest(g.t))
			g.protect(2, []string{"per-alice", "per-bob"}, alice)
			change := g.signedFor(evidence.KeyRemoved, carol, g.revocation(carol, nil, alice), alice)
			other := g.revocation(carol, nil, bob)
			change.Agreed = []evidence.Agreement{{Signer: bob.digest(g.t), Proof: other, IssuedAt: *g.issued(g.openings.SignedActs[len(g.openings.SignedActs)-1].Act)}}
			wait()
			g.roster(change)
		}, monitor.RuleUnsigned},
		"a revocation where nothing is protected": {func(g *governed, wait func()) {
			g.protect(0, nil, alice)
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			proof := g.revocation(carol, nil, alice)
			wait()
			g.roster(g.signedFor(evidence.KeyRemoved, carol, proof, alice))
		}, monitor.RuleUnsigned},
		"a report of a revoked key": {func(g *governed, wait func()) {
			g.protect(0, nil, alice)
			g.enrol(carol, g.enrolment(carol), evidence.ByLogIn, "")
			g.roster(g.signedFor(evidence.KeyRemoved, carol, g.revocation(carol, nil, alice), alice))
			since := g.now
			report := g.signedFor(evidence.KeyRemoved, carol, g.revocation(carol, &since, alice), alice)
			report.CompromisedSince = &since
			wait()
			g.roster(report)
		}, monitor.RuleUnsigned},
		"a countersignature of a member's key where nothing is protected": {func(g *governed, wait func()) {
			g.protect(0, nil, alice)
			e := g.enrolment(carol)
			g.enrol(carol, e, evidence.ByLogIn, "")
			signed := g.countersigned(e, alice)
			g.openings.SignedActs = append(g.openings.SignedActs, signed)
			proof, err := signed.Digest()
			g.must(err)
			wait()
			g.roster(g.signedFor(evidence.KeyCountersigned, carol, proof, alice))
		}, monitor.RuleUnsigned},
		"a countersignature that brings a key into the roster": {func(g *governed, wait func()) {
			g.protect(0, nil, alice)
			e := g.enrolment(carol)
			g.now = g.now.Add(3 * time.Minute) // of those that its owner had to confirm it
			vouched := g.countersigned(e, alice)
			e.Countersigned = &vouched
			wait()
			g.enrol(carol, e, evidence.ByCountersigner, alice.digest(g.t))
		}, monitor.RuleUnsigned},
		"an enrolment": {func(g *governed, wait func()) {
			e := g.enrolment(carol)
			wait()
			g.enrol(carol, e, evidence.ByLogIn, "")
		}, monitor.RosterUnproved},
		"a countersignature": {func(g *governed, wait func()) {
			e := g.enrolment(carol)
			vouched := g.countersigned(e, alice)
			e.Countersigned = &vouched
			wait()
			g.enrol(carol, e, evidence.ByCountersigner, alice.digest(g.t))
		}, monitor.RosterUnproved},
	} {
		for _, late := range []bool{false, true} {
			g, a := newGoverned(t), newAuditor(t)
			a.withOpenings(nil)
			c.file(g, func() {
				if late {
					g.now = g.now.Add(365 * 24 * time.Hour)
				}
			})
			g.publish()
			found, err := a.pass(g.operator, g)
			if got := codes(found); err != nil || late != slices.Contains(got, c.want) || !late && len(got) > 0 {
				t.Errorf("%s, late %t: %v, %v", name, late, found, err)
			}
		}
	}
}

// TestARevocationComesWithItsKey: what was signed of a key before the roster had it is no late word when both come in.
func TestARevocationComesWithItsKey(t *testing.T) {
	t.Parallel()
	for _, quorum := range []int{0, 1} {
		for _, later := range []bool{false, true} {
			g, a := newGoverned(t), newAuditor(t)
			a.withOpenings(nil)
			if quorum == 0 {
				g.protect(0, nil, alice)
			}
			e, proof := g.enrolment(carol), g.revocation(carol, nil, alice)
			revoked := g.signedFor(evidence.KeyRemoved, carol, proof, alice)
			proved, err := e.Digest()
			g.must(err)
			g.about(evidence.KeyEnrolled{
				Person: carol.key.Person, Key: carol.digest(t), AttestationObject: digest, ClientData: digest, IdentifiedBy: string(evidence.ByLogIn), Enrolment: proved,
			})
			g.openings.Enrolments = append(g.openings.Enrolments, evidence.EnrolledKey{Enrolment: e, Owner: ownerOf(g.t, e)})
			g.now = g.now.Add(30 * 24 * time.Hour)
			g.roster(evidence.RosterChange{Event: evidence.KeyAdded, Key: carol.key, By: evidence.ByLogIn, Proof: proved})
			if !later {
				g.now = g.now.Add(-time.Second) // one transaction writes both
			}
			g.roster(revoked)
			g.publish()
			found, err := a.pass(g.operator, g)
			if got := slices.Contains(codes(found), monitor.RuleUnsigned); err != nil || got != later {
				t.Errorf("quorum %d, later %t: %v, %v", quorum, later, found, err)
			}
		}
	}
}

// TestOpeningsThatCannotBeRead is no statement about the log.
func TestOpeningsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(text string) string{
		"of another format": func(text string) string { return strings.Replace(text, evidence.OpeningsFormat, "other", 1) },
		"of another workspace": func(text string) string {
			return strings.ReplaceAll(text, workspace, strings.Replace(workspace, "5", "6", 1))
		},
		"in another form":        func(text string) string { return text + "\n" },
		"with a name twice":      func(text string) string { return strings.Replace(text, `{`, `{"chains":[],`, 1) },
		"with an unknown name":   func(text string) string { return strings.Replace(text, `{"chains"`, `{"also":1,"chains"`, 1) },
		"with a null":            func(text string) string { return strings.Replace(text, `"chains":[]`, `"chains":null`, 1) },
		"nested beyond all use":  func(string) string { return strings.Repeat("[", 1<<20) },
		"in letters of any case": func(text string) string { return strings.Replace(text, `"salt"`, `"Salt"`, 1) },
	} {
		g, a := newGoverned(t), newAuditor(t)
		a.withOpenings(nil)
		g.publish()
		g.lie = func(path string, body []byte) (int, []byte) {
			if strings.HasPrefix(path, "/log/") {
				return http.StatusOK, body
			}
			changed := change(string(body))
			if changed == string(body) {
				t.Errorf("%s: nothing changes", name)
			}
			return http.StatusOK, []byte(changed)
		}
		if found, err := a.pass(g.operator, g); err == nil || len(codes(found)) > 0 {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}
