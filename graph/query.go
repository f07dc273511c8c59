package graph

import (
	"context"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// orNil maps what was found; what does not exist, or may not be seen, is null.
func orNil[R, T any](row R, err error, node func(R) *T) (*T, error) {
	switch {
	case err == nil:
		return node(row), nil
	case refusal.Code(err) == refusal.NotFound:
		return nil, nil
	}
	return nil, err
}

type server struct {
	RelyingPartyID string
	Origin         string
	SendsMail      bool
	ConnectScopes  []oauthScope
	Models         []authenticatorModel
	Witnesses      int32
}

type oauthScope struct{ Name, Purpose string }

// Server tells what this server is.
func (r *resolver) Server() server {
	return server{
		RelyingPartyID: r.gate.RPID, Origin: r.gate.Origin, SendsMail: r.gate.Mail != nil,
		ConnectScopes: each(workspace.Scopes(), func(s workspace.Scope) oauthScope { return oauthScope{Name: s.Name, Purpose: s.Purpose} }),
		Models:        each(r.gate.Models.Acceptable(), r.model), Witnesses: clamp(r.workspaces.Witnesses),
	}
}

// node is any object with an identifier. The executor asks for each kind in turn.
type node struct {
	ID     graphql.ID
	object any
}

func as[T any](n *node) (*T, bool) { object, ok := n.object.(*T); return object, ok }

func (n *node) ToWorkspace() (*workspaceNode, bool)         { return as[workspaceNode](n) }
func (n *node) ToRepository() (*repository, bool)           { return as[repository](n) }
func (n *node) ToPolicyVersion() (*policyVersion, bool)     { return as[policyVersion](n) }
func (n *node) ToPullRequest() (*pullRequest, bool)         { return as[pullRequest](n) }
func (n *node) ToApprovalRequest() (*approvalRequest, bool) { return as[approvalRequest](n) }
func (n *node) ToDecision() (*decision, bool)               { return as[decision](n) }
func (n *node) ToAlarm() (*alarm, bool)                     { return as[alarm](n) }
func (n *node) ToAPIToken() (*apiToken, bool)               { return as[apiToken](n) }
func (n *node) ToPerson() (*person, bool)                   { return as[person](n) }
func (n *node) ToPasskey() (*passkeyNode, bool)             { return as[passkeyNode](n) }
func (n *node) ToMemberKey() (*memberKey, bool)             { return as[memberKey](n) }
func (n *node) ToGrant() (*grant, bool)                     { return as[grant](n) }
func (n *node) ToNotice() (*notice, bool)                   { return as[notice](n) }
func (n *node) ToProposal() (*proposal, bool)               { return as[proposal](n) }

// Node finds any object by its identifier.
func (r *resolver) Node(ctx context.Context, args struct{ ID graphql.ID }) (*node, error) {
	a, ok := parseID(args.ID)
	if !ok {
		return nil, nil
	}
	caller := callerOf(ctx)
	object, err := any(nil), error(nil)
	switch {
	case a.workspace != "":
		if err = caller.Enters(a.workspace); err == nil {
			object, err = r.inWorkspace(ctx, *caller.Person, a)
		}
	case a.kind == kindPerson && a.id == caller.Person.ID:
		object = personOf(*caller.Person)
	case caller.Kind == Session: // what is the person's own is not for scripts
		object, err = r.ofPerson(ctx, *caller.Person, a)
	}
	if object == nil && err == nil {
		return nil, nil
	}
	return orNil(object, err, func(object any) *node { return &node{ID: args.ID, object: object} })
}

// inWorkspace finds what belongs to a workspace.
func (r *resolver) inWorkspace(ctx context.Context, viewer store.Person, a address) (any, error) {
	switch a.kind {
	case kindWorkspace:
		w, err := r.workspaces.Find(ctx, viewer, a.workspace)
		return r.workspace(w), err
	case kindRepository:
		w, err := r.workspaces.Find(ctx, viewer, a.workspace)
		if err != nil {
			return nil, err
		}
		config, err := r.workspaces.Repository(ctx, viewer, a.workspace, a.id)
		return r.batchOf(w, config).repository(a.id), err
	case kindPolicyVersion:
		version, err := r.workspaces.PolicyVersion(ctx, viewer, a.workspace, a.id)
		return r.policyVersions(a.workspace, []store.PolicyVersion{version})[0], err
	case kindPullRequest:
		view, err := r.gate.ViewPullRequest(ctx, viewer, a.workspace, a.id)
		if err != nil {
			return nil, err
		}
		return r.pullRequest(view), nil
	case kindRequest, kindDecision:
		return r.inRequest(ctx, viewer, a)
	case kindAlarm:
		rows, err := r.workspaces.Alarms(ctx, viewer, a.workspace)
		for _, row := range rows {
			if row.ID == a.id {
				return r.alarms(a.workspace, []store.Alarm{row})[0], nil
			}
		}
		if refusal.Code(err) == refusal.Forbidden {
			return nil, nil
		}
		return nil, err
	case kindProposal:
		p, err := r.workspaces.Proposal(ctx, viewer, a.workspace, a.id)
		return r.proposal(p, viewer), err
	case kindMemberKey:
		id, err := credentialIn(a)
		if err != nil {
			return nil, err
		}
		holder, key, err := r.people.KeyHolder(ctx, viewer, a.workspace, id)
		if refusal.Code(err) == refusal.Forbidden {
			return nil, nil
		}
		return r.memberKey(a.workspace, holder, key, viewer), err
	default: // belongs to a person
		return nil, nil
	}
}

// inRequest finds a request, or a decision given to it.
func (r *resolver) inRequest(ctx context.Context, viewer store.Person, a address) (any, error) {
	id := a.id
	if a.kind == kindDecision {
		id = a.of
	}
	view, err := r.gate.ViewRequest(ctx, viewer, a.workspace, id)
	if err != nil {
		return nil, err
	}
	if a.kind == kindRequest {
		return r.approvalRequest(view), nil
	}
	for _, d := range view.Decisions {
		if d.ID == a.id {
			return decisionOf(a.workspace, id, d), nil
		}
	}
	return nil, nil
}

// ofPerson finds what belongs to the viewer.
func (r *resolver) ofPerson(ctx context.Context, viewer store.Person, a address) (any, error) {
	switch a.kind {
	case kindNotice:
		n, err := r.people.Notice(ctx, viewer, a.id)
		return noticeOf(n), err
	case kindAPIToken:
		t, err := r.people.Token(ctx, viewer, a.id)
		return apiTokenOf(t), err
	case kindPasskey:
		id, err := findPasskey(ctx, nodeID(kindPasskey, "", a.id))
		if err != nil {
			return nil, err
		}
		key, err := r.people.Passkey(ctx, viewer, id)
		return r.passkey(key), err
	case kindGrant:
		grants, err := r.workspaces.Grants(ctx, viewer)
		for _, g := range grants {
			if g.ID == a.id {
				return grantOf(g), nil
			}
		}
		return nil, err
	default: // belongs to a workspace, or is another person
		return nil, nil
	}
}
