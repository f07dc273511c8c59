package evidence_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/edwards25519"
	"github.com/fxamacker/cbor/v2"

	"github.com/signedapproval/bitbucket/server/evidence"
)

func TestVerifyAssertion(t *testing.T) {
	t.Parallel()
	data := canonical(t, statement(t, evidence.Approve))
	for name, bob := range map[string]token{"ES256": es256(t, "bob"), "EdDSA": eddsa(t, "bob"), "RS256": rs256(t, "bob")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := []evidence.Key{es256(t, "carol").key, bob.key, eddsa(t, "dave").key}
			c := ordinary(data)
			c.counter = 9
			result, err := evidence.VerifyAssertion(data, bob.assert(c), keys, rp)
			if err != nil {
				t.Fatal(err)
			}
			if result.Key.Person != "per-bob" || result.SignCount != 9 || !result.UserPresent || !result.UserVerified || result.BackupEligible || result.BackupState {
				t.Errorf("got %+v", result)
			}
			// A backed-up key, with extensions, and a browser that says more.
			synced := bob
			synced.key.BackupEligible = true
			c.flags |= flagBE | flagBS | flagED
			c.extensions = []byte{0xa1, 0x61, 'x', 0xf5}
			c.clientData = strings.Replace(c.clientData, `"crossOrigin":false`, `"other_keys_can_be_added_here":"do not compare"`, 1)
			result, err = evidence.VerifyAssertion(data, synced.assert(c), []evidence.Key{synced.key}, rp)
			if err != nil {
				t.Fatal(err)
			}
			if !result.BackupEligible || !result.BackupState {
				t.Errorf("got %+v", result)
			}
			// Any changed bit of the signed parts breaks the signature or is refused before.
			good := bob.assert(ordinary(data))
			for _, part := range []func(*evidence.Assertion) *evidence.Bytes{
				func(a *evidence.Assertion) *evidence.Bytes { return &a.AuthenticatorData },
				func(a *evidence.Assertion) *evidence.Bytes { return &a.ClientDataJSON },
				func(a *evidence.Assertion) *evidence.Bytes { return &a.Signature },
				func(a *evidence.Assertion) *evidence.Bytes { return &a.CredentialID },
			} {
				for i := range *part(&good) {
					bad := good
					*part(&bad) = bytes.Clone(*part(&good))
					(*part(&bad))[i] ^= 1
					if _, err := evidence.VerifyAssertion(data, bad, keys, rp); err == nil {
						t.Fatalf("byte %d can be changed", i)
					}
				}
			}
		})
	}
}

// extensions are n of them, each true.
func extensions(n int) []byte {
	data := []byte{0xb8, byte(n)}
	for i := range n {
		data = append(data, 0x61, byte('0'+i), 0xf5)
	}
	return data
}

// accepted are assertions that count although something about them is rare.
func accepted(t testing.TB) (list []refusal) {
	t.Helper()
	data := canonical(t, statement(t, evidence.Approve))
	add := func(name string, by token, edit func(c *ceremony), change func(a *evidence.Assertion)) {
		c := ordinary(data)
		if edit != nil {
			edit(&c)
		}
		a := by.assert(c)
		if change != nil {
			change(&a)
		}
		list = append(list, refusal{name: name, statement: data, assertion: a, keys: []evidence.Key{by.key, es256(t, "carol").key}, rp: rp})
	}
	extended := func(name string, raw []byte) {
		add(name, es256(t, "bob"), func(c *ceremony) { c.flags |= flagED; c.extensions = raw }, nil)
	}
	add("ES256", es256(t, "bob"), nil, nil)
	add("EdDSA", eddsa(t, "bob"), nil, nil)
	extended("with no extension in the map", []byte{0xa0})
	extended("with an extension that is null", []byte{0xa1, 0x61, 'x', 0xf6})
	extended("with a name in a longer form", []byte{0xa1, 0x78, 1, 'x', 0xf5})
	extended("with an extension whose map has numbers and bytes for keys", []byte{0xa1, 0x61, 'x', 0xa2, 1, 2, 0x41, 'y', 2})
	extended("with 64 extensions", extensions(64))
	extended("with an extension nested eight deep", append(append([]byte{0xa1, 0x61, 'x'}, bytes.Repeat([]byte{0x81}, 7)...), 0))
	add("with reserved flags", es256(t, "bob"), func(c *ceremony) { c.flags |= 1<<1 | 1<<5 }, nil)
	add("without a word about frames", es256(t, "bob"), func(c *ceremony) { c.clientData = strings.Replace(c.clientData, `,"crossOrigin":false`, "", 1) }, nil)
	long := es256(t, "bob")
	long.key.CredentialID = make([]byte, evidence.MaxCredentialID)
	add("with a credential id of 1023 bytes", long, nil, nil)
	add("with a user handle of 64 bytes", es256(t, "bob"), nil, func(a *evidence.Assertion) { a.UserHandle = make([]byte, evidence.MaxUserHandle) })
	add("without a user handle", es256(t, "bob"), nil, func(a *evidence.Assertion) { a.UserHandle = nil })
	add("with authenticator data of 4096 bytes", es256(t, "bob"), func(c *ceremony) {
		c.flags |= flagED
		rest := evidence.MaxAuthenticatorData - 37 - 6
		c.extensions = append([]byte{0xa1, 0x61, 'x', 0x59, byte(rest >> 8), byte(rest)}, make([]byte, rest)...)
	}, nil)
	add("with client data of 16384 bytes", es256(t, "bob"), func(c *ceremony) {
		c.clientData += strings.Repeat(" ", evidence.MaxClientData-len(c.clientData))
	}, nil)
	// A public key with a part of order eight is not of small order. Whoever made it can sign
	// with it, and where the part falls out of the equation its signature holds.
	add("EdDSA of mixed order", mixedOrder(t, func(k, r byte) bool { return k == 0 && r == 0 }), nil, nil)
	add("EdDSA of mixed order with an R of mixed order", mixedOrder(t, func(k, r byte) bool { return k != 0 && (k+r)%8 == 0 }), nil, nil)
	return list
}

