package people

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// KeyActRecord is what an administrator signed about a key, with names.
type KeyActRecord struct {
	Revokes          bool   // else it countersigns
	Workspace        string // its name
	By               string // the names of who signed
	At               time.Time
	CompromisedSince *time.Time
	// Counts is whether it still does: a countersignature does not where a key that signed it was in other hands by then.
	Counts bool

	credential  []byte
	workspaceID string
	signers     []string // our ids
}

// KeyActs are what administrators signed about some keys.
type KeyActs []KeyActRecord

// Of are those about one key, oldest first, those of one workspace unless it is "".
func (a KeyActs) Of(workspace string, id []byte) KeyActs {
	return slices.DeleteFunc(slices.Clone(a), func(r KeyActRecord) bool {
		return !bytes.Equal(r.credential, id) || workspace != "" && r.workspaceID != workspace
	})
}

// KeyActs reads what was signed about the person's own keys, in all workspaces.
func (p *People) KeyActs(ctx context.Context, person store.Person) (KeyActs, error) {
	keys, err := p.Passkeys(ctx, person)
	if err != nil {
		return nil, err
	}
	return p.NameKeyActs(ctx, keys)
}

// NameKeyActs tells what was signed about keys with the names of people and workspaces. What a caller may see of that
// the caller has to choose: see KeyActs.Of.
func (p *People) NameKeyActs(ctx context.Context, keys ...store.Keys) (KeyActs, error) {
	var (
		acts KeyActs
		all  store.Keys
		ids  []string // of people
	)
	seen := map[string]bool{}
	for _, k := range keys {
		for _, c := range k.Countersignatures {
			if id := "c" + c.WorkspaceID + string(c.CredentialID); !seen[id] {
				seen[id] = true
				all.Countersignatures = append(all.Countersignatures, c)
				acts = append(acts, KeyActRecord{At: c.CreatedAt, credential: c.CredentialID, workspaceID: c.WorkspaceID, signers: signersOf(c.PersonID, c.Agreed)})
			}
		}
		for _, r := range k.Revocations {
			if id := "r" + r.WorkspaceID + string(r.CredentialID); !seen[id] {
				seen[id] = true
				acts = append(acts, KeyActRecord{
					Revokes: true, At: r.CreatedAt, CompromisedSince: r.CompromisedSince, credential: r.CredentialID, workspaceID: r.WorkspaceID,
					signers: signersOf(r.PersonID, r.Agreed),
				})
			}
		}
		for _, r := range k.Reports {
			id := "p" + string(r.Act)
			if r.WorkspaceID == nil || seen[id] {
				continue
			}
			seen[id] = true
			acts = append(acts, KeyActRecord{
				Revokes: true, At: r.CreatedAt, CompromisedSince: &r.CompromisedSince, credential: r.CredentialID, workspaceID: *r.WorkspaceID,
				signers: signersOf(r.PersonID, r.Agreed),
			})
		}
	}
	if len(acts) == 0 {
		return nil, nil
	}
	for _, a := range acts {
		ids = append(ids, a.signers...)
	}
	people, workspaces, judged := map[string]store.Person{}, map[string]string{}, map[string]store.Keys{}
	err := p.store.Outside(ctx, func(sh *store.Shared) error {
		signers, err := sh.People(ctx, ids)
		for _, s := range signers {
			people[s.ID] = s
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, a := range acts {
		if workspaces[a.workspaceID] == "" {
			err := p.store.InWorkspace(ctx, a.workspaceID, func(tx *store.Tx) error {
				workspace, err := tx.ReadWorkspace(ctx)
				if err != nil {
					return err
				}
				workspaces[a.workspaceID] = workspace.Name
				judged[a.workspaceID], err = tx.Judge(ctx, all)
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		by := make([]store.Person, len(a.signers))
		for n, id := range a.signers {
			by[n] = people[id]
		}
		acts[i].By, acts[i].Workspace = names(by), workspaces[a.workspaceID]
		acts[i].Counts = a.Revokes || judged[a.workspaceID].Vouched(a.workspaceID, a.credential)
	}
	slices.SortStableFunc(acts, func(a, b KeyActRecord) int { return a.At.Compare(b.At) })
	return acts, nil
}

// signersOf are our ids of who signed first and of those who agreed.
func signersOf(first string, agreed [][]byte) []string {
	ids := []string{first}
	for _, data := range agreed {
		var signed evidence.SignedAct
		if err := json.Unmarshal(data, &signed); err != nil {
			continue // it was verified when it was stored
		}
		if act, err := evidence.ParseAct(signed.Act); err == nil {
			ids = append(ids, act.Signer.Person)
		}
	}
	return ids
}
