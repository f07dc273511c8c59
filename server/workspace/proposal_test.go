package workspace_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// signer is somebody with a browser session and passkeys.
type signer struct {
	store.Person
	w       *world
	session []byte
	keys    []*passkeytest.Authenticator
	ids     [][]byte
}

// passkeys are the use cases of people about their keys.
func (w *world) passkeys() *people.People {
	p := people.New(people.Options{Store: w.store, Passkeys: ceremonies, LogOrigin: logOrigin, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	p.Role, p.Roster, p.Follow, p.Propose = w.Role, w.Roster, (&gate.Gate{Store: w.store}).Follow, w.ProposeKeyChange
	return p
}

// signer makes somebody with one passkey.
func (w *world) signer(name string) *signer {
	w.t.Helper()
	s := &signer{w: w}
	s.Person, s.session = w.person(name)
	s.enrol()
	return s
}

// enrol adds a passkey, with the authority of the first.
func (s *signer) enrol() {
	t, p := s.w.t, s.w.passkeys()
	t.Helper()
	key := passkeytest.New(origin)
	created := get(key.Create([]byte(get(p.BeginPasskey(t.Context(), s.Person, s.session, ""))(t))))(t)
	_, act, err := p.FinishPasskey(t.Context(), s.Person, s.session, "", string(created))
	must(t, err)
	enrolled, next, err := p.ConfirmPasskey(t.Context(), s.Person, s.session, string(get(key.Get(act.Options))(t)))
	must(t, err)
	if next != nil {
		enrolled, _, err = p.ConfirmPasskey(t.Context(), s.Person, s.session, string(get(s.keys[0].Get(next.Options))(t)))
		must(t, err)
	}
	s.keys, s.ids = append(s.keys, key), append(s.ids, enrolled.ID)
}

// prepared is the answer of the first passkey to a signature of the proposal, which SignProposal takes.
func (s *signer) prepared(id string) string {
	s.w.t.Helper()
	signing := get(s.w.PrepareSignature(s.w.t.Context(), s.Person, s.session, s.w.acme, id))(s.w.t)
	return string(get(s.keys[0].Get(signing.Options))(s.w.t))
}

func (s *signer) sign(id string) (workspace.Proposal, error) {
	s.w.t.Helper()
	return s.answer(s.prepared(id))
}

func (s *signer) answer(response string) (workspace.Proposal, error) {
	s.w.t.Helper()
	p, _, err := s.w.SignProposal(s.w.t.Context(), s.Person, s.session, response)
	return p, err
}

// signed lets people sign a proposal, and checks where it stands then.
func (w *world) signed(id, state string, by ...*signer) workspace.Proposal {
	w.t.Helper()
	var p workspace.Proposal
	for i, s := range by {
		p = get(s.sign(id))(w.t)
		if i < len(by)-1 && p.State != store.ProposalOpen {
			w.t.Fatalf("after %d of %d signatures it is %s", i+1, len(by), p.State)
		}
	}
	if p.State != state {
		w.t.Fatalf("after %d signatures it is %s, want %s", len(by), p.State, state)
	}
	return p
}

func ids(people []*signer) []string {
	list := []string{}
	for _, s := range people {
		list = append(list, s.ID)
	}
	return list
}

// protected switches protection on, or to something else, with the signatures of by.
func (w *world) protected(quorum int, people []*signer, by ...*signer) {
	w.t.Helper()
	p := get(w.ProposeProtection(w.t.Context(), w.who("alice"), "session", w.acme, quorum, ids(people)))(w.t)
	w.signed(p.ID, store.ProposalApplied, by...)
}

// proposed saves a policy and answers the proposal that was made instead.
func (w *world) proposed(name, via string, policy approval.Policy) store.Proposal {
	w.t.Helper()
	_, _, err := w.SaveRepository(w.t.Context(), w.who(name), via, w.acme, w.app, policy)
	return w.proposal(err)
}

func (w *world) proposal(err error) store.Proposal {
	w.t.Helper()
	refused(w.t, err, workspace.CodeProtected)
	protected, ok := errors.AsType[*workspace.ProtectedError](err)
	if !ok {
		w.t.Fatalf("no proposal in %v", err)
	}
	return protected.Proposal
}

func (w *world) quorum() int {
	w.t.Helper()
	return get(w.Protection(w.t.Context(), w.who("alice"), w.acme))(w.t).Quorum
}

// rules are the policies in force and the protections as the log tells of them, oldest first.
func (w *world) rules() (rules []evidence.Body) {
	w.t.Helper()
	for _, entry := range w.texts(`select convert_from(entry, 'UTF8') from signedapproval_leaves where workspace_id = $1 order by index`, w.acme) {
		switch leaf := get(evidence.ParseLeaf([]byte(entry)))(w.t); body := leaf.Body.(type) {
		case evidence.PolicyVersion, evidence.ProtectionSet:
			rules = append(rules, body)
		}
	}
	return rules
}

// inForce is the digest of the policy that the gate keeps to; "" without one.
func (w *world) inForce() (digest string) {
	w.t.Helper()
	for _, d := range w.texts(`select v.digest from signedapproval_bitbucket_repo_configs c join signedapproval_policy_versions v on v.id = c.policy_version_id
		where c.workspace_id = $1 and c.repository_id = $2`, w.acme, w.app) {
		digest = d
	}
	return digest
}

func (w *world) state(id string) string {
	w.t.Helper()
	return get(w.Proposal(w.t.Context(), w.who("alice"), w.acme, id))(w.t).State
}

func digestOf(p approval.Policy) string { return string(approval.DigestOf(p.Canonical())) }

// TestProtection tells the story: switching it on, a change of rules, ungating, and switching it off.
func TestProtection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob, carol := w.signer("alice"), w.signer("bob"), w.signer("carol")
	three := []*signer{alice, bob, carol}
	w.saved(w.app, approvals(1))

	on := get(w.ProposeProtection(t.Context(), alice.Person, "session", w.acme, 2, ids(three)))(t)
	again := get(w.ProposeProtection(t.Context(), alice.Person, "session", w.acme, 2, append(ids(three), bob.ID)))(t)
	if again.ID != on.ID {
		t.Error("the same was proposed twice")
	}
	w.signed(on.ID, store.ProposalOpen, alice)
	if w.quorum() != 0 || len(w.rules()) != 1 {
		t.Fatalf("one signature of two: quorum %d, %v", w.quorum(), w.rules())
	}
	w.saved(w.app, approvals(2)) // as it always was
	w.signed(on.ID, store.ProposalApplied, bob)
	if w.quorum() != 2 {
		t.Fatalf("quorum %d", w.quorum())
	}

	p := w.proposed("erin", "session", approvals(3))
	other := w.proposed("alice", "session", approvals(1))
	if again := w.proposed("alice", "session", approvals(3)); again.ID != p.ID {
		t.Error("the same was proposed twice")
	}
	w.saved(w.app, approvals(2)) // what is in force already needs no signature
	if w.inForce() != digestOf(approvals(2)) {
		t.Fatal("a proposal changed the rules")
	}
	view := get(w.Proposal(t.Context(), carol.Person, w.acme, p.ID))(t)
	if view.State != store.ProposalOpen || view.Quorum != 2 || len(view.Asked) != 3 || string(view.Before) != string(approvals(2).Canonical()) || string(view.Policy) != string(approvals(3).Canonical()) {
		t.Errorf("the proposal %+v", view)
	}
	done := w.signed(p.ID, store.ProposalApplied, carol, bob)
	if w.inForce() != digestOf(approvals(3)) || len(done.Acts) != 2 || !done.Acts[0].Counts || !done.Acts[1].Counts {
		t.Errorf("in force %s, %+v", w.inForce(), done.Acts)
	}
	if w.state(other.ID) != store.ProposalOutdated {
		t.Errorf("what it overtook is %s", w.state(other.ID))
	}

	_, err := w.RemoveRepository(t.Context(), alice.Person, "session", w.acme, w.app)
	gone := w.proposal(err)
	if w.inForce() == "" || len(w.cancelled) != 0 || len(w.hooks(w.app)) != 1 {
		t.Fatal("a proposal ungated the repository")
	}
	w.signed(gone.ID, store.ProposalApplied, alice, carol)
	if w.inForce() != "" || len(w.cancelled) != 1 || len(w.hooks(w.app)) != 0 {
		t.Errorf("in force %q, cancelled %v, hooks %v", w.inForce(), w.cancelled, w.hooks(w.app))
	}
	w.signed(w.proposed("alice", "token:7", approvals(3)).ID, store.ProposalApplied, alice, bob)
	w.protected(0, nil, bob, carol)
	w.saved(w.app, approvals(1))

	// The log, replayed with what the openings of the workspace tell.
	acts := w.openedActs(alice)
	var told []string
	for _, body := range w.rules() {
		switch body := body.(type) {
		case evidence.PolicyVersion:
			told = append(told, w.agreed(acts, body.Acts, string(body.Policy)))
		case evidence.ProtectionSet:
			told = append(told, w.agreed(acts, body.Acts, string(body.Protection)))
		}
	}
	equal(t, "who agreed", told, []string{"", "", "Alice Bob", "Bob Carol", "Alice Carol", "Alice Bob", "Bob Carol", ""})
}

// openedActs are the signed acts in the openings, by their digests.
func (w *world) openedActs(admin *signer) map[evidence.Digest]evidence.Act {
	w.t.Helper()
	g := &gate.Gate{Store: w.store, Role: w.Role}
	o := get(evidence.ParseOpenings(get(g.Openings(w.t.Context(), admin.Person, w.acme))(w.t)))(w.t)
	if len(o.Protections) != 2 || o.Protections[0].Quorum != 2 || o.Protections[1].Quorum != 0 || o.Protections[1].Previous != get(o.Protections[0].Digest())(w.t) {
		w.t.Errorf("protections %+v", o.Protections)
	}
	var keys []evidence.Key
	for _, e := range o.Enrolments {
		act := get(evidence.ParseAct(e.Enrolment.Act))(w.t)
		keys = append(keys, act.Key.Key)
	}
	acts := map[evidence.Digest]evidence.Act{}
	for _, signed := range o.SignedActs {
		if _, err := evidence.VerifyAct(signed.Act, signed.Assertion, keys, ceremonies.RelyingParty()); err != nil {
			w.t.Errorf("act: %v", err)
		}
		acts[get(signed.Digest())(w.t)] = get(evidence.ParseAct(signed.Act))(w.t)
	}
	return acts
}

// agreed are the names of the signers of acts, which must all be about the digest.
func (w *world) agreed(acts map[evidence.Digest]evidence.Act, digests []evidence.Digest, about string) (names string) {
	w.t.Helper()
	var all []string
	for _, d := range digests {
		act, ok := acts[d]
		switch {
		case !ok:
			w.t.Errorf("act %s is not in the openings", d)
			continue
		case act.Workspace != bitbucket.BracedUUID(w.acme):
			w.t.Errorf("an act for workspace %s", act.Workspace)
		case act.Policy != nil && string(act.Policy.Policy) != about, act.Protection != nil && string(get(act.DocumentDigest())(w.t)) != about:
			w.t.Errorf("an act about something else: %s", act.Meaning)
		}
		all = append(all, w.texts(`select name from signedapproval_people where id = $1`, act.Signer.Person)...)
	}
	slices.Sort(all)
	for i, name := range all {
		if i > 0 {
			names += " "
		}
		names += name
	}
	return names
}

// TestNobodyGetsAroundTheProtection attacks a workspace that two of three people protect.
func TestNobodyGetsAroundTheProtection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob, carol, dave := w.signer("alice"), w.signer("bob"), w.signer("carol"), w.signer("dave")
	w.saved(w.app, approvals(1))
	w.protected(2, []*signer{alice, bob, carol}, alice, bob)
	before := len(w.rules())
	unchanged := func(what string) {
		t.Helper()
		if w.inForce() != digestOf(approvals(1)) || w.quorum() != 2 || len(w.rules()) != before {
			t.Fatalf("%s: in force %s, quorum %d, %d rules in the log", what, w.inForce(), w.quorum(), len(w.rules()))
		}
	}

	p := w.proposed("alice", "session", approvals(3))
	unchanged("an administrator saves")
	if token := w.proposed("alice", "token:7", approvals(3)); token.ID != p.ID {
		t.Error("a token made another proposal of the same")
	}
	_, err := w.Disconnect(t.Context(), alice.Person, w.acme)
	refused(t, err, workspace.CodeProtected)
	_, err = w.RemoveRepository(t.Context(), dave.Person, "token:7", w.acme, w.app)
	w.proposal(err)
	unchanged("an administrator removes, and disconnects")

	off := get(w.ProposeProtection(t.Context(), dave.Person, "session", w.acme, 0, nil))(t)
	mine := get(w.ProposeProtection(t.Context(), dave.Person, "session", w.acme, 1, []string{dave.ID}))(t)
	for _, id := range []string{p.ID, off.ID, mine.ID} {
		_, err = w.PrepareSignature(t.Context(), dave.Person, dave.session, w.acme, id)
		refused(t, err, workspace.CodeNotAsked)
	}
	w.signed(off.ID, store.ProposalOpen, alice)
	w.signed(mine.ID, store.ProposalOpen, alice)
	unchanged("one of two switches it off, or hands it over")

	alice.enrol()
	signing := get(w.PrepareSignature(t.Context(), alice.Person, alice.session, w.acme, p.ID))(t)
	first, second := alice.prepared(p.ID), string(get(alice.keys[1].Get(signing.Options))(t))
	if get(alice.answer(first))(t).State != store.ProposalOpen {
		t.Fatal("one signature was enough")
	}
	_, err = alice.answer(second)
	refused(t, err, workspace.CodeSigned)
	_, err = w.PrepareSignature(t.Context(), alice.Person, alice.session, w.acme, p.ID)
	refused(t, err, workspace.CodeSigned)
	unchanged("one person signs with two passkeys")

	_, err = alice.answer(first)
	refused(t, err, workspace.CodeChallenge)
	theirs := bob.prepared(p.ID)
	_, err = carol.answer(theirs)
	refused(t, err, workspace.CodeChallenge)
	unchanged("a signature is sent again, and by somebody else")

	signing = get(w.PrepareSignature(t.Context(), carol.Person, carol.session, w.acme, p.ID))(t)
	bobs := string(get(bob.keys[0].Get(allowing(t, signing.Options, bob.ids[0])))(t))
	_, err = carol.answer(bobs)
	refused(t, err, workspace.CodePasskeyRefused)
	unchanged("carol's signature is made by bob's passkey")

	// Bob signs for version 2; it comes when another version 2 is in force.
	other := w.proposed("alice", "session", approvals(2))
	late := bob.prepared(p.ID)
	w.signed(other.ID, store.ProposalApplied, alice, carol)
	_, err = bob.answer(late)
	refused(t, err, workspace.CodeProposal)
	if w.inForce() != digestOf(approvals(2)) {
		t.Error("an old signature changed the rules")
	}

	stranger, session := w.person("mallory")
	_, err = w.PrepareSignature(t.Context(), stranger, session, w.acme, off.ID)
	refused(t, err, refusal.NotFound)
	_, err = w.Protection(t.Context(), stranger, w.acme)
	refused(t, err, refusal.NotFound)
	_, err = w.WithdrawProposal(t.Context(), stranger, w.acme, off.ID)
	refused(t, err, refusal.NotFound)
}

