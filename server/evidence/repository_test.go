package evidence_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/replay"
)

// approvedReport is the report on a request that was approved and merged.
func approvedReport(t *testing.T) evidence.Report {
	t.Helper()
	w := newWorld(t)
	w.story()
	return evidence.Verify(w.encoded(), w.anchors())
}

func TestTheChangeOfABundle(t *testing.T) {
	t.Parallel()
	c, ok := approvedReport(t).Change()
	if !ok || c.Head != commits["new"] || c.Branch != "release/1.0" || !c.Approved || c.Landed != commits["landed"] || len(c.Shown) != 1 ||
		c.Shown[0].Destination != commits["destination"] || !slices.Equal(c.Shown[0].MergeBases, []string{commits["base"]}) {
		t.Errorf("%t %+v", ok, c)
	}
	w := newWorld(t)
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("bob", evidence.Withdraw)
	if c, ok := evidence.Verify(w.encoded(), w.anchors()).Change(); !ok || c.Approved || c.Landed != "" || len(c.Shown) != 1 {
		t.Errorf("withdrawn: %t %+v", ok, c)
	}
	broken := evidence.Verify([]byte("{}"), evidence.Anchors{})
	if _, ok := broken.Change(); ok {
		t.Error("a bundle that failed has a change")
	}
	if again := broken.Recompute(evidence.Repository{}); len(again.Steps) != 1 || again.ExitCode() != 1 {
		t.Errorf("%+v", again)
	}
}

// TestAStolenKeyHidesNoStepWithARepository: what landed is compared all the same, and nothing is proved by that.
func TestAStolenKeyHidesNoStepWithARepository(t *testing.T) {
	t.Parallel()
	data, anchors := told(stolenLater("carol bob", merge))(t)
	report := evidence.Verify(data, anchors)
	if _, ok := report.Change(); ok || !report.Stolen() {
		t.Fatal(report.Sentence())
	}
	view := evidence.RepositoryView{Bases: []string{commits["base"]}, Bytes: true, Source: "given"}
	for relation, want := range map[evidence.Relation]struct {
		step string
		code evidence.Code
	}{evidence.Identical: {"tally", evidence.CodeStolen}, evidence.Residue: {"landed", evidence.CodeResidue}} {
		landing := evidence.Landing{Relation: relation, Commit: commits["landed"], OnBranch: true}
		again := report.Recompute(evidence.Repository{Views: []evidence.RepositoryView{view}, Landing: &landing})
		failed, _ := again.Failed()
		if len(again.Steps) != 18 || failed.Name != want.step || failed.Code != want.code || again.ExitCode() != 1 || again.Verdict != nil || len(again.Facts) > 0 || again.Landing == nil {
			t.Errorf("%s: exit %d, %s, %+v", relation, again.ExitCode(), again.Sentence(), again.Steps)
		}
		if alone := strings.HasSuffix(again.Sentence(), "; no other step fails"); alone != (want.code == evidence.CodeStolen) || alone != again.Stolen() {
			t.Errorf("%s: %s", relation, again.Sentence())
		}
	}
}

