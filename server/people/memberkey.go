package people

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// An administrator vouches for the keys of the members of a workspace, or takes them out of use, with a key of their own
// that counts in that workspace. What they sign holds in that workspace and nowhere else.

// KeyHolders lists the members of a workspace who have keys, by name, for its administrators. With wanting they are
// only those who have a key to be countersigned.
func (p *People) KeyHolders(ctx context.Context, person store.Person, workspace string, wanting bool, page store.Page) ([]store.KeyHolder, bool, error) {
	if err := p.administers(ctx, person, workspace, false); err != nil {
		return nil, false, err
	}
	var (
		holders []store.KeyHolder
		more    bool
	)
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		holders, more, err = sh.KeyHolders(ctx, workspace, wanting, page)
		return err
	})
	return holders, more, err
}

// KeyHolder reads the member of a workspace whose key it is, for the administrators of the workspace.
func (p *People) KeyHolder(ctx context.Context, person store.Person, workspace string, id []byte) (store.KeyHolder, store.Credential, error) {
	if err := p.administers(ctx, person, workspace, false); err != nil {
		return store.KeyHolder{}, store.Credential{}, err
	}
	return p.keyHolder(ctx, workspace, id, false)
}

func (p *People) keyHolder(ctx context.Context, workspace string, id []byte, fresh bool) (holder store.KeyHolder, key store.Credential, err error) {
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		if key, err = sh.Credential(ctx, id); err != nil {
			return err
		}
		if holder.Person, err = sh.Person(ctx, key.PersonID); err != nil {
			return err
		}
		holder.Keys, err = sh.Keys(ctx, key.PersonID)
		return err
	})
	if err != nil {
		return holder, key, found(err, "passkey")
	}
	role, err := p.Role(ctx, holder.Person, workspace, fresh)
	if err == nil && role == store.RoleNone {
		err = notFound("passkey")
	}
	if err != nil {
		return store.KeyHolder{}, store.Credential{}, err
	}
	return holder, key, nil
}

// administers makes sure that the person administers the workspace; fresh reads it anew.
func (p *People) administers(ctx context.Context, person store.Person, workspace string, fresh bool) error {
	role, err := p.Role(ctx, person, workspace, fresh)
	switch {
	case err != nil:
		return err
	case role == store.RoleAdmin:
		return nil
	case role == store.RoleMember:
		return refusal.New(refusal.Forbidden, "Only an administrator of the workspace may do that.")
	}
	return notFound("workspace")
}

// CanCountersign tells whether a key of a member is one that an administrator of the workspace can vouch for: it waits
// for that, rests on the log-in alone, or is not trusted here.
func CanCountersign(keys store.Keys, key store.Credential, workspace string) bool {
	if key.RevokedAt != nil || keys.Countersignature(workspace, key.ID) != nil || keys.Revocation(workspace, key.ID) != nil {
		return false
	}
	if key.EnrolledAt == nil {
		return key.Unfinished != nil
	}
	return *key.IdentifiedBy == store.ByLogIn || !keys.Trusted(workspace, key.ID)
}

func nothingToCountersign() *refusal.Error {
	return refusal.New(CodeCountersigned, "There is nothing to countersign: the passkey was countersigned here before, is known otherwise, was revoked, or its owner has not confirmed it yet.")
}

// PrepareCountersignature makes the act by which an administrator of the workspace vouches for the key of another
// member; see SignKeyAct.
func (p *People) PrepareCountersignature(ctx context.Context, person store.Person, sessionHash []byte, workspace string, id []byte) (KeyAct, error) {
	return p.prepareMemberAct(ctx, person, sessionHash, ceremony{Step: StepCountersign, Credential: id, workspace: workspace}, nil)
}

// PrepareMemberRevocation makes the act by which an administrator of the workspace takes the key of another member out
// of use there; see SignKeyAct. since is as in PrepareRevocation.
func (p *People) PrepareMemberRevocation(ctx context.Context, person store.Person, sessionHash []byte, workspace string, id []byte, since *time.Time) (KeyAct, error) {
	return p.prepareMemberAct(ctx, person, sessionHash, ceremony{Step: StepRevoke, Credential: id, workspace: workspace}, since)
}

