package gate_test

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/tiles"
)

// TestAKeyThatTwoWorkspacesVouchFor: bob lost his keys and recovers by a countersigner in each of two workspaces. The server is honest.
func TestAKeyThatTwoWorkspacesVouchFor(t *testing.T) {
	w := newWorld(t)
	w.governed()
	alice, bob := w.people["alice"], w.people["bob"]
	other, role := w.twoWorkspaces()
	for _, workspace := range []string{w.workspace, other} {
		for _, p := range []*person{alice, bob} {
			_, err := w.gate.SyncRoster(t.Context(), workspace, p.ID)
			w.must(err)
		}
	}
	_, err := w.keys.ReportLost(t.Context(), bob.Person)
	w.must(err)
	fresh := w.made(bob)
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, w.workspace, fresh.ID))
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, other, fresh.ID))
	w.settle()
	w.gate.Role = role
	w.unalarming(w.workspace, other)

	// What becomes of the keys everywhere is followed by each roster: what bob revokes himself, and what the server does when it erases him.
	_, err = w.keys.RevokePasskey(t.Context(), bob.Person, fresh.ID)
	w.must(err)
	w.settle()
	w.unalarming(w.workspace, other)
	w.keys.Redact = w.gate.Redact
	_, err = w.keys.Erase(t.Context(), bob.AccountID)
	w.must(err)
	w.settle()
	w.unalarming(w.workspace, other)

	// Who was erased can come back, and is somebody else by then.
	back := &person{key: passkeytest.New(origin)}
	w.must(w.store.Outside(t.Context(), func(sh *store.Shared) (err error) {
		back.Person, err = sh.PutPerson(t.Context(), store.Person{AccountID: bob.AccountID, AccountUUID: bob.AccountUUID, Name: bob.Name})
		return err
	}))
	if back.ID == bob.ID {
		t.Fatal("it is the same person")
	}
	session := sha256.Sum256([]byte(back.ID))
	back.session = session[:]
	w.enrol(back)
	_, err = w.gate.SyncRoster(t.Context(), w.workspace, back.ID)
	w.must(err)
	w.unalarming(w.workspace, other)
}

// twoWorkspaces makes another workspace. Alice is the administrator of both, and everybody else a member.
func (w *world) twoWorkspaces() (other string, role func(context.Context, store.Person, string, bool) (store.Role, error)) {
	w.t.Helper()
	other = otherWorkspace
	alice := w.people["alice"]
	role = func(_ context.Context, p store.Person, workspace string, _ bool) (store.Role, error) {
		if p.ID == alice.ID {
			return store.RoleAdmin, nil
		}
		return store.RoleMember, nil
	}
	w.keys.Role = role
	w.must(w.store.InWorkspace(w.t.Context(), other, func(tx *store.Tx) error {
		if _, _, err := tx.PutWorkspace(w.t.Context(), "other", "Other"); err != nil {
			return err
		}
		return w.genesis(tx)
	}))
	w.sql(`insert into signedapproval_memberships (person_id, workspace_id, role)
		select id, $1::uuid, case when id = $2::uuid then 'ADMIN' else 'MEMBER' end from signedapproval_people`, other, alice.ID)
	return other, role
}

// TestTheFirstKeyComesFirst: bob enrolled a second key and revoked his first, carol lost hers and recovered, and the clock of the database
// went back in between. What a roster says of them begins with the one key that rests on a log-in.
func TestTheFirstKeyComesFirst(t *testing.T) {
	w := newWorld(t)
	w.governed()
	other, role := w.twoWorkspaces()
	alice, bob, carol := w.people["alice"], w.people["bob"], w.people["carol"]
	w.sql(`update signedapproval_credentials set enrolled_at = now() + interval '1 hour' where person_id in ($1, $2)`, bob.ID, carol.ID)
	var first []store.Credential
	w.must(w.store.Outside(t.Context(), func(sh *store.Shared) (err error) {
		first, err = sh.Credentials(t.Context(), bob.ID)
		return err
	}))
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	_, err := w.keys.RevokePasskey(t.Context(), bob.Person, first[0].ID)
	w.must(err)
	_, err = w.keys.ReportLost(t.Context(), carol.Person)
	w.must(err)
	fresh := w.made(carol)
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, w.workspace, fresh.ID))
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, other, fresh.ID))
	for _, workspace := range []string{w.workspace, other} {
		for _, p := range []*person{carol, bob} {
			_, err := w.gate.SyncRoster(t.Context(), workspace, p.ID)
			w.must(err)
		}
		w.must(w.store.InWorkspace(t.Context(), workspace, func(tx *store.Tx) error {
			roster, err := tx.WholeRoster(t.Context())
			if err != nil {
				return err
			}
			by := map[string]string{}
			for _, key := range roster.Keys() {
				by[key.Key.Person] += string(key.By)
				if live := key.LiveAt(roster.Versions()); live == (key.By == evidence.ByLogIn && key.Key.Person != alice.ID) {
					t.Errorf("workspace %s: %s key of %s counts: %v", workspace, key.By, key.Key.Person, live)
				}
			}
			if by[bob.ID] != "bitbucket-loginown-key" || by[carol.ID] != "bitbucket-logincountersigner" {
				t.Errorf("workspace %s: %v", workspace, by)
			}
			return nil
		}))
	}
	w.settle()
	w.gate.Role = role
	w.unalarming(w.workspace, other)
}

