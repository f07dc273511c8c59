package passkey_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
)

const origin = "https://approve.example"

var bob = passkey.User{ID: []byte("0123456789abcdef"), Name: "bob", DisplayName: "Bob"}

func ceremonies(t testing.TB) *passkey.Ceremonies {
	t.Helper()
	c, err := passkey.New("approve.example", "SignedApproval", origin)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func codeOf(err error) passkey.Code {
	var refusal *passkey.Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return ""
}

// enrol registers a new key.
func enrol(t testing.TB, c *passkey.Ceremonies, a *passkeytest.Authenticator) passkey.Registered {
	t.Helper()
	options, session, err := c.BeginRegistration(bob, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.FinishRegistration(session, answer)
	if err != nil {
		t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	return got
}

// statement returns a statement for bob to sign.
func statement(t testing.TB, nonce string) []byte {
	t.Helper()
	digest := approval.DigestOf([]byte("x"))
	commit := strings.Repeat("ab", 20)
	ref := evidence.Ref{Repository: "{0f8e7d6c-5b4a-4392-8170-6f5e4d3c2b1a}", Branch: "main", Commit: commit}
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	nonceBytes := [16]byte{}
	copy(nonceBytes[:], nonce)
	s := evidence.Statement{
		Purpose: evidence.Approve, RPID: "approve.example", Origin: origin, LogOrigin: "approve.example",
		Workspace: "{5c9f2b1e-0d3a-4b7c-8e6f-1a2b3c4d5e6f}", Request: "req-1", PullRequest: 7,
		Author:   evidence.Party{Commitment: evidence.Commitment(digest)},
		Approver: evidence.Party{Person: "per-bob", Commitment: evidence.Commitment(digest)},
		Source:   ref, Destination: ref, Diff: evidence.Diff{SHA256: digest, Size: 1},
		Policy:       evidence.PolicyRef{Digest: digest, RuleDigest: digest},
		Requirements: evidence.RequirementsOf(approval.Default().Rules[0]),
		ChainHead:    evidence.ChainHead{Chain: digest, Sequence: 1, Leaf: digest},
		Roster:       digest, LogHead: &evidence.LogHead{Size: 1, Root: digest},
		Nonce: nonceBytes[:], IssuedAt: now, ExpiresAt: now.Add(5 * time.Minute),
	}
	s.Meaning = evidence.Meaning(s)
	data, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sign(t testing.TB, c *passkey.Ceremonies, a *passkeytest.Authenticator, key passkey.Registered, statement []byte) evidence.Assertion {
	t.Helper()
	options, err := c.AssertionOptions(evidence.Challenge(statement), []passkey.Credential{{ID: key.CredentialID, Transports: key.Transports}}, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := passkey.ParseAssertion(answer)
	if err != nil {
		t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	return assertion
}

func rostered(key passkey.Registered) evidence.Key {
	return evidence.Key{Person: "per-bob", CredentialID: key.CredentialID, PublicKey: key.PublicKey, BackupEligible: key.BackupEligible}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, good := range [][2]string{
		{"approve.example", "https://approve.example"},
		{"example.org", "https://approve.example.org"},
		{"localhost", "http://localhost:8080"},
		{"approve.example", "https://approve.example:8443"},
	} {
		c, err := passkey.New(good[0], "SignedApproval", good[1])
		if err != nil {
			t.Errorf("%q: %v", good, err)
			continue
		}
		if got := c.RelyingParty(); got.ID != good[0] || got.Origin != good[1] {
			t.Errorf("%q: %+v", good, got)
		}
	}
	for _, bad := range [][3]string{
		{"approve.example", "S", "http://approve.example"},
		{"approve.example", "S", "https://approve.example/"},
		{"approve.example", "S", "https://example"},
		{"approve.example", "S", "https://evilapprove.example"},
		{"approve.example", "S", "https://APPROVE.example"},
		{"approve.example", "", "https://approve.example"},
		{"", "S", ""},
		{"127.0.0.1", "S", "http://127.0.0.1:8080"},
	} {
		if _, err := passkey.New(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	c := ceremonies(t)
	a := passkeytest.New(origin)
	a.BackupEligible, a.BackedUp = true, true
	options, session, err := c.BeginRegistration(bob, []passkey.CredentialID{{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	var asked struct {
		RP                     struct{ ID, Name string }
		User                   struct{ ID evidence.Bytes }
		Challenge              evidence.Bytes
		PubKeyCredParams       []struct{ Alg int }
		ExcludeCredentials     []struct{ ID evidence.Bytes }
		AuthenticatorSelection struct{ ResidentKey, UserVerification string }
		Attestation            string
		Timeout                int
	}
	if err := json.Unmarshal(options, &asked); err != nil {
		t.Fatal(err)
	}
	if asked.RP.ID != "approve.example" || !bytes.Equal(asked.User.ID, bob.ID) || len(asked.Challenge) < 16 ||
		asked.AuthenticatorSelection.ResidentKey != "preferred" || asked.AuthenticatorSelection.UserVerification != "required" ||
		asked.Timeout != 300000 || len(asked.ExcludeCredentials) != 1 || (asked.Attestation != "none" && asked.Attestation != "") {
		t.Errorf("options %s", options)
	}
	var algorithms []int
	for _, p := range asked.PubKeyCredParams {
		algorithms = append(algorithms, p.Alg)
	}
	if diff := cmp.Diff([]int{-7, -8, -257}, algorithms); diff != "" {
		t.Errorf("algorithms (-want +got):\n%s", diff)
	}
	answer, err := a.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.FinishRegistration(session, answer)
	if err != nil {
		t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	if got.Algorithm != evidence.ES256 || !got.BackupEligible || !got.BackupState || got.Format != "none" || len(got.AAGUID) != 16 ||
		len(got.CredentialID) == 0 || len(got.AttestationObject) == 0 || !bytes.Contains(got.ClientDataJSON, []byte("webauthn.create")) {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{"internal"}, got.Transports); diff != "" {
		t.Errorf("transports (-want +got):\n%s", diff)
	}
	again, _, err := c.BeginRegistration(bob, []passkey.CredentialID{got.CredentialID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Create(again); err == nil {
		t.Error("the authenticator made a second key in spite of the exclusion")
	}
}

// tooDeep is one level deeper than documents may be.
var tooDeep = strings.Repeat("[", evidence.MaxDepth+1) + strings.Repeat("]", evidence.MaxDepth+1)

func TestRegistrationRefuses(t *testing.T) {
	t.Parallel()
	c := ceremonies(t)
	replace := func(old, new string) func([]byte) []byte {
		return func(data []byte) []byte {
			if !bytes.Contains(data, []byte(old)) {
				panic("no " + old)
			}
			return bytes.Replace(data, []byte(old), []byte(new), 1)
		}
	}
	for _, test := range []struct {
		name    string
		device  func(a *passkeytest.Authenticator)
		answer  func(answer []byte) []byte
		session func(session []byte) []byte
		code    passkey.Code
	}{
		{name: "no verification", device: func(a *passkeytest.Authenticator) { a.NoUserVerification = true }, code: passkey.CodeVerification},
		{name: "no touch", device: func(a *passkeytest.Authenticator) { a.NoUserPresence = true }, code: passkey.CodeRegistration},
		{name: "another origin", device: func(a *passkeytest.Authenticator) { a.Origin = "https://evil.example" }, code: passkey.CodeRegistration},
		{name: "a backup of a key that has none", device: func(a *passkeytest.Authenticator) { a.BackedUp = true }, code: passkey.CodeRegistration},
		{name: "a frame", device: func(a *passkeytest.Authenticator) {
			a.RewriteClientData = replace(`}`, `,"crossOrigin":true}`)
		}, code: passkey.CodeCrossOrigin},
		{name: "a top origin", device: func(a *passkeytest.Authenticator) {
			a.RewriteClientData = replace(`}`, `,"topOrigin":"https://bitbucket.org"}`)
		}, code: passkey.CodeCrossOrigin},
		{name: "an assertion", device: func(a *passkeytest.Authenticator) {
			a.RewriteClientData = replace(`webauthn.create`, `webauthn.get`)
		}, code: passkey.CodeRegistration},
		{name: "a key twice", device: func(a *passkeytest.Authenticator) {
			a.RewriteClientData = replace(`{`, `{"type":"webauthn.create",`)
		}, code: passkey.CodeMalformed},
		{name: "no answer", answer: func([]byte) []byte { return nil }, code: passkey.CodeMalformed},
		{name: "an answer with a key twice", answer: replace(`{`, `{"type":"public-key",`), code: passkey.CodeMalformed},
		{name: "an answer too deep", answer: replace(`{`, `{"x":`+tooDeep+`,`), code: passkey.CodeMalformed},
		{name: "client data too deep", device: func(a *passkeytest.Authenticator) {
			a.RewriteClientData = replace(`}`, `,"x":`+tooDeep+`}`)
		}, code: passkey.CodeMalformed},
		{name: "another type", answer: replace(`public-key`, `password`), code: passkey.CodeMalformed},
		{name: "another id", answer: replace(`"id":"`, `"id":"AAAA`), code: passkey.CodeMalformed},
		{name: "an answer that is too large", answer: func(answer []byte) []byte {
			return append(answer, bytes.Repeat([]byte(" "), passkey.MaxRegistration)...)
		}, code: passkey.CodeTooLarge},
		{name: "no session", session: func([]byte) []byte { return nil }, code: passkey.CodeSession},
		{name: "an empty session", session: func([]byte) []byte { return []byte(`{}`) }, code: passkey.CodeSession},
		{name: "a session that does not ask for verification", session: replace(`"required"`, `"preferred"`), code: passkey.CodeSession},
		{name: "an old session", session: func(session []byte) []byte {
			var s map[string]any
			if err := json.Unmarshal(session, &s); err != nil {
				panic(err)
			}
			s["expires"] = "2020-01-01T00:00:00Z"
			data, err := json.Marshal(s)
			if err != nil {
				panic(err)
			}
			return data
		}, code: passkey.CodeSession},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := passkeytest.New(origin)
			if test.device != nil {
				test.device(a)
			}
			options, session, err := c.BeginRegistration(bob, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := a.Create(options)
			if err != nil {
				t.Fatal(err)
			}
			if test.answer != nil {
				answer = test.answer(answer)
			}
			if test.session != nil {
				session = test.session(session)
			}
			got, err := c.FinishRegistration(session, answer)
			if codeOf(err) != test.code || len(got.CredentialID) != 0 {
				t.Errorf("got %q: %v (%v)", codeOf(err), err, errors.Unwrap(err))
			}
		})
	}
}

func TestRegistrationOfAnotherChallenge(t *testing.T) {
	t.Parallel()
	c := ceremonies(t)
	first, _, err := c.BeginRegistration(bob, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, session, err := c.BeginRegistration(bob, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, second) {
		t.Fatal("two registrations have the same options")
	}
	answer, err := passkeytest.New(origin).Create(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.FinishRegistration(session, answer); codeOf(err) != passkey.CodeRegistration {
		t.Errorf("got %v", err)
	}
}

func TestSigning(t *testing.T) {
	t.Parallel()
	c := ceremonies(t)
	rapid.Check(t, func(rt *rapid.T) {
		a := passkeytest.New(origin)
		a.BackupEligible = rapid.Bool().Draw(rt, "backupEligible")
		a.BackedUp = a.BackupEligible && rapid.Bool().Draw(rt, "backedUp")
		a.Counts = rapid.Bool().Draw(rt, "counts")
		key := enrol(t, c, a)
		keys := []evidence.Key{rostered(enrol(t, c, passkeytest.New(origin))), rostered(key)}
		data := statement(t, rapid.StringN(0, 16, 16).Draw(rt, "nonce"))
		for turn := uint32(1); turn <= 2; turn++ {
			got, err := c.Verify(data, sign(t, c, a, key, data), keys)
			if err != nil {
				rt.Fatal(err)
			}
			count := uint32(0)
			if a.Counts {
				count = turn
			}
			if !bytes.Equal(got.Key.CredentialID, key.CredentialID) || got.BackupEligible != a.BackupEligible ||
				got.BackupState != a.BackedUp || got.SignCount != count {
				rt.Fatalf("got %+v", got)
			}
		}
	})
}

func TestSigningRefuses(t *testing.T) {
	t.Parallel()
	c := ceremonies(t)
	data, other := statement(t, "one"), statement(t, "two")
	for _, test := range []struct {
		name   string
		device func(a *passkeytest.Authenticator)
		shown  []byte // what the challenge is taken of
		code   evidence.Code
	}{
		{"no verification", func(a *passkeytest.Authenticator) { a.NoUserVerification = true }, data, evidence.CodeUserVerification},
		{"no touch", func(a *passkeytest.Authenticator) { a.NoUserPresence = true }, data, evidence.CodeUserPresence},
		{"another origin", func(a *passkeytest.Authenticator) { a.Origin = "https://evil.example" }, data, evidence.CodeOrigin},
		{"a frame", func(a *passkeytest.Authenticator) {
			a.RewriteClientData = func(d []byte) []byte { return bytes.Replace(d, []byte(`}`), []byte(`,"crossOrigin":true}`), 1) }
		}, data, evidence.CodeCrossOrigin},
		{"another statement", nil, other, evidence.CodeChallenge},
		{"a key that has become synced", func(a *passkeytest.Authenticator) { a.BackupEligible = true }, data, evidence.CodeBackup},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := passkeytest.New(origin)
			key := enrol(t, c, a)
			if test.device != nil {
				test.device(a)
			}
			if _, err := c.Verify(data, sign(t, c, a, key, test.shown), []evidence.Key{rostered(key)}); evidence.CodeOf(err) != test.code {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("replayed", func(t *testing.T) {
		t.Parallel()
		a := passkeytest.New(origin)
		key := enrol(t, c, a)
		assertion := sign(t, c, a, key, data)
		if _, err := c.Verify(data, assertion, []evidence.Key{rostered(key)}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Verify(other, assertion, []evidence.Key{rostered(key)}); evidence.CodeOf(err) != evidence.CodeChallenge {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a rewritten frame keeps its signature", func(t *testing.T) {
		t.Parallel()
		a := passkeytest.New(origin)
		key := enrol(t, c, a)
		a.RewriteClientData = func(d []byte) []byte { return bytes.Replace(d, []byte(`}`), []byte(`,"more":1}`), 1) }
		if _, err := c.Verify(data, sign(t, c, a, key, data), []evidence.Key{rostered(key)}); err != nil {
			t.Errorf("unknown members are refused: %v", err)
		}
	})
}

func TestAssertionOptions(t *testing.T) {
	t.Parallel()
	c := ceremonies(t)
	challenge := evidence.Challenge([]byte("x"))
	got, err := c.AssertionOptions(challenge, []passkey.Credential{{ID: []byte{0xff}, Transports: []string{"usb"}}, {ID: []byte{1}}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"challenge":"` + evidence.Bytes(challenge).String() + `","timeout":60000,"rpId":"approve.example",` +
		`"allowCredentials":[{"type":"public-key","id":"_w","transports":["usb"]},{"type":"public-key","id":"AQ"}],"userVerification":"required"}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	keys := []passkey.Credential{{ID: []byte{1}}}
	for name, try := range map[string]func() error{
		"a short challenge": func() error { _, err := c.AssertionOptions(challenge[:31], keys, time.Minute); return err },
		"nobody":            func() error { _, err := c.AssertionOptions(challenge, nil, time.Minute); return err },
		"no time":           func() error { _, err := c.AssertionOptions(challenge, keys, 0); return err },
	} {
		if try() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

const answer = `{"id":"AQID","rawId":"AQID","type":"public-key","authenticatorAttachment":"platform","response":{` +
	`"authenticatorData":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","clientDataJSON":"e30","signature":"MAA","userHandle":"Ym9i"},` +
	`"clientExtensionResults":{}}`

func TestParseAssertion(t *testing.T) {
	t.Parallel()
	got, err := passkey.ParseAssertion([]byte(answer))
	if err != nil {
		t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	want := evidence.Assertion{
		CredentialID: []byte{1, 2, 3}, AuthenticatorData: make([]byte, 37), ClientDataJSON: []byte("{}"),
		Signature: []byte{0x30, 0}, UserHandle: []byte("bob"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, data := range map[string]string{
		"a user handle of null": strings.Replace(answer, `"Ym9i"`, `null`, 1),
		"an empty user handle":  strings.Replace(answer, `"Ym9i"`, `""`, 1),
		"no user handle":        strings.Replace(answer, `,"userHandle":"Ym9i"`, ``, 1),
	} {
		if got, err := passkey.ParseAssertion([]byte(data)); err != nil || got.UserHandle != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, test := range map[string]struct {
		old, new string
		code     passkey.Code
	}{
		"another type":            {"public-key", "password", passkey.CodeMalformed},
		"a key twice":             {`{"id"`, `{"id":"AQID","id"`, passkey.CodeMalformed},
		"a signature twice":       {`"signature"`, `"signature":"MAA","signature"`, passkey.CodeMalformed},
		"id and rawId differ":     {`"id":"AQID"`, `"id":"AQIE"`, passkey.CodeMalformed},
		"padding":                 {`"MAA"`, `"MAA="`, passkey.CodeMalformed},
		"plain base64":            {`"MAA"`, `"M+A"`, passkey.CodeMalformed},
		"stray bits":              {`"MAA"`, `"MAB"`, passkey.CodeMalformed},
		"a line break":            {`"MAA"`, `"MA\nA"`, passkey.CodeMalformed},
		"no signature":            {`"MAA"`, `""`, passkey.CodeMalformed},
		"a missing signature":     {`"signature":"MAA",`, ``, passkey.CodeMalformed},
		"short data":              {`"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`, `"AAAA"`, passkey.CodeMalformed},
		"a number":                {`"MAA"`, `7`, passkey.CodeMalformed},
		"a user handle too long":  {`"Ym9i"`, `"` + strings.Repeat("AAAA", 22) + `"`, passkey.CodeMalformed},
		"client data too long":    {`"e30"`, `"` + strings.Repeat("AAAA", 6000) + `"`, passkey.CodeMalformed},
		"an answer too large":     {`{}`, `{"x":"` + strings.Repeat("x", passkey.MaxAssertion) + `"}`, passkey.CodeTooLarge},
		"an answer too deep":      {`{}`, tooDeep, passkey.CodeMalformed},
		"more after the document": {`{}}`, `{}}{}`, passkey.CodeMalformed},
	} {
		if !strings.Contains(answer, test.old) {
			t.Fatalf("%s: no %s", name, test.old)
		}
		if _, err := passkey.ParseAssertion([]byte(strings.Replace(answer, test.old, test.new, 1))); codeOf(err) != test.code {
			t.Errorf("%s: %q: %v", name, codeOf(err), err)
		}
	}
}

// TestRecordedAnswers reads answers that other authenticators and browsers gave.
func TestRecordedAnswers(t *testing.T) {
	t.Parallel()
	all := filepath.Join("..", "..", "..", "shared", "testdata")
	if _, err := os.Stat(all); os.IsNotExist(err) {
		t.Skip("the recordings are absent: ../shared/testdata")
	}
	data, err := os.ReadFile(filepath.Join(all, "passwordless-lib__fido2-net-lib", "assertionNoneResponse.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := passkey.ParseAssertion(data)
	if err != nil {
		t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	if len(got.AuthenticatorData) != 37 || got.UserHandle != nil || !json.Valid(got.ClientDataJSON) || len(got.CredentialID) != 64 {
		t.Errorf("got %+v", got)
	}
}

// FuzzParseAssertion: whatever is read is within its limits.
func FuzzParseAssertion(f *testing.F) {
	f.Add([]byte(answer))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := passkey.ParseAssertion(data)
		if err != nil {
			if codeOf(err) == "" {
				t.Fatalf("no code: %v", err)
			}
			return
		}
		if len(a.CredentialID) < 1 || len(a.CredentialID) > evidence.MaxCredentialID || len(a.Signature) > evidence.MaxSignature ||
			len(a.AuthenticatorData) < 37 || len(a.ClientDataJSON) > evidence.MaxClientData || len(a.UserHandle) > evidence.MaxUserHandle {
			t.Fatalf("outside the limits: %+v", a)
		}
	})
}
