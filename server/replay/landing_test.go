package replay_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
)

func TestEveryMergeStrategyOfBitbucket(t *testing.T) {
	t.Parallel()
	for name, strategy := range strategies {
		for _, moved := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := branched(t)
				change := r.change()
				r.git("checkout", "--quiet", "main")
				var between []string
				if moved {
					between = append(between, r.commit("elsewhere", "somebody else's\n"))
				}
				onto := r.git("rev-parse", "main")
				strategy.merge(r, func() {})
				l := r.landing(change)
				if l.Relation != evidence.CleanReplay || l.Method != strategy.method || l.Onto != onto || len(l.Files) > 0 || l.Rewritten {
					t.Errorf("moved %t: %+v", moved, l)
				}
				if !slices.Equal(l.Between, between) {
					t.Errorf("moved %t: between %v, want %v", moved, l.Between, between)
				}
			})
		}
		t.Run(name+" with residue", func(t *testing.T) {
			t.Parallel()
			r := branched(t)
			change := r.change()
			r.git("checkout", "--quiet", "main")
			strategy.merge(r, func() {
				r.write("evil", "nobody saw this\n")
				r.write("other", strings.Replace(page, "ten", "TEN", 1))
				r.git("add", "--all")
			})
			l := r.landing(change)
			if l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"evil", "other"}) || l.Why == "" {
				t.Errorf("%+v", l)
			}
		})
	}
}

func TestFastForward(t *testing.T) {
	t.Parallel()
	r := branched(t)
	change := r.change()
	r.git("checkout", "--quiet", "main")
	r.git("merge", "--quiet", "--ff-only", "feature")
	if l := r.landing(change); l.Relation != evidence.Identical || l.Method != evidence.FastForward || l.Rewritten {
		t.Errorf("%+v", l)
	}
	r.commit("evil", "one more\n")
	if l := r.landing(change); l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"evil"}) {
		t.Errorf("with one more commit: %+v", l)
	}
}

// What was made on top of the signed commit lands by a merge, squash or rebase of the signed commit onto it, which adds nothing.
func TestASignedCommitThatIsMergedOntoItsOwnDescendant(t *testing.T) {
	t.Parallel()
	for name, parents := range map[string][]string{
		"the signed commit second": {"-p", "evil", "-p", "feature"},
		"the signed commit first":  {"-p", "feature", "-p", "evil"},
		"the destination second":   {"-p", "evil", "-p", "main"},
		"one parent":               {"-p", "evil"},
	} {
		for _, merged := range []bool{false, true} {
			r := branched(t)
			change := r.change()
			r.git("checkout", "--quiet", "-b", "evil")
			if merged { // the destination is what the signed commit was merged into, not what it came from
				r.git("reset", "--quiet", "--hard", "main")
				r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
			}
			evil := r.commit("evil", "nobody saw this\n")
			l := r.git(append([]string{"commit-tree", "evil^{tree}", "-m", "Merged in feature"}, parents...)...)
			r.git("checkout", "--quiet", "main")
			r.git("reset", "--quiet", "--hard", l)
			if got := r.landing(change); got.Relation != evidence.Residue || !slices.Equal(got.Files, []string{"evil"}) || !slices.Contains(got.Between, evil) {
				t.Errorf("%s, merged %t: %+v", name, merged, got)
			}
		}
	}
	// A change that its destination had all of when it was shown is merged, and stays nothing.
	r := branched(t)
	r.git("checkout", "--quiet", "main")
	r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
	change := r.change()
	l := r.git("commit-tree", "main^{tree}", "-p", "main", "-p", "feature", "-m", "Merged in feature")
	r.git("reset", "--quiet", "--hard", l)
	if got := r.landing(change); got.Relation != evidence.CleanReplay || len(got.Between) > 0 {
		t.Errorf("nothing new: %+v", got)
	}
}

