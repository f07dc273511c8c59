package gate_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/store"
)

// unpublish makes publishing fail, until what it answers is called.
func (w *world) unpublish() (heal func()) {
	works := w.gate.Publish
	w.gate.Publish = func(context.Context, int64, int) error { return errors.New("the sink is away") }
	return func() { w.gate.Publish = works }
}

// TestNothingTurnsGreenBeforeItIsPublished: without a published log there is neither a green status nor a merge, and
// both come by themselves once it is published again.
func TestNothingTurnsGreenBeforeItIsPublished(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	heal := w.unpublish()
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob") // what is not green waits for nothing

	w.decides(number, "bob", approval.Approve)
	if waiting := w.patiently(); !slices.Equal(waiting, []string{store.KindStatus}) {
		t.Errorf("%q wait, want the status", waiting)
	}
	w.check(false)
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
	// The build of somebody else rings the merge.
	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(t.Context(), store.AskMerge(w.workspace, w.view(number).PullRequest.ID, head))
	})
	if waiting := w.patiently(); !slices.Equal(waiting, []string{store.KindMerge}) {
		t.Errorf("%q wait, want the merge", waiting)
	}
	if n := w.merges(); n != 0 {
		t.Errorf("%d merges were sent", n)
	}

	heal()
	w.sql(`update signedapproval_jobs set run_at = now() where state = 'READY'`)
	w.untilMerged(number)
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	w.check(true)
}

func TestAMergeCheckSaysYesOnlyToWhatIsPublished(t *testing.T) {
	w := newWorld(t)
	number := approved(w)
	// A leaf that came after what is published: the answer of a check.
	if a := w.mergeCheck(number); !a.Success {
		t.Fatalf("%+v", a)
	}
	w.later()
	asked := 0
	works := w.gate.Publish
	w.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
		asked++
		return works(ctx, size, cosignatures)
	}
	if a := w.mergeCheck(number); !a.Success || asked != 1 {
		t.Errorf("%+v after %d publications, want yes after one", a, asked)
	}
	w.gate.Publish = works

	w.later()
	heal := w.unpublish()
	a := w.mergeCheck(number)
	if a.Success || a.Code != gate.CodeCheckLog || !strings.Contains(a.Message, "could not publish that in its log") || strings.Contains(a.Message, "sink") {
		t.Errorf("without a published log: %+v", a)
	}
	answers := w.answers(number)
	if last := answers[len(answers)-1]; last.Success || last.Code != gate.CodeCheckLog {
		t.Errorf("on record is %+v", last)
	}
	// Who is not approved is told that, published or not.
	w.decides(number, "bob", approval.Withdraw)
	if a := w.mergeCheck(number); a.Code != gate.CodeCheckPending {
		t.Errorf("a pending one: %+v", a)
	}
	w.decides(number, "bob", approval.Approve)
	heal()
	w.settle()
	if a := w.mergeCheck(number); !a.Success {
		t.Errorf("once it is published: %+v", a)
	}
}

// TestAMergeCheckGivesUpOnALogThatGrowsFaster publishes, each time, less than it should have.
func TestAMergeCheckGivesUpOnALogThatGrowsFaster(t *testing.T) {
	w := newWorld(t)
	number := approved(w)
	if a := w.mergeCheck(number); !a.Success {
		t.Fatalf("%+v", a)
	}
	w.later()
	w.gate.Publish = func(context.Context, int64, int) error { return nil }
	if a := w.mergeCheck(number); a.Success || a.Code != gate.CodeCheckLog {
		t.Errorf("%+v", a)
	}
}

// undurable makes that nothing can be made durable, or that it can.
func (w *world) undurable(is bool) { // newer releases of PostgreSQL give the function another parameter
	right := map[bool]string{true: `revoke execute on function %s from public`, false: `grant execute on function %s to public`}[is]
	w.sql(`do $$ declare f regprocedure; begin
		for f in select oid from pg_proc where proname = 'pg_logical_emit_message' loop
			execute format('` + right + `', f);
		end loop;
	end $$`)
}

