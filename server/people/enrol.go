package people

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// A key is enrolled in up to three steps. It signs its own enrolment, which shows that the person holds it. Where the
// person has another key that decides, that one signs the same act. Where they had keys and have none any more, an
// administrator of a workspace of theirs countersigns; only the first key of a person rests on the Bitbucket log-in
// alone. When the last of them is there, and not before, the key decides.

// ContinuePasskey takes up the enrolment of a key that waits. What it answers is signed by that key.
func (p *People) ContinuePasskey(ctx context.Context, person store.Person, sessionHash []byte, id []byte) (store.Credential, KeyAct, error) {
	key, err := p.Passkey(ctx, person, id)
	if err != nil {
		return store.Credential{}, KeyAct{}, err
	}
	if !key.Waiting() {
		return store.Credential{}, KeyAct{}, notWaiting()
	}
	var act KeyAct
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		act, err = p.askPossession(ctx, sh, person, sessionHash, key)
		return err
	})
	return key, act, err
}

func notWaiting() *refusal.Error {
	return refusal.New(CodeWaiting, "This passkey does not wait to be enrolled any more.")
}

// askPossession asks the new key to sign its enrolment. The act holds for as long as the key waits: its countersigner
// may take days.
func (p *People) askPossession(ctx context.Context, sh *store.Shared, person store.Person, sessionHash []byte, key store.Credential) (KeyAct, error) {
	now, err := sh.Now(ctx)
	if err != nil {
		return KeyAct{}, err
	}
	now, end := now.UTC().Truncate(time.Second), key.CreatedAt.Add(store.WaitingLife).UTC().Truncate(time.Second)
	if !now.Add(actLife).Before(end) {
		return KeyAct{}, refusal.New(CodeWaiting, "This passkey has waited for too long. Please add it again.")
	}
	document := keyDocument(key)
	act, opening, err := p.act(person, evidence.Act{Purpose: evidence.Enrol, Key: &document, IssuedAt: now, ExpiresAt: end})
	if err != nil {
		return KeyAct{}, err
	}
	return p.ask(ctx, sh, person, sessionHash, ceremony{Step: StepPossession, Credential: key.ID, Act: act, Opening: opening}, []store.Credential{key})
}

// KeyDocument is the document of the acts that enrol and countersign a key, canonical.
func KeyDocument(key store.Credential) ([]byte, error) { return canonical(keyDocument(key)) }

func keyDocument(key store.Credential) evidence.KeyDocument {
	return evidence.KeyDocument{Key: key.Key(), AttestationObject: digest(key.AttestationObject), ClientData: digest(key.ClientData)}
}

// ConfirmPasskey takes an authenticator's answer to a step of an enrolment. It answers what is to be signed next, by a
// key that the person has; nil where the key is enrolled, or waits for its countersigner.
func (p *People) ConfirmPasskey(ctx context.Context, person store.Person, sessionHash []byte, response string) (store.Credential, *KeyAct, error) {
	c, assertion, err := p.answered(ctx, person, sessionHash, response, StepPossession, StepAuthority)
	if err != nil {
		return store.Credential{}, nil, err
	}
	fell, counts, err := p.standing(ctx, person)
	if err != nil {
		return store.Credential{}, nil, err
	}
	var (
		key  store.Credential
		next *KeyAct
	)
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		keys, err := sh.LockCredentials(ctx, person.ID)
		if err != nil {
			return err
		}
		e := enrolment{People: p, sh: sh, person: person, sessionHash: sessionHash, ceremony: c, fell: fell, counts: counts}
		if err := e.sort(keys); err != nil {
			return err
		}
		if c.Step == StepPossession {
			key, next, err = e.possession(ctx, assertion)
		} else {
			key, err = e.authority(ctx, assertion)
		}
		return err
	})
	if err != nil {
		return store.Credential{}, nil, err
	}
	if key.Waiting() && next == nil {
		p.tellAdministrators(ctx, person, key)
	}
	return key, next, nil
}

// enrolment is the transaction of a step. It holds the lock on the person's keys.
type enrolment struct {
	*People
	sh          *store.Shared
	person      store.Person
	sessionHash []byte
	ceremony    ceremony
	// fell and counts are the ids of the person's keys that do so in some workspace.
	fell, counts map[string]bool

	key  store.Credential   // the new one
	live []store.Credential // those that decide now
	// vouching are those of them that may sign for the new one: those that fell nowhere, or, where there is none, those that
	// count somewhere still. What another signs for falls with it, and no countersignature mends that.
	vouching []store.Credential
	had      bool // whether there ever was one that did
}