func TestVerifyAssertionAccepts(t *testing.T) {
	t.Parallel()
	for _, test := range accepted(t) {
		if _, err := evidence.VerifyAssertion(test.statement, test.assertion, test.keys, test.rp); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// mixedOrder is an Ed25519 key whose point is the one of a private key plus one of order
// eight. It signs like RFC 8032, and looks for an R, to which a point of order eight may
// be added so many times, until fits likes what remains of k and R modulo eight.
func mixedOrder(t testing.TB, fits func(k, r byte) bool) token {
	t.Helper()
	torsion, err := new(edwards25519.Point).SetBytes(unhex(t, smallOrder[4]))
	if err != nil {
		t.Fatal(err)
	}
	private := scalar(t, sha512.Sum512(seed("mixed order")))
	point := new(edwards25519.Point).ScalarBaseMult(private)
	public := point.Add(point, torsion).Bytes()
	return token{
		key: evidence.Key{Person: "per-bob", CredentialID: seed("credential bob")[:16], PublicKey: cose(t, map[int]any{1: 1, 3: -8, -1: 6, -2: public})},
		sign: func(message []byte) []byte {
			for n := 0; ; n++ {
				r := scalar(t, sha512.Sum512(fmt.Append(seed("mixed nonce"), n)))
				R := new(edwards25519.Point).ScalarBaseMult(r)
				added := byte(n % 8)
				for range added {
					R.Add(R, torsion)
				}
				k := scalar(t, sha512.Sum512(slices.Concat(R.Bytes(), public, message)))
				if !fits(k.Bytes()[0]%8, added) {
					continue
				}
				return append(R.Bytes(), new(edwards25519.Scalar).MultiplyAdd(k, private, r).Bytes()...)
			}
		},
	}
}

func scalar(t testing.TB, hash [64]byte) *edwards25519.Scalar {
	t.Helper()
	s, err := new(edwards25519.Scalar).SetUniformBytes(hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// refusal is an assertion that does not count.
type refusal struct {
	name      string
	statement []byte
	assertion evidence.Assertion
	keys      []evidence.Key
	rp        evidence.RelyingParty
	code      evidence.Code
}

// refusals changes one thing at a time in an assertion that would count.
func refusals(t testing.TB) (list []refusal) {
	t.Helper()
	data := canonical(t, statement(t, evidence.Approve))
	other := canonical(t, statement(t, evidence.Reject))
	bob, carol := es256(t, "bob"), es256(t, "carol")
	clientData := func(edit func(s string) string) func(*ceremony) {
		return func(c *ceremony) { c.clientData = edit(c.clientData) }
	}
	with := func(old, new string) func(*ceremony) {
		return clientData(func(s string) string {
			if !strings.Contains(s, old) {
				panic(old)
			}
			return strings.Replace(s, old, new, 1)
		})
	}
	challenge := evidence.Bytes(evidence.Challenge(data)).String()
	for _, test := range []struct {
		name     string
		ceremony func(*ceremony)
		edit     func(*refusal)
		code     evidence.Code
	}{
		{"a statement that is not canonical", nil, func(r *refusal) { r.statement = append(bytes.Clone(data), ' ') }, evidence.CodeNotCanonical},
		{"another statement", nil, func(r *refusal) { r.statement = other }, evidence.CodeChallenge},
		{"a statement for another relying party", nil, func(r *refusal) { r.rp.ID = "example.org" }, evidence.CodeRelyingParty},
		{"a statement for another origin", nil, func(r *refusal) { r.rp.Origin = "https://www.approve.example" }, evidence.CodeRelyingParty},

		{"no client data", clientData(func(string) string { return "" }), nil, evidence.CodeClientData},
		{"client data that is a list", clientData(func(string) string { return "[]" }), nil, evidence.CodeClientData},
		{"client data that is null", clientData(func(string) string { return "null" }), nil, evidence.CodeClientData},
		{"client data with a byte order mark", clientData(func(s string) string { return "\ufeff" + s }), nil, evidence.CodeClientData},
		{"client data that is not UTF-8", with("false}", "false,\"x\":\"\xff\"}"), nil, evidence.CodeClientData},
		{"client data with more after it", clientData(func(s string) string { return s + "{}" }), nil, evidence.CodeClientData},
		{"client data without end", clientData(func(s string) string { return s + strings.Repeat(" ", evidence.MaxClientData) }), nil, evidence.CodeClientData},
		{"a key twice", with(`"type":`, `"type":"webauthn.create","type":`), nil, evidence.CodeClientData},
		{"a key twice in disguise", with(`"type":`, `"typ\u0065":"webauthn.create","type":`), nil, evidence.CodeClientData},
		{"client data too deep", with(`false}`, `false,"x":`+strings.Repeat("[", evidence.MaxDepth)+strings.Repeat("]", evidence.MaxDepth)+`}`), nil, evidence.CodeClientData},
		{"a key twice below", with(`false}`, `false,"x":{"y":1,"y":2}}`), nil, evidence.CodeClientData},
		{"a type in another case", with(`"type"`, `"Type"`), nil, evidence.CodeClientData},
		{"a type that is null", with(`"webauthn.get"`, `null`), nil, evidence.CodeClientData},
		{"a registration", with("webauthn.get", "webauthn.create"), nil, evidence.CodeType},
		{"a payment", with("webauthn.get", "payment.get"), nil, evidence.CodeType},
		{"another challenge", with(challenge, challenge[1:]), nil, evidence.CodeChallenge},
		{"a padded challenge", with(challenge, challenge+"="), nil, evidence.CodeChallenge},
		{"a challenge with stray bits", with(challenge, challenge[:42]+string(challenge[42]+1)), nil, evidence.CodeChallenge},
		{"another origin", with(rp.Origin, "https://evil.example"), nil, evidence.CodeOrigin},
		{"an origin with a slash", with(rp.Origin, rp.Origin+"/"), nil, evidence.CodeOrigin},
		{"an origin with its port", with(rp.Origin, rp.Origin+":443"), nil, evidence.CodeOrigin},
		{"an origin in another case", with(rp.Origin, "https://APPROVE.example"), nil, evidence.CodeOrigin},
		{"a subdomain", with("https://", "https://www."), nil, evidence.CodeOrigin},
		{"a frame", with("false", "true"), nil, evidence.CodeCrossOrigin},
		{"a frame that says so in text", with("false", `"true"`), nil, evidence.CodeCrossOrigin},
		{"a frame that says null", with("false", `null`), nil, evidence.CodeCrossOrigin},
		{"a top origin", with("false", `false,"topOrigin":"https://bitbucket.org"`), nil, evidence.CodeCrossOrigin},
		{"a top origin of null", with("false", `false,"topOrigin":null`), nil, evidence.CodeCrossOrigin},

		{"no authenticator data", func(c *ceremony) { c.authenticator = []byte{} }, nil, evidence.CodeAuthenticatorData},
		{"short authenticator data", func(c *ceremony) { c.authenticator = make([]byte, 36) }, nil, evidence.CodeAuthenticatorData},
		{"a byte too many", func(c *ceremony) { c.extensions = []byte{0} }, nil, evidence.CodeAuthenticatorData},
		{"too many bytes", func(c *ceremony) { c.extensions = make([]byte, evidence.MaxAuthenticatorData) }, nil, evidence.CodeAuthenticatorData},
		{"extensions without any", func(c *ceremony) { c.flags |= flagED }, nil, evidence.CodeAuthenticatorData},
		{"extensions with more after them", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xa0, 0} }, nil, evidence.CodeAuthenticatorData},
		{"extensions cut short", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xa1, 0x61, 'x'} }, nil, evidence.CodeAuthenticatorData},
		{"extensions that are a list", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0x80} }, nil, evidence.CodeAuthenticatorData},
		{"extensions that are null", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xf6} }, nil, evidence.CodeAuthenticatorData},
		{"extensions that are text", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0x61, 'x'} }, nil, evidence.CodeAuthenticatorData},
		{"extensions named by a number", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xa1, 1, 0xf5} }, nil, evidence.CodeAuthenticatorData},
		{"extensions named by bytes", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xa1, 0x41, 'x', 0xf5} }, nil, evidence.CodeAuthenticatorData},
		{"extensions with a name that is not UTF-8", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xa1, 0x61, 0xff, 0xf5} }, nil, evidence.CodeAuthenticatorData},
		{"extensions with a tag", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xa1, 0x61, 'x', 0xc0, 0x61, 'y'} }, nil, evidence.CodeAuthenticatorData},
		{"extensions without a length below", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xa1, 0x61, 'x', 0x9f, 0xff} }, nil, evidence.CodeAuthenticatorData},
		{"extensions nested nine deep", func(c *ceremony) {
			c.flags |= flagED
			c.extensions = append(append([]byte{0xa1, 0x61, 'x'}, bytes.Repeat([]byte{0x81}, 8)...), 0)
		}, nil, evidence.CodeAuthenticatorData},
		{"extensions with a long list", func(c *ceremony) {
			c.flags |= flagED
			c.extensions = append([]byte{0xa1, 0x61, 'x', 0x98, 65}, make([]byte, 65)...)
		}, nil, evidence.CodeAuthenticatorData},
		{"65 extensions", func(c *ceremony) { c.flags |= flagED; c.extensions = extensions(65) }, nil, evidence.CodeAuthenticatorData},
		{"extensions with a key twice", func(c *ceremony) {
			c.flags |= flagED
			c.extensions = []byte{0xa2, 0x61, 'x', 1, 0x61, 'x', 2}
		}, nil, evidence.CodeAuthenticatorData},
		{"extensions without a length", func(c *ceremony) { c.flags |= flagED; c.extensions = []byte{0xbf, 0xff} }, nil, evidence.CodeAuthenticatorData},
		{"an attested credential", func(c *ceremony) { c.flags |= flagAT }, nil, evidence.CodeAuthenticatorData},
		{"another relying party", func(c *ceremony) { c.rpID = "evil.example" }, nil, evidence.CodeRelyingParty},
		{"no touch", func(c *ceremony) { c.flags = flagUV }, nil, evidence.CodeUserPresence},
		{"no verification", func(c *ceremony) { c.flags = flagUP }, nil, evidence.CodeUserVerification},
		{"a backup of a key that has none", func(c *ceremony) { c.flags |= flagBS }, nil, evidence.CodeBackup},
		{"a key that has become synced", func(c *ceremony) { c.flags |= flagBE }, nil, evidence.CodeBackup},
		{"a key that was synced", nil, func(r *refusal) { r.keys[0].BackupEligible = true }, evidence.CodeBackup},

		{"no keys", nil, func(r *refusal) { r.keys = nil }, evidence.CodeSignature},
		{"somebody else's keys", nil, func(r *refusal) { r.keys = r.keys[1:] }, evidence.CodeSignature},
		{"a key of somebody else", nil, func(r *refusal) { r.keys[0].Person = "per-carol" }, evidence.CodePerson},
		{"a key of nobody", nil, func(r *refusal) { r.keys[0].Person = "" }, evidence.CodePerson},
		{"a key twice in the roster", nil, func(r *refusal) { r.keys = append(r.keys, r.keys[0]) }, evidence.CodeAmbiguous},
		{"another credential id", nil, func(r *refusal) { r.assertion.CredentialID = carol.key.CredentialID }, evidence.CodeCredential},
		{"no credential id", nil, func(r *refusal) { r.assertion.CredentialID = nil }, evidence.CodeCredential},
		{"a long credential id", nil, func(r *refusal) { r.assertion.CredentialID = make([]byte, 1024) }, evidence.CodeCredential},
		{"a broken key in the roster", nil, func(r *refusal) { r.keys[1].PublicKey = []byte{0xa0} }, evidence.CodeKey},
		{"no signature", nil, func(r *refusal) { r.assertion.Signature = nil }, evidence.CodeSignature},
		{"a long signature", nil, func(r *refusal) { r.assertion.Signature = make([]byte, 4096) }, evidence.CodeSignature},
		{"a long user handle", nil, func(r *refusal) { r.assertion.UserHandle = make([]byte, 65) }, evidence.CodeAuthenticatorData},
	} {
		c := ordinary(data)
		if test.ceremony != nil {
			test.ceremony(&c)
		}
		r := refusal{test.name, data, bob.assert(c), []evidence.Key{bob.key, carol.key}, rp, test.code}
		if test.edit != nil {
			test.edit(&r)
		}
		list = append(list, r)
	}
	return append(list, ed25519Refusals(t, data)...)
}

