package gate_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// prepared is a statement that waits for its signature.
func (w *world) prepared(number int64, who string, action approval.Action) (requestID string, options []byte) {
	w.t.Helper()
	draft, err := w.draft(number, who, action)
	w.must(err)
	p := w.people[who]
	made, err := w.gate.Prepare(w.t.Context(), p.Person, p.session, draft)
	w.must(err)
	return draft.RequestID, made.Options
}

func (w *world) signed(key *passkeytest.Authenticator, options []byte) []byte {
	w.t.Helper()
	answer, err := key.Get(options)
	w.must(err)
	return answer
}

// refused makes sure that a decision was refused with a code, and that nothing was decided.
func (w *world) refused(what string, err error, codes ...string) {
	w.t.Helper()
	for _, code := range codes {
		if refusal.Code(err) == code {
			return
		}
	}
	w.t.Errorf("%s: %v, want %v", what, err, codes)
}

func (w *world) decided() (n int) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error {
		open, err := tx.OpenPullRequests(w.t.Context(), "", "")
		for _, pr := range open {
			made, err := tx.Decisions(w.t.Context(), pr.ID)
			if err != nil {
				return err
			}
			n += len(made)
		}
		return err
	})
	return n
}

// without makes options that any key of the device may answer.
func without(t *testing.T, options []byte, field string) []byte {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(options, &o); err != nil {
		t.Fatal(err)
	}
	delete(o, field)
	out, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestForeignSignatures submits what another person, session, request or ceremony was asked for.
func TestForeignSignatures(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	bob, carol := w.people["bob"], w.people["carol"]
	decide := func(p *person, session []byte, request string, answer []byte) error {
		_, err := w.gate.Decide(ctx, p.Person, session, w.workspace, request, answer)
		return err
	}

	request, options := w.prepared(number, "bob", approval.Approve)
	answer := w.signed(bob.key, options)
	w.refused("another person submits it", decide(carol, carol.session, request, answer), gate.CodeChallenge)
	w.refused("another person in bob's session", decide(carol, bob.session, request, answer), gate.CodeChallenge)
	w.refused("bob in another session", decide(bob, carol.session, request, answer), gate.CodeChallenge)
	w.refused("bob in no session", decide(bob, nil, request, answer), gate.CodeChallenge)
	w.refused("a request that does not exist", decide(bob, bob.session, "11111111-2222-4333-8444-555555555555", answer), refusal.NotFound)
	w.refused("no id", decide(bob, bob.session, "x", answer), refusal.NotFound)
	_, err := w.gate.Decide(ctx, bob.Person, bob.session, "11111111-2222-4333-8444-555555555555", request, answer)
	w.refused("another workspace", err, refusal.NotFound)

	// The key of another person, over bob's own statement.
	foreign := w.signed(carol.key, without(t, options, "allowCredentials"))
	w.refused("signed by another person's key", decide(bob, bob.session, request, foreign), gate.CodeAssertion)
	w.refused("the same challenge again", decide(bob, bob.session, request, answer), gate.CodeChallenge)

	// The credential id of bob's key on a signature of carol's.
	request, options = w.prepared(number, "bob", approval.Approve)
	var own, other map[string]any
	w.must(json.Unmarshal(w.signed(bob.key, options), &own))
	w.must(json.Unmarshal(w.signed(carol.key, without(t, options, "allowCredentials")), &other))
	other["id"], other["rawId"] = own["id"], own["rawId"]
	mixed, err := json.Marshal(other)
	w.must(err)
	w.refused("bob's credential id on carol's signature", decide(bob, bob.session, request, mixed), gate.CodeAssertion)

	// A challenge of an enrolment does not decide.
	creation, session, err := w.ceremonies.BeginRegistration(passkey.User{ID: []byte(bob.ID), Name: "bob", DisplayName: "bob"}, nil)
	w.must(err)
	var begun struct {
		Challenge evidence.Bytes `json:"challenge"`
	}
	w.must(json.Unmarshal(creation, &begun))
	w.must(w.store.Outside(ctx, func(sh *store.Shared) error {
		_, err := sh.InsertChallenge(ctx, store.Challenge{
			Challenge: begun.Challenge, Kind: store.ChallengeRegister, PersonID: bob.ID, SessionHash: bob.session, Data: session,
		}, time.Minute)
		return err
	}))
	get := strings.Replace(string(options), strings.Split(strings.Split(string(options), `"challenge":"`)[1], `"`)[0], begun.Challenge.String(), 1)
	w.refused("the challenge of an enrolment", decide(bob, bob.session, request, w.signed(bob.key, []byte(get))), gate.CodeChallenge)

	// A challenge that nobody gave out.
	made := make([]byte, 32)
	_, _ = rand.Read(made)
	invented := strings.Replace(get, begun.Challenge.String(), base64.RawURLEncoding.EncodeToString(made), 1)
	w.refused("an invented challenge", decide(bob, bob.session, request, w.signed(bob.key, []byte(invented))), gate.CodeChallenge)

	// Another page, a frame, no touch, no verification.
	for name, change := range map[string]func(*passkeytest.Authenticator){
		"another origin":  func(a *passkeytest.Authenticator) { a.Origin = "https://approvals.example.evil" },
		"no touch":        func(a *passkeytest.Authenticator) { a.NoUserPresence = true },
		"no verification": func(a *passkeytest.Authenticator) { a.NoUserVerification = true },
		"backup flags":    func(a *passkeytest.Authenticator) { a.BackupEligible = true },
		"a frame": func(a *passkeytest.Authenticator) {
			a.RewriteClientData = func(b []byte) []byte {
				return bytes.Replace(b, []byte(`{`), []byte(`{"topOrigin":"https://bitbucket.org",`), 1)
			}
		},
		"a challenge given twice": func(a *passkeytest.Authenticator) {
			a.RewriteClientData = func(b []byte) []byte {
				return bytes.Replace(b, []byte(`{`), []byte(`{"challenge":"AAAA",`), 1)
			}
		},
	} {
		request, options := w.prepared(number, "bob", approval.Approve)
		change(bob.key)
		answer := w.signed(bob.key, options)
		bob.key.Origin, bob.key.NoUserPresence, bob.key.NoUserVerification, bob.key.BackupEligible, bob.key.RewriteClientData = origin, false, false, false, nil
		w.refused(name, decide(bob, bob.session, request, answer), gate.CodeAssertion)
	}

	// A revoked key, also one that was revoked after the signature.
	request, options = w.prepared(number, "bob", approval.Approve)
	answer = w.signed(bob.key, options)
	w.sql(`update signedapproval_credentials set revoked_at = now(), revoked_by = 'operator' where person_id = $1`, bob.ID)
	w.refused("a key that was revoked meanwhile", decide(bob, bob.session, request, answer), gate.CodeRevokedKey)
	w.sql(`update signedapproval_credentials set revoked_at = null, revoked_by = null`)

	// A statement that was asked for too long ago.
	request, options = w.prepared(number, "bob", approval.Approve)
	w.sql(`update signedapproval_challenges set expires_at = now() - interval '1 second'`)
	w.refused("too late", decide(bob, bob.session, request, w.signed(bob.key, options)), gate.CodeChallenge)

	// The permission is lost between the two.
	request, options = w.prepared(number, "bob", approval.Approve)
	w.rights[bob.ID] = bitbucket.PermissionNone
	w.refused("without permission", decide(bob, bob.session, request, w.signed(bob.key, options)), refusal.NotFound)
	w.rights[bob.ID] = bitbucket.PermissionWrite

	if n := w.decided(); n != 0 {
		t.Errorf("%d decisions were made", n)
	}
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "INPROGRESS", "0 of 2 approvals; waiting for Bob or Carol")
}

