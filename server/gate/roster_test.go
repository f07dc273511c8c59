package gate_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const otherWorkspace = "bbbbbbbb-0000-4000-8000-000000000002"

// roster replays the workspace's roster as a verifier would, and makes sure that each version has its leaf.
func (w *world) roster() *evidence.Roster {
	w.t.Helper()
	var workspace store.Workspace
	var versions []store.RosterVersion
	var changes []evidence.RosterChange
	w.in(func(tx *store.Tx) (err error) {
		if workspace, err = tx.ReadWorkspace(w.t.Context()); err != nil {
			return err
		}
		if versions, err = tx.Roster(w.t.Context(), 0, 1000); err != nil {
			return err
		}
		for _, v := range versions {
			row, err := tx.FindLeaf(w.t.Context(), v.LeafHash)
			if err != nil {
				return err
			}
			leaf, err := evidence.ParseLeaf(row.Entry)
			if err != nil {
				return err
			}
			if body, ok := leaf.Body.(evidence.RosterVersion); !ok || body.Version != v.Version || string(body.Roster) != v.Digest {
				w.t.Errorf("version %d has the leaf %+v", v.Version, leaf.Body)
			}
		}
		return nil
	})
	for _, v := range versions {
		change, err := evidence.ParseRosterChange(v.Document)
		w.must(err)
		changes = append(changes, change)
	}
	roster, err := evidence.ReplayRoster(evidence.Digest(hex.EncodeToString(workspace.GenesisLeaf)), changes)
	w.must(err)
	return roster
}

// anchors are everything that a stranger can pin.
func (w *world) anchors() evidence.Anchors {
	w.t.Helper()
	a := evidence.Anchors{
		RelyingParties: []evidence.RelyingParty{{ID: rpID, Origin: origin}},
		Log:            &evidence.LogAnchor{Origin: rpID + "/log", Keys: []string{w.logKey}},
		Witnesses:      &evidence.WitnessPolicy{},
	}
	w.in(func(tx *store.Tx) error {
		workspace, err := tx.ReadWorkspace(w.t.Context())
		if err != nil {
			return err
		}
		a.Genesis = evidence.Digest(hex.EncodeToString(workspace.GenesisLeaf))
		config, err := tx.RepositoryConfig(w.t.Context(), w.repository)
		if err != nil {
			return err
		}
		version, err := tx.PolicyVersion(w.t.Context(), config.PolicyVersionID)
		a.Policies = []evidence.PinnedPolicies{{Repository: bitbucket.BracedUUID(w.repository), Digests: []evidence.Digest{evidence.Digest(version.Digest)}}}
		return err
	})
	roster := w.roster()
	a.Roster = roster.Digest(roster.Versions())
	return a
}

func (w *world) bundle(number int64) []byte {
	w.t.Helper()
	data, err := w.gate.Bundle(w.t.Context(), w.people["alice"].Person, w.workspace, w.view(number).Request.ID)
	w.must(err)
	return data
}

