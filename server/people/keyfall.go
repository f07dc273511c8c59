package people

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/store"
)

// KeyFall tells where a key counts no longer, and with which compromised one it fell there, with names.
type KeyFall struct {
	Workspace        string       // its name
	Key              string       // the name of the compromised one
	Owner            store.Person // whose that is
	CompromisedSince time.Time
	Since            time.Time // when that was said; since then the key that fell counts no longer
	By               string    // the names of who said it

	workspaceID string
	credential  []byte // the key that fell
	compromised []byte // the key with which it fell
}

// KeyFalls are those of some keys.
type KeyFalls []KeyFall

// Of are the falls of a key, by the workspaces' names; none where it stands.
func (f KeyFalls) Of(id []byte) KeyFalls {
	return slices.DeleteFunc(slices.Clone(f), func(fall KeyFall) bool { return !bytes.Equal(fall.credential, id) })
}

// KeyFalls tells where the person's own keys fell: in every workspace that they are a member of, or whose roster knows a
// key of theirs. What it costs grows with the workspaces, not with the keys.
func (p *People) KeyFalls(ctx context.Context, person store.Person) (falls KeyFalls, err error) {
	err = p.eachJudged(ctx, person, func(workspace string, judged store.Keys) { falls = append(falls, fallsIn(workspace, judged)...) })
	if err != nil {
		return nil, err
	}
	return falls, p.nameFalls(ctx, falls)
}

// eachJudged hands out the person's own keys as each workspace judges them.
func (p *People) eachJudged(ctx context.Context, person store.Person, do func(workspace string, judged store.Keys)) error {
	var (
		keys       store.Keys
		workspaces []string
	)
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		if keys, err = sh.Keys(ctx, person.ID); err != nil {
			return err
		}
		if len(keys.Credentials) == 0 {
			return nil
		}
		workspaces, err = sh.KeyWorkspaces(ctx, person.ID)
		return err
	})
	if err != nil {
		return err
	}
	for _, workspace := range workspaces {
		err := p.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
			judged, err := tx.Judge(ctx, keys)
			if err == nil {
				do(workspace, judged)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// standing says of the person's keys, by their ids, which fell somewhere, and which count somewhere.
func (p *People) standing(ctx context.Context, person store.Person) (fell, counts map[string]bool, err error) {
	fell, counts = map[string]bool{}, map[string]bool{}
	err = p.eachJudged(ctx, person, func(workspace string, judged store.Keys) {
		for _, fall := range fallsIn(workspace, judged) {
			fell[string(fall.credential)] = true
		}
		for _, c := range judged.Counting(workspace) {
			counts[string(c.ID)] = true
		}
	})
	return fell, counts, err
}

// NameKeyFalls tells which of the keys fell in a workspace, with names. They must have been read there, so that its
// roster says which; the caller chooses which of them somebody may see.
func (p *People) NameKeyFalls(ctx context.Context, workspace string, keys ...store.Keys) (KeyFalls, error) {
	falls := fallsIn(workspace, keys...)
	return falls, p.nameFalls(ctx, falls)
}

// fallsIn are the falls of keys that were read in a workspace, still without names.
func fallsIn(workspace string, keys ...store.Keys) (falls KeyFalls) {
	for _, k := range keys {
		for _, c := range k.Credentials {
			if with := k.FellWith(workspace, c.ID); with != nil {
				fall := KeyFall{workspaceID: workspace, credential: c.ID, compromised: with}
				if since := k.CompromisedSince(workspace, with); since != nil {
					fall.CompromisedSince = *since
				}
				falls = append(falls, fall)
			}
		}
	}
	return falls
}

// nameFalls fills in the names, and puts the falls in the order of the workspaces'.
func (p *People) nameFalls(ctx context.Context, falls KeyFalls) error {
	if len(falls) == 0 {
		return nil
	}
	var (
		compromised [][]byte
		with        []store.Credential
		said        store.Keys // for the workspaces
		people      = map[string]store.Person{}
		workspaces  = map[string]string{}
	)
	for _, fall := range falls {
		compromised = append(compromised, fall.compromised)
		workspaces[fall.workspaceID] = ""
	}
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		if with, err = sh.CredentialsByID(ctx, compromised); err != nil {
			return err
		}
		if said.Revocations, err = sh.KeyRevocations(ctx, compromised); err != nil {
			return err
		}
		if said.Reports, err = sh.KeyReports(ctx, compromised); err != nil {
			return err
		}
		var ids []string
		for _, c := range with {
			ids = append(ids, c.PersonID)
		}
		for _, fall := range falls {
			if r := said.Revocation(fall.workspaceID, fall.compromised); r != nil {
				ids = append(ids, signersOf(r.PersonID, r.Agreed)...)
			}
			for _, r := range said.ReportsOf(fall.workspaceID, fall.compromised) {
				ids = append(ids, signersOf(r.PersonID, r.Agreed)...)
			}
		}
		named, err := sh.People(ctx, ids)
		for _, person := range named {
			people[person.ID] = person
		}
		return err
	})
	for id := range workspaces {
		if err != nil {
			return err
		}
		err = p.store.InWorkspace(ctx, id, func(tx *store.Tx) error {
			workspace, err := tx.ReadWorkspace(ctx)
			workspaces[id] = workspace.Name
			return err
		})
	}
	if err != nil {
		return err
	}
	for i := range falls {
		fall := &falls[i]
		fall.Workspace = workspaces[fall.workspaceID]
		n := slices.IndexFunc(with, func(c store.Credential) bool { return bytes.Equal(c.ID, fall.compromised) })
		if n < 0 {
			continue // keys are never taken away
		}
		fall.name(with[n], said, people)
	}
	slices.SortStableFunc(falls, func(a, b KeyFall) int {
		return cmp.Or(cmp.Compare(a.Workspace, b.Workspace), cmp.Compare(a.workspaceID, b.workspaceID))
	})
	return nil
}

// name fills in what is said of the compromised key: by its owner or for the workspace, whoever was the first to say since when.
func (f *KeyFall) name(c store.Credential, said store.Keys, people map[string]store.Person) {
	f.Key, f.Owner = c.Name, people[c.PersonID]
	note := func(at time.Time, since *time.Time, first string, agreed ...[]byte) {
		if since == nil || !since.Equal(f.CompromisedSince) || !f.Since.IsZero() && !at.Before(f.Since) {
			return
		}
		var by []store.Person
		for _, id := range signersOf(first, agreed) {
			by = append(by, people[id])
		}
		f.Since, f.By = at, names(by)
	}
	if c.RevokedAt != nil {
		note(*c.RevokedAt, c.CompromisedSince, c.PersonID)
	}
	if r := said.Revocation(f.workspaceID, f.compromised); r != nil {
		note(r.CreatedAt, r.CompromisedSince, r.PersonID, r.Agreed...)
	}
	for _, r := range said.ReportsOf(f.workspaceID, f.compromised) {
		note(r.CreatedAt, &r.CompromisedSince, r.PersonID, r.Agreed...)
	}
}
