package gate_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

// answers has Bitbucket answer calls in one way until its faults are cleared.
func (w *world) answersWith(method, path string, status int, body string) {
	w.t.Helper()
	_, err := w.sim.AddFault(bitbucketsim.Fault{Method: method, Path: path, Status: status, Body: body})
	w.must(err)
}

// turn does the merges that are due once time has passed: so much that nothing that was called can land any more, or not.
func (w *world) turn(passed bool) (failed []error) {
	w.t.Helper()
	if passed {
		w.unanswered()
	}
	w.soon()
	_, failed = w.only(store.KindMerge)
	return failed
}

// gaveUp tells whether the job of the one merge would be dead, in a queue.
func (w *world) gaveUp() (dead bool) {
	w.t.Helper()
	w.must(w.super.QueryRow(w.t.Context(), `select state = 'DEAD' or attempt > 11 from signedapproval_jobs where kind = 'merge'`).Scan(&dead))
	return dead
}

// ends makes sure in what state the one merge of a pull request is, how often Bitbucket was asked for it, and what is said.
func (w *world) ends(number int64, state, sentence string, calls int) {
	w.t.Helper()
	v := w.view(number)
	if v.Merge == nil || v.Merge.State != state || !strings.Contains(v.Merge.Sentence, sentence) {
		w.t.Errorf("the merge is %+v, and not %s: %s", v.Merge, state, sentence)
	}
	if n := w.calls("POST", `/merge$`); n != calls {
		w.t.Errorf("Bitbucket was asked to merge %d times, and not %d", n, calls)
	}
}

// TestNobodyCallsWhileACallMayLand loses a call, and has Bitbucket refuse the next one: that is made when the first cannot land
// any more, and is the last.
func TestNobodyCallsWhileACallMayLand(t *testing.T) {
	w := newWorld(t)
	w.autoMerge()
	number := w.approvedBut(store.KindMerge)
	w.losesTheCall()
	w.answersWith(http.MethodPost, `/merge$`, http.StatusForbidden, "")
	for range 3 {
		w.turn(false)
	}
	w.ends(number, store.MergeCalling, "", 0)
	w.turn(true)
	w.ends(number, store.MergeRefused, "not merged: Bitbucket says: ", 1)
	w.drainAll()
	w.ends(number, store.MergeRefused, "not merged: Bitbucket says: ", 1)
}

// pause is in what time the job of the one merge comes back, and in what time it must by how long it was called for: that tells how
// much the machine was busy meanwhile.
func (w *world) pause() (again, most time.Duration) {
	w.t.Helper()
	var next, called float64
	w.must(w.super.QueryRow(w.t.Context(), `select extract(epoch from j.run_at - j.updated_at), extract(epoch from j.updated_at - m.updated_at)
		from signedapproval_jobs j, signedapproval_merge_intents m where j.kind = 'merge' and j.state = 'READY'`).Scan(&next, &called))
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)).Round(time.Millisecond) }
	return seconds(next), seconds(min(max(called/4, 1), 30))
}

