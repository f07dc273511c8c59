package evidence_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// maker makes authenticators and attests their keys.
type maker struct {
	t      *testing.T
	root   *x509.Certificate
	key    *ecdsa.PrivateKey
	aaguid []byte

	// leaf changes the certificate of an authenticator before it is signed.
	leaf func(c *x509.Certificate)
	// between adds a certificate authority between root and leaf.
	between bool
}

func newMaker(t *testing.T) *maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{t: t, key: key, aaguid: seed("model")[:16]}
	m.root = m.certify(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, key.Public(), key)
	return m
}

func (m *maker) certify(c, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	m.t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	c.NotAfter = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC) // long ago: no clock is read
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, key)
	if err != nil {
		m.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return made
}

func (m *maker) models() []evidence.Model {
	id := hex.EncodeToString(m.aaguid)
	return []evidence.Model{{AAGUID: id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], Roots: []evidence.Bytes{[]byte("no certificate"), m.root.Raw}}}
}

// attest makes an attestation object about bob's key.
func (m *maker) attest(clientData []byte, edit func(o, statement map[string]any)) []byte {
	m.t.Helper()
	bob := es256(m.t, "bob")
	data := append(evidence.Bytes{}, seed("rp")...)
	data = append(data, flagUP|flagUV|flagAT, 0, 0, 0, 0)
	data = append(data, m.aaguid...)
	data = append(data, 0, byte(len(bob.key.CredentialID)))
	data = append(append(data, bob.key.CredentialID...), bob.key.PublicKey...)
	attestationKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	aaguid, err := asn1.Marshal(m.aaguid)
	if err != nil {
		m.t.Fatal(err)
	}
	leaf := &x509.Certificate{
		Subject:               pkix.Name{Country: []string{"US"}, Organization: []string{"Maker"}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "Model"},
		BasicConstraintsValid: true, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: aaguid}},
	}
	if m.leaf != nil {
		m.leaf(leaf)
	}
	parent, key := m.root, m.key
	var chain [][]byte
	if m.between {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			m.t.Fatal(err)
		}
		parent = m.certify(&x509.Certificate{Subject: pkix.Name{CommonName: "Between"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, m.root, key.Public(), m.key)
		chain = [][]byte{parent.Raw}
	}
	chain = append([][]byte{m.certify(leaf, parent, attestationKey.Public(), key).Raw}, chain...)
	clientHash := sha256.Sum256(clientData)
	sum := sha256.Sum256(append(bytes.Clone(data), clientHash[:]...))
	signature, err := attestationKey.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		m.t.Fatal(err)
	}
	statement := map[string]any{"alg": -7, "sig": signature, "x5c": chain}
	o := map[string]any{"fmt": "packed", "attStmt": statement, "authData": []byte(data)}
	if edit != nil {
		edit(o, statement)
	}
	object, err := cbor.Marshal(o)
	if err != nil {
		m.t.Fatal(err)
	}
	return object
}