func (p *People) prepareMemberAct(ctx context.Context, person store.Person, sessionHash []byte, c ceremony, since *time.Time) (KeyAct, error) {
	holder, key, err := p.mayAct(ctx, person, c)
	if err != nil {
		return KeyAct{}, err
	}
	roster, err := p.Roster(ctx, person, c.workspace)
	if err != nil {
		return KeyAct{}, err
	}
	var act KeyAct
	err = p.store.InWorkspace(ctx, c.workspace, func(tx *store.Tx) error {
		if err := mayChangeRoster(ctx, tx, person); err != nil {
			return err
		}
		sh := tx.Shared
		mine, err := sh.Keys(ctx, person.ID)
		if err != nil {
			return err
		}
		if c.Step == StepRevoke && holder.Keys.Revocation(c.workspace, key.ID) != nil {
			return refusal.New(CodeRevoked, "This passkey was revoked for this workspace before.")
		}
		if c.Step == StepRevoke {
			err = p.revocation(ctx, sh, person, &c, key, since, roster)
		} else {
			err = p.countersignature(ctx, sh, person, &c, holder, key, roster)
		}
		if err != nil {
			return err
		}
		act, err = p.ask(ctx, sh, person, sessionHash, c, mine.Counting(c.workspace))
		return err
	})
	return act, err
}

// mayChangeRoster refuses an administrator's act about the key of somebody else where the workspace's protection asks for
// more than their one signature. Everybody's own keys are theirs, protected or not.
func mayChangeRoster(ctx context.Context, tx *store.Tx, person store.Person) error {
	force, err := tx.Protection(ctx)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case force.Quorum == 0, force.Quorum == 1 && slices.Contains(force.People, person.ID):
		return nil
	case force.Quorum == 1:
		return refusal.New(CodeProtected, "The rules of this workspace are protected, and its members' passkeys with them: only those who protect it can do that.")
	}
	return refusal.New(CodeProtected, "The rules of this workspace are protected, and its members' passkeys with them: the signature of one person is not enough. "+
		"It can be done while one signature of those who protect it is.")
}

// mayAct reads anew that the person administers the workspace and that the key is another member's.
func (p *People) mayAct(ctx context.Context, person store.Person, c ceremony) (store.KeyHolder, store.Credential, error) {
	if err := p.administers(ctx, person, c.workspace, true); err != nil {
		return store.KeyHolder{}, store.Credential{}, err
	}
	holder, key, err := p.keyHolder(ctx, c.workspace, c.Credential, true)
	if err == nil && holder.Person.ID == person.ID {
		err = refusal.New(CodeOwnKey, "This is your own passkey. Another administrator can countersign it; you manage it on the page of your passkeys.")
	}
	return holder, key, err
}

// countersignature puts the act that vouches for a key into the ceremony.
func (p *People) countersignature(ctx context.Context, sh *store.Shared, person store.Person, c *ceremony, holder store.KeyHolder, key store.Credential, roster evidence.Digest) error {
	if !CanCountersign(holder.Keys, key, c.workspace) {
		return nothingToCountersign()
	}
	now, err := sh.Now(ctx)
	if err != nil {
		return err
	}
	now = now.UTC().Truncate(time.Second)
	document := keyDocument(key)
	c.Act, c.Opening, err = p.act(person, evidence.Act{
		Purpose: evidence.Countersign, Workspace: braced(c.workspace), Key: &document, Roster: roster, IssuedAt: now, ExpiresAt: now.Add(actLife),
	})
	return err
}

