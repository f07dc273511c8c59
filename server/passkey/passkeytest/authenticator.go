// Package passkeytest is an authenticator and a browser in software, for tests
// and for programs that play a story without a screen. It answers the options
// that package passkey makes in the form in which a browser answers. Its keys
// live in memory and protect nothing: the product itself must not import it.
package passkeytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/descope/virtualwebauthn"
	"github.com/fxamacker/cbor/v2"
)

// Authenticator holds ES256 keys and uses them in a browser that shows one
// page. The exported fields may be changed between calls, not during one; the
// methods are safe for concurrent use.
type Authenticator struct {
	// Origin is the origin of the page that the browser shows.
	Origin string
	// NoUserPresence answers without a touch, NoUserVerification without PIN or
	// biometric.
	NoUserPresence, NoUserVerification bool
	// BackupEligible and BackedUp are the flags of a synced passkey.
	BackupEligible, BackedUp bool
	// Counts makes the signature counter go up; otherwise it stays 0, as synced
	// passkeys leave it.
	Counts bool
	// RewriteClientData changes what the browser says about the page, before it
	// is signed. Nil leaves it as it is.
	RewriteClientData func(clientDataJSON []byte) []byte
	// Maker attests new keys where the page asks for it; nil attests none.
	Maker *Maker

	mu          sync.Mutex // guards credentials and their counters
	credentials []credential
}

type credential struct {
	rpID       string
	userHandle []byte
	virtualwebauthn.Credential
}

// New returns an authenticator without keys in a browser that shows a page of
// the given origin.
func New(origin string) *Authenticator { return &Authenticator{Origin: origin} }

