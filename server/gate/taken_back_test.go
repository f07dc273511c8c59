package gate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// autoMerge makes the only rule one that bob alone has to approve by, and that merges then.
func (w *world) autoMerge() {
	w.t.Helper()
	rule := w.rule(1, "bob", "carol")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
}

// approvedBut opens a pull request that bob approves, and does all that follows but one kind of jobs.
func (w *world) approvedBut(kind string) (number int64) {
	w.t.Helper()
	number = w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.allBut(kind)
	return number
}

// writesNothing does the one status that is due, and makes sure that it is put off and Bitbucket is told nothing.
func (w *world) writesNothing() {
	w.t.Helper()
	before := w.calls("POST", "/statuses/build$")
	done, failed := w.only(store.KindStatus)
	if done != 1 || len(failed) != 1 || !strings.Contains(failed[0].Error(), "does not hold at the moment") {
		w.t.Fatalf("%d statuses were due, failed: %v", done, failed)
	}
	if n := w.calls("POST", "/statuses/build$") - before; n != 0 {
		w.t.Errorf("%d statuses were written", n)
	}
}

// TestNothingTurnsGreenThatWasTakenBack lets the status be written first after the approval was taken back in one of
// several ways, before any evaluation could tell.
func TestNothingTurnsGreenThatWasTakenBack(t *testing.T) {
	t.Parallel()
	for name, takeBack := range map[string]func(w *world, number int64){
		"withdrawn":    func(w *world, number int64) { w.decides(number, "bob", approval.Withdraw) },
		"rejected":     func(w *world, number int64) { w.decides(number, "carol", approval.Reject) },
		"another rule": func(w *world, _ int64) { w.save(w.rule(2, "bob", "carol")) },
		"no longer gated": func(w *world, _ int64) {
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
		},
		"its key reported stolen": func(w *world, _ int64) { w.reportsStolen("bob") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob", "carol"))
			number := w.approvedBut(store.KindStatus)
			if v := w.view(number); v.Request.State != store.RequestApproved || v.Status == nil || v.Status.Paid() {
				t.Fatalf("the request is %s, its status %+v", v.Request.State, v.Status)
			}
			takeBack(w, number)
			w.writesNothing()
			w.drainAll()
			if state, sentence := w.shown(number, w.view(number).PullRequest.HeadCommit); state == "SUCCESSFUL" {
				t.Errorf("it turned green: %s", sentence)
			}
		})
	}
}

// TestWhatWasTakenBackAndGivenAgainTurnsGreen: a green status that did not hold for a moment is written when it does.
func TestWhatWasTakenBackAndGivenAgainTurnsGreen(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.approvedBut(store.KindStatus)
	w.decides(number, "bob", approval.Withdraw)
	w.writesNothing()
	w.decides(number, "bob", approval.Approve)
	w.drainAll()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "SUCCESSFUL", "approved by Bob")
}

// TestAnOverrideThatWasTakenBackDoesNotTurnGreen: the same holds for what stands in for an approval.
func TestAnOverrideThatWasTakenBackDoesNotTurnGreen(t *testing.T) {
	w := newWorld(t)
	w.save(w.breakable(1, "carol"))
	number := w.open()
	w.settle()
	w.overrides(number, "carol")
	w.allBut(store.KindStatus)
	w.decides(number, "carol", approval.Withdraw)
	w.writesNothing()
	w.overrides(number, "carol")
	w.drainAll()
	if state, sentence := w.shown(number, w.view(number).PullRequest.HeadCommit); state != "SUCCESSFUL" {
		t.Errorf("it is %s: %s", state, sentence)
	}
}

// losesTheCall lets the next call of a merge fail, so that nobody knows whether it arrived.
func (w *world) losesTheCall() {
	w.t.Helper()
	w.wire.Set(fault.Trap{On: fault.Calls("POST", `/merge$`), Mishap: fault.Failed})
	if done, failed := w.only(store.KindMerge); done != 1 || len(failed) != 1 {
		w.t.Fatalf("%d merges were called, failed: %v", done, failed)
	}
	if w.wire.Clear() != 1 {
		w.t.Fatal("the call was not lost")
	}
}

