package people_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// leaves reads the leaves of keys.
func (w *world) leaves() (bodies []evidence.Body) {
	w.t.Helper()
	for _, entry := range w.texts(`select convert_from(entry, 'UTF8') from signedapproval_leaves where workspace_id = $1 order by index`, people.NoWorkspace) {
		leaf := get(evidence.ParseLeaf([]byte(entry)))(w.t)
		bodies = append(bodies, leaf.Body)
	}
	return bodies
}

func TestPasskeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	_, bob := w.signedIn("bob")

	waiting, authenticator, act := w.made(alice, "")
	if !strings.HasPrefix(waiting.Name, "Passkey of 20") || waiting.PersonID != alice.Person.ID || !waiting.Waiting() ||
		len(waiting.AttestationObject) == 0 || !json.Valid(waiting.ClientData) {
		t.Errorf("key %+v", waiting)
	}
	if leaves := w.leaves(); len(leaves) != 0 {
		t.Errorf("a key that waits is in the log: %+v", leaves)
	}
	first, next, err := w.signs(alice, authenticator, act)
	must(t, err)
	if next != nil || !first.Enrolled() || *first.IdentifiedBy != store.ByLogIn {
		t.Errorf("key %+v, then %+v", first, next)
	}

	t.Run("the enrolment is in the log", func(t *testing.T) {
		leaf, ok := w.leaves()[0].(evidence.KeyEnrolled)
		key := evidence.Key{Person: alice.Person.ID, CredentialID: first.ID, PublicKey: first.PublicKey, BackupEligible: first.BackupEligible}
		var enrolment evidence.Enrolment
		must(t, json.Unmarshal(first.Enrolment, &enrolment))
		if !ok || leaf.Person != alice.Person.ID || leaf.Key != get(key.Digest())(t) || leaf.IdentifiedBy != "bitbucket-login" || leaf.Enrolment != get(enrolment.Digest())(t) {
			t.Errorf("leaf %+v", leaf)
		}
		signed := get(evidence.ParseAct(enrolment.Act))(t)
		if signed.Purpose != evidence.Enrol || signed.Signer.Person != alice.Person.ID || !signed.Key.Key.Equal(key) {
			t.Errorf("act %+v", signed)
		}
		var opening evidence.PersonOpening
		must(t, json.Unmarshal(first.EnrolmentOpening, &opening))
		must(t, opening.Verify(signed.Signer.Commitment))
		get(evidence.VerifyAct(enrolment.Act, enrolment.Possession, []evidence.Key{key}, evidence.RelyingParty{ID: "approvals.example", Origin: origin}))(t)
	})
	t.Run("the name given at the end wins over the one at the start", func(t *testing.T) {
		for _, names := range [][3]string{{"Start", "", "Start"}, {"Start", "End", "End"}, {"", " Trimmed ", "Trimmed"}} {
			key := passkeytest.New(origin)
			options := get(w.BeginPasskey(t.Context(), *alice.Person, alice.Hash, names[0]))(t)
			response := get(key.Create([]byte(options)))(t)
			got, _, err := w.FinishPasskey(t.Context(), *alice.Person, alice.Hash, names[1], string(response))
			must(t, err)
			if got.Name != names[2] {
				t.Errorf("%v: %q", names, got.Name)
			}
		}
	})
	t.Run("an authenticator that is known is told so", func(t *testing.T) {
		options := get(w.BeginPasskey(t.Context(), *alice.Person, alice.Hash, ""))(t)
		if _, err := authenticator.Create([]byte(options)); err == nil {
			t.Error("it made another key")
		}
	})
	t.Run("renaming", func(t *testing.T) {
		if got := get(w.RenamePasskey(t.Context(), *alice.Person, first.ID, "Yubi Käy 🔑"))(t); got.Name != "Yubi Käy 🔑" {
			t.Errorf("name %q", got.Name)
		}
		for _, name := range []string{"", "  ", strings.Repeat("ä", 65), "a\nb", "a\u202eb", "\xff"} {
			_, err := w.RenamePasskey(t.Context(), *alice.Person, first.ID, name)
			refused(t, err, refusal.BadInput)
		}
	})
	t.Run("another person's key does not exist", func(t *testing.T) {
		_, err := w.Passkey(t.Context(), *bob.Person, first.ID)
		refused(t, err, refusal.NotFound)
		_, err = w.RenamePasskey(t.Context(), *bob.Person, first.ID, "x")
		refused(t, err, refusal.NotFound)
		_, err = w.RevokePasskey(t.Context(), *bob.Person, first.ID)
		refused(t, err, refusal.NotFound)
		_, err = w.RevokePasskey(t.Context(), *bob.Person, nil)
		refused(t, err, refusal.NotFound)
		if keys := get(w.Passkeys(t.Context(), *bob.Person))(t).Credentials; len(keys) != 0 {
			t.Errorf("listed %+v", keys)
		}
	})
	t.Run("revoking ends it once", func(t *testing.T) {
		before := len(w.leaves())
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if key, err := w.RevokePasskey(t.Context(), *alice.Person, first.ID); err != nil || key.RevokedAt == nil {
					t.Errorf("%+v, %v", key, err)
				}
			})
		}
		group.Wait()
		leaves := w.leaves()[before:]
		if len(leaves) != 1 || leaves[0].Type() != evidence.TypeKeyRevoked {
			t.Errorf("leaves %+v", leaves)
		}
		err := w.store.Outside(t.Context(), func(sh *store.Shared) error { return sh.UseCredential(t.Context(), first.ID, 1, false) })
		if err == nil {
			t.Error("it can still be used")
		}
		keys := get(w.Passkeys(t.Context(), *alice.Person))(t).Credentials
		if len(keys) != 4 || !bytes.Equal(keys[3].ID, first.ID) {
			t.Errorf("%d keys", len(keys))
		}
	})
}

