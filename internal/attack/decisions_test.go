package attack_test

import (
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// moved is an attack that moves everything that was signed elsewhere: the rows say so, and then the statements too.
func moved(what string, move func(o *operator), restate func(o *operator, s *evidence.Statement), caught ...string) attack {
	return attack{
		wants: "move approvals to another " + what, caught: caught,
		try: func(t *testing.T) (got []string) {
			c := stage(t)
			c.approved(c.bob, c.carol, c.dave)
			c.control(c.operator)
			forged := c.twin()
			move(forged)
			got = append(got, verify(forged.bundle(), unwitnessed(c.pinned)))
			forged.rewrite(func(s *evidence.Statement) { restate(forged, s) })
			return append(got, verify(forged.bundle(), unwitnessed(c.pinned)))
		},
	}
}

// inTime are facts by which nothing came when the time of the request was up.
func inTime(f *approval.Facts) {
	f.Request.Lapsed = false
	for i := range f.Decisions {
		f.Decisions[i].Late = false
	}
}

func onDecisions() []attack {
	const about, unsigned = "step 7 statements: invalid", "step 8 assertions: signature"
	other := uuid("elsewhere")
	return []attack{
		{
			wants: "forge an approval by X, signed with a key of the operator's own", caught: []string{"step 8 assertions: signature"},
			try: forgedBy(func(c *cast, s evidence.Statement, d evidence.SignedDecision) { c.file(s, d, c.mallory.sign) }),
		},
		{
			wants: "forge an approval by X, signed with a key of the operator's own under X's credential id", caught: []string{"step 8 assertions: signature"},
			try: forgedBy(func(c *cast, s evidence.Statement, d evidence.SignedDecision) {
				c.file(s, d, func(t testing.TB, data []byte) evidence.Assertion {
					a := c.mallory.sign(t, data)
					a.CredentialID = c.dave.key.CredentialID
					return a
				})
			}),
		},
		{
			wants: "forge an approval by X, signed by Y who is in the roster", caught: []string{"step 8 assertions: wrong_person"},
			try: forgedBy(func(c *cast, s evidence.Statement, d evidence.SignedDecision) { c.file(s, d, c.bob.sign) }),
		},
		{
			wants: "forge an approval by X, with a signature that X made for something else", caught: []string{"step 8 assertions: challenge", "step 8 assertions: signature"},
			try: func(t *testing.T) (got []string) {
				c := played(t)
				var old evidence.Assertion // dave's own
				c.decisions(func(_ int, d *evidence.SignedDecision) { old = d.Assertion })
				for _, refit := range []bool{false, true} {
					forged := &cast{operator: c.twin(), t: t}
					forged.open("third")
					forged.decide(c.bob, evidence.Approve)
					s, d := forged.statement("dave", evidence.Approve)
					forged.file(s, d, func(_ testing.TB, data []byte) evidence.Assertion {
						a := old
						if refit {
							a.ClientDataJSON = clientData(data)
						}
						return a
					})
					got = append(got, verify(forged.bundle(), unwitnessed(c.pinned)))
				}
				return got
			},
		},
		{
			wants: "have the tally count an approval that is in no chain", caught: []string{"step 10 facts: invalid"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.control(c.operator)
				forged := c.twin()
				forged.facts = func(f *approval.Facts) {
					for _, d := range slices.Clone(f.Decisions) {
						d.ID, d.PersonID, d.AccountID, d.Name = "dec-x", "per-dave", "acc-dave", "dave"
						d.Sequence++
						f.Decisions = append(f.Decisions, d)
					}
				}
				return []string{verify(forged.bundle(), unwitnessed(c.pinned))}
			},
		},
		moved("commit", func(o *operator) { o.requests(func(r *evidence.Request) { r.HeadCommit = commit("evil") }) },
			func(_ *operator, s *evidence.Statement) { s.Source.Commit = commit("evil") }, about, unsigned),
		moved("pull request", func(o *operator) {
			o.number = 8
			o.requests(func(r *evidence.Request) { r.PullRequest = 8 })
		}, func(o *operator, s *evidence.Statement) {
			s.PullRequest, s.ChainHead.Chain = 8, evidence.ChainID(o.salt, o.repository, 8)
		}, about, unsigned),
		moved("repository", func(o *operator) {
			o.repository = other
			o.requests(func(r *evidence.Request) { r.Repository = other })
		}, func(o *operator, s *evidence.Statement) {
			s.Destination.Repository, s.ChainHead.Chain = other, evidence.ChainID(o.salt, other, o.number)
		}, about, unsigned),
		moved("branch", func(o *operator) { o.requests(func(r *evidence.Request) { r.DestinationBranch = "release/2.0" }) },
			func(_ *operator, s *evidence.Statement) { s.Destination.Branch = "release/2.0" }, about, unsigned),
		moved("policy", func(o *operator) {
			o.policy = policyOf(1)
			o.requests(func(r *evidence.Request) { r.RuleDigest = o.policy.Rules[0].Digest() })
		}, func(o *operator, s *evidence.Statement) {
			s.Policy = evidence.PolicyRef{Digest: o.policy.Digest(), RuleDigest: o.policy.Rules[0].Digest()}
			s.Requirements = evidence.RequirementsOf(o.policy.Rules[0])
		}, about, unsigned),
		moved("workspace", func(o *operator) {
			o.workspace = other
			o.requests(func(r *evidence.Request) { r.Workspace = other })
		}, func(_ *operator, s *evidence.Statement) { s.Workspace = other }, about, unsigned),
		{
			wants: "hold an approval back that X signed, and file it when its signature has expired", caught: []string{"step 7 statements: chain"},
			try: func(t *testing.T) []string {
				c := halfApproved(t)
				s, d := c.statement("dave", evidence.Approve)
				honest := c.twin()
				honest.file(s, d, c.dave.sign)
				c.control(honest)
				c.now = c.now.Add(time.Hour)
				c.file(s, d, c.dave.sign)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "hold an approval back that X signed, and file it when X has rejected", caught: []string{"step 7 statements: chain"},
			try: func(t *testing.T) []string {
				c := halfApproved(t)
				s, d := c.statement("dave", evidence.Approve)
				honest := c.twin()
				honest.file(s, d, c.dave.sign)
				c.control(honest)
				c.decide(c.dave, evidence.Reject)
				c.file(s, d, c.dave.sign)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "date the leaf of an approval to before X signed it", caught: []string{"step 7 statements: chain"},
			try: forgedBy(func(c *cast, s evidence.Statement, d evidence.SignedDecision) {
				s.IssuedAt, s.ExpiresAt = s.IssuedAt.Add(time.Hour), s.ExpiresAt.Add(time.Hour)
				c.file(s, d, c.dave.sign)
			}),
		},
		{
			wants: "have people approve a request that has expired", caught: []string{"step 7 statements: chain"},
			try: func(t *testing.T) []string {
				c := halfApproved(t)
				c.now = c.now.Add(25 * time.Hour)
				c.decide(c.dave, evidence.Approve)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "have people approve a request that has expired, behind a verdict that says it was approved", caught: []string{"step 7 statements: chain"},
			try: func(t *testing.T) []string {
				c := halfApproved(t)
				c.say(evidence.VerdictReached{Request: c.newest().ID, State: "APPROVED", Outcome: approval.DigestOf(nil)}, true)
				c.now = c.now.Add(25 * time.Hour)
				c.decide(c.dave, evidence.Approve)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "have an expired request approved, by a rejection that is withdrawn", caught: []string{"step 10 facts: invalid"},
			try: func(t *testing.T) []string {
				c := rejected(t, true)
				c.now = c.now.Add(25 * time.Hour)
				c.decide(c.carol, evidence.Withdraw)
				c.control(c.operator)
				if state := c.make().verdict.State; state != approval.Expired {
					t.Fatalf("the control is %s", state)
				}
				c.facts = inTime
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "have an expired request approved, by asserting that more people were asked", caught: []string{"step 10 facts: invalid"},
			try: func(t *testing.T) []string {
				c := stage(t)
				writers := c.writers
				c.writers = writers[:2] // alice and bob
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(c.dave, evidence.Approve)
				c.now = c.now.Add(25 * time.Hour)
				c.add(event{verdict: true})
				c.control(c.operator)
				c.add(event{verdict: true})
				c.facts = func(f *approval.Facts) {
					f.Writers = writers
					inTime(f)
				}
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "have an expired request approved, by asserting that more people were asked, with a verdict that is dated back", caught: []string{"step 10 facts: invalid"},
			try: func(t *testing.T) []string {
				c := stage(t)
				writers := c.writers
				c.writers = writers[:2] // alice and bob
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(c.dave, evidence.Approve)
				expires := c.newest().ExpiresAt
				c.now = expires
				c.add(event{verdict: true})
				c.control(c.operator)
				if state := c.make().verdict.State; state != approval.Expired {
					t.Fatalf("the control is %s", state)
				}
				c.now = expires.Add(-3 * time.Minute)
				c.add(event{verdict: true})
				c.facts = func(f *approval.Facts) { f.Writers = writers }
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "give a request more time than its rule does", caught: []string{"step 4 requests: invalid"},
			try: func(t *testing.T) []string {
				c := halfApproved(t)
				c.requests(func(r *evidence.Request) { r.ExpiresAt = r.OpenedAt.Add(10 * 365 * 24 * time.Hour) })
				c.now = c.now.Add(25 * time.Hour)
				c.decide(c.dave, evidence.Approve)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "replay an approval: file the signed decision twice", caught: []string{"step 7 statements: invalid"},
			try: func(t *testing.T) []string {
				c := played(t)
				forged := c.twin()
				for _, e := range slices.Clone(forged.events) {
					if e.decision != nil && e.decision.ID == "dec-2" { // bob's, on the newest commit
						forged.add(event{decision: e.decision})
						forged.add(event{verdict: true})
						break
					}
				}
				return []string{verify(forged.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "count one person twice, by two keys", caught: []string{"step 11 tally: invalid"},
			try: func(t *testing.T) []string {
				c := stage(t)
				second := newPerson(t, "bob", "second")
				c.enrolOn(second, c.bob)
				c.pinned = c.anchors()
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(second, evidence.Approve)
				return c.counted()
			},
		},
		{
			wants: "count one person twice, as two people with one account", caught: []string{"step 11 tally: invalid"},
			try: func(t *testing.T) []string {
				c := stage(t)
				again := newPerson(t, "robert", "")
				c.accounts = map[string]string{"robert": "acc-bob"}
				c.enrol(again)
				c.pinned = c.anchors()
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(again, evidence.Approve)
				return c.counted()
			},
		},
		{
			wants: "count one human twice, who has two accounts at Bitbucket", caught: []string{"exit 0"}, admits: "two Bitbucket accounts of one human",
			try: func(t *testing.T) []string {
				c := stage(t)
				again := newPerson(t, "robert", "") // bob's, as only bob knows
				c.enrol(again)
				c.writers = append(c.writers, approval.Person{ID: "per-robert", AccountID: "acc-robert", Name: "robert"})
				c.pinned = c.anchors()
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.control(c.operator)
				c.decide(again, evidence.Approve)
				if v := c.make().verdict; v.State != approval.Approved {
					t.Errorf("%s", v.Sentence)
				}
				return []string{verify(c.bundle(), c.pinned)}
			},
		},
		{
			wants:  "give an approval to another account than the signer's",
			caught: []string{"step 10 facts: invalid", "exit 2: no erased openings", "step 15 anchors: wrong_person"}, admits: "another Bitbucket account",
			try: func(t *testing.T) (got []string) {
				c := stage(t)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.control(c.operator)
				forged := c.twin()
				forged.facts = func(f *approval.Facts) {
					for i := range f.Decisions {
						f.Decisions[i].AccountID = "acc-dave"
					}
				}
				got = append(got, verify(forged.bundle(), c.pinned))
				forged.decisions(func(_ int, d *evidence.SignedDecision) { d.Approver = nil }) // as if bob had been erased
				forged.seen = nil
				got = append(got, verify(forged.bundle(), unwitnessed(c.pinned)))
				knows := unwitnessed(c.pinned)
				knows.Keys = []evidence.PinnedKey{{Person: "per-bob", AccountID: "acc-bob", PublicKey: c.bob.key.PublicKey}}
				return append(got, verify(forged.bundle(), knows))
			},
		},
	}
}

// forgedBy is a story in which bob approved, and dave's approval is filed by somebody else. Dave's own is the control.
func forgedBy(file func(c *cast, s evidence.Statement, d evidence.SignedDecision)) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		c := stage(t)
		c.open("new")
		c.decide(c.bob, evidence.Approve)
		honest := *c
		honest.operator = c.twin()
		honest.decide(c.dave, evidence.Approve)
		s, d := c.statement("dave", evidence.Approve)
		file(c, s, d)
		c.seen = nil
		got := verify(c.bundle(), unwitnessed(c.pinned))
		honest.control(honest.operator)
		return []string{got}
	}
}

// counted is what becomes of a verdict by which two signatures of one person are two approvals. That they are one is
// the control.
func (c *cast) counted() []string {
	c.t.Helper()
	c.control(c.operator)
	if v := c.make().verdict; v.State != approval.Pending || len(v.Requirements[0].Counted) != 1 {
		c.t.Fatalf("the control: %+v", v)
	}
	forged := c.twin()
	forged.conclude = func(v *approval.Verdict) { v.State, v.Sentence = approval.Approved, "2 of 2 approvals" }
	return []string{verify(forged.bundle(), unwitnessed(c.pinned))}
}
