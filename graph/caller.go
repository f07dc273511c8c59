package graph

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// CallerKind is how a request is made.
type CallerKind string

// The kinds of caller, as in the SDL.
const (
	Anonymous CallerKind = "ANONYMOUS"
	Session   CallerKind = "SESSION"
	Token     CallerKind = "TOKEN"
	Forge     CallerKind = "FORGE"
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
	Token *people.Token
	// Workspace is the UUID of the only workspace that a Forge caller may look into; "" for the others.
	Workspace string
	// Workspaces are the UUIDs of those that the person of a session is in, as far as is known; nil for the others. Places
	// are shared out by them, and nothing is allowed.
	Workspaces []string
	// StreamOnly says that the caller showed a stream token: it may subscribe, and nothing else.
	StreamOnly bool
	// Unconfirmed says that the Forge app was installed again, and that no administrator has said yet
	// that it belongs to what the workspace has here.
	Unconfirmed bool
}

// sound tells whether the fields fit the kind: nothing below looks again.
func (c Caller) sound() error {
	switch {
	case c.Kind == Forge:
		if c.Person != nil && c.Token == nil && c.SessionHash == nil && c.Workspace != "" && c.Workspaces == nil {
			return nil
		}
	case c.Workspace != "" || c.StreamOnly || c.Unconfirmed || c.Kind != Session && c.Workspaces != nil:
	case c.Kind == Anonymous && c.Person == nil && c.Token == nil,
		c.Kind == Session && c.Person != nil && c.Token == nil,
		c.Kind == Token && c.Person != nil && c.Token != nil:
		return nil
	}
	return errors.New("graph: a caller of kind " + string(c.Kind) + " with fields of another")
}

type callerKey struct{}

func withCaller(ctx context.Context, caller Caller) context.Context {
	if caller.Person != nil {
		ctx = bitbucket.AskedBy(ctx, caller.Person.ID)
	}
	return context.WithValue(ctx, callerKey{}, caller)
}

// callerOf gives the caller of the operation that runs; nobody where there is none.
func callerOf(ctx context.Context) Caller {
	if caller, ok := ctx.Value(callerKey{}).(Caller); ok {
		return caller
	}
	return Caller{Kind: Anonymous}
}

// viewerOf gives the person of a call; @auth lets nobody else ask.
func viewerOf(ctx context.Context) store.Person { return *callerOf(ctx).Person }

// via is how a change came, for the record.
func (c Caller) via() string {
	switch {
	case c.Token != nil:
		return "token:" + c.Token.ID
	case c.Kind == Forge:
		return "forge"
	}
	return "session"
}

// bound gives the only workspace that the caller may look into; "" where there is no such bound.
func (c Caller) bound() string {
	if c.Token != nil {
		return c.Token.Workspace
	}
	return c.Workspace
}

// nowhere is where callers are counted that signed in and are in no workspace.
const nowhere = "nowhere"

// counted are the workspaces that share out their places among callers like this one: the one that the caller is bound to, or
// all that a person of a session is in. None for whoever has not signed in.
func (c Caller) counted() []string {
	switch {
	case c.bound() != "":
		return []string{c.bound()}
	case c.Kind == Session && len(c.Workspaces) == 0:
		return []string{nowhere}
	}
	return c.Workspaces
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

// Enters tells whether the caller may ask for anything in a workspace at all: a token and the Forge app
// speak in their own only. To others it says NOT_FOUND; what a person may see inside is for the use cases to decide.
func (c Caller) Enters(workspace string) error {
	if bound := c.bound(); bound != "" && workspace != bound {
		return nothing()
	}
	return nil
}

// Takes tells whether the caller may take a file of a workspace along, as far as that is not for the use
// cases to decide: Enters, and neither a stream token nor an app that waits to be confirmed does.
func (c Caller) Takes(workspace string) error {
	switch {
	case c.StreamOnly:
		return refusal.New(refusal.Forbidden, streamOnlyMessage)
	case c.Unconfirmed:
		return refusal.New(refusal.Forbidden, unconfirmedMessage)
	}
	return c.Enters(workspace)
}

// codeUnconfirmed says that an administrator has to confirm the installation first.
const codeUnconfirmed = "INSTALLATION_UNCONFIRMED"

const (
	streamOnlyMessage  = "A stream token subscribes, and nothing else."
	unconfirmedMessage = "The app was installed again. An administrator of the workspace has to confirm that it belongs to what was here before."
)

// whileUnconfirmed are what pages need to show how an installation is confirmed, by type. Fields of types
// that are not here can be reached through these alone.
var whileUnconfirmed = map[string][]string{
	"Query":        {"viewer", "server", "workspace"},
	"Mutation":     {"confirmInstallation"},
	"Subscription": {},
	"Viewer":       {"person", "email", "caller", "unreadNotices", "workspaces"},
	"Workspace":    {"id", "uuid", "slug", "name", "viewerIsAdmin", "connection", "installation", "actsAs", "alarms"},
	"PullRequest":  {"id", "number", "title"}, // of an alarm
}

// sees tells why the caller may not ask for a field, wherever it stands; nil if they may.
func (c Caller) sees(object, field string) *requestError {
	fields, bounded := whileUnconfirmed[object]
	if !c.Unconfirmed || !bounded || field == "__typename" || slices.Contains(fields, field) {
		return nil
	}
	return refused(codeUnconfirmed, unconfirmedMessage)
}

// mayRun tells why the caller may not run the operation, whatever it asks for; nil if they may. A stream
// asks again for each event.
func (c Caller) mayRun(op *admitted) *requestError {
	switch {
	case c.StreamOnly && op.kind != ast.Subscription:
		return refused(codeForbidden, streamOnlyMessage)
	case op.kind == ast.Subscription:
		return c.sees("Subscription", op.root)
	}
	return nil
}

// refuse tells why the caller may not ask for a field under the rule; nil if they may.
func (r fieldRule) refuse(caller Caller, coordinate string) *requestError {
	if len(r.callers) > 0 && !slices.Contains(r.callers, caller.Kind) {
		if caller.Kind == Anonymous {
			return refused(codeUnauthenticated, "Sign in to ask for %s.", coordinate)
		}
		return refused(codeForbidden, "%s cannot be asked for with %s.", coordinate, caller.Kind.article())
	}
	if caller.Kind != Token || r.scope == "" || caller.Token.Allows(string(r.scope)) {
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
	case Forge:
		return "Bitbucket's frame"
	case Anonymous:
	}
	return "no log-in"
}
