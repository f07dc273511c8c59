package approval_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/signedapproval/bitbucket/server/approval"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

const head, oldHead = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"

// name gives account "acc-bob" the name "Bob".
func name(account string) string {
	s := strings.TrimPrefix(account, "acc-")
	return strings.ToUpper(s[:1]) + s[1:]
}

func person(short string) approval.Person {
	return approval.Person{ID: "per-" + short, AccountID: "acc-" + short, Name: name("acc-" + short)}
}

func everyone(quorum int) approval.Requirement {
	return approval.Requirement{Name: "Approval", Quorum: quorum, Approvers: approval.Approvers{Everyone: true}}
}

func named(title string, quorum int, shorts ...string) approval.Requirement {
	q := approval.Requirement{Name: title, Quorum: quorum}
	for _, s := range shorts {
		q.Approvers.Accounts = append(q.Approvers.Accounts, "acc-"+s)
	}
	return q
}

func rule(requirements ...approval.Requirement) approval.Rule {
	return approval.Rule{
		Name: "Release", Branches: []string{"release/*"}, Requirements: requirements, ExpiresAfterSeconds: 3600,
	}
}

// facts about a pull request by alice; script is a list such as "bob approve,
// carol reject old-head". Modifiers: old-head, old-rule, old-request,
// other-branch.
func facts(r approval.Rule, script string) approval.Facts {
	f := approval.Facts{
		Now: noon,
		Request: approval.RequestFacts{
			ID: "req-1", HeadCommit: head, DestinationBranch: "release/1.0", RuleDigest: r.Digest(), ExpiresAt: noon.Add(time.Hour),
		},
		Author: "acc-alice",
		People: []approval.Person{person("alice"), person("bob"), person("carol"), person("dave")},
	}
	if r.Needs().Writers {
		f.Writers = f.People
	}
	for i, line := range strings.Split(script, ",") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		p := person(words[0])
		d := approval.Decision{
			ID: "dec-" + string(rune('a'+i)), RequestID: "req-1", PersonID: p.ID, AccountID: p.AccountID, Name: p.Name,
			Action: approval.Action(strings.ToUpper(words[1])), HeadCommit: head, DestinationBranch: "release/1.0",
			RuleDigest: r.Digest(), Sequence: int64(i + 2),
		}
		for _, modifier := range words[2:] {
			switch modifier {
			case "disowned":
				d.Identity = approval.Disowned
			case "vouched":
				d.Identity = approval.Countersigned
			case "stolen":
				d.Compromised = true
			case "late":
				d.Late = true
			case "alpha":
				d.Model = alpha
			case "beta":
				d.Model = beta
			case "login":
				d.Identity = "bitbucket-login"
			case "old-head":
				d.HeadCommit = oldHead
			case "old-rule":
				d.RuleDigest = approval.DigestOf([]byte("old rule"))
			case "old-request":
				d.RequestID = "req-0"
			case "other-branch":
				d.DestinationBranch = "main"
			default:
				panic(modifier)
			}
		}
		f.Decisions = append(f.Decisions, d)
	}
	return f
}