// TestTwoTabsEnrol: somebody makes a first key in two tabs, and both keys sign at once. Only one of them rests on the log-in, and the other
// one goes on with what that one signs.
func TestTwoTabsEnrol(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	type tab struct {
		key  store.Credential
		next *people.KeyAct
		err  error
	}
	const tabs = 4
	ended := make(chan tab, tabs)
	start := make(chan struct{})
	for range tabs {
		_, authenticator, act := w.made(alice, "")
		go func() {
			<-start
			var it tab
			it.key, it.next, it.err = w.signs(alice, authenticator, act)
			ended <- it
		}()
	}
	close(start)
	enrolled := 0
	for range tabs {
		tab := <-ended
		switch {
		case tab.err != nil:
			t.Error(tab.err)
		case tab.key.Enrolled():
			enrolled++
		case tab.next == nil || tab.next.Step != people.StepAuthority:
			t.Errorf("key %+v, then %+v", tab.key, tab.next)
		}
	}
	if leaves := w.leaves(); enrolled != 1 || len(leaves) != 1 {
		t.Errorf("%d keys enrolled, in the log %+v", enrolled, leaves)
	}
}

func TestWrongEnrolments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cookie, alice := w.signedIn("alice")
	_, bob := w.signedIn("bob")
	begin := func(t *testing.T) (string, *passkeytest.Authenticator) {
		t.Helper()
		// Those that wait have their limit.
		w.sql(`update signedapproval_credentials set revoked_at = now() where enrolled_at is null and revoked_at is null`)
		return get(w.BeginPasskey(t.Context(), *alice.Person, alice.Hash, ""))(t), passkeytest.New(origin)
	}
	finish := func(session people.Session, response []byte) error {
		_, _, err := w.FinishPasskey(t.Context(), *session.Person, session.Hash, "", string(response))
		w.sql(`delete from signedapproval_challenges where kind = 'KEY'`) // it is not to be confirmed
		return err
	}
	t.Run("the answer twice", func(t *testing.T) {
		options, key := begin(t)
		response := get(key.Create([]byte(options)))(t)
		must(t, finish(alice, response))
		refused(t, finish(alice, response), people.CodeChallenge)
	})
	t.Run("six minutes later", func(t *testing.T) {
		options, key := begin(t)
		response := get(key.Create([]byte(options)))(t)
		w.sql(`update signedapproval_challenges set expires_at = expires_at - interval '6 minutes'`)
		refused(t, finish(alice, response), people.CodeChallenge)
	})
	t.Run("another person's, and another session's, stay theirs", func(t *testing.T) {
		options, key := begin(t)
		response := get(key.Create([]byte(options)))(t)
		refused(t, finish(bob, response), people.CodeChallenge)
		_, other := w.signedIn("alice")
		refused(t, finish(other, response), people.CodeChallenge)
		must(t, finish(alice, response))
	})
	t.Run("a challenge for deciding", func(t *testing.T) {
		options, key := begin(t)
		response := get(key.Create([]byte(options)))(t)
		w.sql(`update signedapproval_challenges set kind = 'DECIDE'`)
		refused(t, finish(alice, response), people.CodeChallenge)
	})
	t.Run("on another page", func(t *testing.T) {
		options, _ := begin(t)
		response := get(passkeytest.New("https://evil.example").Create([]byte(options)))(t)
		refused(t, finish(alice, response), people.CodePasskeyRefused)
	})
	t.Run("without verifying the person", func(t *testing.T) {
		options, key := begin(t)
		key.NoUserVerification = true
		response := get(key.Create([]byte(options)))(t)
		refused(t, finish(alice, response), people.CodePasskeyRefused)
	})
	t.Run("a refused answer has used the challenge up", func(t *testing.T) {
		options, key := begin(t)
		key.NoUserVerification = true
		bad := get(key.Create([]byte(options)))(t)
		refused(t, finish(alice, bad), people.CodePasskeyRefused)
		good := get(passkeytest.New(origin).Create([]byte(options)))(t)
		refused(t, finish(alice, good), people.CodeChallenge)
	})
	t.Run("somebody else's key", func(t *testing.T) {
		options, key := begin(t)
		response := get(key.Create([]byte(options)))(t)
		must(t, finish(alice, response))
		// The same answer to a challenge of Bob's: he would have her key.
		w.sql(`insert into signedapproval_challenges (challenge, kind, person_id, session_hash, data, expires_at)
			select decode(translate(rpad($1, 44, '='), '-_', '+/'), 'base64'), 'REGISTER', $2, $3, $4, now() + interval '1 minute'`,
			challenge(t, options), bob.Person.ID, bob.Hash, registration(t, options, bob.Person.ID))
		refused(t, finish(bob, response), people.CodePasskeyKnown)
	})
	t.Run("the public key of another passkey", func(t *testing.T) {
		options, key := begin(t)
		enrolled, _, err := w.FinishPasskey(t.Context(), *alice.Person, alice.Hash, "", string(get(key.Create([]byte(options)))(t)))
		must(t, err)
		attempt := func(as people.Session, cose []byte) error {
			t.Helper()
			options := get(w.BeginPasskey(t.Context(), *as.Person, as.Hash, ""))(t)
			response := get(passkeytest.New(origin).Create([]byte(options)))(t)
			return finish(as, withPublicKey(t, response, cose))
		}
		refused(t, attempt(alice, enrolled.PublicKey), people.CodePasskeyKnown)
		refused(t, attempt(bob, enrolled.PublicKey), people.CodePasskeyKnown)
		refused(t, attempt(bob, inAnotherOrder(t, enrolled.PublicKey)), people.CodePasskeyKnown)
		get(w.RevokePasskey(t.Context(), *alice.Person, enrolled.ID))(t)
		refused(t, attempt(alice, enrolled.PublicKey), people.CodePasskeyKnown)
		refused(t, attempt(bob, enrolled.PublicKey), people.CodePasskeyKnown)
		// What is refused is the key, not the way in which it was put there.
		must(t, attempt(bob, newPublicKey(t)))
	})
	t.Run("what is no answer", func(t *testing.T) {
		for _, response := range []string{"", "{}", "null", "[]", `{"response": {"clientDataJSON": "!"}}`, `{"response": {"clientDataJSON": "bnVsbA"}}`, strings.Repeat("x", 100_000)} {
			refused(t, finish(alice, []byte(response)), refusal.BadInput)
		}
	})
	t.Run("more keys than a person can have", func(t *testing.T) {
		for _, test := range []struct{ columns, values string }{
			{"", ""}, // waiting
			{", enrolled_at, enrolment, identified_by", ", now(), '', 'countersigner'"},
		} {
			options, key := begin(t)
			response := get(key.Create([]byte(options)))(t)
			w.sql(`insert into signedapproval_credentials (id, person_id, name, public_key, sign_count, backup_eligible, backup_state, attestation_object, client_data`+test.columns+`)
				select int4send(i), $1, 'x', int4send(i), 0, false, false, '', ''`+test.values+` from generate_series(1, 50) i`, alice.Person.ID)
			_, err := w.BeginPasskey(t.Context(), *alice.Person, alice.Hash, "")
			refused(t, err, people.CodeLimit)
			refused(t, finish(alice, response), people.CodeLimit) // that was begun before
			w.sql(`delete from signedapproval_credentials where name = 'x'`)
		}
	})
	if got := get(w.Session(t.Context(), cookie))(t); got.Person == nil {
		t.Error("the session is gone")
	}
}

