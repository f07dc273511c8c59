package store

import (
	"context"
	"fmt"
	"time"
)

// Keys are all keys of one person with what others signed for them.
type Keys struct {
	Credentials       []Credential // newest first
	Countersignatures []Countersignature
	Revocations       []KeyRevocation
}

// Keys reads all keys of a person.
func (sh *Shared) Keys(ctx context.Context, personID string) (k Keys, err error) {
	if k.Credentials, err = sh.Credentials(ctx, personID); err != nil {
		return Keys{}, err
	}
	err = sh.fill(ctx, &k)
	return k, err
}

func (sh *Shared) fill(ctx context.Context, k *Keys) (err error) {
	ids := make([][]byte, len(k.Credentials))
	for i, c := range k.Credentials {
		ids[i] = c.ID
	}
	if k.Countersignatures, err = sh.Countersignatures(ctx, ids); err != nil {
		return fmt.Errorf("store: countersignatures: %w", err)
	}
	if k.Revocations, err = sh.KeyRevocations(ctx, ids); err != nil {
		return fmt.Errorf("store: revocations of keys: %w", err)
	}
	return nil
}

// Countersignature is the workspace's for a key; nil without one.
func (k Keys) Countersignature(workspace string, id []byte) *Countersignature {
	for i, c := range k.Countersignatures {
		if c.WorkspaceID == workspace && string(c.CredentialID) == string(id) {
			return &k.Countersignatures[i]
		}
	}
	return nil
}

// Revocation is the workspace's of a key; nil without one.
func (k Keys) Revocation(workspace string, id []byte) *KeyRevocation {
	for i, r := range k.Revocations {
		if r.WorkspaceID == workspace && string(r.CredentialID) == string(id) {
			return &k.Revocations[i]
		}
	}
	return nil
}

// CompromisedSince is since when decisions by a key do not count in a workspace; nil where nobody said so.
func (k Keys) CompromisedSince(workspace string, id []byte) *time.Time {
	var since *time.Time
	earlier := func(t *time.Time) {
		if t != nil && (since == nil || t.Before(*since)) {
			since = t
		}
	}
	for _, c := range k.Credentials {
		if string(c.ID) == string(id) {
			earlier(c.CompromisedSince)
		}
	}
	if r := k.Revocation(workspace, id); r != nil {
		earlier(r.CompromisedSince)
	}
	return since
}

// Trusted says whether a workspace knows, by more than the word of another workspace, whose an enrolled key is: by the
// Bitbucket log-in, by a key of the same person that it trusted when that signed, or by an administrator of its own.
// Without this whoever took over a Bitbucket account could make a workspace, have a new key countersigned there, and
// use it in all the others. A key that was revoked stays trusted for what it did before.
func (k Keys) Trusted(workspace string, id []byte) bool {
	return k.trusted(workspace, id, len(k.Credentials))
}

// trusted follows at most so many keys: each was enrolled by one before it, so that there is an end.
func (k Keys) trusted(workspace string, id []byte, most int) bool {
	for _, c := range k.Credentials {
		if string(c.ID) != string(id) || c.EnrolledAt == nil || most == 0 {
			continue
		}
		if *c.IdentifiedBy == ByLogIn || k.Countersignature(workspace, id) != nil {
			return true
		}
		if *c.IdentifiedBy != ByOwnKey || !k.trusted(workspace, c.AuthorityID, most-1) {
			return false
		}
		revoked, since := k.Revocation(workspace, c.AuthorityID), k.CompromisedSince(workspace, c.AuthorityID)
		return (revoked == nil || revoked.CreatedAt.After(*c.EnrolledAt)) && (since == nil || since.After(*c.EnrolledAt))
	}
	return false
}

// Counting are the keys that can decide in a workspace now, newest first.
func (k Keys) Counting(workspace string) (counting []Credential) {
	for _, c := range k.Credentials {
		if c.Enrolled() && k.Revocation(workspace, c.ID) == nil && k.Trusted(workspace, c.ID) {
			counting = append(counting, c)
		}
	}
	return counting
}

// KeyHolder is a member of a workspace with all their keys.
type KeyHolder struct {
	Person Person
	Keys   Keys
}

// Cursor is the place of h in a list by name.
func (h KeyHolder) Cursor() string { return cursor(h.Person.Name, h.Person.ID) }

// KeyHolders lists those who have a key and were members of the workspace when we last read it, by name. With wanting
// they are only those of whom a key waits for a countersigner, rests on the log-in alone or was recovered in another
// workspace.
func (sh *Shared) KeyHolders(ctx context.Context, workspace string, wanting bool, page Page) ([]KeyHolder, bool, error) {
	name, id, err := page.afterName()
	if err != nil {
		return nil, false, err
	}
	people, err := list[Person](ctx, sh.tx, `select `+personColumns+` from signedapproval_people p
		where exists (select from signedapproval_memberships m where m.person_id = p.id and m.workspace_id = $1 and m.role <> 'NONE')
			and exists (select from signedapproval_credentials c where c.person_id = p.id and (not $2 or c.revoked_at is null and (
				c.unfinished is not null or c.identified_by in ('bitbucket-login', 'countersigner')
					and not exists (select from signedapproval_key_countersignatures s where s.credential_id = c.id and s.workspace_id = $1)
					and not exists (select from signedapproval_key_revocations r where r.credential_id = c.id and r.workspace_id = $1))))
			and ($3::text is null or (p.name, p.id) > ($3, $4::uuid))
		order by p.name, p.id limit $5`, workspace, wanting, name, id, page.limit()+1)
	if err != nil {
		return nil, false, fmt.Errorf("store: list key holders: %w", err)
	}
	people, more := paged(people, page)
	ids := make([]string, len(people))
	for i, p := range people {
		ids[i] = p.ID
	}
	var all Keys
	all.Credentials, err = list[Credential](ctx, sh.tx, `select `+credentialColumns+` from signedapproval_credentials
		where person_id = any($1) order by created_at desc, id`, ids)
	if err != nil {
		return nil, false, fmt.Errorf("store: list keys: %w", err)
	}
	if err := sh.fill(ctx, &all); err != nil {
		return nil, false, err
	}
	holders := make([]KeyHolder, len(people))
	for i, p := range people {
		// What others signed is found by the credential id, so that each holder can have it all.
		holders[i] = KeyHolder{Person: p, Keys: Keys{Countersignatures: all.Countersignatures, Revocations: all.Revocations}}
		for _, c := range all.Credentials {
			if c.PersonID == p.ID {
				holders[i].Keys.Credentials = append(holders[i].Keys.Credentials, c)
			}
		}
	}
	return holders, more, nil
}