func TestStepsWithARepository(t *testing.T) {
	t.Parallel()
	view := evidence.RepositoryView{Bases: []string{commits["base"]}, Bytes: true, Source: "given"}
	landing := evidence.Landing{
		Relation: evidence.CleanReplay, Method: evidence.Squash, Commit: commits["landed"], Onto: commits["destination"], OnBranch: true,
	}
	const ok, asserted, failed = evidence.OK, evidence.OperatorAsserted, evidence.Failed
	for name, c := range map[string]struct {
		change func(r *evidence.Repository, v *evidence.RepositoryView, l *evidence.Landing)
		want   []evidence.Result // of the steps commits, diff and landed
		code   evidence.Code
		files  []string
		says   string
	}{
		"all good": {want: []evidence.Result{ok, ok, ok}, says: "clean replay (squash)"},
		"identical": {func(_ *evidence.Repository, _ *evidence.RepositoryView, l *evidence.Landing) {
			l.Relation = evidence.Identical
		}, []evidence.Result{ok, ok, ok}, "", nil, "identical"},
		"a shallow clone": {func(r *evidence.Repository, _ *evidence.RepositoryView, _ *evidence.Landing) {
			*r = evidence.Repository{Incomplete: "a shallow clone"}
		}, []evidence.Result{asserted, asserted, asserted}, "", nil, "lacks"},
		"no head": {func(r *evidence.Repository, v *evidence.RepositoryView, _ *evidence.Landing) {
			r.Missing, *v, r.Landing = []string{commits["new"]}, evidence.RepositoryView{}, nil
		}, []evidence.Result{asserted, asserted, asserted}, "", nil, "lacks"},
		"landed is missing": {func(r *evidence.Repository, _ *evidence.RepositoryView, _ *evidence.Landing) {
			r.Missing, r.Landing = []string{commits["landed"] + "0"}, nil
		}, []evidence.Result{ok, ok, asserted}, "", nil, "lacks"},
		"several merge bases": {func(_ *evidence.Repository, v *evidence.RepositoryView, _ *evidence.Landing) {
			v.Bases = []string{commits["base"], commits["old"]}
		}, []evidence.Result{ok, ok, ok}, "", nil, "clean replay"},
		"another merge base": {func(_ *evidence.Repository, v *evidence.RepositoryView, _ *evidence.Landing) {
			v.Bases = []string{commits["old"]}
		}, []evidence.Result{failed}, evidence.CodeRepository, nil, "not a merge base"},
		"another rendering": {func(_ *evidence.Repository, v *evidence.RepositoryView, _ *evidence.Landing) { v.Bytes = false }, []evidence.Result{ok, asserted, ok}, "", nil, "clean replay"},
		"binary files": {func(_ *evidence.Repository, v *evidence.RepositoryView, _ *evidence.Landing) {
			v.Differing, v.Opaque = []string{"logo"}, []string{"logo"}
		}, []evidence.Result{ok, ok, ok}, "", nil, "clean replay"},
		"a hidden file": {func(_ *evidence.Repository, v *evidence.RepositoryView, _ *evidence.Landing) {
			v.Differing, v.Opaque = []string{"code", "logo"}, []string{"logo"}
		}, []evidence.Result{ok, failed}, evidence.CodeRepository, []string{"code"}, `"code"`},
		"a diff of something else": {func(_ *evidence.Repository, v *evidence.RepositoryView, _ *evidence.Landing) {
			v.Unfit = "patch does not apply"
		}, []evidence.Result{ok, failed}, evidence.CodeRepository, nil, "does not apply"},
		"residue": {func(_ *evidence.Repository, _ *evidence.RepositoryView, l *evidence.Landing) {
			l.Relation, l.Why, l.Files = evidence.Residue, "why", []string{"evil\nname"}
		}, []evidence.Result{ok, ok, failed}, evidence.CodeResidue, []string{"evil\nname"}, `"evil\nname"`},
		"too much to replay": {func(_ *evidence.Repository, _ *evidence.RepositoryView, l *evidence.Landing) {
			l.Relation, l.Why = "", "too many commits"
		}, []evidence.Result{ok, ok, asserted}, "", nil, "too many commits"},
		"on no branch": {func(_ *evidence.Repository, _ *evidence.RepositoryView, l *evidence.Landing) { l.OnBranch = false }, []evidence.Result{ok, ok, asserted}, "", nil, "no branch"},
		"rewritten":    {func(_ *evidence.Repository, _ *evidence.RepositoryView, l *evidence.Landing) { l.Rewritten = true }, []evidence.Result{ok, ok, asserted}, "", nil, "rewritten"},
		"others before": {func(_ *evidence.Repository, _ *evidence.RepositoryView, l *evidence.Landing) {
			l.Between = []string{"abc"}
		}, []evidence.Result{ok, ok, asserted}, "", nil, "abc"},
		"others before a merge commit": {func(_ *evidence.Repository, _ *evidence.RepositoryView, l *evidence.Landing) {
			l.Method, l.Between = evidence.MergeCommit, []string{"abc"}
		}, []evidence.Result{ok, ok, ok}, "", nil, "to which 1 more had come"},
	} {
		repository := evidence.Repository{Views: []evidence.RepositoryView{view}}
		l := landing
		repository.Landing = &l
		if c.change != nil {
			c.change(&repository, &repository.Views[0:1][0], &l)
		}
		before := approvedReport(t)
		report := before.Recompute(repository)
		taken := report.Steps[len(before.Steps):]
		var got []evidence.Result
		for i, step := range taken {
			got = append(got, step.Result)
			if want := []string{"commits", "diff", "landed"}[i]; step.Name != want || step.Number != len(before.Steps)+i+1 {
				t.Errorf("%s: step %d is %s", name, step.Number, step.Name)
			}
			recomputed := slices.ContainsFunc(report.Facts, func(f evidence.Fact) bool {
				return f.Name == step.Name && f.Label == evidence.Recomputed && f.Value == step.Detail
			})
			if recomputed != (step.Result == ok && report.ExitCode() != 1) {
				t.Errorf("%s: %s is %s, labelled recomputed: %t", name, step.Name, step.Result, recomputed)
			}
		}
		last := taken[len(taken)-1]
		if !slices.Equal(got, c.want) || last.Code != c.code || !slices.Equal(last.Files, c.files) || !strings.Contains(last.Detail, c.says) {
			t.Errorf("%s: %+v", name, taken)
		}
		doubts := len(report.Missing) - len(before.Missing)
		if bad := slices.Contains(c.want, failed); bad != (report.ExitCode() == 1) || bad != (report.Verdict == nil) ||
			doubts != len(slices.DeleteFunc(slices.Clone(c.want), func(r evidence.Result) bool { return r != asserted })) {
			t.Errorf("%s: exit %d, missing %v", name, report.ExitCode(), report.Missing)
		}
	}
}

