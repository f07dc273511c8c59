package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// What a token may change. Everything else that changes something needs a person in a browser.
var forTokens = []string{"saveRepository", "removeRepository", "ringPullRequest", "renewRequest"}

// TestTokens holds what the README says of API tokens, through the doors of the whole server.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newTokenWorld(t)
	t.Run("every change but four is refused", w.changes)
	t.Run("READ does not configure", w.reads)
	t.Run("what is a person's own is refused", w.personal)
	t.Run("another workspace does not exist", w.elsewhere)
	t.Run("a token that is none", w.invalid)
	t.Run("a revoked token", w.revoked) // the last: it is the token of the others
}

// tokenWorld has two workspaces, each with a gated repository and a pull request. alice may see all
// of it, and has tokens for one.
type tokenWorld struct {
	*tale
	dave              *stage.Person
	globex            stage.Workspace
	theirs            stage.Place
	read, configure   string
	configureID       string
	theirRequest      stage.Request
	ourRequest        stage.Request
	theirPullRequest  string // node id
	theirRepositoryID string // node id
}

func newTokenWorld(t *testing.T) *tokenWorld {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := start(ctx, t.TempDir(), ports{})
	must(err)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	w := &tokenWorld{tale: &tale{stack: s}}
	for _, step := range []func(context.Context) (string, error){w.signIn, w.tale.connect, w.gate, w.open, w.expect("INPROGRESS")} {
		_, err := step(ctx)
		must(err)
	}
	_, err = s.sim.AddPerson(bitbucketsim.Person{Nickname: "dave"})
	must(err)
	_, err = s.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "globex", Name: "Globex", Owners: []string{"dave"}, Members: []string{"alice"}})
	must(err)
	_, err = s.sim.AddRepository(bitbucketsim.Repository{
		Workspace: "globex", Slug: "probe", Name: "Probe", Permissions: map[string]string{"alice": bitbucketsim.PermissionWrite},
		Files: map[string]string{"README.md": "# Probe\n"},
	})
	must(err)
	_, err = s.sim.Push(bitbucketsim.Push{Repository: "globex/probe", Branch: "work", Person: "dave", Message: "Work", Files: map[string]string{"a": "b\n"}})
	must(err)
	w.dave, err = stage.NewPerson("dave", s.origin)
	must(err)
	must(w.dave.SignIn(ctx))
	w.globex, err = w.dave.Connect(ctx)
	must(err)
	w.theirs.Workspace = w.globex.UUID
	w.theirs.Repository, err = w.dave.Repository(ctx, w.globex, "globex/probe", "probe")
	must(err)
	_, err = w.dave.Gate(ctx, w.globex, w.theirs.Repository, map[string]any{
		"name": "All", "branches": []string{"**"}, "requirements": []any{map[string]any{"quorum": 1, "everyone": true}},
	})
	must(err)
	opened, err := s.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: "globex/probe", Author: "dave", Title: "Work", Source: "work", Destination: "main"})
	must(err)
	w.theirs.Number = int64(opened.ID)
	must(until(ctx, "the other request", func() (bool, error) {
		w.theirRequest, err = w.alice.Request(ctx, w.theirs) // alice herself sees it
		return err == nil, nil
	}))
	w.ourRequest, err = w.alice.Request(ctx, w.place())
	must(err)
	w.read, _, err = createToken(ctx, w.alice, w.workspace, "READ")
	must(err)
	w.configure, w.configureID, err = createToken(ctx, w.alice, w.workspace, "READ", "CONFIGURE")
	must(err)

	// The identifiers are known to whoever has a token for the other workspace.
	other, _, err := createToken(ctx, w.alice, w.globex, "READ")
	must(err)
	var found struct {
		PullRequest struct {
			ID         string
			Repository struct{ ID string }
		}
	}
	code := w.ask(t, other, "", `query ($w: String!, $r: String!, $n: Int!) { pullRequest(workspace: $w, repository: $r, number: $n) { id repository { id } } }`,
		map[string]any{"w": w.theirs.Workspace, "r": w.theirs.Repository, "n": w.theirs.Number}, &found)
	if code != "" || found.PullRequest.ID == "" {
		t.Fatalf("a token for the other workspace gets %q", code)
	}
	w.theirPullRequest, w.theirRepositoryID = found.PullRequest.ID, found.PullRequest.Repository.ID
	return w
}

