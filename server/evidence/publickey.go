package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"

	"filippo.io/edwards25519"
	"filippo.io/nistec"
	"github.com/fxamacker/cbor/v2"
)

// Algorithm is a COSE algorithm identifier.
type Algorithm int64

// The algorithms that are accepted; every other key is refused.
const (
	ES256 Algorithm = -7   // ECDSA on P-256 with SHA-256
	EdDSA Algorithm = -8   // Ed25519
	RS256 Algorithm = -257 // RSASSA-PKCS1-v1_5 with SHA-256, 2048 to 8192 bits
)

// Limits of a public key.
const (
	maxPublicKey = 2048 // bytes of COSE
	minRSA       = 2048 // bits
	maxRSA       = 8192 // bits, so that a check stays cheap
)

// strictCBOR refuses what two readers could read in two ways.
var strictCBOR = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxMapPairs:       64,
		MaxArrayElements:  64,
	}.DecMode()
	if err != nil {
		panic("evidence: " + err.Error())
	}
	return mode
}()

// coseHead is what all COSE keys share, and coseEC2, coseOKP and coseRSA are
// the three kinds, each with every parameter that WebAuthn allows it. Bytes are of
// the type [cbor.ByteString], for into a slice of them a list of numbers could be
// read too.
type coseHead struct {
	Kind      int64     `cbor:"1,keyasint"`
	Algorithm Algorithm `cbor:"3,keyasint"`
}

type coseEC2 struct {
	coseHead
	Curve int64           `cbor:"-1,keyasint"`
	X     cbor.ByteString `cbor:"-2,keyasint"`
	Y     cbor.ByteString `cbor:"-3,keyasint"`
}

type coseOKP struct {
	coseHead
	Curve int64           `cbor:"-1,keyasint"`
	X     cbor.ByteString `cbor:"-2,keyasint"`
}

type coseRSA struct {
	coseHead
	N cbor.ByteString `cbor:"-1,keyasint"`
	E cbor.ByteString `cbor:"-2,keyasint"`
}

// textMap reads one CBOR map whose keys are texts, each once, to its end: extensions
// of authenticator data, and attestation statements (WebAuthn Level 3, sections 6.1
// and 6.5). Of the values it makes sure only that they are well-formed.
func textMap(data []byte) (map[string]cbor.RawMessage, bool) {
	var members map[string]cbor.RawMessage
	err := strictCBOR.Unmarshal(data, &members)
	return members, err == nil && members != nil
}

// publicKey verifies signatures of one key.
type publicKey struct {
	algorithm Algorithm
	// id is the same for every encoding of the key, and for no other key.
	id string
	// size is how many bytes a signature of an RS256 key has; 0 for another key.
	size int
	rsa  *rsa.PublicKey // of an RS256 key
}

// verify reports whether the key made a signature of a message.
func (k publicKey) verify(message, signature []byte) bool {
	switch k.algorithm {
	case ES256: // most keys of a roster sign nothing in a bundle: only one that is asked is made ready
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), []byte("\x04"+k.id))
		sum := sha256.Sum256(message)
		return err == nil && ecdsa.VerifyASN1(pub, sum[:], signature) // strict DER only
	case EdDSA:
		return len(signature) == ed25519.SignatureSize && largeOrder(signature[:32]) &&
			ed25519.Verify(ed25519.PublicKey(k.id), message, signature)
	case RS256:
		if len(signature) != k.size { // crypto/rsa looks after it has made the key ready
			return false
		}
		sum := sha256.Sum256(message)
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

// CheckPublicKey returns the algorithm of a COSE public key, or an [*Error]
// with [CodeKey] for one that [VerifyAssertion] would not accept: another
// algorithm, unknown or repeated parameters, trailing bytes, a point that is
// not on its curve or generates a small group, a modulus outside 2048 to 8192
// bits.
func CheckPublicKey(cose []byte) (Algorithm, error) {
	key, err := parsePublicKey(cose)
	return key.algorithm, err
}