func TestCheckAttestation(t *testing.T) {
	t.Parallel()
	clientData := []byte(`{"type":"webauthn.create"}`)
	for _, between := range []bool{false, true} {
		m := newMaker(t)
		m.between = between
		got, err := evidence.CheckAttestation(m.attest(clientData, nil), clientData, m.models())
		bob := es256(t, "bob").key
		if err != nil || got.AAGUID != m.models()[0].AAGUID || !bytes.Equal(got.CredentialID, bob.CredentialID) || !bytes.Equal(got.PublicKey, bob.PublicKey) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	// The metadata may have the authenticator's own certificate.
	own := newMaker(t)
	object := own.attest(clientData, func(_, s map[string]any) {
		own.root = &x509.Certificate{Raw: s["x5c"].([][]byte)[0]}
	})
	if _, err := evidence.CheckAttestation(object, clientData, own.models()); err != nil {
		t.Errorf("its own certificate: %v", err)
	}
	without := newMaker(t)
	without.leaf = func(c *x509.Certificate) { c.ExtraExtensions = nil }
	if _, err := evidence.CheckAttestation(without.attest(clientData, nil), clientData, without.models()); err != nil {
		t.Errorf("without the extension: %v", err)
	}
}

// With a snapshot of the metadata the report says of which model an authenticator is.
func TestVerifyModels(t *testing.T) {
	t.Parallel()
	m, w := newMaker(t), bareWorld(t)
	w.attest = func(string) ([]byte, []byte) { // an attestation of Bob's key, whoever gives it
		clientData := []byte(`{"type":"webauthn.create"}`)
		return m.attest(clientData, nil), clientData
	}
	w.begin()
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	a := w.anchors()
	a.Models = m.models()[:1]
	a.Models[0].Roots = a.Models[0].Roots[1:]
	if _, err := evidence.ParseAnchors(anchorsText(t, a)); err != nil {
		t.Error(err)
	}
	report := evidence.Verify(w.encoded(), a)
	if report.ExitCode() != 0 {
		t.Fatal(report.Sentence())
	}
	got := map[string]evidence.Label{}
	for _, fact := range report.Facts {
		if fact.Name == "authenticator" {
			got[fact.Value] = fact.Label
		}
	}
	bob, dave := digestOfKey(t, w.tokens["bob"].key), digestOfKey(t, w.tokens["dave"].key)
	if diff := cmp.Diff(map[string]evidence.Label{
		"model " + a.Models[0].AAGUID + " for key " + string(bob): evidence.Recomputed, "no known model for key " + string(dave): evidence.Asserted,
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckAttestationRefuses(t *testing.T) {
	t.Parallel()
	clientData := []byte(`{"type":"webauthn.create"}`)
	authData := func(edit func(data []byte) []byte) func(*maker) ([]byte, []evidence.Model) {
		return func(m *maker) ([]byte, []evidence.Model) {
			return m.attest(clientData, func(o, _ map[string]any) { o["authData"] = edit(bytes.Clone(o["authData"].([]byte))) }), m.models()
		}
	}
	statement := func(edit func(s map[string]any)) func(*maker) ([]byte, []evidence.Model) {
		return func(m *maker) ([]byte, []evidence.Model) {
			return m.attest(clientData, func(_, s map[string]any) { edit(s) }), m.models()
		}
	}
	leaf := func(edit func(c *x509.Certificate)) func(*maker) ([]byte, []evidence.Model) {
		return func(m *maker) ([]byte, []evidence.Model) {
			m.leaf = edit
			return m.attest(clientData, nil), m.models()
		}
	}
	for name, test := range map[string]struct {
		make func(m *maker) ([]byte, []evidence.Model)
		says string
	}{
		"nothing":      {func(m *maker) ([]byte, []evidence.Model) { return nil, m.models() }, "cannot be read"},
		"bytes behind": {func(m *maker) ([]byte, []evidence.Model) { return append(m.attest(clientData, nil), 0), m.models() }, "cannot be read"},
		"too long":     {statement(func(s map[string]any) { s["sig"] = make([]byte, 64<<10) }), "cannot be read"},
		"none": {func(m *maker) ([]byte, []evidence.Model) {
			return m.attest(clientData, func(o, _ map[string]any) { o["fmt"], o["attStmt"] = "none", map[string]any{} }), m.models()
		}, "format packed"},
		"itself":                    {statement(func(s map[string]any) { delete(s, "x5c") }), "vouches for itself"},
		"another member":            {statement(func(s map[string]any) { s["x"] = 1 }), "vouches for itself"},
		"a long chain":              {statement(func(s map[string]any) { s["x5c"] = make([][]byte, 9) }), "vouches for itself"},
		"no certificate":            {statement(func(s map[string]any) { s["x5c"] = [][]byte{{1}} }), "certificate that cannot be read"},
		"another algorithm":         {statement(func(s map[string]any) { s["alg"] = -257 }), "not signed"},
		"an odd algorithm":          {statement(func(s map[string]any) { s["alg"] = -65535 }), "not signed"},
		"another signature":         {statement(func(s map[string]any) { s["sig"].([]byte)[9] ^= 1 }), "not signed"},
		"a counter":                 {authData(func(d []byte) []byte { d[36]++; return d }), "not signed"},
		"no attested key":           {authData(func(d []byte) []byte { d[32] &^= flagAT; return d }), "to its end"},
		"short data":                {authData(func(d []byte) []byte { return d[:54] }), "to its end"},
		"no credential id":          {authData(func(d []byte) []byte { d[54] = 0; return d }), "to its end"},
		"a long id":                 {authData(func(d []byte) []byte { d[53] = 1; return d }), "to its end"},
		"a very long id":            {authData(func(d []byte) []byte { d[53] = 4; return append(d, make([]byte, 2000)...) }), "to its end"},
		"no key":                    {authData(func(d []byte) []byte { return d[:55+16] }), "to its end"},
		"more behind":               {authData(func(d []byte) []byte { return append(d, 0) }), "to its end"},
		"no extensions":             {authData(func(d []byte) []byte { d[32] |= flagED; return d }), "to its end"},
		"another model":             {authData(func(d []byte) []byte { d[37]++; return d }), "not one for attestations of this model"},
		"a certificate authority":   {leaf(func(c *x509.Certificate) { c.IsCA = true }), "not one for attestations"},
		"no constraints":            {leaf(func(c *x509.Certificate) { c.BasicConstraintsValid = false }), "not one for attestations"},
		"another unit":              {leaf(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"Web"} }), "not one for attestations"},
		"no country":                {leaf(func(c *x509.Certificate) { c.Subject.Country = nil }), "not one for attestations"},
		"no organisation":           {leaf(func(c *x509.Certificate) { c.Subject.Organization = nil }), "not one for attestations"},
		"no name":                   {leaf(func(c *x509.Certificate) { c.Subject.CommonName = "" }), "not one for attestations"},
		"a critical extension":      {leaf(func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true }), "not one for attestations"},
		"an extension that is none": {leaf(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{5, 0} }), "not one for attestations"},
		"an unknown model":          {func(m *maker) ([]byte, []evidence.Model) { return m.attest(clientData, nil), nil }, "not known"},
		"another root": {func(m *maker) ([]byte, []evidence.Model) {
			models := m.models()
			models[0].Roots = []evidence.Bytes{newMaker(m.t).root.Raw}
			return m.attest(clientData, nil), models
		}, "does not rest on a root"},
	} {
		object, models := test.make(newMaker(t))
		if _, err := evidence.CheckAttestation(object, clientData, models); evidence.CodeOf(err) != evidence.CodeAttestation || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := newMaker(t)
	if _, err := evidence.CheckAttestation(m.attest(clientData, nil), []byte("{}"), m.models()); evidence.CodeOf(err) != evidence.CodeAttestation {
		t.Errorf("other client data: %v", err)
	}
	key := authData(func(d []byte) []byte { d[len(d)-1] ^= 1; return d })
	object, models := key(newMaker(t))
	if _, err := evidence.CheckAttestation(object, clientData, models); evidence.CodeOf(err) != evidence.CodeKey {
		t.Errorf("a key off its curve: %v", err)
	}
}

// The vectors of the WebAuthn specification: those with a certificate rest on its
// root, the others say nothing of a model.
func TestAttestationVectors(t *testing.T) {
	t.Parallel()
	folder := recordings(t, "w3c__webauthn")
	var root struct {
		Data struct {
			Certificate string `json:"attestation_ca_cert"`
		}
	}
	unhex := func(s string) []byte {
		data, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if err := json.Unmarshal(read(t, filepath.Join(folder, "attestation-root-cert.json")), &root); err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	for file, says := range map[string]string{
		"packed-es256": "", "packed-rs256": "", "packed-eddsa": "", "none-es256": "format packed", "none-es256-crossOrigin": "format packed",
		"none-es256-long-credential-id": "format packed", "fido-u2f-es256": "format packed",
	} {
		var vector struct {
			Registration struct {
				AAGUID, ClientDataJSON, AttestationObject string
			}
		}
		if err := json.Unmarshal(read(t, filepath.Join(folder, file+".json")), &vector); err != nil {
			t.Fatal(err)
		}
		v := vector.Registration
		id := v.AAGUID
		if id == "" {
			id = strings.Repeat("0", 32)
		}
		models := []evidence.Model{{AAGUID: id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], Roots: []evidence.Bytes{unhex(root.Data.Certificate)}}}
		_, err := evidence.CheckAttestation(unhex(v.AttestationObject), unhex(v.ClientDataJSON), models)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", file, err)
		}
		if says == "" {
			good++
			models[0].Roots = nil
			if _, err := evidence.CheckAttestation(unhex(v.AttestationObject), unhex(v.ClientDataJSON), models); err == nil {
				t.Errorf("%s: without its root", file)
			}
		} else {
			bad++
		}
	}
	// Recorded from real authenticators. Nothing here knows their roots; with the
	// certificate that they bring as one, they are good.
	folder = recordings(t, "passwordless-lib__fido2-net-lib")
	for _, file := range []string{"attestationResultsPacked", "attestationResultsU2F", "attestationResultsNone", "attestationResultTrustKeyT110"} {
		var v struct {
			Response struct {
				ClientDataJSON    string `json:"clientDataJSON"`
				AttestationObject string `json:"attestationObject"`
			}
		}
		if err := json.Unmarshal(read(t, filepath.Join(folder, file+".json")), &v); err != nil {
			t.Fatal(err)
		}
		unbase := func(s string) []byte {
			data, err := base64.RawURLEncoding.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		_, err := evidence.CheckAttestation(unbase(v.Response.AttestationObject), unbase(v.Response.ClientDataJSON), nil)
		if err == nil {
			t.Errorf("%s: accepted without metadata", file)
		}
		bad++
		var o struct {
			Statement struct {
				Certificates [][]byte `cbor:"x5c"`
			} `cbor:"attStmt"`
			AuthData []byte `cbor:"authData"`
		}
		if err := cbor.Unmarshal(unbase(v.Response.AttestationObject), &o); err != nil {
			t.Fatal(err)
		}
		if certificates := o.Statement.Certificates; len(certificates) > 0 {
			id := hex.EncodeToString(o.AuthData[37:53])
			models := []evidence.Model{{
				AAGUID: id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], Roots: []evidence.Bytes{certificates[len(certificates)-1]},
			}}
			_, err := evidence.CheckAttestation(unbase(v.Response.AttestationObject), unbase(v.Response.ClientDataJSON), models)
			t.Logf("%s, by its own certificate: %v", file, err)
			if err == nil {
				good++
			} else {
				bad++
			}
		}
	}
	t.Logf("%d attestations are good, %d are refused", good, bad)
}
