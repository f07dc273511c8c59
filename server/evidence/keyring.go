package evidence

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"math/big"

	"filippo.io/nistec"
)

// keyring is the keys among which a signer is looked for, each read once.
type keyring struct {
	keys         []RosterKey
	byCredential map[string]int // index in keys; one of them where several share it
	byPublic     map[string]int // likewise by [publicKey].id
	same         map[int]int    // from a key to another one with its public key
	others       []int          // those that are not ES256
	rsa          map[int]int    // how many RS256 keys make signatures of so many bytes
}

func newKeyring(keys []Key) (*keyring, error) {
	ring := &keyring{
		keys: make([]RosterKey, len(keys)), byCredential: make(map[string]int, len(keys)),
		byPublic: make(map[string]int, len(keys)), same: map[int]int{},
	}
	for i, key := range keys {
		public, err := parsePublicKey(key.PublicKey)
		if err != nil {
			return nil, err
		}
		ring.keys[i] = RosterKey{Key: key, public: public}
		ring.byCredential[string(key.CredentialID)] = i
		if before, ok := ring.byPublic[public.id]; ok {
			ring.same[i] = before
		}
		ring.byPublic[public.id] = i
	}
	return ring.sorted(), nil
}

// sorted tells the keys of a ring apart by their algorithm.
func (ring *keyring) sorted() *keyring {
	ring.rsa = map[int]int{}
	for i := range ring.keys {
		switch public := &ring.keys[i].public; public.algorithm {
		case ES256:
		case RS256:
			ring.rsa[public.size]++
			fallthrough
		case EdDSA:
			ring.others = append(ring.others, i)
		}
	}
	return ring
}

// ring returns a keyring of all keys that ever were in the roster, in which no two
// have one public key or credential id.
func (r *Roster) ring() *keyring {
	return (&keyring{keys: r.keys, byCredential: r.byCredential, byPublic: r.byPublic}).sorted()
}

// signer returns the one key of the ring that made the signature.
func (ring *keyring) signer(a Assertion) (Key, error) {
	if len(a.CredentialID) < 1 || len(a.CredentialID) > MaxCredentialID {
		return Key{}, refuse(CodeCredential, "a credential id has 1 to %d bytes", MaxCredentialID)
	}
	if len(a.UserHandle) > MaxUserHandle {
		return Key{}, refuse(CodeAuthenticatorData, "a user handle has at most %d bytes", MaxUserHandle)
	}
	if len(a.Signature) > MaxSignature {
		return Key{}, refuse(CodeSignature, "a signature has at most %d bytes", MaxSignature)
	}
	hash := sha256.Sum256(a.ClientDataJSON)
	found := ring.accepting(a.CredentialID, append(bytes.Clone(a.AuthenticatorData), hash[:]...), a.Signature)
	switch {
	case len(found) == 0:
		return Key{}, refuse(CodeSignature, "no enrolled key made this signature")
	case len(found) > 1:
		return Key{}, refuse(CodeAmbiguous, "more than one enrolled key accepts this signature")
	}
	key := ring.keys[found[0]].Key
	if !bytes.Equal(key.CredentialID, a.CredentialID) {
		return Key{}, refuse(CodeCredential, "the key that signed is enrolled under another credential id")
	}
	return key, nil
}

// accepting returns the keys of the ring under which the signature verifies.
//
// It need not try them all: besides the P-256 key that made it, an ECDSA
// signature verifies under one other key alone, which can be worked out and
// looked up; and an Ed25519 signature under no other Ed25519 key, since the key is
// part of what is hashed and none is of small order. So a ring of a thousand keys costs
// as much as one of ten, but for RSA; see [MaxRSAWork].
func (ring *keyring) accepting(credential, message, signature []byte) (found []int) {
	if len(ring.keys) == 1 {
		if ring.keys[0].public.verify(message, signature) {
			found = []int{0}
		}
		return found
	}
	var made publicKey // the key that the credential id names, if it made the signature
	if i, ok := ring.byCredential[string(credential)]; ok && ring.keys[i].public.verify(message, signature) {
		made = ring.keys[i].public
	}
	for _, i := range ring.others {
		key := ring.keys[i].public
		if key.id == made.id || (made.algorithm != EdDSA || key.algorithm != EdDSA) && key.verify(message, signature) {
			found = append(found, i)
		}
	}
	if made.algorithm == ES256 {
		one := append(found, ring.alike(made.id)...)
		if twin, ok := otherPoint(made.id, sha256.Sum256(message), signature); ok {
			return append(one, ring.alike(twin)...)
		}
	}
	if made.id != "" && !derForm(signature) {
		return found
	}
	for i, key := range ring.keys {
		if key.public.algorithm == ES256 && ring.byPublic[key.public.id] == i && key.public.verify(message, signature) {
			found = append(found, ring.alike(key.public.id)...)
		}
	}
	return found
}

// derForm reports whether a signature can be one of ECDSA. What an Ed25519 or RSA key
// made is none, and no P-256 key has to be made ready for it.
func derForm(signature []byte) bool {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(signature, &sig)
	return err == nil && len(rest) == 0
}

// work is how much it takes at most to look for the RS256 key that made a signature, in
// the unit of [MaxRSAWork].
func (ring *keyring) work(signature []byte) int64 {
	size := len(signature)
	return int64(ring.rsa[size]) * int64(size) * int64(size)
}

// alike returns the keys of the ring that are this one.
func (ring *keyring) alike(id string) (list []int) {
	for i, ok := ring.byPublic[id]; ok; i, ok = ring.same[i] {
		list = append(list, i)
	}
	return list
}

// otherPoint returns the other P-256 key, as the coordinates of its point, under
// which a signature verifies that verifies under the key point; nothing if there
// is none. It returns false where there can be more than one.
//
// A signature (r, s) of a hash e verifies under Q = (s/r)R - (e/r)G for each
// point R whose x coordinate is r modulo the order of the group. Unless r is so
// small that r plus the order is a coordinate too, those are two points, R and
// -R, and from one key follows the other: Q' = -(Q + 2(e/r)G).
func otherPoint(point string, hash [sha256.Size]byte, signature []byte) (other string, ok bool) {
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &sig); err != nil {
		return "", false
	}
	curve := elliptic.P256().Params()
	if sig.R.Cmp(new(big.Int).Sub(curve.P, curve.N)) < 0 {
		return "", false
	}
	q, err := nistec.NewP256Point().SetBytes(append([]byte{4}, point...))
	if err != nil {
		return "", false
	}
	k := new(big.Int).ModInverse(sig.R, curve.N)
	k.Mod(k.Mul(k, new(big.Int).SetBytes(hash[:])), curve.N)
	b, err := nistec.NewP256Point().ScalarBaseMult(k.FillBytes(make([]byte, sha256.Size)))
	if err != nil {
		return "", false
	}
	q.Add(q, b.Double(b))
	if q.IsInfinity() == 1 {
		return "", true
	}
	return string(q.Negate(q).Bytes()[1:]), true
}
