package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// Keys are all keys of one person with what others signed for them.
type Keys struct {
	Credentials       []Credential // newest first
	Countersignatures []Countersignature
	Revocations       []KeyRevocation
	Reports           []KeyReport

	roster *evidence.Roster // of the workspace that reads them, as it judges; nil where there is nothing to judge
}

// Keys reads all keys of a person, with what the workspace makes of compromised ones: what they signed for counts no more
// there, whoever's it is. See [Judgement].
func (tx *Tx) Keys(ctx context.Context, personID string) (Keys, error) {
	k, err := tx.Shared.Keys(ctx, personID)
	if err != nil {
		return Keys{}, err
	}
	return tx.Judge(ctx, k)
}

// Judge gives keys that were read elsewhere what the workspace makes of compromised ones, as [Tx.Keys] does.
func (tx *Tx) Judge(ctx context.Context, k Keys) (Keys, error) {
	judgement, err := tx.Judgement(ctx)
	k.roster = judgement.Roster
	return k, err
}

// KeysOf reads the keys of several people as [Tx.Keys] does, with as many statements as of one.
func (tx *Tx) KeysOf(ctx context.Context, people []string) (map[string]Keys, error) {
	var all Keys
	var err error
	all.Credentials, err = list[Credential](ctx, tx.tx, `select `+credentialColumns+` from signedapproval_credentials
		where person_id = any($1) order by created_at desc, id`, people)
	if err != nil {
		return nil, fmt.Errorf("store: list keys: %w", err)
	}
	if err := tx.fill(ctx, &all); err != nil {
		return nil, err
	}
	judgement, err := tx.Judgement(ctx)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]Keys, len(people))
	for _, id := range people {
		// What others signed is found by the credential id, so that everybody can have it all.
		k := Keys{Countersignatures: all.Countersignatures, Revocations: all.Revocations, Reports: all.Reports, roster: judgement.Roster}
		for _, c := range all.Credentials {
			if c.PersonID == id {
				k.Credentials = append(k.Credentials, c)
			}
		}
		keys[id] = k
	}
	return keys, nil
}

