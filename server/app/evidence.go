package app

import (
	"context"
	"net/http"
	"time"

	"github.com/signedapproval/bitbucket/graph"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// evidenceTime is how long a file may take.
const evidenceTime = 20 * time.Second

// taker makes out who takes a file of a workspace along: a session, the app, or an API token of that
// workspace. It has answered where nobody may.
func (s *Server) taker(w http.ResponseWriter, r *http.Request, workspace string) (person store.Person, ok bool) {
	caller, err := s.identify(r)
	switch {
	case refusal.Code(err) == people.CodeTokenInvalid:
		unauthorized(w, refusal.Of(err).Message)
	case err != nil:
		s.fail(w, r, err)
	case caller.Kind == graph.Anonymous:
		unauthorized(w, "Sign in, or send an API token.")
	default:
		if err := caller.Takes(workspace); err != nil {
			s.fail(w, r, err)
			return person, false
		}
		return *caller.Person, true
	}
	return person, false
}

// evidence serves the evidence bundle of a request as a file.
func (s *Server) evidence(w http.ResponseWriter, r *http.Request) {
	s.bundle(w, r, func(context.Context, store.Person) (string, error) { return r.PathValue("request"), nil })
}

// evidenceOfCommit serves the evidence bundle of the request that a commit belongs to.
func (s *Server) evidenceOfCommit(w http.ResponseWriter, r *http.Request) {
	s.bundle(w, r, func(ctx context.Context, person store.Person) (string, error) {
		found, err := s.gate.RequestOfCommit(ctx, person, r.PathValue("workspace"), r.PathValue("commit"), scope(r))
		return found.RequestID, err
	})
}

// scope reads where a commit is looked for.
func scope(r *http.Request) gate.CommitScope {
	return gate.CommitScope{Repository: r.URL.Query().Get("repository"), Branch: r.URL.Query().Get("branch")}
}

func (s *Server) bundle(w http.ResponseWriter, r *http.Request, request func(context.Context, store.Person) (string, error)) {
	s.file(w, r, "evidence.json", func(ctx context.Context, person store.Person, workspace string) ([]byte, error) {
		id, err := request(ctx, person)
		if err != nil {
			return nil, err
		}
		return s.gate.Bundle(ctx, person, workspace, id)
	})
}

// receipt serves the proof that a decision is recorded.
func (s *Server) receipt(w http.ResponseWriter, r *http.Request) {
	s.file(w, r, "receipt.json", func(ctx context.Context, person store.Person, workspace string) ([]byte, error) {
		return s.gate.Receipt(ctx, person, workspace, r.PathValue("decision"))
	})
}

// openings serves what opens a workspace's leaves, for whoever follows the log on its behalf.
func (s *Server) openings(w http.ResponseWriter, r *http.Request) {
	s.file(w, r, "openings.json", s.gate.Openings)
}

// file serves a file of a workspace to whoever may take it along.
func (s *Server) file(w http.ResponseWriter, r *http.Request, name string, read func(ctx context.Context, person store.Person, workspace string) ([]byte, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), evidenceTime)
	defer cancel()
	r = r.WithContext(ctx)
	person, ok := s.taker(w, r, r.PathValue("workspace"))
	if !ok {
		return
	}
	ctx = bitbucket.AskedBy(ctx, person.ID)
	data, err := read(ctx, person, r.PathValue("workspace"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	_, _ = w.Write(data)
}

// unauthorized asks for an API token, as RFC 9110 wants it asked.
func unauthorized(w http.ResponseWriter, message string) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, message, http.StatusUnauthorized)
}