// ed25519Refusals are signatures that another reading of RFC 8032 accepts.
func ed25519Refusals(t testing.TB, data []byte) (list []refusal) {
	t.Helper()
	add := func(name string, by token, edit func(signature []byte) []byte) {
		a := by.assert(ordinary(data))
		if edit != nil {
			a.Signature = edit(bytes.Clone(a.Signature))
		}
		list = append(list, refusal{name, data, a, []evidence.Key{by.key}, rp, evidence.CodeSignature})
	}
	bob := eddsa(t, "bob")
	again := bob.key
	again.Person, again.CredentialID = "per-carol", seed("credential carol")[:16]
	list = append(list, refusal{"an Ed25519 key twice in the roster", data, bob.assert(ordinary(data)), []evidence.Key{bob.key, again}, rp, evidence.CodeAmbiguous})
	other := bob.assert(ordinary(data))
	other.CredentialID = eddsa(t, "carol").key.CredentialID
	list = append(list, refusal{"an Ed25519 signature under the credential id of another key", data, other, []evidence.Key{bob.key, eddsa(t, "carol").key}, rp, evidence.CodeCredential})
	add("an S beyond the order", bob, func(s []byte) []byte {
		order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
		little := bytes.Clone(s[32:])
		slices.Reverse(little)
		larger := order.Add(order, new(big.Int).SetBytes(little)).FillBytes(make([]byte, 32))
		slices.Reverse(larger)
		return append(s[:32], larger...)
	})
	add("an R of small order", bob, func(s []byte) []byte { return append(unhex(t, smallOrder[0]), s[32:]...) })
	add("an R that is not a point", bob, func(s []byte) []byte { return append(append([]byte{2}, make([]byte, 31)...), s[32:]...) })
	add("an Ed25519 signature cut short", bob, func(s []byte) []byte { return s[:63] })
	add("an Ed25519 signature with a byte behind", bob, func(s []byte) []byte { return append(s, 0) })
	// Both sides of the equation differ by a point of order eight: it holds times eight
	// (cofactored) and not as it stands.
	add("a signature that holds only times the cofactor", mixedOrder(t, func(k, r byte) bool { return k != 0 && r == 0 }), nil)
	add("a signature whose R holds only times the cofactor", mixedOrder(t, func(k, r byte) bool { return k == 0 && r != 0 }), nil)
	return list
}

func TestVerifyAssertionRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range refusals(t) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			result, err := evidence.VerifyAssertion(test.statement, test.assertion, test.keys, test.rp)
			if evidence.CodeOf(err) != test.code || err.Error() == "" {
				t.Errorf("got %q: %v", evidence.CodeOf(err), err)
			}
			if result.Key.Person != "" || result.UserVerified {
				t.Errorf("a refusal with a result: %+v", result)
			}
		})
	}
}

// TestUserHandleNeverIdentifies gives bob's user handle to carol's assertion.
func TestUserHandleNeverIdentifies(t *testing.T) {
	t.Parallel()
	data := canonical(t, statement(t, evidence.Approve))
	bob, carol := es256(t, "bob"), es256(t, "carol")
	keys := []evidence.Key{bob.key, carol.key}
	a := carol.assert(ordinary(data))
	a.UserHandle = []byte(bob.key.Person)
	if _, err := evidence.VerifyAssertion(data, a, keys, rp); evidence.CodeOf(err) != evidence.CodePerson {
		t.Errorf("carol signs as bob: %v", err)
	}
	a = bob.assert(ordinary(data))
	a.UserHandle = []byte(carol.key.Person)
	if _, err := evidence.VerifyAssertion(data, a, keys, rp); err != nil {
		t.Errorf("bob with another user handle: %v", err)
	}
}

