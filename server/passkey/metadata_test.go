package passkey_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
)

// today is when the metadata of these tests is read; it would be replaced a month later.
var today = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

const nextUpdate = "2026-06-01"

func service(t testing.TB) *passkeytest.Metadata {
	t.Helper()
	s, err := passkeytest.NewMetadata(today)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func maker(t testing.TB, aaguid byte) *passkeytest.Maker {
	t.Helper()
	m, err := passkeytest.NewMaker([16]byte{aaguid, 15: 0xab})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func blob(t testing.TB, s *passkeytest.Metadata, entries ...map[string]any) []byte {
	t.Helper()
	data, err := s.Blob(7, nextUpdate, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// signedAs signs a good payload with any method, key and header.
func signedAs(t testing.TB, method jwt.SigningMethod, key any, header map[string]any) []byte {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims{"no": 7, "nextUpdate": nextUpdate, "entries": []any{}})
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

func TestReadMetadata(t *testing.T) {
	t.Parallel()
	s, m := service(t), maker(t, 1)
	good := blob(t, s, m.Entry("FIDO_CERTIFIED_L1"))
	last := time.Date(2026, 6, 1, 23, 59, 59, 0, time.UTC)
	for name, read := range map[string]func() (*passkey.Metadata, error){
		"good": func() (*passkey.Metadata, error) {
			return passkey.ReadMetadata(good, s.Root, passkeytest.MetadataSigner, today, false)
		},
		"for any signer": func() (*passkey.Metadata, error) { return passkey.ReadMetadata(good, s.Root, "", today, false) },
		"white space": func() (*passkey.Metadata, error) {
			return passkey.ReadMetadata(append(good, '\n'), s.Root, "", today, false)
		},
		"on its last day": func() (*passkey.Metadata, error) { return passkey.ReadMetadata(good, s.Root, "", last, false) },
		"stale, and may be": func() (*passkey.Metadata, error) {
			return passkey.ReadMetadata(good, s.Root, "", last.AddDate(3, 0, 0), true)
		},
	} {
		got, err := read()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		models, err := got.Snapshot([]string{m.Model})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := &evidence.Models{Number: 7, NextUpdate: nextUpdate, Entries: []evidence.Model{
			{AAGUID: m.Model, Description: "Example Key", Roots: []evidence.Bytes{m.Root.Raw}, Statuses: []string{"FIDO_CERTIFIED_L1"}},
		}}
		if diff := cmp.Diff(want, models); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Each BLOB is refused for one thing that is wrong with it.
func TestMetadataThatIsRefused(t *testing.T) {
	t.Parallel()
	s, other := service(t), service(t)
	good := blob(t, s)
	parts := strings.Split(string(good), ".")
	decode := func(part string) string {
		data, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	join := func(header, payload string) []byte {
		return []byte(base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + "." + parts[2])
	}
	header, payload := decode(parts[0]), decode(parts[1])
	payloadOf := func(members map[string]any) []byte {
		data, err := s.Sign(members)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	chain := passkeytest.Certificates(s.Chain...)
	with := func(x5c any) []byte { return signedAs(t, jwt.SigningMethodES256, s.Key, map[string]any{"x5c": x5c}) }
	tests := []struct {
		name, says string
		blob       []byte
		root       *x509.Certificate
		signer     string
		at         time.Time
	}{
		{name: "another payload", says: "signature is invalid", blob: join(header, strings.Replace(payload, `"no":7`, `"no":8`, 1))},
		{name: "a signature of another", says: "signature is invalid", blob: signedAs(t, jwt.SigningMethodES256, other.Key, map[string]any{"x5c": chain})},
		{name: "no signature", says: "signature is invalid", blob: []byte(parts[0] + "." + parts[1] + ".")},
		{name: "alg none", says: "signing method none is invalid", blob: signedAs(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, map[string]any{"x5c": chain})},
		{name: "alg HS256 by the public key", says: "signing method HS256 is invalid", blob: signedAs(t, jwt.SigningMethodHS256, s.Chain[0].RawSubjectPublicKeyInfo, map[string]any{"x5c": chain})},
		{name: "alg of another key", says: "key is of invalid type", blob: join(strings.Replace(header, "ES256", "RS256", 1), payload)},
		{name: "alg that nobody asks for", says: "signing method ES512 is invalid", blob: join(strings.Replace(header, "ES256", "ES512", 1), payload)},
		{name: "another root", says: "unknown authority", blob: good, root: other.Root},
		{name: "its own root", says: "unknown authority", blob: signedAs(t, jwt.SigningMethodES256, other.Key, map[string]any{"x5c": passkeytest.Certificates(append(slices.Clone(other.Chain), other.Root)...)})},
		{name: "without the authority between", says: "unknown authority", blob: with(chain[:1])},
		{name: "issued for another name", says: "not " + "attestation.example", blob: good, signer: "attestation.example"},
		{name: "certificates that are not valid yet", says: "not yet valid", blob: good, at: today.AddDate(-2, 0, 0)},
		{name: "no certificates", says: "1 to 8 certificates", blob: with([]string{})},
		{name: "nothing about certificates", says: "1 to 8 certificates", blob: signedAs(t, jwt.SigningMethodES256, s.Key, nil)},
		{name: "many certificates", says: "1 to 8 certificates", blob: with(slices.Repeat(chain, 5))},
		{name: "a certificate that is a number", says: "malformed certificate", blob: with([]any{7})},
		{name: "a certificate that is not base64", says: "not base64", blob: with([]string{"*"})},
		{name: "a certificate that is none", says: "malformed", blob: with([]string{base64.StdEncoding.EncodeToString([]byte("certificate"))})},
		{name: "stale", says: "should have been replaced by 2026-06-01", blob: good, at: time.Date(2026, 6, 2, 0, 0, 0, 0, time.UTC)},
		{name: "no date", says: "no date of the next update", blob: payloadOf(map[string]any{"no": 7, "entries": []any{}})},
		{name: "a date that is none", says: "no date of the next update", blob: payloadOf(map[string]any{"no": 7, "nextUpdate": "soon", "entries": []any{}})},
		{name: "no number", says: "no number", blob: payloadOf(map[string]any{"nextUpdate": nextUpdate, "entries": []any{}})},
		{name: "a number below one", says: "no number", blob: payloadOf(map[string]any{"no": -1, "nextUpdate": nextUpdate})},
		{name: "a number with a fraction", says: "cannot unmarshal", blob: payloadOf(map[string]any{"no": 7.5, "nextUpdate": nextUpdate})},
		{name: "a payload that is a list", says: "cannot unmarshal", blob: join(header, "[]")},
		{name: "a payload that is no JSON", says: "malformed", blob: join(header, "no")},
		{name: "a header that is no JSON", says: "malformed", blob: join("no", payload)},
		{name: "two parts", says: "malformed", blob: []byte(parts[0] + "." + parts[1])},
		{name: "nothing", says: "malformed"},
		{name: "too long", says: "more than 67108864 bytes", blob: make([]byte, passkey.MaxMetadata+1)},
	}
	for _, test := range tests {
		root, signer, at := s.Root, passkeytest.MetadataSigner, today
		if test.root != nil {
			root = test.root
		}
		if test.signer != "" {
			signer = test.signer
		}
		if !test.at.IsZero() {
			at = test.at
		}
		if _, err := passkey.ReadMetadata(test.blob, root, signer, at, false); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := passkey.ReadMetadata(good, s.Root, "", today, false); err != nil {
		t.Errorf("the control: %v", err)
	}
}

func snapshot(t testing.TB, aaguids []string, entries ...map[string]any) (*evidence.Models, error) {
	t.Helper()
	s := service(t)
	m, err := passkey.ReadMetadata(blob(t, s, entries...), s.Root, "", today, false)
	if err != nil {
		t.Fatal(err)
	}
	return m.Snapshot(aaguids)
}

// statement is the part of an entry that its maker wrote.
func statementOf(entry map[string]any) map[string]any {
	return entry["metadataStatement"].(map[string]any)
}

// Everything that was ever reported of a model is kept, whatever came after it.
func TestSnapshotKeepsWhatWasReported(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"REVOKED", "USER_VERIFICATION_BYPASS", "ATTESTATION_KEY_COMPROMISE", "USER_KEY_REMOTE_COMPROMISE", "USER_KEY_PHYSICAL_COMPROMISE"} {
		m := maker(t, 1)
		got, err := snapshot(t, []string{m.Model}, m.Entry("FIDO_CERTIFIED", status, "UPDATE_AVAILABLE", "FIDO_CERTIFIED"))
		if err != nil {
			t.Fatal(err)
		}
		if model := got.Entries[0]; model.Spoiled() != status || len(model.Statuses) != 3 || !slices.IsSorted(model.Statuses) || got.Acceptable() != nil {
			t.Errorf("%s: %+v", status, model.Statuses)
		}
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	first, second := maker(t, 1), maker(t, 2)
	// Asked for in capitals and in the wrong order, written with white space, by a maker who is wordy.
	entry := first.Entry()
	entry["aaguid"] = strings.ToUpper(first.Model)
	root := base64.StdEncoding.EncodeToString(first.Root.Raw)
	statementOf(entry)["attestationRootCertificates"] = []any{root[:40] + "\r\n " + root[40:]}
	statementOf(entry)["description"] = "Key\u202e of\n\n " + strings.Repeat("a", 300)
	got, err := snapshot(t, []string{second.Model, strings.ToUpper(first.Model)}, second.Entry("FIDO_CERTIFIED"), entry)
	if err != nil {
		t.Fatal(err)
	}
	want := []evidence.Model{
		{AAGUID: first.Model, Description: ("Key of " + strings.Repeat("a", 300))[:200], Roots: []evidence.Bytes{first.Root.Raw}, Statuses: []string{}},
		{AAGUID: second.Model, Description: "Example Key", Roots: []evidence.Bytes{second.Root.Raw}, Statuses: []string{"FIDO_CERTIFIED"}},
	}
	if diff := cmp.Diff(want, got.Entries); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	edited := func(edit func(entry map[string]any)) map[string]any {
		entry := first.Entry()
		edit(entry)
		return entry
	}
	for _, test := range []struct {
		says    string
		aaguids []string
		entry   map[string]any
	}{
		{"no model " + second.Model, []string{second.Model}, first.Entry()},
		{"no model example", []string{"example"}, first.Entry()},
		{"1 to 512 entries", nil, first.Entry()},
		{"named twice", []string{first.Model, strings.ToUpper(first.Model)}, first.Entry()},
		{"statement is about another model", []string{first.Model}, edited(func(e map[string]any) { statementOf(e)["aaguid"] = second.Model })},
		{"no certificate on which", []string{first.Model}, edited(func(e map[string]any) { statementOf(e)["attestationRootCertificates"] = []any{} })},
		{"malformed", []string{first.Model}, edited(func(e map[string]any) { statementOf(e)["attestationRootCertificates"] = []any{"AAAA"} })},
		{"description must have", []string{first.Model}, edited(func(e map[string]any) { statementOf(e)["description"] = "\n" })},
		{"statuses must be", []string{first.Model}, first.Entry("revoked")},
		{"not zeros", []string{"00000000-0000-0000-0000-000000000000"}, edited(func(e map[string]any) {
			e["aaguid"] = "00000000-0000-0000-0000-000000000000"
			statementOf(e)["aaguid"] = e["aaguid"]
		})},
	} {
		if _, err := snapshot(t, test.aaguids, test.entry); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.says, err)
		}
	}
}

// A root that stands for another model is noticed, and one whose authority does.
func TestSnapshotNoticesSharedRoots(t *testing.T) {
	t.Parallel()
	authority, other := maker(t, 1), maker(t, 2)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(parent x509.Certificate, by *ecdsa.PrivateKey) string { // a certificate authority for the other model
		c := &x509.Certificate{
			SerialNumber: big.NewInt(9), NotBefore: today, NotAfter: today.AddDate(9, 0, 0), Subject: other.Root.Subject,
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, c, &parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(der)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(8), NotBefore: today, NotAfter: today.AddDate(9, 0, 0), Subject: authority.Root.Subject,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	mine := base64.StdEncoding.EncodeToString(der)
	impostor, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		others []any
		shared bool
	}{
		"nobody else":                      {nil, false},
		"another's own":                    {[]any{base64.StdEncoding.EncodeToString(other.Root.Raw)}, false},
		"the same":                         {[]any{base64.StdEncoding.EncodeToString(other.Root.Raw), mine}, true},
		"an authority under it":            {[]any{issue(*root, key)}, true},
		"one that only names it as issuer": {[]any{issue(x509.Certificate{RawSubject: root.RawSubject, PublicKey: impostor.Public()}, impostor)}, false},
		"what is no certificate":           {[]any{"*"}, false},
	} {
		entry, second := authority.Entry(), other.Entry()
		statementOf(entry)["attestationRootCertificates"] = []any{mine}
		statementOf(second)["attestationRootCertificates"] = test.others
		got, err := snapshot(t, []string{authority.Model}, second, entry)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Entries[0].SharedRoots != test.shared {
			t.Errorf("%s: shared %t", name, got.Entries[0].SharedRoots)
		}
	}
}

// What an authenticator attests is asked for, kept, and judged by a snapshot.
func TestAnAttestedKeyIsOfItsModel(t *testing.T) {
	t.Parallel()
	m, c := maker(t, 1), ceremonies(t)
	a := passkeytest.New(origin)
	a.Maker = m
	if key := enrol(t, c, a); key.Format != "none" {
		t.Errorf("nobody asked for an attestation: %s", key.Format)
	}
	c.Attest = true
	key := enrol(t, c, a)
	if key.Format != "packed" {
		t.Fatalf("format %s", key.Format)
	}
	attested, err := evidence.CheckAttestation(key.AttestationObject, key.ClientDataJSON)
	if err != nil || !bytes.Equal(attested.PublicKey, key.PublicKey) {
		t.Fatalf("%+v, %v", attested, err)
	}
	models, err := snapshot(t, []string{m.Model}, m.Entry())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := attested.Of(models, today); err != nil || got.AAGUID != m.Model {
		t.Errorf("%+v, %v", got, err)
	}
	// A snapshot is the same after it was written and read.
	data, err := json.Marshal(models)
	if err != nil {
		t.Fatal(err)
	}
	var again evidence.Models
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(models, &again); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
