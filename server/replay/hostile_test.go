package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/replay"
)

// merged is a repository whose branch feature was merged into main, and what was signed of it.
func merged(t *testing.T) (*repository, evidence.Change) {
	t.Helper()
	r := branched(t)
	change := r.change()
	r.git("checkout", "--quiet", "main")
	r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
	change.Landed = r.git("rev-parse", "main")
	return r, change
}

func (r *repository) good(dir string, change evidence.Change) {
	r.t.Helper()
	found := look(r.t, dir, change, nil)
	if len(found.Missing) > 0 || found.Incomplete != "" || !found.Views[0].Bytes || len(found.Views[0].Differing) > 0 ||
		!slices.Equal(found.Views[0].Bases, change.Shown[0].MergeBases) || found.Landing == nil || found.Landing.Relation != evidence.CleanReplay || !found.Landing.OnBranch {
		r.t.Errorf("%+v %+v", found, found.Landing)
	}
}

// snapshot is every file below a folder with its content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Nothing that the repository says about itself is run or believed, and nothing in it is changed.
func TestAHostileRepositoryIsOnlyRead(t *testing.T) {
	t.Parallel()
	r, change := merged(t)
	trap := filepath.Join(t.TempDir(), "sprung")
	bait := "touch '" + trap + "' #"
	for _, setting := range []string{
		"core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.askPass", "diff.external", "diff.evil.textconv", "diff.evil.command",
		"filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "merge.evil.driver", "alias.rev-list", "uploadpack.packObjectsHook",
		"core.alternateRefsCommand", "gpg.program", "credential.helper",
	} {
		r.git("config", setting, bait)
	}
	r.git("config", "core.hooksPath", filepath.Join(r.dir, "hooks"))
	for _, hook := range []string{"post-index-change", "reference-transaction", "pre-auto-gc", "post-checkout", "pre-applypatch"} {
		r.write("hooks/"+hook, "#!/bin/sh\n"+bait+"\n")
		if err := os.Chmod(filepath.Join(r.dir, "hooks", hook), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.write(".git/info/attributes", "* diff=evil filter=evil merge=evil -text\n")
	before := snapshot(t, r.dir)
	r.good(r.dir, change)
	if _, err := os.Stat(trap); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the repository ran a program: %v", err)
	}
	after := snapshot(t, r.dir)
	for path, text := range after {
		if before[path] != text {
			t.Errorf("%s was changed", path)
		}
	}
	if len(before) != len(after) {
		t.Errorf("%d files became %d", len(before), len(after))
	}
}

// Replace refs and grafts show another history to whoever believes them.
func TestReplacedAndGraftedHistoryIsNotBelieved(t *testing.T) {
	t.Parallel()
	r, change := merged(t)
	r.commit("evil", "nobody saw this\n")
	landed := r.git("rev-parse", "main")
	r.git("replace", landed, change.Landed)
	if got := r.git("ls-tree", "--name-only", landed, "evil"); got != "" {
		t.Fatalf("git does not replace: %q", got)
	}
	r.write(".git/info/grafts", change.Head+"\n")
	r.good(r.dir, change)
	change.Landed = landed
	if l := look(t, r.dir, change, nil).Landing; l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"evil"}) {
		t.Errorf("%+v", l)
	}
}

// A file of objects may hold something else under a name than what has that name.
func TestAnObjectUnderAForeignNameIsNotBelieved(t *testing.T) {
	t.Parallel()
	r, change := merged(t)
	r.commit("evil", "nobody saw this\n")
	landed := r.git("rev-parse", "main")
	loose := func(hash string) string { return filepath.Join(r.dir, ".git", "objects", hash[:2], hash[2:]) }
	for from, to := range map[string]string{ // the good tree under the name of the evil one
		r.git("rev-parse", change.Landed+"^{tree}"): r.git("rev-parse", landed+"^{tree}"),
	} {
		data, err := os.ReadFile(loose(from))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(loose(to)), os.WriteFile(loose(to), data, 0o444)); err != nil {
			t.Fatal(err)
		}
	}
	change.Landed = landed
	found, err := replay.Look(t.Context(), r.dir, change, nil)
	if err == nil {
		t.Errorf("the repository was believed: %+v", found.Landing)
	}
}

