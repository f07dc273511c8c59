package people_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// withWorkspaces makes the workspaces, and their members as they were last read.
func (w *world) withWorkspaces() {
	w.t.Helper()
	for id, name := range map[string]string{acme: "Acme", umbrella: "Umbrella"} {
		must(w.t, w.store.InWorkspace(w.t.Context(), id, func(tx *store.Tx) error {
			_, _, err := tx.PutWorkspace(w.t.Context(), strings.ToLower(name), name)
			return err
		}))
	}
	w.sql(`insert into signedapproval_memberships (person_id, workspace_id, role)
		select id, $1::uuid, case name when 'The alice' then 'ADMIN' else 'MEMBER' end from signedapproval_people where name in ('The alice', 'The bob')
		union select id, $2::uuid, case name when 'The mallory' then 'ADMIN' else 'MEMBER' end from signedapproval_people where name in ('The mallory', 'The bob')
		on conflict (person_id, workspace_id) do update set role = excluded.role`,
		acme, umbrella)
	w.Roster = func(context.Context, store.Person, string) (evidence.Digest, error) {
		return evidence.Digest(strings.Repeat("ab", 32)), nil
	}
	w.Follow = func(context.Context, *store.Tx, string) error { return nil }
}

// newAdministered is a world in which alice administers acme and has a passkey, and bob, who has none, is a member of it.
func newAdministered(t *testing.T) (w *world, alice people.Session, alices *passkeytest.Authenticator, bob people.Session) {
	t.Helper()
	w = newWorld(t)
	_, alice = w.signedIn("alice")
	_, bob = w.signedIn("bob")
	w.withWorkspaces()
	_, alices = w.enrolled(alice, "")
	return w, alice, alices, bob
}

func (w *world) signAct(session people.Session, key *passkeytest.Authenticator, act people.KeyAct) (store.Credential, error) {
	w.t.Helper()
	credential, _, err := w.SignKeyAct(w.t.Context(), *session.Person, session.Hash, string(get(key.Get(act.Options))(w.t)))
	return credential, err
}

// counts tells in which workspaces a key decides.
func (w *world) counts(session people.Session, id []byte) (in []string) {
	w.t.Helper()
	keys := get(w.Passkeys(w.t.Context(), *session.Person))(w.t)
	for _, workspace := range []string{acme, umbrella} {
		for _, c := range keys.Counting(workspace) {
			if string(c.ID) == string(id) {
				in = append(in, workspace)
			}
		}
	}
	return in
}

// TestRecovery brings back who lost every key, and shows that a workspace answers for itself alone: mallory, who has one
// of her own in which bob is a member, cannot put a key under his name into acme.
func TestRecovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	_, bob := w.signedIn("bob")
	_, mallory := w.signedIn("mallory")
	w.withWorkspaces()
	w.roles[umbrella+w.accounts["bob"].AccountID] = store.RoleMember
	_, alices := w.enrolled(alice, "")
	_, mallorys := w.enrolled(mallory, "")
	old, _ := w.enrolled(bob, "old")
	equal(t, "a first key counts in", w.counts(bob, old.ID), []string{acme, umbrella})
	get(w.ReportLost(t.Context(), *bob.Person))(t)
	_, fresh, act := w.made(bob, "new")
	waiting, _, err := w.signs(bob, fresh, act)
	must(t, err)
	equal(t, "alice's notices", w.kinds(alice)[:1], []string{"KEY_WAITING"})

	holders, _, err := w.KeyHolders(t.Context(), *alice.Person, acme, true, store.Page{})
	must(t, err)
	if len(holders) != 2 || holders[1].Person.ID != bob.Person.ID || len(holders[1].Keys.Credentials) != 2 || !holders[1].Keys.Countersignable(acme, waiting) {
		t.Errorf("holders %+v", holders)
	}

	act = get(w.PrepareCountersignature(t.Context(), *mallory.Person, mallory.Hash, umbrella, waiting.ID))(t)
	key, err := w.signAct(mallory, mallorys, act)
	must(t, err)
	if !key.Enrolled() || *key.IdentifiedBy != store.ByCountersigner {
		t.Errorf("key %+v", key)
	}
	equal(t, "after mallory it counts in", w.counts(bob, key.ID), []string{umbrella})
	leaves := w.leaves()
	var enrolment evidence.Enrolment
	must(t, json.Unmarshal(key.Enrolment, &enrolment))
	if leaf, ok := leaves[len(leaves)-1].(evidence.KeyEnrolled); !ok || leaf.IdentifiedBy != "countersigner" || leaf.Enrolment != get(enrolment.Digest())(t) ||
		enrolment.Countersigned == nil || get(evidence.ParseAct(enrolment.Countersigned.Act))(t).Workspace != "{"+umbrella+"}" {
		t.Errorf("leaf %+v", leaves[len(leaves)-1])
	}
	// What that key enrols goes no further than the key itself.
	further, _ := w.enrolled(bob, "further", fresh)
	equal(t, "a key that it enrolled counts in", w.counts(bob, further.ID), []string{umbrella})

	_, err = w.signAct(alice, alices, get(w.PrepareCountersignature(t.Context(), *alice.Person, alice.Hash, acme, key.ID))(t))
	must(t, err)
	equal(t, "after alice it counts in", w.counts(bob, key.ID), []string{acme, umbrella})
	equal(t, "and what it enrolled", w.counts(bob, further.ID), []string{acme, umbrella})
	_, err = w.PrepareCountersignature(t.Context(), *alice.Person, alice.Hash, acme, key.ID)
	refused(t, err, people.CodeCountersigned)
	acts := get(w.KeyActs(t.Context(), *bob.Person))(t).Of("", key.ID)
	if len(acts) != 2 || acts[0].Workspace != "Umbrella" || acts[0].By != "The mallory" || acts[1].Workspace != "Acme" || acts[1].Revokes {
		t.Errorf("acts %+v", acts)
	}
}

