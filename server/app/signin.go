package app

import (
	"context"
	"net/http"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// session finds the browser's session, or starts one.
func (s *Server) session(ctx context.Context, w http.ResponseWriter, r *http.Request) (people.Session, error) {
	session, err := s.people.Session(ctx, s.cookie(r))
	if refusal.Code(err) != refusal.NotFound {
		return session, err
	}
	value, session, err := s.people.NewSession(ctx)
	if err != nil {
		return session, err
	}
	s.setCookie(w, value)
	return session, nil
}

// withSession serves a page to a browser that has a session from then on, signed in or not: a ticket that
// it redeems is tied to the session.
func (s *Server) withSession(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.session(r.Context(), w, r); err != nil {
			s.fail(w, r, err)
			return
		}
		page(w, r)
	}
}

// signIn sends the browser to Bitbucket.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	session, err := s.session(r.Context(), w, r)
	if err != nil {
		s.failSignIn(w, r, err, "")
		return
	}
	url, err := s.people.BeginSignIn(r.Context(), session.Hash, r.URL.Query().Get("return_to"))
	if err != nil {
		s.failSignIn(w, r, err, "")
		return
	}
	http.Redirect(w, r, url, http.StatusSeeOther) //nolint:gosec // Bitbucket's consent page: the address is from the configuration
}

// signedIn takes the browser back from Bitbucket. The session gets a new id.
func (s *Server) signedIn(w http.ResponseWriter, r *http.Request) {
	session, err := s.session(r.Context(), w, r)
	if err != nil {
		s.failSignIn(w, r, err, "")
		return
	}
	q := r.URL.Query()
	value, returnTo, err := s.people.FinishSignIn(r.Context(), session.Hash, q.Get("state"), q.Get("code"), q.Get("error"))
	if err != nil {
		s.failSignIn(w, r, err, returnTo)
		return
	}
	s.setCookie(w, value)
	http.Redirect(w, r, returnTo, http.StatusSeeOther) //nolint:gosec // checked to be a path of ours when the round trip began
}

// connected takes the browser back from the consent to connect.
func (s *Server) connected(w http.ResponseWriter, r *http.Request) {
	session, err := s.people.Session(r.Context(), s.cookie(r))
	if err != nil {
		s.failConnect(w, r, err, "")
		return
	}
	q := r.URL.Query()
	returnTo, err := s.workspaces.FinishConnect(r.Context(), session.Hash, q.Get("state"), q.Get("code"), q.Get("error"))
	if err != nil {
		s.failConnect(w, r, err, returnTo)
		return
	}
	http.Redirect(w, r, returnTo, http.StatusSeeOther) //nolint:gosec // checked to be a path of ours when the round trip began
}
