package approval_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/approval"
)

// breakable is a rule that the people named can override together.
func breakable(r approval.Rule, quorum int, shorts ...string) approval.Rule {
	r.Override = &approval.OverrideBy{Quorum: quorum, Approvers: named("", quorum, shorts...).Approvers}
	return r
}

func TestTallyOverrides(t *testing.T) {
	t.Parallel()
	one := breakable(rule(everyone(2)), 1, "carol", "dave")
	two := breakable(rule(everyone(2)), 2, "bob", "carol", "alice")
	writers := breakable(rule(named("Leads", 1, "bob")), 2)
	writers.Override.Approvers = approval.Approvers{Everyone: true}
	authorMay := two
	authorMay.AuthorMayApprove = true
	none := breakable(rule(everyone(1)), 0, "bob")
	late := func(f *approval.Facts) { f.Now = f.Request.ExpiresAt }

	for _, test := range []struct {
		name     string
		rule     approval.Rule
		script   string
		edit     func(*approval.Facts)
		state    approval.State
		sentence string
	}{
		{"by one", one, "carol override", nil, approval.Overridden, "overridden by Carol; 0 of 2 approvals"},
		{"by more than needed", one, "dave override, carol override", nil, approval.Overridden, "overridden by Dave and Carol; 0 of 2 approvals"},
		{"with an approval beside it", one, "bob approve, carol override", nil, approval.Overridden, "overridden by Carol; 1 of 2 approvals"},
		{"one of two", two, "bob override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"two of two", two, "bob override, carol override", nil, approval.Overridden, "overridden by Bob and Carol; 0 of 2 approvals"},
		{"several requirements", breakable(rule(named("A", 1, "bob"), named("B", 1, "dave")), 1, "carol"), "bob approve, carol override", nil, approval.Overridden, "overridden by Carol; 1 of 2 requirements met"},
		{"by two writers", writers, "carol override, dave override", nil, approval.Overridden, "overridden by Carol and Dave; 0 of 1 approval"},
		{"writers were not asked for", writers, "carol override, dave override", func(f *approval.Facts) { f.Writers = nil }, approval.Pending, "0 of 1 approval; waiting for Bob"},
		{"approved all the same", one, "bob approve, carol override, alice approve, dave approve", nil, approval.Approved, "approved by Bob and Dave"},

		{"nobody can", rule(everyone(2)), "bob override, carol override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"a quorum of none", none, "", nil, approval.Pending, "0 of 1 approval; waiting for Bob, Carol or Dave"},
		{"somebody outside the set", one, "bob override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"an override is no approval", two, "bob approve, carol override", nil, approval.Pending, "1 of 2 approvals; waiting for Carol or Dave"},
		{"an approval is no override", two, "bob override, carol approve", nil, approval.Pending, "1 of 2 approvals; waiting for Bob or Dave"},
		{"an override takes the own approval back", two, "bob approve, carol approve, carol override", nil, approval.Pending, "1 of 2 approvals; waiting for Carol or Dave"},
		{"an approval takes the own override back", two, "bob override, carol override, bob approve", nil, approval.Pending, "1 of 2 approvals; waiting for Carol or Dave"},
		{"twice is once", two, "bob override, bob override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"the author does not count", two, "alice override, bob override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"the author may", authorMay, "alice override, bob override", nil, approval.Overridden, "overridden by Alice and Bob; 0 of 2 approvals"},
		{"withdrawn", two, "bob override, carol override, bob withdraw", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"withdrawn and given again", two, "bob override, carol override, bob withdraw, bob override", nil, approval.Overridden, "overridden by Carol and Bob; 0 of 2 approvals"},

		{"another head", two, "bob override old-head, carol override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"another rule", two, "bob override old-rule, carol override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"another request", two, "bob override old-request, carol override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"another destination", two, "bob override other-branch, carol override", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"an approval of something else leaves it alone", one, "carol override, carol approve old-rule", nil, approval.Overridden, "overridden by Carol; 0 of 2 approvals"},

		{"against a rejection", one, "bob reject, carol override", nil, approval.Overridden, "overridden by Carol; rejected by Bob; 0 of 2 approvals"},
		{"a rejection after it", one, "carol override, bob reject", nil, approval.Overridden, "overridden by Carol; rejected by Bob; 0 of 2 approvals"},
		{"a rejection though the approvals are there", one, "alice approve, bob approve, dave approve, mallory reject, carol override", nil, approval.Overridden, "overridden by Carol; rejected by Mallory; 2 of 2 approvals"},
		{"the own rejection gives way", one, "carol reject, carol override", nil, approval.Overridden, "overridden by Carol; 0 of 2 approvals"},
		{"the own rejection gives way to no half override", two, "carol reject, bob approve, dave approve, carol override", nil, approval.Approved, "approved by Bob and Dave"},
		{"the own rejection does not give way to what does not count", one, "bob reject, bob override", nil, approval.Rejected, "rejected by Bob"},
		{"the own rejection does not give way to an override of something else", one, "carol reject, carol override old-rule", nil, approval.Rejected, "rejected by Carol"},
		{"rejected after the own override", one, "carol override, carol reject", nil, approval.Rejected, "rejected by Carol"},
		{"one of two against a rejection", two, "dave reject, bob override", nil, approval.Rejected, "rejected by Dave"},

		{"in time", one, "carol override", late, approval.Overridden, "overridden by Carol; 0 of 2 approvals"},
		{"late", one, "carol override late", late, approval.Expired, "expired before 2 approvals were given (0 of 2)"},
		{"lapsed", one, "carol override", func(f *approval.Facts) { f.Request.Lapsed = true }, approval.Expired, "expired before 2 approvals were given (0 of 2)"},
		{"a rejection taken back too late", one, "bob reject, alice approve, dave approve, mallory approve, carol override, bob withdraw late", late, approval.Overridden, "overridden by Carol; 1 of 2 approvals"},
		{"not enough in time", two, "carol override", late, approval.Expired, "expired before 2 approvals were given (0 of 2)"},

		{"two accounts of one person", two, "bob override, carol override", func(f *approval.Facts) {
			f.Decisions[1].PersonID = f.Decisions[0].PersonID
		}, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"two persons of one account", two, "bob override, carol override", func(f *approval.Facts) {
			f.Decisions[1].AccountID = f.Decisions[0].AccountID
		}, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := facts(test.rule, test.script)
			if test.edit != nil {
				test.edit(&f)
			}
			v := approval.Tally(test.rule, f)
			if v.State != test.state || v.Sentence != test.sentence {
				t.Errorf("got  %s %q\nwant %s %q", v.State, v.Sentence, test.state, test.sentence)
			}
		})
	}
}

func TestTallyExplainsOverrides(t *testing.T) {
	t.Parallel()
	r := breakable(rule(everyone(2)), 2, "alice", "bob", "carol", "dave", "erin")
	f := facts(r, "alice override, bob override old-rule, carol override, dave override other-branch, mallory override, erin override old-request, dave reject")
	f.Decisions = append(f.Decisions, f.Decisions[2])
	last := &f.Decisions[len(f.Decisions)-1]
	last.AccountID, last.Sequence = "acc-bob", 99 // carol's person with bob's account

	got := approval.Tally(r, f).Override
	var ignored []string
	for _, g := range got.Ignored {
		ignored = append(ignored, string(g.Reason)+": "+g.Sentence)
	}
	if diff := cmp.Diff([]string{
		"author: Alice is the author and may not override",
		"not_an_approver: Mallory is not among those who may override",
		"other_request: Erin overrode another request for this commit",
		"same_person: Bob is counted already",
	}, ignored); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]approval.Person{person("carol")}, got.Counted); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	// Dave's rejection gives way to an override that he gives now.
	if diff := cmp.Diff([]approval.Person{person("dave"), {AccountID: "acc-erin", Name: "Erin"}}, got.CanStillApprove); diff != "" {
		t.Errorf("can still override (-want +got):\n%s", diff)
	}
	if got.Missing != 1 || got.Met() || got.Quorum != 2 {
		t.Errorf("missing %d of %d, met %t", got.Missing, got.Quorum, got.Met())
	}

	for script, want := range map[string]string{
		"bob override old-rule":     "Bob overrode another version of the rule",
		"bob override other-branch": "Bob overrode the rule for another destination branch",
	} {
		v := approval.Tally(r, facts(r, script))
		if len(v.Override.Ignored) != 1 || v.Override.Ignored[0].Sentence != want {
			t.Errorf("%s: %+v", script, v.Override.Ignored)
		}
	}
	if v := approval.Tally(rule(everyone(1)), facts(rule(everyone(1)), "bob override")); v.Override != nil {
		t.Errorf("a rule without an override explains one: %+v", v.Override)
	}
}

// The longest sentence says how many rejected, and leaves out who.
func TestOverriddenSentenceIsShort(t *testing.T) {
	t.Parallel()
	r := breakable(rule(everyone(50)), 3, "bob", "carol", "dave", "erin", "frank")
	f := facts(r, "bob override, carol override, dave override, erin override, frank override, grace reject, heidi reject, ivan reject, judy reject")
	for i := range f.Decisions {
		f.People = append(f.People, approval.Person{AccountID: f.Decisions[i].AccountID, Name: f.Decisions[i].Name + strings.Repeat("Ü", 40)})
	}
	f.People = f.People[4:]
	v := approval.Tally(r, f)
	if n := utf8.RuneCountInString(v.Sentence); v.State != approval.Overridden || n > approval.MaxSentence {
		t.Errorf("%s with %d characters: %s", v.State, n, v.Sentence)
	}
	if !strings.HasSuffix(v.Sentence, "and 2 others; rejected by 4; 0 of 50 approvals") {
		t.Errorf("got %q", v.Sentence)
	}
}

func TestOverrideOfAPolicy(t *testing.T) {
	t.Parallel()
	plain := approval.Default()
	with := func(o approval.OverrideBy) approval.Policy {
		p := approval.Default()
		p.Rules[0].Override = &o
		return p
	}
	good := with(approval.OverrideBy{Quorum: 2, Approvers: approval.Approvers{Accounts: []string{"acc-bob", "acc-carol"}}})
	parsed, err := approval.ParsePolicy(good.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(good.Rules[0].Override, parsed.Rules[0].Override); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
	if good.Rules[0].Digest() == plain.Rules[0].Digest() {
		t.Error("an override leaves the rule's digest as it was")
	}
	nilAccounts := with(approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Everyone: true}})
	emptyAccounts := with(approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Everyone: true, Accounts: []string{}}})
	if nilAccounts.Digest() != emptyAccounts.Digest() {
		t.Error("equal overrides have different digests")
	}
	if !nilAccounts.Rules[0].Needs().Writers || breakable(rule(named("A", 1, "bob")), 1, "bob").Needs().Writers {
		t.Error("the override's set is not what the rule needs")
	}

	population := approval.Population{Writers: []string{"acc-bob"}, Accounts: []string{"acc-bob", "acc-carol"}}
	for name, test := range map[string]struct {
		override approval.OverrideBy
		code     approval.Code
		path     string
		message  string
	}{
		"no quorum": {approval.OverrideBy{Approvers: approval.Approvers{Everyone: true}}, approval.CodeQuorum, "rules[0].override.quorum", "A quorum is 1 to 50 people."},
		"nobody":    {approval.OverrideBy{Quorum: 1}, approval.CodeApprovers, "rules[0].override.approvers", "The override needs somebody who can give it."},
		"both": {
			approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Everyone: true, Accounts: []string{"acc-bob"}}},
			approval.CodeApprovers, "rules[0].override.approvers", "Approvers are either everyone with write permission or named accounts, not both.",
		},
		"more than are named": {
			approval.OverrideBy{Quorum: 2, Approvers: approval.Approvers{Accounts: []string{"acc-bob"}}},
			approval.CodeUnreachable, "rules[0].override.quorum", "The override asks for 2 people, but names only 1 approvers.",
		},
		"more than may write": {
			approval.OverrideBy{Quorum: 2, Approvers: approval.Approvers{Everyone: true}},
			approval.CodeUnreachable, "rules[0].override.quorum", "The override asks for 2 people, but there are only 1 people with write permission.",
		},
		"a stranger": {
			approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Accounts: []string{"acc-bob", "acc-mallory"}}},
			approval.CodeUnknownAccount, "rules[0].override.approvers.accounts[1]", "This account is not a member of the workspace.",
		},
		"named twice": {
			approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Accounts: []string{"acc-bob", "acc-bob"}}},
			approval.CodeDuplicate, "rules[0].override.approvers.accounts[1]", "This approver is named twice.",
		},
	} {
		want := []approval.Problem{{Code: test.code, Path: test.path, Message: test.message}}
		if diff := cmp.Diff(want, with(test.override).Validate(population)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