func parsePublicKey(cose []byte) (publicKey, error) {
	none := publicKey{}
	if len(cose) > maxPublicKey {
		return none, refuse(CodeKey, "the public key is larger than %d bytes", maxPublicKey)
	}
	if key, ok := plainES256(cose); ok {
		return key, nil
	}
	var any map[int64]cbor.RawMessage
	if err := strictCBOR.Unmarshal(cose, &any); err != nil {
		return none, refuse(CodeKey, "the public key is not a COSE key")
	}
	var algorithm Algorithm
	if err := strictCBOR.Unmarshal(any[3], &algorithm); err != nil {
		return none, refuse(CodeKey, "the public key does not name its algorithm")
	}
	key := publicKey{algorithm: algorithm}
	switch algorithm {
	case ES256:
		var k coseEC2
		if err := strictCBOR.Unmarshal(cose, &k); err != nil || k.Kind != 2 || k.Curve != 1 || len(k.X) != 32 || len(k.Y) != 32 {
			return none, refuse(CodeKey, "the public key is not a P-256 key for ES256")
		}
		if key.id = string(k.X + k.Y); !onP256(key.id) {
			return none, refuse(CodeKey, "the public key is not a point on P-256")
		}
	case EdDSA:
		var k coseOKP
		if err := strictCBOR.Unmarshal(cose, &k); err != nil || k.Kind != 1 || k.Curve != 6 || len(k.X) != ed25519.PublicKeySize {
			return none, refuse(CodeKey, "the public key is not an Ed25519 key for EdDSA")
		}
		if key.id = string(k.X); !largeOrder([]byte(key.id)) {
			return none, refuse(CodeKey, "the public key is not a point of large order on Ed25519")
		}
	case RS256:
		var k coseRSA
		if err := strictCBOR.Unmarshal(cose, &k); err != nil || k.Kind != 3 || len(k.N) == 0 || k.N[0] == 0 || len(k.E) == 0 || len(k.E) > 4 || k.E[0] == 0 {
			return none, refuse(CodeKey, "the public key is not an RSA key for RS256")
		}
		pub := &rsa.PublicKey{N: new(big.Int).SetBytes([]byte(k.N)), E: int(new(big.Int).SetBytes([]byte(k.E)).Int64())}
		if bits := pub.N.BitLen(); bits < minRSA || bits > maxRSA || pub.N.Bit(0) == 0 || pub.E < 3 || pub.E%2 == 0 || pub.E > 1<<31-1 {
			return none, refuse(CodeKey, "an RSA key has %d to %d bits and an odd exponent from 3", minRSA, maxRSA)
		}
		key.id = fmt.Sprintf("%x %x", string(k.N), string(k.E))
		key.size, key.rsa = pub.Size(), pub
	default:
		return none, refuse(CodeKey, "the public key's algorithm %d is not ES256, EdDSA or RS256", int64(algorithm))
	}
	return key, nil
}

// onP256 reports whether x and y, of 32 bytes each, are a point on P-256.
func onP256(coordinates string) bool {
	var point [1 + 64]byte
	point[0] = 4
	copy(point[1:], coordinates)
	_, err := nistec.NewP256Point().SetBytes(point[:])
	return err == nil
}

// plainES256 reads the key that nearly every authenticator gives: its parameters
// {1: 2, 3: -7, -1: 1, -2: x, -3: y} in the order and the form of CTAP2. Of a
// thousand keys in a roster that is as much faster as the decoder is general.
func plainES256(cose []byte) (publicKey, bool) {
	const head, middle, size = "\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", "\x22\x58\x20", 32
	if len(cose) != len(head)+size+len(middle)+size || string(cose[:len(head)]) != head || string(cose[len(head)+size:len(cose)-size]) != middle {
		return publicKey{}, false
	}
	id := string(cose[len(head):len(head)+size]) + string(cose[len(cose)-size:])
	return publicKey{algorithm: ES256, id: id}, onP256(id)
}

// largeOrder reports whether the encoding is the one of a point that is not of
// small order. With a public key of small order one signature can fit many
// messages; crypto/ed25519 leaves that to its caller.
func largeOrder(encoding []byte) bool {
	point, err := new(edwards25519.Point).SetBytes(encoding)
	if err != nil || !belowPrime(encoding) { // x is 0 in points of small order alone, so nothing need look at its sign
		return false
	}
	return new(edwards25519.Point).MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 0
}

// belowPrime reports whether the y coordinate of an encoded point on Ed25519 is below
// the prime 2^255 - 19.
func belowPrime(encoding []byte) bool {
	if encoding[31]&0x7f != 0x7f || encoding[0] < 0xed {
		return true
	}
	return slices.ContainsFunc(encoding[1:31], func(b byte) bool { return b != 0xff })
}
