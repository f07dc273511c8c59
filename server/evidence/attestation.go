package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/signedapproval/bitbucket/server/approval"
)

// Attested is what an attestation says of a key. It is worth as much as the root that
// it rests on: see [Attested.Of].
type Attested struct {
	// AAGUID names the model: a UUID in lower case.
	AAGUID string
	// CredentialID and PublicKey are the key that was made, in COSE form.
	CredentialID, PublicKey Bytes

	rpIDHash []byte
	chain    []*x509.Certificate // its first one signed
	named    bool                // whether that one names the model
}

// Limits of an attestation object.
const (
	maxAttestation  = 64 << 10 // bytes
	maxCertificates = 8        // in a chain
)

// aaguidExtension is id-fido-gen-ce-aaguid.
var aaguidExtension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}

// untestifying are the formats of WebAuthn by which no model is proved here.
var untestifying = []string{"android-key", "android-safetynet", "apple", "compound", "none", "tpm"}

// Model says of which model the authenticator of a key is: the attestation of its
// enrolment is of that very key, was made for the page of the enrol act, and rests, at
// the time of that act, on a root that the snapshot has for an acceptable model. It is
// the same for server and verifier. Every refusal is an [*Error], most with
// [CodeAttestation].
func (e Enrolment) Model(k Key, snapshot *Models) (Model, error) {
	a, at, err := e.attested(k)
	if err != nil {
		return Model{}, err
	}
	return a.Of(snapshot, at)
}

// attested reads the attestation of an enrolment, and the time at which it is judged.
func (e Enrolment) attested(k Key) (Attested, time.Time, error) {
	act, err := ParseAct(e.Act)
	if err != nil {
		return Attested{}, time.Time{}, err
	}
	a, err := CheckAttestation(e.AttestationObject, e.ClientDataJSON)
	if err != nil {
		return Attested{}, time.Time{}, err
	}
	if !bytes.Equal(a.CredentialID, k.CredentialID) || !bytes.Equal(a.PublicKey, k.PublicKey) {
		return Attested{}, time.Time{}, refuse(CodeAttestation, "the attestation is of another key")
	}
	if !bytes.Equal(a.rpIDHash, hashOf([]byte(act.RPID))) {
		return Attested{}, time.Time{}, refuse(CodeAttestation, "the attestation was made for another relying party")
	}
	return a, act.IssuedAt, nil
}

// CheckAttestation checks an attestation object as far as it can be without metadata:
// it is of the format packed or fido-u2f with certificates (WebAuthn Level 3, sections
// 8.2 and 8.6), the first of which may be one for this model and signed it. It does not
// ask who enrols the key, nor for which page; the enrolment does. Every refusal is an
// [*Error] with [CodeAttestation] or [CodeKey].
func CheckAttestation(object, clientDataJSON []byte) (Attested, error) {
	bad := func(format string, args ...any) (Attested, error) {
		return Attested{}, refuse(CodeAttestation, "the attestation "+format, args...)
	}
	var o struct {
		Format    string          `cbor:"fmt"`
		Statement cbor.RawMessage `cbor:"attStmt"`
		AuthData  cbor.ByteString `cbor:"authData"`
	}
	if len(object) > maxAttestation || strictCBOR.Unmarshal(object, &o) != nil {
		return bad("object cannot be read")
	}
	authData := []byte(o.AuthData)
	made, err := readAttested(authData)
	if err != nil {
		return Attested{}, err
	}
	if slices.Contains(untestifying, o.Format) {
		return bad("is of the format %s, by which no model is proved here", o.Format)
	}
	if o.Format != formatPacked && o.Format != formatU2F {
		return bad("is of an unknown format")
	}
	var s statementOfAttestation
	members, ok := textMap(o.Statement)
	if _, there := members["alg"]; !ok || strictCBOR.Unmarshal(o.Statement, &s) != nil || there != (o.Format == formatPacked) {
		return bad("statement cannot be read")
	}
	if len(s.Certificates) == 0 {
		return bad("has no certificate: a key that vouches for itself proves no model")
	}
	if len(s.Certificates) > maxCertificates {
		return bad("has more than %d certificates", maxCertificates)
	}
	for _, der := range s.Certificates {
		c, err := x509.ParseCertificate([]byte(der))
		if err != nil {
			return bad("has a certificate that cannot be read")
		}
		made.chain = append(made.chain, c)
	}
	leaf := made.chain[0]
	if o.Format == formatU2F && len(made.chain) > 1 {
		return bad("is of the format fido-u2f and has more than one certificate")
	}
	if o.Format == formatPacked && !packedCertificate(leaf) {
		return bad("has a certificate that is not one for attestations")
	}
	if made.named, err = namesModel(leaf, made.AAGUID); err != nil {
		return Attested{}, err
	}
	if !s.signedBy(o.Format, leaf, made, authData, hashOf(clientDataJSON)) {
		return bad("is not signed by its certificate")
	}
	if !approval.IsModel(made.AAGUID) {
		return bad("names no model")
	}
	if o.Format == formatU2F && !made.named {
		return bad("has a certificate that names no model, and signs for none")
	}
	return made, nil
}