// TestALostAnswerMayBeATask loses the answer to a call, which may have been that Bitbucket is at it, as a task that nobody can ask for: the
// pull request tells when that lands, and for as long as it may nobody calls once more, nor says that nothing was merged.
func TestALostAnswerMayBeATask(t *testing.T) {
	t.Parallel()
	withdrawn := func(w *world, number int64) {
		w.decides(number, "bob", approval.Withdraw)
		w.onlyAll(store.KindEvaluate)
	}
	for name, c := range map[string]struct {
		before, late func(w *world, number int64)
		merged       string // as what it is on record
		calls        int
	}{
		"and it lands late":                           {late: (*world).land, merged: store.MergeSeenApproved, calls: 1},
		"and it is withdrawn, and lands late":         {before: withdrawn, late: (*world).land, merged: store.MergeSeenViolation, calls: 1},
		"and it never arrived":                        {merged: store.MergeSeenApproved, calls: 1},
		"and it never arrived, and is withdrawn":      {before: withdrawn},
		"and it never arrived, and the worker dies":   {before: func(w *world, _ int64) { w.expireLeases() }, merged: store.MergeSeenApproved, calls: 1},
		"and it never arrived, and is asked for anew": {before: func(w *world, number int64) { w.event(number); w.onlyAll(store.KindEvaluate) }, merged: store.MergeSeenApproved, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.losesTheCall()
			if c.before != nil {
				c.before(w, number)
			}
			for minute := range 10 {
				if failed := w.turn(false); len(failed) > 0 {
					t.Fatal(failed)
				}
				w.ends(number, store.MergeCalling, "", 0)
				if again, most := w.pause(); again > most {
					t.Errorf("after %d minutes it is looked for again in %s, and not in %s", minute, again, most)
				}
				w.sql(`update signedapproval_merge_intents set updated_at = updated_at - interval '59 seconds'`)
			}
			if c.late != nil {
				c.late(w, number)
			} else {
				w.unanswered()
			}
			w.drainAll()
			if c.merged == "" {
				w.ends(number, store.MergePlanned, "", c.calls)
				return
			}
			w.untilMerged(number)
			w.ends(number, store.MergeMerged, "what landed contains the approved commit", c.calls)
			if seen := w.merged(number); seen.Kind != c.merged || !seen.ByGate {
				t.Errorf("it is on record as merged %s, by the gate: %t: %s", seen.Kind, seen.ByGate, seen.Sentence)
			}
			if c.late != nil {
				w.check(true)
			}
		})
	}
}

// TestACallThatWasNotTakenLeavesNoDoubt: what Bitbucket answers with is no merge, so that the next call need not wait.
func TestACallThatWasNotTakenLeavesNoDoubt(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusConflict, http.StatusUnauthorized, http.StatusTooManyRequests} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.answersWith(http.MethodPost, `/merge$`, status, "")
			if failed := w.turn(false); len(failed) != 1 {
				t.Errorf("failed: %v", failed)
			}
			w.ends(number, store.MergePlanned, "", 1)
			if w.gaveUp() {
				t.Error("its job gave up")
			}
			w.sim.ClearFaults()
			w.untilMerged(number)
			w.ends(number, store.MergeMerged, "what landed contains the approved commit", 2)
		})
	}
}

// TestATaskThatNeverEnds has Bitbucket be at a merge for longer and longer: it is asked for it less and less often, at last it is
// waited out, and whatever happens then, nobody calls for a second one.
func TestATaskThatNeverEnds(t *testing.T) {
	t.Parallel()
	const gaveUp = "did not come to an end with it in 10 minutes; merge by hand"
	for name, c := range map[string]struct {
		happens         func(w *world, number int64)
		state, sentence string
	}{
		"and nothing happens": {func(*world, int64) {}, store.MergeRefused, gaveUp},
		"and it lands late":   {func(w *world, number int64) { w.land(number) }, store.MergeMerged, "what landed contains the approved commit"},
		"and it is withdrawn": {func(w *world, number int64) {
			w.decides(number, "bob", approval.Withdraw)
			w.onlyAll(store.KindEvaluate)
		}, store.MergeRefused, gaveUp},
		"and it is asked again": {func(w *world, number int64) { w.event(number); w.onlyAll(store.KindEvaluate) }, store.MergeRefused, gaveUp},
		"and nothing is gated any more": {func(w *world, number int64) {
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
			w.event(number)
			w.onlyAll(store.KindEvaluate)
		}, store.MergeRefused, gaveUp},
		"and the worker dies": {func(w *world, _ int64) {
			w.soon()
			for _, ring := range w.due() {
				if ring.Kind == store.KindMerge {
					w.crashBefore(ring)
				}
			}
		}, store.MergeRefused, gaveUp},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.bitbucketIsAt(http.StatusOK, taskPending)
			aged := func(by time.Duration) (next, most time.Duration) {
				w.sql(`update signedapproval_merge_intents set updated_at = updated_at - $1::interval`, by.String())
				if failed := w.turn(false); len(failed) > 0 {
					t.Fatal(failed)
				}
				return w.pause()
			}
			for _, step := range []struct{ by, next time.Duration }{
				{0, time.Second}, {40 * time.Second, 10 * time.Second}, {5 * time.Minute, 30 * time.Second}, {5 * time.Minute, 30 * time.Second},
			} {
				if next, most := aged(step.by); next < step.next || next > max(step.next, most) {
					t.Errorf("after %s more it is asked again in %s, and not %s", step.by, next, step.next)
				}
			}
			w.ends(number, store.MergeCalling, gaveUp, 0)
			c.happens(w, number)
			w.turn(false)
			if c.state == store.MergeRefused {
				w.ends(number, store.MergeCalling, gaveUp, 0)
			}
			w.turn(true)
			calls := 0
			if c.state == store.MergeMerged {
				calls = 1 // the one that landed
			}
			w.ends(number, c.state, c.sentence, calls)
			w.drainAll()
			w.ends(number, c.state, c.sentence, calls)
		})
	}
}

