package graph

import (
	"context"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/store"
)

type apiToken struct {
	ID         graphql.ID
	Name       string
	Prefix     string
	Scopes     []string
	CreatedAt  Time
	ExpiresAt  Time
	LastUsedAt *Time
	RevokedAt  *Time
}

func apiTokenOf(t store.APIToken) *apiToken {
	return &apiToken{
		ID: nodeID(kindAPIToken, "", t.ID), Name: t.Name, Prefix: t.Prefix, Scopes: t.Scopes, CreatedAt: timeOf(t.CreatedAt),
		ExpiresAt: timeOf(t.ExpiresAt), LastUsedAt: timeOrNil(t.LastUsedAt), RevokedAt: timeOrNil(t.RevokedAt),
	}
}

type createAPITokenInput struct {
	WorkspaceID   graphql.ID
	Name          string
	Scopes        []string
	ExpiresInDays *int32
}

type createAPITokenPayload struct {
	problems
	APIToken *apiToken
	Secret   *string
}

// CreateAPIToken makes an API token. Its text leaves here and is kept nowhere.
func (r *resolver) CreateAPIToken(ctx context.Context, args struct{ Input createAPITokenInput }) (*createAPITokenPayload, error) {
	in := args.Input
	return mutate(func(p *createAPITokenPayload) error {
		a, err := find(ctx, kindWorkspace, in.WorkspaceID, "workspaceId")
		if err != nil {
			return err
		}
		token, secret, err := r.people.CreateToken(ctx, viewerOf(ctx), a.workspace, in.Name, in.Scopes, int(or(in.ExpiresInDays, 0)))
		p.APIToken, p.Secret = apiTokenOf(token), new(string(secret))
		return err
	})
}

type revokeAPITokenInput struct{ ID graphql.ID }

type revokeAPITokenPayload struct {
	problems
	APIToken *apiToken
}

// RevokeAPIToken ends an API token at once.
func (r *resolver) RevokeAPIToken(ctx context.Context, args struct{ Input revokeAPITokenInput }) (*revokeAPITokenPayload, error) {
	return mutate(func(p *revokeAPITokenPayload) error {
		a, err := find(ctx, kindAPIToken, args.Input.ID, "id")
		if err != nil {
			return err
		}
		token, err := r.people.RevokeToken(ctx, viewerOf(ctx), a.id)
		p.APIToken = apiTokenOf(token)
		return err
	})
}
