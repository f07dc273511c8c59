package approval_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/approval"
)

// shorts are the people of the generated worlds.
var shorts = []string{"alice", "bob", "carol", "dave", "erin"}

func drawRule(t *rapid.T) approval.Rule {
	r := rule()
	r.AuthorMayApprove = rapid.Bool().Draw(t, "authorMayApprove")
	for i := range rapid.IntRange(1, 3).Draw(t, "requirements") {
		q := approval.Requirement{Name: fmt.Sprintf("R%d", i), Quorum: rapid.IntRange(0, 4).Draw(t, "quorum")}
		if q.Approvers.Everyone = rapid.Bool().Draw(t, "everyone"); !q.Approvers.Everyone {
			for _, s := range shorts {
				if rapid.Bool().Draw(t, s) {
					q.Approvers.Accounts = append(q.Approvers.Accounts, "acc-"+s)
				}
			}
		}
		r.Requirements = append(r.Requirements, q)
	}
	if rapid.Bool().Draw(t, "overridable") {
		r.Override = &approval.OverrideBy{Quorum: rapid.IntRange(0, 3).Draw(t, "override quorum")}
		if r.Override.Approvers.Everyone = rapid.Bool().Draw(t, "everyone overrides"); !r.Override.Approvers.Everyone {
			for _, s := range shorts {
				if rapid.Bool().Draw(t, s+" overrides") {
					r.Override.Approvers.Accounts = append(r.Override.Approvers.Accounts, "acc-"+s)
				}
			}
		}
	}
	return r
}

func drawDecision(t *rapid.T, r approval.Rule, action approval.Action, sequence int64) approval.Decision {
	p := person(rapid.SampledFrom(shorts).Draw(t, "who"))
	pick := func(label, right, wrong string) string {
		if rapid.IntRange(0, 4).Draw(t, label) == 0 {
			return wrong
		}
		return right
	}
	return approval.Decision{
		ID: fmt.Sprint("dec-", sequence), PersonID: p.ID, AccountID: p.AccountID, Name: p.Name, Action: action,
		RequestID: pick("request", "req-1", "req-0"), HeadCommit: pick("head", head, oldHead),
		DestinationBranch: pick("branch", "release/1.0", "main"),
		RuleDigest:        approval.Digest(pick("rule", string(r.Digest()), string(approval.DigestOf(nil)))),
		Sequence:          sequence,
	}
}

func drawFacts(t *rapid.T, r approval.Rule) approval.Facts {
	f := facts(r, "")
	f.People = nil
	for _, s := range shorts {
		if rapid.Bool().Draw(t, "named "+s) {
			f.People = append(f.People, person(s))
		}
	}
	f.Writers = nil
	for _, s := range shorts {
		if rapid.Bool().Draw(t, "writer "+s) {
			f.Writers = append(f.Writers, person(s))
		}
	}
	f.Now = noon.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "minutes")) * time.Minute)
	actions := []approval.Action{approval.Approve, approval.Approve, approval.Reject, approval.Withdraw, approval.Override, approval.Override}
	for i := range rapid.IntRange(0, 12).Draw(t, "decisions") {
		f.Decisions = append(f.Decisions, drawDecision(t, r, rapid.SampledFrom(actions).Draw(t, "action"), int64(2*i+2)))
	}
	return f
}

// without returns the decisions but for the one at i.
func without(list []approval.Decision, i int) []approval.Decision {
	return append(append([]approval.Decision{}, list[:i]...), list[i+1:]...)
}

func TestTallyFailsClosed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t)
		f := drawFacts(t, r)
		before := approval.Tally(r, f)
		if before.State == approval.Approved || before.State == approval.Overridden {
			return
		}
		at := int64(2*rapid.IntRange(0, len(f.Decisions)+1).Draw(t, "position") + 1)
		more := f
		more.Decisions = append(append([]approval.Decision{}, f.Decisions...), drawDecision(t, r, approval.Reject, at))
		if after := approval.Tally(r, more); after.State == approval.Approved || after.State == approval.Overridden {
			t.Fatalf("a rejection turned %s into %s", before.State, after.State)
		}
		forbidden := map[approval.Action]approval.State{approval.Approve: approval.Approved, approval.Override: approval.Overridden}
		for i, d := range f.Decisions {
			less := f
			less.Decisions = without(f.Decisions, i)
			if after := approval.Tally(r, less); after.State == forbidden[d.Action] {
				t.Fatalf("taking away decision %d (%s) turned %s into %s", i, d.Action, before.State, after.State)
			}
		}
	})
}

func TestTallyIgnoresOrderAndRepetition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t)
		f := drawFacts(t, r)
		want := approval.Tally(r, f)
		other := f
		other.Decisions = rapid.Permutation(f.Decisions).Draw(t, "decisions")
		other.Writers = rapid.Permutation(f.Writers).Draw(t, "writers")
		other.People = rapid.Permutation(f.People).Draw(t, "people")
		for _, d := range f.Decisions {
			if rapid.Bool().Draw(t, "again") {
				other.Decisions = append(other.Decisions, d)
			}
		}
		if diff := cmp.Diff(want, approval.Tally(r, other)); diff != "" {
			t.Fatalf("order or repetition changed the verdict (-want +got):\n%s", diff)
		}
	})
}