func TestWaysToKeepARepository(t *testing.T) {
	t.Parallel()
	r, change := merged(t)
	clone := func(args ...string) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "clone with 'quotes' and:colon")
		r.git(append(append([]string{"clone", "--quiet"}, args...), dir)...)
		return dir
	}
	r.good(clone("--bare", r.dir), change)
	r.good(clone("--no-local", r.dir), change) // its branch feature is only a copy of the remote's
	shared := clone("--shared", r.dir)         // alternates
	r.good(shared, change)
	r.git("clone", "--quiet", "--shared", shared, shared+" again") // alternates of alternates
	r.good(shared+" again", change)
	linked := filepath.Join(t.TempDir(), "linked")
	r.git("worktree", "add", "--quiet", "--detach", linked)
	r.good(linked, change)
	r.good(filepath.Join(r.dir, ".git"), change)
	r.git("pack-refs", "--all")
	r.git("gc", "--quiet")
	r.good(r.dir, change)
}

func TestARepositoryThatIsNotWhole(t *testing.T) {
	t.Parallel()
	r, change := merged(t)
	shallow := filepath.Join(t.TempDir(), "shallow")
	r.git("clone", "--quiet", "--depth=1", "file://"+r.dir, shallow)
	if found := look(t, shallow, change, nil); !strings.Contains(found.Incomplete, "shallow") {
		t.Errorf("%+v", found)
	}
	r.git("config", "uploadpack.allowFilter", "true")
	partial := filepath.Join(t.TempDir(), "partial")
	r.git("clone", "--quiet", "--no-checkout", "--filter=blob:none", "file://"+r.dir, partial)
	if found := look(t, partial, change, nil); !strings.Contains(found.Incomplete, "partial") {
		t.Errorf("%+v", found)
	}
	squashed := filepath.Join(t.TempDir(), "squashed") // the source branch is gone
	r.git("branch", "--quiet", "clean", "main~1")
	r.git("clone", "--quiet", "--single-branch", "--branch=clean", "file://"+r.dir, squashed)
	found := look(t, squashed, change, nil)
	if !slices.Equal(found.Missing, []string{change.Head, change.Landed}) || found.Landing != nil || found.Views[0].Bytes {
		t.Errorf("%+v", found)
	}
	blob := r.git("rev-parse", "feature:page")
	if err := os.Remove(filepath.Join(r.dir, ".git", "objects", blob[:2], blob[2:])); err != nil {
		t.Fatal(err)
	}
	if _, err := replay.Look(t.Context(), r.dir, change, nil); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("without a file: %v", err)
	}
}