// landsWhile has Bitbucket merge while somebody decides: the pull request was still open when the decision was about to be
// stored. who may be "", for nobody.
func (w *world) landsWhile(number int64, who string, action approval.Action) {
	w.t.Helper()
	if who == "" {
		w.land(number)
		return
	}
	w.wire.Set(fault.Trap{On: fault.Commits("insert into signedapproval_decisions"), Mishap: fault.Slow, Meanwhile: func() { w.land(number) }})
	w.decides(number, who, action)
	if w.wire.Clear() != 1 {
		w.t.Fatal("it was not merged meanwhile")
	}
}

// TestTakenBackWhileItIsMerged lets a decision, which was asked for before, come between Bitbucket's merge and the moment
// when the gate sees it.
func TestTakenBackWhileItIsMerged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		who    string
		action approval.Action
		rule   bool // and another rule is in force by then
		kind   string
	}{
		"nothing":                       {kind: store.MergeSeenApproved},
		"another rule":                  {rule: true, kind: store.MergeSeenApproved},
		"one more approval":             {who: "carol", action: approval.Approve, kind: store.MergeSeenApproved},
		"withdrawn":                     {who: "bob", action: approval.Withdraw, kind: store.MergeSeenViolation},
		"rejected":                      {who: "carol", action: approval.Reject, kind: store.MergeSeenViolation},
		"withdrawn, under another rule": {who: "bob", action: approval.Withdraw, rule: true, kind: store.MergeSeenViolation},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.losesTheCall()
			w.landsWhile(number, c.who, c.action)
			anchors := w.anchors()
			if c.rule {
				w.save(w.rule(2, "bob", "carol"))
			}
			w.drainAll()
			v, seen := w.view(number), w.merged(number)
			if seen.Kind != c.kind {
				t.Errorf("it is on record as merged %s: %s", seen.Kind, seen.Sentence)
			}
			want := store.RequestApproved
			if c.kind == store.MergeSeenViolation {
				want = store.RequestCancelled
				if !strings.Contains(seen.Sentence, "while an approval that its rule asks for was being taken back") {
					t.Errorf("it says: %s", seen.Sentence)
				}
				w.alarmed(store.AlarmMergedUnapproved)
			}
			if v.Request.State != want || v.PullRequest.State != "MERGED" {
				t.Errorf("the pull request is %s, its request %s", v.PullRequest.State, v.Request.State)
			}
			if v.Merge == nil || v.Merge.State != store.MergeMerged {
				t.Errorf("its merge is %+v", v.Merge)
			}
			if report := evidence.Verify(w.bundle(number), anchors); report.ExitCode() != 0 {
				t.Errorf("the bundle: %s", report.Sentence())
			}
		})
	}
}

// TestNothingBecomesBetterByAMergeThatWasSeenLate: an approval that came after the merge, and before the gate saw it, does
// not make the merge an approved one.
func TestNothingBecomesBetterByAMergeThatWasSeenLate(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	w.landsWhile(number, "bob", approval.Approve)
	w.drainAll()
	if seen := w.merged(number); seen.Kind != store.MergeSeenViolation {
		t.Errorf("it is on record as merged %s: %s", seen.Kind, seen.Sentence)
	}
	if state, sentence := w.shown(number, w.view(number).PullRequest.HeadCommit); state == "SUCCESSFUL" {
		t.Errorf("it turned green: %s", sentence)
	}
}

