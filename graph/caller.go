package graph

import (
	"context"
	"net"
	"net/http"
	"slices"

	"github.com/signedapproval/bitbucket/server/store"
)

// CallerKind is how a request is made.
type CallerKind string

// The kinds of caller, as in the SDL.
const (
	Anonymous CallerKind = "ANONYMOUS"
	Session   CallerKind = "SESSION"
	Token     CallerKind = "TOKEN"
)

// TokenScope is what an API token may do, as in the SDL.
type TokenScope string

// The scopes of an API token.
const (
	ScopeRead      TokenScope = "READ"
	ScopeConfigure TokenScope = "CONFIGURE"
)

// Caller is who makes a request.
type Caller struct {
	Kind CallerKind
	// Person is who signed in, or on whose behalf a token speaks; nil for anonymous callers.
	Person *store.Person
	// SessionHash is the SHA-256 of the browser's cookie; nil for tokens and where there is none.
	SessionHash []byte
	// Token is nil for all but tokens.
	Token *store.APIToken
}

type callerKey struct{}

func withCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// callerOf gives the caller of the operation that runs; nobody where there is none.
func callerOf(ctx context.Context) Caller {
	if caller, ok := ctx.Value(callerKey{}).(Caller); ok {
		return caller
	}
	return Caller{Kind: Anonymous}
}

// key names the caller for what is counted by caller.
func (c Caller) key(r *http.Request) string {
	switch {
	case c.Token != nil:
		return "token:" + c.Token.ID
	case c.Person != nil:
		return "person:" + c.Person.ID
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address:" + host
}

// may tells whether a token has the scope. Whoever may configure may read.
func (c Caller) may(scope TokenScope) bool {
	if c.Token == nil {
		return false
	}
	return slices.Contains(c.Token.Scopes, string(scope)) ||
		scope == ScopeRead && slices.Contains(c.Token.Scopes, string(ScopeConfigure))
}

// refuse tells why the caller may not ask for a field under the rule; nil if they may.
func (r fieldRule) refuse(caller Caller, coordinate string) *requestError {
	if len(r.callers) > 0 && !slices.Contains(r.callers, caller.Kind) {
		if caller.Kind == Anonymous {
			return refused(codeUnauthenticated, "Sign in to ask for %s.", coordinate)
		}
		return refused(codeForbidden, "%s cannot be asked for with %s.", coordinate, caller.Kind.article())
	}
	if caller.Kind != Token || r.scope == "" || caller.may(r.scope) {
		return nil
	}
	return refused(codeForbidden, "%s needs an API token with the scope %s.", coordinate, r.scope)
}

func (k CallerKind) article() string {
	switch k {
	case Token:
		return "an API token"
	case Session:
		return "a session"
	case Anonymous:
	}
	return "no log-in"
}