func TestABundleIsProvedByAnchorsAlone(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.must(w.gate.Publish(t.Context(), 0, 0))
	// A second key, for which the first one signs.
	bob := w.people["bob"]
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	w.decides(number, "bob", approval.Withdraw)
	w.decides(number, "bob", approval.Approve)
	w.decides(number, "carol", approval.Approve)
	w.settle()

	data := w.bundle(number)
	report := evidence.Verify(data, w.anchors())
	if report.ExitCode() != 0 || report.Verdict.State != approval.Approved {
		t.Errorf("with all anchors: %d, %s, %+v", report.ExitCode(), report.Sentence(), report.Steps)
	}
	b, err := evidence.ParseBundle(data)
	w.must(err)
	if len(b.Roster) != 3 || len(b.Enrolments) != 3 || len(b.Log.Heads) == 0 || len(b.Log.Chain) != len(b.Chain) {
		t.Errorf("%d roster versions, %d enrolments, %d heads, %d proofs of %d leaves", len(b.Roster), len(b.Enrolments), len(b.Log.Heads), len(b.Log.Chain), len(b.Chain))
	}
	if report := verify(data); report.ExitCode() != 2 {
		t.Errorf("without anchors: %d, %s", report.ExitCode(), report.Sentence())
	}
	// What was pinned before the second key came is enough: the first one signed for it.
	early := w.anchors()
	early.Roster = w.roster().Digest(1)
	early.Keys = nil
	if report := evidence.Verify(data, early); report.ExitCode() != 1 {
		t.Errorf("carol came into the roster after the pinned version, and yet: %d, %s", report.ExitCode(), report.Sentence())
	}

	// While nothing can be published there is no proof.
	heal := w.unpublish()
	if _, err := w.gate.Bundle(t.Context(), bob.Person, w.workspace, w.view(number).Request.ID); refusal.Code(err) != refusal.Busy {
		t.Errorf("a bundle that cannot be proved: %v", err)
	}
	heal()
}

func TestTheRosterFollowsTheKeys(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	if n := w.roster().Versions(); n != 0 {
		t.Fatalf("nobody signed anything, and the roster has %d versions", n)
	}
	draft, err := w.draft(number, "bob", approval.Approve)
	w.must(err)
	bob := w.people["bob"]
	prepared, err := w.gate.Prepare(t.Context(), bob.Person, bob.session, draft)
	w.must(err)
	statement, err := evidence.ParseStatement(prepared.Statement)
	w.must(err)
	roster := w.roster()
	if version, ok := roster.VersionOf(statement.Roster); !ok || version != 1 || len(roster.LiveAt(1)) != 1 || roster.Keys()[0].Key.Person != bob.ID {
		t.Fatalf("bob is asked to sign under version %d (%t) of %d", version, ok, roster.Versions())
	}
	if statement.LogHead == nil || statement.LogHead.Root == "" {
		t.Errorf("the statement names no head of the log: %+v", statement.LogHead)
	}

	// A second key, then the first one is revoked: the roster hears of both by its job.
	first := bob.key
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	w.settle()
	if n := w.roster().Versions(); n != 2 {
		t.Errorf("after a second key: %d versions", n)
	}
	keys, err := w.keys.Passkeys(t.Context(), bob.Person)
	w.must(err)
	w.must(w.store.Outside(t.Context(), func(sh *store.Shared) error {
		_, err := sh.RevokeCredential(t.Context(), bob.ID, keys.Credentials[len(keys.Credentials)-1].ID, store.Revocation{})
		return err
	}))
	w.settle()
	roster = w.roster()
	if live := roster.LiveAt(roster.Versions()); roster.Versions() != 3 || len(live) != 1 || string(live[0].Key.CredentialID) != string(keys.Credentials[0].ID) {
		t.Errorf("after a revocation: %d versions, live %+v", roster.Versions(), live)
	}
	// What the first key was asked to sign before, it signs no more.
	answer, err := first.Get(prepared.Options)
	w.must(err)
	if _, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, draft.RequestID, answer); refusal.Code(err) != gate.CodeRevokedKey {
		t.Errorf("the revoked key: %v", err)
	}
	// A key that came after the statement was made is not in the roster that it names.
	prepared, err = w.gate.Prepare(t.Context(), bob.Person, bob.session, draft)
	w.must(err)
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	answer, err = bob.key.Get(allowing(w, prepared.Options, "bob"))
	w.must(err)
	if _, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, draft.RequestID, answer); refusal.Code(err) != gate.CodeAssertion {
		t.Errorf("a key that the named roster does not have: %v", err)
	}
}