// TestAMergeOfSomethingElseIsNotThisOne has Bitbucket merge another head, or into another branch, than the call was about
// whose outcome the gate does not know.
func TestAMergeOfSomethingElseIsNotThisOne(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"merge_commit", "squash"} {
		t.Run("another head, "+strategy, func(t *testing.T) {
			w := newWorld(t)
			rule := w.rule(1, "bob", "carol")
			rule.AutoMerge = &approval.AutoMerge{Strategy: strategy}
			w.save(rule)
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.allBut(store.KindMerge)
			first := w.view(number).PullRequest.HeadCommit
			w.losesTheCall()
			second := w.push("second.txt", "second")
			w.event(number)
			w.allBut(store.KindMerge)
			w.decides(number, "bob", approval.Approve)
			w.allBut(store.KindMerge)
			w.land(number)
			w.drainAll()
			w.onlyOne(number, first, second, "not merged: the pull request was merged at another commit, "+second[:12])
			if seen := w.merged(number); seen.Kind != store.MergeSeenApproved || seen.HeadCommit != second {
				t.Errorf("it is on record as merged %s at %s", seen.Kind, seen.HeadCommit)
			}
			w.check(true)
		})
	}
	t.Run("another head that nobody approved", func(t *testing.T) {
		w := newWorld(t)
		w.autoMerge()
		number := w.approvedBut(store.KindMerge)
		first := w.view(number).PullRequest.HeadCommit
		w.losesTheCall()
		second := w.push("second.txt", "second")
		w.land(number)
		w.drainAll()
		w.onlyOne(number, first, "", "not merged: the pull request was merged at another commit, "+second[:12])
		if seen := w.merged(number); seen.Kind != store.MergeSeenViolation || seen.HeadCommit != second {
			t.Errorf("it is on record as merged %s at %s", seen.Kind, seen.HeadCommit)
		}
	})
	t.Run("another branch", func(t *testing.T) {
		w := newWorld(t)
		w.autoMerge()
		number := w.approvedBut(store.KindMerge)
		head := w.view(number).PullRequest.HeadCommit
		w.losesTheCall()
		w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
		w.land(number)
		w.drainAll()
		w.onlyOne(number, head, "", "not merged: the pull request was merged into another branch, main")
		if seen := w.merged(number); seen.Kind != store.MergeSeenViolation {
			t.Errorf("it is on record as merged %s: %s", seen.Kind, seen.Sentence)
		}
	})
}

// onlyOne makes sure that the intent for one head was refused, and that of the other, if there is one, was carried out.
func (w *world) onlyOne(number int64, refused, merged, sentence string) {
	w.t.Helper()
	id := w.view(number).PullRequest.ID
	w.in(func(tx *store.Tx) error {
		intent, err := tx.Merge(w.t.Context(), id, refused)
		if err != nil {
			return err
		}
		if intent.State != store.MergeRefused || intent.Sentence != sentence || intent.MergeCommit != "" {
			w.t.Errorf("the first is %s: %q, %q", intent.State, intent.Sentence, intent.MergeCommit)
		}
		if merged == "" {
			return nil
		}
		other, err := tx.Merge(w.t.Context(), id, merged)
		if err == nil && (other.State != store.MergeMerged || other.MergeCommit == "") {
			w.t.Errorf("the second is %s: %q", other.State, other.Sentence)
		}
		return err
	})
}

// TestAWorkerThatLostItsLeaseMergesNothing: it could not put on record what it called for, and nobody would look after it.
func TestAWorkerThatLostItsLeaseMergesNothing(t *testing.T) {
	w := newWorld(t)
	w.autoMerge()
	number := w.approvedBut(store.KindMerge)
	var merge store.Ring
	for _, ring := range w.due() {
		merge = ring
	}
	slow, ok, err := w.store.ClaimJob(t.Context(), merge.ID, uuid.NewString(), time.Minute)
	w.must(err)
	if !ok {
		t.Fatal("the job cannot be claimed")
	}
	w.expireLeases()
	w.decides(number, "bob", approval.Withdraw)
	w.onlyAll(store.KindMerge) // by another worker, which lets go
	w.decides(number, "bob", approval.Approve)
	if err := w.gate.Merge(t.Context(), slow); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("the worker that slept: %v", err)
	}
	if n := w.calls("POST", `/merge$`); n != 0 {
		t.Errorf("it called for %d merges", n)
	}
	w.untilMerged(number)
	if n := w.merges(); n != 1 {
		t.Errorf("%d merge commits landed", n)
	}
	w.check(true)
}

// TestNothingTurnsGreenThatIsNotPublicYet takes an approval back and gives it again, the second time while the status is
// about to turn green: it would rest on a decision that no verdict on record does, and that a crash could take away.
func TestNothingTurnsGreenThatIsNotPublicYet(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.approvedBut(store.KindStatus)
	w.decides(number, "bob", approval.Withdraw)
	publish, given := w.gate.Publish, false
	w.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
		err := publish(ctx, size, cosignatures)
		if !given {
			given = true
			w.decides(number, "bob", approval.Approve)
		}
		return err
	}
	w.writesNothing()
	if !given {
		t.Fatal("nothing was published")
	}
	w.drainAll()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "SUCCESSFUL", "approved by Bob")
}

