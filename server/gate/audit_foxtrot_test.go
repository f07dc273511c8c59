package gate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// mergesBranch merges a branch into another by a pull request.
func (w *world) mergesBranch(source, destination, strategy string, approved bool) {
	w.t.Helper()
	opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: w.fullName(), Author: "alice", Title: source, Source: source, Destination: destination})
	w.must(err)
	number := int64(opened.ID)
	w.event(number)
	w.settle()
	if approved {
		w.decides(number, "bob", approval.Approve)
		w.settle()
	}
	_, err = w.client.Merge(w.t.Context(), w.workspace, w.repository, number, bitbucket.MergeOptions{Message: "merge", Strategy: bitbucket.MergeStrategy(strategy)})
	w.must(err)
	w.event(number)
	w.settle()
}

func (w *world) tipOf(branch string) string {
	w.t.Helper()
	b, err := w.client.Branch(w.t.Context(), w.workspace, w.repository, branch)
	w.must(err)
	return b.Head
}

// judged is what is of interest in a row.
type judged struct {
	commit, kind string
	relation     attest.Relation
}

func judgements(rows []attest.Row) (list []judged) {
	for _, r := range rows {
		list = append(list, judged{r.Commit, r.Kind, r.Relation})
	}
	return list
}

// TestAnAuditSeesWhatAMergeOfTheBranchPutsAside pushes a commit around the gate, merges the branch into a feature branch, and has
// that approved and landed as it is: the first parent of the branch's tip is the feature's then, and what was pushed is below the other one.
func TestAnAuditSeesWhatAMergeOfTheBranchPutsAside(t *testing.T) {
	w := newShuttle(t)
	began := w.tipOf(release)
	fox, err := w.sim.Push(bitbucketsim.Push{Repository: w.fullName(), Branch: "feature/fox", From: release, Person: "alice", Files: map[string]string{"fox.txt": "fox"}})
	w.must(err)
	around := w.direct("around.txt")
	w.mergesBranch(release, "feature/fox", "merge_commit", false)
	w.mergesBranch("feature/fox", release, "fast_forward", true)
	of := w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour))
	of.Since = began
	rows, summary, err := w.audit(of)
	w.must(err)
	want := []judged{{around, attest.KindViolation, attest.Unrelated}, {fox.Hash, attest.KindApproved, attest.Within}, {summary.Tip, attest.KindApproved, attest.Signed}}
	if got := judgements(rows); len(got) != 3 || !slices.Contains(got, want[0]) || !slices.Contains(got, want[1]) || got[2] != want[2] {
		t.Errorf("listed %v, want %v", got, want)
	}
	if merged := w.recorded(summary.Tip); slices.ContainsFunc(rows, func(r attest.Row) bool { return !r.NotAfter.Equal(merged) }) {
		t.Errorf("not all were there at %s: %+v", merged, rows)
	}
}

// TestAnAuditSeesWhatAPullPutsAside commits to a clone that is behind, pulls, and pushes: what had landed is below the second
// parent then, and still was approved.
func TestAnAuditSeesWhatAPullPutsAside(t *testing.T) {
	w := newShuttle(t)
	began := w.tipOf(release)
	local, err := w.sim.Push(bitbucketsim.Push{Repository: w.fullName(), Branch: "local", From: release, Person: "alice", Files: map[string]string{"local.txt": "local"}})
	w.must(err)
	_, heads, landed := w.lands("landed", "merge_commit", 1, true)
	around := w.direct("around.txt")
	w.mergesBranch(release, "local", "merge_commit", false)
	_, err = w.sim.Push(bitbucketsim.Push{Repository: w.fullName(), Branch: release, From: "local", Force: true, Person: "alice"})
	w.must(err)
	pulled := w.tipOf(release)

	of := w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour))
	of.Since = began
	rows, summary, err := w.audit(of)
	w.must(err)
	got := judgements(rows)
	for _, want := range []judged{
		{heads[0], attest.KindApproved, attest.Signed},
		{landed, attest.KindApproved, attest.MergeOf},
		{around, attest.KindViolation, attest.Unrelated},
		{local.Hash, attest.KindViolation, attest.Unrelated},
		{pulled, attest.KindViolation, attest.Unrelated},
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%v is not listed: %v", want, got)
		}
	}
	if len(rows) != 5 || rows[4].Commit != pulled || !slices.Equal(summary.Heads, []string{pulled}) || len(summary.Bases) > 0 || len(summary.Missing) > 0 {
		t.Errorf("%v %+v", got, summary)
	}
	// What came after the merge that was put aside is listed, and what came with it is not.
	seen := w.recorded(landed)
	rows, summary, err = w.audit(w.auditOf(seen.Add(time.Nanosecond), time.Now().Add(time.Hour)))
	w.must(err)
	if len(rows) != 3 || !slices.Equal(summary.Bases, []string{landed}) {
		t.Errorf("of late: %v, bases %v", judgements(rows), summary.Bases)
	}
	// What is taken from the branch is in no row, but a merge that was recorded is missed.
	_, err = w.sim.Push(bitbucketsim.Push{Repository: w.fullName(), Branch: release, From: local.Hash, Force: true, Person: "alice"})
	w.must(err)
	rows, summary, err = w.audit(of)
	w.must(err)
	if got := judgements(rows); len(got) != 1 || got[0].commit != local.Hash || len(summary.Missing) != 1 || summary.Missing[0].Landed != landed || !summary.Missing[0].Recorded.Equal(seen) {
		t.Errorf("after a force push: %v, missing %+v", got, summary.Missing)
	}
}