func TestWhatCannotBeUsed(t *testing.T) {
	t.Parallel()
	r, change := merged(t)
	sha256 := newRepository(t, "sha256")
	sha256.commit("page", page)
	broken := branched(t)
	broken.write(".git/config", "[[[\n")
	for name, c := range map[string]struct{ dir, says string }{
		"sha256":           {sha256.dir, "sha256"},
		"no repository":    {t.TempDir(), "not a git repository"},
		"a broken setting": {broken.dir, "config"},
	} {
		if _, err := replay.Look(t.Context(), c.dir, change, nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := replay.Look(t.Context(), r.dir, change, []byte("another diff")); !errors.Is(err, replay.ErrOtherDiff) {
		t.Errorf("a diff that nobody signed: %v", err)
	}
	stopped, stop := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	stop(reason)
	if _, err := replay.Look(stopped, r.dir, change, nil); !errors.Is(err, reason) {
		t.Errorf("stopped: %v", err)
	}
}

// A branch's name comes from the bundle.
func TestABranchWithTheNameOfAnotherFile(t *testing.T) {
	t.Parallel()
	r, change := merged(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(r.dir), "outside"), []byte(change.Landed+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.write(".git/inside", change.Landed+"\n")
	for _, branch := range []string{"../../../../outside", "../../inside", "/outside", "..", "", "absent", "*"} {
		change.Branch = branch
		if l := look(t, r.dir, change, nil).Landing; l == nil || l.OnBranch {
			t.Errorf("%q: %+v", branch, l)
		}
	}
}

func TestTheDiffShown(t *testing.T) {
	t.Parallel()
	r := branched(t)
	r.git("mv", "other", "moved")
	r.git("commit", "--quiet", "--message", "Move")
	change := r.change()
	base := change.Shown[0].MergeBases[0]
	for _, options := range [][]string{{"--abbrev=12"}, {"--full-index"}, {"--no-renames"}, {"--abbrev=9", "--no-renames"}} {
		change.Shown[0].Diff = diffOf(r.rendered(base, options...))
		if v := look(t, r.dir, change, nil).Views[0]; !v.Bytes || v.Unfit != "" || len(v.Differing) > 0 {
			t.Errorf("%v: %+v", options, v)
		}
	}
	// Another renderer: it is not reproduced, and counts once its bytes are there.
	wide := r.rendered(base, "--unified=7")
	change.Shown[0].Diff = diffOf(wide)
	if v := look(t, r.dir, change, nil).Views[0]; v.Bytes {
		t.Errorf("not reproduced: %+v", v)
	}
	if v := look(t, r.dir, change, wide).Views[0]; !v.Bytes || v.Source != "given" || v.Unfit != "" || len(v.Differing) > 0 {
		t.Errorf("given: %+v", v)
	}
	for name, c := range map[string]struct {
		diff      []byte
		differing []string
		unfit     bool
	}{
		"a line that was not shown": {bytes.Replace(r.rendered(base), []byte("+SIX"), []byte("+six"), 1), []string{"page"}, false},
		"a file that was not shown": {[]byte(r.git("diff", "--no-color", base, "feature", "--", "page") + "\n"), []string{"moved", "new/file", "other"}, false},
		"of something else":         {bytes.ReplaceAll(r.rendered(base), []byte("-two"), []byte("-zwei")), nil, true},
		"no diff":                   {[]byte("nothing to see\n"), []string{"moved", "new/file", "other", "page"}, false},
		"a path outside":            {[]byte("--- /dev/null\n+++ b/../../evil\n@@ -0,0 +1 @@\n+evil\n"), nil, true},
	} {
		change.Shown[0].Diff = diffOf(c.diff)
		v := look(t, r.dir, change, c.diff).Views[0]
		if !v.Bytes || c.unfit != (v.Unfit != "") || !c.unfit && !slices.Equal(v.Differing, c.differing) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestAnEmptyChange(t *testing.T) {
	t.Parallel()
	r := branched(t)
	r.git("checkout", "--quiet", "-B", "feature", "main")
	r.git("commit", "--quiet", "--allow-empty", "--message", "Nothing")
	change := r.change()
	if v := look(t, r.dir, change, nil).Views[0]; change.Shown[0].Diff.Size != 0 || !v.Bytes || v.Unfit != "" || len(v.Differing) > 0 {
		t.Errorf("%+v", v)
	}
}

func TestUnrelatedHistories(t *testing.T) {
	t.Parallel()
	r := branched(t)
	r.git("checkout", "--quiet", "--orphan", "fresh")
	r.commit("fresh", "start\n")
	r.git("branch", "--force", "feature", "fresh")
	change := evidence.Change{
		Head: r.git("rev-parse", "feature"), Branch: "main", Approved: true,
		Shown: []evidence.Shown{{Destination: r.git("rev-parse", "main"), Diff: diffOf(r.rendered("4b825dc642cb6eb9a060e54bf8d69288fbee4904"))}},
	}
	if v := look(t, r.dir, change, nil).Views[0]; len(v.Bases) > 0 || !v.Bytes || len(v.Differing) > 0 {
		t.Errorf("%+v", v)
	}
}

// A change of more commits than are replayed one by one is not called clean when it was rebased.
func TestMoreCommitsThanAreReplayed(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "sha1")
	r.commit("page", page)
	main := r.git("rev-parse", "main")
	var in strings.Builder
	for i := range replay.MaxCommits + 1 {
		fmt.Fprintf(&in, "commit refs/heads/feature\ncommitter A <a@example.com> %d +0000\ndata 1\nx\n", 1_700_001_000+i)
		if i == 0 {
			fmt.Fprintf(&in, "from %s\n", main)
		}
		name := fmt.Sprintf("file-%d", i)
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", name, len(name), name)
	}
	if _, err := r.try(in.String(), "fast-import", "--quiet"); err != nil {
		t.Fatal(err)
	}
	change := r.change()
	r.commit("elsewhere", "somebody else's\n")
	r.git("checkout", "--quiet", "-b", "rebased", "feature")
	r.git("rebase", "--quiet", "main")
	r.git("checkout", "--quiet", "main")
	r.git("merge", "--quiet", "--no-ff", "--no-edit", "rebased")
	if l := r.landing(change); l.Relation != "" || l.Why == "" {
		t.Errorf("%+v", l)
	}
}
