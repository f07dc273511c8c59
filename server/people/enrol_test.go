package people_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// allowing lets options of an authenticator name a key of another's.
func allowing(t *testing.T, options []byte, id []byte) []byte {
	t.Helper()
	var fields map[string]any
	must(t, json.Unmarshal(options, &fields))
	fields["allowCredentials"] = []any{map[string]any{"type": "public-key", "id": base64.RawURLEncoding.EncodeToString(id)}}
	return get(json.Marshal(fields))(t)
}

// kinds are the kinds of the notices of somebody, newest first.
func (w *world) kinds(session people.Session) (kinds []string) {
	w.t.Helper()
	notices, _, err := w.Notices(w.t.Context(), *session.Person, "", store.Page{})
	must(w.t, err)
	for _, n := range notices {
		kinds = append(kinds, n.Kind)
	}
	return kinds
}

func (w *world) types() (types []evidence.LeafType) {
	w.t.Helper()
	for _, body := range w.leaves() {
		types = append(types, body.Type())
	}
	return types
}

func TestAFurtherKeyNeedsOneThatIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	_, bob := w.signedIn("bob")
	first, old := w.enrolled(alice, "old")
	_, bobs := w.enrolled(bob, "bob's")

	waiting, fresh, act := w.made(alice, "new")
	key, next, err := w.signs(alice, fresh, act)
	must(t, err)
	if !key.Waiting() || next == nil || next.Step != people.StepAuthority || string(next.Statement) != string(act.Statement) {
		t.Fatalf("after its own signature: %+v, then %+v", key, next)
	}
	if err := w.store.Outside(t.Context(), func(sh *store.Shared) error { return sh.UseCredential(t.Context(), waiting.ID, 1, false) }); err == nil {
		t.Error("it decides already")
	}
	options := next.Options
	again := func() []byte { // each answer that is refused has used the challenge up
		_, act := get2(w.ContinuePasskey(t.Context(), *alice.Person, alice.Hash, waiting.ID))(t)
		_, next, err := w.signs(alice, fresh, act)
		must(t, err)
		return next.Options
	}
	confirm := func(session people.Session, response []byte) error {
		_, _, err := w.ConfirmPasskey(t.Context(), *session.Person, session.Hash, string(response))
		return err
	}
	bobsKey := get(w.Passkeys(t.Context(), *bob.Person))(t).Credentials[0]
	refused(t, confirm(alice, get(bobs.Get(allowing(t, options, bobsKey.ID)))(t)), people.CodePasskeyRefused)  // another person's
	refused(t, confirm(alice, get(fresh.Get(allowing(t, again(), waiting.ID)))(t)), people.CodePasskeyRefused) // its own
	refused(t, confirm(bob, get(old.Get(again()))(t)), people.CodeChallenge)                                   // another person's session
	_, other := w.signedIn("alice")
	refused(t, confirm(other, get(old.Get(again()))(t)), people.CodeChallenge) // another session of hers
	options = again()
	old.NoUserVerification = true
	refused(t, confirm(alice, get(old.Get(options))(t)), people.CodePasskeyRefused)
	old.NoUserVerification = false
	if n := len(w.leaves()); n != 2 {
		t.Errorf("%d leaves before anything is enrolled", n)
	}

	response := get(old.Get(again()))(t)
	key, next, err = w.ConfirmPasskey(t.Context(), *alice.Person, alice.Hash, string(response))
	must(t, err)
	if next != nil || !key.Enrolled() || *key.IdentifiedBy != store.ByOwnKey || string(key.AuthorityID) != string(first.ID) {
		t.Errorf("key %+v", key)
	}
	var enrolment evidence.Enrolment
	must(t, json.Unmarshal(key.Enrolment, &enrolment))
	if enrolment.Authority == nil || enrolment.IdentifiedBy() != evidence.ByOwnKey {
		t.Errorf("enrolment %+v", enrolment)
	}
	refused(t, confirm(alice, response), people.CodeChallenge) // replayed
	_, _, err = w.ContinuePasskey(t.Context(), *alice.Person, alice.Hash, waiting.ID)
	refused(t, err, people.CodeWaiting)
	if leaf, ok := w.leaves()[2].(evidence.KeyEnrolled); !ok || leaf.IdentifiedBy != "own-key" || leaf.Enrolment == "" || len(w.leaves()) != 3 {
		t.Errorf("leaves %+v", w.leaves())
	}
	equal(t, "notices", w.kinds(alice), []string{"KEY_ENROLLED", "KEY_ENROLLED"})
}