// TestBitbucketIsShownNothingBeforeItIsDurable: the job of a status can begin before what it was claimed with is durable.
func TestBitbucketIsShownNothingBeforeItIsDurable(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.onlyAll(store.KindEvaluate)
	w.undurable(true)
	if _, failed := w.only(store.KindStatus); len(failed) != 1 || !strings.Contains(failed[0].Error(), "permission denied") {
		t.Errorf("the status was written, or failed otherwise: %v", failed)
	}
	if n := w.calls("POST", "/statuses/build$"); n != 0 {
		t.Errorf("Bitbucket was told %d times", n)
	}
	w.undurable(false)
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "INPROGRESS", "0 of 1 approval; waiting for Bob")
}

// TestBitbucketIsNotShownWhatACrashTakesBack: what came to be owed after its job was claimed may not be durable yet, and
// is made so first. Where that cannot be done, nothing is shown.
func TestBitbucketIsNotShownWhatACrashTakesBack(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.allBut(store.KindStatus)
	works, taken := w.gate.Publish, false
	w.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
		err := works(ctx, size, cosignatures)
		if !taken {
			taken = true
			w.decides(number, "bob", approval.Withdraw)
			w.onlyAll(store.KindEvaluate)
			w.undurable(true)
		}
		return err
	}
	before := w.calls("POST", "/statuses/build$")
	if _, failed := w.only(store.KindStatus); len(failed) != 1 || !strings.Contains(failed[0].Error(), "permission denied") {
		t.Errorf("the status was written, or failed otherwise: %v", failed)
	}
	if n := w.calls("POST", "/statuses/build$") - before; !taken || n != 0 {
		t.Errorf("Bitbucket was told %d times", n)
	}
	w.undurable(false)
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "INPROGRESS", w.view(number).Status.Description)
	if n := w.calls("POST", "/statuses/build$") - before; n != 1 {
		t.Errorf("Bitbucket was told %d times", n)
	}
}

// TestAStatusWhoseClaimACrashTookBackIsNotWritten: whoever claims the row anew knows of no other who may be writing it, and does
// not look whether a call of theirs lands late.
func TestAStatusWhoseClaimACrashTookBackIsNotWritten(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.allBut(store.KindStatus)
	before := w.calls("POST", "/statuses/build$")
	w.before = func() {
		w.sql(`update signedapproval_jobs set seq = seq - 1, fence = fence - 1, holder = null, leased_until = null where kind = 'status'`)
	}
	if _, failed := w.only(store.KindStatus); len(failed) != 1 || !errors.Is(failed[0], store.ErrLeaseLost) {
		t.Errorf("the job ended otherwise: %v", failed)
	}
	if n := w.calls("POST", "/statuses/build$") - before; n != 0 {
		t.Errorf("Bitbucket was told %d times", n)
	}
	w.before = nil
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "SUCCESSFUL", w.view(number).Status.Description)
}

// TestACallToMergeIsDurable: the job of a merge can begin before anything is that it was asked for with, so that the commit right
// before the call is one that waits for the disk, whatever is set for others.
func TestACallToMergeIsDurable(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	number := w.open()
	w.settle()
	w.sql(`create table calls (early boolean)`)
	w.sql(`create function notes_call() returns trigger language plpgsql security definer as $$ begin
		insert into public.calls select source = 'session' from pg_settings where name = 'synchronous_commit'; return null; end $$`)
	w.sql(`create constraint trigger notes_call after update on signedapproval_merge_intents deferrable initially deferred for each row
		when (old.state = 'PLANNED' and new.state = 'CALLING') execute function notes_call()`) // it is set right before the commit
	w.decides(number, "bob", approval.Approve)
	w.waitMerged(number)
	var early string
	w.must(w.super.QueryRow(t.Context(), `select string_agg(early::text, ' ') from calls`).Scan(&early))
	if early != "false" {
		t.Errorf("what was committed before the calls, early: %q", early)
	}
}