// send sends a request with a token and answers status and body.
func (w *tokenWorld) send(t *testing.T, method, path, authorization, accept string, body any) (int, []byte) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, w.origin+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", authorization)
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

// ask sends an operation with a token, reads the data into out, and answers the code of the first
// error, "" if there is none.
func (w *tokenWorld) ask(t *testing.T, token, accept, query string, variables map[string]any, out any) string {
	t.Helper()
	_, text := w.send(t, http.MethodPost, "/graphql", "Bearer "+token, accept, map[string]any{"query": query, "variables": variables})
	var answer struct {
		Data   json.RawMessage
		Errors []struct {
			Message    string
			Extensions struct{ Code string }
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s: %s", err, text)
	}
	if len(answer.Errors) > 0 {
		return answer.Errors[0].Extensions.Code
	}
	if out != nil {
		if err := json.Unmarshal(answer.Data, out); err != nil {
			t.Fatal(err)
		}
	}
	return ""
}

// changes tries every mutation of the schema, with input that fits its type.
func (w *tokenWorld) changes(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "graph", "schema", "*.graphqls"))
	if err != nil || len(files) == 0 {
		t.Fatal("no schema", err)
	}
	var sources []*ast.Source
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, &ast.Source{Name: file, Input: string(text)})
	}
	schema, err := gqlparser.LoadSchema(sources...)
	if err != nil {
		t.Fatal(err)
	}
	var sample func(*ast.Type) any
	sample = func(typ *ast.Type) any {
		if typ.Elem != nil {
			return []any{sample(typ.Elem)}
		}
		switch definition := schema.Types[typ.NamedType]; {
		case definition.Kind == ast.Enum:
			return definition.EnumValues[0].Name
		case definition.Kind == ast.InputObject:
			object := map[string]any{}
			for _, field := range definition.Fields {
				if field.Type.NonNull {
					object[field.Name] = sample(field.Type)
				}
			}
			return object
		case typ.NamedType == "Int":
			return 1
		case typ.NamedType == "Boolean":
			return true
		}
		return "x"
	}
	for _, field := range schema.Mutation.Fields {
		input := field.Arguments.ForName("input").Type
		code := w.ask(t, w.configure, "", "mutation ($input: "+input.String()+") { "+field.Name+"(input: $input) { userErrors { code } } }",
			map[string]any{"input": sample(input)}, nil)
		switch {
		case slices.Contains(forTokens, field.Name) && code != "":
			t.Errorf("%s answers %s to a token with the scope CONFIGURE", field.Name, code)
		case !slices.Contains(forTokens, field.Name) && code != "FORBIDDEN":
			t.Errorf("%s answers %q to a token, not FORBIDDEN", field.Name, code)
		}
	}
	// Also with input that a browser could send.
	code := w.ask(t, w.configure, "", `mutation ($input: PrepareDecisionInput!) { prepareDecision(input: $input) { statement } }`, map[string]any{"input": map[string]any{
		"requestId": w.ourRequest.ID, "action": "APPROVE", "headCommit": w.ourRequest.HeadCommit, "diffSha256": strings.Repeat("0", 64),
	}}, nil)
	if code != "FORBIDDEN" {
		t.Errorf("prepareDecision answers %q", code)
	}
}