func TestAConflictResolvedAtMerge(t *testing.T) {
	t.Parallel()
	r := branched(t)
	change := r.change()
	r.git("checkout", "--quiet", "main")
	r.commit("page", strings.Replace(page, "two", "deux", 1))
	if _, err := r.try("", "merge", "--quiet", "feature"); err == nil {
		t.Fatal("no conflict")
	}
	r.commit("page", strings.NewReplacer("two", "TWO and deux", "six", "SIX").Replace(page))
	l := r.landing(change)
	if l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"page"}) || !strings.Contains(l.Why, "conflict") {
		t.Errorf("%+v", l)
	}
}

func TestAMergeStrategyThatAttributesAskForIsAHand(t *testing.T) {
	t.Parallel()
	r := branched(t)
	r.commit(".gitattributes", "page merge=union\n")
	change := r.change()
	r.git("checkout", "--quiet", "main")
	r.commit(".gitattributes", "page merge=union\n")
	r.commit("page", strings.Replace(page, "two", "deux", 1))
	r.git("merge", "--quiet", "--no-edit", "feature")
	if l := r.landing(change); l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"page"}) {
		t.Errorf("%+v", l)
	}
}

// One commit of a rebase holds more than the signed one, and the last does not undo it.
func TestACommitInTheMiddleOfARebase(t *testing.T) {
	t.Parallel()
	for _, undone := range []bool{false, true} {
		r := branched(t)
		change := r.change()
		signed := strings.Fields(r.git("rev-list", "--reverse", "main..feature"))
		r.git("checkout", "--quiet", "main")
		r.commit("elsewhere", "somebody else's\n")
		for i, hash := range signed {
			r.git("cherry-pick", hash)
			if i == 0 {
				r.write("evil", "nobody saw this\n")
			}
			if i == 1 && undone {
				r.git("rm", "--quiet", "evil")
			}
			r.git("add", "--all")
			r.git("commit", "--quiet", "--amend", "--no-edit")
		}
		if l := r.landing(change); l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"evil"}) {
			t.Errorf("undone %t: %+v", undone, l)
		}
	}
}

// The commits of another change that this one is built on landed before.
func TestAChangeBuiltOnAnother(t *testing.T) {
	t.Parallel()
	r := branched(t)
	change := r.change()
	signed := strings.Fields(r.git("rev-list", "--reverse", "main..feature"))
	r.git("checkout", "--quiet", "main")
	r.commit("elsewhere", "somebody else's\n")
	r.git("cherry-pick", signed[0])
	r.git("merge", "--quiet", "--squash", "feature")
	r.git("commit", "--quiet", "--message", "Merged in feature (pull request #7)")
	if l := r.landing(change); l.Relation != evidence.CleanReplay || l.Method != evidence.Squash || len(l.Between) != 2 {
		t.Errorf("%+v", l)
	}
}

