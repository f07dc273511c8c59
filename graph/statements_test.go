package graph

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/frontend"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

// statements counts what a query costs the database, once what Bitbucket says of the viewer is known.
func (b *browser) statements(query string, variables map[string]any) int64 {
	b.t.Helper()
	b.ask(query, variables)
	before := b.count.Load()
	b.ask(query, variables)
	return b.count.Load() - before
}

// A list costs the same number of statements however long it is.
func TestStatementsDoNotGrowWithLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	for i := range 50 {
		w.open(g, fmt.Sprintf("feature/%d", i), fmt.Sprintf("Change %d", i))
	}
	const request = `id state sentence requirements { name missing canStillApprove { name } } decisions { action account { name } } viewerCan { approve code } rule { name }
		pullRequest { number title status { state paid } merge { state } author { name }
			repository { fullName viewerCanConfigure policy { version createdBy { name } rules { requirements { quorum approvers { name } } } } workspace { name } } }`
	const page = `pageInfo { hasNextPage endCursor }`
	for _, c := range []struct {
		name, query string
		many        int
	}{
		{"waiting", `query($n: Int) { viewer { waiting(first: $n) { edges { node { id state viewerCan { approve } pullRequest { number title repository { fullName policy { version createdBy { name } } viewerCanConfigure } } } } ` + page + ` } } }`, 20},
		{"requests", `query($n: Int) { workspace(key: "acme") { requests(first: $n) { edges { node { ` + request + ` } } ` + page + ` } } }`, 10},
		{"pull requests", `query($n: Int) { workspace(key: "acme") { repository(key: "rocket") { pullRequests(first: $n) { edges { node { number title sentence status { state } request { state decisions { action } } repository { policy { version } viewerCanConfigure } } } ` + page + ` } } } }`, 20},
		{"notices", `query($n: Int) { viewer { notices(first: $n) { edges { node { title } } ` + page + ` } } }`, 50},
	} {
		few, many := bob.statements(c.query, map[string]any{"n": 2}), bob.statements(c.query, map[string]any{"n": c.many})
		if few != many {
			t.Errorf("%s: %d statements for 2, %d for %d", c.name, few, many, c.many)
		}
		t.Logf("%s: %d statements", c.name, many)
	}
	short := `query($n: Int) { viewer { waiting(first: $n) { edges { node { state pullRequest { title repository { fullName } } } } ` + page + ` } } }`
	list := bob.ask(short, map[string]any{"n": 50})
	if edges, _ := list.at("viewer.waiting.edges").([]any); len(edges) != 50 || list.at("viewer.waiting.pageInfo.hasNextPage") != false {
		t.Errorf("%d of 50 are listed", len(edges))
	}
	if few, many := bob.statements(short, map[string]any{"n": 1}), bob.statements(short, map[string]any{"n": 50}); few != many {
		t.Errorf("short waiting: %d statements for 1, %d for 50", few, many)
	}
}

func TestStatementsDoNotGrowWithRepositories(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	for i := range 5 {
		made, err := w.sim.AddRepository(bitbucketsim.Repository{Workspace: "acme", Slug: fmt.Sprintf("tool%d", i), Permissions: map[string]string{"bob": "write"}})
		w.must(err)
		alice.do("saveRepository", "repository { id }", map[string]any{
			"workspaceId": g.workspaceID, "repositoryUuid": strings.Trim(made.UUID, "{}"), "rules": []any{ruleFor(1)},
		})
	}
	w.settle()
	const query = `query($n: Int) { workspace(key: "acme") { repositories(first: $n) { edges { node { name state viewerCanConfigure
		policy { version createdBy { name } rules { requirements { quorum approvers { name } } } } } } } } }`
	for name, who := range map[string]*browser{"alice": alice, "bob": bob} {
		list := who.ask(query, map[string]any{"n": 6})
		if edges, _ := list.at("workspace.repositories.edges").([]any); len(edges) != 6 {
			t.Errorf("%s sees %d of 6", name, len(edges))
		}
		if may := list.at("workspace.repositories.edges.0.node.viewerCanConfigure"); may != (name == "alice") {
			t.Errorf("%s may configure: %v", name, may)
		}
		if few, many := who.statements(query, map[string]any{"n": 2}), who.statements(query, map[string]any{"n": 6}); few != many {
			t.Errorf("%s: %d statements for 2, %d for 6", name, few, many)
		}
	}
}

func TestStatementsDoNotGrowWithAlarms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	const query = `{ workspace(key: "acme") { alarms { kind sentence pullRequest { number } } } }`
	var counts []int64
	for i := range 3 {
		number := w.open(g, fmt.Sprintf("feature/%d", i), "Change")
		panel := alice.ask(panelQuery, map[string]any{"w": g.workspace, "r": g.repository, "n": number})
		a, _ := parseID(graphql.ID(panel.text("pullRequest.id")))
		w.must(w.store.InWorkspace(t.Context(), g.workspace, func(tx *store.Tx) error {
			_, err := tx.RaiseAlarm(t.Context(), store.Alarm{Kind: store.AlarmForeignStatus, PullRequestID: &a.id, Subject: a.id, Sentence: "Somebody wrote."})
			return err
		}))
		counts = append(counts, alice.statements(query, nil))
	}
	shown := alice.ask(query, nil)
	if shown.at("workspace.alarms.0.pullRequest.number") != 3.0 || shown.at("workspace.alarms.2.pullRequest.number") != 1.0 {
		t.Errorf("alarms %v", shown)
	}
	if counts[0] != counts[2] {
		t.Errorf("statements for 1, 2 and 3 alarms: %v", counts)
	}
	if seen := bob.ask(query, nil); seen.at("workspace.alarms") != nil {
		t.Errorf("bob sees %v", seen)
	}
}

// What the panel costs the database, the session's and the transactions' statements included.
func TestStatementsOfThePanel(t *testing.T) {
	t.Parallel()
	const most = 17
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	number := w.open(g, "feature/a", "Add a")
	where := map[string]any{"workspace": g.workspace, "repository": g.repository, "number": number}
	if n := bob.statements(registered(t, "Panel"), where); n > most {
		t.Errorf("%d statements, at most %d", n, most)
	} else {
		t.Logf("%d statements", n)
	}
}

// registered gives the text of one of the front end's own operations.
func registered(t *testing.T, name string) string {
	t.Helper()
	texts := make(map[string]string)
	if err := json.Unmarshal(frontend.PersistedDocuments(), &texts); err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if strings.Contains(text, "query "+name+"(") {
			return text
		}
	}
	t.Fatalf("the front end has no query %s", name)
	return ""
}
