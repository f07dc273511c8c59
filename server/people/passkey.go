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
	// maxWaiting is how many keys of a person can wait to be enrolled at the same time.
	maxWaiting = 5
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
	if err := roomFor(existing); err != nil {
		return "", err
	}
	var exclude []passkey.CredentialID
	for _, key := range existing {
		if key.RevokedAt == nil {
			exclude = append(exclude, key.ID)
		}
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

// roomFor makes sure that the person can have one key more.
func roomFor(existing []store.Credential) error {
	enrolled, waiting := 0, 0
	for _, key := range existing {
		switch {
		case key.Enrolled():
			enrolled++
		case key.Waiting():
			waiting++
		}
	}
	switch {
	case enrolled >= maxPasskeys:
		return refusal.New(CodeLimit, "You have %d passkeys; revoke one before you enrol another.", maxPasskeys)
	case waiting >= maxWaiting:
		return refusal.New(CodeLimit, "%d passkeys of yours wait to be enrolled; finish or remove one of them first.", maxWaiting)
	}
	return nil
}

// FinishPasskey stores the key that the authenticator made: responseJSON is its
// RegistrationResponseJSON. The key waits, and decides nothing, until it has signed the act that is
// answered; see ConfirmPasskey. The challenge serves once, whatever comes of it.
func (p *People) FinishPasskey(ctx context.Context, person store.Person, sessionHash []byte, name, responseJSON string) (store.Credential, KeyAct, error) {
	challenge, err := challengeOf(responseJSON)
	if err != nil {
		return store.Credential{}, KeyAct{}, err
	}
	begun, err := p.take(ctx, challenge, store.ChallengeRegister, person, sessionHash)
	if err != nil {
		return store.Credential{}, KeyAct{}, err
	}
	var data registration
	if err := json.Unmarshal(begun.Data, &data); err != nil {
		return store.Credential{}, KeyAct{}, fmt.Errorf("registration: %w", err)
	}
	registered, err := p.passkeys.FinishRegistration(data.Session, []byte(responseJSON))
	if refused, ok := errors.AsType[*passkey.Error](err); ok {
		return store.Credential{}, KeyAct{}, refusal.New(CodePasskeyRefused, "%s", refused.Message).At("response").Because(err)
	}
	if err != nil {
		return store.Credential{}, KeyAct{}, err
	}
	if name == "" {
		name = data.Name
	}
	if name == "" {
		name = "Passkey of " + begun.CreatedAt.UTC().Format(time.DateOnly)
	}
	if name, err = checkName(name); err != nil {
		return store.Credential{}, KeyAct{}, err
	}
	var (
		stored store.Credential
		act    KeyAct
	)
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		if stored, err = insertWaiting(ctx, sh, person, name, registered); err != nil {
			return err
		}
		act, err = p.askPossession(ctx, sh, person, sessionHash, stored)
		return err
	})
	if errors.Is(err, store.ErrConflict) {
		return store.Credential{}, KeyAct{}, refusal.New(CodePasskeyKnown, "This passkey is enrolled already.")
	}
	if err != nil {
		return store.Credential{}, KeyAct{}, err
	}
	p.log.InfoContext(ctx, "passkey made", "person", person.ID)
	return stored, act, nil
}

// take consumes a ceremony's challenge.
func (p *People) take(ctx context.Context, challenge []byte, kind string, person store.Person, sessionHash []byte) (begun store.Challenge, err error) {
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		begun, err = sh.TakeChallenge(ctx, challenge, kind, person.ID, sessionHash)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = refusal.New(CodeChallenge, "This was not begun here, or was finished before, or took more than five minutes. Please start it again.")
	}
	return begun, err
}

// challengeOf reads the challenge out of an authenticator's answer, to find the ceremony by. That the
// answer is over this challenge is checked by the ceremony itself.
func challengeOf(responseJSON string) ([]byte, error) {
	bad := refusal.New(refusal.BadInput, "The browser's answer cannot be read.").At("response")
	if len(responseJSON) > max(passkey.MaxRegistration, passkey.MaxAssertion) {
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

// insertWaiting stores a key that is still to be enrolled.
func insertWaiting(ctx context.Context, sh *store.Shared, person store.Person, name string, registered passkey.Registered) (store.Credential, error) {
	keys, err := sh.LockCredentials(ctx, person.ID)
	if err != nil {
		return store.Credential{}, err
	}
	if err := roomFor(keys); err != nil {
		return store.Credential{}, err
	}
	return sh.InsertCredential(ctx, store.Credential{
		ID: registered.CredentialID, PersonID: person.ID, Name: name, PublicKey: registered.PublicKey,
		AAGUID: modelOf(registered.AAGUID), SignCount: int64(registered.SignCount),
		BackupEligible: registered.BackupEligible, BackupState: registered.BackupState, Transports: registered.Transports,
		AttestationObject: registered.AttestationObject, ClientData: registered.ClientDataJSON,
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

// Passkeys reads the person's keys, newest first, waiting and revoked ones included, with what others
// signed for them.
func (p *People) Passkeys(ctx context.Context, person store.Person) (store.Keys, error) {
	var keys store.Keys
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		keys, err = sh.Keys(ctx, person.ID)
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

func digest(data []byte) evidence.Digest {
	sum := sha256.Sum256(data)
	return evidence.Digest(hex.EncodeToString(sum[:]))
}

// appendLeaf writes an event about a person's key, which belongs to no workspace,
// into the log.
func appendLeaf(ctx context.Context, sh *store.Shared, body evidence.Body) error {
	return appendLeafOf(ctx, sh, NoWorkspace, evidence.WorkspaceID(nil, NoWorkspace), body)
}

func appendLeafOf(ctx context.Context, sh *store.Shared, workspace string, named evidence.Digest, body evidence.Body) error {
	now, err := sh.Now(ctx)
	if err != nil {
		return err
	}
	entry, err := evidence.Leaf{Time: now, Workspace: named, Body: body}.Entry()
	if err != nil {
		return fmt.Errorf("leaf %s: %w", body.Type(), err)
	}
	sh.AppendLeaf(workspace, evidence.LeafHash(entry), entry, "", 0)
	return nil
}
