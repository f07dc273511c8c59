package gate_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestWhatRestsOnRulesIsOnRecordBeforeTheyChange has the rules, or the roster, changed when what was judged by them is about
// to be committed: the change waits, so that the log never has a verdict, or an answer, behind what it no longer follows from.
func TestWhatRestsOnRulesIsOnRecordBeforeTheyChange(t *testing.T) {
	t.Parallel()
	deeds := map[string]struct {
		commit string
		do     func(w *world, number int64)
	}{
		"a verdict": {"with saved as (update signedapproval_approval_requests", func(w *world, number int64) {
			w.decides(number, "carol", approval.Approve)
			w.onlyAll(store.KindEvaluate)
		}},
		"the answer of a merge check": {"insert into signedapproval_merge_checks", func(w *world, number int64) {
			w.decides(number, "carol", approval.Approve)
			w.allBut(store.KindMerge)
			if answer := w.mergeCheck(number); !answer.Success {
				w.t.Errorf("the merge check says %+v", answer)
			}
		}},
		"a decision": {"insert into signedapproval_decisions", func(w *world, number int64) {
			w.decides(number, "carol", approval.Approve)
		}},
		"a call to merge": {"update signedapproval_merge_intents", func(w *world, number int64) {
			w.decides(number, "carol", approval.Approve)
			w.allBut(store.KindMerge)
			w.onlyAll(store.KindMerge)
		}},
	}
	changes := map[string]func(w *world) (change func() error){
		"the rules": func(w *world) func() error {
			return func() error { return w.enacts(w.rule(1, "bob")) }
		},
		"the roster": func(w *world) func() error {
			p, since, stolen := w.people["bob"], time.Now().Add(-time.Hour), w.keyID(w.people["bob"])
			p.key = passkeytest.New(origin)
			w.enrol(p)
			w.settle()
			act, err := w.keys.PrepareRevocation(w.t.Context(), p.Person, p.session, stolen, &since)
			w.must(err)
			answer, err := p.key.Get(act.Options)
			w.must(err)
			return func() error {
				_, _, revoked := w.keys.SignKeyAct(w.t.Context(), p.Person, p.session, string(answer))
				_, followed := w.gate.SyncRoster(w.t.Context(), w.workspace, p.ID)
				return errors.Join(revoked, followed)
			}
		},
	}
	for what, deed := range deeds {
		for of, prepare := range changes {
			t.Run(what+", and "+of, func(t *testing.T) {
				w := newWorld(t)
				rule := w.rule(2, "bob", "carol")
				rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
				w.enact(rule)
				number := w.open()
				w.settle()
				w.decides(number, "bob", approval.Approve)
				w.settle()
				change := prepare(w)
				var ended chan struct{}
				var failed error
				w.wire.Set(fault.Trap{On: fault.Commits(deed.commit), Mishap: fault.Slow, Meanwhile: func() {
					ended = w.beside(func() error {
						failed = change()
						return failed
					})
					select {
					case <-ended:
						t.Error("the change does not wait")
					default:
					}
				}})
				deed.do(w, number)
				if w.wire.Clear() != 1 {
					t.Fatal("nothing was committed")
				}
				<-ended
				w.must(failed)
				w.check(false)
				w.drainAll()
			})
		}
	}
}

// TestNoDecisionComesBehindTheEndOfItsKey has a key fall out of the roster when what it signed was verified, and is about to be filed.
func TestNoDecisionComesBehindTheEndOfItsKey(t *testing.T) {
	w := newWorld(t)
	w.enact(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	first, since := w.keyID(bob), time.Now().Truncate(time.Second).Add(-time.Second)
	bob.key = passkeytest.New(origin)
	w.enrol(bob) // with the first key, and so this one falls with that
	second := bob.key
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	w.settle()
	request, options := w.prepared(number, "bob", approval.Approve)
	answer := w.signed(second, options)
	w.wire.Set(fault.Trap{On: fault.Sends("update signedapproval_credentials set sign_count"), Mishap: fault.Slow, Meanwhile: func() {
		w.revokes(bob, first, bob.key, since)
		_, err := w.gate.SyncRoster(t.Context(), w.workspace, bob.ID)
		w.must(err)
	}})
	_, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, request, answer)
	if w.wire.Clear() != 1 {
		t.Fatal("the decision was not about to be filed")
	}
	w.refused("a key that fell meanwhile", err, gate.CodeRevokedKey)
	if w.decided() != 0 {
		t.Error("it is a decision")
	}
	w.settle()
	w.check(false)
}

