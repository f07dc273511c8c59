package app

import (
	"net/http"
	"strings"

	"github.com/signedapproval/bitbucket/graph"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// identify makes out who calls: a token of ours or Atlassian's where one is shown, else the browser's
// session.
func (s *Server) identify(r *http.Request) (graph.Caller, error) {
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		secret, found := strings.CutPrefix(authorization, "Bearer ")
		switch {
		case !found:
			return graph.Caller{}, refusal.New(people.CodeTokenInvalid, "Send the API token as “Authorization: Bearer sa_live_…”.")
		case people.IsStreamToken(secret):
			person, workspace, err := s.people.StreamCaller(r.Context(), secret)
			return graph.Caller{Kind: graph.Forge, Person: &person, Workspace: workspace, StreamOnly: true}, err
		case s.verifier != nil && !people.IsAPIToken(secret):
			return s.inFrame(r)
		}
		token, err := s.people.TokenCaller(r.Context(), secret)
		if err != nil {
			return graph.Caller{}, err
		}
		return graph.Caller{Kind: graph.Token, Person: &token.Person, Token: &token}, nil
	}
	value := s.cookie(r)
	if value == "" {
		return graph.Caller{Kind: graph.Anonymous}, nil
	}
	session, err := s.people.Session(r.Context(), value)
	if refusal.Code(err) == refusal.NotFound {
		return graph.Caller{Kind: graph.Anonymous}, nil
	}
	if err != nil {
		return graph.Caller{}, err
	}
	if session.Person == nil {
		return graph.Caller{Kind: graph.Anonymous, SessionHash: session.Hash}, nil
	}
	return graph.Caller{Kind: graph.Session, Person: session.Person, SessionHash: session.Hash, Workspaces: session.Workspaces}, nil
}