func TestWrongPossession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	_, bob := w.signedIn("bob")
	_, bobs := w.enrolled(bob, "")
	bobsID := get(w.Passkeys(t.Context(), *bob.Person))(t).Credentials[0].ID
	waiting, key, act := w.made(alice, "")
	again := func() people.KeyAct {
		_, act := get2(w.ContinuePasskey(t.Context(), *alice.Person, alice.Hash, waiting.ID))(t)
		return act
	}
	confirm := func(session people.Session, response []byte) error {
		_, _, err := w.ConfirmPasskey(t.Context(), *session.Person, session.Hash, string(response))
		return err
	}
	refused(t, confirm(alice, get(bobs.Get(allowing(t, act.Options, bobsID)))(t)), people.CodePasskeyRefused)
	refused(t, confirm(bob, get(key.Get(again().Options))(t)), people.CodeChallenge)
	act = again()
	key.Origin = "https://evil.example"
	refused(t, confirm(alice, get(key.Get(act.Options))(t)), people.CodePasskeyRefused)
	key.Origin = origin
	act = again()
	w.sql(`update signedapproval_challenges set expires_at = now() - interval '1 second'`)
	refused(t, confirm(alice, get(key.Get(act.Options))(t)), people.CodeChallenge)
	act = again()
	w.sql(`update signedapproval_challenges set kind = 'DECIDE'`)
	refused(t, confirm(alice, get(key.Get(act.Options))(t)), people.CodeChallenge)
	for _, response := range []string{"", "{}", "null", `{"response": {"clientDataJSON": "!"}}`} {
		refused(t, confirm(alice, []byte(response)), refusal.BadInput)
	}
	_, _, err := w.ContinuePasskey(t.Context(), *bob.Person, bob.Hash, waiting.ID)
	refused(t, err, refusal.NotFound)
	// An act of another purpose is no enrolment.
	revoke := get(w.PrepareRevocation(t.Context(), *bob.Person, bob.Hash, bobsID, nil))(t)
	refused(t, confirm(bob, get(bobs.Get(revoke.Options))(t)), people.CodeChallenge)

	equal(t, "leaves", w.types(), []evidence.LeafType{evidence.TypeKeyEnrolled})
	must(t, confirm(alice, get(key.Get(again().Options))(t)))
}

// TestTwoConfirmsAtOnce answers two ceremonies of one key, and one ceremony twice, at the same time.
func TestTwoConfirmsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	waiting, key, act := w.made(alice, "")
	_, other := get2(w.ContinuePasskey(t.Context(), *alice.Person, alice.Hash, waiting.ID))(t)
	responses := []string{string(get(key.Get(act.Options))(t)), string(get(key.Get(other.Options))(t))}
	responses = append(responses, responses...)
	errs := make([]error, len(responses))
	var group sync.WaitGroup
	for i := range responses {
		group.Go(func() {
			_, _, errs[i] = w.ConfirmPasskey(t.Context(), *alice.Person, alice.Hash, responses[i])
		})
	}
	group.Wait()
	done := 0
	for _, err := range errs {
		switch code := refusal.Code(err); {
		case err == nil:
			done++
		case code != people.CodeChallenge && code != people.CodeWaiting:
			t.Errorf("refused with %v", err)
		}
	}
	if done != 1 || len(w.leaves()) != 1 {
		t.Errorf("%d were confirmed, %d leaves", done, len(w.leaves()))
	}
}

func TestKeysThatWaitAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	enrolled, old := w.enrolled(alice, "old")
	waiting, _, _ := w.made(alice, "new")
	forget := func() {
		must(t, w.store.Outside(t.Context(), func(sh *store.Shared) error { return sh.ForgetExpired(t.Context()) }))
	}
	w.sql(`update signedapproval_credentials set created_at = now() - interval '6 days 23 hours 59 minutes'`)
	forget()
	_, _, err := w.ContinuePasskey(t.Context(), *alice.Person, alice.Hash, waiting.ID)
	refused(t, err, people.CodeWaiting) // too little time is left
	w.sql(`update signedapproval_credentials set created_at = now() - interval '8 days'`)
	forget()
	keys := get(w.Passkeys(t.Context(), *alice.Person))(t).Credentials
	if len(keys) != 1 || string(keys[0].ID) != string(enrolled.ID) {
		t.Errorf("keys %+v", keys)
	}
	w.enrolled(alice, "newer", old)
}

