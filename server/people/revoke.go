package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// RevokePasskey ends a key of the person for good: it can make no further decision. Decisions that it made stand. No key
// has to sign for that, since losing one must not keep anybody from saying so; the revocation is then told as the
// operator's word. Revoking a key again changes nothing. A key that waits is given up.
func (p *People) RevokePasskey(ctx context.Context, person store.Person, id []byte) (store.Credential, error) {
	key, err := p.Passkey(ctx, person, id)
	if err != nil || key.RevokedAt != nil {
		return key, err
	}
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		if _, err := sh.LockCredentials(ctx, person.ID); err != nil {
			return err
		}
		if key, err = sh.Credential(ctx, id); err != nil || key.RevokedAt != nil { // somebody was faster
			return err
		}
		key, err = revoke(ctx, sh, key, nil, nil)
		return err
	})
	if err != nil {
		return store.Credential{}, found(err, "passkey")
	}
	p.log.InfoContext(ctx, "passkey revoked", "person", person.ID)
	return key, nil
}

// PrepareRevocation makes the act by which the person revokes a key of theirs, to be signed by any of their keys that
// decide; see SignKeyAct. since, if any, says since when somebody else may have used the key: decisions that it made
// from then on count no more. That can be said of a key that was revoked too, by whomever: who stole it can.
func (p *People) PrepareRevocation(ctx context.Context, person store.Person, sessionHash []byte, id []byte, since *time.Time) (KeyAct, error) {
	key, err := p.Passkey(ctx, person, id)
	if err != nil {
		return KeyAct{}, err
	}
	var act KeyAct
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		keys, err := sh.Keys(ctx, person.ID)
		if err != nil {
			return err
		}
		// Another key first: a signature by the very key that may be in other hands says less.
		var signers, last []store.Credential
		for _, k := range keys.Credentials {
			switch {
			case string(k.ID) == string(id) && k.Enrolled():
				last = append(last, k)
			case k.Enrolled():
				signers = append(signers, k)
			}
		}
		if key.EnrolledAt == nil || key.RevokedAt != nil && since == nil {
			return refusal.New(CodeRevoked, "This passkey decides nothing as it is.")
		}
		c := ceremony{Step: StepRevoke, Credential: id}
		if err := p.revocation(ctx, sh, person, &c, key, since, ""); err != nil {
			return err
		}
		if key.RevokedAt != nil {
			if signers, err = reporters(keys, signers, key, *since); err != nil {
				return err
			}
		}
		act, err = p.ask(ctx, sh, person, sessionHash, c, append(signers, last...))
		return err
	})
	return act, err
}

// revocation puts the act that revokes a key into the ceremony; roster is that of the ceremony's workspace.
func (p *People) revocation(ctx context.Context, sh *store.Shared, person store.Person, c *ceremony, key store.Credential, since *time.Time, roster evidence.Digest) error {
	now, err := sh.Now(ctx)
	if err != nil {
		return err
	}
	if since != nil {
		if since.After(now) {
			return refusal.New(refusal.BadInput, "That time is still to come.").At("compromisedSince")
		}
		since = new(since.UTC().Truncate(time.Second))
	}
	about, err := key.Key().Digest()
	if err != nil {
		return err
	}
	now = now.UTC().Truncate(time.Second)
	a := evidence.Act{
		Purpose: evidence.Revoke, Revocation: &evidence.RevocationDocument{Person: key.PersonID, Key: about, CompromisedSince: since},
		Roster: roster, IssuedAt: now, ExpiresAt: now.Add(actLife),
	}
	if c.workspace != "" {
		a.Workspace = braced(c.workspace)
	}
	c.Act, c.Opening, err = p.act(person, a)
	return err
}

// maxReports is how often one key of a person, or one administrator for a workspace, can report one key: every report that says more
// than those before it is a version of rosters for ever. Others can still report it, so nobody keeps anybody from saying since when.
const maxReports = 10

// CodeManyReports says that whoever would report a key has done so as often as they can.
const CodeManyReports = "TOO_MANY_REPORTS"

func tooManyReports() *refusal.Error {
	return refusal.New(CodeManyReports, "You have said of this passkey %d times since when somebody else may have had it. Another passkey of its owner, or another administrator, can still say it.",
		maxReports).At("compromisedSince")
}

// reporters are those of a person's keys that have not said yet of a key that was revoked that it was in other hands since a
// time or an earlier one, and that can still report it. What another key said is no reason to be silent: a workspace may not listen
// to that one.
func reporters(keys store.Keys, live []store.Credential, key store.Credential, since time.Time) ([]store.Credential, error) {
	said, reports := map[string]bool{}, map[string]int{}
	note := func(act []byte, at time.Time) error {
		var signed evidence.SignedAct
		if err := json.Unmarshal(act, &signed); err != nil {
			return fmt.Errorf("stored act: %w", err)
		}
		signer := string(signed.Assertion.CredentialID)
		reports[signer]++
		if !since.Before(at) {
			said[signer] = true
		}
		return nil
	}
	if key.CompromisedSince != nil {
		if err := note(key.Revocation, *key.CompromisedSince); err != nil {
			return nil, err
		}
	}
	for _, r := range keys.ReportsOf("", key.ID) {
		if err := note(r.Act, r.CompromisedSince); err != nil {
			return nil, err
		}
	}
	left := slices.DeleteFunc(slices.Clone(live), func(c store.Credential) bool { return said[string(c.ID)] })
	if len(left) == 0 && len(live) > 0 {
		return nil, saidBefore()
	}
	can := slices.DeleteFunc(slices.Clone(left), func(c store.Credential) bool { return reports[string(c.ID)] >= maxReports })
	if len(can) == 0 && len(left) > 0 {
		return nil, tooManyReports()
	}
	return can, nil
}

