package approval_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/approval"
)

// TestPatterns: the rules' form reads patterns in the browser, by the same table.
func TestPatterns(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/patterns.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Pattern, Branch string
		Matches         bool
	}
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 40 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		if got := (approval.Rule{Branches: []string{row.Pattern}}).Matches(row.Branch); got != row.Matches {
			t.Errorf("%q and branch %q: %t", row.Pattern, row.Branch, got)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		patterns, branch string
		want             bool
	}{
		{"main", "main", true},
		{"main", "Main", false},
		{"main", "mainline", false},
		{"main", "feature/main", false},
		{"release/*", "release/1.0", true},
		{"release/*", "release/1.0/rc", false},
		{"release/*", "release", false},
		{"release/*", "release/", true},
		{"hotfix/**", "hotfix/a", true},
		{"hotfix/**", "hotfix/a/b/c", true},
		{"hotfix/**", "hotfixes/a", false},
		{"**", "a/b/c", true},
		{"**/fix", "fix", true},
		{"**/fix", "a/b/fix", true},
		{"*", "a/b", false},
		{"v?", "v1", true},
		{"v?", "v/", false},
		{"v[0-9]", "v7", true},
		{"v[0-9]", "vx", false},
		{"{main,develop}", "develop", true},
		{"release/* !release/old", "release/old", false},
		{"!release/old release/*", "release/old", false},
		{"!release/old release/*", "release/new", true},
		{"release/** !release/*/tmp", "release/1/tmp", false},
		{"!release/old", "main", false},
		{"[", "[", false},
		{"** ![", "[", true}, // cannot be read, so excludes nothing
		{"", "", false},
	} {
		rule := approval.Rule{Branches: strings.Fields(test.patterns)}
		if got := rule.Matches(test.branch); got != test.want {
			t.Errorf("%q on %q: %t", test.patterns, test.branch, got)
		}
	}
	p := approval.Policy{Rules: []approval.Rule{{Name: "a", Branches: []string{"release/*"}}, {Name: "b", Branches: []string{"**"}}}}
	if rule, i, ok := p.Match("release/1"); !ok || i != 0 || rule.Name != "a" {
		t.Errorf("release/1: %q, %d, %t", rule.Name, i, ok)
	}
	if rule, i, ok := p.Match("main"); !ok || i != 1 || rule.Name != "b" {
		t.Errorf("main: %q, %d, %t", rule.Name, i, ok)
	}
	if _, i, ok := (approval.Policy{}).Match("main"); ok || i != -1 {
		t.Errorf("the empty policy matches: %d, %t", i, ok)
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	p := approval.Default()
	if problems := p.Validate(approval.Population{Writers: []string{"a"}}); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	parsed, err := approval.ParsePolicy(p.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Digest() != p.Digest() || !p.Digest().Valid() {
		t.Errorf("digest %s, then %s", p.Digest(), parsed.Digest())
	}
	const want = `{"format":"signedapproval.policy/v1","rules":[{"authorMayApprove":false,"branches":["**"],` +
		`"expiresAfterSeconds":604800,"name":"Default","requirements":[{"approvers":{"accounts":[],"everyone":true},` +
		`"name":"Approval","quorum":1}]}]}`
	if got := string(p.Canonical()); got != want {
		t.Errorf("canonical form\n%s\nwant\n%s", got, want)
	}
}

func TestDigestsOfRules(t *testing.T) {
	t.Parallel()
	p := approval.Default()
	other := p
	other.Rules = append(slices.Clone(p.Rules), approval.Rule{Name: "Second"})
	if p.Digest() == other.Digest() {
		t.Error("another policy has the same digest")
	}
	if p.Rules[0].Digest() != other.Rules[0].Digest() {
		t.Error("editing another rule changes a rule's digest")
	}
	changed := p.Rules[0]
	changed.AuthorMayApprove = true
	if changed.Digest() == p.Rules[0].Digest() {
		t.Error("another rule has the same digest")
	}
	demanding := p.Rules[0]
	demanding.Cosignatures = 1
	if demanding.Digest() == p.Rules[0].Digest() {
		t.Error("a rule that demands cosignatures has the same digest")
	}
	if empty := (approval.Rule{}); empty.Digest() != (approval.Rule{Branches: []string{}}).Digest() {
		t.Error("an absent and an empty list have different digests")
	}
}

// document builds a policy document from the fields of its only rule.
func document(fields string) string {
	return `{"format":"signedapproval.policy/v1","rules":[{` + fields + `}]}`
}

const good = `"name":"R","branches":["main"],"requirements":[{"name":"A","quorum":1,"approvers":{"everyone":true}}]`

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	p, err := approval.ParsePolicy([]byte("\n " + document(good)))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Rules[0].ExpiresAfterSeconds; got != 7*24*3600 {
		t.Errorf("expires after %d s", got)
	}
	again, err := approval.ParsePolicy(p.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Canonical(), again.Canonical()); diff != "" {
		t.Errorf("canonical form is not stable:\n%s", diff)
	}
	for _, test := range []struct {
		name, doc string
		code      approval.Code
		path      string
	}{
		{"nothing", ``, approval.CodeMalformed, ""},
		{"not an object", `[]`, approval.CodeMalformed, ""},
		{"two documents", document(good) + document(good), approval.CodeMalformed, ""},
		{"not UTF-8", document(`"name":"` + "\xff" + `"`), approval.CodeMalformed, ""},
		{"a duplicate key", document(good + `,"name":"S"`), approval.CodeMalformed, ""},
		{"an unknown field", document(good + `,"quorum":1`), approval.CodeMalformed, ""},
		{"a name in another case", document(good + `,"AuthorMayApprove":true`), approval.CodeUnknownField, "rules[0].AuthorMayApprove"},
		{"a null", document(good + `,"autoMerge":null`), approval.CodeUnknownField, "rules[0].autoMerge"},
		{"a null list", `{"format":"signedapproval.policy/v1","rules":null}`, approval.CodeUnknownField, "rules"},
		{"a fraction", document(good + `,"expiresAfterSeconds":90.5`), approval.CodeMalformed, ""},
		{"another format", strings.Replace(document(good), "/v1", "/v2", 1), approval.CodeFormat, "format"},
		{"no rules", `{"format":"signedapproval.policy/v1","rules":[]}`, approval.CodeCount, "rules"},
		{"a bad rule", document(good + `,"expiresAfterSeconds":1`), approval.CodeExpiry, "rules[0].expiresAfterSeconds"},
		{"no cosignatures, said aloud", document(good + `,"cosignatures":0`), approval.CodeUnknownField, "rules[0].cosignatures"},
		{"fewer cosignatures than none", document(good + `,"cosignatures":-1`), approval.CodeCosignatures, "rules[0].cosignatures"},
		{"too many cosignatures", document(good + `,"cosignatures":17`), approval.CodeCosignatures, "rules[0].cosignatures"},
		{"half a cosignature", document(good + `,"cosignatures":0.5`), approval.CodeMalformed, ""},
		{"too large", strings.Repeat(" ", approval.MaxPolicyBytes) + document(good), approval.CodeTooLarge, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := approval.ParsePolicy([]byte(test.doc))
			var refusal *approval.PolicyError
			if !errors.As(err, &refusal) {
				t.Fatalf("got %v", err)
			}
			if first := refusal.Problems[0]; first.Code != test.code || first.Path != test.path || first.Message == "" {
				t.Errorf("got %+v", refusal.Problems)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	population := approval.Population{
		Writers: []string{"ann", "ben"}, Accounts: []string{"ann", "ben", "cat", "dan"}, Strategies: []string{"squash", "merge_commit"}, Witnesses: 2,
		Models: []string{alpha, beta},
	}
	names := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("n%d", i))
		}
		return list
	}
	everyoneOf := func(quorum int) []approval.Requirement { return []approval.Requirement{everyone(quorum)} }
	namedOf := func(quorum int, accounts ...string) []approval.Requirement {
		return []approval.Requirement{{Name: "N", Quorum: quorum, Approvers: approval.Approvers{Accounts: accounts}}}
	}
	type found struct {
		Code approval.Code
		Path string
	}
	for _, test := range []struct {
		name string
		edit func(p *approval.Policy, r *approval.Rule)
		want []found
	}{
		{"good", func(*approval.Policy, *approval.Rule) {}, nil},
		{"quorum 2 of 2 people", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = everyoneOf(2) }, nil},
		{
			"quorum 3 of 2 people", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = everyoneOf(3) },
			[]found{{approval.CodeUnreachable, "rules[0].requirements[0].quorum"}},
		},
		{
			"quorum 0", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = everyoneOf(0) },
			[]found{{approval.CodeQuorum, "rules[0].requirements[0].quorum"}},
		},
		{
			"quorum 51", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(51, names(60)...) },
			[]found{{approval.CodeQuorum, "rules[0].requirements[0].quorum"}},
		},
		{"named", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(2, "cat", "dan") }, nil},
		{"a writer from outside the workspace", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(1, "ann") }, nil},
		{
			"an unknown account", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(1, "ann", "eve") },
			[]found{{approval.CodeUnknownAccount, "rules[0].requirements[0].approvers.accounts[1]"}},
		},
		{
			"quorum 2 of 1 known", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(2, "ann", "eve") },
			[]found{{approval.CodeUnknownAccount, "rules[0].requirements[0].approvers.accounts[1]"}, {approval.CodeUnreachable, "rules[0].requirements[0].quorum"}},
		},
		{
			"nobody", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(1) },
			[]found{{approval.CodeApprovers, "rules[0].requirements[0].approvers"}},
		},
		{
			"quorum 3 of 2 named", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(3, "cat", "dan") },
			[]found{{approval.CodeUnreachable, "rules[0].requirements[0].quorum"}},
		},
		{"everyone and named", func(_ *approval.Policy, r *approval.Rule) {
			r.Requirements = namedOf(1, "ann")
			r.Requirements[0].Approvers.Everyone = true
		}, []found{{approval.CodeApprovers, "rules[0].requirements[0].approvers"}}},
		{
			"an account twice", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(1, "ann", "ann") },
			[]found{{approval.CodeDuplicate, "rules[0].requirements[0].approvers.accounts[1]"}},
		},
		{
			"an account with a space", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(1, "ann", "b n") },
			[]found{{approval.CodeAccount, "rules[0].requirements[0].approvers.accounts[1]"}},
		},
		{
			"too many accounts", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = namedOf(1, names(101)...) },
			[]found{{approval.CodeCount, "rules[0].requirements[0].approvers.accounts"}},
		},
		{
			"a requirement twice", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = append(everyoneOf(1), everyone(1)) },
			[]found{{approval.CodeDuplicate, "rules[0].requirements[1].name"}},
		},
		{
			"no requirements", func(_ *approval.Policy, r *approval.Rule) { r.Requirements = nil },
			[]found{{approval.CodeCount, "rules[0].requirements"}},
		},
		{
			"a bad glob", func(_ *approval.Policy, r *approval.Rule) {
				r.Branches = []string{"main", "release/[", "a\u202eb", "!", ""}
			},
			[]found{{approval.CodePattern, "rules[0].branches[1]"}, {approval.CodePattern, "rules[0].branches[2]"}, {approval.CodePattern, "rules[0].branches[3]"}, {approval.CodePattern, "rules[0].branches[4]"}},
		},
		{
			"a long glob", func(_ *approval.Policy, r *approval.Rule) { r.Branches = []string{strings.Repeat("a", 256)} },
			[]found{{approval.CodePattern, "rules[0].branches[0]"}},
		},
		{
			"two globs in one", func(_ *approval.Policy, r *approval.Rule) { r.Branches = []string{"main, release/*"} },
			[]found{{approval.CodePattern, "rules[0].branches[0]"}},
		},
		{
			"a glob twice", func(_ *approval.Policy, r *approval.Rule) { r.Branches = []string{"main", "main"} },
			[]found{{approval.CodeDuplicate, "rules[0].branches[1]"}},
		},
		{
			"only exclusions", func(_ *approval.Policy, r *approval.Rule) { r.Branches = []string{"!main"} },
			[]found{{approval.CodeNoPattern, "rules[0].branches"}},
		},
		{
			"no globs", func(_ *approval.Policy, r *approval.Rule) { r.Branches = nil },
			[]found{{approval.CodeCount, "rules[0].branches"}},
		},
		{"no name", func(_ *approval.Policy, r *approval.Rule) { r.Name = " " }, []found{{approval.CodeName, "rules[0].name"}}},
		{"a name that hides", func(_ *approval.Policy, r *approval.Rule) { r.Name = "a\u200bb" }, []found{{approval.CodeName, "rules[0].name"}}},
		{
			"a rule twice", func(p *approval.Policy, _ *approval.Rule) { p.Rules = append(p.Rules, p.Rules[0]) },
			[]found{{approval.CodeDuplicate, "rules[1].name"}},
		},
		{"59 seconds", func(_ *approval.Policy, r *approval.Rule) { r.ExpiresAfterSeconds = 59 }, []found{{approval.CodeExpiry, "rules[0].expiresAfterSeconds"}}},
		{"countersigned keys", func(_ *approval.Policy, r *approval.Rule) { r.Keys = &approval.KeyDemand{Countersigned: true} }, nil},
		{"models", func(_ *approval.Policy, r *approval.Rule) {
			r.Keys = &approval.KeyDemand{Models: []string{alpha, beta}}
		}, nil},
		{"a model that the server does not know", func(_ *approval.Policy, r *approval.Rule) {
			r.Keys = &approval.KeyDemand{Models: []string{"00000000-0000-0000-0000-000000000004", beta}}
		}, []found{{approval.CodeUnknownModel, "rules[0].keys.models[0]"}}},
		{"a model that is none", func(_ *approval.Policy, r *approval.Rule) {
			r.Keys = &approval.KeyDemand{Models: []string{strings.ToUpper(alpha), "00000000-0000-0000-0000-000000000000"}}
		}, []found{{approval.CodeModel, "rules[0].keys.models[0]"}, {approval.CodeModel, "rules[0].keys.models[1]"}}},
		{"a model twice", func(_ *approval.Policy, r *approval.Rule) {
			r.Keys = &approval.KeyDemand{Models: []string{alpha, alpha}}
		}, []found{{approval.CodeDuplicate, "rules[0].keys.models[1]"}}},
		{"models out of order", func(_ *approval.Policy, r *approval.Rule) {
			r.Keys = &approval.KeyDemand{Models: []string{beta, alpha}}
		}, []found{{approval.CodeModel, "rules[0].keys.models[1]"}}},
		{"65 models", func(_ *approval.Policy, r *approval.Rule) {
			r.Keys = &approval.KeyDemand{}
			for i := range approval.MaxModels + 1 {
				r.Keys.Models = append(r.Keys.Models, fmt.Sprintf("876ca4f5-2071-c3e9-b255-%012x", i))
			}
		}, []found{{approval.CodeCount, "rules[0].keys.models"}}},
		{"a demand for nothing", func(_ *approval.Policy, r *approval.Rule) { r.Keys = &approval.KeyDemand{} }, []found{{approval.CodeKeys, "rules[0].keys"}}},
		{"1 minute", func(_ *approval.Policy, r *approval.Rule) { r.ExpiresAfterSeconds = 60 }, nil},
		{"90 days", func(_ *approval.Policy, r *approval.Rule) { r.ExpiresAfterSeconds = 90 * 86400 }, nil},
		{"over 90 days", func(_ *approval.Policy, r *approval.Rule) { r.ExpiresAfterSeconds = 90*86400 + 1 }, []found{{approval.CodeExpiry, "rules[0].expiresAfterSeconds"}}},
		{"auto-merge", func(_ *approval.Policy, r *approval.Rule) {
			r.AutoMerge = &approval.AutoMerge{Strategy: "squash", MessageTemplate: "{title} (#{number})"}
		}, nil},
		{"the branch's own strategy", func(_ *approval.Policy, r *approval.Rule) { r.AutoMerge = &approval.AutoMerge{} }, nil},
		{
			"a strategy that is not offered", func(_ *approval.Policy, r *approval.Rule) {
				r.AutoMerge = &approval.AutoMerge{Strategy: "fast_forward"}
			},
			[]found{{approval.CodeNotOffered, "rules[0].autoMerge.strategy"}},
		},
		{
			"no such strategy", func(_ *approval.Policy, r *approval.Rule) { r.AutoMerge = &approval.AutoMerge{Strategy: "octopus"} },
			[]found{{approval.CodeStrategy, "rules[0].autoMerge.strategy"}},
		},
		{"as many cosignatures as there are witnesses", func(_ *approval.Policy, r *approval.Rule) { r.Cosignatures = 2 }, nil},
		{
			"more cosignatures than there are witnesses", func(_ *approval.Policy, r *approval.Rule) { r.Cosignatures = 3 },
			[]found{{approval.CodeFewWitnesses, "rules[0].cosignatures"}},
		},
		{
			"more cosignatures than can be", func(_ *approval.Policy, r *approval.Rule) { r.Cosignatures = 17 },
			[]found{{approval.CodeCosignatures, "rules[0].cosignatures"}},
		},
		{"an unknown placeholder", func(_ *approval.Policy, r *approval.Rule) {
			r.AutoMerge = &approval.AutoMerge{MessageTemplate: "{titel}"}
		}, []found{{approval.CodeTemplate, "rules[0].autoMerge.messageTemplate"}}},
		{"a long template", func(_ *approval.Policy, r *approval.Rule) {
			r.AutoMerge = &approval.AutoMerge{MessageTemplate: strings.Repeat("x", 1001)}
		}, []found{{approval.CodeTemplate, "rules[0].autoMerge.messageTemplate"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := approval.Default()
			test.edit(&p, &p.Rules[0])
			var got []found
			for _, problem := range p.Validate(population) {
				if problem.Message == "" {
					t.Errorf("%s has no message", problem.Code)
				}
				got = append(got, found{problem.Code, problem.Path})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateSaysWhy(t *testing.T) {
	t.Parallel()
	p := approval.Default()
	p.Rules[0].Requirements[0].Quorum = 3
	problems := p.Validate(approval.Population{Writers: []string{"ann", "ben", "ann"}})
	if len(problems) != 1 || problems[0].Message != "Approval asks for 3 approvals, but there are only 2 people with write permission." {
		t.Errorf("got %+v", problems)
	}
}

func TestMergeMessage(t *testing.T) {
	t.Parallel()
	message := approval.MergeMessage{
		Title: "Use {head} literally", Number: 12, Author: "Alice", Source: "feature/x", Destination: "release/1.0",
		Head: head, Approvers: []string{"Bob", "Carol"}, URL: "https://bitbucket.org/w/r/pull-requests/12",
	}
	for _, test := range []struct{ template, want, err string }{
		{"", "", ""},
		{"plain", "plain", ""},
		{"{title} (#{number})\n\nApproved-by: {approvers}\n", "Use {head} literally (#12)\n\nApproved-by: Bob and Carol\n", ""},
		{"{author} {source} {destination} {head} {url}", "Alice feature/x release/1.0 " + head + " https://bitbucket.org/w/r/pull-requests/12", ""},
		{"{{title}} {{{number}}}", "{title} {12}", ""},
		{"{nobody}", "", "no placeholder {nobody}"},
		{"{}", "", "no placeholder {}"},
		{"{title", "", "a single brace; write it twice to mean a brace"},
		{"title}", "", "a single brace; write it twice to mean a brace"},
		{"{ti{tle}", "", "a single brace; write it twice to mean a brace"},
	} {
		got, err := approval.AutoMerge{MessageTemplate: test.template}.Message(message)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if got != test.want || said != test.err {
			t.Errorf("%q: got %q, %q", test.template, got, said)
		}
	}
}

// FuzzParsePolicy: whatever is accepted can be written, read again as the same
// policy, used without a panic, and never has a problem of its own.
func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(document(good)))
	f.Add(approval.Default().Canonical())
	f.Add([]byte(document(good + `,"autoMerge":{"strategy":"squash","messageTemplate":"{title}{{}}"}`)))
	f.Add([]byte(document(good + `,"cosignatures":2`)))
	f.Add([]byte(document(`"name":"R","branches":["{a,b}/**","!c[x-z]"],"requirements":[{"name":"A","quorum":2,"approvers":{"accounts":["1","2"]}}]`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := approval.ParsePolicy(data)
		if err != nil {
			var refusal *approval.PolicyError
			if !errors.As(err, &refusal) || len(refusal.Problems) == 0 || refusal.Error() == "" {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		again, err := approval.ParsePolicy(p.Canonical())
		if err != nil {
			t.Fatalf("canonical form is refused: %v", err)
		}
		if again.Digest() != p.Digest() {
			t.Fatal("the digest is not stable")
		}
		for _, rule := range p.Rules {
			rule.Matches("release/1.0")
			if v := approval.Tally(rule, approval.Facts{}); v.State == approval.Approved {
				t.Fatal("approved by nobody")
			}
			if rule.AutoMerge != nil {
				if _, err := rule.AutoMerge.Message(approval.MergeMessage{}); err != nil {
					t.Fatalf("an accepted template cannot be filled in: %v", err)
				}
			}
		}
	})
}
