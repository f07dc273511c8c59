package workspace_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// countersign asks for a countersignature in the name of somebody, and answers the proposal that was made instead.
func (w *world) countersign(by *signer, id []byte) store.Proposal {
	w.t.Helper()
	_, err := w.passkeys().PrepareCountersignature(w.t.Context(), by.Person, by.session, w.acme, id)
	return w.proposal(err)
}

// revoke is countersign of a revocation.
func (w *world) revoke(by *signer, id []byte, since *time.Time) store.Proposal {
	w.t.Helper()
	_, err := w.passkeys().PrepareMemberRevocation(w.t.Context(), by.Person, by.session, w.acme, id, since)
	return w.proposal(err)
}

// roster are the changes of the workspace's roster as its openings have them, with the acts that they rest on; a verifier
// accepts the roster.
func (w *world) roster(admin *signer) ([]evidence.RosterChange, map[evidence.Digest]evidence.Act) {
	w.t.Helper()
	g := &gate.Gate{Store: w.store, Role: w.Role}
	o := get(evidence.ParseOpenings(get(g.Openings(w.t.Context(), admin.Person, w.acme))(w.t)))(w.t)
	var changes []evidence.RosterChange
	for _, data := range o.Roster {
		changes = append(changes, get(evidence.ParseRosterChange(data))(w.t))
	}
	get(evidence.ReplayRoster(evidence.LeafDigest(o.Genesis), changes))(w.t)
	acts := map[evidence.Digest]evidence.Act{}
	for _, signed := range o.SignedActs {
		digest := get(signed.Digest())(w.t)
		if _, twice := acts[digest]; twice {
			w.t.Errorf("act %s is in the openings twice", digest)
		}
		acts[digest] = get(evidence.ParseAct(signed.Act))(w.t)
	}
	return changes, acts
}

// TestKeysOfMembersChangeBySignatures tells how a protected workspace vouches for a member's passkey, and takes it away.
func TestKeysOfMembersChangeBySignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob, carol, dave := w.signer("alice"), w.signer("bob"), w.signer("carol"), w.signer("dave")
	w.protected(2, []*signer{alice, bob, carol}, alice, bob)

	vouch := w.countersign(dave, bob.ids[0])
	if again := w.countersign(alice, bob.ids[0]); again.ID != vouch.ID {
		t.Error("the same was proposed twice")
	}
	view := get(w.Proposal(t.Context(), dave.Person, w.acme, vouch.ID))(t)
	if len(view.Asked) != 2 || view.Holder != bob.ID || !view.CanWithdraw || view.Quorum != 2 {
		t.Errorf("proposal %+v", view)
	}
	for _, who := range []*signer{bob, dave} {
		_, err := w.PrepareSignature(t.Context(), who.Person, who.session, w.acme, vouch.ID)
		refused(t, err, workspace.CodeNotAsked)
	}
	if mine := get(w.Proposal(t.Context(), bob.Person, w.acme, vouch.ID))(t); mine.CanWithdraw {
		t.Error("whose passkey it is could withdraw it")
	}
	before, _ := w.roster(alice)
	w.signed(vouch.ID, store.ProposalOpen, carol)
	if now, _ := w.roster(alice); len(now) != len(before)+1 || now[len(now)-1].Event != evidence.KeyAdded { // carol's own key came in
		t.Fatalf("after one signature the roster is %+v", now)
	}
	w.signed(vouch.ID, store.ProposalApplied, alice)
	changes, acts := w.roster(alice)
	last := changes[len(changes)-1]
	if last.Event != evidence.KeyCountersigned || last.By != evidence.ByCountersigner || len(last.Agreed) != 1 ||
		acts[last.Proof].Signer.Person != carol.ID || acts[last.Agreed[0].Proof].Signer.Person != alice.ID ||
		acts[last.Agreed[0].Proof].Purpose != evidence.Countersign || acts[last.Agreed[0].Proof].Key.Key.Person != bob.ID {
		t.Errorf("the roster's change %+v", last)
	}
	equal(t, "who countersigned", []string{get(w.passkeys().KeyActs(t.Context(), bob.Person))(t).Of("", bob.ids[0])[0].By}, []string{"Carol and Alice"})

	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	plain, stolen := w.revoke(alice, bob.ids[0], nil), w.revoke(dave, bob.ids[0], &since)
	if plain.ID == stolen.ID {
		t.Fatal("two revocations are one")
	}
	w.signed(stolen.ID, store.ProposalApplied, alice, carol)
	equal(t, "the other revocation", []string{w.state(plain.ID)}, []string{store.ProposalOutdated})
	changes, acts = w.roster(alice)
	last = changes[len(changes)-1]
	if last.Event != evidence.KeyRemoved || len(last.Agreed) != 1 || last.CompromisedSince == nil || !last.CompromisedSince.Equal(since) ||
		!acts[last.Agreed[0].Proof].Revocation.CompromisedSince.Equal(since) {
		t.Errorf("the roster's change %+v", last)
	}
	told := w.texts(`select sentence from signedapproval_notices where person_id = $1 order by created_at`, bob.ID)
	if last := told[len(told)-1]; !strings.HasPrefix(last, "Alice and Carol revoked ") {
		t.Errorf("bob was told %q", last)
	}
	// No revocation is the last word: an earlier time can still be said, by as many.
	earlier := since.Add(-time.Hour)
	_, err := w.passkeys().PrepareMemberRevocation(t.Context(), alice.Person, alice.session, w.acme, bob.ids[0], &since)
	refused(t, err, people.CodeRevoked)
	w.signed(w.revoke(alice, bob.ids[0], &earlier).ID, store.ProposalApplied, alice, carol)
	changes, _ = w.roster(alice)
	last = changes[len(changes)-1]
	if last.Event != evidence.KeyRemoved || len(last.Agreed) != 1 || last.CompromisedSince == nil || !last.CompromisedSince.Equal(earlier) {
		t.Errorf("the roster's change %+v", last)
	}
	told = w.texts(`select sentence from signedapproval_notices where person_id = $1 order by created_at`, bob.ID)
	if last := told[len(told)-1]; !strings.HasPrefix(last, "Alice and Carol signed ") {
		t.Errorf("bob was told %q", last)
	}
	// Everybody's own keys are theirs.
	key := get(w.passkeys().RevokePasskey(t.Context(), carol.Person, carol.ids[0]))(t)
	if key.RevokedAt == nil {
		t.Error("carol could not revoke her own")
	}
}