// TestSpecificationVectors runs the vectors of the WebAuthn specification.
func TestSpecificationVectors(t *testing.T) {
	t.Parallel()
	folder := recordings(t, "w3c__webauthn")
	for _, test := range []struct {
		file                      string
		clientData, authenticator evidence.Code
	}{
		{"none-es256", "", evidence.CodeUserVerification},
		{"none-es256-crossOrigin", evidence.CodeCrossOrigin, ""},
		{"none-es256-long-credential-id", "", ""},
		{"packed-es256", "", ""},
		{"packed-eddsa", "", evidence.CodeUserVerification},
		{"packed-rs256", "", evidence.CodeUserVerification},
		{"fido-u2f-es256", "", evidence.CodeUserVerification},
	} {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			var vector struct {
				RPID         string `json:"rpId"`
				Origin       string
				Registration struct {
					AttestationObject string `json:"attestationObject"`
				}
				Authentication struct {
					Challenge, AuthenticatorData, ClientDataJSON, Signature string
				}
			}
			if err := json.Unmarshal(read(t, filepath.Join(folder, test.file+".json")), &vector); err != nil {
				t.Fatal(err)
			}
			unhex := func(s string) []byte {
				data, err := hex.DecodeString(s)
				if err != nil {
					t.Fatal(err)
				}
				return data
			}
			got := vector.Authentication
			clientData, authenticator := unhex(got.ClientDataJSON), unhex(got.AuthenticatorData)
			if err := evidence.CheckClientData(clientData, unhex(got.Challenge), vector.Origin); evidence.CodeOf(err) != test.clientData {
				t.Errorf("client data: %v", err)
			}
			// Most were made without user verification.
			if err := evidence.CheckAuthenticatorData(authenticator, vector.RPID); evidence.CodeOf(err) != test.authenticator {
				t.Errorf("authenticator data: %v, want %q", err, test.authenticator)
			}
			hash := sha256.Sum256(clientData)
			message := append(bytes.Clone(authenticator), hash[:]...)
			ok, err := evidence.VerifySignature(enrolledKey(t, unhex(vector.Registration.AttestationObject)), message, unhex(got.Signature))
			if err != nil || !ok {
				t.Errorf("signature: %t, %v", ok, err)
			}
			message[0] ^= 1
			if ok, _ := evidence.VerifySignature(enrolledKey(t, unhex(vector.Registration.AttestationObject)), message, unhex(got.Signature)); ok {
				t.Error("the signature fits another message")
			}
		})
	}
}

