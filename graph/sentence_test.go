package graph

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/gate"
)

// What a rule could be made to look like: texts with the sentence's own words and quotes in them.
var hostile = []string{
	"main", "release/*", "main, release/*", "main”, “release/*", `main\`, `main\”, “release/*`, "main; it has 1 requirement: Approval", "Alice", "Alice, Bob", "Alice” (a), “Bob",
	"Approval, 2 of 3 people: “Alice” (a)",
}

// Two rules that differ never read alike, whatever they and the people in them are called.
func TestRulesThatDifferReadDifferently(t *testing.T) {
	t.Parallel()
	r := &resolver{gate: &gate.Gate{}}
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string { return hostile[random.IntN(len(hostile))] }
	texts := func() (list []string) {
		for range 1 + random.IntN(2) {
			list = append(list, text())
		}
		return list
	}
	names := map[string]string{"a": "Alice", "b": "Alice", "c": "Alice, Bob", "d": "Alice” (a), “Bob"}
	approvers := func() (a approval.Approvers) {
		a.Everyone = random.IntN(3) == 0
		for _, id := range []string{"a", "b", "c", "d"} {
			if !a.Everyone && random.IntN(2) == 0 {
				a.Accounts = append(a.Accounts, id)
			}
		}
		return a
	}
	read := map[string]string{}
	for range 20_000 {
		rule := approval.Rule{Name: text(), Branches: texts(), AuthorMayApprove: random.IntN(2) == 0, ExpiresAfterSeconds: int64(60 + random.IntN(3)), Cosignatures: random.IntN(2)}
		for range 1 + random.IntN(2) {
			rule.Requirements = append(rule.Requirements, approval.Requirement{Name: text(), Quorum: 1 + random.IntN(2), Approvers: approvers()})
		}
		if random.IntN(3) == 0 {
			rule.Override = &approval.OverrideBy{Quorum: 1 + random.IntN(2), Approvers: approvers()}
		}
		if random.IntN(3) == 0 {
			rule.AutoMerge = &approval.AutoMerge{Strategy: "squash", CloseSourceBranch: random.IntN(2) == 0, MessageTemplate: text()}
		}
		if random.IntN(3) == 0 {
			rule.Keys = &approval.KeyDemand{Countersigned: random.IntN(2) == 0, Models: []string{"ee882879-721c-4913-9775-3dfcce97072a"}}
		}
		document, err := json.Marshal(rule)
		if err != nil {
			t.Fatal(err)
		}
		said := r.ruleSentence(rule, names)
		if other, known := read[said]; known && other != string(document) {
			t.Fatalf("both %s\nand  %s\nread %s", other, document, said)
		}
		read[said] = string(document)
	}
	if len(read) < 10_000 {
		t.Errorf("only %d different rules were tried", len(read))
	}
}

// A name may hold characters that look like quotes: a reader who takes no notice of any still counts.
func TestListsAreCounted(t *testing.T) {
	t.Parallel()
	r := &resolver{gate: &gate.Gate{}}
	bare := func(branches ...string) string {
		said := r.ruleSentence(approval.Rule{Name: "Default", Branches: branches, ExpiresAfterSeconds: 60}, nil)
		return strings.NewReplacer("“", "", "”", "", `\`, "", "〝", "", "〞", "").Replace(said)
	}
	if two, one := bare("main", "develop"), bare("main〞, 〝develop"); two == one {
		t.Errorf("without quotes both read %s", one)
	}
}

// Rules that differ read differently to whoever signs them, whatever their names and patterns say.
func TestNoRuleReadsLikeAnother(t *testing.T) {
	t.Parallel()
	rule := approval.Rule{
		Name: "Default", Branches: []string{"main", "release/*"}, ExpiresAfterSeconds: 60,
		Requirements: []approval.Requirement{
			{Name: "Leads", Quorum: 1, Approvers: approval.Approvers{Accounts: []string{"a", "b"}}}, {Name: "All", Quorum: 2, Approvers: approval.Approvers{Everyone: true}},
		},
	}
	names := map[string]string{"a": "Alice", "b": "Bob", "c": "Alice, Bob", "d": "Alice", "e": "Alice” (“a”), “Bob"}
	r := &resolver{gate: &gate.Gate{}}
	honest := r.ruleSentence(rule, names)
	const want = "“Default”, for 2 branch patterns: “main”, “release/*”; it has 2 requirements: “Leads”, 1 of 2 people: “Alice” (a), “Bob” (b), “All”, 2 of all who can write; a request expires after 1 minute."
	if honest != want {
		t.Errorf("it says %s", honest)
	}
	for name, forge := range map[string]func(r *approval.Rule){
		"two patterns in one":          func(r *approval.Rule) { r.Branches = []string{"main, release/*"} },
		"two patterns in one, quoted":  func(r *approval.Rule) { r.Branches = []string{"main”, “release/*"} },
		"a demand in a pattern":        func(r *approval.Rule) { r.Branches = []string{"main”, “release/*”, needs “Leads"} },
		"a name that holds two":        func(r *approval.Rule) { r.Requirements[0].Approvers.Accounts = []string{"c"} },
		"a name that holds two quoted": func(r *approval.Rule) { r.Requirements[0].Approvers.Accounts = []string{"e"} },
		"somebody of the same name":    func(r *approval.Rule) { r.Requirements[0].Approvers.Accounts = []string{"d", "b"} },
		"a demand in a name": func(r *approval.Rule) {
			r.Requirements = r.Requirements[:1]
			r.Requirements[0] = approval.Requirement{
				Name: "Leads”: 1 of “Alice” (“a”), “Bob” (“b”); “All", Quorum: 2, Approvers: approval.Approvers{Everyone: true},
			}
		},
	} {
		forged := rule
		forged.Requirements = slices.Clone(rule.Requirements)
		forge(&forged)
		if r.ruleSentence(forged, names) == honest {
			t.Errorf("%s reads like the rule", name)
		}
	}
}