// TestARecoveryNeedsTheQuorum lets somebody lose every passkey of a protected workspace.
func TestARecoveryNeedsTheQuorum(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob, carol := w.signer("alice"), w.signer("bob"), w.signer("carol")
	w.protected(2, []*signer{alice, bob, carol}, alice, bob)
	get(w.passkeys().ReportLost(t.Context(), carol.Person))(t)
	waiting := w.waits(carol)
	p := w.countersign(alice, waiting)
	w.signed(p.ID, store.ProposalApplied, alice, bob)
	changes, acts := w.roster(alice)
	get(w.Roster(t.Context(), carol.Person, w.acme))(t)
	last := changes[len(changes)-1]
	if last.Event != evidence.KeyAdded || last.By != evidence.ByCountersigner || last.Key.Person != carol.ID || len(last.Agreed) != 1 ||
		acts[last.Agreed[0].Proof].Signer.Person != bob.ID {
		t.Errorf("the roster's change %+v", last)
	}
	carol.ids = append(carol.ids, waiting)
	w.signed(w.revoke(alice, bob.ids[0], nil).ID, store.ProposalApplied, alice, carol)
}

// waits makes a passkey of somebody who lost all: it waits for a countersigner.
func (w *world) waits(s *signer) []byte {
	w.t.Helper()
	before := len(s.keys)
	s.enrol()
	s.keys = s.keys[before:] // the others are lost
	id := s.ids[before]
	s.ids = nil
	return id
}

// TestWhatEndsAProposalAboutAKey shows that a proposal is not applied to a passkey for which it holds no more.
func TestWhatEndsAProposalAboutAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob, carol, dave := w.signer("alice"), w.signer("bob"), w.signer("carol"), w.signer("dave")
	w.protected(2, []*signer{alice, bob}, alice, bob)

	// Nobody signs for their own, and then too few are left.
	_, err := w.passkeys().PrepareMemberRevocation(t.Context(), dave.Person, dave.session, w.acme, bob.ids[0], nil)
	refused(t, err, workspace.CodeTooFew)

	own := w.countersign(alice, carol.ids[0])
	w.signed(own.ID, store.ProposalOpen, alice)
	get(w.passkeys().RevokePasskey(t.Context(), carol.Person, carol.ids[0]))(t)
	equal(t, "after its owner revoked it", []string{w.state(own.ID)}, []string{store.ProposalOutdated})
	open, _, err := w.Proposals(t.Context(), alice.Person, w.acme, true, store.Page{})
	must(t, err)
	if len(open) != 0 {
		t.Errorf("open proposals %+v", open)
	}
	_, err = w.PrepareSignature(t.Context(), bob.Person, bob.session, w.acme, own.ID)
	refused(t, err, workspace.CodeProposal)

	erin := w.signer("erin")
	left := w.countersign(dave, erin.ids[0])
	w.signed(left.ID, store.ProposalOpen, alice)
	response := bob.prepared(left.ID)
	get(w.sim.SetMembership(bitbucketsim.Membership{Workspace: "acme", Person: "erin"}))(t)
	_, err = bob.answer(response)
	refused(t, err, refusal.NotFound)
	equal(t, "after erin left", []string{w.state(left.ID)}, []string{store.ProposalOpen})
	if keys := get(w.passkeys().Passkeys(t.Context(), erin.Person))(t); len(keys.Countersignatures) != 0 {
		t.Error("who left was countersigned")
	}
	back := get(w.WithdrawProposal(t.Context(), dave.Person, w.acme, left.ID))(t)
	equal(t, "withdrawn", []string{back.State}, []string{store.ProposalWithdrawn})
}

// TestLastSignaturesForAKeyApplyOnce lets two people give the last signature at the same time, while the owner revokes it.
func TestLastSignaturesForAKeyApplyOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	alice, bob, carol, dave := w.signer("alice"), w.signer("bob"), w.signer("carol"), w.signer("dave")
	w.protected(2, []*signer{alice, bob, carol}, alice, bob)
	p := w.revoke(alice, dave.ids[0], nil)
	w.signed(p.ID, store.ProposalOpen, alice)
	last := map[*signer]string{bob: bob.prepared(p.ID), carol: carol.prepared(p.ID)}
	var (
		all     sync.WaitGroup
		mu      sync.Mutex
		applied int
	)
	for who, response := range last {
		all.Go(func() {
			view, err := who.answer(response)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && view.State == store.ProposalApplied {
				applied++
			} else if code := refusal.Code(err); code != workspace.CodeProposal {
				t.Errorf("the other one: %v", err)
			}
		})
	}
	all.Wait()
	changes, _ := w.roster(alice)
	removed := 0
	for _, c := range changes {
		if c.Event == evidence.KeyRemoved {
			removed++
			data, _ := json.Marshal(c)
			if len(c.Agreed) != 1 {
				t.Errorf("change %s", data)
			}
		}
	}
	equal(t, "applied and removed", []int{applied, removed}, []int{1, 1})
}