// TestRostersHaveNoGap: many at once write versions, those of one person too, and the chain is whole.
func TestRostersHaveNoGap(t *testing.T) {
	w := newWorld(t)
	var group sync.WaitGroup
	for range 8 {
		for _, p := range w.people {
			group.Go(func() {
				if _, err := w.gate.SyncRoster(context.WithoutCancel(t.Context()), w.workspace, p.ID); err != nil {
					t.Errorf("sync: %v", err)
				}
			})
		}
	}
	group.Wait()
	roster := w.roster()
	if int(roster.Versions()) != len(w.people) || len(roster.Keys()) != len(w.people) {
		t.Errorf("%d versions and %d keys of %d people", roster.Versions(), len(roster.Keys()), len(w.people))
	}
}

// TestARosterIsItsWorkspacesOwn: the same person is in two rosters, which know nothing of each other.
func TestARosterIsItsWorkspacesOwn(t *testing.T) {
	w := newWorld(t)
	bob := w.people["bob"]
	mine, err := w.gate.SyncRoster(t.Context(), w.workspace, bob.ID)
	w.must(err)
	const other = otherWorkspace
	w.must(w.store.InWorkspace(t.Context(), other, func(tx *store.Tx) error {
		if _, _, err := tx.PutWorkspace(t.Context(), "other", "Other"); err != nil {
			return err
		}
		return w.genesis(tx)
	}))
	theirs, err := w.gate.SyncRoster(t.Context(), other, bob.ID)
	w.must(err)
	if mine.Version != 1 || theirs.Version != 1 || mine.Digest == theirs.Digest {
		t.Errorf("versions %d %s and %d %s", mine.Version, mine.Digest, theirs.Version, theirs.Digest)
	}
	var change evidence.RosterChange
	w.must(json.Unmarshal(theirs.Document, &change))
	if change.Workspace != "{"+other+"}" {
		t.Errorf("the other roster is that of %s", change.Workspace)
	}
	// A statement of one workspace cannot name the other's roster.
	if _, found := w.roster().VersionOf(evidence.Digest(theirs.Digest)); found {
		t.Error("the other workspace's roster is found")
	}
}