// TestWhoeverIsToldCanChangeTheirKeysMeanwhile has the roster wait for an evaluation, while it holds the keys of somebody whom that is
// about to tell of a request.
func TestWhoeverIsToldCanChangeTheirKeysMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.enact(w.rule(1, "bob"))
	w.settle()
	number := w.open()
	var ended chan struct{}
	var failed error
	w.wire.Set(fault.Trap{On: fault.Sends("insert into signedapproval_notices"), Mishap: fault.Slow, Meanwhile: func() {
		ended = w.beside(func() error {
			_, failed = w.gate.SyncRoster(t.Context(), w.workspace, w.people["bob"].ID)
			return failed
		})
	}})
	w.onlyAll(store.KindEvaluate)
	if w.wire.Clear() != 1 {
		t.Fatal("nobody was told")
	}
	<-ended
	w.must(failed)
	if v := w.view(number); v.Request == nil || v.Request.State != store.RequestPending {
		t.Errorf("the request is %+v", v.Request)
	}
}

// TestRulesAndRostersChangeBesideAllThatRestsOnThem has many do all of it at once: whoever waits for whom, PostgreSQL finds no
// two that wait for each other.
func TestRulesAndRostersChangeBesideAllThatRestsOnThem(t *testing.T) {
	w := newWorld(t)
	w.enact(w.rule(1, "bob", "carol"))
	var numbers []int64
	for i := range 3 {
		numbers = append(numbers, w.openOn(fmt.Sprint("feature/", i)))
	}
	w.settle()
	ctx := t.Context()
	evaluate := func(number int64) error {
		if err := w.store.InWorkspace(ctx, w.workspace, func(tx *store.Tx) error {
			return tx.Enqueue(ctx, store.AskEvaluate(w.workspace, w.repository, number))
		}); err != nil {
			return err
		}
		var id int64
		if err := w.super.QueryRow(ctx, `select id from signedapproval_jobs where kind = 'evaluate' and key like '%:' || $1::bigint`, number).Scan(&id); err != nil {
			return err
		}
		job, ok, err := w.store.ClaimJob(ctx, id, uuid.NewString(), time.Minute)
		if err != nil || !ok {
			return err // somebody else is at it
		}
		return w.gate.Evaluate(ctx, job)
	}
	var all sync.WaitGroup
	failures := make(chan error, 1000)
	several := func(what string, do func(i int) error) {
		all.Go(func() {
			for i := range 12 {
				if err := do(i); err != nil {
					failures <- fmt.Errorf("%s: %w", what, err)
				}
			}
		})
	}
	for _, number := range numbers {
		several("an evaluation", func(int) error { return evaluate(number) })
		several("a merge check", func(int) error {
			if answer := w.mergeCheck(number); answer.Code == gate.CodeCheckFault || answer.Code == gate.CodeCheckTimeout {
				return errors.New(answer.Message)
			}
			return nil
		})
	}
	for who := range 2 {
		several("a change of the rules", func(i int) error { return w.enacts(w.rule(1+(i+who)%2, "bob", "carol")) })
	}
	for _, who := range []string{"bob", "carol"} { // each in the roster once more, and out of it
		_, _ = w.decide(numbers[0], who, approval.Reject) // the rules may have changed
		w.reportStolen(who)
		_, err := w.gate.SyncRoster(ctx, w.workspace, w.people[who].ID)
		w.must(err)
	}
	all.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	w.drainAll()
}