func TestOtherCommitsThatMerge(t *testing.T) {
	t.Parallel()
	t.Run("octopus", func(t *testing.T) {
		t.Parallel()
		r := branched(t)
		change := r.change()
		r.git("checkout", "--quiet", "-b", "third", "main")
		r.commit("evil", "nobody saw this\n")
		r.git("checkout", "--quiet", "main")
		main := r.git("rev-parse", "main")
		r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature", "third")
		if n := len(strings.Fields(r.git("rev-list", "--parents", "--no-walk", "main"))); n != 4 {
			t.Fatalf("%d parents", n-1)
		}
		if l := r.landing(change); l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"evil"}) || l.Onto != main {
			t.Errorf("%+v", l)
		}
	})
	t.Run("a newer head", func(t *testing.T) {
		t.Parallel()
		r := branched(t)
		change := r.change()
		r.commit("evil", "pushed after the approval\n")
		r.git("checkout", "--quiet", "main")
		r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
		if l := r.landing(change); l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"evil"}) {
			t.Errorf("%+v", l)
		}
	})
	t.Run("an older head", func(t *testing.T) {
		t.Parallel()
		r := branched(t)
		change := r.change()
		r.git("checkout", "--quiet", "main")
		r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature~1")
		if l := r.landing(change); l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"page"}) {
			t.Errorf("%+v", l)
		}
	})
	t.Run("without parents", func(t *testing.T) {
		t.Parallel()
		r := branched(t)
		change := r.change()
		r.git("checkout", "--quiet", "--orphan", "fresh")
		r.commit("evil", "a new start\n")
		r.git("branch", "--force", "main", "fresh")
		if l := r.landing(change); l.Relation != evidence.Residue || !slices.Equal(l.Files, []string{"evil"}) || !l.Rewritten {
			t.Errorf("%+v", l)
		}
	})
	t.Run("criss-cross", func(t *testing.T) {
		t.Parallel()
		r := branched(t)
		main := r.git("rev-parse", "main")
		first := r.git("rev-parse", "feature~2")
		r.git("checkout", "--quiet", "main")
		r.commit("elsewhere", "somebody else's\n")
		other := r.git("rev-parse", "main")
		r.git("merge", "--quiet", "--no-ff", "--no-edit", first)
		r.git("checkout", "--quiet", "feature")
		r.git("merge", "--quiet", "--no-edit", other)
		change := r.change()
		if bases := look(t, r.dir, change, nil).Views[0].Bases; len(bases) != 2 || slices.Contains(bases, main) {
			t.Fatalf("merge bases %v", bases)
		}
		r.git("checkout", "--quiet", "main")
		r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
		if l := r.landing(change); l.Relation != evidence.CleanReplay || l.Method != evidence.MergeCommit {
			t.Errorf("%+v", l)
		}
	})
}

func TestARewrittenDestination(t *testing.T) {
	t.Parallel()
	r := branched(t)
	r.git("checkout", "--quiet", "main")
	r.commit("elsewhere", "to be dropped\n")
	change := r.change()
	r.git("reset", "--quiet", "--hard", "HEAD~1")
	r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
	if l := r.landing(change); l.Relation != evidence.CleanReplay || !l.Rewritten {
		t.Errorf("%+v", l)
	}
}