// TestWhatWasRevokedBeforeItCameIn: bob recovers in another workspace, has the new key sign for a further one, that for a third one, and revokes
// it. When the first is vouched for in this one too, it takes all of that in at once: no roster counts a key that the log revokes.
func TestWhatWasRevokedBeforeItCameIn(t *testing.T) {
	w := newWorld(t)
	w.governed()
	other, role := w.twoWorkspaces()
	alice, bob := w.people["alice"], w.people["bob"]
	_, err := w.keys.ReportLost(t.Context(), bob.Person)
	w.must(err)
	fresh := w.made(bob)
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, other, fresh.ID))
	w.enrolled[bob.ID], bob.key = bob.key, passkeytest.New(origin)
	w.enrol(bob)
	further := w.keyID(bob)
	bob.key = passkeytest.New(origin)
	w.enrol(bob) // by the further one
	_, err = w.keys.RevokePasskey(t.Context(), bob.Person, further)
	w.must(err)
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, w.workspace, fresh.ID))
	if key, found := w.roster().Key(further); !found || key.Removed == 0 {
		t.Errorf("the roster has it: %v; and counts it: %v", found, key.Removed == 0)
	}
	if key, found := w.roster().Key(w.keyID(bob)); !found || key.Removed != 0 {
		t.Errorf("the roster has the key for which that one had signed: %v", found)
	}
	w.settle()
	w.gate.Role = role
	w.unalarming(w.workspace, other)
}

// TestAKeyThatARevokedOneSignedForCanBeVouchedFor: the workspace revoked bob's key, which counts elsewhere still. He enrols a further one by it,
// which counts for nothing here, until alice vouches for that.
func TestAKeyThatARevokedOneSignedForCanBeVouchedFor(t *testing.T) {
	w := newWorld(t)
	w.governed()
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	alice, bob := w.people["alice"], w.people["bob"]
	w.decides(number, "bob", approval.Approve)
	w.vouch(w.keys.PrepareMemberRevocation(t.Context(), alice.Person, alice.session, w.workspace, w.keyID(bob), nil))
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	w.settle()
	if _, err := w.decide(number, "bob", approval.Withdraw); err == nil {
		t.Error("a key that a revoked one signed for decides")
	}
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, w.workspace, w.keyID(bob)))
	if key, found := w.roster().Key(w.keyID(bob)); !found || key.By != evidence.ByCountersigner {
		t.Errorf("the roster has it: %v, by %s", found, key.By)
	}
	w.decides(number, "bob", approval.Withdraw)
}

// unalarming has a monitor follow the log for each of some workspaces, when everything was due that follows from something. Alice reads
// their openings, and there must be nothing but notices.
func (w *world) unalarming(workspaces ...string) {
	w.t.Helper()
	w.must(w.gate.Publish(w.t.Context(), 0, 0))
	mux := http.NewServeMux()
	mux.Handle(tiles.Prefix, tiles.New(w.store, []string{w.logKey}, slog.New(slog.DiscardHandler)))
	mux.HandleFunc("GET /workspaces/{workspace}/openings", func(rw http.ResponseWriter, r *http.Request) {
		openings, err := w.gate.Openings(r.Context(), w.people["alice"].Person, r.PathValue("workspace"))
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = rw.Write(openings)
	})
	face := httptest.NewServer(mux)
	defer face.Close()
	client, err := monitor.NewClient(face.URL, "", nil)
	w.must(err)
	for _, workspace := range workspaces {
		state, err := monitor.OpenState(w.t.TempDir(), false)
		w.must(err)
		now := time.Now().Add(2 * time.Hour)
		m, err := monitor.New(monitor.Options{
			Client: client, State: state, Late: time.Hour, Workspace: workspace, Now: func() time.Time { return now },
			Anchors: evidence.Anchors{
				RelyingParties: []evidence.RelyingParty{{ID: rpID, Origin: origin}},
				Log:            &evidence.LogAnchor{Origin: rpID + "/log", Keys: []string{w.logKey}},
				Witnesses:      &evidence.WitnessPolicy{},
			},
			Tell: func(f monitor.Finding) error {
				if !f.Notice {
					w.t.Errorf("workspace %s: %v", workspace, f)
				} else {
					w.t.Log(workspace, f)
				}
				return nil
			},
		})
		w.must(err)
		w.must(m.Pass(w.t.Context()))
		now = now.Add(2 * time.Hour) // what may come later had its time
		w.must(m.Pass(w.t.Context()))
		w.must(state.Close())
	}
}