func TestReceipts(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	made, err := w.decide(number, "bob", approval.Approve)
	w.must(err)
	bob, carol := w.people["bob"].Person, w.people["carol"].Person
	heal := w.unpublish()
	if _, err := w.gate.Receipt(t.Context(), bob, w.workspace, made.ID); refusal.Code(err) != refusal.Busy {
		t.Errorf("before it is published: %v", err)
	}
	heal()
	anchor := evidence.LogAnchor{Origin: rpID + "/log", Keys: []string{w.logKey}}
	for name, reader := range map[string]store.Person{"the signer": bob, "who may read": carol} {
		data, err := w.gate.Receipt(t.Context(), reader, w.workspace, made.ID)
		w.must(err)
		recorded, err := evidence.VerifyReceipt(data, anchor, nil)
		w.must(err)
		if recorded.Decision.Statement != approval.DigestOf(made.Statement) || recorded.Checkpoint.N <= recorded.Index {
			t.Errorf("the receipt for %s: %+v", name, recorded)
		}
	}
	// Who lost the right to read keeps the right to the proof of what they signed; others get nothing.
	w.rights[bob.ID], w.rights[carol.ID] = bitbucket.PermissionNone, bitbucket.PermissionNone
	if _, err := w.gate.Receipt(t.Context(), bob, w.workspace, made.ID); err != nil {
		t.Errorf("the signer without rights: %v", err)
	}
	for name, ask := range map[string]func() ([]byte, error){
		"a stranger":        func() ([]byte, error) { return w.gate.Receipt(t.Context(), carol, w.workspace, made.ID) },
		"another workspace": func() ([]byte, error) { return w.gate.Receipt(t.Context(), bob, otherWorkspace, made.ID) },
		"no decision":       func() ([]byte, error) { return w.gate.Receipt(t.Context(), bob, w.workspace, otherWorkspace) },
		"no id":             func() ([]byte, error) { return w.gate.Receipt(t.Context(), bob, w.workspace, "' or true") },
	} {
		if _, err := ask(); refusal.Code(err) != refusal.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenings(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.save(w.rule(2, "bob", "carol"))
	w.settle()
	roles := map[string]store.Role{}
	w.gate.Role = func(_ context.Context, p store.Person, workspace string, fresh bool) (store.Role, error) {
		if !fresh || workspace != w.workspace {
			return store.RoleNone, nil
		}
		return roles[p.ID], nil
	}
	alice := w.people["alice"].Person
	for role, code := range map[store.Role]string{store.RoleNone: refusal.NotFound, store.RoleMember: refusal.Forbidden} {
		roles[alice.ID] = role
		if _, err := w.gate.Openings(t.Context(), alice, w.workspace); refusal.Code(err) != code {
			t.Errorf("as %s: %v", role, err)
		}
	}
	roles[alice.ID] = store.RoleAdmin
	if _, err := w.gate.Openings(t.Context(), alice, otherWorkspace); refusal.Code(err) != refusal.NotFound {
		t.Errorf("another workspace: %v", err)
	}
	data, err := w.gate.Openings(t.Context(), alice, w.workspace)
	w.must(err)
	o, err := evidence.ParseOpenings(data)
	w.must(err)
	if len(o.Roster) != 1 || len(o.Enrolments) != 1 || len(o.Policies) != 2 || len(o.Chains) != 1 {
		t.Errorf("%d versions, %d enrolments, %d policies, %d chains", len(o.Roster), len(o.Enrolments), len(o.Policies), len(o.Chains))
	}
	chain := o.Chains[0]
	if chain.PullRequest != number || chain.ID != evidence.ChainID(o.Salt, chain.Repository, number) || evidence.LeafDigest(o.Genesis) != w.anchors().Genesis {
		t.Errorf("the chain %+v, the genesis %s", chain, evidence.LeafDigest(o.Genesis))
	}
}

// TestOpeningsLeaveOutWhatIsNotOnRecord takes away what two versions of the roster rest on: the openings of the workspace
// still name those versions and have what proves the others, so that whoever follows the log learns which are not proved;
// evidence that rests on what is gone is refused and says so.
func TestOpeningsLeaveOutWhatIsNotOnRecord(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	w.decides(number, "bob", approval.Approve)
	w.settle()
	first := w.keyID(bob)
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	w.decides(number, "bob", approval.Withdraw)
	w.settle()
	act, err := w.keys.PrepareRevocation(t.Context(), bob.Person, bob.session, first, nil)
	w.must(err)
	answer, err := bob.key.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(t.Context(), bob.Person, bob.session, string(answer))
	w.must(err)
	w.settle()
	w.gate.Role = func(context.Context, store.Person, string, bool) (store.Role, error) { return store.RoleAdmin, nil }
	openings := func() evidence.Openings {
		data, err := w.gate.Openings(t.Context(), w.people["alice"].Person, w.workspace)
		w.must(err)
		o, err := evidence.ParseOpenings(data)
		w.must(err)
		return o
	}
	if o := openings(); len(o.Roster) != 3 || len(o.Enrolments) != 2 || len(o.SignedActs) != 1 {
		t.Fatalf("before: %d versions, %d enrolments, %d acts", len(o.Roster), len(o.Enrolments), len(o.SignedActs))
	}
	w.sql(`update signedapproval_credentials set revocation = 'other' where id = $1`, first)
	if o := openings(); len(o.Roster) != 3 || len(o.Enrolments) != 2 || len(o.SignedActs) != 0 {
		t.Errorf("without the act: %d versions, %d enrolments, %d acts", len(o.Roster), len(o.Enrolments), len(o.SignedActs))
	}
	if _, err := w.gate.Bundle(t.Context(), w.people["alice"].Person, w.workspace, w.view(number).Request.ID); refusal.Code(err) != gate.CodeIncomplete {
		t.Errorf("a bundle without the act: %v", err)
	}
}
