package people

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// registrationLife is how long an enrolment may take.
	registrationLife = 5 * time.Minute
	// maxPasskeys is how many keys of a person can decide at the same time.
	maxPasskeys = 50
)

// NoWorkspace stands in the log where an event belongs to no workspace. A key belongs to its person,
// who may be in many workspaces and join others later: its enrolment and its revocation are one leaf
// each, under this id, and its digest is what a bundle finds it by.
const NoWorkspace = "00000000-0000-0000-0000-000000000000"

// registration is what finishing an enrolment needs; it is a challenge's data.
type registration struct {
	Name    string          `json:"name"`
	Session json.RawMessage `json:"session"` // passkey's own
}

// BeginPasskey starts enrolling a key and answers the options for navigator.credentials.create, as
// JSON. name is what its owner calls it; "" lets FinishPasskey choose. It can be finished for five
// minutes, once, by the session that began it.
func (p *People) BeginPasskey(ctx context.Context, person store.Person, sessionHash []byte, name string) (optionsJSON string, err error) {
	if name != "" {
		if name, err = checkName(name); err != nil {
			return "", err
		}
	}
	var existing []store.Credential
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		existing, err = sh.Credentials(ctx, person.ID)
		return err
	})
	if err != nil {
		return "", err
	}
	var exclude []passkey.CredentialID
	for _, key := range existing {
		if key.RevokedAt == nil {
			exclude = append(exclude, key.ID)
		}
	}
	if len(exclude) >= maxPasskeys {
		return "", tooManyPasskeys()
	}
	handle, err := uuid.Parse(person.ID)
	if err != nil {
		return "", fmt.Errorf("person %q: %w", person.ID, err)
	}
	options, session, err := p.passkeys.BeginRegistration(
		passkey.User{ID: handle[:], Name: person.Name, DisplayName: person.Name}, exclude)
	if err != nil {
		return "", err
	}
	var begun struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(options, &begun); err != nil {
		return "", fmt.Errorf("options: %w", err)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(begun.Challenge)
	if err != nil || len(challenge) < 16 {
		return "", errors.New("options without a challenge")
	}
	data, err := json.Marshal(registration{Name: name, Session: session})
	if err != nil {
		return "", err
	}
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		_, err := sh.InsertChallenge(ctx, store.Challenge{
			Challenge: challenge, Kind: store.ChallengeRegister, PersonID: person.ID, SessionHash: sessionHash, Data: data,
		}, registrationLife)
		return err
	})
	return string(options), err
}

func tooManyPasskeys() *refusal.Error {
	return refusal.New(CodeLimit, "You have %d passkeys; revoke one before you enrol another.", maxPasskeys)
}

// FinishPasskey enrols the key that the authenticator made: responseJSON is its
// RegistrationResponseJSON. The challenge serves once, whatever comes of it.
func (p *People) FinishPasskey(ctx context.Context, person store.Person, sessionHash []byte, name, responseJSON string) (store.Credential, error) {
	challenge, err := challengeOf(responseJSON)
	if err != nil {
		return store.Credential{}, err
	}
	var begun store.Challenge
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		begun, err = sh.TakeChallenge(ctx, challenge, store.ChallengeRegister, person.ID, sessionHash)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return store.Credential{}, refusal.New(CodeChallenge, "This enrolment was not begun here, or was finished before, or took more than five minutes. Please start it again.")
	}
	if err != nil {
		return store.Credential{}, err
	}
	var data registration
	if err := json.Unmarshal(begun.Data, &data); err != nil {
		return store.Credential{}, fmt.Errorf("registration: %w", err)
	}
	registered, err := p.passkeys.FinishRegistration(data.Session, []byte(responseJSON))
	if refused, ok := errors.AsType[*passkey.Error](err); ok {
		return store.Credential{}, refusal.New(CodePasskeyRefused, "%s", refused.Message).At("response").Because(err)
	}
	if err != nil {
		return store.Credential{}, err
	}
	if name == "" {
		name = data.Name
	}
	if name == "" {
		name = "Passkey of " + begun.CreatedAt.UTC().Format(time.DateOnly)
	}
	if name, err = checkName(name); err != nil {
		return store.Credential{}, err
	}
	var stored store.Credential
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		stored, err = enrol(ctx, sh, person, name, registered)
		return err
	})
	if errors.Is(err, store.ErrConflict) {
		return store.Credential{}, refusal.New(CodePasskeyKnown, "This passkey is enrolled already.")
	}
	if err != nil {
		return store.Credential{}, err
	}
	p.log.InfoContext(ctx, "passkey enrolled", "person", person.ID)
	return stored, nil
}