// bitbucketIsAt has Bitbucket be at the merge of what is approved, and answer in one way who asks for that task.
func (w *world) bitbucketIsAt(status int, body string) {
	w.t.Helper()
	w.sql(`update signedapproval_merge_intents set state = 'CALLING', task_id = 'task', updated_at = now()`)
	w.onlyAnswers(`/merge/task-status/`, status, body)
}

// onlyAnswers has Bitbucket answer what is read at a path in one way, and everything else as it is.
func (w *world) onlyAnswers(path string, status int, body string) {
	w.t.Helper()
	w.sim.ClearFaults()
	w.answersWith(http.MethodGet, path, status, body)
}

const taskPending = `{"task_status": "PENDING"}`

// TestATaskThatBitbucketDoesNotTellOf goes on, for all that anybody knows: nobody ends the merge, or calls for another, until the
// task has had its time; then it is waited out as one that never ends.
func TestATaskThatBitbucketDoesNotTellOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path   string // of what Bitbucket answers with
		status int
	}{
		"forgotten":                {`/merge/task-status/`, http.StatusNotFound},
		"forbidden":                {`/merge/task-status/`, http.StatusForbidden},
		"unauthorized":             {`/merge/task-status/`, http.StatusUnauthorized},
		"unavailable":              {`/merge/task-status/`, http.StatusServiceUnavailable},
		"the repository hidden":    {`/repositories/`, http.StatusNotFound},
		"the repository forbidden": {`/repositories/`, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.bitbucketIsAt(http.StatusOK, taskPending)
			w.onlyAnswers(c.path, c.status, "")
			for _, passed := range []bool{false, true, true} {
				w.turn(passed)
				w.ends(number, store.MergeCalling, "", 0)
			}
			w.onlyAnswers(`/merge/task-status/`, http.StatusOK, taskPending)
			w.turn(true)
			w.ends(number, store.MergeCalling, "", 0)
			w.onlyAnswers(c.path, c.status, "")
			w.sql(`update signedapproval_merge_intents set updated_at = updated_at - interval '10 minutes'`)
			w.turn(false)
			w.turn(false)
			w.ends(number, store.MergeCalling, "", 0)
			if w.gaveUp() {
				t.Error("its job gave up")
			}
			w.onlyAnswers(`/merge/task-status/`, http.StatusNotFound, "") // of the task nothing is known any more
			w.turn(false)
			w.ends(number, store.MergeCalling, "merge by hand", 0)
			w.turn(true)
			w.drainAll()
			w.ends(number, store.MergeRefused, "merge by hand", 0)
		})
	}
}

