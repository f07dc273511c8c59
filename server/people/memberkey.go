package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// An administrator vouches for the keys of the members of a workspace, or takes them out of use, with a key of their own
// that counts in that workspace. What they sign holds in that workspace and nowhere else.

// KeyHolders lists the members of a workspace who have keys, and those who left it and whose keys decided there, by name, for its
// administrators: a key can be found to have been stolen when its owner is gone. With wanting they are
// only those who have a key to be countersigned.
func (p *People) KeyHolders(ctx context.Context, person store.Person, workspace string, wanting bool, page store.Page) ([]store.KeyHolder, bool, error) {
	if err := p.administers(ctx, person, workspace, false); err != nil {
		return nil, false, err
	}
	var (
		holders []store.KeyHolder
		more    bool
	)
	err := p.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		holders, more, err = tx.KeyHolders(ctx, wanting, page)
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
	var decided bool
	err = p.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if key, err = tx.Credential(ctx, id); err != nil {
			return err
		}
		if holder.Person, err = tx.Person(ctx, key.PersonID); err != nil {
			return err
		}
		if decided, err = tx.RosterKnows(ctx, key.PersonID); err != nil {
			return err
		}
		holder.Keys, err = tx.Keys(ctx, key.PersonID)
		return err
	})
	if err != nil {
		return holder, key, found(err, "passkey")
	}
	role, err := p.Role(ctx, holder.Person, workspace, fresh)
	holder.Left = role == store.RoleNone
	if err == nil && holder.Left && !decided {
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

func nothingToCountersign() *refusal.Error {
	return refusal.New(CodeCountersigned, "There is nothing to countersign: the passkey was countersigned here before, is known otherwise, was revoked, fell with a compromised one, or its owner has not confirmed it yet.")
}

// PrepareCountersignature makes the act by which an administrator of the workspace vouches for the key of another
// member; see SignKeyAct. Where the workspace is protected a proposal is made instead, and the error says so; see
// People.Propose.
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
	var (
		act     KeyAct
		propose func() error // where one person's word is not enough
	)
	err = p.store.InWorkspace(ctx, c.workspace, func(tx *store.Tx) error {
		sh := tx.Shared
		mine, err := tx.Keys(ctx, person.ID)
		if err != nil {
			return err
		}
		signers := mine.Counting(c.workspace)
		if c.Step == StepRevoke {
			if err := revocable(holder.Keys, c.workspace, key, since); err != nil {
				return err
			}
			if signers, err = unspent(holder.Keys, c.workspace, key, signers); err != nil {
				return err
			}
			err = p.revocation(ctx, sh, person, &c, key, since, roster)
		} else {
			err = p.countersignature(ctx, sh, person, &c, holder, key, roster)
		}
		if err != nil {
			return err
		}
		if guarded, err := protected(ctx, tx); err != nil || guarded {
			propose = func() error { return p.propose(ctx, person, c, holder, key) }
			return err
		}
		act, err = p.ask(ctx, sh, person, sessionHash, c, signers)
		return err
	})
	if err == nil && propose != nil {
		err = propose()
	}
	return act, err
}

// propose makes a proposal of what was to be signed.
func (p *People) propose(ctx context.Context, person store.Person, c ceremony, holder store.KeyHolder, key store.Credential) error {
	act, err := evidence.ParseAct(c.Act)
	if err != nil {
		return err
	}
	proposal := store.Proposal{Kind: store.ProposalCountersign, Name: key.Name, CredentialID: key.ID, ProposedBy: person.ID, ProposedVia: "session"}
	var document any = act.Key
	if c.Step == StepRevoke {
		proposal.Kind, document = store.ProposalRevoke, act.Revocation
	}
	if proposal.Document, err = canonical(document); err != nil {
		return err
	}
	return p.Propose(ctx, c.workspace, proposal, holder.Person)
}

