package passkeytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Maker makes one model of authenticators, which attest their keys in the format packed
// with a certificate that names the model. It is safe for concurrent use.
type Maker struct {
	// Model is the AAGUID: a UUID in lower case.
	Model string
	// Root is the certificate on which the attestations rest.
	Root *x509.Certificate

	aaguid []byte
	leaf   []byte // DER
	key    *ecdsa.PrivateKey
}

// NewMaker returns a maker with keys of its own for a model.
func NewMaker(aaguid [16]byte) (*Maker, error) {
	id := hex.EncodeToString(aaguid[:])
	m := &Maker{Model: id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], aaguid: aaguid[:]}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("passkeytest: make a key: %w", err)
	}
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("passkeytest: make a key: %w", err)
	}
	extension, err := asn1.Marshal(m.aaguid)
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.AddDate(-10, 0, 0), NotAfter: now.AddDate(10, 0, 0),
		Subject: pkix.Name{CommonName: "Root of " + m.Model}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	if m.Root, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter, BasicConstraintsValid: true,
		Subject: pkix.Name{
			Country: []string{"US"}, Organization: []string{"Example"}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "Example Key",
		},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: extension}},
	}
	if m.leaf, err = x509.CreateCertificate(rand.Reader, leaf, m.Root, m.key.Public(), rootKey); err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	return m, nil
}

// Attest makes the attestation object of a new key: its authenticator data, into which
// the model is written, with a signature over them and the client data.
func (m *Maker) Attest(authData, clientDataJSON []byte) (object []byte, err error) {
	data := append([]byte{}, authData...)
	copy(data[sha256.Size+1+4:], m.aaguid)
	hash := sha256.Sum256(clientDataJSON)
	digest := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, m.key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("passkeytest: sign: %w", err)
	}
	return encodeObject("packed", map[string]any{"alg": -7, "sig": signature, "x5c": [][]byte{m.leaf}}, data)
}

func encodeObject(format string, statement map[string]any, authData []byte) ([]byte, error) {
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	return mode.Marshal(map[string]any{"fmt": format, "attStmt": statement, "authData": authData})
}
