package graph

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	graphql "github.com/graph-gophers/graphql-go"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// estate is everything that one tenant has: the identifiers of its objects by kind, and how the way in by
// Bitbucket's own names is asked.
type estate struct {
	gated
	owner  *browser
	number int
	ids    map[string]string // "Workspace", "ApprovalRequest", … and whose they are
}

// estateOf fills a tenant with one object of each kind. who administers the workspace.
func (w *world) estateOf(who, slug, repository, reader string) estate {
	w.t.Helper()
	owner, other := w.signIn(who), w.signIn(reader)
	e := estate{owner: owner}
	workspaceID := owner.connect(who)
	found := owner.ask(`query($id: ID!) { node(id: $id) { ... on Workspace { uuid bitbucketRepositories { edges { node { uuid fullName } } } } } }`, map[string]any{"id": workspaceID})
	e.gated = gated{workspace: found.text("node.uuid"), repository: found.text("node.bitbucketRepositories.edges.0.node.uuid"), workspaceID: workspaceID}
	e.repositoryID = owner.do("saveRepository", "repository { id }", map[string]any{
		"workspaceId": workspaceID, "repositoryUuid": e.repository, "rules": []any{ruleFor(1)},
	}).text("repository.id")
	w.settle()
	_, err := w.sim.Push(bitbucketsim.Push{Repository: slug + "/" + repository, Branch: "feature/secret", Person: who, Files: map[string]string{"secret.txt": "of " + slug + "\n"}})
	w.must(err)
	opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: slug + "/" + repository, Author: who, Title: "Secret of " + slug, Source: "feature/secret", Destination: "release/1.0"})
	w.must(err)
	e.number = opened.ID
	w.event(e.gated, opened.ID)
	panel := other.ask(panelQuery, map[string]any{"w": e.workspace, "r": e.repository, "n": e.number})
	other.enrol()
	made := other.decide(panel.text("pullRequest.request.id"), "APPROVE")
	w.settle()
	policy := owner.ask(`query($id: ID!) { node(id: $id) { ... on Repository { policy { id } } } }`, map[string]any{"id": e.repositoryID})
	token := owner.do("createApiToken", "apiToken { id }", map[string]any{"workspaceId": workspaceID, "name": "script", "scopes": []string{"READ"}})
	mine := other.ask(`{ viewer { person { id } passkeys { id } notices { edges { node { id } } } } }`, nil)
	e.ids = map[string]string{
		"Workspace": workspaceID, "Repository": e.repositoryID, "PolicyVersion": policy.text("node.policy.id"), "PullRequest": panel.text("pullRequest.id"),
		"ApprovalRequest": panel.text("pullRequest.request.id"), "Decision": made.text("decision.id"), "ApiToken": token.text("apiToken.id"),
		"Person": mine.text("viewer.person.id"), "Passkey": mine.text("viewer.passkeys.0.id"), "Notice": mine.text("viewer.notices.edges.0.node.id"),
	}
	for kind, id := range e.ids {
		if id == "" {
			w.t.Fatalf("%s has no %s", slug, kind)
		}
	}
	return e
}

// twoTenants are acme of alice and bob, and globex of mallory and trent, who are nobody in acme.
func twoTenants(t *testing.T) (w *world, acme, globex estate) {
	t.Helper()
	w = newWorld(t)
	_, err := w.sim.AddPerson(bitbucketsim.Person{Nickname: "trent"})
	w.must(err)
	_, err = w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "globex", Owners: []string{"mallory"}, Members: []string{"trent"}})
	w.must(err)
	_, err = w.sim.AddRepository(bitbucketsim.Repository{Workspace: "globex", Slug: "lair", Permissions: map[string]string{"trent": "write"}})
	w.must(err)
	_, err = w.sim.Push(bitbucketsim.Push{Repository: "globex/lair", Branch: "release/1.0", Person: "mallory"})
	w.must(err)
	return w, w.estateOf("alice", "acme", "rocket", "bob"), w.estateOf("mallory", "globex", "lair", "trent")
}

// forged are identifiers of the victim's objects that claim to lie in the attacker's workspace, or to be
// of another kind.
func forged(victim, attacker estate) map[string]string {
	ids := map[string]string{}
	for kind, id := range victim.ids {
		ids[kind] = id
		raw, _ := base64.RawURLEncoding.DecodeString(id)
		parts := strings.SplitN(string(raw), ":", 3)
		if parts[1] != "" {
			ids[kind+" in the attacker's workspace"] = base64.RawURLEncoding.EncodeToString([]byte(parts[0] + ":" + attacker.workspace + ":" + parts[2]))
		}
		for _, k := range []string{"workspace", "repository", "pull-request", "request", "alarm"} {
			ids[kind+" as "+k] = base64.RawURLEncoding.EncodeToString([]byte(k + ":" + attacker.workspace + ":" + parts[2]))
			ids[kind+" as "+k+" of the victim"] = base64.RawURLEncoding.EncodeToString([]byte(k + ":" + victim.workspace + ":" + parts[2]))
		}
	}
	return ids
}

