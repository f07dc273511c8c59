package passkey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// MaxAssertion is the limit of an assertion answer in bytes.
const MaxAssertion = 64 << 10

// Credential is a key that may answer.
type Credential struct {
	// ID is the authenticator's id of the key.
	ID []byte
	// Transports are the hints that the browser gave at enrolment.
	Transports []string
}

// requestOptions is PublicKeyCredentialRequestOptionsJSON of WebAuthn Level 3.
type requestOptions struct {
	Challenge        evidence.Bytes `json:"challenge"`
	Timeout          int64          `json:"timeout"` // milliseconds
	RPID             string         `json:"rpId"`
	AllowCredentials []descriptor   `json:"allowCredentials"`
	UserVerification string         `json:"userVerification"`
}

type descriptor struct {
	Type       string         `json:"type"`
	ID         evidence.Bytes `json:"id"`
	Transports []string       `json:"transports,omitempty"`
}

// AssertionOptions returns the options for the browser, as the JSON of
// PublicKeyCredentialRequestOptions. The challenge is the hash of the statement
// to be signed, [evidence.Challenge]; allow are the approver's keys; timeout is
// how long the browser waits for the person. An empty list of keys is an error:
// it would let any key of the device answer.
func (c *Ceremonies) AssertionOptions(challenge []byte, allow []Credential, timeout time.Duration) (optionsJSON []byte, err error) {
	if len(challenge) != 32 {
		return nil, fmt.Errorf("passkey: a challenge is the hash of a statement, 32 bytes, not %d", len(challenge))
	}
	if len(allow) == 0 {
		return nil, fmt.Errorf("passkey: nobody's keys are allowed to answer")
	}
	if timeout < time.Second {
		return nil, fmt.Errorf("passkey: a timeout of %s leaves no time to answer", timeout)
	}
	options := requestOptions{
		Challenge: challenge, Timeout: timeout.Milliseconds(), RPID: c.rp.ID, UserVerification: "required",
	}
	for _, key := range allow {
		options.AllowCredentials = append(options.AllowCredentials, descriptor{"public-key", key.ID, key.Transports})
	}
	return json.Marshal(options)
}

// authenticationResponse is AuthenticationResponseJSON of WebAuthn Level 3, of
// which the members that are only hints are left aside.
type authenticationResponse struct {
	ID       string `json:"id"`
	RawID    string `json:"rawId"`
	Type     string `json:"type"`
	Response struct {
		AuthenticatorData string  `json:"authenticatorData"`
		ClientDataJSON    string  `json:"clientDataJSON"`
		Signature         string  `json:"signature"`
		UserHandle        *string `json:"userHandle"`
	} `json:"response"`
}

// ParseAssertion reads the browser's answer, the JSON of
// PublicKeyCredential.toJSON(). Binary members are base64url without padding, in
// its one spelling; a key that is there twice is refused, and so is anything
// over its limit. Whether the assertion counts is for [Ceremonies.Verify].
// Every refusal is an [*Error].
func ParseAssertion(responseJSON []byte) (evidence.Assertion, error) {
	none := evidence.Assertion{}
	if len(responseJSON) > MaxAssertion {
		return none, refuse(CodeTooLarge, "The browser's answer is too large.", nil)
	}
	unreadable := func(cause error) error {
		return refuse(CodeMalformed, "The browser's answer cannot be read.", cause)
	}
	if err := evidence.CheckJSON(responseJSON); err != nil {
		return none, unreadable(err)
	}
	var r authenticationResponse
	if err := json.Unmarshal(responseJSON, &r); err != nil {
		return none, unreadable(err)
	}
	if r.Type != "public-key" {
		return none, unreadable(fmt.Errorf("type %q", r.Type))
	}
	var (
		a   evidence.Assertion
		id  evidence.Bytes
		err error
	)
	read := func(name, text string, into *evidence.Bytes, least, most int) {
		if err != nil {
			return
		}
		if err = into.UnmarshalText([]byte(text)); err != nil {
			err = unreadable(fmt.Errorf("%s: %w", name, err))
		} else if n := len(*into); n < least || n > most {
			err = unreadable(fmt.Errorf("%s has %d bytes, not %d to %d", name, n, least, most))
		}
	}
	read("id", r.ID, &id, 1, evidence.MaxCredentialID)
	read("rawId", r.RawID, &a.CredentialID, 1, evidence.MaxCredentialID)
	read("authenticatorData", r.Response.AuthenticatorData, &a.AuthenticatorData, 37, evidence.MaxAuthenticatorData)
	read("clientDataJSON", r.Response.ClientDataJSON, &a.ClientDataJSON, 1, evidence.MaxClientData)
	read("signature", r.Response.Signature, &a.Signature, 1, evidence.MaxSignature)
	if r.Response.UserHandle != nil && *r.Response.UserHandle != "" {
		read("userHandle", *r.Response.UserHandle, &a.UserHandle, 1, evidence.MaxUserHandle)
	}
	if err == nil && !bytes.Equal(id, a.CredentialID) {
		err = unreadable(fmt.Errorf("id and rawId differ"))
	}
	if err != nil {
		return none, err
	}
	return a, nil
}