// allowing lets options of an authenticator name another key.
func allowing(t *testing.T, options, id []byte) []byte {
	t.Helper()
	var fields map[string]any
	must(t, json.Unmarshal(options, &fields))
	fields["allowCredentials"] = []any{map[string]any{"type": "public-key", "id": evidence.Bytes(id)}}
	return get(json.Marshal(fields))(t)
}

func TestASignatureCountsOnlyWhileItsSignerDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob, carol := w.signer("alice"), w.signer("bob"), w.signer("carol")
	w.protected(2, []*signer{alice, bob, carol}, alice, bob)

	t.Log("a passkey that was revoked after it signed")
	p := w.proposed("alice", "session", approvals(2))
	w.signed(p.ID, store.ProposalOpen, carol)
	carol.enrol()
	get(w.passkeys().RevokePasskey(t.Context(), carol.Person, carol.ids[0]))(t)
	w.signed(p.ID, store.ProposalOpen, bob)
	carol.keys, carol.ids = carol.keys[1:], carol.ids[1:]
	done := w.signed(p.ID, store.ProposalApplied, carol) // again, with another one
	if len(done.Acts) != 2 || !done.Acts[0].Counts || !done.Acts[1].Counts {
		t.Errorf("acts %+v", done.Acts)
	}

	t.Log("somebody who protects the workspace no longer")
	p = w.proposed("alice", "session", approvals(3))
	w.signed(p.ID, store.ProposalOpen, alice)
	w.protected(2, []*signer{bob, carol}, alice, bob)
	if w.signed(p.ID, store.ProposalOpen, bob); w.inForce() != digestOf(approvals(2)) {
		t.Fatal("who was taken off the list counted")
	}
	done = w.signed(p.ID, store.ProposalApplied, carol)
	for _, a := range done.Acts {
		if a.Counts == (a.PersonID == alice.ID) {
			t.Errorf("act of %s: counts %t", a.PersonID, a.Counts)
		}
	}
}

func TestASignatureCountsForWhatWasSignedAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob := w.signer("alice"), w.signer("bob")
	two := []*signer{alice, bob}
	w.protected(2, two, two...)
	harmless, other := w.proposed("alice", "session", approvals(3)), w.proposed("alice", "session", approvals(1))

	t.Log("a signature that was moved from one proposal to another")
	w.signed(harmless.ID, store.ProposalOpen, bob)
	w.sql(`update signedapproval_proposal_acts set proposal_id = $1 where proposal_id = $2`, other.ID, harmless.ID)
	view := w.signed(other.ID, store.ProposalOpen, alice)
	if len(view.Acts) != 2 || view.Acts[0].Counts || !view.Acts[1].Counts || w.inForce() != "" {
		t.Fatalf("in force %q, acts %+v", w.inForce(), view.Acts)
	}

	t.Log("a signature of somebody else under a name")
	w.sql(`update signedapproval_proposal_acts m set act = a.act, digest = a.digest from signedapproval_proposal_acts a
		where m.proposal_id = $1 and a.proposal_id = $1 and m.person_id = $2 and a.person_id = $3`, other.ID, bob.ID, alice.ID)
	if view = get(w.Proposal(t.Context(), alice.Person, w.acme, other.ID))(t); view.Acts[0].Counts || !view.Acts[1].Counts {
		t.Fatalf("acts %+v", view.Acts)
	}

	t.Log("an act about the right thing that nobody signed")
	var forged evidence.SignedAct
	must(t, json.Unmarshal([]byte(w.texts(`select convert_from(act, 'UTF8') from signedapproval_proposal_acts where proposal_id = $1 and person_id = $2`, other.ID, alice.ID)[0]), &forged))
	act := get(evidence.ParseAct(forged.Act))(t)
	act.Signer.Person = bob.ID
	forged.Act = get(act.Canonical())(t)
	raw := get(json.Marshal(forged))(t)
	w.sql(`update signedapproval_proposal_acts set act = $1, digest = $2 where proposal_id = $3 and person_id = $4`, raw, string(approval.DigestOf(raw)), other.ID, bob.ID)
	w.sql(`delete from signedapproval_proposal_acts where proposal_id = $1 and person_id = $2`, other.ID, alice.ID)
	if w.signed(other.ID, store.ProposalOpen, alice); w.inForce() != "" {
		t.Fatalf("in force %q", w.inForce())
	}
	w.sql(`delete from signedapproval_proposal_acts where proposal_id = $1 and person_id = $2`, other.ID, bob.ID)

	t.Log("who signs it themselves counts")
	if w.signed(other.ID, store.ProposalApplied, bob); w.inForce() != digestOf(approvals(1)) {
		t.Errorf("in force %q", w.inForce())
	}
}

func TestLastSignaturesAtOnceApplyOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	three := []*signer{w.signer("alice"), w.signer("bob"), w.signer("carol")}
	w.protected(1, three, three[0])
	p := w.proposed("alice", "session", approvals(2))
	before := len(w.rules())
	answers := make([]string, len(three))
	for i, s := range three {
		answers[i] = s.prepared(p.ID)
	}
	errs := make([]error, len(three))
	var all sync.WaitGroup
	for i, s := range three {
		all.Go(func() { _, _, errs[i] = w.SignProposal(t.Context(), s.Person, s.session, answers[i]) })
	}
	all.Wait()
	applied := 0
	for _, err := range errs {
		if err == nil {
			applied++
		} else {
			refused(t, err, workspace.CodeProposal)
		}
	}
	if applied != 1 || len(w.rules()) != before+1 || w.inForce() != digestOf(approvals(2)) {
		t.Errorf("%d applied it, %d leaves, in force %s", applied, len(w.rules())-before, w.inForce())
	}
}

// TestAProposalIsAppliedWholeOrNotAtAll lets the last transaction fail in the middle.
func TestAProposalIsAppliedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice := w.signer("alice")
	w.protected(1, []*signer{alice}, alice)
	p := w.proposed("alice", "session", approvals(2))
	before := len(w.rules())
	w.sql(`create function broken() returns trigger language plpgsql as $$ begin raise exception 'the disk is full'; end $$`)
	w.sql(`create trigger broken before insert on signedapproval_bitbucket_repo_configs for each row execute function broken()`)
	if _, err := alice.sign(p.ID); err == nil || refusal.Code(err) != "" {
		t.Fatalf("got %v, want a failure", err)
	}
	view := get(w.Proposal(t.Context(), alice.Person, w.acme, p.ID))(t)
	if view.State != store.ProposalOpen || len(view.Acts) != 0 || len(w.rules()) != before || w.inForce() != "" {
		t.Errorf("after the failure: %+v", view)
	}
	w.sql(`drop trigger broken on signedapproval_bitbucket_repo_configs`)
	w.signed(p.ID, store.ProposalApplied, alice)
	if w.inForce() != digestOf(approvals(2)) {
		t.Error("it was not applied")
	}
}

