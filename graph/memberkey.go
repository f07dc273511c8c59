package graph

import (
	"context"
	"encoding/base64"
	"time"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

type keyHolder struct {
	Person *person
	Keys   []*memberKey
}

type memberKey struct {
	batch *memberKeyBatch
	row   store.Credential

	ID               graphql.ID
	Name             string
	State            string
	Model            *string
	Synced           bool
	CreatedAt        Time
	EnrolledAt       *Time
	IdentifiedBy     *string
	RevokedAt        *Time
	CompromisedSince *Time
	CanCountersign   bool
	CanRevoke        bool
	CanReport        bool
}

// memberKeyBatch lets the keys of a list share the names of who signed about them.
type memberKeyBatch struct {
	r         *resolver
	workspace string
	keys      []store.Keys
	acts      lazy[people.KeyActs]
	falls     lazy[people.KeyFalls]
}

type keyHoldersArgs struct {
	Wanting *bool
	pageArgs
}

func (w *workspaceNode) KeyHolders(ctx context.Context, args keyHoldersArgs) (*connection[*keyHolder], error) {
	viewer := viewerOf(ctx)
	rows, more, err := w.r.people.KeyHolders(ctx, viewer, w.row.ID, or(args.Wanting, false), args.page())
	if refusal.Code(err) == refusal.Forbidden {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	batch := &memberKeyBatch{r: w.r, workspace: w.row.ID}
	for _, h := range rows {
		batch.keys = append(batch.keys, h.Keys)
	}
	return connect(rows, more, store.KeyHolder.Cursor, func(h store.KeyHolder) *keyHolder {
		return &keyHolder{
			Person: personOf(h.Person),
			Keys:   each(h.Keys.Credentials, func(c store.Credential) *memberKey { return batch.key(h, c, viewer) }),
		}
	}), nil
}

// memberKey is one key of a member.
func (r *resolver) memberKey(workspace string, h store.KeyHolder, c store.Credential, viewer store.Person) *memberKey {
	return (&memberKeyBatch{r: r, workspace: workspace, keys: []store.Keys{h.Keys}}).key(h, c, viewer)
}

func (b *memberKeyBatch) key(h store.KeyHolder, c store.Credential, viewer store.Person) *memberKey {
	workspace := b.workspace
	revoked := h.Keys.Revocation(workspace, c.ID)
	k := &memberKey{
		batch: b, row: c,
		ID: nodeID(kindMemberKey, workspace, base64.RawURLEncoding.EncodeToString(c.ID)), Name: c.Name, State: stateOf(c), Model: c.AAGUID,
		Synced: c.BackupEligible, CreatedAt: timeOf(c.CreatedAt), EnrolledAt: timeOrNil(c.EnrolledAt), RevokedAt: timeOrNil(c.RevokedAt),
		CompromisedSince: timeOrNil(h.Keys.CompromisedSince(workspace, c.ID)),
		CanCountersign:   h.Person.ID != viewer.ID && !h.Left && h.Keys.Countersignable(workspace, c),
		CanRevoke:        h.Person.ID != viewer.ID && h.Keys.Live(workspace, c),
		CanReport:        h.Person.ID != viewer.ID && c.EnrolledAt != nil && !h.Keys.Live(workspace, c),
	}
	switch {
	case k.State == keyRevoked:
	case revoked != nil:
		k.State = keyRevoked
		k.RevokedAt = timeOrNil(&revoked.CreatedAt)
	case k.State == keyEnrolled && h.Keys.FellWith(workspace, c.ID) != nil:
		k.State = keyFallen
	case k.State == keyEnrolled && !h.Keys.Trusted(workspace, c.ID):
		k.State = keyWaiting
	}
	switch {
	case h.Keys.FellWith(workspace, c.ID) != nil: // nothing that was said of it counts
	case h.Keys.Vouched(workspace, c.ID):
		k.IdentifiedBy = new(identities[store.ByCountersigner])
	case c.IdentifiedBy != nil && h.Keys.Trusted(workspace, c.ID):
		k.IdentifiedBy = new(identities[*c.IdentifiedBy])
	}
	return k
}

func (k *memberKey) Acts(ctx context.Context) ([]workspaceKeyAct, error) {
	acts, err := k.batch.acts.get(func() (people.KeyActs, error) { return k.batch.r.people.NameKeyActs(ctx, k.batch.keys...) })
	return each(acts.Of(k.batch.workspace, k.row.ID), keyActRecord), err
}

type keyFall struct {
	Workspace        string
	Key              string
	Owner            *person
	CompromisedSince Time
	Since            Time
	By               string
}

// Fall is with which compromised key it fell.
func (k *memberKey) Fall(ctx context.Context) (*keyFall, error) {
	falls, err := k.batch.falls.get(func() (people.KeyFalls, error) {
		return k.batch.r.people.NameKeyFalls(ctx, k.batch.workspace, k.batch.keys...)
	})
	if fell := falls.Of(k.row.ID); len(fell) > 0 { // in one workspace, so once
		return keyFallOf(fell[0]), nil
	}
	return nil, err
}

func keyFallOf(f people.KeyFall) *keyFall {
	return &keyFall{
		Workspace: f.Workspace, Key: f.Key, Owner: personOf(f.Owner), CompromisedSince: timeOf(f.CompromisedSince), Since: timeOf(f.Since), By: f.By,
	}
}

// ProvedModel is what the attestation of the enrolment proves.
func (k *memberKey) ProvedModel() (*authenticatorModel, error) { return k.batch.r.provedModel(k.row) }

// Document is what acts say of the key.
func (k *memberKey) Document() (string, error) { return documentOf(k.row) }

type prepareKeyActInput struct {
	Key              graphql.ID
	Action           string
	CompromisedSince *string
}

type prepareKeyActPayload struct {
	problems
	Act      *keyAct
	Proposal *proposal
}

// PrepareKeyAct makes what is signed to revoke or to countersign a key.
func (r *resolver) PrepareKeyAct(ctx context.Context, args struct{ Input prepareKeyActInput }) (*prepareKeyActPayload, error) {
	in := args.Input
	return mutate(func(p *prepareKeyActPayload) error {
		a, ok := parseID(in.Key)
		if !ok || a.kind != kindPasskey && a.kind != kindMemberKey || a.kind == kindPasskey && in.Action != "REVOKE" {
			return nothing().At("key")
		}
		var since *time.Time
		if in.CompromisedSince != nil {
			at, err := time.Parse(time.RFC3339, *in.CompromisedSince)
			if err != nil || in.Action != "REVOKE" {
				return refusal.New(refusal.BadInput, "A revocation can name a time, in the form of RFC 3339.").At("compromisedSince")
			}
			since = &at
		}
		act, err := r.prepareKeyAct(ctx, a, in.Action == "REVOKE", since)
		if err == nil {
			p.Act = keyActOf(act)
			return nil
		}
		p.Proposal, p.UserErrors, err = r.instead(ctx, a.workspace, err)
		return err
	})
}

func (r *resolver) prepareKeyAct(ctx context.Context, a address, revokes bool, since *time.Time) (people.KeyAct, error) {
	viewer, session := viewerOf(ctx), callerOf(ctx).SessionHash
	id, err := credentialIn(a)
	switch {
	case err != nil:
		return people.KeyAct{}, err
	case a.kind == kindPasskey:
		return r.people.PrepareRevocation(ctx, viewer, session, id, since)
	case revokes:
		return r.people.PrepareMemberRevocation(ctx, viewer, session, a.workspace, id, since)
	}
	return r.people.PrepareCountersignature(ctx, viewer, session, a.workspace, id)
}

type signKeyActInput struct{ Response string }

type signKeyActPayload struct {
	problems
	Passkey   *passkeyNode
	MemberKey *memberKey
}

// SignKeyAct does what a passkey of the viewer has signed.
func (r *resolver) SignKeyAct(ctx context.Context, args struct{ Input signKeyActInput }) (*signKeyActPayload, error) {
	return mutate(func(p *signKeyActPayload) error {
		viewer := viewerOf(ctx)
		key, workspace, err := r.people.SignKeyAct(ctx, viewer, callerOf(ctx).SessionHash, args.Input.Response)
		if err != nil {
			return err
		}
		if workspace == "" {
			p.Passkey = r.passkey(key)
			return nil
		}
		holder, key, err := r.people.KeyHolder(ctx, viewer, workspace, key.ID)
		p.MemberKey = r.memberKey(workspace, holder, key, viewer)
		return err
	})
}
