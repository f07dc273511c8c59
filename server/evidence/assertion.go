package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"github.com/signedapproval/bitbucket/server/approval"
)

// Assertion is an authenticator's answer to a statement, whole, as WebAuthn
// delivers it.
type Assertion struct {
	// CredentialID selects the key; 1 to 1023 bytes.
	CredentialID Bytes `json:"credentialId"`
	// AuthenticatorData and ClientDataJSON are what was signed.
	AuthenticatorData Bytes `json:"authenticatorData"`
	ClientDataJSON    Bytes `json:"clientDataJSON"`
	// Signature is in the form of the key's algorithm.
	Signature Bytes `json:"signature"`
	// UserHandle is kept and never looked at: it does not identify anybody.
	UserHandle Bytes `json:"userHandle,omitempty"`
}

// Limits of an assertion's parts, in bytes.
const (
	MaxCredentialID      = 1023
	MaxAuthenticatorData = 4 << 10
	MaxClientData        = 16 << 10
	MaxSignature         = maxRSA / 8
	MaxUserHandle        = 64
)

// MaxRSAWork is the limit of what finding the RS256 signers of a bundle may take. Each
// decision takes the square of its signature's length in bytes for each RS256 key of the
// roster whose modulus is as long: a bundle can hold 262,144 pairs of a decision and a
// key of 2,048 bits, or 16,384 of 8,192 bits. With the largest exponents that is less
// than a minute on one core.
const MaxRSAWork = 1 << 34

// Key is one enrolled authenticator key.
type Key struct {
	// Person is our id of the person whose key it is.
	Person string `json:"person"`
	// CredentialID is the authenticator's id of the key.
	CredentialID Bytes `json:"credentialId"`
	// PublicKey is the COSE key as the authenticator gave it.
	PublicKey Bytes `json:"publicKey"`
	// BackupEligible is the authenticator's flag at enrolment; it never changes
	// for a key.
	BackupEligible bool `json:"backupEligible"`
}

// RelyingParty is where the ceremony has to have taken place.
type RelyingParty struct {
	// ID is the relying party id, a domain.
	ID string `json:"id"`
	// Origin is the exact web origin.
	Origin string `json:"origin"`
}

// AssertionResult is what a valid assertion says.
type AssertionResult struct {
	// Key is the one that signed.
	Key Key
	// SignCount is the authenticator's counter; 0 says nothing.
	SignCount uint32
	// UserPresent and UserVerified are both always true in a result.
	UserPresent, UserVerified bool
	// BackupEligible says that the key can leave its device, BackupState that
	// it has a copy with a credential provider.
	BackupEligible, BackupState bool
}

// VerifyAssertion checks an assertion over a statement. It is the only verifier
// of decisions: what it accepts counts, and nothing else does.
//
// It returns a result only if the statement is well-formed and names the
// relying party; the ceremony was an authentication on the exact origin and not
// inside a frame of another; the challenge is the statement's hash; the user
// was present and verified; the signature verifies under exactly one of the
// rostered keys; and that key bears the assertion's credential id, belongs to
// the statement's approver and has kept its backup eligibility. keys are all
// keys of the roster, not only the approver's. Every refusal is an [*Error].
func VerifyAssertion(statement []byte, a Assertion, keys []Key, rp RelyingParty) (AssertionResult, error) {
	s, err := ParseStatement(statement)
	if err != nil {
		return AssertionResult{}, err
	}
	ring, err := newKeyring(keys)
	if err != nil {
		return AssertionResult{}, err
	}
	return verifySigned(statement, RelyingParty{ID: s.RPID, Origin: s.Origin}, s.Approver.Person, a, ring, rp)
}

// verifySigned checks an assertion over the bytes of a statement or an act,
// which says itself where and by whom it is to be signed.
func verifySigned(signed []byte, says RelyingParty, person string, a Assertion, ring *keyring, rp RelyingParty) (AssertionResult, error) {
	none := AssertionResult{}
	if says != rp {
		return none, refuse(CodeRelyingParty, "the statement is for %s on %s, not for %s on %s", says.ID, says.Origin, rp.ID, rp.Origin)
	}
	if err := checkClientData(a.ClientDataJSON, Challenge(signed), rp.Origin); err != nil {
		return none, err
	}
	data, err := readAuthenticatorData(a.AuthenticatorData)
	if err != nil {
		return none, err
	}
	if err := data.check(rp.ID); err != nil {
		return none, err
	}
	key, err := ring.signer(a)
	if err != nil {
		return none, err
	}
	if key.Person != person {
		return none, refuse(CodePerson, "the key that signed does not belong to who is to sign")
	}
	if key.BackupEligible != data.has(flagBackupEligible) {
		return none, refuse(CodeBackup, "the key's backup eligibility has changed since it was enrolled")
	}
	return AssertionResult{
		Key: key, SignCount: data.signCount,
		UserPresent: data.has(flagUserPresent), UserVerified: data.has(flagUserVerified),
		BackupEligible: data.has(flagBackupEligible), BackupState: data.has(flagBackedUp),
	}, nil
}