// The formats by which a model can be proved.
const (
	formatPacked = "packed"
	formatU2F    = "fido-u2f"
)

// statementOfAttestation is attStmt of both formats.
type statementOfAttestation struct {
	Algorithm    Algorithm         `cbor:"alg"` // packed only
	Signature    cbor.ByteString   `cbor:"sig"`
	Certificates []cbor.ByteString `cbor:"x5c"`
}

// signedBy reports whether a certificate's key signed the statement.
func (s statementOfAttestation) signedBy(format string, c *x509.Certificate, made Attested, authData, clientDataHash []byte) bool {
	signature := []byte(s.Signature)
	if format == formatPacked {
		kind, ok := signatureKinds[s.Algorithm]
		return ok && c.CheckSignature(kind, slices.Concat(authData, clientDataHash), signature) == nil
	}
	// Both keys of U2F are on P-256. What is signed does not cover the AAGUID: only the
	// certificate can, which then has to name it.
	certified, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || certified.Curve != elliptic.P256() {
		return false
	}
	point, ok := u2fPoint(made.PublicKey)
	return ok && c.CheckSignature(x509.ECDSAWithSHA256, slices.Concat([]byte{0}, made.rpIDHash, clientDataHash, made.CredentialID, point), signature) == nil
}

// u2fPoint is a COSE key that was read before, as U2F writes one on P-256.
func u2fPoint(public []byte) ([]byte, bool) {
	var k coseEC2
	if strictCBOR.Unmarshal(public, &k) != nil || k.Algorithm != ES256 {
		return nil, false
	}
	return []byte("\x04" + k.X + k.Y), true
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
		after, _ = strictCBOR.UnmarshalFirst(after, &extensions) // which leaves nothing where it fails
		if _, ok := textMap(extensions); !ok {
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
		rpIDHash:     bytes.Clone(raw[:sha256.Size]),
		AAGUID:       id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:],
		CredentialID: bytes.Clone(rest[:n]), PublicKey: bytes.Clone(public),
	}, nil
}

// packedCertificate reports whether a certificate is one as WebAuthn, section
// 8.2.1, asks for.
func packedCertificate(c *x509.Certificate) bool {
	s := c.Subject
	return c.Version == 3 && c.BasicConstraintsValid && !c.IsCA && len(s.Country) == 1 && len(s.Country[0]) == 2 &&
		len(s.Organization) > 0 && s.CommonName != "" && slices.Contains(s.OrganizationalUnit, "Authenticator Attestation")
}

// namesModel reports whether a certificate names the model, and refuses one that
// names another or does so in another form than WebAuthn, section 8.2.1, gives.
func namesModel(c *x509.Certificate, aaguid string) (bool, error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(aaguidExtension) {
			continue
		}
		var value []byte
		rest, err := asn1.Unmarshal(e.Value, &value)
		if err != nil || len(rest) > 0 || e.Critical || hex.EncodeToString(value) != strings.ReplaceAll(aaguid, "-", "") {
			return false, refuse(CodeAttestation, "the attestation has a certificate of another model")
		}
		return true, nil
	}
	return false, nil
}

// Of says of which model of a snapshot the attested key is, by certificates that were
// all valid at a time: the key's enrolment, for what expires later was good then.
func (a Attested) Of(snapshot *Models, at time.Time) (Model, error) {
	bad := func(format string, args ...any) (Model, error) {
		return Model{}, refuse(CodeAttestation, "the attestation "+format, args...)
	}
	m, ok := snapshot.Model(a.AAGUID)
	if !ok {
		return bad("names a model that is not among those that are known")
	}
	if status := m.Spoiled(); status != "" {
		return bad("is of a model that proves nothing any more: %s", status)
	}
	if m.SharedRoots && !a.named {
		return bad("has a certificate that names no model, and its root stands for several")
	}
	if !m.vouches(a.chain, at) {
		return bad("does not rest on a root of its model")
	}
	return m, nil
}

// vouches reports whether a chain ends at a root of the model. A root may be the
// authenticator's own certificate, as the metadata has it for some.
func (m Model) vouches(chain []*x509.Certificate, at time.Time) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, der := range m.Roots {
		if root, err := x509.ParseCertificate(der); err == nil {
			roots.AddCert(root)
		}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}
