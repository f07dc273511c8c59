package gate_test

import (
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// allBut does due jobs of all kinds but one, until only that one is left.
func (w *world) allBut(kind string) {
	w.t.Helper()
	for range 200 {
		rest := false
		for _, ring := range w.due() {
			if ring.Kind != kind {
				w.must(w.do(ring))
				rest = true
			}
		}
		if !rest {
			return
		}
	}
	w.t.Fatal("the jobs do not come to rest")
}

// only does the due jobs of one kind, once. What becomes of them is for the test to look at.
func (w *world) only(kind string) (done int, failed []error) {
	w.t.Helper()
	for _, ring := range w.due() {
		if ring.Kind == kind {
			done++
			if err := w.do(ring); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return done, failed
}

// onlyAll is only for what must not fail.
func (w *world) onlyAll(kind string) {
	w.t.Helper()
	if _, failed := w.only(kind); len(failed) > 0 {
		w.t.Fatal(failed)
	}
}

// TestNothingIsMergedThatWasTakenBack lets the merge run first after the approval was taken back in
// one of several ways, before any evaluation could tell.
func TestNothingIsMergedThatWasTakenBack(t *testing.T) {
	t.Parallel()
	for name, takeBack := range map[string]func(w *world, number int64){
		"withdrawn": func(w *world, number int64) { w.decides(number, "bob", approval.Withdraw) },
		"rejected":  func(w *world, number int64) { w.decides(number, "carol", approval.Reject) },
		"another rule": func(w *world, _ int64) {
			rule := w.rule(2, "bob", "carol")
			rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
			w.save(rule)
		},
		"auto-merge switched off": func(w *world, _ int64) { w.save(w.rule(1, "bob", "carol")) },
		"no longer gated": func(w *world, _ int64) {
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			rule := w.rule(1, "bob", "carol")
			rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
			w.save(rule)
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.allBut(store.KindMerge)
			if v := w.view(number); v.Request.State != store.RequestApproved || v.Merge == nil || v.Merge.State != store.MergePlanned {
				t.Fatalf("the request is %s, its merge %+v", v.Request.State, v.Merge)
			}
			takeBack(w, number)
			if done, failed := w.only(store.KindMerge); done != 1 || len(failed) > 0 {
				t.Fatalf("%d merges were due, failed: %v", done, failed)
			}
			if n := w.calls("POST", "/merge$"); n != 0 {
				t.Errorf("Bitbucket was asked to merge %d times", n)
			}
			w.onlyAll(store.KindEvaluate)
			w.onlyAll(store.KindStatus)
			w.drainAll()
			if n := w.calls("POST", "/merge$"); n != 0 {
				t.Errorf("Bitbucket was asked to merge %d times after the evaluation", n)
			}
		})
	}
}

// TestWhatWasTakenBackAndGivenAgainIsMerged makes sure that a merge is refused for good only where the
// approval is gone for good.
func TestWhatWasTakenBackAndGivenAgainIsMerged(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob", "carol")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.allBut(store.KindMerge)
	w.decides(number, "bob", approval.Withdraw)
	w.onlyAll(store.KindMerge)
	w.onlyAll(store.KindEvaluate)
	w.onlyAll(store.KindStatus)
	w.decides(number, "bob", approval.Approve)
	w.untilMerged(number)
	if merges := w.merges(); merges != 1 {
		t.Errorf("%d merge commits landed", merges)
	}
}

// TestAutoMergeCountsNobodyAsADefaultReviewer sets a check that counts particular reviewers: the
// approval of somebody else on Bitbucket does not meet it.
func TestAutoMergeCountsNobodyAsADefaultReviewer(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	one := 1
	_, err := w.client.CreateBranchRestriction(t.Context(), "acme", "rocket", bitbucket.BranchRestriction{
		Kind: bitbucket.RequireDefaultReviewerApprovals, MatchKind: bitbucket.MatchGlob, Pattern: "release/*", Value: &one,
	})
	w.must(err)
	number := w.open()
	w.settle()
	w.rest("POST", "/pullrequests/1/approve", nil) // alice is nobody's default reviewer
	w.decides(number, "bob", approval.Approve)
	w.drainAll()
	if n := w.calls("POST", "/merge$"); n != 0 {
		t.Errorf("Bitbucket was asked to merge %d times", n)
	}
	if v := w.view(number); v.Merge == nil || v.Merge.State != store.MergeRefused {
		t.Errorf("the merge is %+v", v.Merge)
	}
}