// enrolledKey returns the COSE key of an attestation object.
func enrolledKey(t *testing.T, object []byte) []byte {
	t.Helper()
	var attestation struct {
		AuthData []byte `cbor:"authData"`
	}
	if err := cbor.Unmarshal(object, &attestation); err != nil {
		t.Fatal(err)
	}
	rest := attestation.AuthData[37+16:]
	idLength := int(rest[0])<<8 | int(rest[1])
	var key cbor.RawMessage
	if _, err := cbor.UnmarshalFirst(rest[2+idLength:], &key); err != nil {
		t.Fatal(err)
	}
	return key
}

// TestWycheproof runs every vector for ECDSA on P-256, of which the invalid ones
// are mostly other encodings of a good signature.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	var suite struct {
		TestGroups []struct {
			PublicKey struct{ Uncompressed string }
			Tests     []struct {
				TCID             int `json:"tcId"`
				Comment          string
				Msg, Sig, Result string
			}
		}
	}
	folder := recordings(t, "C2SP__wycheproof")
	if err := json.Unmarshal(read(t, filepath.Join(folder, "ecdsa_secp256r1_sha256_test.json")), &suite); err != nil {
		t.Fatal(err)
	}
	valid, invalid, others := 0, 0, 0
	for _, group := range suite.TestGroups {
		point, err := hex.DecodeString(group.PublicKey.Uncompressed)
		if err != nil || len(point) != 65 {
			t.Fatalf("key %q: %v", group.PublicKey.Uncompressed, err)
		}
		key := cose(t, map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
		for _, test := range group.Tests {
			message, err1 := hex.DecodeString(test.Msg)
			signature, err2 := hex.DecodeString(test.Sig)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			ok, err := evidence.VerifySignature(key, message, signature)
			if err != nil || ok != (test.Result == "valid") {
				t.Errorf("%d (%s, %s): %t, %v", test.TCID, test.Comment, test.Result, ok, err)
			}
			if ok {
				// The one other key that accepts it, where there is one, is the one that is worked out.
				if other := evidence.OtherPoint(key, message, signature); len(other) == 64 {
					others++
					if twin, err := evidence.VerifySignature(cose(t, map[int]any{1: 2, 3: -7, -1: 1, -2: other[:32], -3: other[32:]}), message, signature); !twin || err != nil {
						t.Errorf("%d (%s): not the other key, %v", test.TCID, test.Comment, err)
					}
				}
				valid++
			} else {
				invalid++
			}
		}
	}
	if valid < 50 || invalid < 50 {
		t.Errorf("only %d valid and %d invalid vectors", valid, invalid)
	}
	if others < 50 {
		t.Errorf("the other key was worked out %d times", others)
	}
	t.Logf("%d signatures are good, %d are refused; %d have another key that accepts them", valid, invalid, others)
}