func TestWhatEndsAProposal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob := w.signer("alice"), w.signer("bob")
	w.protected(2, []*signer{alice, bob}, alice, bob)
	page := store.Page{First: 10}

	old := w.proposed("erin", "session", approvals(2))
	w.sql(`update signedapproval_proposals set expires_at = now() where id = $1`, old.ID)
	if w.state(old.ID) != store.ProposalExpired {
		t.Errorf("after seven days it is %s", w.state(old.ID))
	}
	_, err := w.PrepareSignature(t.Context(), alice.Person, alice.session, w.acme, old.ID)
	refused(t, err, workspace.CodeProposal)

	p := w.proposed("erin", "session", approvals(2))
	if p.ID == old.ID {
		t.Fatal("an expired proposal was answered")
	}
	carol, erin := w.who("carol"), w.who("erin")
	_, err = w.Proposal(t.Context(), carol, w.acme, p.ID)
	refused(t, err, refusal.NotFound)
	_, err = w.WithdrawProposal(t.Context(), bob.Person, w.acme, p.ID)
	refused(t, err, refusal.Forbidden)
	asked := w.texts(`select p.name from signedapproval_notices n join signedapproval_people p on p.id = n.person_id
		where n.dedupe_key like 'proposal:' || $1 || '%' and n.read_at is null order by 1`, p.ID)
	equal(t, "asked", asked, []string{"Alice", "Bob"})
	for who, want := range map[string]int{alice.ID: 1, bob.ID: 1, erin.ID: 1, carol.ID: 0} {
		list, _, err := w.Proposals(t.Context(), store.Person{ID: who, AccountID: w.account(who), AccountUUID: w.accountUUID(who)}, w.acme, true, page)
		must(t, err)
		if len(list) != want {
			t.Errorf("%s sees %d open proposals, want %d", who, len(list), want)
		}
	}
	gone := get(w.WithdrawProposal(t.Context(), erin, w.acme, p.ID))(t)
	if gone.State != store.ProposalWithdrawn || gone.Quorum != 0 {
		t.Errorf("withdrawn: %+v", gone)
	}
	_, err = w.WithdrawProposal(t.Context(), alice.Person, w.acme, p.ID)
	refused(t, err, workspace.CodeProposal)
	if left := w.texts(`select id::text from signedapproval_notices where kind = 'PROPOSAL' and dedupe_key like 'proposal:' || $1 || '%' and read_at is null`, p.ID); len(left) != 0 {
		t.Errorf("%d notices still ask for a signature", len(left))
	}
	all, _, err := w.Proposals(t.Context(), alice.Person, w.acme, false, page)
	must(t, err)
	if len(all) != 3 {
		t.Errorf("%d proposals", len(all))
	}

	p = w.proposed("erin", "session", approvals(2))
	w.protected(0, nil, alice, bob)
	if w.state(p.ID) != store.ProposalOutdated {
		t.Errorf("when nobody is asked any more it is %s", w.state(p.ID))
	}
}

