package graph

import (
	"fmt"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/store"
)

const enforcementQuery = `{ workspace(key: "acme") { repository(key: "rocket") { id
	enforcement { pattern state checkedAt changedAt reasons { code sentence fix steps } }
	mergeChecks { number onMerge headCommit destinationBranch askedBy { accountId name } allowed code sentence askedAt }
	violations(first: 1) { edges { node { number pullRequest { title } destinationBranch mergeCommit asked allowed sentence seenAt } } pageInfo { hasNextPage endCursor } } } } }`

// examine does what the doctor's job does.
func (w *world) examine(g gated) {
	w.t.Helper()
	_, err := w.spaces.Examine(w.t.Context(), g.workspace, g.repository)
	w.must(err)
}

// An administrator sees what is enforced, mends what can be mended, and sees merges around the gate.
func TestEnforcement(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	if shown := alice.ask(enforcementQuery, nil); fmt.Sprint(shown.at("workspace.repository.enforcement")) != "[]" {
		t.Errorf("before the first look: %v", shown)
	}
	w.examine(g)
	pattern := alice.ask(enforcementQuery, nil).text("workspace.repository.enforcement.0.pattern")
	if open := alice.ask(enforcementQuery, nil); open.text("workspace.repository.enforcement.0.state") != "OPEN" ||
		open.text("workspace.repository.enforcement.0.reasons.0.fix") != "RESTRICT_PUSH" || open.text("workspace.repository.enforcement.0.reasons.0.sentence") == "" {
		t.Errorf("at first: %v", open)
	}
	input := map[string]any{"repositoryId": g.repositoryID, "pattern": pattern, "fixes": []any{"RESTRICT_PUSH", "REQUIRE_BUILD"}}
	selection := "repository { enforcement { state reasons { code fix steps } } } leftToDo"
	if no := bob.try("fixEnforcement", selection, input); no.text("userErrors.0.code") != "FORBIDDEN" || no.at("repository") != nil {
		t.Errorf("bob mends: %v", no)
	}
	mended := alice.do("fixEnforcement", selection, input)
	left, _ := mended.at("leftToDo").([]any)
	if mended.text("repository.enforcement.0.state") != "UNKNOWN" || mended.text("repository.enforcement.0.reasons.0.code") != "CHECK_NEVER_SEEN" || len(left) != 3 {
		t.Errorf("mended: %v", mended)
	}
	wrong := map[string]any{"repositoryId": g.repositoryID, "pattern": "elsewhere", "fixes": []any{"RESTRICT_PUSH"}}
	if no := alice.try("fixEnforcement", selection, wrong); no.text("userErrors.0.code") != "BAD_INPUT" || no.text("userErrors.0.path.0") != "pattern" {
		t.Errorf("an unknown pattern: %v", no)
	}

	for i := range 2 {
		number := w.open(g, fmt.Sprintf("feature/%d", i), fmt.Sprintf("Change %d", i))
		got := w.gate.MergeCheck(t.Context(), gate.MergeQuestion{
			Workspace: g.workspace, Repository: g.repository, Number: int64(number), Trigger: store.CheckOnMerge, AccountID: alice.accountID(),
		})
		if got.Success {
			t.Fatalf("answered %+v", got)
		}
		w.land(g, number)
	}
	for name, who := range map[string]*browser{"alice": alice, "bob": bob} {
		shown := who.ask(enforcementQuery, nil)
		check := "workspace.repository.mergeChecks.0."
		if shown.at(check+"allowed") != false || shown.at(check+"onMerge") != true || shown.text(check+"askedBy.name") != "Alice" ||
			len(shown.text(check+"headCommit")) != 40 || shown.text(check+"code") != "PENDING" {
			t.Errorf("%s sees %v", name, shown)
		}
		node := "workspace.repository.violations.edges.0.node."
		if shown.at(node+"asked") != true || shown.at(node+"allowed") != false || shown.text(node+"pullRequest.title") != "Change 1" ||
			len(shown.text(node+"mergeCommit")) != 40 || shown.at("workspace.repository.violations.pageInfo.hasNextPage") != true {
			t.Errorf("%s sees %v", name, shown)
		}
		rest := who.ask(`query($after: String) { workspace(key: "acme") { repository(key: "rocket") { violations(after: $after) { edges { node { number } } } } } }`,
			map[string]any{"after": shown.at("workspace.repository.violations.pageInfo.endCursor")})
		if edges, _ := rest.at("workspace.repository.violations.edges").([]any); len(edges) != 1 || rest.at("workspace.repository.violations.edges.0.node.number") != 1.0 {
			t.Errorf("the next page is %v", rest)
		}
	}
	w.examine(g)
	if warns := alice.ask(enforcementQuery, nil); warns.text("workspace.repository.enforcement.0.state") != "WARNS_ONLY" ||
		warns.text("workspace.repository.enforcement.0.reasons.0.code") != "CHECK_OVERRIDDEN" {
		t.Errorf("after merges around the gate: %v", warns)
	}
}

// What is enforced costs the same number of statements however many repositories, checks and
// violations a list shows.
func TestStatementsDoNotGrowWithEnforcement(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.signIn("alice")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	for i := range 4 {
		made, err := w.sim.AddRepository(bitbucketsim.Repository{Workspace: "acme", Slug: fmt.Sprintf("tool%d", i)})
		w.must(err)
		alice.do("saveRepository", "repository { id }", map[string]any{
			"workspaceId": g.workspaceID, "repositoryUuid": strings.Trim(made.UUID, "{}"), "rules": []any{ruleFor(1)},
		})
		_, err = w.spaces.Examine(t.Context(), g.workspace, strings.Trim(made.UUID, "{}"))
		w.must(err)
	}
	w.examine(g)
	for i := range 3 {
		w.land(g, w.open(g, fmt.Sprintf("feature/%d", i), "Change"))
	}
	for name, query := range map[string]string{
		"repositories": `query($n: Int) { workspace(key: "acme") { repositories(first: $n) { edges { node { enforcement { state reasons { code } } mergeChecks { code askedBy { name } } } } } } }`,
		"violations":   `query($n: Int) { workspace(key: "acme") { repository(key: "rocket") { violations(first: $n) { edges { node { number pullRequest { title } } } } } } }`,
	} {
		few, many := alice.statements(query, map[string]any{"n": 1}), alice.statements(query, map[string]any{"n": 3})
		if few != many {
			t.Errorf("%s: %d statements for 1, %d for 3", name, few, many)
		}
	}
}

// accountID is the Bitbucket account of whoever signed in.
func (b *browser) accountID() string {
	b.t.Helper()
	session, err := b.people.Session(b.t.Context(), b.cookie)
	b.must(err)
	return session.Person.AccountID
}

// land merges a pull request at Bitbucket, past the gate, and has the gate look.
func (w *world) land(g gated, number int) {
	w.t.Helper()
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	w.must(err)
	client := bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL()}).As(token.AccessToken, "test", bitbucket.Foreground)
	_, err = client.Merge(w.t.Context(), g.workspace, g.repository, int64(number), bitbucket.MergeOptions{})
	w.must(err)
	w.event(g, number)
}
