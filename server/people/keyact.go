package people

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// The protocol of what keys sign about keys: the server makes an act and keeps it with its hash, which is the
// challenge; a key signs it; one transaction verifies the assertion over the kept bytes, stores both, and appends the
// leaf. A challenge is consumed before anything else and stays so, whatever comes of it.

// actLife is how long an authenticator's answer to an act is waited for.
const actLife = 5 * time.Minute

// Step is what is to be signed, and by which keys.
type Step string

// The steps.
const (
	// StepPossession: the new key itself signs its enrolment.
	StepPossession Step = "NEW_KEY"
	// StepAuthority: a key that the person has signs the enrolment of the new one.
	StepAuthority Step = "OWN_KEY"
	// StepCountersign: an administrator vouches for a member's key.
	StepCountersign Step = "COUNTERSIGN"
	// StepRevoke: a key is taken out of use, by its person or, for a workspace, by an administrator.
	StepRevoke Step = "REVOKE"
)

// KeyAct is what an authenticator is asked to sign about a key.
type KeyAct struct {
	Step      Step
	Statement []byte // the very bytes; their SHA-256 is the challenge
	Options   []byte // PublicKeyCredentialRequestOptions, JSON
	// SignerSalt opens the act's commitment to its signer, for the signer's own page alone: so it can tell that the account is theirs.
	SignerSalt []byte
	ExpiresAt  time.Time
}

// ceremony is what a KEY challenge keeps until the assertion comes.
type ceremony struct {
	Step       Step                   `json:"step"`
	Credential []byte                 `json:"credential"` // the key that the act is about
	Act        []byte                 `json:"act"`
	Opening    evidence.PersonOpening `json:"opening"`
	// Possession is the new key's own assertion, while the authority of another one is waited for.
	Possession *evidence.Assertion `json:"possession,omitempty"`
	workspace  string              // "" for an act about one's own key
}

// act makes the bytes of an act that the person signs, and what opens its commitment.
func (p *People) act(person store.Person, a evidence.Act) ([]byte, evidence.PersonOpening, error) {
	opening := evidence.PersonOpening{Salt: random(evidence.SaltSize), AccountID: person.AccountID, Name: person.Name}
	commitment, err := opening.Commitment()
	if err != nil {
		return nil, opening, err
	}
	rp := p.passkeys.RelyingParty()
	a.RPID, a.Origin, a.LogOrigin, a.Nonce = rp.ID, rp.Origin, p.logOrigin, random(16)
	a.Signer = evidence.Party{Person: person.ID, Commitment: commitment}
	a.Meaning = evidence.ActMeaning(a)
	data, err := a.Canonical()
	if err != nil {
		err = fmt.Errorf("act %s: %w", a.Purpose, err)
	}
	return data, opening, err
}

// ask keeps an act and answers what the authenticator needs to sign it with one of the keys.
func (p *People) ask(ctx context.Context, sh *store.Shared, person store.Person, sessionHash []byte, c ceremony, signers []store.Credential) (KeyAct, error) {
	if len(signers) == 0 {
		return KeyAct{}, refusal.New(CodeNoKey, "This is signed with a passkey, and you have none that could.")
	}
	data, err := json.Marshal(c)
	if err != nil {
		return KeyAct{}, err
	}
	kept := store.Challenge{
		Challenge: evidence.Challenge(c.Act), Kind: store.ChallengeKey, PersonID: person.ID, SessionHash: sessionHash, Data: data,
	}
	if c.workspace != "" {
		kept.WorkspaceID = &c.workspace
	}
	expires, err := sh.InsertChallenge(ctx, kept, actLife)
	if err != nil {
		return KeyAct{}, err
	}
	allow := make([]passkey.Credential, len(signers))
	for i, key := range signers {
		allow[i] = passkey.Credential{ID: key.ID, Transports: key.Transports}
	}
	options, err := p.passkeys.AssertionOptions(kept.Challenge, allow, actLife)
	return KeyAct{Step: c.Step, Statement: c.Act, Options: options, SignerSalt: c.Opening.Salt, ExpiresAt: expires}, err
}

// answered consumes the challenge that the answer is over; it must be of one of the steps.
func (p *People) answered(ctx context.Context, person store.Person, sessionHash []byte, response string, steps ...Step) (c ceremony, a evidence.Assertion, err error) {
	challenge, err := challengeOf(response)
	if err != nil {
		return c, a, err
	}
	if a, err = passkey.ParseAssertion([]byte(response)); err != nil {
		return c, a, refusal.New(refusal.BadInput, "The browser's answer cannot be read.").At("response").Because(err)
	}
	begun, err := p.take(ctx, challenge, store.ChallengeKey, person, sessionHash)
	if err != nil {
		return c, a, err
	}
	if err := json.Unmarshal(begun.Data, &c); err != nil {
		return c, a, fmt.Errorf("kept act: %w", err)
	}
	if begun.WorkspaceID != nil {
		c.workspace = *begun.WorkspaceID
	}
	if !slices.Contains(steps, c.Step) {
		return c, a, refusal.New(CodeChallenge, "This signature was asked for by something else. Please start it again.")
	}
	return c, a, nil
}

// verify checks an assertion over an act: it must be by one of the keys, and by the person who is to sign.
func (p *People) verify(act []byte, a evidence.Assertion, signers []store.Credential) (signer store.Credential, result evidence.AssertionResult, err error) {
	keys := make([]evidence.Key, len(signers))
	for i, c := range signers {
		keys[i] = c.Key()
	}
	result, err = evidence.VerifyAct(act, a, keys, p.passkeys.RelyingParty())
	if err != nil {
		return signer, result, refusal.New(CodePasskeyRefused, "The signature does not hold: %s.", err).At("response").Because(err)
	}
	at := slices.IndexFunc(signers, func(c store.Credential) bool { return string(c.ID) == string(result.Key.CredentialID) })
	return signers[at], result, nil
}

// used notes that an enrolled key signed.
func used(ctx context.Context, sh *store.Shared, result evidence.AssertionResult) error {
	err := sh.UseCredential(ctx, result.Key.CredentialID, int64(result.SignCount), result.BackupState)
	if errors.Is(err, store.ErrNotFound) {
		return refusal.New(CodePasskeyRefused, "This passkey was revoked meanwhile, or its counter went back: it may have been copied.").At("response")
	}
	return err
}

// canonical is the RFC 8785 form, in which what was signed is kept: the digests in the log are of it.
func canonical(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(data)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