func (w *world) account(id string) string {
	return w.texts(`select account_id from signedapproval_people where id = $1`, id)[0]
}

func (w *world) accountUUID(id string) string {
	return w.texts(`select account_uuid::text from signedapproval_people where id = $1`, id)[0]
}

func TestWhoCanProtect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, mallory := w.signer("alice"), w.signer("mallory")
	bob, unknown := w.who("bob"), sha256.Sum256([]byte("nobody"))
	for name, c := range map[string]struct {
		by     store.Person
		quorum int
		people []string
		code   string
	}{
		"a member":           {bob, 1, []string{alice.ID}, refusal.Forbidden},
		"a stranger":         {mallory.Person, 1, []string{mallory.ID}, refusal.NotFound},
		"no passkey":         {alice.Person, 1, []string{alice.ID, bob.ID}, workspace.CodeNoKey},
		"no member":          {alice.Person, 1, []string{alice.ID, mallory.ID}, refusal.NotFound},
		"nobody":             {alice.Person, 1, []string{hex.EncodeToString(unknown[:])}, refusal.NotFound},
		"too few":            {alice.Person, 2, []string{alice.ID, alice.ID}, refusal.BadInput},
		"no quorum":          {alice.Person, 0, []string{alice.ID}, refusal.BadInput},
		"a negative quorum":  {alice.Person, -1, nil, refusal.BadInput},
		"off where it is so": {alice.Person, 0, nil, refusal.BadInput},
		"too many":           {alice.Person, 1, many(evidence.MaxProtectors + 1), refusal.BadInput},
	} {
		_, err := w.ProposeProtection(t.Context(), c.by, "session", w.acme, c.quorum, c.people)
		if refusal.Code(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if w.quorum() != 0 || len(w.rules()) != 0 {
		t.Error("something was changed")
	}
}

func many(n int) (list []string) {
	for i := range n {
		sum := sha256.Sum256([]byte{byte(i)})
		list = append(list, hex.EncodeToString(sum[:]))
	}
	return list
}

// Whoever has made as many proposals as one person may keeps nobody else from making one.
func TestOnesProposalsAreNoLimitToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob, carol := w.signer("alice"), w.signer("bob"), w.signer("carol")
	w.saved(w.app, approvals(1))
	w.protected(2, []*signer{alice, bob, carol}, alice, bob)
	policy := func(i int) approval.Policy {
		p := approvals(2)
		p.Rules[0].Name = fmt.Sprintf("Mine %d", i)
		return p
	}
	var last store.Proposal
	for i := range 20 {
		last = w.proposed("erin", "session", policy(i))
	}
	_, _, err := w.SaveRepository(t.Context(), w.who("erin"), "session", w.acme, w.app, policy(20))
	refused(t, err, workspace.CodeLimit)
	w.signed(w.revoke(alice, bob.ids[0], nil).ID, store.ProposalApplied, alice, carol)
	must(t, func() error {
		_, err := w.WithdrawProposal(t.Context(), w.who("erin"), w.acme, last.ID)
		return err
	}())
	w.proposed("erin", "session", policy(20))
}