// inputFor fills an input: every ID with the victim's, everything else with something that is well-formed.
func inputFor(schema *ast.Schema, input *ast.Definition, id, repository string) map[string]any {
	filled := map[string]any{}
	for _, f := range input.Fields {
		filled[f.Name] = valueFor(schema, f.Name, f.Type, id, repository)
	}
	return filled
}

func valueFor(schema *ast.Schema, name string, typ *ast.Type, id, repository string) any {
	if typ.Elem != nil {
		return []any{valueFor(schema, name, typ.Elem, id, repository)}
	}
	definition := schema.Types[typ.Name()]
	switch {
	case strings.HasSuffix(name, "Uuid"):
		return repository
	case typ.Name() == "ID":
		return id
	case typ.Name() == "Int":
		return 1
	case typ.Name() == "Boolean":
		return name == "everyone"
	case definition.Kind == ast.Enum:
		return definition.EnumValues[0].Name
	case definition.Kind == ast.InputObject:
		filled := inputFor(schema, definition, id, repository)
		delete(filled, "approvers")
		delete(filled, "autoMerge")
		delete(filled, "expiresAfterSeconds")
		return filled
	case name == "response": // an authenticator's answer in the right form
		text := base64.RawURLEncoding.EncodeToString
		return fmt.Sprintf(`{"id":"AAAA","rawId":"AAAA","type":"public-key","response":{"authenticatorData":"%s","clientDataJSON":"%s","signature":"AAAA"}}`,
			text(make([]byte, 37)), text([]byte(`{"type":"webauthn.get","challenge":"AAAA","origin":"`+origin+`"}`)))
	case name == "headCommit":
		return strings.Repeat("0", 40)
	case name == "branches":
		return "main"
	}
	return "x"
}

