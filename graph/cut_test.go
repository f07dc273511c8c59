package graph

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/signedapproval/bitbucket/server/refusal"
)

// scissors are a way to Bitbucket that lets answers through, or cuts them in the middle while it is told to.
type scissors struct {
	cutting atomic.Bool
	cut     atomic.Int64 // answers so far
}

func (s *scissors) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !s.cutting.Load() {
		return response, err
	}
	whole, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	_ = response.Body.Close()
	s.cut.Add(1)
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), broken{}))
	return response, nil
}

// broken is a connection that ends before the answer does.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestAnAnswerOfBitbucketThatIsCut is Bitbucket's failure, and never called one of the database or of this server.
func TestAnAnswerOfBitbucketThatIsCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.signIn("alice")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	bob, carol := w.signIn("bob"), w.signIn("carol")
	bob.enrol()
	w.open(g, "feature/cut", "Cut")
	request := bob.ask(`query($id: ID!) { node(id: $id) { ... on Repository { pullRequests { edges { node { request { id } } } } } } }`,
		map[string]any{"id": g.repositoryID}).text("node.pullRequests.edges.0.node.request.id")
	shown := bob.ask(`query($id: ID!) { node(id: $id) { ... on ApprovalRequest { diff { sha256 headCommit } } } }`, map[string]any{"id": request})
	w.sql(`delete from signedapproval_memberships; delete from signedapproval_repository_people; delete from signedapproval_repository_people_lists`)
	for name, ask := range map[string]func() reply{
		"the change of a request": func() reply {
			return bob.send(`query($id: ID!) { node(id: $id) { ... on ApprovalRequest { diff { content } } } }`, map[string]any{"id": request})
		},
		"a decision": func() reply {
			return bob.send(`mutation($input: PrepareDecisionInput!) { prepareDecision(input: $input) { statement userErrors { code } } }`, map[string]any{"input": map[string]any{
				"requestId": request, "action": "APPROVE", "headCommit": shown.text("node.diff.headCommit"), "diffSha256": shown.text("node.diff.sha256"),
			}})
		},
		"the repositories of a workspace": func() reply {
			return alice.send(`query($id: ID!) { node(id: $id) { ... on Workspace { bitbucketRepositories(search: "rock") { edges { node { uuid } } } } } }`, map[string]any{"id": g.workspaceID})
		},
		"gating a repository": func() reply {
			return alice.send(`mutation($input: SaveRepositoryInput!) { saveRepository(input: $input) { repository { id } userErrors { code } } }`, map[string]any{"input": map[string]any{
				"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{ruleFor(2)},
			}})
		},
		"somebody's rights": func() reply {
			return carol.send(`query($id: ID!) { node(id: $id) { ... on Repository { name } } }`, map[string]any{"id": g.repositoryID})
		},
	} {
		w.scissors.cut.Store(0)
		cut := func() reply {
			w.scissors.cutting.Store(true)
			defer w.scissors.cutting.Store(false)
			return ask()
		}
		got := cut()
		if w.scissors.cut.Load() == 0 {
			t.Errorf("%s: nothing was cut", name)
		}
		if !strings.Contains(got.body, `"`+refusal.BitbucketUnavailable+`"`) || strings.Contains(got.body, refusal.Busy) || strings.Contains(got.body, codeInternal) {
			t.Errorf("%s: the answer is %s", name, got.body)
		}
	}
}