func TestTally(t *testing.T) {
	t.Parallel()
	two := rule(everyone(2))
	authorMay := rule(everyone(1))
	authorMay.AuthorMayApprove = true
	both := rule(named("Security", 1, "carol"), named("Backend", 2, "bob", "dave", "erin"))
	late := func(f *approval.Facts) { f.Now = f.Request.ExpiresAt }
	lapsed := func(f *approval.Facts) { f.Now, f.Request.Lapsed = f.Request.ExpiresAt, true }

	for _, test := range []struct {
		name     string
		rule     approval.Rule
		script   string
		edit     func(*approval.Facts)
		state    approval.State
		sentence string
	}{
		{"nobody yet", two, "", nil, approval.Pending, "0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"one of two", two, "bob approve", nil, approval.Pending, "1 of 2 approvals; waiting for Carol or Dave"},
		{"two of two", two, "bob approve, carol approve", nil, approval.Approved, "approved by Bob and Carol"},
		{"more than needed", two, "dave approve, bob approve, carol approve", nil, approval.Approved, "approved by Dave, Bob and Carol"},
		{"twice is once", two, "bob approve, bob approve", nil, approval.Pending, "1 of 2 approvals; waiting for Carol or Dave"},
		{"withdrawn", two, "bob approve, carol approve, bob withdraw", nil, approval.Pending, "1 of 2 approvals; waiting for Bob or Dave"},
		{"withdrawn and given again", two, "bob approve, carol approve, bob withdraw, bob approve", nil, approval.Approved, "approved by Carol and Bob"},
		{"the author does not count", two, "alice approve, bob approve", nil, approval.Pending, "1 of 2 approvals; waiting for Carol or Dave"},
		{"a rejection taken back too late", two, "bob approve, carol approve, dave reject, dave withdraw late", late, approval.Expired, "expired before it was approved"},
		{"a late rejection taken back", two, "bob approve, carol approve, dave reject late, dave withdraw late", late, approval.Approved, "approved by Bob and Carol"},
		{"a rejection taken back in time and once more", two, "bob approve, carol approve, dave reject, dave withdraw, dave withdraw late", late, approval.Approved, "approved by Bob and Carol"},
		{"a late rejection", two, "bob approve, carol approve, dave reject late", late, approval.Rejected, "rejected by Dave"},
		{"a late approval", two, "bob approve, carol approve late", late, approval.Expired, "expired before 2 approvals were given (1 of 2)"},
		{"taken back late", two, "bob approve, carol approve, dave approve late, bob withdraw late", late, approval.Expired, "expired before 2 approvals were given (1 of 2)"},
		{"lapsed", two, "bob approve, carol approve", lapsed, approval.Expired, "expired before it was approved"},
		{"lapsed and rejected", two, "bob approve, carol approve, dave reject late", lapsed, approval.Rejected, "rejected by Dave"},
		{"the author may", authorMay, "alice approve", nil, approval.Approved, "approved by Alice"},
		{"an outsider does not count", two, "mallory approve, bob approve", nil, approval.Pending, "1 of 2 approvals; waiting for Carol or Dave"},
		{"another head", two, "bob approve old-head, carol approve", nil, approval.Pending, "1 of 2 approvals; waiting for Bob or Dave"},
		{"another rule", two, "bob approve old-rule, carol approve", nil, approval.Pending, "1 of 2 approvals; waiting for Bob or Dave"},
		{"another request", two, "bob approve old-request, carol approve", nil, approval.Pending, "1 of 2 approvals; waiting for Bob or Dave"},
		{"another destination", two, "bob approve other-branch, carol approve", nil, approval.Pending, "1 of 2 approvals; waiting for Bob or Dave"},
		{"an old approval does not undo a new one", two, "bob approve, carol approve, bob approve old-rule", nil, approval.Approved, "approved by Bob and Carol"},

		{"a rejection blocks", two, "bob approve, carol approve, dave reject", nil, approval.Rejected, "rejected by Dave"},
		{"an outsider's rejection blocks", two, "bob approve, carol approve, mallory reject", nil, approval.Rejected, "rejected by Mallory"},
		{"the author's rejection blocks", two, "bob approve, carol approve, alice reject", nil, approval.Rejected, "rejected by Alice"},
		{"a rejection carries over to a new rule", two, "dave reject old-rule old-request, bob approve, carol approve", nil, approval.Rejected, "rejected by Dave"},
		{"a rejection carries over to another destination", two, "dave reject other-branch, bob approve, carol approve", nil, approval.Rejected, "rejected by Dave"},
		{"a rejection does not carry over to a new head", two, "dave reject old-head, bob approve, carol approve", nil, approval.Approved, "approved by Bob and Carol"},
		{"a rejection withdrawn", two, "carol reject, bob approve, carol withdraw", nil, approval.Pending, "1 of 2 approvals; waiting for Carol or Dave"},
		{"rejected, withdrawn, approved", two, "bob approve, carol reject, carol withdraw, carol approve", nil, approval.Approved, "approved by Bob and Carol"},
		{"rejected and then approved", two, "bob approve, carol reject, carol approve", nil, approval.Approved, "approved by Bob and Carol"},
		{"approval of something else keeps a rejection", two, "bob approve, dave approve, carol reject, carol approve other-branch", nil, approval.Rejected, "rejected by Carol"},
		{"somebody else's withdrawal keeps a rejection", two, "bob approve, dave approve, carol reject, bob withdraw", nil, approval.Rejected, "rejected by Carol"},
		{"approved and then rejected", two, "carol approve, carol reject", nil, approval.Rejected, "rejected by Carol"},
		{"several rejections", two, "bob reject, carol reject", nil, approval.Rejected, "rejected by Bob and Carol"},

		{"expired", two, "bob approve", late, approval.Expired, "expired before 2 approvals were given (1 of 2)"},
		{"expired with one to give", rule(everyone(1)), "", late, approval.Expired, "expired before 1 approval was given (0 of 1)"},
		{"approved in time stays approved", two, "bob approve, carol approve", late, approval.Approved, "approved by Bob and Carol"},
		{"rejected beats expired", two, "bob reject", late, approval.Rejected, "rejected by Bob"},
		{"expired with several requirements", both, "carol approve", late, approval.Expired, "expired before all requirements were met (1 of 2)"},

		{"named approvers", rule(named("Leads", 1, "bob", "carol")), "dave approve", nil, approval.Pending, "0 of 1 approval; waiting for Bob or Carol"},
		{"a named approver needs no permission", rule(named("Leads", 1, "erin")), "erin approve", nil, approval.Approved, "approved by Erin"},
		{"several requirements open", both, "bob approve", nil, approval.Pending, "Security: 0 of 1 approval; waiting for Carol. Backend: 1 of 2 approvals; waiting for account acc-erin or Dave"},
		{"one of several met", both, "bob approve, carol approve", nil, approval.Pending, "Backend: 1 of 2 approvals; waiting for account acc-erin or Dave"},
		{"several requirements met", both, "bob approve, carol approve, dave approve", nil, approval.Approved, "approved by Carol, Bob and Dave"},
		{"one person for two requirements", rule(named("A", 1, "bob"), named("B", 1, "bob", "carol")), "bob approve", nil, approval.Approved, "approved by Bob"},

		{"out of reach", rule(named("Leads", 2, "bob", "alice")), "bob approve", nil, approval.Pending, "cannot be reached: 1 more approval is needed and nobody is left who can give it"},
		{"out of reach by one", rule(named("Leads", 3, "bob", "carol")), "bob approve", nil, approval.Pending, "cannot be reached: 2 more approvals are needed and only Carol is left who can give one"},
		{"out of reach by more", rule(everyone(5)), "", nil, approval.Pending, "cannot be reached: 5 more approvals are needed and only 3 people are left who can give one"},
		{"one of several out of reach", rule(named("A", 1, "bob"), named("Own", 1, "alice")), "", nil, approval.Pending, "Own: cannot be reached: 1 more approval is needed and nobody is left who can give it"},
		{"nobody's approval asked", rule(), "bob approve", nil, approval.Pending, "cannot be reached: the rule asks for nobody's approval"},
		{"a quorum of none", rule(everyone(0)), "bob approve", nil, approval.Pending, "cannot be reached: the requirement asks for nobody's approval"},
		{"writers were not asked for", two, "bob approve, carol approve", func(f *approval.Facts) { f.Writers = nil }, approval.Pending, "cannot be reached: 2 more approvals are needed and nobody is left who can give it"},
		{"many approvers", rule(everyone(1)), "", func(f *approval.Facts) {
			f.Writers = append(f.Writers, person("erin"))
		}, approval.Pending, "0 of 1 approval; waiting for any of 4 people"},
		{"many approvals", rule(everyone(1)), "erin approve, bob approve, carol approve, dave approve, frank approve", func(f *approval.Facts) {
			f.Writers = append(f.Writers, person("erin"), person("frank"))
		}, approval.Approved, "approved by Erin, Bob, Carol and 2 others"},

		{"two accounts of one person", two, "bob approve, carol approve", func(f *approval.Facts) {
			f.Decisions[1].PersonID = f.Decisions[0].PersonID
		}, approval.Pending, "1 of 2 approvals; waiting for Dave"},
		{"two persons of one account", two, "bob approve, carol approve", func(f *approval.Facts) {
			f.Decisions[1].AccountID = f.Decisions[0].AccountID
		}, approval.Pending, "1 of 2 approvals; waiting for Dave"},
		{"a name that reorders the line", rule(everyone(1)), "bob approve", func(f *approval.Facts) {
			f.People[1].Name = "B\u202eo\nb\u200b"
		}, approval.Approved, "approved by Bo b"},
		{"a name without end", rule(everyone(1)), "bob approve", func(f *approval.Facts) {
			f.People[1].Name = strings.Repeat("Bob", 50)
		}, approval.Approved, "approved by BobBobBobBobBobBobBobBobBobBo…"},
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
			if n := utf8.RuneCountInString(v.Sentence); n > approval.MaxSentence {
				t.Errorf("sentence has %d characters", n)
			}
		})
	}
}