// TestNothingTurnsGreenOnAVerdictThatIsNotPublic has the verdict found anew while the one before is published.
func TestNothingTurnsGreenOnAVerdictThatIsNotPublic(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.approvedBut(store.KindStatus)
	publish, given := w.gate.Publish, false
	w.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
		err := publish(ctx, size, cosignatures)
		if !given {
			given = true
			w.decides(number, "bob", approval.Withdraw)
			w.decides(number, "bob", approval.Approve)
			w.onlyAll(store.KindEvaluate)
		}
		return err
	}
	w.writesNothing()
	w.drainAll()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "SUCCESSFUL", "approved by Bob")
}

// reportsStolen enrols another key for somebody, who then says with it that the first was in other hands.
func (w *world) reportsStolen(who string) {
	w.t.Helper()
	p := w.people[who]
	stolen := w.keyID(p)
	p.key = passkeytest.New(origin)
	w.enrol(p)
	w.allBut(store.KindStatus)
	w.revokes(p, stolen, p.key, time.Now().Add(-time.Hour).UTC().Truncate(time.Second))
}

// TestTheGreenOfAMergedPullRequestIsPaid: what was merged with its approvals stays so, whatever is said of a key later, and
// its status is written, and written again over somebody else's.
func TestTheGreenOfAMergedPullRequestIsPaid(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.approvedBut(store.KindStatus)
	w.land(number)
	w.event(number)
	w.allBut(store.KindStatus)
	w.reportsStolen("bob")
	w.allBut(store.KindStatus)
	w.drainAll()
	v := w.view(number)
	w.expect(number, v.PullRequest.HeadCommit, "SUCCESSFUL", "approved by Bob")
	status := bitbucketStatus(v.PullRequest.StatusKey, "https://elsewhere.example/")
	status.State = bitbucket.StatusFailed
	_, err := w.client.PutStatus(t.Context(), "acme", "rocket", v.PullRequest.HeadCommit, status)
	w.must(err)
	w.statusEvent(number)
	w.drainAll()
	w.expect(number, v.PullRequest.HeadCommit, "SUCCESSFUL", "approved by Bob")
}

// TestMergedElsewhereLeavesNothingApproved: an approval is for one branch.
func TestMergedElsewhereLeavesNothingApproved(t *testing.T) {
	t.Parallel()
	for name, withdrawn := range map[string]bool{"and nothing else": false, "and withdrawn meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob", "carol"))
			number := w.approvedBut(store.KindStatus)
			elsewhere := func() {
				w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
				w.land(number)
			}
			if withdrawn {
				w.wire.Set(fault.Trap{On: fault.Commits("insert into signedapproval_decisions"), Mishap: fault.Slow, Meanwhile: elsewhere})
				w.decides(number, "bob", approval.Withdraw)
			} else {
				elsewhere()
			}
			w.event(number)
			w.drainAll()
			v := w.view(number)
			if seen := w.merged(number); seen.Kind != store.MergeSeenViolation || v.Request.State != store.RequestCancelled {
				t.Errorf("it is on record as merged %s, its request is %s", seen.Kind, v.Request.State)
			}
			if state, sentence := w.shown(number, v.PullRequest.HeadCommit); state == "SUCCESSFUL" {
				t.Errorf("it turned green: %s", sentence)
			}
			w.check(true)
		})
	}
}

// TestEveryIntentComesToItsEnd: a call that nobody knows the end of can still land, and somebody else can merge as well.
func TestEveryIntentComesToItsEnd(t *testing.T) {
	t.Parallel()
	for name, merge := range map[string]func(w *world, number int64){
		"merged by hand before it was called": func(w *world, number int64) {
			w.allBut(store.KindStatus)
			w.land(number)
			w.event(number)
		},
		"a draft while the call is in the air": func(w *world, number int64) {
			w.allBut(store.KindMerge)
			w.losesTheCall()
			w.edit(number, map[string]any{"draft": true})
			w.soon()
			w.only(store.KindMerge)
			w.edit(number, map[string]any{"draft": false})
			w.land(number)
		},
		"its request ended as a draft's, and no rule of then is in force": func(w *world, number int64) {
			w.allBut(store.KindMerge)
			w.losesTheCall()
			w.edit(number, map[string]any{"draft": true})
			w.event(number)
			w.drainAll()
			if v := w.view(number); v.Request.State != store.RequestCancelled || v.Merge == nil || v.Merge.State != store.MergeCalling {
				w.t.Fatalf("the request is %s, its merge %+v", v.Request.State, v.Merge)
			}
			w.save(w.rule(1, "carol"))
			w.edit(number, map[string]any{"draft": false})
			w.land(number)
			w.event(number)
		},
		"withdrawn while the call is in the air": func(w *world, number int64) {
			w.allBut(store.KindMerge)
			w.losesTheCall()
			w.decides(number, "bob", approval.Withdraw)
			w.soon()
			w.only(store.KindMerge)
			w.land(number)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			merge(w, number)
			w.drainAll()
			if v := w.view(number); v.PullRequest.State != "MERGED" || v.Merge == nil || v.Merge.State != store.MergeMerged {
				t.Errorf("the pull request is %s, its merge %+v", v.PullRequest.State, v.Merge)
			}
		})
	}
}