// TestAnEnrolmentThatExpired is countersigned by nobody: its act says until when it holds.
func TestAnEnrolmentThatExpired(t *testing.T) {
	t.Parallel()
	w, alice, alices, bob := newAdministered(t)
	w.enrolled(bob, "old")
	get(w.ReportLost(t.Context(), *bob.Person))(t)
	_, fresh, act := w.made(bob, "new")
	waiting, _, err := w.signs(bob, fresh, act)
	must(t, err)
	prepared := get(w.PrepareCountersignature(t.Context(), *alice.Person, alice.Hash, acme, waiting.ID))(t)
	w.sql(`update signedapproval_credentials set created_at = now() - interval '7 days' where enrolled_at is null`)
	_, err = w.signAct(alice, alices, prepared)
	refused(t, err, people.CodeCountersigned)
	equal(t, "it counts in", w.counts(bob, waiting.ID), nil)
}

func TestWhoMayCountersign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	_, bob := w.signedIn("bob")
	_, mallory := w.signedIn("mallory")
	w.withWorkspaces()
	alicesKey, alices := w.enrolled(alice, "")
	bobsKey, bobs := w.enrolled(bob, "")
	_, mallorys := w.enrolled(mallory, "")
	prepare := func(session people.Session, workspace string, id []byte) (people.KeyAct, error) {
		return w.PrepareCountersignature(t.Context(), *session.Person, session.Hash, workspace, id)
	}
	for _, test := range []struct {
		name      string
		session   people.Session
		workspace string
		id        []byte
		code      string
	}{
		{"her own", alice, acme, alicesKey.ID, people.CodeOwnKey},
		{"a member", bob, acme, alicesKey.ID, refusal.Forbidden},
		{"a stranger", mallory, acme, bobsKey.ID, refusal.NotFound},
		{"an administrator of another workspace", mallory, umbrella, bobsKey.ID, refusal.NotFound}, // bob is no member of it any more
		{"a key that is not there", alice, acme, []byte("none"), refusal.NotFound},
		{"a workspace that is not there", alice, "no workspace", bobsKey.ID, refusal.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := prepare(test.session, test.workspace, test.id)
			refused(t, err, test.code)
			_, err = w.PrepareMemberRevocation(t.Context(), *test.session.Person, test.session.Hash, test.workspace, test.id, nil)
			refused(t, err, test.code)
		})
	}
	for _, session := range []people.Session{bob, mallory} {
		if _, _, err := w.KeyHolders(t.Context(), *session.Person, acme, false, store.Page{}); refusal.Code(err) == "" {
			t.Errorf("%s lists the keys: %v", session.Person.Name, err)
		}
		if _, _, err := w.KeyHolder(t.Context(), *session.Person, acme, alicesKey.ID); refusal.Code(err) == "" {
			t.Errorf("%s reads a key: %v", session.Person.Name, err)
		}
	}

	act := get(prepare(alice, acme, bobsKey.ID))(t)
	mallorysID := get(w.Passkeys(t.Context(), *mallory.Person))(t).Credentials[0].ID
	sign := func(session people.Session, response []byte) error {
		_, _, err := w.SignKeyAct(t.Context(), *session.Person, session.Hash, string(response))
		return err
	}
	refused(t, sign(alice, get(mallorys.Get(allowing(t, act.Options, mallorysID)))(t)), people.CodePasskeyRefused)
	act = get(prepare(alice, acme, bobsKey.ID))(t)
	refused(t, sign(alice, get(bobs.Get(allowing(t, act.Options, bobsKey.ID)))(t)), people.CodePasskeyRefused) // by the key itself
	act = get(prepare(alice, acme, bobsKey.ID))(t)
	refused(t, sign(bob, get(alices.Get(act.Options))(t)), people.CodeChallenge)

	// Who is an administrator no more when the signature comes.
	act = get(prepare(alice, acme, bobsKey.ID))(t)
	w.roles[acme+w.accounts["alice"].AccountID] = store.RoleMember
	response := get(alices.Get(act.Options))(t)
	refused(t, sign(alice, response), refusal.Forbidden)
	w.roles[acme+w.accounts["alice"].AccountID] = store.RoleAdmin
	refused(t, sign(alice, response), people.CodeChallenge) // it was used up
	w.roleErr = errors.New("Bitbucket is away")
	if _, err := prepare(alice, acme, bobsKey.ID); !errors.Is(err, w.roleErr) {
		t.Errorf("without Bitbucket: %v", err)
	}
	w.roleErr = nil

	// Who has no key that counts.
	get(w.RevokePasskey(t.Context(), *alice.Person, alicesKey.ID))(t)
	_, err := prepare(alice, acme, bobsKey.ID)
	refused(t, err, people.CodeNoKey)
	equal(t, "leaves", w.types(), []evidence.LeafType{evidence.TypeKeyEnrolled, evidence.TypeKeyEnrolled, evidence.TypeKeyEnrolled, evidence.TypeKeyRevoked})
}

