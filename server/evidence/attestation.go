package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Model is what a snapshot of the FIDO metadata says of one authenticator model.
type Model struct {
	// AAGUID names the model: a UUID in lower case.
	AAGUID string `json:"aaguid"`
	// Roots are the DER certificates on which its attestations rest.
	Roots []Bytes `json:"roots"`
}

// Attested is what an authenticator's maker says of a key.
type Attested struct {
	// AAGUID names the model: a UUID in lower case.
	AAGUID string
	// CredentialID and PublicKey are the key that was made, in COSE form.
	CredentialID, PublicKey Bytes
}

// Limits of an attestation object.
const (
	maxAttestation  = 64 << 10 // bytes
	maxCertificates = 8        // in a chain
)

// aaguidExtension is id-fido-gen-ce-aaguid.
var aaguidExtension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}

// CheckAttestation checks an attestation object against models that are known
// from elsewhere: it is of the format packed with a certificate chain, which ends
// at a root of the model that it names, and whose first certificate signed it. It
// does not ask who enrols the key, nor for which page; the enrolment does. No
// clock is read: the certificates have to be valid together at some time, not now.
// Every refusal is an [*Error] with [CodeAttestation] or [CodeKey].
func CheckAttestation(object, clientDataJSON []byte, models []Model) (Attested, error) {
	bad := func(what string) (Attested, error) {
		return Attested{}, refuse(CodeAttestation, "the attestation %s", what)
	}
	var o struct {
		Format    string          `cbor:"fmt"`
		Statement cbor.RawMessage `cbor:"attStmt"`
		AuthData  []byte          `cbor:"authData"`
	}
	if len(object) > maxAttestation || strictCBOR.Unmarshal(object, &o) != nil {
		return bad("object cannot be read")
	}
	made, err := readAttested(o.AuthData)
	if err != nil {
		return Attested{}, err
	}
	if o.Format != "packed" {
		return bad("is not of the format packed")
	}
	var s struct {
		Algorithm    Algorithm `cbor:"alg"`
		Signature    []byte    `cbor:"sig"`
		Certificates [][]byte  `cbor:"x5c"`
	}
	if strictCBOR.Unmarshal(o.Statement, &s) != nil || len(s.Certificates) == 0 || len(s.Certificates) > maxCertificates {
		return bad("has no certificates: a key that vouches for itself says nothing about its model")
	}
	chain := make([]*x509.Certificate, len(s.Certificates))
	for i, der := range s.Certificates {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return bad("has a certificate that cannot be read")
		}
	}
	if !packedCertificate(chain[0], made.AAGUID) {
		return bad("has a certificate that is not one for attestations of this model")
	}
	signed := slices.Concat(o.AuthData, hashOf(clientDataJSON))
	if kind, ok := signatureKinds[s.Algorithm]; !ok || chain[0].CheckSignature(kind, signed, s.Signature) != nil {
		return bad("is not signed by its certificate")
	}
	i := slices.IndexFunc(models, func(m Model) bool { return m.AAGUID == made.AAGUID })
	if i < 0 {
		return bad("names a model that is not known")
	}
	if !models[i].vouches(chain) {
		return bad("does not rest on a root of its model")
	}
	return made, nil
}

func hashOf(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}

// signatureKinds are the algorithms that a certificate can sign an attestation by.
var signatureKinds = map[Algorithm]x509.SignatureAlgorithm{
	ES256: x509.ECDSAWithSHA256, EdDSA: x509.PureEd25519, RS256: x509.SHA256WithRSA,
}

// readAttested reads authenticator data of a registration to its last byte.
func readAttested(raw []byte) (Attested, error) {
	bad := refuse(CodeAttestation, "the attestation's authenticator data cannot be read to its end")
	const fixed = sha256.Size + 1 + 4
	const head = fixed + 16 + 2
	if len(raw) < head || raw[sha256.Size]&flagAttested == 0 {
		return Attested{}, bad
	}
	id := hex.EncodeToString(raw[fixed : fixed+16])
	rest := raw[head:]
	n := int(binary.BigEndian.Uint16(raw[head-2:]))
	if n < 1 || n > MaxCredentialID || n > len(rest) {
		return Attested{}, bad
	}
	var public, extensions cbor.RawMessage
	after, err := strictCBOR.UnmarshalFirst(rest[n:], &public)
	if err != nil {
		return Attested{}, bad
	}
	if raw[sha256.Size]&flagExtensions != 0 {
		if after, err = strictCBOR.UnmarshalFirst(after, &extensions); err != nil {
			return Attested{}, bad
		}
	}
	if len(after) > 0 {
		return Attested{}, bad
	}
	if _, err := parsePublicKey(public); err != nil {
		return Attested{}, err
	}
	return Attested{
		AAGUID:       id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:],
		CredentialID: bytes.Clone(rest[:n]), PublicKey: bytes.Clone(public),
	}, nil
}

// packedCertificate reports whether a certificate is one as WebAuthn, section
// 8.2.1, asks for, and is not one of another model.
func packedCertificate(c *x509.Certificate, aaguid string) bool {
	s := c.Subject
	if c.Version != 3 || c.IsCA || !c.BasicConstraintsValid || len(s.Country) != 1 || len(s.Organization) == 0 || s.CommonName == "" ||
		!slices.Contains(s.OrganizationalUnit, "Authenticator Attestation") {
		return false
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(aaguidExtension) {
			var value []byte
			rest, err := asn1.Unmarshal(e.Value, &value)
			named := hex.EncodeToString(value)
			return err == nil && len(rest) == 0 && !e.Critical && named == string(bytes.ReplaceAll([]byte(aaguid), []byte("-"), nil))
		}
	}
	return true
}

// vouches reports whether a chain ends at a root of the model. A root may be the
// authenticator's own certificate, as the metadata has it for some.
func (m Model) vouches(chain []*x509.Certificate) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	var at time.Time // when the last of them began
	for _, c := range chain {
		if c.NotBefore.After(at) {
			at = c.NotBefore
		}
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, der := range m.Roots {
		if bytes.Equal(der, chain[0].Raw) {
			return true
		}
		if root, err := x509.ParseCertificate(der); err == nil {
			roots.AddCert(root)
		}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}