func (w *tokenWorld) reads(t *testing.T) {
	var found struct {
		Workspace struct {
			Requests struct {
				Edges []struct{ Node struct{ ID string } }
			}
		}
	}
	if code := w.ask(t, w.read, "", `{ workspace(key: "acme") { requests { edges { node { id } } } } }`, nil, &found); code != "" || len(found.Workspace.Requests.Edges) != 1 {
		t.Errorf("reading answers %q and %d requests", code, len(found.Workspace.Requests.Edges))
	}
	for _, name := range forTokens {
		field, input := name, map[string]any{}
		typ := strings.ToUpper(name[:1]) + name[1:] + "Input!"
		switch name {
		case "saveRepository":
			input = map[string]any{"workspaceId": w.workspace.ID, "repositoryUuid": w.repository, "rules": []any{}}
		case "removeRepository":
			input["repositoryId"] = "x"
		case "ringPullRequest":
			input["pullRequestId"] = "x"
		case "renewRequest":
			input["requestId"] = w.ourRequest.ID
		}
		if code := w.ask(t, w.read, "", "mutation ($input: "+typ+") { "+field+"(input: $input) { userErrors { code } } }", map[string]any{"input": input}, nil); code != "FORBIDDEN" {
			t.Errorf("%s answers %q to a token with the scope READ", name, code)
		}
	}
}

func (w *tokenWorld) personal(t *testing.T) {
	for _, query := range []string{
		`{ viewer { email } }`,
		`{ viewer { unreadNotices } }`,
		`{ viewer { notices { edges { node { title } } } } }`,
		`{ viewer { passkeys { id } } }`,
		`{ viewer { grants { id } } }`,
		`{ workspace(key: "acme") { apiTokens { name } } }`,
	} {
		if code := w.ask(t, w.configure, "", query, nil, nil); code != "FORBIDDEN" {
			t.Errorf("%s answers %q", query, code)
		}
	}
	if code := w.ask(t, w.configure, "text/event-stream", `subscription { inboxChanged { unreadNotices } }`, nil, nil); code != "FORBIDDEN" {
		t.Errorf("inboxChanged answers %q", code)
	}
}