// TestStatementsOfAnotherRequest submits a signature over a statement about one pull request to another.
func TestStatementsOfAnotherRequest(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	first := w.open()
	_, err := w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: "feature/other", Person: "alice", Files: map[string]string{"other.txt": "other\n"}})
	w.must(err)
	opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Other", Source: "feature/other", Destination: release})
	w.must(err)
	second := int64(opened.ID)
	w.event(second)
	w.settle()
	bob := w.people["bob"]
	_, options := w.prepared(first, "bob", approval.Approve)
	other := w.view(second).Request.ID
	_, err = w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, other, w.signed(bob.key, options))
	w.refused("the statement of another request", err, gate.CodeChallenge)
	if n := w.decided(); n != 0 {
		t.Errorf("%d decisions were made", n)
	}
}

// TestNobodyDecidesBehindTheirOwnBack has somebody sign in one tab what they were asked before they decided in another one: the later
// decision would take back what they said last, which they were not shown.
func TestNobodyDecidesBehindTheirOwnBack(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	request, options := w.prepared(number, "bob", approval.Approve)
	w.decides(number, "bob", approval.Reject)
	w.decides(number, "bob", approval.Withdraw)
	bob := w.people["bob"]
	_, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, request, w.signed(bob.key, options))
	w.refused("what was asked before", err, gate.CodeHeadChanged)
	w.decides(number, "bob", approval.Approve)
	w.settle()
	if state, sentence := w.shown(number, w.view(number).PullRequest.HeadCommit); state != "SUCCESSFUL" {
		t.Errorf("the status is %s: %s", state, sentence)
	}
}