func challenge(t *testing.T, options string) string {
	t.Helper()
	var o struct{ Challenge string }
	must(t, json.Unmarshal([]byte(options), &o))
	return o.Challenge
}

// registration is the data of a ceremony as it would be stored for a person.
func registration(t *testing.T, options, person string) []byte {
	t.Helper()
	return get(json.Marshal(map[string]any{"name": "", "session": map[string]any{
		"challenge": challenge(t, options), "rpId": "approvals.example", "user_id": []byte(person), "userVerification": "required",
		"expires": "2999-01-01T00:00:00Z", "credParams": []map[string]any{{"type": "public-key", "alg": -7}},
	}}))(t)
}

// withPublicKey exchanges the key in an authenticator's answer, which nothing attests.
func withPublicKey(t *testing.T, responseJSON, cose []byte) []byte {
	t.Helper()
	var answer map[string]any
	must(t, json.Unmarshal(responseJSON, &answer))
	response, ok := answer["response"].(map[string]any)
	encoded, _ := response["attestationObject"].(string)
	object := get(base64.RawURLEncoding.DecodeString(encoded))(t)
	at := bytes.Index(object, coseHead)
	if !ok || at < 0 || len(cose) != es256Size {
		t.Fatalf("no key in the answer, or no ES256 key to put there: %d bytes", len(cose))
	}
	copy(object[at:at+es256Size], cose)
	response["attestationObject"] = base64.RawURLEncoding.EncodeToString(object)
	return get(json.Marshal(answer))(t)
}

// An ES256 key in canonical CBOR: {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
var coseHead = []byte{0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32}

const es256Size = 77

// inAnotherOrder is the same ES256 key with its curve before its algorithm.
func inAnotherOrder(t *testing.T, cose []byte) []byte {
	t.Helper()
	if !bytes.HasPrefix(cose, coseHead) {
		t.Fatalf("no ES256 key in canonical CBOR: %x", cose)
	}
	return append([]byte{0xa5, 1, 2, 0x20, 1, 3, 0x26}, cose[7:]...)
}

func newPublicKey(t *testing.T) []byte {
	t.Helper()
	key := get(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	point := get(key.PublicKey.Bytes())(t)
	return slices.Concat(coseHead, point[1:33], []byte{0x22, 0x58, 32}, point[33:])
}
