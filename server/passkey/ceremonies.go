package passkey

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// Ceremonies runs the ceremonies of one relying party on one origin. It is safe
// for concurrent use.
type Ceremonies struct {
	// Attest asks for the attestation of new keys, which tells the model of the
	// authenticator; otherwise browsers are asked to leave it out. Set before use.
	Attest bool

	rp       evidence.RelyingParty
	webauthn *webauthn.WebAuthn
}

// registrationTime is how long the browser waits for the person during
// enrolment, and how long a session can be finished.
const registrationTime = 5 * time.Minute

// New prepares the ceremonies of a relying party. rpID is a domain, origin the
// exact origin of the sign page, which must lie in that domain and use https,
// or http on localhost.
func New(rpID, rpName, origin string) (*Ceremonies, error) {
	u, err := url.Parse(origin)
	if err != nil || origin != u.Scheme+"://"+u.Host || origin != strings.ToLower(origin) {
		return nil, fmt.Errorf("passkey: %q is not a web origin", origin)
	}
	host := u.Hostname()
	if host != rpID && !strings.HasSuffix(host, "."+rpID) {
		return nil, fmt.Errorf("passkey: origin %s is outside the relying party %s", origin, rpID)
	}
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return nil, fmt.Errorf("passkey: origin %s must use https", origin)
	}
	if rpName == "" {
		return nil, errors.New("passkey: the relying party needs a name")
	}
	timeout := webauthn.TimeoutConfig{Enforce: true, Timeout: registrationTime, TimeoutUVD: registrationTime}
	w, err := webauthn.New(&webauthn.Config{
		RPID:                  rpID,
		RPDisplayName:         rpName,
		RPOrigins:             []string{origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey:      protocol.ResidentKeyRequirementPreferred,
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: timeout, Registration: timeout},
	})
	if err != nil {
		return nil, fmt.Errorf("passkey: %w", err)
	}
	return &Ceremonies{rp: evidence.RelyingParty{ID: rpID, Origin: origin}, webauthn: w}, nil
}

// RelyingParty returns the relying party id and the origin.
func (c *Ceremonies) RelyingParty() evidence.RelyingParty { return c.rp }

// Verify checks an assertion over a statement against all keys of the roster.
// It adds nothing to [evidence.VerifyAssertion] but the relying party.
func (c *Ceremonies) Verify(statement []byte, a evidence.Assertion, keys []evidence.Key) (evidence.AssertionResult, error) {
	return evidence.VerifyAssertion(statement, a, keys, c.rp)
}

// Code is the stable, machine-readable name of a refusal.
type Code string

// The refusals of this package. Those of an assertion come from evidence.
const (
	CodeMalformed    Code = "malformed"         // the browser's answer cannot be read
	CodeTooLarge     Code = "too_large"         // the browser's answer is over its limit
	CodeSession      Code = "session"           // the registration session cannot be read or has expired
	CodeRegistration Code = "registration"      // the ceremony does not answer the options
	CodeCrossOrigin  Code = "cross_origin"      // made inside a frame of another origin
	CodeVerification Code = "user_not_verified" // without PIN, biometric or the like
	CodeKey          Code = "key"               // a key of a kind that is not accepted
)

// Error is a refusal: a stable code, a message that is safe to show, and the
// cause for the log.
type Error struct {
	Code    Code
	Message string
	cause   error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, which may be nil. It is for logs, not for people.
func (e *Error) Unwrap() error { return e.cause }

func refuse(code Code, message string, cause error) error {
	return &Error{Code: code, Message: message, cause: cause}
}