// sort finds the new key among all of the person's.
func (e *enrolment) sort(keys []store.Credential) error {
	found := false
	for _, key := range keys {
		switch {
		case string(key.ID) == string(e.ceremony.Credential):
			e.key, found = key, true
		case key.Enrolled():
			e.live = append(e.live, key)
		}
		e.had = e.had || key.EnrolledAt != nil
	}
	if !found || !e.key.Waiting() {
		return notWaiting()
	}
	if len(e.live) >= maxPasskeys {
		return roomFor(e.live)
	}
	without := func(key func(id string) bool) []store.Credential {
		return slices.DeleteFunc(slices.Clone(e.live), func(c store.Credential) bool { return key(string(c.ID)) })
	}
	if e.vouching = without(func(id string) bool { return e.fell[id] }); len(e.vouching) == 0 {
		e.vouching = without(func(id string) bool { return !e.counts[id] })
	}
	return nil
}

// possession takes the new key's own signature.
func (e *enrolment) possession(ctx context.Context, a evidence.Assertion) (store.Credential, *KeyAct, error) {
	_, result, err := e.verify(e.ceremony.Act, a, []store.Credential{e.key})
	if err != nil {
		return store.Credential{}, nil, err
	}
	if len(e.vouching) > 0 {
		next := e.ceremony
		next.Step, next.Possession = StepAuthority, &a
		act, err := e.ask(ctx, e.sh, e.person, e.sessionHash, next, e.vouching)
		return e.key, &act, err
	}
	done := evidence.Enrolment{
		Act: e.ceremony.Act, Possession: a, AttestationObject: e.key.AttestationObject, ClientDataJSON: e.key.ClientData,
	}
	if e.had { // the log-in alone does not bring back what was lost, or fell
		unfinished, opening, err := kept(done, e.ceremony.Opening)
		if err != nil {
			return store.Credential{}, nil, err
		}
		key, err := e.sh.KeepUnfinished(ctx, e.key.ID, unfinished, opening)
		return key, nil, err
	}
	key, err := enrol(ctx, e.sh, e.key, done, e.ceremony.Opening, nil)
	if err != nil {
		return store.Credential{}, nil, err
	}
	return key, nil, used(ctx, e.sh, result)
}

// authority takes the signature of a key that the person has.
func (e *enrolment) authority(ctx context.Context, a evidence.Assertion) (store.Credential, error) {
	signer, result, err := e.verify(e.ceremony.Act, a, e.vouching)
	if err != nil {
		return store.Credential{}, err
	}
	if err := used(ctx, e.sh, result); err != nil {
		return store.Credential{}, err
	}
	return enrol(ctx, e.sh, e.key, evidence.Enrolment{
		Act: e.ceremony.Act, Possession: *e.ceremony.Possession, Authority: &a,
		AttestationObject: e.key.AttestationObject, ClientDataJSON: e.key.ClientData,
	}, e.ceremony.Opening, signer.ID)
}

func kept(e evidence.Enrolment, opening evidence.PersonOpening) (enrolment, opened []byte, err error) {
	if enrolment, err = canonical(e); err == nil {
		opened, err = json.Marshal(opening)
	}
	return enrolment, opened, err
}

// enrol lets a waiting key decide, with its leaf and the notice to its person: all in the transaction of sh.
func enrol(ctx context.Context, sh *store.Shared, key store.Credential, e evidence.Enrolment, opening evidence.PersonOpening, authority []byte) (store.Credential, error) {
	done, opened, err := kept(e, opening)
	if err != nil {
		return store.Credential{}, err
	}
	by := string(e.IdentifiedBy())
	stored, err := sh.EnrolCredential(ctx, key.ID, store.Enrolled{Enrolment: done, Opening: opened, IdentifiedBy: by, AuthorityID: authority})
	if errors.Is(err, store.ErrNotFound) {
		return store.Credential{}, notWaiting()
	}
	if err != nil {
		return store.Credential{}, err
	}
	about, err := stored.Key().Digest()
	if err != nil {
		return store.Credential{}, err
	}
	err = appendLeaf(ctx, sh, evidence.KeyEnrolled{
		Person: stored.PersonID, Key: about, AttestationObject: digest(stored.AttestationObject), ClientData: digest(stored.ClientData),
		IdentifiedBy: by, Enrolment: digest(done),
	})
	if err != nil {
		return store.Credential{}, err
	}
	return stored, tellEnrolled(ctx, sh, stored)
}

// ReportLost revokes every key of the person that decides: they are not there to sign for a new one. A new key then
// waits for a countersigner. It answers the keys that it revoked.
func (p *People) ReportLost(ctx context.Context, person store.Person) ([]store.Credential, error) {
	var revoked []store.Credential
	err := p.store.Outside(ctx, func(sh *store.Shared) error {
		keys, err := sh.LockCredentials(ctx, person.ID)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if !key.Enrolled() {
				continue
			}
			gone, err := revoke(ctx, sh, key, nil, nil)
			if err != nil {
				return err
			}
			revoked = append(revoked, gone)
		}
		return nil
	})
	if err == nil && len(revoked) > 0 {
		p.log.InfoContext(ctx, "all passkeys reported as lost", "person", person.ID, "keys", len(revoked))
	}
	return revoked, err
}
