package graph

import (
	"context"
	"encoding/base64"
	"strings"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// kind is the kind of a node, part of its identifier.
type kind string

const (
	kindWorkspace     kind = "workspace"
	kindRepository    kind = "repository"
	kindPolicyVersion kind = "policy-version"
	kindPullRequest   kind = "pull-request"
	kindRequest       kind = "request"
	kindDecision      kind = "decision"
	kindAlarm         kind = "alarm"
	kindAPIToken      kind = "api-token"
	kindPerson        kind = "person"
	kindPasskey       kind = "passkey"
	kindMemberKey     kind = "member-key"
	kindGrant         kind = "grant"
	kindNotice        kind = "notice"
	kindProposal      kind = "proposal"
)

// address is what an identifier says: which object, and in which workspace it is to be looked for.
// It proves nothing: every use case checks what the caller may see.
type address struct {
	kind      kind
	workspace string // "" for what belongs to no workspace
	of        string // of a decision its request, of a policy version its repository; else ""
	id        string
}

// nodeID makes the identifier of an object. Clients must not look inside.
func nodeID(k kind, workspace, id string) graphql.ID {
	return graphql.ID(base64.RawURLEncoding.EncodeToString([]byte(string(k) + ":" + workspace + ":" + id)))
}

// nodeIDOf is nodeID for an object that is found in another.
func nodeIDOf(k kind, workspace, of, id string) graphql.ID { return nodeID(k, workspace, of+"."+id) }

// parseID reads an identifier. What is none is not an error of its own: there is just no such object.
func parseID(id graphql.ID) (address, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(string(id))
	if err != nil || base64.RawURLEncoding.EncodeToString(raw) != string(id) { // one object has one identifier
		return address{}, false
	}
	parts := strings.SplitN(string(raw), ":", 3)
	if len(parts) != 3 {
		return address{}, false
	}
	a := address{kind: kind(parts[0]), workspace: parts[1], id: parts[2]}
	switch a.kind {
	case kindWorkspace:
		return a, store.ValidID(a.id) && a.id == a.workspace
	case kindRepository, kindPullRequest, kindRequest, kindAlarm, kindProposal:
		return a, store.ValidID(a.workspace) && store.ValidID(a.id)
	case kindPolicyVersion, kindDecision:
		of, id, ok := strings.Cut(a.id, ".")
		a.of, a.id = of, id
		return a, ok && store.ValidID(a.workspace) && store.ValidID(a.of) && store.ValidID(a.id)
	case kindPerson, kindGrant, kindNotice, kindAPIToken:
		return a, a.workspace == "" && store.ValidID(a.id)
	case kindPasskey:
		return a, a.workspace == ""
	case kindMemberKey:
		return a, store.ValidID(a.workspace)
	}
	return address{}, false
}

// find reads an identifier that must be of a kind. Everything else, and what lies outside a token's
// workspace, does not exist.
func find(ctx context.Context, k kind, id graphql.ID, path ...string) (address, error) {
	a, ok := parseID(id)
	if !ok || a.kind != k {
		return address{}, nothing().At(path...)
	}
	if a.workspace == "" {
		return a, nil
	}
	return a, callerOf(ctx).Enters(a.workspace)
}

func nothing() *refusal.Error {
	return refusal.New(refusal.NotFound, "There is no such object, or you may not see it.")
}