// TestAdministratorsRevokeForTheirWorkspace shows that a revocation ends nothing elsewhere, and what it says of others.
func TestAdministratorsRevokeForTheirWorkspace(t *testing.T) {
	t.Parallel()
	w, alice, alices, bob := newAdministered(t)
	key, bobs := w.enrolled(bob, "Blue")
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	further, _ := w.enrolled(bob, "made by who had it", bobs)
	act := get(w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, key.ID, &since))(t)
	if _, err := w.signAct(alice, alices, act); err != nil {
		t.Fatal(err)
	}
	equal(t, "it counts in", w.counts(bob, key.ID), []string{umbrella})
	equal(t, "a key that it enrolled since then counts in", w.counts(bob, further.ID), []string{umbrella})
	keys := get(w.Passkeys(t.Context(), *bob.Person))(t)
	if at := keys.CompromisedSince(acme, key.ID); at == nil || !at.Equal(since) || keys.CompromisedSince(umbrella, key.ID) != nil {
		t.Errorf("compromised since %v", at)
	}
	entries := w.texts(`select convert_from(entry, 'UTF8') from signedapproval_leaves where workspace_id = $1`, acme)
	if len(entries) != 1 {
		t.Fatalf("leaves %v", entries)
	}
	leaf, ok := get(evidence.ParseLeaf([]byte(entries[0])))(t).Body.(evidence.KeyRevoked)
	if !ok || leaf.By != evidence.ByCountersigner || leaf.Person != bob.Person.ID || leaf.Revocation == "" {
		t.Errorf("leaf %+v", leaf)
	}
	equal(t, "bob's notices", w.kinds(bob), []string{"KEY_REVOKED", "KEY_ENROLLED", "KEY_ENROLLED"})
	_, err := w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, key.ID, nil)
	refused(t, err, people.CodeRevoked)
}