// TestAMergeIsRefusedOnceTheDoubtIsOver: a draft is not merged, and the intent says so, but not before an earlier call can
// no longer land.
func TestAMergeIsRefusedOnceTheDoubtIsOver(t *testing.T) {
	w := newWorld(t)
	w.autoMerge()
	number := w.approvedBut(store.KindMerge)
	w.losesTheCall()
	w.edit(number, map[string]any{"draft": true})
	w.soon()
	w.only(store.KindMerge)
	if v := w.view(number); v.Merge.State != store.MergeCalling {
		t.Errorf("its merge is %+v", v.Merge)
	}
	w.unanswered()
	w.soon()
	w.onlyAll(store.KindMerge)
	if v := w.view(number); v.Merge.State != store.MergeRefused || v.Merge.Sentence != "not merged: the pull request is a draft" {
		t.Errorf("its merge is %+v", v.Merge)
	}
}

// TestARejectionThatStandsAgainCanBeWithdrawn: bob rejects, takes that back, approves, takes that back too, and then reports the key. The rejection
// stands again, and he has to be able to take it back with another key.
func TestARejectionThatStandsAgainCanBeWithdrawn(t *testing.T) {
	w := newWorld(t)
	w.governed()
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "carol", approval.Approve)
	for _, action := range []approval.Action{approval.Reject, approval.Withdraw, approval.Approve, approval.Withdraw} {
		w.decides(number, "bob", action)
	}
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
	w.reportStolen("bob")
	w.settle()
	w.expect(number, head, "FAILED", "rejected by Bob")
	// What the stolen key enrolled fell with it. The next one waits until alice vouches for it.
	alice, bob := w.people["alice"], w.people["bob"]
	_, err := w.keys.ReportLost(t.Context(), bob.Person)
	w.must(err)
	fresh := w.made(bob)
	w.vouch(w.keys.PrepareCountersignature(t.Context(), alice.Person, alice.session, w.workspace, fresh.ID))
	if _, err := w.decide(number, "bob", approval.Withdraw); err != nil {
		t.Errorf("bob, with a key that is nobody else's: %v", err)
	}
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
}

// TestAKeyThatDoesNotCountLocksNoRejection: nobody reports anything. bob rejects and overrides with the key that counts, and takes the override back
// with one that does not: the rejection stands, and he cannot take it back.
func TestAKeyThatDoesNotCountLocksNoRejection(t *testing.T) {
	w := newWorld(t)
	maker, err := passkeytest.NewMaker([16]byte{1})
	w.must(err)
	w.ceremonies.Attest, w.gate.Models = true, w.metadata(7, maker)
	bob, carol := w.people["bob"], w.people["carol"]
	weak := bob.key
	for _, p := range []*person{bob, carol} {
		p.key = passkeytest.New(origin)
		p.key.Maker = maker
		w.enrol(p)
	}
	better := bob.key
	rule := w.rule(1, "bob", "carol")
	rule.Keys = &approval.KeyDemand{Models: []string{maker.Model}}
	rule.Override = &approval.OverrideBy{Quorum: 2, Approvers: approval.Approvers{Accounts: []string{bob.AccountID, carol.AccountID}}}
	w.save(rule)
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Reject)
	w.overrides(number, "bob")
	bob.key = weak
	w.decides(number, "bob", approval.Withdraw)
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.expect(number, head, "FAILED", "rejected by Bob")
	bob.key = better
	if _, err := w.decide(number, "bob", approval.Withdraw); err != nil {
		t.Errorf("bob, with a key that counts: %v", err)
	}
}