// TestATaskThatBitbucketForgetsWhenItHasLanded is not waited for: the pull request tells.
func TestATaskThatBitbucketForgetsWhenItHasLanded(t *testing.T) {
	w := newWorld(t)
	w.autoMerge()
	number := w.approvedBut(store.KindMerge)
	w.bitbucketIsAt(http.StatusNotFound, "")
	w.land(number)
	w.turn(false)
	w.ends(number, store.MergeMerged, "what landed contains the approved commit", 1)
}

// TestATaskThatFailed is over: what Bitbucket says of its failure is its end, and where a branch moved it is called for again.
func TestATaskThatFailed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status          int
		gone            bool // the pull request
		state, sentence string
	}{
		"refused":                               {http.StatusBadRequest, false, store.MergeRefused, "not merged: Bitbucket says: "},
		"a branch moved":                        {http.StatusConflict, false, store.MergePlanned, ""},
		"refused, and the pull request is gone": {http.StatusBadRequest, true, store.MergeRefused, "not merged: Bitbucket no longer has the pull request"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.bitbucketIsAt(c.status, "")
			if c.gone {
				w.answersWith(http.MethodGet, `/pullrequests/1$`, http.StatusNotFound, "")
				w.unanswered()
			}
			w.turn(false)
			w.ends(number, c.state, c.sentence, 0)
		})
	}
}

// TestAMergeThatCannotBeReadIsNotForgotten loses a call, and has Bitbucket show nothing of the pull request, for a while or for
// good: its job stays, and tells in the end what became of it.
func TestAMergeThatCannotBeReadIsNotForgotten(t *testing.T) {
	t.Parallel()
	const gone = "not merged: Bitbucket no longer has the pull request"
	for name, c := range map[string]struct {
		called          bool
		path            string // of what Bitbucket does not have
		status          int
		back            bool
		state, sentence string
	}{
		"called, and the pull request is gone":               {true, `/pullrequests/1$`, 404, false, store.MergeRefused, gone},
		"planned, and the pull request is gone":              {false, `/pullrequests/1$`, 404, false, store.MergeRefused, gone},
		"called, and the repository is hidden for a while":   {true, `/repositories/`, 404, true, store.MergeMerged, "merged"},
		"planned, and the repository is hidden for a while":  {false, `/repositories/`, 404, true, store.MergeMerged, "merged"},
		"called, and nothing may be read for a while":        {true, `/repositories/`, 403, true, store.MergeMerged, "merged"},
		"called, and it is asked in a way that is not taken": {true, `/repositories/`, 400, true, store.MergeMerged, "merged"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			if c.called {
				w.losesTheCall()
			}
			w.answersWith("", c.path, c.status, "")
			w.turn(false)
			w.turn(false)
			want := map[bool]string{true: store.MergeCalling, false: store.MergePlanned}[c.called]
			if c.called || c.back {
				w.ends(number, want, "", 0)
			}
			for range 15 {
				w.turn(true)
			}
			if w.gaveUp() {
				t.Error("its job gave up")
			}
			if c.back {
				w.ends(number, want, "", 0)
				w.sim.ClearFaults()
				w.unanswered()
				w.untilMerged(number)
			}
			if v := w.view(number); v.Merge.State != c.state || !strings.Contains(v.Merge.Sentence, c.sentence) {
				t.Errorf("the merge is %+v", v.Merge)
			}
		})
	}
}