// protected tells whether the keys of a workspace's members change by the signatures of those who protect it alone.
// Everybody's own keys are theirs, protected or not.
func protected(ctx context.Context, tx *store.Tx) (bool, error) {
	force, err := tx.Protection(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return force.Quorum > 0, err
}

// mayAct reads anew that the person administers the workspace and that the key is another member's.
func (p *People) mayAct(ctx context.Context, person store.Person, c ceremony) (store.KeyHolder, store.Credential, error) {
	if err := p.administers(ctx, person, c.workspace, true); err != nil {
		return store.KeyHolder{}, store.Credential{}, err
	}
	holder, key, err := p.keyHolder(ctx, c.workspace, c.Credential, true)
	if err == nil && holder.Left && c.Step != StepRevoke {
		err = notFound("passkey")
	}
	if err == nil && holder.Person.ID == person.ID {
		err = refusal.New(CodeOwnKey, "This is your own passkey. Another administrator can countersign it; you manage it on the page of your passkeys.")
	}
	return holder, key, err
}

// countersignature puts the act that vouches for a key into the ceremony.
func (p *People) countersignature(ctx context.Context, sh *store.Shared, person store.Person, c *ceremony, holder store.KeyHolder, key store.Credential, roster evidence.Digest) error {
	if !holder.Keys.Countersignable(c.workspace, key) {
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
		guarded, err := protected(ctx, tx)
		if err != nil {
			return err
		}
		if guarded {
			return refusal.New(CodeProtected, "The rules of this workspace are protected meanwhile, and its members' passkeys with them. Please start again: that makes a proposal.")
		}
		// Of both, in the order of everybody who locks several: the use of one's own key is noted too.
		for _, id := range slices.Sorted(slices.Values([]string{key.PersonID, person.ID})) {
			if _, err := tx.LockCredentials(ctx, id); err != nil {
				return err
			}
		}
		// Who enrolled another key since then may sign with it. What the roster could not take in now it must not take in later, when that key
		// may have been revoked.
		if err := p.Follow(ctx, tx, person.ID); err != nil {
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
		m := memberAct{tx: tx, by: []store.Person{person}, signed: evidence.SignedAct{Act: c.Act, Assertion: assertion}}
		if m.act, err = canonical(m.signed); err != nil {
			return err
		}
		if m.opening, err = json.Marshal(c.Opening); err != nil {
			return err
		}
		key, err = p.actOn(ctx, m, c.Credential, c.Step == StepRevoke)
		return err
	})
	if err != nil {
		return store.Credential{}, "", err
	}
	p.log.InfoContext(ctx, "a member's passkey was acted on", "step", c.Step, "workspace", c.workspace, "person", person.ID, "member", key.PersonID)
	return key, c.workspace, nil
}

// ApplyProposal does to the key of a member what enough of those who protect the workspace have signed. The caller has
// verified acts, oldest first, and holds the lock of the rules and those on the keys of everybody concerned.
func (p *People) ApplyProposal(ctx context.Context, tx *store.Tx, proposal store.Proposal, acts []store.ProposalAct) error {
	m := memberAct{tx: tx, act: acts[0].Act, opening: acts[0].Opening}
	if err := json.Unmarshal(m.act, &m.signed); err != nil {
		return err
	}
	for i, a := range acts {
		signer, err := tx.Person(ctx, a.PersonID)
		if err != nil {
			return err
		}
		m.by = append(m.by, signer)
		if i > 0 {
			m.agreed = append(m.agreed, a.Act)
		}
	}
	_, err := p.actOn(ctx, m, proposal.CredentialID, proposal.Kind == store.ProposalRevoke)
	return err
}

// memberAct is the transaction of what was signed about the key of a member. It holds the lock on their keys.
type memberAct struct {
	tx      *store.Tx
	by      []store.Person // who signed
	signed  evidence.SignedAct
	act     []byte // signed, canonical
	agreed  [][]byte
	opening []byte // of signed
	keys    store.Keys
}

// actOn revokes or countersigns a key, and lets the roster follow at once: its versions then stand in the log where the
// rules were in force under which this was done.
func (p *People) actOn(ctx context.Context, m memberAct, id []byte, revokes bool) (key store.Credential, err error) {
	if key, err = m.tx.Credential(ctx, id); err != nil {
		return key, found(err, "passkey")
	}
	if m.keys, err = m.tx.Keys(ctx, key.PersonID); err != nil {
		return key, err
	}
	if revokes {
		err = m.revoke(ctx, key)
	} else {
		key, err = m.countersign(ctx, key)
	}
	if err != nil {
		return key, err
	}
	return key, p.Follow(ctx, m.tx, key.PersonID)
}

func (m *memberAct) countersign(ctx context.Context, key store.Credential) (store.Credential, error) {
	act, err := evidence.ParseAct(m.signed.Act)
	if err != nil {
		return key, err
	}
	if !m.keys.Countersignable(m.tx.Workspace, key) || act.Key == nil || !act.Key.Key.Equal(key.Key()) {
		return key, nothingToCountersign()
	}
	if key.Waiting() {
		now, err := m.tx.Now(ctx)
		if err != nil {
			return key, err
		}
		if !now.Before(key.CreatedAt.Add(store.WaitingLife).Truncate(time.Second)) { // as its act says
			return key, nothingToCountersign()
		}
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
	_, err = m.tx.InsertCountersignature(ctx, store.Countersignature{
		CredentialID: key.ID, WorkspaceID: m.tx.Workspace, Act: m.act, Agreed: m.agreed, Opening: m.opening, PersonID: m.by[0].ID,
	})
	if err != nil {
		return key, err
	}
	return key, tellCountersigned(ctx, m.tx, key, m.by)
}

// revocable refuses to say of a key again what is known in a workspace.
func revocable(keys store.Keys, workspace string, key store.Credential, since *time.Time) error {
	switch {
	case keys.Revocable(workspace, key, since):
		return nil
	case since == nil || key.EnrolledAt == nil:
		return refusal.New(CodeRevoked, "This passkey was revoked before.")
	}
	return saidBefore()
}

// unspent are those of an administrator's keys by which they have not said yet of a member's key in a workspace, as often as they may, since
// when it was in other hands. Whoever stole one key of an administrator does not use up what they say with another one.
func unspent(keys store.Keys, workspace string, key store.Credential, by []store.Credential) ([]store.Credential, error) {
	said := map[string]int{}
	for _, r := range keys.ReportsOf(workspace, key.ID) {
		if r.WorkspaceID == nil {
			continue // its owner's
		}
		var signed evidence.SignedAct
		if err := json.Unmarshal(r.Act, &signed); err != nil {
			return nil, fmt.Errorf("stored act: %w", err)
		}
		said[string(signed.Assertion.CredentialID)]++
	}
	left := slices.DeleteFunc(slices.Clone(by), func(c store.Credential) bool { return said[string(c.ID)] >= maxReports })
	if len(left) == 0 && len(by) > 0 {
		return nil, tooManyReports()
	}
	return left, nil
}

func (m *memberAct) revoke(ctx context.Context, key store.Credential) error {
	parsed, err := evidence.ParseAct(m.signed.Act)
	if err != nil {
		return err
	}
	since := parsed.Revocation.CompromisedSince
	if err := revocable(m.keys, m.tx.Workspace, key, since); err != nil {
		return err
	}
	if _, err := unspent(m.keys, m.tx.Workspace, key, []store.Credential{{ID: m.signed.Assertion.CredentialID}}); err != nil {
		return err
	}
	live := m.keys.Live(m.tx.Workspace, key)
	if live {
		_, err = m.tx.InsertKeyRevocation(ctx, store.KeyRevocation{
			CredentialID: key.ID, WorkspaceID: m.tx.Workspace, Act: m.act, Agreed: m.agreed, Opening: m.opening, PersonID: m.by[0].ID, CompromisedSince: since,
		})
	} else {
		_, err = m.tx.InsertKeyReport(ctx, store.KeyReport{
			CredentialID: key.ID, WorkspaceID: &m.tx.Workspace, Act: m.act, Agreed: m.agreed, Opening: m.opening, PersonID: m.by[0].ID, CompromisedSince: *since,
		})
	}
	if err != nil {
		return err
	}
	workspace, err := m.tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	about, err := key.Key().Digest()
	if err != nil {
		return err
	}
	named := evidence.WorkspaceID(workspace.GenesisSalt, braced(workspace.ID))
	err = appendLeafOf(ctx, m.tx.Shared, workspace.ID, named, evidence.KeyRevoked{
		Person: key.PersonID, Key: about, By: evidence.ByCountersigner, Revocation: digest(m.act),
	})
	if err != nil {
		return err
	}
	if !live {
		return tellReportedIn(ctx, m.tx, key, m.by, *since)
	}
	return tellRevokedIn(ctx, m.tx, key, m.by)
}

// braced is a workspace's UUID as Bitbucket and the evidence write it.
func braced(workspace string) string { return bitbucket.BracedUUID(workspace) }
