package gate_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestAMergeThatTheGateCalledForIsOnRecord has the gate's call to merge land late: when what was approved had gone elsewhere, where
// nobody asks for anything.
func TestAMergeThatTheGateCalledForIsOnRecord(t *testing.T) {
	t.Parallel()
	evaluated := func(w *world) { w.onlyAll(store.KindEvaluate) }
	retargeted := func(w *world, number int64) {
		w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
		w.event(number)
		evaluated(w)
	}
	pushed := func(w *world, number int64) {
		w.push("src/nozzle.go", "package evil\n")
		w.event(number)
		evaluated(w)
	}
	for name, c := range map[string]struct {
		called bool
		before func(w *world, number int64) // it lands
		after  func(w *world, number int64)
		seen   bool
	}{
		"pushed and retargeted": {called: true, seen: true, before: func(w *world, number int64) { pushed(w, number); retargeted(w, number) }},
		"retargeted":            {called: true, seen: true, before: retargeted},
		"retargeted and pushed, and the merge let go of": {called: true, seen: true, before: func(w *world, number int64) {
			retargeted(w, number)
			pushed(w, number)
			w.drainAll()
		}},
		"retargeted, and the merge is seen by who called": {called: true, seen: true, before: retargeted, after: func(w *world, _ int64) {
			w.sql(`update signedapproval_jobs set run_at = now() where kind = 'merge'`)
			w.onlyAll(store.KindMerge)
		}},
		"made a draft": {called: true, seen: true, before: func(w *world, number int64) {
			w.edit(number, map[string]any{"draft": true})
			w.event(number)
			evaluated(w)
			w.save(w.rule(1, "bob")) // newer than the last look
			w.edit(number, map[string]any{"draft": false})
		}},
		"no rule any more": {called: true, seen: true, before: func(w *world, number int64) {
			other := w.rule(1, "bob")
			other.Branches = []string{"elsewhere"}
			w.save(other)
			w.event(number)
			evaluated(w)
		}},
		"no longer gated": {called: true, seen: true, before: func(w *world, number int64) {
			w.push("src/nozzle.go", "package evil\n")
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
		}},
		"retargeted, and nothing had been called": {before: retargeted},
		"retargeted, and looked at when no call could land any more": {called: true, before: func(w *world, number int64) {
			w.sql(`update signedapproval_merge_intents set updated_at = updated_at - interval '11 minutes'`)
			retargeted(w, number)
			w.sql(`update signedapproval_jobs set run_at = now() + interval '1 hour', state = 'DEAD' where kind = 'merge'`) // nobody ended it
		}},
		"retargeted when no call could land any more": {called: true, before: func(w *world, number int64) {
			retargeted(w, number)
			w.sql(`update signedapproval_merge_intents set updated_at = updated_at - interval '11 minutes'`)
			w.sql(`update signedapproval_jobs set run_at = now() where kind = 'merge'`)
			w.drainAll()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.administrator()
			rule := w.rule(1, "bob")
			rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
			w.save(rule)
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.allBut(store.KindMerge)
			if c.called {
				w.losesTheCall()
			}
			c.before(w, number)
			w.land(number) // what was called arrives
			if c.after != nil {
				c.after(w, number)
			}
			w.event(number)
			w.drainAll()
			w.sql(`update signedapproval_jobs set run_at = now() where kind = 'merge'`)
			w.drainAll()
			var m store.MergeSeen
			err := w.store.InWorkspace(t.Context(), w.workspace, func(tx *store.Tx) (err error) {
				m, err = tx.MergeSeen(t.Context(), w.repository, number)
				return err
			})
			if !c.seen {
				if err == nil {
					t.Errorf("seen %+v", m)
				}
				w.check(true)
				return
			}
			w.must(err)
			if m.Kind != store.MergeSeenViolation || !strings.Contains(m.Sentence, "while a call of the gate to merge it was under way") {
				t.Errorf("seen %s: %s", m.Kind, m.Sentence)
			}
			if n := w.alarms(store.AlarmMergedUnapproved); n != 1 {
				t.Errorf("%d alarms", n)
			}
			if merge := w.view(number).Merge; merge != nil && merge.State == store.MergeCalling {
				t.Errorf("the merge is %+v", merge)
			}
			if leaf := w.mergedLeaf(number); name != "no longer gated" && (leaf == nil || leaf.Kind != "violation" || leaf.Commit != m.LandedCommit) {
				t.Errorf("the leaf is %+v, of %+v", leaf, m)
			}
			w.check(true)
		})
	}
}

// TestATaskThatCouldNotBeAskedForLandsElsewhere: Bitbucket is at a merge and does not say what becomes of that, and the pull request goes
// where nobody asks for anything; there the task lands. It was the gate's call.
func TestATaskThatCouldNotBeAskedForLandsElsewhere(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusNotFound} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			w := newWorld(t)
			w.autoMerge()
			number := w.approvedBut(store.KindMerge)
			w.bitbucketIsAt(status, "")
			w.turn(false)
			w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
			w.event(number)
			w.allBut(store.KindMerge)
			w.turn(true)
			w.event(number)
			w.allBut(store.KindMerge)
			w.land(number)
			w.event(number)
			w.drainAll()
			if seen := w.merged(number); seen.Kind != store.MergeSeenViolation || !strings.Contains(seen.Sentence, "while a call of the gate to merge it was under way") {
				t.Errorf("seen %s: %s", seen.Kind, seen.Sentence)
			}
			w.check(true)
		})
	}
}

// mergedLeaf is what the chain says last of the merge of a pull request.
func (w *world) mergedLeaf(number int64) *evidence.Merged {
	w.t.Helper()
	if merged := leavesOf[evidence.Merged](w, number); len(merged) > 0 {
		return &merged[len(merged)-1]
	}
	return nil
}
