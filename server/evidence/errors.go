package evidence

import (
	"errors"
	"fmt"
)

// Code is the stable, machine-readable name of a refusal.
type Code string

// The refusals of this package.
const (
	// Documents.
	CodeTooLarge     Code = "too_large"     // a document is over its limit
	CodeMalformed    Code = "malformed"     // not JSON, a duplicate key, an unknown field or a wrong type
	CodeNotCanonical Code = "not_canonical" // the bytes are not the document's one form
	CodeInvalid      Code = "invalid"       // a field has a value that it cannot have

	// Client data of an assertion.
	CodeClientData  Code = "client_data"  // clientDataJSON cannot be read, or has a key twice
	CodeType        Code = "wrong_type"   // not the type of an authentication ceremony
	CodeChallenge   Code = "challenge"    // the challenge is not the statement's hash
	CodeOrigin      Code = "origin"       // made on another origin
	CodeCrossOrigin Code = "cross_origin" // made inside a frame of another origin

	// Authenticator data of an assertion.
	CodeAuthenticatorData Code = "authenticator_data" // cannot be read to its last byte
	CodeRelyingParty      Code = "relying_party"      // made for another relying party
	CodeUserPresence      Code = "user_not_present"   // without a touch
	CodeUserVerification  Code = "user_not_verified"  // without PIN, biometric or the like
	CodeBackup            Code = "backup_flags"       // backup flags that contradict each other or the enrolment

	// Keys and signatures.
	CodeKey        Code = "key"           // a public key that this format does not allow
	CodeSignature  Code = "signature"     // no rostered key made this signature
	CodeAmbiguous  Code = "ambiguous_key" // more than one rostered key accepts this signature
	CodeCredential Code = "credential"    // the key that signed belongs to another credential id
	CodePerson     Code = "wrong_person"  // the key that signed belongs to somebody else
	CodeRevoked    Code = "revoked_key"   // the key that signed did not count
	CodeStolen     Code = "stolen_key"    // a verdict rests on a key that was reported as having been in other hands

	// CodeAttestation: nothing known says of which model an authenticator is.
	CodeAttestation Code = "attestation"

	// Commitments, leaves and chains.
	CodeCommitment Code = "commitment" // an opening does not open the commitment
	CodeChain      Code = "chain"      // a gap, a fork or a foreign leaf in a chain

	// The roster and the log.
	CodeRoster  Code = "roster"  // a roster that does not follow from its history, or a change that nobody signed for
	CodeLog     Code = "log"     // a proof or a checkpoint that does not hold
	CodeWitness Code = "witness" // too few cosignatures

	// The repository.
	CodeRepository Code = "repository" // git contradicts what was signed
	CodeResidue    Code = "residue"    // something landed that nobody signed
)

// Error is a refusal: a stable code and a message that is safe to show.
type Error struct {
	Code    Code
	Message string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// CodeOf returns the code of a refusal, or nothing for any other error.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func refuse(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