// TestAMergeThatWasGivenUpIsRungAgain: whatever its job died of, a merge that may have been called for comes to its end.
func TestAMergeThatWasGivenUpIsRungAgain(t *testing.T) {
	t.Parallel()
	for name, ring := range map[string]func(w *world, number int64) (state string){
		"by the walk over the repository": func(w *world, _ int64) string {
			w.sql(`update signedapproval_jobs set run_at = now() where kind = 'reconcile'`)
			w.onlyAll(store.KindReconcile)
			return store.MergeMerged
		},
		"by the walk, when it is no longer approved": func(w *world, number int64) string {
			w.decides(number, "bob", approval.Withdraw)
			w.onlyAll(store.KindEvaluate)
			w.sql(`update signedapproval_jobs set run_at = now() where kind = 'reconcile'`)
			w.onlyAll(store.KindReconcile)
			return store.MergePlanned
		},
		"by an evaluation": func(w *world, number int64) string {
			w.event(number)
			w.onlyAll(store.KindEvaluate)
			return store.MergeMerged
		},
		"by an evaluation where nothing is gated any more": func(w *world, number int64) string {
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
			w.event(number)
			w.onlyAll(store.KindEvaluate)
			return store.MergePlanned
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.losesTheCall()
			w.sql(`update signedapproval_jobs set state = 'DEAD' where kind = 'merge'`)
			w.unanswered()
			state := ring(w, number)
			if state == store.MergeMerged {
				w.untilMerged(number)
			}
			w.drainAll()
			w.ends(number, state, "", map[bool]int{true: 1}[state == store.MergeMerged])
		})
	}
}

// TestWhatLandedCannotBeRead: Bitbucket says that it merged, and does not have the commit that it names. That is on record all the
// same, without the commit.
func TestWhatLandedCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		called, pushed        bool
		kind, state, sentence string
	}{
		"merged by hand":             {kind: store.MergeSeenApproved, state: store.MergeMerged, sentence: "Bitbucket does not say what landed"},
		"merged by the gate":         {called: true, kind: store.MergeSeenApproved, state: store.MergeMerged, sentence: "Bitbucket does not say what landed"},
		"merged at another commit":   {called: true, pushed: true, kind: store.MergeSeenViolation, state: store.MergeRefused, sentence: "not merged: the pull request was merged at another commit"},
		"pushed, and merged by hand": {pushed: true, kind: store.MergeSeenViolation, state: store.MergeRefused, sentence: "not merged: the pull request was merged at another commit"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			head, id := w.view(number).PullRequest.HeadCommit, w.view(number).PullRequest.ID
			if c.called {
				w.losesTheCall()
			}
			if c.pushed {
				w.push("second.txt", "second")
			}
			w.land(number)
			w.answersWith(http.MethodGet, `/commit/`, http.StatusNotFound, "")
			w.event(number)
			for range 10 {
				w.drainAll()
			}
			if seen := w.merged(number); seen.Kind != c.kind || seen.LandedCommit != "" {
				t.Errorf("it is on record as merged %s, as %q: %s", seen.Kind, seen.LandedCommit, seen.Sentence)
			}
			var intent store.MergeIntent
			w.in(func(tx *store.Tx) (err error) {
				intent, err = tx.Merge(t.Context(), id, head)
				return err
			})
			if intent.State != c.state || !strings.Contains(intent.Sentence, c.sentence) {
				t.Errorf("the merge is %+v", intent)
			}
		})
	}
}

// TestWhatACallMergesWhereNothingIsGatedIsOnRecord lands a call of what was approved when the repository is no longer gated.
func TestWhatACallMergesWhereNothingIsGatedIsOnRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(w *world, number int64)
		kind   string
	}{
		"as it was approved": {func(*world, int64) {}, store.MergeSeenApproved},
		"as it was approved, and its request cancelled": {func(w *world, _ int64) {
			_, err := w.gate.Cancel(w.t.Context(), w.workspace, w.repository, "The repository is no longer gated.")
			w.must(err)
		}, store.MergeSeenApproved},
		"withdrawn by then": {func(w *world, number int64) { w.decides(number, "bob", approval.Withdraw) }, store.MergeSeenViolation},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.losesTheCall()
			c.before(w, number)
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
			w.land(number)
			w.event(number)
			w.drainAll()
			if seen := w.merged(number); seen.Kind != c.kind || seen.LandedCommit == "" || !seen.ByGate {
				t.Errorf("it is on record as merged %s, as %q: %s", seen.Kind, seen.LandedCommit, seen.Sentence)
			}
			if v := w.view(number); v.Merge.State != store.MergeMerged {
				t.Errorf("the merge is %+v", v.Merge)
			}
		})
	}
}