// TestDERIsStrict spells one signature in the ways in which lax readers
// understand it too.
func TestDERIsStrict(t *testing.T) {
	t.Parallel()
	bob := es256(t, "bob")
	// Search for a message whose r and s have the high bit clear, so that each
	// variant below differs in one thing only.
	var message, r, s []byte
	for i := 0; ; i++ {
		message = fmt.Appendf(nil, "message %d", i)
		signature := bob.sign(message)
		if len(signature) == 70 {
			r, s = signature[4:36], signature[38:70]
			break
		}
	}
	integer := func(tag byte, body ...byte) []byte { return append([]byte{tag, byte(len(body))}, body...) }
	sequence := func(parts ...[]byte) []byte {
		body := bytes.Join(parts, nil)
		return append([]byte{0x30, byte(len(body))}, body...)
	}
	order, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	beyond := func(v []byte) []byte { return new(big.Int).Add(order, new(big.Int).SetBytes(v)).Bytes() }
	R, S := integer(2, r...), integer(2, s...)
	whole := sequence(R, S)
	for _, test := range []struct {
		name      string
		signature []byte
		want      bool
	}{
		{"DER", whole, true},
		{"empty", nil, false},
		{"raw r and s", append(bytes.Clone(r), s...), false},
		{"a byte after it", append(bytes.Clone(whole), 0), false},
		{"a byte inside it", sequence(R, S, []byte{0}), false},
		{"cut short", whole[:69], false},
		{"a length in two bytes", append([]byte{0x30, 0x81, 68}, whole[2:]...), false},
		{"an integer's length in two bytes", sequence(append([]byte{2, 0x81, 32}, r...), S), false},
		{"an indefinite length", append(append([]byte{0x30, 0x80}, whole[2:]...), 0, 0), false},
		{"a zero before r", sequence(integer(2, append([]byte{0}, r...)...), S), false},
		{"a zero before s", sequence(R, integer(2, append([]byte{0}, s...)...)), false},
		{"a negative r", sequence(integer(2, append([]byte{0xff}, r...)...), S), false},
		{"a set", append([]byte{0x31}, whole[1:]...), false},
		{"another integer tag", sequence(integer(10, r...), S), false},
		{"three integers", sequence(R, S, S), false},
		{"one integer", sequence(R), false},
		{"r of zero", sequence(integer(2, 0), S), false},
		{"s of zero", sequence(R, integer(2, 0)), false},
		{"r beyond the order", sequence(integer(2, append([]byte{0}, beyond(r)[1:]...)...), S), false},
		{"s beyond the order", sequence(R, integer(2, beyond(s)...)), false},
		{"r and s exchanged", sequence(S, R), false},
	} {
		ok, err := evidence.VerifySignature(bob.key.PublicKey, message, test.signature)
		if err != nil || ok != test.want {
			t.Errorf("%s: %t, %v", test.name, ok, err)
		}
	}
}

// smallOrder are all encodings of the eight points of small order on
// edwards25519, with those that are not canonical.
var smallOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

func TestSmallOrderPoints(t *testing.T) {
	t.Parallel()
	for _, text := range smallOrder {
		point, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		key := cose(t, map[int]any{1: 1, 3: -8, -1: 6, -2: point})
		if _, err := evidence.CheckPublicKey(key); evidence.CodeOf(err) != evidence.CodeKey {
			t.Errorf("key %s: %v", text, err)
		}
	}
	// The reason: with this key and R the identity and S zero, the standard
	// library accepts the empty signature for any message.
	identity, err := hex.DecodeString(smallOrder[0])
	if err != nil {
		t.Fatal(err)
	}
	if forged := append(bytes.Clone(identity), make([]byte, 32)...); !ed25519.Verify(identity, []byte("anything"), forged) {
		t.Error("crypto/ed25519 refuses small-order keys by itself now")
	}
	dave := eddsa(t, "dave")
	signature := dave.sign([]byte("m"))
	copy(signature, identity)
	if ok, err := evidence.VerifySignature(dave.key.PublicKey, []byte("m"), signature); err != nil || ok {
		t.Errorf("R of small order: %t, %v", ok, err)
	}
}