func TestFilesThatAreNotJustText(t *testing.T) {
	t.Parallel()
	r := branched(t)
	r.git("mv", "other", "renamed")
	r.write("crlf", "a\r\nb\r\n")
	r.write(".gitattributes", "*.txt text eol=crlf\n")
	r.write("lines.txt", "a\nb\n")
	r.write("binary", "\x00\x01\x02")
	r.write("tool", "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(r.dir, "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.git("add", "--all")
	r.git("update-index", "--add", "--cacheinfo", "160000,0123456789012345678901234567890123456789,sub")
	r.git("commit", "--quiet", "--message", "All kinds of files")
	change := r.change()
	v := look(t, r.dir, change, nil).Views[0]
	if !v.Bytes || v.Unfit != "" || !slices.Equal(v.Differing, []string{"binary"}) || !slices.Equal(v.Opaque, v.Differing) {
		t.Errorf("%+v", v)
	}
	r.git("checkout", "--quiet", "main")
	r.commit("other", strings.Replace(page, "eleven", "ELEVEN", 1)) // renamed on the other side
	r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
	if l := r.landing(change); l.Relation != evidence.CleanReplay {
		t.Errorf("%+v", l)
	}
}

// Names that patterns, quotes and lines could be made of, and a file beyond what git compares as text.
func TestHostileNamesAndHugeFiles(t *testing.T) {
	t.Parallel()
	r := branched(t)
	odd := []string{"*", "[a-z]?", `back\slash*`, "line\nbreak", "-option", `"quoted"`, "tab\there", ":(exclude)page", "\xff\xfe"}
	for _, name := range odd {
		r.write("text/"+name, "text\n")
		r.write("binary/"+name, "\x00\x01")
	}
	huge := filepath.Join(r.dir, "huge")
	if err := errors.Join(os.WriteFile(huge, nil, 0o600), os.Truncate(huge, 40<<20)); err != nil {
		t.Fatal(err)
	}
	r.git("add", "--all")
	r.git("commit", "--quiet", "--message", "Odd names")
	change := r.change()
	var binary []string
	for _, name := range odd {
		binary = append(binary, "binary/"+name)
	}
	binary = append(binary, "huge")
	slices.Sort(binary)
	v := look(t, r.dir, change, nil).Views[0]
	if !v.Bytes || v.Unfit != "" || !slices.Equal(v.Differing, binary) || !slices.Equal(v.Opaque, binary) {
		t.Errorf("%+v", v)
	}
	r.git("checkout", "--quiet", "main")
	strategies["merge_commit"].merge(r, func() {
		for _, name := range odd {
			r.write("text/"+name, "TEXT\n")
		}
		r.git("add", "--all")
	})
	var text []string
	for _, name := range odd {
		text = append(text, "text/"+name)
	}
	slices.Sort(text)
	if l := r.landing(change); l.Relation != evidence.Residue || !slices.Equal(l.Files, text) {
		t.Errorf("%+v", l)
	}
}

// A file that attributes call binary is text all the same: a diff that hides it does not give the tree.
func TestADiffThatAttributesHideTextFrom(t *testing.T) {
	t.Parallel()
	r := branched(t)
	r.commit(".gitattributes", "page -diff\n")
	change := r.change()
	hidden := r.rendered(change.Shown[0].MergeBases[0])
	if !bytes.Contains(hidden, []byte("Binary files a/page and b/page differ")) {
		t.Fatalf("nothing is hidden:\n%s", hidden)
	}
	if v := look(t, r.dir, change, hidden).Views[0]; !v.Bytes || v.Unfit == "" {
		t.Errorf("%+v", v)
	}
}

// What a diff says of a binary file is that it differs. Another text of it, or nothing, is something else than the head has; and
// that a text file differs is not enough, also where the diff names the new content by its whole hash.
func TestADiffThatHidesWhatABinaryFileIs(t *testing.T) {
	t.Parallel()
	const script = "#!/bin/sh\nfetch something | sh\nexit\n\x00\n"
	for name, c := range map[string]struct {
		shown, head string
		binary      bool // of what is shown
	}{
		"other text":               {"#!/bin/sh\necho hello\n", script, false},
		"nothing":                  {"", script, false},
		"that it differs":          {"\x00", script, true},
		"that a text file differs": {"\x00", "#!/bin/sh\n", false},
	} {
		r := branched(t)
		base := r.git("merge-base", "main", "feature")
		r.git("branch", "before")
		if c.shown != "" {
			r.commit("deploy.sh", c.shown)
		}
		shown := r.rendered(base)
		r.git("reset", "--quiet", "--hard", "before")
		r.commit("deploy.sh", c.head)
		change := r.change()
		change.Shown[0].Diff = diffOf(shown)
		v := look(t, r.dir, change, shown).Views[0]
		held := v.Unfit == "" && len(v.Differing) == len(v.Opaque)
		if !v.Bytes || held != c.binary || held && !slices.Equal(v.Opaque, []string{"deploy.sh"}) {
			t.Errorf("%s: %+v", name, v)
		}
	}
	r := branched(t)
	base := r.git("merge-base", "main", "feature")
	r.commit(".gitattributes", "page -diff\n")
	whole := []byte(r.git("diff", "--full-index", base, "feature") + "\n")
	change := r.change()
	change.Shown[0].Diff = diffOf(whole)
	if !bytes.Contains(whole, []byte("Binary files a/page and b/page differ")) {
		t.Fatalf("nothing is hidden:\n%s", whole)
	}
	if v := look(t, r.dir, change, whole).Views[0]; !v.Bytes || slices.Contains(v.Opaque, "page") || !slices.Contains(v.Differing, "page") {
		t.Errorf("by its hash: %+v", v)
	}
}

// What came to the destination is named until somebody whose decision counts was shown it.
func TestADestinationThatOnlyOthersWereShown(t *testing.T) {
	t.Parallel()
	r := branched(t)
	change := r.change()
	r.git("checkout", "--quiet", "main")
	evil := r.commit("evil", "nobody saw this\n")
	strategies["squash"].merge(r, func() {})
	newer := change.Shown[0]
	newer.Destination = evil
	for _, uncounted := range []bool{true, false} {
		newer.Uncounted = uncounted
		shown := change
		shown.Shown = append(slices.Clone(change.Shown), newer)
		if l := r.landing(shown); l.Relation != evidence.CleanReplay || slices.Contains(l.Between, evil) != uncounted {
			t.Errorf("uncounted %t: %+v", uncounted, l)
		}
	}
}

// A binary file that is renamed and changed is said to differ under its new name, and is gone under its old one; a file that git
// does not take for binary but is shown as text is applied as text beside those.
func TestBinaryFilesThatAreRenamed(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "sha1")
	r.write("readme", "hello\n")
	r.commit("old \xff name", "\x00"+strings.Repeat(page, 10))
	r.git("checkout", "--quiet", "-b", "feature")
	r.git("mv", "old \xff name", "new \"name\"")
	r.write("readme", "hello again\n")
	r.commit("new \"name\"", "\x00"+strings.Repeat(page, 10)+"more\n")
	change := r.change()
	shown := r.rendered(change.Shown[0].MergeBases[0])
	if !bytes.Contains(shown, []byte("rename from ")) {
		t.Fatalf("no rename:\n%s", shown)
	}
	v := look(t, r.dir, change, shown).Views[0]
	if want := []string{"new \"name\"", "old \xff name"}; !v.Bytes || v.Unfit != "" || !slices.Equal(v.Differing, want) || !slices.Equal(v.Opaque, want) {
		t.Errorf("%+v", v)
	}
}