// checkClientData reads the client's part of the ceremony. Unknown members are
// allowed, since browsers add some on purpose; a member that is there twice is
// not, since two readers could then see two ceremonies.
func checkClientData(raw, challenge []byte, origin string) error {
	if len(raw) > MaxClientData || !utf8.Valid(raw) {
		return refuse(CodeClientData, "the client data is not UTF-8 text of at most %d bytes", MaxClientData)
	}
	members, err := clientDataMembers(raw)
	if err != nil {
		return err
	}
	text := func(name string) (string, error) {
		r := reader{data: members[name], in: string(members[name])}
		if plain, escaped, ok := r.quoted(); ok && !escaped {
			return plain, nil
		}
		var s *string
		if err := json.Unmarshal(members[name], &s); err != nil || s == nil {
			return "", refuse(CodeClientData, "the client data has no text named %s", name)
		}
		return *s, nil
	}
	kind, err := text("type")
	if err != nil {
		return err
	}
	if kind != "webauthn.get" {
		return refuse(CodeType, "the ceremony was not an authentication")
	}
	given, err := text("challenge")
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(given), []byte(Bytes(challenge).String())) != 1 {
		return refuse(CodeChallenge, "the challenge is not the statement's hash")
	}
	from, err := text("origin")
	if err != nil {
		return err
	}
	if from != origin {
		return refuse(CodeOrigin, "the ceremony took place on another origin")
	}
	if cross, ok := members["crossOrigin"]; ok && string(cross) != "false" {
		return refuse(CodeCrossOrigin, "the ceremony took place inside a frame of another origin")
	}
	if _, ok := members["topOrigin"]; ok {
		return refuse(CodeCrossOrigin, "the ceremony took place inside a frame of another origin")
	}
	return nil
}

// clientDataMembers returns the members of the client data. Browsers write them
// without white space and needless escapes, though not in order; what is otherwise
// takes longer.
func clientDataMembers(raw []byte) (map[string]json.RawMessage, error) {
	r := reader{data: raw, in: string(raw), nulls: true}
	if members, ok := r.members(); ok && r.at == len(raw) {
		return members, nil
	}
	if approval.TooDeep(raw) {
		return nil, refuse(CodeClientData, "the client data is nested more than %d levels deep", MaxDepth)
	}
	if _, err := jcs.Transform(raw); err != nil { // refuses duplicate keys at any depth
		return nil, refuse(CodeClientData, "the client data cannot be read or has a key twice")
	}
	// A map, because a struct would also match names in another case.
	var members map[string]json.RawMessage
	if unread := json.Unmarshal(raw, &members); unread != nil || members == nil {
		return nil, refuse(CodeClientData, "the client data is not an object")
	}
	return members, nil
}

// Flags of authenticator data.
const (
	flagUserPresent    = 1 << 0
	flagUserVerified   = 1 << 2
	flagBackupEligible = 1 << 3
	flagBackedUp       = 1 << 4
	flagAttested       = 1 << 6
	flagExtensions     = 1 << 7
)

type authenticatorData struct {
	rpIDHash  []byte
	flags     byte
	signCount uint32
}

func (d authenticatorData) has(flag byte) bool { return d.flags&flag != 0 }

// readAuthenticatorData reads to the last byte. An assertion carries no
// attested credential data; extensions, when flagged, are one CBOR map, of texts to
// anything, that ends where the data ends.
func readAuthenticatorData(raw []byte) (authenticatorData, error) {
	const fixed = sha256.Size + 1 + 4
	if len(raw) < fixed || len(raw) > MaxAuthenticatorData {
		return authenticatorData{}, refuse(CodeAuthenticatorData, "authenticator data has %d to %d bytes", fixed, MaxAuthenticatorData)
	}
	d := authenticatorData{
		rpIDHash:  raw[:sha256.Size],
		flags:     raw[sha256.Size],
		signCount: binary.BigEndian.Uint32(raw[sha256.Size+1 : fixed]),
	}
	rest := raw[fixed:]
	if d.has(flagAttested) {
		return d, refuse(CodeAuthenticatorData, "authenticator data of an assertion has no attested credential")
	}
	if !d.has(flagExtensions) {
		if len(rest) > 0 {
			return d, refuse(CodeAuthenticatorData, "authenticator data has %d bytes too many", len(rest))
		}
		return d, nil
	}
	if _, ok := textMap(rest); !ok {
		return d, refuse(CodeAuthenticatorData, "authenticator data does not end with its extensions")
	}
	return d, nil
}

func (d authenticatorData) check(rpID string) error {
	hash := sha256.Sum256([]byte(rpID))
	switch {
	case !bytes.Equal(d.rpIDHash, hash[:]):
		return refuse(CodeRelyingParty, "the ceremony was for another relying party")
	case !d.has(flagUserPresent):
		return refuse(CodeUserPresence, "the authenticator did not ask for a touch")
	case !d.has(flagUserVerified):
		return refuse(CodeUserVerification, "the authenticator did not verify its user")
	case d.has(flagBackedUp) && !d.has(flagBackupEligible):
		return refuse(CodeBackup, "a key that may not be backed up says that it is")
	}
	return nil
}