func saidBefore() *refusal.Error {
	return refusal.New(CodeRevoked, "It is known of this passkey already that somebody else may have had it since then.").At("compromisedSince")
}

// signedRevocation takes the signature over the revocation of an own key.
func (p *People) signedRevocation(ctx context.Context, person store.Person, c ceremony, a evidence.Assertion) (key store.Credential, err error) {
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		act, err := evidence.ParseAct(c.Act)
		if err != nil {
			return err
		}
		if _, err := sh.LockCredentials(ctx, person.ID); err != nil {
			return err
		}
		keys, err := sh.Keys(ctx, person.ID)
		if err != nil {
			return err
		}
		var live []store.Credential
		for _, k := range keys.Credentials {
			if k.Enrolled() {
				live = append(live, k)
			}
			if string(k.ID) == string(c.Credential) {
				key = k
			}
		}
		since := act.Revocation.CompromisedSince
		if key.RevokedAt != nil && since == nil {
			return refusal.New(CodeRevoked, "This passkey was revoked meanwhile.")
		}
		if len(live) == 0 {
			return refusal.New(CodeNoKey, "You have no passkey that decides.")
		}
		if key.RevokedAt != nil {
			if live, err = reporters(keys, live, key, *since); err != nil {
				return err
			}
		}
		_, result, err := p.verify(c.Act, a, live)
		if err != nil {
			return err
		}
		if err := used(ctx, sh, result); err != nil {
			return err
		}
		signed := &evidence.SignedAct{Act: c.Act, Assertion: a}
		if key.RevokedAt != nil {
			return report(ctx, sh, key, signed, c.Opening, *since)
		}
		key, err = revoke(ctx, sh, key, signed, &c.Opening)
		return err
	})
	if err == nil {
		p.log.InfoContext(ctx, "passkey revoked by signature", "person", person.ID)
	}
	return key, err
}

// revoke ends a key with its leaf and the notice to its person: all in the transaction of sh, which holds the lock on
// the person's keys. Nobody signed where signed is nil.
func revoke(ctx context.Context, sh *store.Shared, key store.Credential, signed *evidence.SignedAct, opening *evidence.PersonOpening) (store.Credential, error) {
	var r store.Revocation
	leaf := evidence.KeyRevoked{Person: key.PersonID}
	if signed != nil {
		act, err := evidence.ParseAct(signed.Act)
		if err != nil {
			return store.Credential{}, err
		}
		r.CompromisedSince = act.Revocation.CompromisedSince
		if r.Act, err = canonical(signed); err != nil {
			return store.Credential{}, err
		}
		if r.Opening, err = json.Marshal(opening); err != nil {
			return store.Credential{}, err
		}
		leaf.By, leaf.Revocation = evidence.ByOwnKey, digest(r.Act)
	}
	revoked, err := sh.RevokeCredential(ctx, key.PersonID, key.ID, r)
	if errors.Is(err, store.ErrNotFound) {
		return store.Credential{}, refusal.New(CodeRevoked, "This passkey was revoked meanwhile.")
	}
	if err != nil || revoked.EnrolledAt == nil { // one that never decided is no event
		return revoked, err
	}
	if leaf.Key, err = revoked.Key().Digest(); err != nil {
		return store.Credential{}, err
	}
	if err := appendLeaf(ctx, sh, leaf); err != nil {
		return store.Credential{}, err
	}
	return revoked, tellRevoked(ctx, sh, revoked)
}

// report keeps what the person says of a key that was revoked, with its leaf and the notice to them, as revoke does.
func report(ctx context.Context, sh *store.Shared, key store.Credential, signed *evidence.SignedAct, opening evidence.PersonOpening, since time.Time) error {
	r := store.KeyReport{CredentialID: key.ID, PersonID: key.PersonID, CompromisedSince: since}
	var err error
	if r.Act, err = canonical(signed); err != nil {
		return err
	}
	if r.Opening, err = json.Marshal(opening); err != nil {
		return err
	}
	if _, err := sh.InsertKeyReport(ctx, r); err != nil {
		return err
	}
	about, err := key.Key().Digest()
	if err != nil {
		return err
	}
	leaf := evidence.KeyRevoked{Person: key.PersonID, Key: about, By: evidence.ByOwnKey, Revocation: digest(r.Act)}
	if err := appendLeaf(ctx, sh, leaf); err != nil {
		return err
	}
	return tellReported(ctx, sh, key, since)
}