// A rule can count only keys for which somebody else vouched.
func TestTallyOfCountersignedKeys(t *testing.T) {
	t.Parallel()
	demanding := func(q int) approval.Rule {
		r := rule(everyone(q))
		r.Keys = &approval.KeyDemand{Countersigned: true}
		return r
	}
	overridable := demanding(2)
	o := approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Accounts: []string{"acc-bob"}}}
	overridable.Override = &o
	for _, test := range []struct {
		rule   approval.Rule
		script string
		want   string
	}{
		{demanding(1), "bob approve login", "PENDING: 0 of 1 approval; waiting for Bob, Carol or Dave"},
		{demanding(1), "bob approve", "PENDING: 0 of 1 approval; waiting for Bob, Carol or Dave"},
		{demanding(1), "bob approve login, bob approve vouched", "APPROVED: approved by Bob"},
		{demanding(1), "bob approve vouched, bob approve login", "APPROVED: approved by Bob"},
		{demanding(2), "bob approve vouched, carol approve login", "PENDING: 1 of 2 approvals; waiting for Carol or Dave"},
		{demanding(1), "bob approve vouched, carol reject login", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, carol reject vouched, carol withdraw login", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, carol reject vouched, carol approve login", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, carol reject login, carol withdraw login", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, carol reject vouched, carol withdraw vouched", "APPROVED: approved by Bob"},
		{demanding(1), "bob approve disowned", "PENDING: 0 of 1 approval; waiting for Bob, Carol or Dave"},
		{demanding(1), "bob approve vouched, carol reject disowned, carol withdraw login", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, carol reject disowned, carol approve login", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, carol reject disowned, carol withdraw disowned", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, carol reject disowned, carol withdraw vouched", "APPROVED: approved by Bob"},
		{demanding(1), "bob approve vouched, carol reject vouched, carol withdraw disowned", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, carol reject login, carol withdraw disowned", "REJECTED: rejected by Carol"},
		{demanding(1), "bob approve vouched, bob withdraw login", "PENDING: 0 of 1 approval; waiting for Bob, Carol or Dave"},
		{overridable, "bob override login", "PENDING: 0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{overridable, "bob override vouched", "OVERRIDDEN: overridden by Bob; 0 of 2 approvals"},
		{rule(everyone(1)), "bob approve login", "APPROVED: approved by Bob"},
		{rule(everyone(1)), "bob approve stolen", "PENDING: 0 of 1 approval; waiting for Bob, Carol or Dave"},
		{rule(everyone(1)), "bob approve stolen, carol approve", "APPROVED: approved by Carol"},
		{rule(everyone(1)), "bob approve stolen, bob withdraw, bob approve", "APPROVED: approved by Bob"},
		{rule(everyone(1)), "bob approve, carol reject stolen", "REJECTED: rejected by Carol"},
		{rule(everyone(1)), "bob approve, carol reject, carol withdraw stolen", "REJECTED: rejected by Carol"},
		{rule(everyone(1)), "bob approve, carol reject stolen, carol withdraw stolen", "REJECTED: rejected by Carol"},
		{rule(everyone(1)), "bob approve, carol reject stolen, carol withdraw", "APPROVED: approved by Bob"},
		{demanding(1), "bob approve vouched stolen", "PENDING: 0 of 1 approval; waiting for Bob, Carol or Dave"},
		{overridable, "bob override vouched stolen", "PENDING: 0 of 2 approvals; waiting for Bob, Carol or Dave"},
	} {
		v := approval.Tally(test.rule, facts(test.rule, test.script))
		if got := string(v.State) + ": " + v.Sentence; got != test.want {
			t.Errorf("%s: %s, want %s", test.script, got, test.want)
		}
	}
	v := approval.Tally(demanding(1), facts(demanding(1), "bob approve login"))
	if diff := cmp.Diff([]approval.Ignored{{
		Person: person("bob"), Reason: approval.LoginOnlyKey, Sentence: "Bob approved with a key that nobody has countersigned",
	}}, v.Requirements[0].Ignored); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	v = approval.Tally(overridable, facts(overridable, "bob override login"))
	if len(v.Override.Ignored) != 1 || v.Override.Ignored[0].Sentence != "Bob overrode with a key that nobody has countersigned" {
		t.Errorf("%+v", v.Override.Ignored)
	}
	if !demanding(1).Needs().Identities || rule(everyone(1)).Needs().Identities {
		t.Error("the facts that are needed")
	}
}

// Two authenticator models.
const (
	alpha = "876ca4f5-2071-c3e9-b255-09ef2cdf7ed6"
	beta  = "afb3c2ef-c054-df42-5013-d5c88e79c3c1"
)

// A rule can count only keys that are proved to be of certain models.
func TestTallyOfModels(t *testing.T) {
	t.Parallel()
	demanding := rule(everyone(1))
	demanding.Keys = &approval.KeyDemand{Models: []string{alpha}}
	either := rule(everyone(1))
	either.Keys = &approval.KeyDemand{Models: []string{alpha, beta}}
	both := rule(everyone(1))
	both.Keys = &approval.KeyDemand{Models: []string{alpha}, Countersigned: true}
	overridable := rule(everyone(2))
	overridable.Keys, overridable.Override = demanding.Keys, &approval.OverrideBy{Quorum: 1, Approvers: approval.Approvers{Accounts: []string{"acc-bob"}}}
	const waiting = "PENDING: 0 of 1 approval; waiting for Bob, Carol or Dave"
	for _, test := range []struct {
		rule   approval.Rule
		script string
		want   string
	}{
		{demanding, "bob approve", waiting},
		{demanding, "bob approve beta", waiting},
		{demanding, "bob approve alpha", "APPROVED: approved by Bob"},
		{demanding, "bob approve alpha stolen", waiting},
		{demanding, "bob approve, bob approve alpha", "APPROVED: approved by Bob"},
		{demanding, "bob approve alpha, carol reject", "REJECTED: rejected by Carol"},
		{demanding, "bob approve alpha, carol reject alpha, carol withdraw", "REJECTED: rejected by Carol"},
		{demanding, "bob approve alpha, carol reject, carol withdraw", "REJECTED: rejected by Carol"},
		{demanding, "bob approve alpha, carol reject, carol withdraw alpha", "APPROVED: approved by Bob"},
		{either, "bob approve beta", "APPROVED: approved by Bob"},
		{both, "bob approve alpha login", waiting},
		{both, "bob approve vouched", waiting},
		{both, "bob approve alpha vouched", "APPROVED: approved by Bob"},
		{overridable, "bob override beta", "PENDING: 0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{overridable, "bob override alpha", "OVERRIDDEN: overridden by Bob; 0 of 2 approvals"},
		{rule(everyone(1)), "bob approve", "APPROVED: approved by Bob"},
	} {
		v := approval.Tally(test.rule, facts(test.rule, test.script))
		if got := string(v.State) + ": " + v.Sentence; got != test.want {
			t.Errorf("%s: %s, want %s", test.script, got, test.want)
		}
	}
	v := approval.Tally(demanding, facts(demanding, "bob approve beta"))
	if diff := cmp.Diff([]approval.Ignored{{
		Person: person("bob"), Reason: approval.UnprovedModel, Sentence: "Bob approved with a key that is not proved to be one of the models that the rule names",
	}}, v.Requirements[0].Ignored); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	v = approval.Tally(overridable, facts(overridable, "bob override"))
	if len(v.Override.Ignored) != 1 || v.Override.Ignored[0].Sentence != "Bob overrode with a key that is not proved to be one of the models that the rule names" {
		t.Errorf("%+v", v.Override.Ignored)
	}
	if n := demanding.Needs(); !n.Models || n.Identities {
		t.Errorf("%+v is needed", n)
	}
	if n := both.Needs(); !n.Models || !n.Identities {
		t.Errorf("%+v is needed", n)
	}
	if demanding.Digest() == either.Digest() || demanding.Digest() == both.Digest() {
		t.Error("two demands have one digest")
	}
}

func TestCountSaysWhatTheStateRestsOn(t *testing.T) {
	t.Parallel()
	plain := rule(named("A", 1, "bob", "carol"), named("B", 1, "bob"))
	overridable := plain
	overridable.Override = &approval.OverrideBy{Quorum: 1, Approvers: named("", 1, "dave").Approvers}
	for script, c := range map[string]struct {
		rule  approval.Rule
		state approval.State
		want  []int64 // the first has sequence 2
	}{
		"dave approve, bob approve, carol approve":    {plain, approval.Approved, []int64{3, 4}},
		"bob approve, bob approve, carol reject":      {plain, approval.Rejected, []int64{2}},
		"bob approve old-head, carol approve":         {plain, approval.Pending, []int64{3}},
		"bob approve, bob withdraw":                   {plain, approval.Pending, nil},
		"carol approve, dave override, bob override":  {overridable, approval.Overridden, []int64{3}},
		"bob approve, dave override, carol approve":   {overridable, approval.Approved, []int64{2, 4}},
		"dave override, dave withdraw, carol approve": {overridable, approval.Pending, []int64{4}},
	} {
		v, got := approval.Count(c.rule, facts(c.rule, script))
		if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); v.State != c.state || diff != "" {
			t.Errorf("%s: %s\n%s", script, v.State, diff)
		}
	}
}

// TestWhatWasOverriddenStaysSo counts again what was overridden or approved before.
func TestWhatWasOverriddenStaysSo(t *testing.T) {
	t.Parallel()
	r := rule(named("A", 1, "bob"))
	r.Override = &approval.OverrideBy{Quorum: 1, Approvers: named("", 1, "dave").Approvers}
	for _, c := range []struct {
		script   string
		was, now approval.State
		want     []int64 // the first has sequence 2
	}{
		{"bob approve, dave override", approval.Overridden, approval.Overridden, []int64{3}},
		{"bob approve, dave override", approval.Approved, approval.Approved, []int64{2}},
		{"bob approve, dave override", approval.Rejected, approval.Approved, []int64{2}},
		{"bob approve, dave override, dave withdraw", approval.Overridden, approval.Approved, []int64{2}},
		{"bob approve", approval.Overridden, approval.Approved, []int64{2}},
		{"carol reject, dave override", approval.Approved, approval.Overridden, []int64{3}},
	} {
		v, got := approval.CountAgain(r, facts(r, c.script), c.was)
		if diff := cmp.Diff(c.want, got); v.State != c.now || diff != "" {
			t.Errorf("%s, once %s: %s\n%s", c.script, c.was, v.State, diff)
		}
	}
	lapsed := facts(r, "bob approve, dave override")
	lapsed.Request.Lapsed = true
	if v, _ := approval.CountAgain(r, lapsed, approval.Overridden); v.State != approval.Expired {
		t.Errorf("what has lapsed is %s", v.State)
	}
}

// TestAccountsThatPeopleShare has people decide who are one and the same by what another decision says: the person of one account with
// the account of another person. However they come in a row, and whatever becomes of the decision that shows it, they count once, and
// what one of them takes back is taken back.
func TestAccountsThatPeopleShare(t *testing.T) {
	t.Parallel()
	r := rule(everyone(2))
	r.Override = &approval.OverrideBy{Quorum: 2, Approvers: approval.Approvers{Everyone: true}}
	single := rule(everyone(1))
	for name, c := range map[string]struct {
		rule   approval.Rule
		script string
		change func(link *approval.Decision) // the last decision is one of bob's person with carol's account, after that
		state  approval.State
	}{
		"two of three":                        {r, "bob approve, carol approve, bob approve", nil, approval.Pending},
		"the link was made with a stolen key": {r, "bob approve, carol approve, bob approve", func(d *approval.Decision) { d.Compromised = true }, approval.Pending},
		"the link is about another request":   {r, "bob approve, carol approve, bob approve", func(d *approval.Decision) { d.RequestID = "req-0" }, approval.Pending},
		"the link came too late":              {r, "bob approve, carol approve, bob approve", func(d *approval.Decision) { d.Late = true }, approval.Pending},
		"overrides":                           {r, "bob override, carol override, bob override", nil, approval.Pending},
		"and another one":                     {r, "bob approve, carol approve, dave approve, bob approve", nil, approval.Approved},
		"one takes it back":                   {single, "bob approve, carol withdraw, bob approve", func(d *approval.Decision) { d.RequestID = "req-0" }, approval.Pending},
		"one of them is the author":           {single, "bob approve, bob approve", func(d *approval.Decision) { d.AccountID = "acc-alice" }, approval.Pending},
	} {
		for _, first := range []bool{false, true} {
			f := facts(c.rule, c.script)
			link := &f.Decisions[len(f.Decisions)-1]
			link.AccountID = "acc-carol"
			if c.change != nil {
				c.change(link)
			}
			if first {
				link.Sequence = 1
			}
			if v := approval.Tally(c.rule, f); v.State != c.state {
				t.Errorf("%s (first: %v): %s, %s", name, first, v.State, v.Sentence)
			}
		}
	}
}

func TestTallyExplains(t *testing.T) {
	t.Parallel()
	r := rule(everyone(3))
	f := facts(r, "alice approve, bob approve old-rule, carol approve, dave approve other-branch, mallory approve, erin approve old-request")
	f.Decisions = append(f.Decisions, f.Decisions[2])
	last := &f.Decisions[len(f.Decisions)-1]
	last.AccountID, last.Sequence = "acc-dave", 99 // carol's person with dave's account

	got := approval.Tally(r, f).Requirements[0]
	type line struct {
		Name   string
		Reason approval.Reason
		Said   string
	}
	var ignored []line
	for _, g := range got.Ignored {
		ignored = append(ignored, line{g.Person.Name, g.Reason, g.Sentence})
	}
	want := []line{
		{"Alice", approval.IsAuthor, "Alice is the author and may not approve"},
		{"Bob", approval.OtherRule, "Bob approved under another version of the rule"},
		{"Mallory", approval.NotAnApprover, "Mallory is not among the approvers"},
		{"Erin", approval.OtherRequest, "Erin approved another request for this commit"},
		{"Dave", approval.SamePerson, "Dave is counted already"},
	}
	if diff := cmp.Diff(want, ignored); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]approval.Person{person("carol")}, got.Counted); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]approval.Person{person("bob")}, got.CanStillApprove); diff != "" {
		t.Errorf("can still approve (-want +got):\n%s", diff)
	}
	if got.Missing != 2 || got.Met() {
		t.Errorf("missing %d, met %t", got.Missing, got.Met())
	}
}