// TestTallyBinds takes away what an approval cannot count without, and expects
// it not to count whatever else is true.
func TestTallyBinds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t)
		f := drawFacts(t, r)
		field := rapid.IntRange(0, 3).Draw(t, "field")
		for i := range f.Decisions {
			d := &f.Decisions[i]
			switch field {
			case 0:
				d.HeadCommit = oldHead
			case 1:
				d.RuleDigest = approval.DigestOf(nil)
			case 2:
				d.RequestID = "req-0"
			case 3:
				d.DestinationBranch = "main"
			}
		}
		v := approval.Tally(r, f)
		if v.State == approval.Approved || v.State == approval.Overridden {
			t.Fatalf("%s by decisions on something else", v.State)
		}
		for _, q := range explained(v) {
			if len(q.Counted) > 0 {
				t.Fatalf("counted %v", q.Counted)
			}
		}
	})
}

// TestTallyCountsPeople lets people share ids at random and expects that those
// who are counted for a requirement never do.
func TestTallyCountsPeople(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t)
		f := drawFacts(t, r)
		for i := range f.Decisions {
			if rapid.Bool().Draw(t, "borrow") {
				f.Decisions[i].PersonID = person(rapid.SampledFrom(shorts).Draw(t, "from")).ID
			}
		}
		v := approval.Tally(r, f)
		met := len(v.Requirements) > 0
		if v.State == approval.Overridden && (r.Override == nil || r.Override.Quorum < 1 || len(v.Override.Counted) < r.Override.Quorum) {
			t.Fatalf("overridden without a quorum of its own: %+v", v)
		}
		for i, q := range explained(v) {
			ids, accounts := map[string]bool{}, map[string]bool{}
			for _, p := range q.Counted {
				if ids[p.ID] || accounts[p.AccountID] {
					t.Fatalf("%v is counted twice", p)
				}
				if p.AccountID == f.Author && !r.AuthorMayApprove {
					t.Fatal("the author is counted")
				}
				ids[p.ID], accounts[p.AccountID] = true, true
			}
			if i == len(v.Requirements) {
				break // the override does not approve
			}
			met = met && q.Quorum >= 1 && len(q.Counted) >= q.Quorum
		}
		if v.State == approval.Approved && (!met || len(v.Rejections) > 0) {
			t.Fatalf("approved without a quorum or against a rejection: %+v", v)
		}
		if utf8.RuneCountInString(v.Sentence) > approval.MaxSentence || v.Sentence == "" {
			t.Fatalf("sentence %q", v.Sentence)
		}
	})
}

// explained is everything that a verdict counts people for, the override last.
func explained(v approval.Verdict) []approval.RequirementVerdict {
	list := append([]approval.RequirementVerdict{}, v.Requirements...)
	if v.Override != nil {
		list = append(list, *v.Override)
	}
	return list
}

// TestOverridesAndApprovalsAreApart makes every override an approval of the same
// person and the other way round: nobody counts for both, and what an override
// leaves of the approvals is what a withdrawal would.
func TestOverridesAndApprovalsAreApart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t)
		f := drawFacts(t, r)
		v := approval.Tally(r, f)
		for _, q := range v.Requirements {
			for _, p := range q.Counted {
				if v.Override != nil && slices.Contains(v.Override.Counted, p) {
					t.Fatalf("%v counts as approving and overriding", p)
				}
			}
		}
		withdrawn := f
		withdrawn.Decisions = slices.Clone(f.Decisions)
		for i := range withdrawn.Decisions {
			if withdrawn.Decisions[i].Action == approval.Override {
				withdrawn.Decisions[i].Action = approval.Withdraw
			}
		}
		w := approval.Tally(r, withdrawn)
		for i, q := range v.Requirements {
			if diff := cmp.Diff(w.Requirements[i].Counted, q.Counted); diff != "" {
				t.Fatalf("an override changed the approvals otherwise than a withdrawal (-withdrawal +override):\n%s", diff)
			}
		}
		if w.State == approval.Overridden {
			t.Fatal("overridden without an override")
		}
	})
}

// TestNeedsIsHonest poisons the facts that the rule says it does not read.
func TestNeedsIsHonest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t)
		if r.Needs().Writers {
			return
		}
		f := drawFacts(t, r)
		poisoned := f
		poisoned.Writers = []approval.Person{{ID: "per-bob", AccountID: "acc-bob", Name: "Poison"}, {AccountID: "acc-carol", Name: "Poison"}}
		if diff := cmp.Diff(approval.Tally(r, f), approval.Tally(r, poisoned)); diff != "" {
			t.Fatalf("the tally read writers that it did not ask for:\n%s", diff)
		}
	})
}

// What comes when the time is up makes nothing better.
func TestWhatIsLateMakesNothingBetter(t *testing.T) {
	t.Parallel()
	rank := map[approval.State]int{approval.Approved: 2, approval.Overridden: 1}
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t)
		f := drawFacts(t, r)
		f.Now = f.Request.ExpiresAt
		before := approval.Tally(r, f)
		for i := range rapid.IntRange(1, 5).Draw(t, "late") {
			action := rapid.SampledFrom([]approval.Action{approval.Approve, approval.Reject, approval.Withdraw, approval.Override}).Draw(t, "action")
			d := drawDecision(t, r, action, int64(100+i))
			d.Late = true
			f.Decisions = append(f.Decisions, d)
		}
		if after := approval.Tally(r, f); rank[after.State] > rank[before.State] {
			t.Fatalf("%s became %s by %+v", before.State, after.State, f.Decisions)
		}
		f.Request.Lapsed = true
		if after := approval.Tally(r, f); rank[after.State] > 0 || after.State == approval.Pending {
			t.Fatalf("what had lapsed is %s", after.State)
		}
	})
}