// TestOnePullRequestHoldsUpNoOther: somebody holds one pull request for a while, as whoever reads its evidence does, an evaluation waits
// for it, and somebody enrols a key. Another pull request has nothing to do with any of that.
func TestOnePullRequestHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	one, other := w.openOn("feature/one"), w.openOn("feature/other")
	w.settle()
	for _, number := range []int64{one, other} {
		w.decides(number, "bob", approval.Approve)
	}
	w.settle()
	if answer := w.mergeCheck(other); !answer.Success {
		t.Fatalf("before: %+v", answer)
	}
	reader, err := w.super.Begin(t.Context())
	w.must(err)
	_, err = reader.Exec(t.Context(), `select from signedapproval_pull_requests where number = $1 for update`, one)
	w.must(err)
	var all sync.WaitGroup
	w.event(one)
	all.Go(func() { w.only(store.KindEvaluate) })
	for waits, deadline := false, time.Now().Add(20*time.Second); !waits && time.Now().Before(deadline); {
		w.must(w.super.QueryRow(t.Context(), `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waits))
	}
	if err := w.store.InWorkspace(t.Context(), w.workspace, func(tx *store.Tx) error { return tx.LockRoster(t.Context()) }); err != nil {
		t.Errorf("whoever enrols a key: %v", err)
	}
	if answer := w.mergeCheck(other); !answer.Success {
		t.Errorf("the merge check of the other pull request: %+v", answer)
	}
	w.must(reader.Rollback(t.Context()))
	all.Wait()
}

// TestOnePersonSignsTwoThingsAtOnce: a decision has noted that its key is used, and comes to hold the rules; a signed act locks the keys of its person,
// then the roster, and notes the same. None of them waits for the other for ever.
func TestOnePersonSignsTwoThingsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	w.settle()
	bob := w.people["bob"].ID
	var key []byte
	w.must(w.super.QueryRow(t.Context(), `select id from signedapproval_credentials where person_id = $1`, bob).Scan(&key))
	acted := make(chan error, 1)
	act := func() {
		acted <- w.store.InWorkspace(t.Context(), w.workspace, func(tx *store.Tx) error {
			if _, err := tx.LockCredentials(t.Context(), bob); err != nil {
				return err
			}
			if err := tx.LockRoster(t.Context()); err != nil {
				return err
			}
			return tx.UseCredential(t.Context(), key, 1002, false)
		})
	}
	w.must(w.store.InWorkspace(t.Context(), w.workspace, func(tx *store.Tx) error {
		if err := tx.UseCredential(t.Context(), key, 1001, false); err != nil {
			return err
		}
		go act()
		for waits := false; !waits; {
			w.must(w.super.QueryRow(t.Context(), `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waits))
		}
		tx.HoldRules(w.repository)
		return nil
	}))
	w.must(<-acted)
}

// TestTheLastVerdictOfAMergeIsByTheRulesInForce: somebody else approves as it is merged, after a change of the
// rules that says nothing about its branch.
func TestTheLastVerdictOfAMergeIsByTheRulesInForce(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob", "carol")
	w.enact(rule)
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	other := w.rule(2)
	other.Name, other.Branches = "Hotfixes", []string{"hotfix/*"}
	w.enact(rule, other) // nothing changes for release/*
	w.settle()
	w.decides(number, "carol", approval.Approve)
	w.land(number)
	w.drainAll()
	v, seen := w.view(number), w.merged(number)
	if seen.Kind != store.MergeSeenApproved || len(v.Verdict.Requirements) != 1 {
		t.Fatalf("%+v", seen)
	}
	b, _ := w.proven(v.Request.ID)
	inForce := approval.Policy{Format: approval.Format, Rules: []approval.Rule{rule, other}}
	if got := approval.DigestOf(b.Policy); got != inForce.Digest() {
		t.Errorf("the last verdict was reached, behind the leaf of policy %s, by %s", inForce.Digest(), got)
	}
}
