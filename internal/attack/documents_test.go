package attack_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

func onDocuments() []attack {
	return []attack{
		{
			wants: "substitute a weaker policy after the approvals", caught: []string{"step 2 policy: invalid"},
			try: func(t *testing.T) []string {
				c := played(t)
				c.policy = policyOf(1)
				return []string{verify(c.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "gate by a weaker policy from the start, which its signers were shown", caught: []string{"step 15 anchors: invalid", "exit 2: no policies of the repository"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.policy = policyOf(1)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				open := c.pinned
				open.Policies = nil
				bundle := c.bundle()
				return []string{verify(bundle, c.pinned), verify(bundle, open)}
			},
		},
		{
			wants: "gate a strict repository by the lax rules of another one, for which they are pinned", caught: []string{"step 15 anchors: invalid", "exit 2: no policies of the repository"},
			try: func(t *testing.T) []string {
				c := stage(t)
				strict, lax := c.pinned.Policies, policiesOf(uuid("lax"), policyOf(1).Digest())
				c.pinned.Policies = slices.SortedFunc(slices.Values(slices.Concat(strict, lax)), func(a, b evidence.PinnedPolicies) int { return strings.Compare(a.Repository, b.Repository) })
				honest := *c
				honest.operator = c.twin()
				c.policy = policyOf(1)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				alone := c.pinned
				alone.Policies = lax
				bundle := c.bundle()
				got := []string{verify(bundle, c.pinned), verify(bundle, alone)}
				honest.seen = newWitnesses(t, c.keys.Verifiers())
				honest.pinned.Witnesses = honest.anchors().Witnesses
				honest.open("new")
				honest.decide(honest.bob, evidence.Approve)
				honest.decide(honest.dave, evidence.Approve)
				if said := verify(honest.bundle(), honest.pinned); said != "exit 0" {
					t.Fatalf("the control: %s", said)
				}
				return got
			},
		},
		{
			wants: "substitute facts: other numbers, another sentence", caught: []string{"step 11 tally: invalid", "step 12 verdict: chain"},
			try: func(t *testing.T) (got []string) {
				c := played(t)
				forged := c.twin()
				forged.conclude = func(v *approval.Verdict) { v.Sentence = "3 of 3 approvals" }
				got = append(got, verify(forged.bundle(), unwitnessed(c.pinned)))
				b := c.document()
				b.Facts.Now = b.Facts.Now.Add(time.Second) // the leaf commits to the facts
				data, err := b.Encode()
				must(t, err)
				return append(got, verify(data, c.pinned))
			},
		},
		{
			wants: "substitute facts that only the operator knows: who may write, who is the author", admits: "wrong author", caught: []string{"exit 0", "step 10 facts: invalid"},
			try: func(t *testing.T) (got []string) {
				c := stage(t)
				c.approved(c.bob, c.carol, c.dave)
				c.facts = func(f *approval.Facts) { f.Writers = append([]approval.Person{{AccountID: "acc-x"}}, f.Writers...) }
				c.landed("landed", "approved")
				got = append(got, verify(c.bundle(), c.pinned)) // operator-asserted, and labelled so
				if !slices.ContainsFunc(evidence.Verify(c.bundle(), c.pinned).Facts, func(f evidence.Fact) bool { return f.Name == "permissions" && f.Label == evidence.Asserted }) {
					t.Error("permissions are not labelled operator-asserted")
				}
				forged := c.twin()
				forged.facts = func(f *approval.Facts) { f.Author = "acc-mallory" } // another one than the signers were shown
				return append(got, verify(forged.bundle(), unwitnessed(c.pinned)))
			},
		},
		{
			wants: "substitute the roster: a shorter one", caught: []string{"step 7 statements: roster"},
			try: func(t *testing.T) []string {
				c := played(t)
				last := 0
				for i, e := range c.events {
					if e.change != nil {
						last = i
					}
				}
				forged := c.twin()
				forged.events = slices.Delete(forged.events, last-1, last+1)
				return []string{verify(forged.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "substitute the roster: a whole other workspace history with keys of its own", admits: "invent people", caught: []string{"step 15 anchors: roster", "step 15 anchors: roster", "exit 2: no genesis, roster"},
			try: func(t *testing.T) []string {
				honest := played(t)
				forged := newOperator(t)
				forged.keys, forged.seen, forged.salt = honest.keys, nil, seed("another salt")
				forged.events[0].body = evidence.Genesis{Salt: approval.DigestOf(forged.salt)}
				bob, dave := ghost(t, "bob"), ghost(t, "dave")
				forged.enrol(bob)
				forged.enrol(dave)
				forged.open("new")
				forged.decide(bob, evidence.Approve)
				forged.decide(dave, evidence.Approve)
				bundle := forged.bundle()
				anchors := unwitnessed(honest.pinned)
				loose := anchors
				loose.Genesis = ""
				return []string{verify(bundle, anchors), verify(bundle, loose), verify(bundle, unpinned(loose))}
			},
		},
		{
			wants: "sign with another key of the log than the pinned one", caught: []string{"step 13 log: log", "monitor: checkpoint_unsigned"},
			try: func(t *testing.T) (got []string) {
				c := played(t)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				forged := c.twin()
				forged.keys = newOperator(t).keys
				got = append(got, verify(forged.bundle(), unwitnessed(c.pinned)))
				return append(got, watcher.pass(forged, forged.publish())...)
			},
		},
		{
			wants: "show people a page on another origin, and have them sign there", caught: []string{"step 15 anchors: origin"},
			try: func(t *testing.T) []string {
				c := played(t)
				elsewhere := c.pinned
				elsewhere.RelyingParties = []evidence.RelyingParty{{ID: "other.example", Origin: "https://other.example"}}
				return []string{verify(c.bundle(), elsewhere)}
			},
		},
	}
}
