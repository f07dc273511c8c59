package attack_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"filippo.io/nistec"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// ghost is a key that the operator made under a person's name.
func ghost(t testing.TB, name string) *person {
	t.Helper()
	return newPerson(t, name, "a ghost's")
}

func digestOf(t testing.TB, k evidence.Key) evidence.Digest {
	t.Helper()
	d, err := k.Digest()
	must(t, err)
	return d
}

// halfApproved is a story in which bob approved, and dave did not.
func halfApproved(t *testing.T) *cast {
	t.Helper()
	c := stage(t)
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.control(c.operator)
	return c
}

// withTwoKeys is the stage with a second key of dave's.
func withTwoKeys(t *testing.T) (c *cast, second *person) {
	t.Helper()
	c, second = stage(t), newPerson(t, "dave", "second")
	c.enrolOn(second, c.dave)
	return c, second
}

// outdated has somebody approve who is said to have been shown roster and chain as somebody else was before.
func (c *cast) outdated(p *person, then evidence.Statement) {
	c.t.Helper()
	s, d := c.statement(p.name, evidence.Approve)
	s.Roster, s.ChainHead = then.Roster, then.ChainHead
	c.file(s, d, p.sign)
}

// sayRevoked has the log say that a key is revoked by another one of its person, and the roster not yet.
func (c *cast) sayRevoked(p, by *person) {
	c.t.Helper()
	about := evidence.RevocationDocument{Person: p.key.Person, Key: digestOf(c.t, p.key)}
	act, _ := c.act(evidence.Act{Purpose: evidence.Revoke, Revocation: &about}, by.name)
	proof, err := evidence.SignedAct{Act: act, Assertion: by.sign(c.t, act)}.Digest()
	must(c.t, err)
	c.say(evidence.KeyRevoked{Person: about.Person, Key: about.Key, By: evidence.ByOwnKey, Revocation: proof}, false)
}

// byVouched approves with a key for which one signed that had been revoked, and shows that to everybody who may look.
func (c *cast) byVouched(p *person, since evidence.Anchors) []string {
	c.t.Helper()
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.decide(p, evidence.Approve)
	got := []string{verify(c.bundle(), c.pinned)}
	for _, anchors := range []evidence.Anchors{c.pinned, since} {
		_, said := pipeline(c.t, c.operator, anchors, c.bundle())
		got = append(got, said)
	}
	openings, at := c.publish().openings, int64(c.make().rosterAt)
	openings.RosterLeaf = &at
	got = append(got, c.pins(openings))
	return append(got, newAuditor(c.operator).pass(c.operator, c.publish())...)
}