// TestReportsOfARevokedKey lets an administrator and the owner say of a revoked key that it was stolen, the one for a workspace and
// the other for all, and nobody twice.
func TestReportsOfARevokedKey(t *testing.T) {
	t.Parallel()
	w, alice, alices, bob := newAdministered(t)
	key, firsts := w.enrolled(bob, "Blue")
	_, seconds := w.enrolled(bob, "Red", firsts)
	get(w.RevokePasskey(t.Context(), *bob.Person, key.ID))(t)
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	ask := func(at *time.Time) (people.KeyAct, error) {
		return w.PrepareRevocation(t.Context(), *bob.Person, bob.Hash, key.ID, at)
	}
	compromised := func(want ...string) {
		t.Helper()
		var got []string
		for _, workspace := range []string{acme, umbrella} {
			if at := get(w.Passkeys(t.Context(), *bob.Person))(t).CompromisedSince(workspace, key.ID); at != nil {
				got = append(got, at.UTC().Format(time.TimeOnly))
			}
		}
		equal(t, "compromised since", got, want)
	}
	if _, err := w.signAct(alice, alices, get(w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, key.ID, &since))(t)); err != nil {
		t.Fatal(err)
	}
	compromised(since.Format(time.TimeOnly))
	later := since.Add(time.Minute)
	for _, at := range []*time.Time{nil, &since, &later} {
		_, err := w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, key.ID, at)
		refused(t, err, people.CodeRevoked)
	}
	_, err := ask(nil)
	refused(t, err, people.CodeRevoked)
	early := since.Add(-time.Minute)
	twice := []people.KeyAct{get(ask(&early))(t), get(ask(&early))(t)} // in two tabs
	if _, err := w.signAct(bob, seconds, twice[0]); err != nil {
		t.Fatal(err)
	}
	compromised(early.Format(time.TimeOnly), early.Format(time.TimeOnly))
	_, err = w.signAct(bob, seconds, twice[1])
	refused(t, err, people.CodeRevoked)
	_, err = ask(&since)
	refused(t, err, people.CodeRevoked)
	future := time.Now().Add(time.Hour)
	_, err = ask(&future)
	refused(t, err, refusal.BadInput)
	equal(t, "who revoked it", []string{get(w.KeyActs(t.Context(), *bob.Person))(t).Of("", key.ID)[0].By}, []string{"The alice"})
	equal(t, "bob's notices", w.kinds(bob), []string{"KEY_REPORTED", "KEY_REPORTED", "KEY_REVOKED", "KEY_ENROLLED", "KEY_ENROLLED"})
}

// TestProtectionReachesTheKeysOfMembers lets a workspace ask for more than one administrator's word about the keys of others.
func TestProtectionReachesTheKeysOfMembers(t *testing.T) {
	t.Parallel()
	w, alice, alices, bob := newAdministered(t)
	first, bobs := w.enrolled(bob, "first")
	protect := func(version int64, quorum int, people ...string) {
		t.Helper()
		must(t, w.store.InWorkspace(t.Context(), acme, func(tx *store.Tx) error {
			_, err := tx.InsertProtection(t.Context(), store.Protection{Version: version, Quorum: quorum, People: people, Document: []byte("{}"), ProposalID: acme})
			return err
		}))
	}
	var proposed []store.Proposal
	w.Propose = func(_ context.Context, workspace string, p store.Proposal, holder store.Person) error {
		equal(t, "workspace and holder", []string{workspace, holder.ID}, []string{acme, bob.Person.ID})
		proposed = append(proposed, p)
		return refusal.New("PROPOSED", "It was proposed.")
	}
	act := get(w.PrepareCountersignature(t.Context(), *alice.Person, alice.Hash, acme, first.ID))(t)
	for i, by := range [][]string{{alice.Person.ID, bob.Person.ID}, {alice.Person.ID}} {
		protect(int64(i+1), 2-i, by...)
		_, err := w.PrepareCountersignature(t.Context(), *alice.Person, alice.Hash, acme, first.ID)
		refused(t, err, "PROPOSED")
		_, err = w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, first.ID, nil)
		refused(t, err, "PROPOSED")
	}
	var vouched evidence.KeyDocument
	var revoked evidence.RevocationDocument
	must(t, errors.Join(json.Unmarshal(proposed[0].Document, &vouched), json.Unmarshal(proposed[1].Document, &revoked)))
	if len(proposed) != 4 || proposed[0].Kind != store.ProposalCountersign || proposed[1].Kind != store.ProposalRevoke || proposed[1].Name != first.Name ||
		vouched.Key.Person != bob.Person.ID || revoked.Key != get(vouched.Key.Digest())(t) || proposed[0].ProposedBy != alice.Person.ID {
		t.Errorf("proposed %+v", proposed)
	}
	_, err := w.signAct(alice, alices, act) // prepared before it was protected
	refused(t, err, people.CodeProtected)
	second, _ := w.enrolled(bob, "second", bobs) // one's own keys are one's own
	if revoked := get(w.RevokePasskey(t.Context(), *bob.Person, second.ID))(t); revoked.RevokedAt == nil {
		t.Error("an own key was not revoked")
	}
}

