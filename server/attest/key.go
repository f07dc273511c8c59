package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

const (
	privateBlock = "PRIVATE KEY" // PKCS #8
	publicBlock  = "PUBLIC KEY"  // SubjectPublicKeyInfo
	// maxKeys is how many keys a file may hold: more than one only while they are exchanged.
	maxKeys = 8
)

// Keys sign attestations. All of them sign each, so that verifiers that know any of them go on while
// keys are exchanged.
type Keys struct {
	private []ed25519.PrivateKey
}

// NewKey makes an Ed25519 key pair, in PEM: the private key as PKCS #8, which is a secret, and the public one as
// SubjectPublicKeyInfo, which is what verifiers pin.
func NewKey() (private, public []byte, err error) {
	publicKey, privateKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(privateKey)
	if err != nil {
		return nil, nil, err
	}
	public, err = Verifier(publicKey).PEM()
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), public, err
}

// ParseKeys reads private keys as [NewKey] makes them, one after the other. No error quotes a key.
func ParseKeys(text []byte) (*Keys, error) {
	k := &Keys{}
	err := blocks(text, privateBlock, func(n int, der []byte) error {
		parsed, err := x509.ParsePKCS8PrivateKey(der)
		key, ok := parsed.(ed25519.PrivateKey)
		switch {
		case err != nil || !ok:
			return fmt.Errorf("attestation key %d is not a private key as `signedapproval attestation new-key` prints it", n)
		case slices.ContainsFunc(k.private, func(other ed25519.PrivateKey) bool { return other.Equal(key) }):
			return fmt.Errorf("attestation key %d is there twice", n)
		}
		k.private = append(k.private, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// blocks hands each PEM block of a text on, which must hold nothing else.
func blocks(text []byte, kind string, take func(n int, der []byte) error) error {
	n := 0
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		n++
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return fmt.Errorf("what is before key %d is not PEM", n)
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != kind || len(block.Headers) > 0 {
			return fmt.Errorf("key %d is not a %s in PEM", n, kind)
		}
		if n > maxKeys {
			return fmt.Errorf("there are more than %d keys", maxKeys)
		}
		if err := take(n, block.Bytes); err != nil {
			return err
		}
		rest = after
	}
	if n == 0 {
		return fmt.Errorf("there is no %s", kind)
	}
	return nil
}

// Verifiers gives the public keys.
func (k *Keys) Verifiers() []Verifier {
	list := make([]Verifier, len(k.private))
	for i, key := range k.private {
		public, _ := key.Public().(ed25519.PublicKey)
		list[i] = Verifier(public)
	}
	return list
}

// Verifier is the public half of an attestation key.
type Verifier ed25519.PublicKey

// ParseVerifiers reads public keys in PEM, one after the other.
func ParseVerifiers(text []byte) (list []Verifier, err error) {
	err = blocks(text, publicBlock, func(n int, der []byte) error {
		parsed, err := x509.ParsePKIXPublicKey(der)
		key, ok := parsed.(ed25519.PublicKey)
		if err != nil || !ok {
			return fmt.Errorf("key %d is not an Ed25519 key", n)
		}
		list = append(list, Verifier(key))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// PEM gives the key as a SubjectPublicKeyInfo in PEM.
func (v Verifier) PEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(v))
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der}), nil
}

// KeyID is the SHA-256 hash of the key's SubjectPublicKeyInfo, in hex. It is a hint and proves nothing.
func (v Verifier) KeyID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(v))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// Public is the key for crypto's verifiers.
func (v Verifier) Public() crypto.PublicKey { return ed25519.PublicKey(v) }

// Verify tells whether sig is a signature of data by the key.
func (v Verifier) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(ed25519.PublicKey(v), data, sig) {
		return errors.New("the signature is not by this key")
	}
	return nil
}

// signer is one private key, as the envelope's library wants it.
type signer struct{ private ed25519.PrivateKey }

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.private, data), nil
}

func (s signer) KeyID() (string, error) {
	public, _ := s.private.Public().(ed25519.PublicKey)
	return Verifier(public).KeyID()
}
