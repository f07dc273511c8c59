package graph

import (
	"context"
	"encoding/base64"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/store"
)

type passkeyNode struct {
	ID         graphql.ID
	Name       string
	CreatedAt  Time
	LastUsedAt *Time
	RevokedAt  *Time
	Synced     bool
}

func passkeyOf(c store.Credential) *passkeyNode {
	return &passkeyNode{
		ID: nodeID(kindPasskey, "", base64.RawURLEncoding.EncodeToString(c.ID)), Name: c.Name, CreatedAt: timeOf(c.CreatedAt),
		LastUsedAt: timeOrNil(c.LastUsedAt), RevokedAt: timeOrNil(c.RevokedAt), Synced: c.BackupEligible,
	}
}

// findPasskey reads the credential id out of a node id.
func findPasskey(ctx context.Context, id graphql.ID) ([]byte, error) {
	a, err := find(ctx, kindPasskey, id, "id")
	if err != nil {
		return nil, err
	}
	credential, err := base64.RawURLEncoding.DecodeString(a.id)
	if err != nil {
		return nil, nothing().At("id")
	}
	return credential, nil
}

func (v *viewer) Passkeys(ctx context.Context) ([]*passkeyNode, error) {
	keys, err := v.r.people.Passkeys(ctx, *v.asked.Person)
	return each(keys, passkeyOf), err
}

type beginPasskeyInput struct{ Name *string }

type beginPasskeyPayload struct {
	problems
	Options *string
}

// BeginPasskey starts enrolling a passkey.
func (r *resolver) BeginPasskey(ctx context.Context, args struct{ Input beginPasskeyInput }) (*beginPasskeyPayload, error) {
	return mutate(func(p *beginPasskeyPayload) error {
		options, err := r.people.BeginPasskey(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, or(args.Input.Name, ""))
		p.Options = &options
		return err
	})
}

type finishPasskeyInput struct {
	Name     *string
	Response string
}

type passkeyPayload struct {
	problems
	Passkey *passkeyNode
}

// FinishPasskey enrols the passkey that the authenticator made.
func (r *resolver) FinishPasskey(ctx context.Context, args struct{ Input finishPasskeyInput }) (*passkeyPayload, error) {
	in := args.Input
	return mutate(func(p *passkeyPayload) error {
		key, err := r.people.FinishPasskey(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, or(in.Name, ""), in.Response)
		p.Passkey = passkeyOf(key)
		return err
	})
}

type renamePasskeyInput struct {
	ID   graphql.ID
	Name string
}

// RenamePasskey renames a passkey of the viewer.
func (r *resolver) RenamePasskey(ctx context.Context, args struct{ Input renamePasskeyInput }) (*passkeyPayload, error) {
	return mutate(func(p *passkeyPayload) error {
		id, err := findPasskey(ctx, args.Input.ID)
		if err != nil {
			return err
		}
		key, err := r.people.RenamePasskey(ctx, viewerOf(ctx), id, args.Input.Name)
		p.Passkey = passkeyOf(key)
		return err
	})
}

type revokePasskeyInput struct{ ID graphql.ID }

// RevokePasskey ends a passkey of the viewer.
func (r *resolver) RevokePasskey(ctx context.Context, args struct{ Input revokePasskeyInput }) (*passkeyPayload, error) {
	return mutate(func(p *passkeyPayload) error {
		id, err := findPasskey(ctx, args.Input.ID)
		if err != nil {
			return err
		}
		key, err := r.people.RevokePasskey(ctx, viewerOf(ctx), id)
		p.Passkey = passkeyOf(key)
		return err
	})
}