// TestReportsWithoutEnd has one key, and then one administrator, report a key again and again, of an earlier time each time: there is an
// end to that, for each of them alone, and nobody keeps another one from saying since when.
func TestReportsWithoutEnd(t *testing.T) {
	t.Parallel()
	w, alice, alices, bob := newAdministered(t)
	key, first := w.enrolled(bob, "first")
	_, second := w.enrolled(bob, "second", first)
	_, third := w.enrolled(bob, "third", second)
	get(w.RevokePasskey(t.Context(), *bob.Person, key.ID))(t)
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	next := func() *time.Time {
		since = since.Add(-time.Second)
		return new(since)
	}
	own := func(at *time.Time) (people.KeyAct, error) {
		return w.PrepareRevocation(t.Context(), *bob.Person, bob.Hash, key.ID, at)
	}
	asked := get(own(new(since.Add(-time.Hour))))(t) // before, in another tab
	for range 10 {
		if _, err := w.signAct(bob, second, get(own(next()))(t)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := second.Get(get(own(next()))(t).Options); err == nil {
		t.Error("a key is asked to report another one once more")
	}
	if _, err := w.signAct(bob, second, asked); err == nil {
		t.Error("a key reported another one once more, from another tab")
	}
	members := func(at *time.Time) (people.KeyAct, error) {
		return w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, key.ID, at)
	}
	asked = get(members(new(since.Add(-time.Hour))))(t)
	for range 10 {
		if _, err := w.signAct(alice, alices, get(members(next()))(t)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := members(next())
	refused(t, err, people.CodeManyReports)
	_, err = w.signAct(alice, alices, asked)
	refused(t, err, people.CodeManyReports)
	for range 10 { // the other one still can
		if _, err := w.signAct(bob, third, get(own(next()))(t)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = own(next())
	refused(t, err, people.CodeManyReports)
	if at := get(w.Passkeys(t.Context(), *bob.Person))(t).CompromisedSince(acme, key.ID); at == nil || !at.Equal(since.Add(time.Second)) {
		t.Errorf("the key was in other hands since %v, want %v", at, since.Add(time.Second))
	}
}

// TestTheKeyOfSomebodyWhoLeft can be revoked, and reported, where it decided: it may be found to have been stolen when its owner is gone.
func TestTheKeyOfSomebodyWhoLeft(t *testing.T) {
	t.Parallel()
	w, alice, alices, bob := newAdministered(t)
	key, _ := w.enrolled(bob, "")
	w.roles[acme+w.accounts["bob"].AccountID] = store.RoleNone
	w.sql(`update signedapproval_memberships set role = 'NONE' where person_id = $1`, bob.Person.ID)
	revoke := func() (people.KeyAct, error) {
		return w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, key.ID, nil)
	}
	listed := func() (found, left bool) {
		holders, _, err := w.KeyHolders(t.Context(), *alice.Person, acme, false, store.Page{})
		must(t, err)
		for _, h := range holders {
			found, left = found || h.Person.ID == bob.Person.ID, left || h.Left
		}
		return found, left
	}
	_, err := revoke()
	refused(t, err, refusal.NotFound)
	if found, _ := listed(); found {
		t.Error("who never decided here is listed")
	}
	w.sql(`insert into signedapproval_roster_people (person_id, workspace_id) values ($1, $2)`, bob.Person.ID, acme)
	if found, left := listed(); !found || !left {
		t.Errorf("listed: %t, as somebody who left: %t", found, left)
	}
	_, err = w.PrepareCountersignature(t.Context(), *alice.Person, alice.Hash, acme, key.ID)
	refused(t, err, refusal.NotFound)
	_, err = w.signAct(alice, alices, get(revoke())(t))
	must(t, err)
	equal(t, "it counts in", w.counts(bob, key.ID), []string{umbrella})
}

// TestReportsByAThiefOfAnAdministratorsKey: whoever stole one key of an administrator uses up what the administrator has to say with another one.
func TestReportsByAThiefOfAnAdministratorsKey(t *testing.T) {
	t.Parallel()
	w, alice, good, bob := newAdministered(t)
	stolen, thief := w.enrolled(alice, "stolen", good)
	key, _ := w.enrolled(bob, "first")
	since := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	theft := since.Add(-time.Hour)
	get(w.RevokePasskey(t.Context(), *bob.Person, key.ID))(t)
	for range 10 {
		since = since.Add(-time.Second)
		at := since
		if _, err := w.signAct(alice, thief, get(w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, key.ID, &at))(t)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.signAct(alice, good, get(w.PrepareRevocation(t.Context(), *alice.Person, alice.Hash, stolen.ID, &theft))(t)); err != nil {
		t.Fatal(err)
	}
	act, err := w.PrepareMemberRevocation(t.Context(), *alice.Person, alice.Hash, acme, key.ID, &theft)
	if err == nil {
		_, err = w.signAct(alice, good, act)
	}
	if err != nil {
		t.Errorf("the administrator cannot say with her good key since when bob's key was in other hands: %v", err)
	}
}