// Create answers registration options, the JSON of
// PublicKeyCredentialCreationOptions, with a new key. It
// refuses when it already holds an excluded key, as a real one does.
func (a *Authenticator) Create(optionsJSON []byte) (responseJSON []byte, err error) {
	options, err := virtualwebauthn.ParseAttestationOptions(string(optionsJSON))
	if err != nil {
		return nil, fmt.Errorf("passkeytest: read registration options: %w", err)
	}
	var conveyance struct {
		Attestation string `json:"attestation"`
	}
	if err := json.Unmarshal(optionsJSON, &conveyance); err != nil {
		return nil, fmt.Errorf("passkeytest: read registration options: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.credentials {
		if c.IsExcludedForAttestation(*options) {
			return nil, errors.New("passkeytest: the authenticator already holds an excluded key")
		}
	}
	c := credential{rpID: options.RelyingPartyID, userHandle: []byte(options.UserID), Credential: key}
	answer := virtualwebauthn.CreateAttestationResponse(a.page(c.rpID), a.device(nil), c.Credential, *options)

	var response struct {
		ID       string `json:"id"`
		RawID    string `json:"rawId"`
		Type     string `json:"type"`
		Response struct {
			AttestationObject string   `json:"attestationObject"`
			ClientDataJSON    string   `json:"clientDataJSON"`
			Transports        []string `json:"transports"`
		} `json:"response"`
		ClientExtensionResults struct{} `json:"clientExtensionResults"`
	}
	if err := json.Unmarshal([]byte(answer), &response); err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	clientData := a.rewritten(decode(response.Response.ClientDataJSON))
	maker := a.Maker
	if conveyance.Attestation != "direct" {
		maker = nil
	}
	object, err := attested(maker, decode(response.Response.AttestationObject), clientData)
	if err != nil {
		return nil, err
	}
	response.Response.AttestationObject = encode(object)
	response.Response.ClientDataJSON = encode(clientData)
	response.Response.Transports = []string{"internal"}
	if responseJSON, err = json.Marshal(response); err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	a.credentials = append(a.credentials, c)
	return responseJSON, nil
}

// Get answers assertion options, the JSON of PublicKeyCredentialRequestOptions,
// with the first of its keys that the options allow.
func (a *Authenticator) Get(optionsJSON []byte) (responseJSON []byte, err error) {
	options, err := virtualwebauthn.ParseAssertionOptions(string(optionsJSON))
	if err != nil {
		return nil, fmt.Errorf("passkeytest: read assertion options: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.credentials {
		c := &a.credentials[i]
		if c.rpID == options.RelyingPartyID && (len(options.AllowCredentials) == 0 || c.IsAllowedForAssertion(*options)) {
			return a.assert(c, *options)
		}
	}
	return nil, errors.New("passkeytest: the authenticator holds no key that may answer")
}

func (a *Authenticator) assert(c *credential, options virtualwebauthn.AssertionOptions) ([]byte, error) {
	if a.Counts {
		c.Counter++
	}
	answer := virtualwebauthn.CreateAssertionResponse(a.page(c.rpID), a.device(c.userHandle), c.Credential, options)

	var response struct {
		ID       string `json:"id"`
		RawID    string `json:"rawId"`
		Type     string `json:"type"`
		Response struct {
			AuthenticatorData string `json:"authenticatorData"`
			ClientDataJSON    string `json:"clientDataJSON"`
			Signature         string `json:"signature"`
			UserHandle        string `json:"userHandle"`
		} `json:"response"`
		ClientExtensionResults struct{} `json:"clientExtensionResults"`
	}
	if err := json.Unmarshal([]byte(answer), &response); err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	if a.RewriteClientData != nil {
		clientData := a.rewritten(decode(response.Response.ClientDataJSON))
		hash := sha256.Sum256(clientData)
		signed := sha256.Sum256(append(decode(response.Response.AuthenticatorData), hash[:]...))
		signature, err := c.Key.Sign(signed[:])
		if err != nil {
			return nil, fmt.Errorf("passkeytest: sign: %w", err)
		}
		response.Response.ClientDataJSON = encode(clientData)
		response.Response.Signature = encode(signature)
	}
	return json.Marshal(response)
}

func (a *Authenticator) page(rpID string) virtualwebauthn.RelyingParty {
	return virtualwebauthn.RelyingParty{ID: rpID, Name: rpID, Origin: a.Origin}
}

func (a *Authenticator) device(userHandle []byte) virtualwebauthn.Authenticator {
	return virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{
		UserHandle:      userHandle,
		UserNotPresent:  a.NoUserPresence,
		UserNotVerified: a.NoUserVerification,
		BackupEligible:  a.BackupEligible,
		BackupState:     a.BackedUp,
	})
}

func (a *Authenticator) rewritten(clientData []byte) []byte {
	if a.RewriteClientData == nil {
		return clientData
	}
	return a.RewriteClientData(clientData)
}

// newKey makes a P-256 key whose coordinates both need all of their 32 bytes:
// the library writes shorter ones without padding, which strict readers refuse.
func newKey() (virtualwebauthn.Credential, error) {
	for {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return virtualwebauthn.Credential{}, fmt.Errorf("passkeytest: make a key: %w", err)
		}
		point, err := private.PublicKey.Bytes() // 4, X, Y
		if err != nil {
			return virtualwebauthn.Credential{}, fmt.Errorf("passkeytest: make a key: %w", err)
		}
		if point[1] == 0 || point[33] == 0 {
			continue
		}
		data, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return virtualwebauthn.Credential{}, fmt.Errorf("passkeytest: make a key: %w", err)
		}
		return virtualwebauthn.NewCredentialWithImportedKey(virtualwebauthn.KeyTypeEC2, data), nil
	}
}

// attested makes the maker's attestation of the library's object, or without a maker
// none, as a browser does when the page asks for none.
func attested(maker *Maker, object, clientData []byte) ([]byte, error) {
	var full struct {
		AuthData []byte `cbor:"authData"`
	}
	if err := cbor.Unmarshal(object, &full); err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	if maker != nil {
		return maker.Attest(full.AuthData, clientData)
	}
	return encodeObject("none", map[string]any{}, full.AuthData)
}

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// decode reads what the library wrote.
func decode(text string) []byte {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		panic("passkeytest: " + err.Error())
	}
	return data
}
