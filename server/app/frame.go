package app

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/graph"
	"github.com/signedapproval/bitbucket/server/atlassian"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// frameOrigin turns an origin, in which a star stands for one name, into what matches it.
func frameOrigin(pattern string) (*regexp.Regexp, error) {
	u, err := url.Parse(strings.ReplaceAll(pattern, "*", "any"))
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Scheme != "https" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("%q is no origin such as https://*.example.net", pattern)
	}
	return regexp.Compile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[a-z0-9-]+`) + "$")
}

// admitForge opens the doors to the Forge app, where there is one.
func (s *Server) admitForge() (err error) {
	if s.config.ForgeAppID == "" {
		return nil
	}
	for _, origin := range s.config.ForgeFrameOrigins {
		pattern, err := frameOrigin(origin)
		if err != nil {
			return err
		}
		s.frames = append(s.frames, pattern)
	}
	s.verifier, err = atlassian.New(atlassian.Config{
		AppID: s.config.ForgeAppID, Environment: s.config.ForgeEnvironment, JWKSURL: s.config.ForgeJWKSURL,
		APIHosts: s.config.ForgeAPIHosts, Log: s.log,
	})
	return err
}

// framed tells whether an origin is that of pages which Forge hosts for us.
func (s *Server) framed(origin string) bool {
	for _, pattern := range s.frames {
		if pattern.MatchString(origin) {
			return true
		}
	}
	return false
}

// letFramesFollow lets the pages that Forge hosts for us open event streams. They show a stream token,
// which can do nothing else, and never a cookie: what they send is not the browser's session with us.
// Everything else from other origins meets guard.
func (s *Server) letFramesFollow(graph, guard http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if r.URL.Path != "/graphql" || origin == "" || !s.framed(origin) {
			guard.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", http.MethodPost)
			h.Set("Access-Control-Allow-Headers", "authorization, content-type, accept")
			h.Set("Access-Control-Max-Age", "7200")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !found || !people.IsStreamToken(token) {
			guard.ServeHTTP(w, r)
			return
		}
		r.Header.Del("Cookie")
		graph.ServeHTTP(w, r)
	})
}

// inFrame makes out who calls from Bitbucket's frame: the person whom Atlassian's token names, in the
// workspace in which the app is installed, and there only. 401 is for a token that is not Atlassian's.
//
// A system token is never taken from such a call: whoever looks at a page can have its invocation token,
// and send it here with headers of their own.
func (s *Server) inFrame(r *http.Request) (graph.Caller, error) {
	token, _ := atlassian.Bearer(r.Header)
	invocation, err := s.verifier.Verify(r.Context(), token)
	var refused *atlassian.Refused
	switch {
	case errors.As(err, &refused):
		return graph.Caller{}, refusal.New(people.CodeTokenInvalid, "This is neither an API token nor a valid invocation token.").Because(err)
	case errors.Is(err, atlassian.ErrUnavailable):
		return graph.Caller{}, refusal.New(refusal.Busy, "Atlassian's keys cannot be had now. Please try again.").Because(err)
	case err != nil:
		return graph.Caller{}, err
	case invocation.Principal == "":
		return graph.Caller{}, refusal.New(refusal.Forbidden, "Nobody is signed in to Bitbucket.")
	}
	installation, err := s.workspaces.Invoked(r.Context(), invocation, "", time.Time{})
	switch {
	case err != nil:
		return graph.Caller{}, err
	case installation.Over():
		return graph.Caller{}, refusal.New(refusal.Forbidden, "The app was uninstalled here, or Bitbucket has not told yet that it was installed again. Please try again in some minutes.")
	}
	person, err := s.people.Meet(r.Context(), invocation.Workspace, invocation.Principal)
	if err != nil {
		return graph.Caller{}, err
	}
	return graph.Caller{
		Kind: graph.Forge, Person: &person, Workspace: invocation.Workspace,
		Unconfirmed: installation.State == store.InstallationAwaiting,
	}, nil
}