// Keys reads all keys of a person. Whether they count in a workspace is what [Tx.Keys] is for.
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
	if k.Reports, err = sh.KeyReports(ctx, ids); err != nil {
		return fmt.Errorf("store: reports of keys: %w", err)
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

// ReportsOf are those of a key that hold in a workspace, or, where that is "", those that its person signed; oldest first.
func (k Keys) ReportsOf(workspace string, id []byte) (reports []KeyReport) {
	for _, r := range k.Reports {
		if string(r.CredentialID) == string(id) && (r.WorkspaceID == nil || *r.WorkspaceID == workspace) {
			reports = append(reports, r)
		}
	}
	return reports
}

// CompromisedSince is since when decisions by a key do not count in a workspace; nil where nobody said so. Of a key that
// is in the workspace's roster only that says it.
func (k Keys) CompromisedSince(workspace string, id []byte) *time.Time {
	if k.roster != nil {
		if key, found := k.roster.Key(id); found {
			return key.CompromisedSince
		}
	}
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
	for _, r := range k.ReportsOf(workspace, id) {
		earlier(&r.CompromisedSince)
	}
	return since
}

// Known says whether a workspace knows, by more than the word of another workspace, whose an enrolled key is: by the
// Bitbucket log-in, by a key of the same person that it knew and had not revoked when that signed, or by an administrator
// of its own. Without this whoever took over a Bitbucket account could make a workspace, have a new key countersigned
// there, and use it in all the others. A key that was revoked stays known for what it did before.
func (k Keys) Known(workspace string, id []byte) bool {
	could := func(authority []byte, enrolled Credential) bool {
		revoked := k.Revocation(workspace, authority)
		return revoked == nil || revoked.Order > enrolled.EnrolledOrder
	}
	return k.through(workspace, id, could, func(Countersignature) bool { return true })
}

// Stands says of an enrolled key what [evidence.Roster.Stands] says of one in a roster. Of a key that is in the roster the
// roster says it; what it does not tell yet is judged by the keys of the person, and their signers' in the roster.
func (k Keys) Stands(workspace string, id []byte) bool {
	if k.fallen(id) {
		return false
	}
	could := func(authority []byte, enrolled Credential) bool {
		if k.fallen(authority) {
			return false
		}
		since := k.CompromisedSince(workspace, authority)
		if since == nil {
			return true
		}
		at, err := enrolled.asked()
		return err == nil && !evidence.InOtherHands(since, at)
	}
	return k.through(workspace, id, could, k.vouches)
}

// fallen reports whether the roster has a key and it does not stand.
func (k Keys) fallen(id []byte) bool {
	if k.roster == nil {
		return false
	}
	key, found := k.roster.Key(id)
	return found && !k.roster.Stands(key)
}

// FellWith is the credential id of the key that was in other hands and with which an enrolled key fell that does not stand in
// a workspace: it signed for that one, or for one that it goes back to. Nil where the key stands.
func (k Keys) FellWith(workspace string, id []byte) []byte {
	for range k.Credentials { // as in through
		if k.fallen(id) {
			key, _ := k.roster.Key(id)
			with, _ := k.roster.FellWith(key)
			return with.Key.CredentialID
		}
		i := slices.IndexFunc(k.Credentials, func(c Credential) bool { return bytes.Equal(c.ID, id) && c.EnrolledAt != nil })
		if i < 0 || k.Stands(workspace, id) || *k.Credentials[i].IdentifiedBy != ByOwnKey {
			return nil
		}
		id = k.Credentials[i].AuthorityID
		if k.Stands(workspace, id) {
			return id
		}
	}
	return nil
}

// Vouched tells whether somebody else vouched for a key in a workspace, with keys that were in their owners' hands.
func (k Keys) Vouched(workspace string, id []byte) bool {
	signed := k.Countersignature(workspace, id)
	return signed != nil && k.vouches(*signed)
}

// VouchedFor tells whether somebody else vouched for a key in a workspace, or for the one of the same person that it goes
// back to. It is what [evidence.Roster.IdentityAt] says, of a key that stands.
func (k Keys) VouchedFor(workspace string, id []byte) bool {
	for range k.Credentials { // as in through
		if k.Vouched(workspace, id) {
			return true
		}
		i := slices.IndexFunc(k.Credentials, func(c Credential) bool { return bytes.Equal(c.ID, id) && c.EnrolledAt != nil })
		if i < 0 || *k.Credentials[i].IdentifiedBy != ByOwnKey {
			return false
		}
		id = k.Credentials[i].AuthorityID
	}
	return false
}

// vouches reports whether nobody who signed a countersignature was in other hands by then, as the roster says.
func (k Keys) vouches(c Countersignature) bool {
	if k.roster == nil {
		return true
	}
	for _, data := range append([][]byte{c.Act}, c.Agreed...) {
		var signed evidence.SignedAct
		if json.Unmarshal(data, &signed) != nil {
			return false
		}
		act, err := evidence.ParseAct(signed.Act)
		signer, found := k.roster.Key(signed.Assertion.CredentialID)
		if err != nil || found && k.roster.Compromised(signer, act.IssuedAt) {
			return false
		}
	}
	return true
}

// through follows a key to those that signed for it, up to one that a log-in or a countersigner of the workspace vouches
// for, while each of them could sign.
func (k Keys) through(workspace string, id []byte, could func(authority []byte, enrolled Credential) bool, vouches func(Countersignature) bool) bool {
	for range k.Credentials { // each was enrolled by one before it, so that there is an end
		i := slices.IndexFunc(k.Credentials, func(c Credential) bool { return bytes.Equal(c.ID, id) && c.EnrolledAt != nil })
		if i < 0 {
			return false
		}
		c := k.Credentials[i]
		if *c.IdentifiedBy == ByLogIn {
			return true
		}
		if signed := k.Countersignature(workspace, id); signed != nil && vouches(*signed) {
			return true
		}
		if *c.IdentifiedBy != ByOwnKey || !could(c.AuthorityID, c) {
			return false
		}
		id = c.AuthorityID
	}
	return false
}

// asked is when the act was issued that enrolled the key.
func (c Credential) asked() (time.Time, error) {
	var enrolment evidence.Enrolment
	if err := json.Unmarshal(c.Enrolment, &enrolment); err != nil {
		return time.Time{}, fmt.Errorf("stored enrolment: %w", err)
	}
	act, err := evidence.ParseAct(enrolment.Act)
	return act.IssuedAt, err
}

// Trusted says whether an enrolled key is one to decide with in a workspace, but for its revocation: it is known, and
// stands.
func (k Keys) Trusted(workspace string, id []byte) bool {
	return k.Known(workspace, id) && k.Stands(workspace, id)
}

// Countersignable tells whether a key is one that somebody else can vouch for in a workspace: it waits for that, rests on
// the log-in alone, or is not trusted here. One that fell with a compromised key cannot be mended.
func (k Keys) Countersignable(workspace string, key Credential) bool {
	if key.RevokedAt != nil || k.Countersignature(workspace, key.ID) != nil || k.Revocation(workspace, key.ID) != nil || k.fallen(key.ID) {
		return false
	}
	if key.EnrolledAt == nil {
		return key.Unfinished != nil
	}
	return *key.IdentifiedBy == ByLogIn || !k.Trusted(workspace, key.ID)
}

// Live tells whether an enrolled key was revoked neither by its person nor for a workspace.
func (k Keys) Live(workspace string, key Credential) bool {
	return key.Enrolled() && k.Revocation(workspace, key.ID) == nil
}

// Revocable tells whether a key is one of which can be said for a workspace that it is revoked: it was not, or since, which
// is nil where nobody says it, is earlier than was known.
func (k Keys) Revocable(workspace string, key Credential, since *time.Time) bool {
	if k.Live(workspace, key) {
		return true
	}
	known := k.CompromisedSince(workspace, key.ID)
	return key.EnrolledAt != nil && since != nil && (known == nil || since.Before(*known))
}

// Counting are the keys that can decide in a workspace now, newest first.
func (k Keys) Counting(workspace string) (counting []Credential) {
	for _, c := range k.Credentials {
		if k.Live(workspace, c) && k.Trusted(workspace, c.ID) {
			counting = append(counting, c)
		}
	}
	return counting
}

// KeyHolder is a member of a workspace with all their keys, or somebody who was one and whose keys are in its roster.
type KeyHolder struct {
	Person Person
	Keys   Keys
	// Left says that they are no member any more: of their keys nothing can be said but that they are revoked or were stolen.
	Left bool
}

// Cursor is the place of h in a list by name.
func (h KeyHolder) Cursor() string { return cursor(h.Person.Name, h.Person.ID) }

// KeyHolders lists those who have a key and were members of the workspace when we last read it, or whose keys are in its roster, by
// name, with what it makes of compromised keys. With wanting they are only those members of whom a key waits for a countersigner, rests on the
// log-in alone or was recovered in another workspace.
func (tx *Tx) KeyHolders(ctx context.Context, wanting bool, page Page) ([]KeyHolder, bool, error) {
	name, id, err := page.afterName()
	if err != nil {
		return nil, false, err
	}
	people, err := list[Person](ctx, tx.tx, `select `+personColumns+` from signedapproval_people p
		where (exists (`+memberOf+`) or not $2 and exists (select from signedapproval_roster_people r where r.person_id = p.id and r.workspace_id = $1))
			and exists (select from signedapproval_credentials c where c.person_id = p.id and (not $2 or c.revoked_at is null and (
				c.unfinished is not null or c.identified_by in ('bitbucket-login', 'countersigner')
					and not exists (select from signedapproval_key_countersignatures s where s.credential_id = c.id and s.workspace_id = $1)
					and not exists (select from signedapproval_key_revocations r where r.credential_id = c.id and r.workspace_id = $1))))
			and ($3::text is null or (p.name, p.id) > ($3, $4::uuid))
		order by p.name, p.id limit $5`, tx.Workspace, wanting, name, id, page.limit()+1)
	if err != nil {
		return nil, false, fmt.Errorf("store: list key holders: %w", err)
	}
	people, more := paged(people, page)
	ids := make([]string, len(people))
	for i, p := range people {
		ids[i] = p.ID
	}
	keys, err := tx.KeysOf(ctx, ids)
	if err != nil {
		return nil, false, err
	}
	rows, err := tx.tx.Query(ctx, `select p.id::text from signedapproval_people p where p.id = any($2) and exists (`+memberOf+`)`, tx.Workspace, ids)
	if err != nil {
		return nil, false, fmt.Errorf("store: tell members from those who left: %w", err)
	}
	members, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, false, fmt.Errorf("store: tell members from those who left: %w", err)
	}
	holders := make([]KeyHolder, len(people))
	for i, p := range people {
		holders[i] = KeyHolder{Person: p, Keys: keys[p.ID], Left: !slices.Contains(members, p.ID)}
	}
	return holders, more, nil
}

// memberOf is the membership of the person p in workspace $1, as it was read last.
const memberOf = `select from signedapproval_memberships m where m.person_id = p.id and m.workspace_id = $1 and m.role <> 'NONE'`
