package evidence

import "crypto/sha256"

// OtherPoint is the other P-256 key, as the coordinates of its point, under which
// a signature of a COSE key verifies.
func OtherPoint(cose, message, signature []byte) []byte {
	key, err := parsePublicKey(cose)
	if err != nil {
		return nil
	}
	other, _ := otherPoint(key.id, sha256.Sum256(message), signature)
	return []byte(other)
}

// CheckClientData is for the vectors of the WebAuthn specification, whose
// challenges are not hashes of statements.
var CheckClientData = checkClientData

// CheckAuthenticatorData reads authenticator data of an assertion and checks it
// for a relying party.
func CheckAuthenticatorData(raw []byte, rpID string) error {
	data, err := readAuthenticatorData(raw)
	if err != nil {
		return err
	}
	return data.check(rpID)
}

// VerifySignature checks a signature with a COSE key.
func VerifySignature(cose, message, signature []byte) (bool, error) {
	key, err := parsePublicKey(cose)
	if err != nil {
		return false, err
	}
	return key.verify(message, signature), nil
}

// Holds checks a proof of a leaf's hash.
func Holds(c Checkpoint, leaf [32]byte, at Inclusion) error { return c.holds(leaf, at) }

// Extends checks a proof of an earlier tree.
func Extends(c Checkpoint, earlier Consistency) error {
	if len(earlier.Root) != sha256.Size {
		return refuse(CodeLog, "a root of another size")
	}
	return c.extends(earlier)
}

// IsCanonical, Read and Write are the one form of documents.
var (
	IsCanonical = isCanonical
	Read        = read
	Write       = write
)

// PublicKeyID is what is the same for every encoding of a key.
func PublicKeyID(cose []byte) (string, error) {
	key, err := parsePublicKey(cose)
	return key.id, err
}