// challengeOf reads the challenge out of an authenticator's answer, to find the ceremony by. That the
// answer is over this challenge is checked by the ceremony itself.
func challengeOf(responseJSON string) ([]byte, error) {
	bad := refusal.New(refusal.BadInput, "The browser's answer cannot be read.").At("response")
	if len(responseJSON) > passkey.MaxRegistration {
		return nil, bad
	}
	var answer struct {
		Response struct {
			ClientDataJSON string `json:"clientDataJSON"`
		} `json:"response"`
	}
	if err := json.Unmarshal([]byte(responseJSON), &answer); err != nil {
		return nil, bad.Because(err)
	}
	clientData, err := base64.RawURLEncoding.DecodeString(answer.Response.ClientDataJSON)
	if err != nil {
		return nil, bad.Because(err)
	}
	var data struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(clientData, &data); err != nil {
		return nil, bad.Because(err)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(data.Challenge)
	if err != nil || len(challenge) == 0 {
		return nil, bad
	}
	return challenge, nil
}

// enrol stores a key and its leaf.
func enrol(ctx context.Context, sh *store.Shared, person store.Person, name string, registered passkey.Registered) (store.Credential, error) {
	keys, err := sh.LockCredentials(ctx, person.ID)
	if err != nil {
		return store.Credential{}, err
	}
	alive := 0
	for _, key := range keys {
		if key.RevokedAt == nil {
			alive++
		}
	}
	if alive >= maxPasskeys {
		return store.Credential{}, tooManyPasskeys()
	}
	stored, err := sh.InsertCredential(ctx, store.Credential{
		ID: registered.CredentialID, PersonID: person.ID, Name: name, PublicKey: registered.PublicKey,
		AAGUID: modelOf(registered.AAGUID), SignCount: int64(registered.SignCount),
		BackupEligible: registered.BackupEligible, BackupState: registered.BackupState, Transports: registered.Transports,
		AttestationObject: registered.AttestationObject, ClientData: registered.ClientDataJSON,
	})
	if err != nil {
		return store.Credential{}, err
	}
	key, err := keyOf(stored).Digest()
	if err != nil {
		return store.Credential{}, err
	}
	return stored, appendLeaf(ctx, sh, evidence.KeyEnrolled{
		Person: person.ID, Key: key,
		AttestationObject: digest(stored.AttestationObject), ClientData: digest(stored.ClientData),
		IdentifiedBy: "bitbucket-login",
	})
}

// modelOf is the authenticator's model; nil where it does not tell.
func modelOf(aaguid []byte) *string {
	id, err := uuid.FromBytes(aaguid)
	if err != nil || id == uuid.Nil {
		return nil
	}
	text := id.String()
	return &text
}

// Passkeys lists the person's keys, newest first, revoked ones included.
func (p *People) Passkeys(ctx context.Context, person store.Person) ([]store.Credential, error) {
	var keys []store.Credential
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		keys, err = sh.Credentials(ctx, person.ID)
		return err
	})
	return keys, err
}

// Passkey reads one key of the person by its credential id.
func (p *People) Passkey(ctx context.Context, person store.Person, id []byte) (store.Credential, error) {
	var key store.Credential
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		key, err = sh.Credential(ctx, id)
		return err
	})
	if err == nil && key.PersonID != person.ID {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Credential{}, found(err, "passkey")
	}
	return key, nil
}

// RenamePasskey gives a key of the person another name.
func (p *People) RenamePasskey(ctx context.Context, person store.Person, id []byte, name string) (store.Credential, error) {
	name, err := checkName(name)
	if err != nil {
		return store.Credential{}, err
	}
	var key store.Credential
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		key, err = sh.RenameCredential(ctx, person.ID, id, name)
		return err
	})
	return key, found(err, "passkey")
}

// RevokePasskey ends a key of the person for good: it can make no further decision. Decisions that it
// made stand. Revoking it again changes nothing.
func (p *People) RevokePasskey(ctx context.Context, person store.Person, id []byte) (store.Credential, error) {
	key, err := p.Passkey(ctx, person, id)
	if err != nil || key.RevokedAt != nil {
		return key, err
	}
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		revoked, err := sh.RevokeCredential(ctx, person.ID, id, store.Revocation{})
		if errors.Is(err, store.ErrNotFound) { // somebody was faster
			key, err = sh.Credential(ctx, id)
			return err
		}
		if err != nil {
			return err
		}
		key = revoked
		digest, err := keyOf(key).Digest()
		if err != nil {
			return err
		}
		return appendLeaf(ctx, sh, evidence.KeyRevoked{Person: person.ID, Key: digest})
	})
	if err != nil {
		return store.Credential{}, err
	}
	p.log.InfoContext(ctx, "passkey revoked", "person", person.ID)
	return key, nil
}

// keyOf is a credential as evidence knows it.
func keyOf(c store.Credential) evidence.Key {
	return evidence.Key{CredentialID: c.ID, Person: c.PersonID, PublicKey: c.PublicKey, BackupEligible: c.BackupEligible}
}

func digest(data []byte) evidence.Digest {
	sum := sha256.Sum256(data)
	return evidence.Digest(hex.EncodeToString(sum[:]))
}

// appendLeaf writes an event of a person into the log: the last thing that a transaction does.
func appendLeaf(ctx context.Context, sh *store.Shared, body evidence.Body) error {
	now, err := sh.Now(ctx)
	if err != nil {
		return err
	}
	entry, err := evidence.Leaf{Time: now, Workspace: evidence.WorkspaceID(nil, NoWorkspace), Body: body}.Entry()
	if err != nil {
		return fmt.Errorf("leaf %s: %w", body.Type(), err)
	}
	sh.AppendLeaf(NoWorkspace, evidence.LeafHash(entry), entry, "", 0)
	return nil
}
