package app

import (
	"net/http"
	"strings"

	"github.com/signedapproval/bitbucket/graph"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// identify makes out who calls: an API token where one is shown, else the browser's session.
func (s *Server) identify(r *http.Request) (graph.Caller, error) {
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		secret, found := strings.CutPrefix(authorization, "Bearer ")
		if !found {
			return graph.Caller{}, refusal.New(refusal.Forbidden, "Send the API token as “Authorization: Bearer sa_live_…”.")
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
	return graph.Caller{Kind: graph.Session, Person: session.Person, SessionHash: session.Hash}, nil
}