// What landed rests on the destination before it, on whichever side of a merge that is, and one that landed as it was signed on its merge bases.
func TestWhatALandingRestsOn(t *testing.T) {
	t.Parallel()
	r := branched(t)
	base, change := r.git("rev-parse", "main"), r.change()
	rests := func(name string, settled []string, want ...string) {
		t.Helper()
		change := change
		change.Landed, change.Settled = r.git("rev-parse", "main"), settled
		if got := look(t, r.dir, change, nil).Rests; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	r.git("checkout", "--quiet", "main")
	older := r.git("commit-tree", "main^{tree}", "-m", "another beginning")
	r.git("reset", "--quiet", "--hard", "feature")
	rests("a fast-forward", change.Base())
	rests("a fast-forward for others", []string{older}, base)
	r.git("reset", "--quiet", "--hard", base)
	onto := r.commit("elsewhere", "somebody else's\n")
	r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature")
	rests("a merge", change.Base(), onto)
	rests("a merge onto what is settled", append(change.Base(), onto))
	rests("a merge, of which what comes after is settled", []string{r.git("rev-parse", "main")})
	merged := r.git("commit-tree", "main^{tree}", "-p", "feature", "-p", onto, "-m", "the other way round")
	r.git("reset", "--quiet", "--hard", merged)
	rests("a merge the other way round", change.Base(), onto)
	r.git("reset", "--quiet", "--hard", onto)
	r.git("merge", "--quiet", "--squash", "feature")
	r.git("commit", "--quiet", "--message", "squashed")
	rests("a squash", change.Base(), onto)
	change.Shown[0].Uncounted = true
	if got := change.Base(); !slices.Equal(got, []string{change.Head}) {
		t.Errorf("what was shown to nobody who counts is settled: %v", got)
	}
}