func (w *tokenWorld) elsewhere(t *testing.T) {
	for _, query := range []string{
		`{ it: workspace(key: "globex") { name } }`,
		`{ it: workspace(key: "` + w.globex.UUID + `") { name } }`,
		`{ it: node(id: "` + w.globex.ID + `") { id } }`,
		`{ it: node(id: "` + w.theirRepositoryID + `") { id } }`,
		`{ it: node(id: "` + w.theirPullRequest + `") { id } }`,
		`{ it: node(id: "` + w.theirRequest.ID + `") { id } }`,
	} {
		var found struct{ It any }
		if code := w.ask(t, w.configure, "", query, nil, &found); code != "" || found.It != nil {
			t.Errorf("%s answers %q, %v", query, code, found.It)
		}
	}
	var found struct{ PullRequest any }
	variables := map[string]any{"w": w.theirs.Workspace, "r": w.theirs.Repository, "n": w.theirs.Number}
	code := w.ask(t, w.configure, "", `query ($w: String!, $r: String!, $n: Int!) { pullRequest(workspace: $w, repository: $r, number: $n) { id } }`, variables, &found)
	if code != "" || found.PullRequest != nil {
		t.Errorf("pullRequest answers %q, %v", code, found.PullRequest)
	}
	var viewer struct {
		Viewer struct {
			Workspaces struct {
				Edges []struct{ Node struct{ Slug string } }
			}
			Waiting struct {
				Edges []struct{ Node struct{ ID string } }
			}
		}
	}
	code = w.ask(t, w.configure, "", `{ viewer { workspaces { edges { node { slug } } } waiting { edges { node { id } } } } }`, nil, &viewer)
	if got := viewer.Viewer.Workspaces.Edges; code != "" || len(got) != 1 || got[0].Node.Slug != "acme" {
		t.Errorf("viewer.workspaces answers %q, %v", code, got)
	}
	for _, edge := range viewer.Viewer.Waiting.Edges {
		if edge.Node.ID == w.theirRequest.ID {
			t.Error("viewer.waiting lists a request of another workspace")
		}
	}
	for query, input := range map[string]map[string]any{
		`mutation ($input: RingPullRequestInput!) { it: ringPullRequest(input: $input) { userErrors { code } } }`:   {"pullRequestId": w.theirPullRequest},
		`mutation ($input: RenewRequestInput!) { it: renewRequest(input: $input) { userErrors { code } } }`:         {"requestId": w.theirRequest.ID},
		`mutation ($input: RemoveRepositoryInput!) { it: removeRepository(input: $input) { userErrors { code } } }`: {"repositoryId": w.theirRepositoryID},
		`mutation ($input: SaveRepositoryInput!) { it: saveRepository(input: $input) { userErrors { code } } }`: {
			"workspaceId": w.globex.ID, "repositoryUuid": w.theirs.Repository,
			"rules": []any{map[string]any{"name": "x", "branches": []string{"x"}, "requirements": []any{map[string]any{"quorum": 1, "everyone": true}}}},
		},
	} {
		var answer struct {
			It struct{ UserErrors []stage.Refusal }
		}
		code := w.ask(t, w.configure, "", query, map[string]any{"input": input}, &answer)
		if code != "" || len(answer.It.UserErrors) != 1 || answer.It.UserErrors[0].Code != "NOT_FOUND" {
			t.Errorf("%s answers %q, %v", query, code, answer.It.UserErrors)
		}
	}
	status, text := w.send(t, http.MethodPost, "/graphql", "Bearer "+w.configure, "text/event-stream", map[string]any{
		"query": `subscription ($id: ID!) { pullRequestChanged(id: $id) { number } }`, "variables": map[string]any{"id": w.theirPullRequest},
	})
	if status != http.StatusNotFound || !bytes.Contains(text, []byte("NOT_FOUND")) {
		t.Errorf("pullRequestChanged answers %d %s", status, text)
	}
	if status, text := w.send(t, http.MethodGet, w.theirRequest.EvidencePath, "Bearer "+w.configure, "", nil); status != http.StatusNotFound {
		t.Errorf("evidence answers %d %s", status, text)
	}
	if status, text := w.send(t, http.MethodGet, w.ourRequest.EvidencePath, "Bearer "+w.read, "", nil); status != http.StatusOK {
		t.Errorf("our own evidence answers %d %s", status, text)
	}
}

// invalid: nothing tells an unknown token from a damaged one, and each door says so with 401.
func (w *tokenWorld) invalid(t *testing.T) {
	damaged := w.configure[:len(w.configure)-1] + "0"
	if damaged == w.configure {
		damaged = w.configure[:len(w.configure)-1] + "1"
	}
	for name, authorization := range map[string]string{
		"unknown": "Bearer sa_live_" + strings.Repeat("0", 43), "damaged": "Bearer " + damaged, "short": "Bearer sa_live_", "empty": "Bearer ",
		"another scheme": "Basic " + w.configure, "a session's": "Bearer " + strings.Repeat("A", 43),
	} {
		w.refused(t, name, authorization)
	}
}

func (w *tokenWorld) revoked(t *testing.T) {
	err := w.alice.Ask(t.Context(), "RevokeApiToken", map[string]any{"input": map[string]any{"id": w.configureID}}, &struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	w.refused(t, "revoked", "Bearer "+w.configure)
}

func (w *tokenWorld) refused(t *testing.T, name, authorization string) {
	t.Helper()
	_, secret, _ := strings.Cut(authorization, " ")
	for _, try := range []struct {
		method, path string
		body         any
	}{
		{http.MethodPost, "/graphql", map[string]any{"query": "{ server { origin } }"}},
		{http.MethodGet, w.ourRequest.EvidencePath, nil},
	} {
		status, text := w.send(t, try.method, try.path, authorization, "", try.body)
		if status != http.StatusUnauthorized || !bytes.Contains(text, []byte("API token")) {
			t.Errorf("%s token: %s answers %d %s", name, try.path, status, text)
		}
		if secret != "" && bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s token: %s repeats it", name, try.path)
		}
	}
}
