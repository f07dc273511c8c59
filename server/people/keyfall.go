package people

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/store"
)

// KeyFall tells with which compromised key another one fell in a workspace, with names.
type KeyFall struct {
	Key              string       // the name of the compromised one
	Owner            store.Person // whose that is
	CompromisedSince time.Time
	Since            time.Time // when that was said; since then the key that fell counts no longer
	By               string    // the names of who said it

	credential []byte // the key that fell
}

// KeyFalls are those of some keys of a workspace.
type KeyFalls []KeyFall

// Of is the fall of a key; nil where it stands.
func (f KeyFalls) Of(id []byte) *KeyFall {
	i := slices.IndexFunc(f, func(fall KeyFall) bool { return bytes.Equal(fall.credential, id) })
	if i < 0 {
		return nil
	}
	return &f[i]
}

// NameKeyFalls tells which of the keys fell in a workspace, with names. They must have been read there, so that its
// roster says which; the caller chooses which of them somebody may see.
func (p *People) NameKeyFalls(ctx context.Context, workspace string, keys ...store.Keys) (falls KeyFalls, err error) {
	var compromised [][]byte // of each fall
	for _, k := range keys {
		for _, c := range k.Credentials {
			if with := k.FellWith(workspace, c.ID); with != nil {
				fall := KeyFall{credential: c.ID}
				if since := k.CompromisedSince(workspace, with); since != nil {
					fall.CompromisedSince = *since
				}
				falls, compromised = append(falls, fall), append(compromised, with)
			}
		}
	}
	if len(falls) == 0 {
		return nil, nil
	}
	var (
		with   []store.Credential
		said   store.Keys // for the workspace
		people = map[string]store.Person{}
	)
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		if with, err = sh.CredentialsByID(ctx, compromised); err != nil {
			return err
		}
		if said.Revocations, err = sh.KeyRevocations(ctx, compromised); err != nil {
			return err
		}
		var ids []string
		for _, c := range with {
			ids = append(ids, c.PersonID)
			if r := said.Revocation(workspace, c.ID); r != nil {
				ids = append(ids, signersOf(r.PersonID, r.Agreed)...)
			}
		}
		named, err := sh.People(ctx, ids)
		for _, person := range named {
			people[person.ID] = person
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range falls {
		n := slices.IndexFunc(with, func(c store.Credential) bool { return bytes.Equal(c.ID, compromised[i]) })
		if n < 0 {
			continue // keys are never taken away
		}
		falls[i].name(with[n], said.Revocation(workspace, compromised[i]), people)
	}
	return falls, nil
}

// name fills in what is said of the compromised key: by its owner or for the workspace, whoever did so first.
func (f *KeyFall) name(c store.Credential, r *store.KeyRevocation, people map[string]store.Person) {
	f.Key, f.Owner = c.Name, people[c.PersonID]
	said := r != nil && r.CompromisedSince != nil
	if c.CompromisedSince != nil && c.RevokedAt != nil && (!said || c.RevokedAt.Before(r.CreatedAt)) {
		f.Since, f.By = *c.RevokedAt, f.Owner.Name
		return
	}
	if !said {
		return
	}
	var by []store.Person
	for _, id := range signersOf(r.PersonID, r.Agreed) {
		by = append(by, people[id])
	}
	f.Since, f.By = r.CreatedAt, names(by)
}
