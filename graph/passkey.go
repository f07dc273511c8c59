package graph

import (
	"context"
	"encoding/base64"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

type passkeyNode struct {
	batch *passkeyBatch
	row   store.Credential

	ID                 graphql.ID
	Name               string
	State              string
	Model              *string
	Synced             bool
	CreatedAt          Time
	ExpiresAt          *Time
	EnrolledAt         *Time
	IdentifiedBy       *string
	LastUsedAt         *Time
	RevokedAt          *Time
	RevokedBySignature bool
}

// passkeyBatch lets the passkeys of a list share what others signed about them, and where they fell.
type passkeyBatch struct {
	r     *resolver
	keys  lazy[people.KeyActs]
	falls lazy[people.KeyFalls]
	all   lazy[store.Keys]
}

// The states of a key.
const (
	keyUnconfirmed = "UNCONFIRMED"
	keyWaiting     = "WAITING_FOR_COUNTERSIGNER"
	keyEnrolled    = "ENROLLED"
	keyFallen      = "FALLEN"
	keyRevoked     = "REVOKED"
)

// identities are the words of the SDL for those of the store.
var identities = map[string]string{
	store.ByLogIn: "BITBUCKET_LOG_IN", store.ByOwnKey: "OWN_KEY", store.ByCountersigner: "COUNTERSIGNER",
}

func stateOf(c store.Credential) string {
	switch {
	case c.RevokedAt != nil:
		return keyRevoked
	case c.EnrolledAt != nil:
		return keyEnrolled
	case c.Unfinished != nil:
		return keyWaiting
	}
	return keyUnconfirmed
}

func (r *resolver) passkey(c store.Credential) *passkeyNode {
	return r.passkeys([]store.Credential{c})[0]
}

func (r *resolver) passkeys(rows []store.Credential) []*passkeyNode {
	batch := &passkeyBatch{r: r}
	return each(rows, batch.passkey)
}

func (b *passkeyBatch) passkey(c store.Credential) *passkeyNode {
	n := &passkeyNode{
		batch: b, row: c,
		ID: nodeID(kindPasskey, "", base64.RawURLEncoding.EncodeToString(c.ID)), Name: c.Name, State: stateOf(c), Model: c.AAGUID,
		Synced: c.BackupEligible, CreatedAt: timeOf(c.CreatedAt), EnrolledAt: timeOrNil(c.EnrolledAt), LastUsedAt: timeOrNil(c.LastUsedAt),
		RevokedAt: timeOrNil(c.RevokedAt), RevokedBySignature: c.Revocation != nil,
	}
	if c.IdentifiedBy != nil {
		n.IdentifiedBy = new(identities[*c.IdentifiedBy])
	}
	if c.EnrolledAt == nil {
		n.ExpiresAt = timeOrNil(new(c.CreatedAt.Add(store.WaitingLife)))
	}
	return n
}

// CompromisedSince is the earliest time that its person has named.
func (p *passkeyNode) CompromisedSince(ctx context.Context) (*Time, error) {
	since := p.row.CompromisedSince
	if p.row.RevokedAt == nil {
		return nil, nil
	}
	keys, err := p.batch.all.get(func() (store.Keys, error) { return p.batch.r.people.Passkeys(ctx, viewerOf(ctx)) })
	for _, r := range keys.ReportsOf("", p.row.ID) {
		if since == nil || r.CompromisedSince.Before(*since) {
			since = &r.CompromisedSince
		}
	}
	return timeOrNil(since), err
}

type workspaceKeyAct struct {
	Action           string
	Workspace        string
	By               string
	At               Time
	CompromisedSince *Time
	Counts           bool
}

func (p *passkeyNode) WorkspaceActs(ctx context.Context) ([]workspaceKeyAct, error) {
	acts, err := p.batch.keys.get(func() (people.KeyActs, error) { return p.batch.r.people.KeyActs(ctx, viewerOf(ctx)) })
	return each(acts.Of("", p.row.ID), keyActRecord), err
}

// Falls are where it counts no longer because of a compromised key.
func (p *passkeyNode) Falls(ctx context.Context) ([]*keyFall, error) {
	falls, err := p.batch.falls.get(func() (people.KeyFalls, error) { return p.batch.r.people.KeyFalls(ctx, viewerOf(ctx)) })
	return each(falls.Of(p.row.ID), keyFallOf), err
}

func keyActRecord(a people.KeyActRecord) workspaceKeyAct {
	action := "COUNTERSIGN"
	if a.Revokes {
		action = "REVOKE"
	}
	return workspaceKeyAct{Action: action, Workspace: a.Workspace, By: a.By, At: timeOf(a.At), CompromisedSince: timeOrNil(a.CompromisedSince), Counts: a.Counts}
}

// ProvedModel is what the attestation of the enrolment proves.
func (p *passkeyNode) ProvedModel() (*authenticatorModel, error) { return p.batch.r.provedModel(p.row) }

// Document is what acts say of the key.
func (p *passkeyNode) Document() (string, error) { return documentOf(p.row) }

func documentOf(key store.Credential) (string, error) {
	document, err := people.KeyDocument(key)
	return string(document), err
}

// findPasskey reads the credential id out of a node id.
func findPasskey(ctx context.Context, id graphql.ID) ([]byte, error) {
	a, err := find(ctx, kindPasskey, id, "id")
	if err != nil {
		return nil, err
	}
	return credentialIn(a)
}

func credentialIn(a address) ([]byte, error) {
	credential, err := base64.RawURLEncoding.DecodeString(a.id)
	if err != nil {
		return nil, nothing().At("id")
	}
	return credential, nil
}

func (v *viewer) Passkeys(ctx context.Context) ([]*passkeyNode, error) {
	keys, err := v.r.people.Passkeys(ctx, *v.asked.Person)
	return v.r.passkeys(keys.Credentials), err
}

type keyAct struct {
	Step       string
	Statement  string
	Options    string
	SignerSalt string
	ExpiresAt  Time
}

func keyActOf(a people.KeyAct) *keyAct {
	return &keyAct{
		Step: string(a.Step), Statement: base64.RawURLEncoding.EncodeToString(a.Statement), Options: string(a.Options),
		SignerSalt: base64.RawURLEncoding.EncodeToString(a.SignerSalt), ExpiresAt: timeOf(a.ExpiresAt),
	}
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

// passkeyActPayload is a passkey with what is to be signed for it next.
type passkeyActPayload struct {
	passkeyPayload
	Act *keyAct
}

// FinishPasskey takes the passkey that the authenticator made.
func (r *resolver) FinishPasskey(ctx context.Context, args struct{ Input finishPasskeyInput }) (*passkeyActPayload, error) {
	in := args.Input
	return mutate(func(p *passkeyActPayload) error {
		key, act, err := r.people.FinishPasskey(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, or(in.Name, ""), in.Response)
		p.Passkey, p.Act = r.passkey(key), keyActOf(act)
		return err
	})
}

type continuePasskeyInput struct{ ID graphql.ID }

// ContinuePasskey takes up the enrolment of a passkey that waits.
func (r *resolver) ContinuePasskey(ctx context.Context, args struct{ Input continuePasskeyInput }) (*passkeyActPayload, error) {
	return mutate(func(p *passkeyActPayload) error {
		id, err := findPasskey(ctx, args.Input.ID)
		if err != nil {
			return err
		}
		key, act, err := r.people.ContinuePasskey(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, id)
		p.Passkey, p.Act = r.passkey(key), keyActOf(act)
		return err
	})
}

type confirmPasskeyInput struct{ Response string }

// ConfirmPasskey takes a signature over an enrolment.
func (r *resolver) ConfirmPasskey(ctx context.Context, args struct{ Input confirmPasskeyInput }) (*passkeyActPayload, error) {
	return mutate(func(p *passkeyActPayload) error {
		key, next, err := r.people.ConfirmPasskey(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, args.Input.Response)
		p.Passkey = r.passkey(key)
		if next != nil {
			p.Act = keyActOf(*next)
		}
		return err
	})
}

type reportLostPasskeysInput struct{ Confirm bool }

type reportLostPasskeysPayload struct {
	problems
	Passkeys []*passkeyNode
}

// ReportLostPasskeys revokes every enrolled passkey of the viewer.
func (r *resolver) ReportLostPasskeys(ctx context.Context, args struct{ Input reportLostPasskeysInput }) (*reportLostPasskeysPayload, error) {
	return mutate(func(p *reportLostPasskeysPayload) error {
		if !args.Input.Confirm {
			return refusal.New(refusal.BadInput, "Confirm that you have none of your passkeys any more.").At("confirm")
		}
		keys, err := r.people.ReportLost(ctx, viewerOf(ctx))
		p.Passkeys = r.passkeys(keys)
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
		p.Passkey = r.passkey(key)
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
		p.Passkey = r.passkey(key)
		return err
	})
}