// TestNoTenantReachesAnother takes every identifier of one tenant, as it is and forged, to every query,
// mutation and subscription that takes one, as an administrator of another tenant and by an API token of
// that tenant. The SDL says which fields there are, so a new one is attacked as soon as it is written.
func TestNoTenantReachesAnother(t *testing.T) {
	t.Parallel()
	w, acme, globex := twoTenants(t)
	mallory := globex.owner
	token := mallory.do("createApiToken", "secret", map[string]any{"workspaceId": globex.workspaceID, "name": "script", "scopes": []string{"CONFIGURE"}}).text("secret")
	own := map[string]bool{} // what mallory's own workspace answers by the same words
	for _, id := range globex.ids {
		own[id] = true
	}
	before := acme.owner.ask(panelQuery, map[string]any{"w": acme.workspace, "r": acme.repository, "n": acme.number})
	ids := forged(acme, globex)
	everything := slices.Sorted(maps.Keys(ids))

	send := map[string]func(query string, variables map[string]any) reply{
		"session": func(query string, variables map[string]any) reply {
			w.handler.meter.purses.Purge() // an attacker has time
			return mallory.send(query, variables)
		},
		"token": func(query string, variables map[string]any) reply {
			w.handler.meter.purses.Purge()
			return w.script(token, query, variables)
		},
		// The victim's own administrator, in the frame of an installation in the attacker's workspace.
		"frame": func(query string, variables map[string]any) reply {
			w.handler.meter.purses.Purge()
			return w.script("frame", query, variables)
		},
	}
	alice, err := w.people.Session(t.Context(), acme.owner.cookie)
	w.must(err)
	w.frames = map[string]Caller{"frame": {Kind: Forge, Person: alice.Person, Workspace: globex.workspace}}
	stream, _, err := w.people.CreateStreamToken(t.Context(), *alice.Person, globex.workspace)
	w.must(err)
	attacks := 0
	for _, what := range everything {
		id := ids[what]
		if own[id] {
			continue
		}
		for caller, send := range send {
			got := send(`query($id: ID!) { node(id: $id) { __typename id ... on PullRequest { title } ... on Workspace { slug } } }`, map[string]any{"id": id})
			attacks++
			if node, _ := object(got.Data)["node"].(map[string]any); node != nil && !harmless(w.t, id, globex) {
				t.Errorf("%s: node(%s): %s", caller, what, got.body)
			}
		}
	}
	for caller, send := range send {
		for _, query := range []string{
			`query($w: String!, $r: String!, $n: Int!) { pullRequest(workspace: $w, repository: $r, number: $n) { title } }`,
			`query($w: String!) { workspace(key: $w) { name } }`,
		} {
			for _, where := range []map[string]any{
				{"w": acme.workspace, "r": acme.repository, "n": acme.number},
				{"w": "acme", "r": "rocket", "n": acme.number},
				{"w": globex.workspace, "r": acme.repository, "n": acme.number},
			} {
				if !strings.Contains(query, "$r") && where["w"] == globex.workspace {
					continue
				}
				variables := maps.Clone(where)
				if !strings.Contains(query, "$r") {
					delete(variables, "r")
					delete(variables, "n")
				}
				got := send(query, variables)
				attacks++
				for name, value := range got.Data {
					if value != nil {
						t.Errorf("%s: %s of %v: %s", caller, name, where, got.body)
					}
				}
			}
		}
	}

	schema := w.handler.engine.contract.Schema
	// They concern the session that calls, whatever they are given.
	const personal = "signOut beginConnect beginPasskey finishPasskey confirmPasskey reportLostPasskeys signKeyAct signProposal redeemTicket"
	for _, field := range schema.Mutation.Fields {
		if strings.Contains(personal, field.Name) || strings.HasPrefix(field.Name, "__") {
			continue
		}
		input := schema.Types[field.Arguments[0].Type.Name()]
		query := fmt.Sprintf("mutation($input: %s!) { %s(input: $input) { userErrors { code message } } }", input.Name, field.Name)
		for _, what := range everything {
			for caller, send := range send {
				for _, repository := range []string{acme.repository, "{" + acme.repository + "}"} {
					variables := map[string]any{"input": inputFor(schema, input, ids[what], repository)}
					got := send(query, variables)
					attacks++
					data := object(got.Data)
					code := data.text(field.Name + ".userErrors.0.code")
					if code == "" {
						code = got.code()
					}
					if code != "NOT_FOUND" && code != codeForbidden {
						t.Errorf("%s: %s(%s): %s", caller, field.Name, what, got.body)
					}
					if strings.Contains(got.body, "acme") || strings.Contains(got.body, "Secret") {
						t.Errorf("%s: %s(%s) tells: %s", caller, field.Name, what, got.body)
					}
				}
			}
		}
	}
	for _, field := range schema.Subscription.Fields {
		if len(field.Arguments) == 0 {
			continue
		}
		for _, what := range everything {
			for caller, show := range map[string]func(*http.Request){
				"session": func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "signedapproval", Value: mallory.cookie}) },
				"stream":  func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+string(stream)) },
			} {
				body := w.overhear(fmt.Sprintf("subscription($id: ID!) { %s(id: $id) { id title } }", field.Name), map[string]any{"id": ids[what]}, show)
				attacks++
				if !strings.Contains(body, `"code":"NOT_FOUND"`) || strings.Contains(body, "Secret") {
					t.Errorf("%s: %s(%s): %s", caller, field.Name, what, body)
				}
			}
		}
	}
	if attacks < 500 {
		t.Errorf("only %d attacks: the SDL was not read", attacks)
	}
	w.settle()
	after := acme.owner.ask(panelQuery, map[string]any{"w": acme.workspace, "r": acme.repository, "n": acme.number})
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("acme changed:\n%v\n%v", before, after)
	}
}

// overhear gives all that a subscription says until it ends.
func (w *world) overhear(query string, variables map[string]any, show func(*http.Request)) string {
	w.t.Helper()
	w.handler.meter.purses.Purge()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL, strings.NewReader(jsonOf(map[string]any{"query": query, "variables": variables})))
	w.must(err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	show(r)
	response, err := http.DefaultClient.Do(r)
	w.must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	w.must(err)
	return string(body)
}

// harmless tells whether an identifier is the attacker's own object after all: the workspace is looked up
// by the first of its two ids.
func harmless(t *testing.T, id string, attacker estate) bool {
	t.Helper()
	a, ok := parseID(graphql.ID(id))
	return ok && a.workspace == attacker.workspace && a.kind == kindWorkspace
}

// TestAForgedWorkspaceIDIsNone: an identifier has one form, so two texts never name one workspace.
func TestAForgedWorkspaceIDIsNone(t *testing.T) {
	t.Parallel()
	const one, two = "11111111-2222-4333-8444-555555555555", "11111111-2222-4333-8444-666666666666"
	if _, ok := parseID(nodeID(kindWorkspace, one, two)); ok {
		t.Error("a workspace's identifier may name two workspaces")
	}
}