func TestRevoking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	_, bob := w.signedIn("bob")
	_, bobs := w.enrolled(bob, "")
	first, old := w.enrolled(alice, "old")
	second, fresh := w.enrolled(alice, "new", old)
	sign := func(session people.Session, response []byte) (store.Credential, error) {
		key, workspace, err := w.SignKeyAct(t.Context(), *session.Person, session.Hash, string(response))
		if workspace != "" {
			t.Errorf("for workspace %s", workspace)
		}
		return key, err
	}
	prepare := func(id []byte, since *time.Time) people.KeyAct {
		t.Helper()
		return get(w.PrepareRevocation(t.Context(), *alice.Person, alice.Hash, id, since))(t)
	}
	bobsID := get(w.Passkeys(t.Context(), *bob.Person))(t).Credentials[0].ID

	_, err := w.PrepareRevocation(t.Context(), *bob.Person, bob.Hash, first.ID, nil)
	refused(t, err, refusal.NotFound)
	future := time.Now().Add(time.Hour)
	_, err = w.PrepareRevocation(t.Context(), *alice.Person, alice.Hash, first.ID, &future)
	refused(t, err, refusal.BadInput)
	_, err = sign(alice, get(bobs.Get(allowing(t, prepare(first.ID, nil).Options, bobsID)))(t))
	refused(t, err, people.CodePasskeyRefused)
	_, err = sign(bob, get(fresh.Get(prepare(first.ID, nil).Options))(t))
	refused(t, err, people.CodeChallenge)

	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	response := get(fresh.Get(prepare(first.ID, &since).Options))(t)
	gone, err := sign(alice, response)
	must(t, err)
	if gone.RevokedAt == nil || *gone.RevokedBy != store.ByOwnKey || gone.CompromisedSince == nil || !gone.CompromisedSince.Equal(since) {
		t.Errorf("key %+v", gone)
	}
	var act evidence.SignedAct
	must(t, json.Unmarshal(gone.Revocation, &act))
	leaves := w.leaves()
	leaf, ok := leaves[len(leaves)-1].(evidence.KeyRevoked)
	if !ok || leaf.By != evidence.ByOwnKey || leaf.Revocation != get(act.Digest())(t) {
		t.Errorf("leaf %+v", leaf)
	}
	_, err = sign(alice, response)
	refused(t, err, people.CodeChallenge)
	_, err = w.PrepareRevocation(t.Context(), *alice.Person, alice.Hash, first.ID, nil)
	refused(t, err, people.CodeRevoked)

	// Without a signature, and the only key.
	gone = get(w.RevokePasskey(t.Context(), *alice.Person, second.ID))(t)
	if *gone.RevokedBy != store.ByOperator || gone.Revocation != nil || gone.CompromisedSince != nil {
		t.Errorf("key %+v", gone)
	}
	leaves = w.leaves()
	if leaf, ok := leaves[len(leaves)-1].(evidence.KeyRevoked); !ok || leaf.By != "" || leaf.Revocation != "" {
		t.Errorf("leaf %+v", leaf)
	}
	equal(t, "notices", w.kinds(alice), []string{"KEY_REVOKED", "KEY_REVOKED", "KEY_ENROLLED", "KEY_ENROLLED"})

	// A key that waits is given up without a word in the log.
	before := len(w.leaves())
	waiting, _, _ := w.made(alice, "")
	gone = get(w.RevokePasskey(t.Context(), *alice.Person, waiting.ID))(t)
	if gone.RevokedAt == nil || gone.RevokedBy != nil || len(w.leaves()) != before {
		t.Errorf("key %+v, %d leaves", gone, len(w.leaves())-before)
	}
}

// TestWhoLostEveryKeyWaits also shows that the log-in does not bring back what was lost.
func TestWhoLostEveryKeyWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, bob := w.signedIn("bob")
	_, old := w.enrolled(bob, "old")
	w.enrolled(bob, "second", old)
	lost := get(w.ReportLost(t.Context(), *bob.Person))(t)
	if len(lost) != 2 || slices.ContainsFunc(lost, func(c store.Credential) bool { return c.RevokedAt == nil || *c.RevokedBy != store.ByOperator }) {
		t.Errorf("lost %+v", lost)
	}
	if again := get(w.ReportLost(t.Context(), *bob.Person))(t); len(again) != 0 {
		t.Errorf("lost again %+v", again)
	}
	_, key, act := w.made(bob, "new")
	waiting, next, err := w.signs(bob, key, act)
	must(t, err)
	if next != nil || !waiting.Waiting() || waiting.Unfinished == nil || waiting.Enrolment != nil {
		t.Errorf("key %+v, then %+v", waiting, next)
	}
	equal(t, "leaves", w.types(), []evidence.LeafType{evidence.TypeKeyEnrolled, evidence.TypeKeyEnrolled, evidence.TypeKeyRevoked, evidence.TypeKeyRevoked})
	// Whatever a lost key signs now opens nothing.
	_, act = get2(w.ContinuePasskey(t.Context(), *bob.Person, bob.Hash, waiting.ID))(t)
	_, _, err = w.ConfirmPasskey(t.Context(), *bob.Person, bob.Hash, string(get(old.Get(allowing(t, act.Options, lost[1].ID)))(t)))
	refused(t, err, people.CodePasskeyRefused)
}