func onKeys() []attack {
	return []attack{
		{
			wants:  "enrol a ghost key for X, who has a key, after a log-in, and approve with it",
			caught: []string{"step 5 roster: roster", "step 5 roster: roster", "monitor: second_login", "monitor: unknown_key", "monitor: roster_wrong"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				watcher := newAuditor(c.operator)
				watcher.mine = &monitor.Mine{People: []string{"per-dave"}, Keys: []evidence.Digest{digestOf(t, c.dave.key)}}
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				g := ghost(t, "dave")
				c.enrol(g)
				c.decide(g, evidence.Approve)
				bundle := c.bundle()
				got = append(got, verify(bundle, c.pinned), verify(bundle, unpinned(c.pinned)))
				return append(got, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: "enrol a ghost key for X, who has none, after a log-in, and approve with it", admits: "keys for people whose keys are not pinned",
			caught: []string{"step 15 anchors: key", "exit 2: no roster", "monitor: unknown_key"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				watcher := newAuditor(c.operator)
				watcher.mine = &monitor.Mine{People: []string{"per-erin"}}
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				g := ghost(t, "erin")
				c.enrol(g)
				c.decide(g, evidence.Approve)
				bundle := c.bundle()
				got = append(got, verify(bundle, c.pinned), verify(bundle, unpinned(c.pinned)))
				return append(got, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: "enrol a ghost key for X, who has a key, on the word of somebody whom the operator invents, and approve with it", admits: "invent people",
			caught: []string{"step 15 anchors: key", "exit 2: no roster", "monitor: unknown_key"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				watcher := newAuditor(c.operator)
				watcher.mine = &monitor.Mine{People: []string{"per-dave"}, Keys: []evidence.Digest{digestOf(t, c.dave.key)}}
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				g := ghost(t, "dave")
				c.enrol(c.mallory)
				c.enrolOn(g, c.mallory)
				c.decide(g, evidence.Approve)
				bundle := c.bundle()
				got = append(got, verify(bundle, c.pinned), verify(bundle, unpinned(c.pinned)))
				return append(got, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: "enrol a ghost key for X, who has none, without a leaf of its enrolment, so that X is not told", admits: "keys for people whose keys are not pinned",
			caught: []string{"step 15 anchors: key", "exit 2: no roster", "monitor: key_unlogged", "monitor: unknown_key"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				watcher := newAuditor(c.operator)
				watcher.mine = &monitor.Mine{People: []string{"per-erin"}}
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				g := ghost(t, "erin")
				c.enrol(g)
				digest := digestOf(t, g.key)
				c.drop(func(e event) bool { k, is := e.body.(evidence.KeyEnrolled); return is && k.Key == digest })
				c.decide(g, evidence.Approve)
				bundle := c.bundle()
				got = append(got, verify(bundle, c.pinned), verify(bundle, unpinned(c.pinned)))
				return append(got, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: "invent somebody who has X's account, and approve as X with their key", admits: "keys for people whose keys are not pinned",
			caught: []string{"step 15 anchors: key", "exit 2: no roster", "monitor: account_twice", "monitor: account_twice", "monitor: unknown_key"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				watcher, dave := newAuditor(c.operator), newAuditor(c.operator)
				dave.mine = &monitor.Mine{Accounts: []string{"acc-dave"}, Keys: []evidence.Digest{digestOf(t, c.dave.key)}}
				for _, a := range []*auditor{watcher, dave} {
					if alarms := a.pass(c.operator, c.publish()); len(alarms) > 0 {
						t.Fatalf("the control: %v", alarms)
					}
				}
				c.accounts = map[string]string{"mallory": "acc-dave"}
				c.enrol(c.mallory)
				c.decide(c.mallory, evidence.Approve)
				bundle := c.bundle()
				if state := evidence.Verify(bundle, unpinned(c.pinned)).Verdict.State; state != approval.Approved {
					t.Errorf("it is %s", state)
				}
				got = append(got, verify(bundle, c.pinned), verify(bundle, unpinned(c.pinned)))
				for _, a := range []*auditor{watcher, dave} {
					got = append(got, a.pass(c.operator, c.publish())...)
				}
				return got
			},
		},
		{
			wants: "enrol a ghost key for X as if X's own key had signed for it", caught: []string{"step 5 roster: signature", "monitor: roster_unproved"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				g := ghost(t, "dave")
				c.enrolBy("dave", g.key, g.sign, evidence.ByOwnKey, digestOf(t, c.dave.key))
				c.decide(g, evidence.Approve)
				got = append(got, verify(c.bundle(), unpinned(c.pinned)))
				return append(got, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: "put a ghost key for X into the roster before the version that is pinned", caught: []string{"step 7 statements: roster"},
			try: func(t *testing.T) []string {
				c := stage(t)
				g := ghost(t, "erin")
				before := c.twin()
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.control(c.operator)
				at := len(before.events)
				before.enrol(g)
				forged := c.twin()
				forged.enrolled = before.enrolled
				// Between carol's enrolment and dave's.
				forged.events = slices.Concat(c.events[:at-2], before.events[at:], c.events[at-2:])
				forged.decide(g, evidence.Approve)
				return []string{verify(forged.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "replay X's enrolment: for a key of the operator's own, and for X's key again", caught: []string{"step 5 roster: signature", "step 5 roster: roster"},
			try: func(t *testing.T) (got []string) {
				for _, again := range []bool{false, true} {
					c := halfApproved(t)
					g, enrolled := ghost(t, "erin"), c.enrolled[string(c.dave.key.CredentialID)]
					if again {
						g = c.dave
					}
					proof, err := enrolled.Enrolment.Digest()
					must(t, err)
					c.enrolled[string(g.key.CredentialID)] = enrolled
					c.add(event{change: &evidence.RosterChange{Format: evidence.RosterFormat, Event: evidence.KeyAdded, Key: g.key, By: evidence.ByLogIn, Proof: proof}})
					c.decisions(func(_ int, d *evidence.SignedDecision) {
						if !again {
							d.Assertion.CredentialID = g.key.CredentialID
						}
					})
					c.seen = nil
					got = append(got, verify(c.bundle(), unwitnessed(c.pinned)))
				}
				return got
			},
		},
		{
			wants: "use a key of X that X has reported as stolen: date the decision to before the theft", admits: "detectable in the log as a late leaf",
			caught: []string{"step 11 tally: stolen_key", "exit 0", "monitor: late_leaf", "monitor: time_backwards"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				stolen, now := c.now.Truncate(time.Second), c.now
				// The thief, with whom the operator is in league, signs another time as well, and so decides before.
				forged := c.twin()
				forged.now = stolen.Add(-time.Hour)
				for _, o := range []*operator{c.operator, forged} {
					o.decide(c.dave, evidence.Approve)
					o.now, o.events[len(o.events)-1].at = now, now // the verdict follows when it does
					o.revoke(c.dave, stolen)
				}
				got = append(got, verify(c.bundle(), unwitnessed(c.pinned)))
				forged.seen = newWitnesses(t, forged.keys.Verifiers())
				anchors := c.pinned
				anchors.Witnesses = &evidence.WitnessPolicy{Quorum: 2, Keys: forged.seen.keys()}
				got = append(got, verify(forged.bundle(), anchors))
				return append(got, watcher.pass(forged, forged.publish())...)
			},
		},
		{
			wants:  "keep a merge approved, of which the key of one who approved it is reported as stolen afterwards",
			caught: []string{"step 11 tally: stolen_key", "step 11 tally: stolen_key", "step 11 tally: invalid"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				c.decide(c.dave, evidence.Approve)
				c.landed("new", "approved")
				c.control(c.operator)
				c.revoke(c.dave, beginning)
				got = append(got, verify(c.bundle(), c.pinned))
				c.add(event{verdict: true}) // tally again, as if nothing had been reported
				got = append(got, verify(c.bundle(), c.pinned))
				c.facts = func(f *approval.Facts) { f.Decisions[1].Compromised = true }
				c.conclude = func(v *approval.Verdict) { v.State = approval.Approved }
				return append(got, verify(c.bundle(), c.pinned))
			},
		},
		{
			admits: "use a key that was revoked",
			wants:  "have a key of X sign that was revoked without a word of since when, and say that X was shown the roster of before; say so of everybody; and have the newest version of the roster in the log behind that; then X reports it",
			caught: []string{"step 8 assertions: revoked_key", "step 13 log: revoked_key", "exit 0", "step 15 anchors: revoked_key", "deploy gate: revoked_key", "step 11 tally: stolen_key"},
			try: func(t *testing.T) []string {
				c, second := withTwoKeys(t)
				c.open("new")
				then, _ := c.statement("dave", evidence.Approve)
				c.revokeBy(c.dave, second, nil)
				c.decide(c.bob, evidence.Approve)
				c.outdated(c.dave, then)
				got := []string{verify(c.bundle(), c.pinned)}

				c, second = withTwoKeys(t)
				c.open("new")
				then, _ = c.statement("dave", evidence.Approve)
				c.revokeBy(c.dave, second, nil)
				since := c.anchors()
				since.LogHead = c.head()
				c.outdated(c.dave, then)
				c.outdated(c.bob, then)
				got = append(got, verify(c.bundle(), c.pinned))
				c.enrol(c.mallory)
				got = append(got, verify(c.bundle(), c.pinned), verify(c.bundle(), since))
				_, said := pipeline(t, c.operator, c.pinned, c.bundle())
				c.revokeBy(c.dave, second, new(beginning))
				return append(got, said, verify(c.bundle(), c.pinned))
			},
		},
		{
			admits: "use a key that was revoked",
			wants:  "have a pipeline deploy what a key of X approved that had been revoked without a word of since when: append that revocation to the log once more, behind it",
			caught: []string{"exit 0", "deploy gate: revoked_key", "deploy gate: revoked_key", "step 15 anchors: revoked_key", "deploy gate: revoked_key", "deploy gate: revoked_key"},
			try: func(t *testing.T) []string {
				c, second := withTwoKeys(t)
				before := c.make().head()
				c.revokeBy(c.dave, second, nil)
				since, entries := c.anchors(), c.make().entries
				since.LogHead = c.head()
				c.open("new")
				then, _ := c.statement("dave", evidence.Approve)
				then.Roster = before
				c.outdated(c.bob, then)
				c.outdated(c.dave, then)
				heads := []*evidence.LogHead{c.head()} // of anchors that were made behind the approval, and behind all of it
				c.add(event{raw: entries[len(entries)-1]})
				heads = append(heads, c.head())
				c.enrol(c.mallory)
				got := []string{verify(c.bundle(), c.pinned)}
				_, said := pipeline(t, c.operator, c.pinned, c.bundle())
				got = append(got, said)
				state := filepath.Join(t.TempDir(), "state.json")
				must(t, os.WriteFile(state, fmt.Appendf(nil, `{"format": "signedapproval.gate/v1", "origin": %q, "genesis": %q, "roster": %q, "size": %d, "root": %q, "policies": {}}`,
					logOrigin, since.Genesis, since.Roster, since.LogHead.Size, since.LogHead.Root), 0o600))
				_, said = pipeline(t, c.operator, c.pinned, c.bundle(), "--state="+state)
				got = append(got, said, verify(c.bundle(), since))
				for _, since.LogHead = range heads {
					_, said = pipeline(t, c.operator, since, c.bundle())
					got = append(got, said)
				}
				return got
			},
		},
		{
			admits: "use a key that was revoked",
			wants:  "have a pipeline deploy what a key of X approved that X had revoked without a word of since when: keep that out of the roster until the approval is in the log",
			caught: []string{"exit 0", "deploy gate: revoked_key", "deploy gate: revoked_key"},
			try: func(t *testing.T) []string {
				c, second := withTwoKeys(t)
				before := c.make().head()
				c.open("new")
				then, _ := c.statement("dave", evidence.Approve)
				then.Roster = before
				c.sayRevoked(c.dave, second)
				c.outdated(c.bob, then)
				c.outdated(c.dave, then)
				c.revokeBy(c.dave, second, nil)
				got := []string{verify(c.bundle(), c.pinned)}
				since := c.anchors()
				since.LogHead = c.head()
				for _, anchors := range []evidence.Anchors{c.pinned, since} {
					_, said := pipeline(t, c.operator, anchors, c.bundle())
					got = append(got, said)
				}
				return got
			},
		},
		{
			admits: "use a key that was revoked",
			wants:  "have a key of X, that X had revoked without a word of since when, sign for another one that the thief has, and keep that out of the roster until then; approve with the other one",
			caught: []string{"exit 0", "deploy gate: revoked_key", "deploy gate: revoked_key", "anchors get: refused", "monitor: revoked_voucher"},
			try: func(t *testing.T) []string {
				c, second := withTwoKeys(t)
				since := c.anchors()
				since.LogHead = c.head()
				c.sayRevoked(c.dave, second)
				thief := newPerson(t, "dave", "thief")
				c.enrolOn(thief, c.dave)
				c.revokeBy(c.dave, second, nil)
				return c.byVouched(thief, since)
			},
		},
		{
			admits: "use a key that was revoked",
			wants:  "the same, with a key under the name of somebody else that it countersigns",
			caught: []string{"exit 0", "deploy gate: revoked_key", "deploy gate: revoked_key", "anchors get: refused", "monitor: revoked_voucher"},
			try: func(t *testing.T) []string {
				c, second := withTwoKeys(t)
				since := c.anchors()
				since.LogHead = c.head()
				c.sayRevoked(c.dave, second)
				thief := newPerson(t, "carol", "thief")
				c.enrolOn(thief, c.dave)
				c.revokeBy(c.dave, second, nil)
				return c.byVouched(thief, since)
			},
		},
		{
			admits: "use a key that was revoked",
			wants:  "the same, with a leaf before the revocation that gives an older version of the roster the number of that countersignature's",
			caught: []string{"exit 0", "deploy gate: revoked_key", "deploy gate: revoked_key", "anchors get: refused", "monitor: version_gap", "monitor: roster_wrong"},
			try: func(t *testing.T) []string {
				c, second := withTwoKeys(t)
				since := c.anchors()
				since.LogHead = c.head()
				made := c.make()
				c.say(evidence.RosterVersion{Version: int64(len(made.roster)) + 1, Roster: made.head()}, false)
				c.sayRevoked(c.dave, second)
				thief := newPerson(t, "carol", "thief")
				c.enrolOn(thief, c.dave)
				c.revokeBy(c.dave, second, nil)
				return c.byVouched(thief, since)
			},
		},
		{
			admits: "use a key that was revoked",
			wants:  "the same, and leave the enrolment of the other one out of the log",
			caught: []string{"exit 0", "deploy gate: revoked_key", "deploy gate: operator_asserted", "anchors get: refused", "monitor: key_unlogged"},
			try: func(t *testing.T) []string {
				c, second := withTwoKeys(t)
				since := c.anchors()
				since.LogHead = c.head()
				c.sayRevoked(c.dave, second)
				thief := newPerson(t, "dave", "thief")
				c.enrolOn(thief, c.dave)
				c.events = slices.Delete(c.events, len(c.events)-2, len(c.events)-1)
				c.revokeBy(c.dave, second, nil)
				return c.byVouched(thief, since)
			},
		},
		{
			admits: "use a key that was revoked",
			wants:  "the same, and have the leaf of that enrolment, before the revocation, name somebody else, or another key, so that X does not find it",
			caught: []string{
				"exit 0", "deploy gate: revoked_key", "deploy gate: operator_asserted", "anchors get: refused", "monitor: key_unlogged",
				"exit 0", "deploy gate: revoked_key", "deploy gate: operator_asserted", "anchors get: refused", "monitor: key_unlogged",
			},
			try: func(t *testing.T) (got []string) {
				for _, disguise := range []func(c *cast, said *evidence.KeyEnrolled){
					func(c *cast, said *evidence.KeyEnrolled) { said.Person = c.mallory.key.Person },
					func(c *cast, said *evidence.KeyEnrolled) { said.Key = digestOf(t, c.mallory.key) },
				} {
					c, second := withTwoKeys(t)
					since := c.anchors()
					since.LogHead = c.head()
					thief := newPerson(t, "dave", "thief")
					c.enrolOn(thief, c.dave)
					enrolled, came := &c.events[len(c.events)-2], c.events[len(c.events)-1]
					said, _ := enrolled.body.(evidence.KeyEnrolled)
					disguise(c, &said)
					enrolled.body, c.events = said, c.events[:len(c.events)-1]
					c.sayRevoked(c.dave, second)
					c.add(came)
					c.revokeBy(c.dave, second, nil)
					got = append(got, c.byVouched(thief, since)...)
				}
				return got
			},
		},
		{
			wants:  "keep what a stolen key of X approved: revoke that key before X reports it and without saying since when, with itself, or as the operator with no signature; then report it with itself, or answer X's report by a later time",
			caught: []string{"step 11 tally: stolen_key", "step 5 roster: roster", "step 5 roster: roster", "step 11 tally: stolen_key", "step 5 roster: roster", "step 5 roster: roster"},
			try: func(t *testing.T) (got []string) {
				for _, thief := range []bool{true, false} {
					told := func(tell func(c *cast, second *person)) string {
						c := stage(t)
						second := newPerson(t, "dave", "second")
						c.enrolOn(second, c.dave)
						c.open("new")
						c.decide(c.bob, evidence.Approve)
						c.decide(c.dave, evidence.Approve)
						c.landed("new", "approved")
						c.control(c.operator)
						if thief {
							c.revokeBy(c.dave, c.dave, nil)
						} else {
							c.add(event{change: &evidence.RosterChange{Format: evidence.RosterFormat, Event: evidence.KeyRemoved, Key: c.dave.key, By: evidence.ByOperator}})
						}
						c.control(c.operator)
						tell(c, second)
						return verify(c.bundle(), c.pinned)
					}
					later := beginning.Add(24 * time.Hour)
					got = append(got,
						told(func(c *cast, second *person) { c.revokeBy(c.dave, second, new(beginning)) }),
						told(func(c *cast, _ *person) { c.revokeBy(c.dave, c.dave, new(beginning)) }),
						told(func(c *cast, second *person) {
							c.revokeBy(c.dave, second, new(beginning))
							c.revokeBy(c.dave, second, &later)
						}))
				}
				return got
			},
		},
		{
			wants:  "have something approved by the report that the key of X, who rejected it, was stolen",
			caught: []string{"step 11 tally: invalid", "step 12 verdict: chain"},
			try: func(t *testing.T) (got []string) {
				for _, merged := range []bool{false, true} {
					c := halfApproved(t)
					c.decide(c.dave, evidence.Approve)
					c.decide(c.carol, evidence.Reject)
					c.control(c.operator)
					if merged {
						c.say(evidence.Merged{Request: c.newest().ID, Kind: "approved", Commit: c.commit("new")}, true)
					}
					c.revoke(c.carol, beginning)
					c.facts = func(f *approval.Facts) { f.Decisions[2].Compromised = true }
					c.add(event{verdict: true})
					if !merged {
						c.conclude = func(v *approval.Verdict) { v.State = approval.Approved }
					}
					got = append(got, verify(c.bundle(), c.pinned))
				}
				return got
			},
		},
		{
			wants:  "take back what X rejected by a ghost key that somebody invented vouches for, and report that one as stolen itself, so that nobody asks whose it was",
			caught: []string{"step 15 anchors: key", "step 11 tally: stolen_key", "step 15 anchors: key"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				c.decide(c.dave, evidence.Approve)
				c.decide(c.carol, evidence.Reject)
				c.control(c.operator)
				g := ghost(t, "carol")
				c.enrol(c.mallory)
				c.enrolOn(g, c.mallory)
				c.decide(g, evidence.Withdraw)
				got = append(got, verify(c.bundle(), c.pinned))
				c.revoke(g, beginning)
				got = append(got, verify(c.bundle(), c.pinned))
				c.facts = func(f *approval.Facts) { f.Decisions[3].Compromised = true } // and it is rejected
				c.add(event{verdict: true})
				return append(got, verify(c.bundle(), c.pinned))
			},
		},
		{
			wants:  "have somebody whom the operator invents vouch for the keys of X and Y, which a rule counts only then",
			caught: []string{"step 15 anchors: key", "exit 2: no roster"},
			try: func(t *testing.T) []string {
				by := func(voucher func(c *cast) *person) *cast {
					c := stage(t)
					c.policy.Rules[0].Keys = &approval.KeyDemand{Countersigned: true}
					c.policyLeaf()
					c.pinned = c.anchors()
					v := voucher(c)
					c.countersign(c.bob, v)
					c.countersign(c.dave, v)
					c.open("new")
					c.decide(c.bob, evidence.Approve)
					c.decide(c.dave, evidence.Approve)
					return c
				}
				honest := by(func(c *cast) *person { return c.carol })
				honest.control(honest.operator)
				c := by(func(c *cast) *person {
					c.enrol(c.mallory)
					return c.mallory
				})
				bundle := c.bundle()
				return []string{verify(bundle, c.pinned), verify(bundle, unpinned(c.pinned))}
			},
		},
		{
			wants: "recover another public key from X's signature, and put it into the roster as Y's", caught: []string{"step 8 assertions: ambiguous_key", "step 5 roster: roster"},
			try: func(t *testing.T) (got []string) {
				c := halfApproved(t)
				var a evidence.Assertion
				c.decisions(func(_ int, d *evidence.SignedDecision) { a = d.Assertion })
				twin := evidence.Key{Person: "per-erin", CredentialID: seed("recovered")[:16], PublicKey: es256(otherThan(t, c.bob.key, recovered(t, signed(a), a.Signature)))}
				// No private key of it is known, so nothing can sign its enrolment; a key that signed nothing needs none in a bundle.
				digest := digestOf(t, twin)
				c.add(event{change: &evidence.RosterChange{
					Format: evidence.RosterFormat, Event: evidence.KeyAdded, Key: twin, By: evidence.ByLogIn, Proof: digest,
				}})
				got = append(got, verify(c.bundle(), c.pinned))
				c.decisions(func(_ int, d *evidence.SignedDecision) { d.Assertion.CredentialID = twin.CredentialID })
				c.enrolled[string(twin.CredentialID)] = c.enrolled[string(c.bob.key.CredentialID)]
				c.seen = nil
				return append(got, verify(c.bundle(), unwitnessed(c.pinned)))
			},
		},
		{
			wants: "make a public key to fit a forged approval, and enrol it as X's", caught: []string{"step 5 roster: signature"},
			try: func(t *testing.T) []string {
				c := halfApproved(t)
				s, d := c.statement("erin", evidence.Approve)
				signature, point := fitted(t, s)
				if !verifies(t, point, s, signature) {
					t.Fatal("the control: the key does not fit the forged approval")
				}
				key := evidence.Key{Person: "per-erin", CredentialID: seed("fitted")[:16], PublicKey: es256(point)}
				nobody := func(_ testing.TB, data []byte) evidence.Assertion {
					return evidence.Assertion{CredentialID: key.CredentialID, ClientDataJSON: clientData(data), AuthenticatorData: authenticatorData(), Signature: signature}
				}
				// The act names the key, and the key follows from what is signed: no key fits both.
				c.enrolBy("erin", key, nobody, evidence.ByLogIn, "")
				c.file(s, d, nobody)
				return []string{verify(c.bundle(), unpinned(c.pinned))}
			},
		},
	}
}

// order is that of the group of P-256.
func order() *big.Int { return elliptic.P256().Params().N }

// recovered gives the keys under which an ECDSA signature verifies: Q = (sR - eG)/r, for each of the two points R whose x
// coordinate is r.
func recovered(t testing.TB, message, signature []byte) (points [][]byte) {
	t.Helper()
	var sig struct{ R, S *big.Int }
	_, err := asn1.Unmarshal(signature, &sig)
	must(t, err)
	sum := sha256.Sum256(message)
	inverse := new(big.Int).ModInverse(sig.R, order())
	scalar := func(n *big.Int) []byte { return n.Mod(n, order()).FillBytes(make([]byte, 32)) }
	for _, sign := range []byte{2, 3} {
		r, err := nistec.NewP256Point().SetBytes(append([]byte{sign}, sig.R.FillBytes(make([]byte, 32))...))
		must(t, err)
		left, err := nistec.NewP256Point().ScalarMult(r, scalar(new(big.Int).Mul(sig.S, inverse)))
		must(t, err)
		e := new(big.Int).Neg(new(big.Int).SetBytes(sum[:]))
		right, err := nistec.NewP256Point().ScalarBaseMult(scalar(e.Mul(e, inverse)))
		must(t, err)
		point := left.Add(left, right).Bytes()
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		must(t, err)
		if !ecdsa.VerifyASN1(public, sum[:], signature) {
			t.Fatal("what was recovered does not verify")
		}
		points = append(points, point)
	}
	return points
}

// fitted makes a signature at will, and the key under which it is one of the statement.
func fitted(t testing.TB, s evidence.Statement) (signature, point []byte) {
	t.Helper()
	data, err := s.Canonical()
	must(t, err)
	r, err := nistec.NewP256Point().ScalarBaseMult(seed("nonce of nobody"))
	must(t, err)
	x, err := r.BytesX()
	must(t, err)
	signature, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(x), new(big.Int).SetBytes(seed("any number")[1:])})
	must(t, err)
	message := signed(evidence.Assertion{ClientDataJSON: clientData(data), AuthenticatorData: authenticatorData()})
	return signature, recovered(t, message, signature)[0]
}

// otherThan is the one of two keys that is not the person's.
func otherThan(t testing.TB, own evidence.Key, points [][]byte) []byte {
	t.Helper()
	left := slices.DeleteFunc(points, func(p []byte) bool { return bytes.Equal(es256(p), own.PublicKey) })
	if len(left) != 1 {
		t.Fatalf("%d other keys", len(left))
	}
	return left[0]
}

func verifies(t testing.TB, point []byte, s evidence.Statement, signature []byte) bool {
	t.Helper()
	data, err := s.Canonical()
	must(t, err)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	must(t, err)
	sum := sha256.Sum256(signed(evidence.Assertion{ClientDataJSON: clientData(data), AuthenticatorData: authenticatorData()}))
	return ecdsa.VerifyASN1(public, sum[:], signature)
}