// TestTheWorldMovesBetweenPrepareAndDecide changes what was asked after the statement was made. Nothing
// that was signed for something else may turn the status green.
func TestTheWorldMovesBetweenPrepareAndDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		move  func(w *world, number int64)
		codes []string
	}{
		"a push": {func(w *world, number int64) { w.push("src/nozzle.go", "package evil\n"); w.event(number); w.settle() }, []string{gate.CodeSuperseded, gate.CodeHeadChanged}},
		"a push and back": {func(w *world, number int64) {
			old := w.view(number).PullRequest.HeadCommit
			w.push("src/nozzle.go", "package evil\n")
			w.event(number)
			w.settle()
			w.rewind(feature, old)
			w.event(number)
			w.settle()
		}, []string{gate.CodeSuperseded, gate.CodeHeadChanged}},
		"another rule":         {func(w *world, _ int64) { w.save(w.rule(1, "bob", "carol")); w.settle() }, []string{gate.CodeSuperseded, gate.CodeHeadChanged}},
		"no approver any more": {func(w *world, _ int64) { w.save(w.rule(1, "carol")); w.settle() }, []string{gate.CodeSuperseded, gate.CodeHeadChanged}},
		"retargeted": {func(w *world, number int64) {
			w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
			w.event(number)
			w.settle()
		}, []string{gate.CodeSuperseded, gate.CodeNotOpen, gate.CodeHeadChanged}},
		"declined": {func(w *world, number int64) { w.post(number, "decline", nil); w.event(number); w.settle() }, []string{gate.CodeSuperseded, gate.CodeNotOpen, gate.CodeHeadChanged}},
		"expired": {func(w *world, _ int64) {
			w.sql(`update signedapproval_approval_requests set expires_at = now() - interval '1 minute'`)
			w.sql(`update signedapproval_jobs set run_at = now() where kind = 'evaluate'`)
			w.settle()
		}, []string{gate.CodeExpired}},
		"cancelled": {func(w *world, _ int64) {
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
			_, err := w.gate.Cancel(w.t.Context(), w.workspace, w.repository, "the repository was removed")
			w.must(err)
		}, []string{gate.CodeSuperseded, gate.CodeNotOpen, gate.CodeHeadChanged}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob"))
			number := w.open()
			w.settle()
			request, options := w.prepared(number, "bob", approval.Approve)
			if name == "cancelled" { // nobody works here while Cancel waits for the statuses
				done := make(chan struct{})
				go func() { defer close(done); c.move(w, number) }()
				for open := true; open; {
					select {
					case <-done:
						open = false
					default:
						for _, ring := range w.due() {
							_ = w.do(ring)
						}
					}
				}
			} else {
				c.move(w, number)
			}
			bob := w.people["bob"]
			_, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, request, w.signed(bob.key, options))
			w.refused(name, err, c.codes...)
			w.drainAll()
			head := w.view(number).PullRequest.HeadCommit
			if state, sentence := w.shown(number, head); state == "SUCCESSFUL" {
				t.Errorf("the status is %s: %s", state, sentence)
			}
		})
	}
}