// SignKeyAct takes an authenticator's answer to an act that countersigns or revokes a key. It answers the key as it is
// then, and the workspace for which it was done; "" for an own key.
func (p *People) SignKeyAct(ctx context.Context, person store.Person, sessionHash []byte, response string) (key store.Credential, workspace string, err error) {
	c, assertion, err := p.answered(ctx, person, sessionHash, response, StepCountersign, StepRevoke)
	if err != nil {
		return key, "", err
	}
	if c.workspace == "" {
		key, err = p.signedRevocation(ctx, person, c, assertion)
		return key, "", err
	}
	if _, key, err = p.mayAct(ctx, person, c); err != nil {
		return key, "", err
	}
	err = p.store.InWorkspace(ctx, c.workspace, func(tx *store.Tx) error {
		if err := tx.LockRules(ctx); err != nil {
			return err
		}
		if err := mayChangeRoster(ctx, tx, person); err != nil {
			return err
		}
		if _, err := tx.LockCredentials(ctx, key.PersonID); err != nil {
			return err
		}
		mine, err := tx.Keys(ctx, person.ID)
		if err != nil {
			return err
		}
		signers := mine.Counting(c.workspace)
		if len(signers) == 0 {
			return refusal.New(CodeNoKey, "You have no passkey that decides in this workspace.")
		}
		_, result, err := p.verify(c.Act, assertion, signers)
		if err != nil {
			return err
		}
		if err := used(ctx, tx.Shared, result); err != nil {
			return err
		}
		m := memberAct{tx: tx, person: person, ceremony: c, signed: evidence.SignedAct{Act: c.Act, Assertion: assertion}}
		if m.keys, err = tx.Keys(ctx, key.PersonID); err != nil {
			return err
		}
		if key, err = tx.Credential(ctx, c.Credential); err != nil {
			return found(err, "passkey")
		}
		if c.Step == StepRevoke {
			return m.revoke(ctx, key)
		}
		key, err = m.countersign(ctx, key)
		return err
	})
	if err != nil {
		return store.Credential{}, "", err
	}
	p.log.InfoContext(ctx, "a member's passkey was acted on", "step", c.Step, "workspace", c.workspace, "person", person.ID, "member", key.PersonID)
	return key, c.workspace, nil
}

// memberAct is the transaction of what an administrator signed. It holds the lock on the member's keys.
type memberAct struct {
	tx       *store.Tx
	person   store.Person
	ceremony ceremony
	signed   evidence.SignedAct
	keys     store.Keys
}

func (m *memberAct) stored() (act, opening []byte, err error) {
	if act, err = canonical(m.signed); err == nil {
		opening, err = json.Marshal(m.ceremony.Opening)
	}
	return act, opening, err
}

func (m *memberAct) countersign(ctx context.Context, key store.Credential) (store.Credential, error) {
	act, err := evidence.ParseAct(m.signed.Act)
	if err != nil {
		return key, err
	}
	if !CanCountersign(m.keys, key, m.ceremony.workspace) || act.Key == nil || !act.Key.Key.Equal(keyOf(key)) {
		return key, nothingToCountersign()
	}
	if key.Waiting() {
		var unfinished evidence.Enrolment
		var opening evidence.PersonOpening
		if err := errors.Join(json.Unmarshal(key.Unfinished, &unfinished), json.Unmarshal(key.EnrolmentOpening, &opening)); err != nil {
			return key, err
		}
		unfinished.Countersigned = &m.signed
		enrolled, err := enrol(ctx, m.tx.Shared, key, unfinished, opening, nil)
		if err != nil {
			return key, err
		}
		key = enrolled
	}
	signed, opening, err := m.stored()
	if err != nil {
		return key, err
	}
	_, err = m.tx.InsertCountersignature(ctx, store.Countersignature{
		CredentialID: key.ID, WorkspaceID: m.ceremony.workspace, Act: signed, Opening: opening, PersonID: m.person.ID,
	})
	if err != nil {
		return key, err
	}
	return key, tellCountersigned(ctx, m.tx, key, m.person)
}

func (m *memberAct) revoke(ctx context.Context, key store.Credential) error {
	if !key.Enrolled() || m.keys.Revocation(m.ceremony.workspace, key.ID) != nil {
		return refusal.New(CodeRevoked, "This passkey was revoked before.")
	}
	act, opening, err := m.stored()
	if err != nil {
		return err
	}
	parsed, err := evidence.ParseAct(m.signed.Act)
	if err != nil {
		return err
	}
	_, err = m.tx.InsertKeyRevocation(ctx, store.KeyRevocation{
		CredentialID: key.ID, WorkspaceID: m.ceremony.workspace, Act: act, Opening: opening, PersonID: m.person.ID,
		CompromisedSince: parsed.Revocation.CompromisedSince,
	})
	if err != nil {
		return err
	}
	workspace, err := m.tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	about, err := keyOf(key).Digest()
	if err != nil {
		return err
	}
	named := evidence.WorkspaceID(workspace.GenesisSalt, braced(workspace.ID))
	err = appendLeafOf(ctx, m.tx.Shared, workspace.ID, named, evidence.KeyRevoked{
		Person: key.PersonID, Key: about, By: evidence.ByCountersigner, Revocation: digest(act),
	})
	if err != nil {
		return err
	}
	return tellRevokedIn(ctx, m.tx, key, m.person)
}

// braced is a workspace's UUID as Bitbucket and the evidence write it.
func braced(workspace string) string { return bitbucket.BracedUUID(workspace) }
