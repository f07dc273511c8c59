package attest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/signedapproval/bitbucket/server/attest"
)

// recordings finds the folder of the recorded data, and skips the test where there is none.
func recordings(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "testdata")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the recordings are not here")
	}
	return dir
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// key verifies the signatures of the vectors, in each of their schemes.
type key struct {
	public crypto.PublicKey
	id     string
	raw    bool // ECDSA signatures as r and s instead of DER
}

func (k key) KeyID() (string, error)   { return k.id, nil }
func (k key) Public() crypto.PublicKey { return k.public }

func (k key) Verify(_ context.Context, data, sig []byte) error {
	sum := sha256.Sum256(data)
	ok := false
	switch public := k.public.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(public, data, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(public, crypto.SHA256, sum[:], sig, nil) == nil
	case *ecdsa.PublicKey:
		if !k.raw {
			ok = ecdsa.VerifyASN1(public, sum[:], sig)
		} else if len(sig) == 64 {
			ok = ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
		}
	}
	if !ok {
		return errors.New("not a signature by this key")
	}
	return nil
}

func publicKey(t *testing.T, text []byte) crypto.PublicKey {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%q is not PEM", text)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// vector is an envelope and the key that signed it.
type vector struct {
	name     string
	envelope dsse.Envelope
	key      key
}

// envelopes are all DSSE envelopes of the recordings.
func envelopes(t *testing.T, dir string) []vector {
	t.Helper()
	var protocol struct {
		Body, PayloadType, PAE, X, Y string
		Envelope                     dsse.Envelope
	}
	if err := json.Unmarshal(read(t, dir, "secure-systems-lab__dsse", "dsse_protocol_vector.json"), &protocol); err != nil {
		t.Fatal(err)
	}
	if got := string(dsse.PAE(protocol.PayloadType, []byte(protocol.Body))); got != protocol.PAE {
		t.Errorf("PAE is %q, want %q", got, protocol.PAE)
	}
	x, okX := new(big.Int).SetString(protocol.X, 10)
	y, okY := new(big.Int).SetString(protocol.Y, 10)
	if !okX || !okY {
		t.Fatal("the protocol's vector has no key")
	}
	point := append([]byte{4}, append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)...)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	list := []vector{{"the protocol's", protocol.Envelope, key{public: public, id: "p", raw: true}}}

	var layout, link dsse.Envelope
	if err := json.Unmarshal(read(t, dir, "in-toto__in-toto-golang", "dsse-only.root.layout"), &layout); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(read(t, dir, "in-toto__in-toto-golang", "update-version-dsse.776a00e2.link"), &link); err != nil {
		t.Fatal(err)
	}
	payload, err := layout.DecodeB64Payload()
	if err != nil {
		t.Fatal(err)
	}
	var keys struct {
		Keys map[string]struct{ Keyval struct{ Public string } }
	}
	if err := json.Unmarshal(payload, &keys); err != nil {
		t.Fatal(err)
	}
	id := link.Signatures[0].KeyID
	list = append(list, vector{"a link", link, key{public: publicKey(t, []byte(keys.Keys[id].Keyval.Public)), id: id}})
	id = layout.Signatures[0].KeyID
	text := []byte(keys.Keys[id].Keyval.Public)
	if len(text) == 0 {
		text = read(t, dir, "in-toto__in-toto-golang", "alice.pub")
	}
	return append(list, vector{"a layout", layout, key{public: publicKey(t, text), id: id}})
}

func verify(e dsse.Envelope, threshold int, keys ...dsse.Verifier) error {
	v, err := dsse.NewMultiEnvelopeVerifier(threshold, keys...)
	if err == nil {
		_, err = v.Verify(context.Background(), &e)
	}
	return err
}