// TestWhatWasNotSeenYetCountsForNothing changes the world without telling the gate, which then takes the
// decision; the evaluation that follows must not count it for what it was not signed for.
func TestWhatWasNotSeenYetCountsForNothing(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]func(w *world, number int64){
		"a push":       func(w *world, _ int64) { w.push("src/nozzle.go", "package evil\n") },
		"another rule": func(w *world, _ int64) { w.save(w.rule(1, "bob", "carol")) },
		"retargeted": func(w *world, number int64) {
			w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
		},
		"expired": func(w *world, _ int64) {
			w.sql(`update signedapproval_approval_requests set expires_at = now() - interval '1 minute'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			main := w.rule(1, "bob")
			main.Name, main.Branches = "Main", []string{"main"}
			w.save(w.rule(1, "bob"), main)
			number := w.open()
			w.settle()
			request, options := w.prepared(number, "bob", approval.Approve)
			move(w, number)
			bob := w.people["bob"]
			_, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, request, w.signed(bob.key, options))
			if name == "expired" { // which the gate can tell by itself
				w.refused(name, err, gate.CodeExpired)
			} else {
				w.must(err)
			}
			w.drainAll()
			v := w.view(number)
			state, sentence := w.shown(number, v.PullRequest.HeadCommit)
			if state == "SUCCESSFUL" {
				t.Errorf("the status of %s is %s: %s (decision: %v)", v.PullRequest.HeadCommit, state, sentence, err)
			}
		})
	}
}

// TestOneSignatureMakesOneDecision submits one answer many times at once, and different decisions of one
// person at once.
func TestOneSignatureMakesOneDecision(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	request, options := w.prepared(number, "bob", approval.Approve)
	answer := w.signed(bob.key, options)
	_, again := w.prepared(number, "bob", approval.Approve)
	_, reject := w.prepared(number, "bob", approval.Reject)
	answers := [][]byte{answer, answer, answer, answer, w.signed(bob.key, again), w.signed(bob.key, reject)}
	var all sync.WaitGroup
	results := make([]error, len(answers))
	for i, a := range answers {
		all.Go(func() { _, results[i] = w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, request, a) })
	}
	all.Wait()
	made := 0
	for _, err := range results {
		if err == nil {
			made++
		} else {
			w.refused("a decision too many", err, gate.CodeChallenge, gate.CodeAlreadyDecided)
		}
	}
	if made != 1 || w.decided() != 1 {
		t.Errorf("%d submissions succeeded, %d decisions were made: %v", made, w.decided(), results)
	}
	w.settle()
}

// TestTwoKeysAreOnePerson approves twice with two keys of one person.
func TestTwoKeysAreOnePerson(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	bob := w.people["bob"]
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	_, err := w.decide(number, "bob", approval.Approve)
	w.refused("a second key", err, gate.CodeAlreadyDecided)
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "INPROGRESS", "1 of 2 approvals; waiting for Carol")
}

// TestCopiedAuthenticatorsAreNoticed lets two copies of one key with a counter sign at the same time.
func TestCopiedAuthenticatorsAreNoticed(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	bob.key.Counts = true
	w.decides(number, "bob", approval.Approve) // counter 1
	w.settle()
	request, options := w.prepared(number, "bob", approval.Withdraw)
	answer := w.signed(bob.key, options) // counter 2
	w.sql(`update signedapproval_credentials set sign_count = 2 where person_id = $1`, bob.ID)
	_, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, request, answer)
	w.refused("a counter that stood", err, gate.CodeCounter)

	// Two at once, both above what is stored: the row is written once.
	w.sql(`update signedapproval_credentials set sign_count = 1 where person_id = $1`, bob.ID)
	key := w.keyID(bob)
	var all sync.WaitGroup
	failed := make([]error, 2)
	for i := range failed {
		all.Go(func() {
			failed[i] = w.store.Outside(t.Context(), func(sh *store.Shared) error { return sh.UseCredential(t.Context(), key, 5, false) })
		})
	}
	all.Wait()
	if (failed[0] == nil) == (failed[1] == nil) {
		t.Errorf("two uses with one counter: %v", failed)
	}
}

func (w *world) keyID(p *person) (id []byte) {
	w.t.Helper()
	w.must(w.store.Outside(w.t.Context(), func(sh *store.Shared) error {
		keys, err := sh.Credentials(w.t.Context(), p.ID)
		if err == nil {
			id = keys[0].ID
		}
		return err
	}))
	return id
}

// TestEveryBundleVerifies decides faster than the gate evaluates: the bundle of whatever verdict stands
// in the end must hold.
func TestEveryBundleVerifies(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.decides(number, "carol", approval.Reject)
	w.decides(number, "carol", approval.Withdraw)
	v := w.view(number)
	_, err := w.gate.Bundle(t.Context(), w.people["bob"].Person, w.workspace, v.Request.ID)
	w.refused("a bundle before the tally", err, refusal.Busy)
	w.settle()
	w.expect(number, v.PullRequest.HeadCommit, "SUCCESSFUL", "approved by Bob")
	bundle, err := w.gate.Bundle(t.Context(), w.people["bob"].Person, w.workspace, v.Request.ID)
	w.must(err)
	if report := evidence.Verify(bundle, evidence.Anchors{}); report.ExitCode() == 1 {
		t.Errorf("the bundle: %s", report.Sentence())
	}
}
