package graph

import (
	"net/http"
	"testing"
	"time"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

func (b *browser) listen(query string, variables map[string]any) *events {
	b.t.Helper()
	return listenAs(b.t, b.server, query, variables, func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "signedapproval", Value: b.cookie}) })
}

// until reads events until one satisfies ok: more than one may be on its way.
func (e *events) until(what string, ok func(object) bool) {
	e.t.Helper()
	for {
		name, got := e.next()
		if name != "next" || len(got.Errors) > 0 {
			e.t.Fatalf("%s: %q %s", what, name, got.body)
		}
		if ok(object(got.Data)) {
			return
		}
	}
}

const changed = `subscription($id: ID!) { pullRequestChanged(id: $id) { version headCommit request { round state viewerCan { approve } } } }`

func TestPanelFollowsThePullRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	number := w.open(g, "feature/a", "Add a")
	bob.enrol()
	panel := bob.ask(panelQuery, map[string]any{"w": g.workspace, "r": g.repository, "n": number})
	id, request := panel.text("pullRequest.id"), panel.text("pullRequest.request.id")

	e := bob.listen(changed, map[string]any{"id": id})
	e.until("the start", func(o object) bool {
		return o.text("pullRequestChanged.request.state") == "PENDING" && o.at("pullRequestChanged.request.viewerCan.approve") == true
	})
	bob.decide(request, "APPROVE")
	w.settle()
	e.until("the approval", func(o object) bool { return o.text("pullRequestChanged.request.state") == "APPROVED" })
	pushed, err := w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "feature/a", Person: "alice", Files: map[string]string{"b.txt": "b\n"}})
	w.must(err)
	w.event(g, number)
	e.until("the push", func(o object) bool {
		return o.text("pullRequestChanged.headCommit") == pushed.Hash && o.at("pullRequestChanged.request.round") == 2.0 &&
			o.text("pullRequestChanged.request.state") == "PENDING"
	})

	if got := w.signIn("mallory").listen(changed, map[string]any{"id": id}); got.status == http.StatusOK {
		got.wantEnd("NOT_FOUND")
	}
	if got := bob.listen(changed, map[string]any{"id": "nonsense"}); got.status != http.StatusNotFound {
		t.Errorf("a malformed identifier: %d", got.status)
	}
}

// A panel whose ring was lost learns of the change by looking.
func TestPanelHealsALostRing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handler.pace.poll = 50 * time.Millisecond
	w.store.Changed = nil // every ring is lost
	alice := w.signIn("alice")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	number := w.open(g, "feature/a", "Add a")
	id := alice.ask(panelQuery, map[string]any{"w": g.workspace, "r": g.repository, "n": number}).text("pullRequest.id")
	e := alice.listen(changed, map[string]any{"id": id})
	e.until("the start", func(o object) bool { return o.at("pullRequestChanged.request.round") == 1.0 })
	_, err := w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "feature/a", Person: "alice", Files: map[string]string{"b.txt": "b\n"}})
	w.must(err)
	w.event(g, number)
	e.until("the push", func(o object) bool { return o.at("pullRequestChanged.request.round") == 2.0 })
}

func TestInboxFollowsTheNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, carol := w.signIn("alice"), w.signIn("carol")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	me, ok := parseID(graphql.ID(carol.ask(`{ viewer { person { id } } }`, nil).text("viewer.person.id")))
	if !ok {
		t.Fatal("no identifier")
	}
	e := carol.listen(`subscription { inboxChanged { unreadNotices waiting { edges { node { pullRequest { title } } } } } }`, nil)
	e.until("the start", func(o object) bool { return o.at("inboxChanged.unreadNotices") == 0.0 })
	w.open(g, "feature/a", "Add a")
	e.until("the request", func(o object) bool {
		return o.at("inboxChanged.unreadNotices") == 1.0 && o.text("inboxChanged.waiting.edges.0.node.pullRequest.title") == "Add a"
	})
	carol.do("signOut", "", map[string]any{})
	w.must(w.store.Outside(t.Context(), func(sh *store.Shared) error { sh.Touch("inbox:" + me.id); return nil }))
	e.wantEnd(codeUnauthenticated)
}