func TestCheckPublicKey(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		token     token
		algorithm evidence.Algorithm
	}{"ES256": {es256(t, "bob"), evidence.ES256}, "EdDSA": {eddsa(t, "bob"), evidence.EdDSA}, "RS256": {rs256(t, "bob"), evidence.RS256}} {
		if got, err := evidence.CheckPublicKey(want.token.key.PublicKey); err != nil || got != want.algorithm {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	var p256, okp, rsaKey map[int]any
	for _, k := range []struct {
		into *map[int]any
		data []byte
	}{{&p256, es256(t, "bob").key.PublicKey}, {&okp, eddsa(t, "bob").key.PublicKey}, {&rsaKey, rs256(t, "bob").key.PublicKey}} {
		if err := cbor.Unmarshal(k.data, k.into); err != nil {
			t.Fatal(err)
		}
	}
	edited := func(key map[int]any, label int, value any) []byte {
		changed := map[int]any{}
		for l, v := range key {
			changed[l] = v
		}
		if changed[label] = value; value == nil {
			delete(changed, label)
		}
		return cose(t, changed)
	}
	x := p256[-2].([]byte)
	modulus := rsaKey[-1].([]byte)
	even := append(bytes.Clone(modulus[:255]), modulus[255]&^1)
	for _, test := range []struct {
		name string
		key  []byte
	}{
		{"nothing", nil},
		{"an empty map", []byte{0xa0}},
		{"not a map", []byte{0x80}},
		{"bytes after it", append(cose(t, p256), 0)},
		{"too large", append(cose(t, p256), make([]byte, 4096)...)},
		{"a label twice", append(append([]byte{0xa6}, cose(t, p256)[1:]...), 0x01, 0x02)},
		{"another label", edited(p256, 4, []any{1})},
		{"a private key", edited(p256, -4, x)},
		{"P-256 with another kind", edited(p256, 1, 1)},
		{"P-256 with another curve", edited(p256, -1, 2)},
		{"P-256 with a short x", edited(p256, -2, x[:31])},
		{"P-256 with a long x", edited(p256, -2, append([]byte{0}, x...))},
		{"P-256 off the curve", edited(p256, -2, p256[-3])},
		{"P-256 compressed", edited(p256, -3, true)},
		{"P-256 without y", edited(p256, -3, nil)},
		{"no algorithm", edited(p256, 3, nil)},
		{"ES384", edited(p256, 3, -35)},
		{"ES256K", edited(p256, 3, -47)},
		{"RS1", edited(rsaKey, 3, -65535)},
		{"PS256", edited(rsaKey, 3, -37)},
		{"Ed448", edited(okp, -1, 7)},
		{"Ed25519 with another kind", edited(okp, 1, 2)},
		{"Ed25519 with a short x", edited(okp, -2, make([]byte, 31))},
		{"Ed25519 off the curve", edited(okp, -2, append([]byte{2}, make([]byte, 31)...))},
		{"Ed25519 with a y", edited(okp, -3, x)},
		{"RSA with another kind", edited(rsaKey, 1, 2)},
		{"RSA of 1024 bits", edited(rsaKey, -1, modulus[:128])},
		{"RSA of 2047 bits", edited(rsaKey, -1, append([]byte{0x7f}, modulus[1:]...))},
		{"RSA of 16384 bits", edited(rsaKey, -1, bytes.Repeat([]byte{0xff}, 2048))},
		{"RSA with a zero before", edited(rsaKey, -1, append([]byte{0}, modulus...))},
		{"RSA with an even modulus", edited(rsaKey, -1, even)},
		{"RSA with the exponent 1", edited(rsaKey, -2, []byte{1})},
		{"RSA with an even exponent", edited(rsaKey, -2, []byte{1, 0, 0})},
		{"RSA with a zero before the exponent", edited(rsaKey, -2, []byte{0, 1, 0, 1})},
		{"RSA with a long exponent", edited(rsaKey, -2, []byte{1, 0, 0, 0, 1})},
		{"RSA without an exponent", edited(rsaKey, -2, []byte{})},
	} {
		if _, err := evidence.CheckPublicKey(test.key); evidence.CodeOf(err) != evidence.CodeKey {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestAssertionJSON checks the one spelling of an assertion.
func TestAssertionJSON(t *testing.T) {
	t.Parallel()
	a := evidence.Assertion{CredentialID: []byte{0xfb, 0xff}, Signature: []byte{}}
	data, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"credentialId":"` + base64.RawURLEncoding.EncodeToString(a.CredentialID) + `","authenticatorData":"","clientDataJSON":"","signature":""}`
	if string(data) != want {
		t.Errorf("got %s", data)
	}
}

// The key that nearly every authenticator gives is read without the decoder, and is the
// same key as in any other encoding; whatever is not quite it goes through the decoder.
func TestPlainKeysAreReadAlike(t *testing.T) {
	t.Parallel()
	plain := []byte(es256(t, "bob").key.PublicKey)
	x, y := plain[10:42], plain[45:]
	other := slices.Concat([]byte{0xa5, 0x03, 0x26, 0x01, 0x02, 0x20, 0x01, 0x21, 0x58, 0x20}, x, []byte{0x22, 0x58, 0x20}, y) // 3 before 1
	a, err := evidence.PublicKeyID(plain)
	if err != nil {
		t.Fatal(err)
	}
	b, err := evidence.PublicKeyID(other)
	if err != nil || a != b {
		t.Errorf("%v, %x, want %x", err, b, a)
	}
	for i := range plain {
		changed := bytes.Clone(plain)
		changed[i] ^= 1
		if id, err := evidence.PublicKeyID(changed); evidence.CodeOf(err) != evidence.CodeKey {
			t.Errorf("byte %d: %v, %x", i, err, id)
		}
	}
	if _, err := evidence.PublicKeyID(plain[:len(plain)-1]); evidence.CodeOf(err) != evidence.CodeKey {
		t.Error(err)
	}
	if _, err := evidence.PublicKeyID(append(bytes.Clone(plain), 0)); evidence.CodeOf(err) != evidence.CodeKey {
		t.Error(err)
	}
}
