package passkey

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// MaxRegistration is the limit of a registration answer in bytes; attestation
// objects can carry certificate chains.
const MaxRegistration = 64 << 10

// User is the person who enrols a key.
type User struct {
	// ID is the user handle, 1 to 64 bytes: our random id of the person. It is
	// stored in authenticators, so it must not tell who the person is.
	ID []byte
	// Name and DisplayName are shown by the browser and the authenticator.
	Name, DisplayName string
}

// CredentialID is an authenticator's id of a key.
type CredentialID []byte

// Registered is a newly enrolled key with everything that proves its origin.
type Registered struct {
	// CredentialID is the authenticator's id of the key, 1 to 1023 bytes.
	CredentialID []byte
	// PublicKey is the COSE key, which [evidence.CheckPublicKey] accepts.
	PublicKey []byte
	// Algorithm is the key's algorithm.
	Algorithm evidence.Algorithm
	// AAGUID is the authenticator's model, 16 bytes; all zero when not told.
	AAGUID []byte
	// SignCount is the counter at enrolment; 0 says nothing.
	SignCount uint32
	// BackupEligible says that the key can leave its device; it never changes.
	BackupEligible bool
	// BackupState says that the key has a copy with a credential provider.
	BackupState bool
	// Transports are the browser's hints for reaching the authenticator.
	Transports []string
	// AttestationObject and ClientDataJSON are kept whole, byte for byte.
	AttestationObject, ClientDataJSON []byte
	// Format is the attestation statement's format, such as "none".
	Format string
}

// algorithms in order of preference.
var algorithms = []protocol.CredentialParameter{
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.COSEAlgorithmIdentifier(evidence.ES256)},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.COSEAlgorithmIdentifier(evidence.EdDSA)},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.COSEAlgorithmIdentifier(evidence.RS256)},
}

// BeginRegistration returns the options for the browser, as the JSON of
// PublicKeyCredentialCreationOptions, and the session that
// [Ceremonies.FinishRegistration] needs. The session stays on the server and
// serves once. Authenticators that already hold one of the existing keys are
// asked not to make another.
func (c *Ceremonies) BeginRegistration(user User, existing []CredentialID) (optionsJSON, session []byte, err error) {
	exclude := make([]protocol.CredentialDescriptor, len(existing))
	for i, id := range existing {
		exclude[i] = protocol.CredentialDescriptor{
			Type: protocol.PublicKeyCredentialType, CredentialID: protocol.URLEncodedBase64(id),
		}
	}
	preference := protocol.PreferNoAttestation
	if c.Attest {
		preference = protocol.PreferDirectAttestation
	}
	creation, data, err := c.webauthn.BeginRegistration(account{user},
		webauthn.WithCredentialParameters(algorithms), webauthn.WithExclusions(exclude), webauthn.WithConveyancePreference(preference))
	if err != nil {
		return nil, nil, fmt.Errorf("passkey: begin registration: %w", err)
	}
	if optionsJSON, err = json.Marshal(creation.Response); err != nil {
		return nil, nil, fmt.Errorf("passkey: write options: %w", err)
	}
	if session, err = json.Marshal(data); err != nil {
		return nil, nil, fmt.Errorf("passkey: write session: %w", err)
	}
	return optionsJSON, session, nil
}

// FinishRegistration checks the browser's answer, the JSON of
// PublicKeyCredential.toJSON(), against the session. The ceremony must have
// been on our own page and not in a frame, with the user present and verified,
// and must have made a key that [evidence.VerifyAssertion] will accept. Every
// refusal is an [*Error].
func (c *Ceremonies) FinishRegistration(session, responseJSON []byte) (Registered, error) {
	var data webauthn.SessionData
	if err := json.Unmarshal(session, &data); err != nil || data.Challenge == "" || data.UserVerification != protocol.VerificationRequired {
		return Registered{}, refuse(CodeSession, "The registration cannot be continued. Please start it again.", err)
	}
	if data.Expires.Before(time.Now()) {
		return Registered{}, refuse(CodeSession, "The registration took too long. Please start it again.", nil)
	}
	if len(responseJSON) > MaxRegistration {
		return Registered{}, refuse(CodeTooLarge, "The browser's answer is too large.", nil)
	}
	if err := evidence.CheckJSON(responseJSON); err != nil {
		return Registered{}, refuse(CodeMalformed, "The browser's answer cannot be read.", err)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(responseJSON)
	if err != nil {
		return Registered{}, refuse(CodeMalformed, "The browser's answer cannot be read.", details(err))
	}
	if err := topLevel(parsed.Raw.AttestationResponse.ClientDataJSON); err != nil {
		return Registered{}, err
	}
	if !parsed.Response.AttestationObject.AuthData.Flags.HasUserVerified() {
		return Registered{}, refuse(CodeVerification, "The authenticator did not verify you. Use one with a PIN, a fingerprint or the like.", nil)
	}
	credential, err := c.webauthn.CreateCredential(account{User{ID: data.UserID}}, data, parsed)
	if err != nil {
		return Registered{}, refuse(CodeRegistration, "The key could not be registered.", details(err))
	}
	algorithm, err := evidence.CheckPublicKey(credential.PublicKey)
	if err != nil {
		return Registered{}, refuse(CodeKey, "Keys of this kind are not accepted.", err)
	}
	if n := len(credential.ID); n < 1 || n > evidence.MaxCredentialID {
		return Registered{}, refuse(CodeKey, "Keys of this kind are not accepted.", fmt.Errorf("credential id of %d bytes", n))
	}
	transports := make([]string, len(credential.Transport))
	for i, t := range credential.Transport {
		transports[i] = string(t)
	}
	return Registered{
		CredentialID: credential.ID, PublicKey: credential.PublicKey, Algorithm: algorithm,
		AAGUID: credential.Authenticator.AAGUID, SignCount: credential.Authenticator.SignCount,
		BackupEligible: credential.Flags.BackupEligible, BackupState: credential.Flags.BackupState,
		Transports:        transports,
		AttestationObject: credential.Attestation.Object, ClientDataJSON: credential.Attestation.ClientDataJSON,
		Format: credential.AttestationFormat,
	}, nil
}

// topLevel refuses a ceremony in a frame, and client data that two readers
// could read in two ways. The library checks the rest of it.
func topLevel(clientData []byte) error {
	if len(clientData) > evidence.MaxClientData {
		return refuse(CodeTooLarge, "The browser's answer is too large.", nil)
	}
	if err := evidence.CheckJSON(clientData); err != nil {
		return refuse(CodeMalformed, "The browser's answer cannot be read.", err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(clientData, &members); err != nil {
		return refuse(CodeMalformed, "The browser's answer cannot be read.", err)
	}
	cross, framed := members["crossOrigin"]
	_, top := members["topOrigin"]
	if top || framed && string(cross) != "false" {
		return refuse(CodeCrossOrigin, "Passkeys can only be used on the page itself, not inside another site.", nil)
	}
	return nil
}

// details carries the library's diagnosis, which its Error leaves out.
func details(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return fmt.Errorf("%w: %s (%s)", err, e.Details, e.DevInfo)
	}
	return err
}

// account is a [User] as the library wants to see one.
type account struct{ user User }

func (a account) WebAuthnID() []byte                         { return a.user.ID }
func (a account) WebAuthnName() string                       { return a.user.Name }
func (a account) WebAuthnDisplayName() string                { return a.user.DisplayName }
func (a account) WebAuthnCredentials() []webauthn.Credential { return nil }