// TestEnvelopesOfOthers verifies every recorded envelope, and refuses it in every way in which it can be bad.
func TestEnvelopesOfOthers(t *testing.T) {
	t.Parallel()
	good, refused := 0, 0
	for _, v := range envelopes(t, recordings(t)) {
		if err := verify(v.envelope, 1, v.key); err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		good++
		payload, err := v.envelope.DecodeB64Payload()
		if err != nil {
			t.Fatal(err)
		}
		stranger, _ := newKeys(t)
		signature := v.envelope.Signatures[0]
		with := func(change func(e *dsse.Envelope)) dsse.Envelope {
			e := v.envelope
			e.Signatures = slices.Clone(e.Signatures)
			change(&e)
			return e
		}
		sig, err := base64.StdEncoding.DecodeString(signature.Sig)
		if err != nil {
			t.Fatal(err)
		}
		bad := map[string]error{
			"another key":  verify(v.envelope, 1, stranger.Verifiers()[0]),
			"another type": verify(with(func(e *dsse.Envelope) { e.PayloadType += "x" }), 1, v.key),
			"a type that takes from the payload": verify(with(func(e *dsse.Envelope) {
				e.PayloadType += " "
			}), 1, v.key),
			"a longer payload": verify(with(func(e *dsse.Envelope) {
				e.Payload = base64.StdEncoding.EncodeToString(append(slices.Clone(payload), ' '))
			}), 1, v.key),
			"no payload":       verify(with(func(e *dsse.Envelope) { e.Payload = "" }), 1, v.key),
			"no base64":        verify(with(func(e *dsse.Envelope) { e.Payload = "*" }), 1, v.key),
			"no signature":     verify(with(func(e *dsse.Envelope) { e.Signatures = nil }), 1, v.key),
			"an empty one":     verify(with(func(e *dsse.Envelope) { e.Signatures[0].Sig = "" }), 1, v.key),
			"another key's id": verify(with(func(e *dsse.Envelope) { e.Signatures[0].KeyID = "other" }), 1, v.key),
			"one of two":       verify(v.envelope, 2, v.key, stranger.Verifiers()[0]),
			"the same twice":   verify(with(func(e *dsse.Envelope) { e.Signatures = append(e.Signatures, signature) }), 2, v.key, stranger.Verifiers()[0]),
			"over the payload alone": verify(with(func(e *dsse.Envelope) {
				e.Signatures[0].Sig = base64.StdEncoding.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(make([]byte, 32)), payload))
			}), 1, key{public: ed25519.NewKeyFromSeed(make([]byte, 32)).Public(), id: v.key.id}),
		}
		for i := 0; i < len(payload); i += max(1, len(payload)/64) {
			forged := slices.Clone(payload)
			forged[i] ^= 1
			bad["payload byte "+hex.EncodeToString([]byte{byte(i >> 8), byte(i)})] = verify(with(func(e *dsse.Envelope) { e.Payload = base64.StdEncoding.EncodeToString(forged) }), 1, v.key)
		}
		for i := range sig {
			forged := slices.Clone(sig)
			forged[i] ^= 1
			bad["signature byte "+hex.EncodeToString([]byte{byte(i >> 8), byte(i)})] = verify(with(func(e *dsse.Envelope) { e.Signatures[0].Sig = base64.StdEncoding.EncodeToString(forged) }), 1, v.key)
		}
		for name, err := range bad {
			if err == nil {
				t.Errorf("%s with %s is accepted", v.name, name)
			}
			refused++
		}
		// None is one of ours: their keys sign other algorithms, and their types differ or their keys are unknown.
		raw, err := json.Marshal(v.envelope)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := attest.Open(t.Context(), raw, stranger.Verifiers()); err == nil {
			t.Errorf("%s opens as ours", v.name)
		}
	}
	t.Logf("%d envelopes verified, %d bad ones refused", good, refused)
	if good != 3 {
		t.Errorf("%d envelopes were verified, want 3", good)
	}
}

// TestSignedLinksOfOthers verifies the signed links with our reading of their public keys.
func TestSignedLinksOfOthers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(recordings(t), "secure-systems-lab__go-securesystemslib")
	ed := read(t, dir, "ed25519-test-key-pem.pub")
	ours, err := attest.ParseVerifiers(ed)
	if err != nil || len(ours) != 1 {
		t.Fatal(err)
	}
	if again, err := ours[0].PEM(); err != nil || string(bytes.TrimSpace(again)) != string(bytes.TrimSpace(ed)) {
		t.Errorf("the key is written as %q", again)
	}
	if _, err := attest.ParseVerifiers(read(t, dir, "ecdsa-test-key-pem.pub")); err == nil {
		t.Error("an ECDSA key is taken for an attestation key")
	}
	var hexed struct{ Keyval struct{ Public string } }
	if err := json.Unmarshal(read(t, dir, "ed25519-test-key.pub"), &hexed); err != nil || hexed.Keyval.Public != hex.EncodeToString(ours[0]) {
		t.Errorf("their key is %s, ours %x (%v)", hexed.Keyval.Public, ours[0], err)
	}
	good, refused := 0, 0
	for name, verifier := range map[string]dsse.Verifier{
		"test-ed25519.52e3b8e7.link": ours[0], "test-ecdsa.98adf386.link": key{public: publicKey(t, read(t, dir, "ecdsa-test-key-pem.pub"))},
	} {
		var link struct {
			Signatures []struct{ Sig string }
			Signed     map[string]any
		}
		if err := json.Unmarshal(read(t, dir, name), &link); err != nil {
			t.Fatal(err)
		}
		signed, err := cjson.EncodeCanonical(link.Signed)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := hex.DecodeString(link.Signatures[0].Sig)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(t.Context(), signed, sig); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		good++
		for i := range sig {
			forged := slices.Clone(sig)
			forged[i] ^= 1
			if verifier.Verify(t.Context(), signed, forged) == nil {
				t.Errorf("%s: byte %d of the signature does not count", name, i)
			}
			refused++
		}
		if verifier.Verify(t.Context(), []byte(strings.Replace(string(signed), "link", "lynk", 1)), sig) == nil {
			t.Errorf("%s: another document is accepted", name)
		}
		refused++
		// A signature without DSSE's encoding around it is none.
		if verifier.Verify(t.Context(), dsse.PAE(attest.PayloadType, signed), sig) == nil {
			t.Errorf("%s: it counts in an envelope", name)
		}
		refused++
	}
	t.Logf("%d links verified, %d bad ones refused", good, refused)
	if good != 2 {
		t.Errorf("%d links were verified, want 2", good)
	}
}