func TestALandingThatNobodyApproved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("old")
	w.append(evidence.Merged{Request: w.request().ID, Kind: "violation", Commit: commits["old"]})
	report := evidence.Verify(w.encoded(), w.anchors())
	report = report.Recompute(evidence.Repository{Landing: &evidence.Landing{Relation: evidence.Identical, Commit: commits["old"], OnBranch: true}})
	if last := report.Steps[len(report.Steps)-1]; last.Name != "landed" || last.Code != evidence.CodeResidue || report.ExitCode() != 1 {
		t.Errorf("%+v", last)
	}
}

// What only somebody was shown whose decision does not count says nothing about what came to the destination; nor does the
// approval of a key in other hands about what landed.
func TestTheChangeRestsOnDecisionsThatCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("new")
	w.decide("bob", evidence.Approve)
	w.tamperStatement = func(s *evidence.Statement) { s.Destination.Commit = commits["old"] }
	w.decide("carol", evidence.Reject)
	w.decide("carol", evidence.Withdraw)
	w.tamperStatement = nil
	w.decide("dave", evidence.Approve)
	c, ok := evidence.Verify(w.encoded(), w.anchors()).Change()
	if !ok || len(c.Shown) != 2 || c.Shown[0].Uncounted || c.Shown[1].Destination != commits["old"] || !c.Shown[1].Uncounted {
		t.Errorf("%t %+v", ok, c)
	}

	for _, thief := range []bool{false, true} {
		w = newWorld(t)
		w.open("new")
		if !thief {
			w.decide("bob", evidence.Approve)
		}
		since := w.now.Truncate(time.Second)
		w.decide("dave", evidence.Approve)
		w.revoke("dave", w.token("bob"), &since)
		w.tamperFacts = func(f *approval.Facts) { f.Decisions[len(f.Decisions)-1].Compromised = true }
		w.tally()
		w.append(evidence.Merged{Request: w.request().ID, Kind: "violation", Commit: w.commit("new")})
		w.publish()
		report := evidence.Verify(w.encoded(), w.anchors())
		if c, ok := report.Change(); !ok || c.Approved == thief || c.Shown[0].Uncounted != thief {
			t.Errorf("thief alone %t: %+v, %s", thief, c, report.Sentence())
		}
	}
}

// TestALandingThatWasApprovedTooLate is one that the chain calls a violation, though somebody's approval stands.
func TestALandingThatWasApprovedTooLate(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]evidence.Result{"approved": evidence.OK, "violation": evidence.Failed} {
		w := newWorld(t)
		w.open("old")
		w.decide("bob", evidence.Approve)
		w.decide("carol", evidence.Approve)
		w.append(evidence.Merged{Request: w.request().ID, Kind: kind, Commit: commits["old"]})
		report := evidence.Verify(w.encoded(), w.anchors())
		if c, ok := report.Change(); !ok || !c.Approved || c.Violation != (kind == "violation") {
			t.Errorf("%s: %+v, %s", kind, c, report.Sentence())
		}
		report = report.Recompute(evidence.Repository{
			Views:   []evidence.RepositoryView{{Bases: []string{commits["base"]}, Bytes: true, Source: "given"}},
			Landing: &evidence.Landing{Relation: evidence.Identical, Commit: commits["old"], OnBranch: true},
		})
		if last := report.Steps[len(report.Steps)-1]; last.Name != "landed" || last.Result != want {
			t.Errorf("%s: %+v", kind, last)
		}
	}
}

// From the bytes of a bundle to the verdict on what landed, over a real repository.
func TestABundleAgainstARepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgSign=false"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				t.Logf("%s", exit.Stderr)
			}
			t.Fatalf("git %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	commit := func(name, text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		git("add", "--all")
		git("commit", "--quiet", "--message", name)
		return git("rev-parse", "HEAD")
	}
	git("init", "--quiet", "--initial-branch=release/1.0")
	base := commit("page", "one\n")
	git("checkout", "--quiet", "-b", "feature/x")
	older := commit("page", "ONE\n")
	head := commit("page", "ONE\ntwo\n")
	git("checkout", "--quiet", "release/1.0")
	git("merge", "--quiet", "--squash", "feature/x")
	clean := commit("page", "ONE\ntwo\n")
	evil := commit("evil", "nobody saw this\n")

	for landed, want := range map[string]int{clean: 0, evil: 1} {
		w := newWorld(t)
		w.real = map[string]string{"base": base, "old": older, "new": head, "destination": base, "landed": landed}
		w.diff = []byte(git("diff", "--abbrev=7", base, head) + "\n")
		w.story()
		report := evidence.Verify(w.encoded(), w.anchors())
		change, ok := report.Change()
		if !ok {
			t.Fatal(report.Sentence())
		}
		found, err := replay.Look(t.Context(), dir, change, nil)
		if err != nil {
			t.Fatal(err)
		}
		report = report.Recompute(found)
		last := report.Steps[len(report.Steps)-1]
		if report.ExitCode() != want || want == 0 && last.Result != evidence.OK || want == 1 && !slices.Equal(last.Files, []string{"evil"}) {
			t.Errorf("%s: exit %d, %+v", landed, report.ExitCode(), report.Steps[15:])
		}
	}
}
