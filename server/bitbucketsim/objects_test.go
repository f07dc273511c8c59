package bitbucketsim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runGit runs the installed git in dir, isolated from the configuration of the machine.
func runGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_COMMITTER_NAME=Ann",
		"GIT_COMMITTER_EMAIL=ann@example.com", "GIT_AUTHOR_DATE=1700000000 +0000",
		"GIT_COMMITTER_DATE=1700000000 +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func writeSnapshot(t *testing.T, dir string, o *objects, s snapshot) {
	t.Helper()
	for p, e := range s {
		full := filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if e.mode == modeExecutable {
			mode = 0o755
		}
		if err := os.WriteFile(full, o.blobs[e.blob], mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(full, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == ".git" {
				return filepath.SkipDir
			}
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		out[filepath.ToSlash(rel)] = fmt.Sprintf("%v:%s", info.Mode()&0o100 != 0, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func text(o *objects, content string) entry { return entry{modeFile, o.putBlob([]byte(content))} }

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func TestHashesAreThoseOfGit(t *testing.T) {
	t.Parallel()
	o := newObjects()
	files := snapshot{
		"README.md": text(o, "hello\n"), "a/b.txt": text(o, "b"), "a.txt": text(o, "x\n"), "a/c/d": text(o, ""),
		"run.sh": {modeExecutable, o.putBlob([]byte("#!/bin/sh\n"))}, "ünï": text(o, "z\n"),
	}
	who := signature{"Ann", "ann@example.com", time.Unix(1700000000, 0)}
	first := o.putCommit(files, nil, who, "first")
	changed := snapshot{"README.md": text(o, "bye\n")}
	second := o.putCommit(changed, []string{first.hash}, who, "second\n\nbody")

	dir := t.TempDir()
	runGit(t, dir, "init", "-q", "-b", "main")
	writeSnapshot(t, dir, o, files)
	runGit(t, dir, "add", "-A")
	runGit(t, dir, "commit", "-q", "-m", "first")
	if got := strings.TrimSpace(runGit(t, dir, "rev-parse", "HEAD")); got != first.hash {
		t.Errorf("first commit: git says %s, we say %s", got, first.hash)
	}
	runGit(t, dir, "rm", "-q", "-r", ".")
	writeSnapshot(t, dir, o, changed)
	runGit(t, dir, "add", "-A")
	runGit(t, dir, "commit", "-q", "-m", "second\n\nbody")
	if got := strings.TrimSpace(runGit(t, dir, "rev-parse", "HEAD")); got != second.hash {
		t.Errorf("second commit: git says %s, we say %s", got, second.hash)
	}
}

// TestDiffAppliesWithGit applies each diff to the old tree with git and compares the result with the new tree.
func TestDiffAppliesWithGit(t *testing.T) {
	t.Parallel()
	o := newObjects()
	long := numbered(60)
	tests := map[string]struct{ from, to snapshot }{
		"new file":     {snapshot{"a": text(o, "1\n")}, snapshot{"a": text(o, "1\n"), "dir/b": text(o, "2\n3\n")}},
		"deleted file": {snapshot{"a": text(o, "1\n"), "b": text(o, "2\n3\n")}, snapshot{"a": text(o, "1\n")}},
		"modified in two places": {
			snapshot{"a": text(o, long)},
			snapshot{"a": text(o, strings.Replace(strings.Replace(long, "line 3\n", "LINE\nplus\n", 1), "line 50\n", "", 1))},
		},
		"no newline at the end": {snapshot{"a": text(o, "1\n2")}, snapshot{"a": text(o, "1\n3")}},
		"newline added":         {snapshot{"a": text(o, "1\n2")}, snapshot{"a": text(o, "1\n2\n")}},
		"pure rename":           {snapshot{"old.txt": text(o, long)}, snapshot{"sub/new.txt": text(o, long)}},
		"rename with a change":  {snapshot{"old.txt": text(o, long)}, snapshot{"new.txt": text(o, long+"more\n")}},
		"mode":                  {snapshot{"a": text(o, "1\n")}, snapshot{"a": {modeExecutable, o.putBlob([]byte("1\n"))}}},
		"mode and content":      {snapshot{"a": text(o, "1\n")}, snapshot{"a": {modeExecutable, o.putBlob([]byte("2\n"))}}},
		"name outside ASCII":    {snapshot{"ünï \"q\"": text(o, "1\n")}, snapshot{"ünï \"q\"": text(o, "2\n")}},
		"name with a blank":     {snapshot{"a b": text(o, "1\n")}, snapshot{"a b": text(o, "2\n")}},
		"emptied":               {snapshot{"a": text(o, "1\n")}, snapshot{"a": text(o, "")}},
		"empty file":            {snapshot{"a": text(o, "1\n")}, snapshot{"a": text(o, "1\n"), "e": text(o, "")}},
		"carriage returns":      {snapshot{"a": text(o, "1\r\n2\r\n")}, snapshot{"a": text(o, "1\r\n3\r\n")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkDiffApplies(t, o, tt.from, tt.to)
		})
	}
}

// TestRandomDiffsApplyWithGit does the same for texts edited at random, with a fixed seed.
func TestRandomDiffsApplyWithGit(t *testing.T) {
	t.Parallel()
	o := newObjects()
	r := rand.New(rand.NewPCG(1, 2)) // a reproducible test needs a seed, not a secret
	from, to := snapshot{}, snapshot{}
	for i := range 40 {
		var a, b strings.Builder
		for range r.IntN(40) {
			line := fmt.Sprintf("%d\n", r.IntN(6))
			if r.IntN(4) > 0 {
				a.WriteString(line)
			}
			if r.IntN(4) > 0 {
				b.WriteString(line)
			}
		}
		from[fmt.Sprintf("f%d", i)] = text(o, a.String())
		to[fmt.Sprintf("f%d", i)] = text(o, b.String())
	}
	checkDiffApplies(t, o, from, to)
}

func checkDiffApplies(t *testing.T, o *objects, from, to snapshot) {
	t.Helper()
	var diff strings.Builder
	o.writeDiff(&diff, o.compareSnapshots(from, to), 3)
	dir, want, patch := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "p.diff")
	writeSnapshot(t, dir, o, from)
	writeSnapshot(t, want, o, to)
	if err := os.WriteFile(patch, []byte(diff.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	runGit(t, dir, "init", "-q")
	runGit(t, dir, "apply", "--whitespace=nowarn", patch)
	got, wanted := readTree(t, dir), readTree(t, want)
	if len(got) != len(wanted) {
		t.Errorf("files after apply: %d, want %d\n%s", len(got), len(wanted), diff.String())
	}
	for p, c := range wanted {
		if got[p] != c {
			t.Errorf("%s after apply: %q, want %q\n%s", p, got[p], c, diff.String())
		}
	}
}

// TestBinaryDiffIsThatOfGit compares with git's own output, since such a diff cannot be applied.
func TestBinaryDiffIsThatOfGit(t *testing.T) {
	t.Parallel()
	o := newObjects()
	from := snapshot{"logo.png": text(o, "\x00\x01"), "gone.bin": text(o, "\x00gone")}
	to := snapshot{"logo.png": text(o, "\x00\x02"), "new.bin": text(o, "\x00completely different")}
	dir := t.TempDir()
	runGit(t, dir, "init", "-q", "-b", "main")
	writeSnapshot(t, dir, o, from)
	runGit(t, dir, "add", "-A")
	runGit(t, dir, "commit", "-q", "-m", "a")
	runGit(t, dir, "rm", "-q", "-r", ".")
	writeSnapshot(t, dir, o, to)
	runGit(t, dir, "add", "-A")
	want := runGit(t, dir, "diff", "--cached", "-M", "--abbrev=7")
	var got strings.Builder
	o.writeDiff(&got, o.compareSnapshots(from, to), 3)
	if got.String() != want {
		t.Errorf("got\n%s\ngit says\n%s", got.String(), want)
	}
}

func TestMergeBaseAndLog(t *testing.T) {
	t.Parallel()
	o := newObjects()
	at := 0
	mk := func(name string, parents ...string) string {
		at++
		who := signature{"Ann", "ann@example.com", time.Unix(1700000000+int64(at), 0)}
		return o.putCommit(snapshot{name: text(o, name)}, parents, who, name).hash
	}
	root := mk("root")
	a := mk("a", root)
	b := mk("b", root)
	merge := mk("merge", a, b)
	c := mk("c", b)
	other := mk("other")
	if got := o.mergeBase(merge, c).hash; got != b {
		t.Errorf("merge base is %s, want %s", got, b)
	}
	if got := o.mergeBase(root, merge).hash; got != root {
		t.Errorf("merge base with an ancestor is %s, want %s", got, root)
	}
	if got := o.mergeBase(merge, other); got != nil {
		t.Errorf("unrelated histories have the merge base %s", got.hash)
	}
	var names []string
	for _, x := range o.log(merge, c) {
		names = append(names, strings.TrimSpace(x.message))
	}
	if got := strings.Join(names, " "); got != "merge a" {
		t.Errorf("log is %q, want %q", got, "merge a")
	}
}

func TestMergeText(t *testing.T) {
	t.Parallel()
	base := "1\n2\n3\n4\n5\n6\n7\n"
	tests := map[string]struct {
		ours, theirs, want string
		conflict           bool
	}{
		"both ends":      {ours: "one\n2\n3\n4\n5\n6\n7\n", theirs: "1\n2\n3\n4\n5\n6\nseven\n", want: "one\n2\n3\n4\n5\n6\nseven\n"},
		"same change":    {ours: "1\n2\nX\n4\n5\n6\n7\n", theirs: "1\n2\nX\n4\n5\n6\n7\n", want: "1\n2\nX\n4\n5\n6\n7\n"},
		"same line":      {ours: "1\n2\nX\n4\n5\n6\n7\n", theirs: "1\n2\nY\n4\n5\n6\n7\n", conflict: true},
		"touching lines": {ours: "1\n2\nX\n4\n5\n6\n7\n", theirs: "1\n2\n3\nY\n5\n6\n7\n", conflict: true},
		"only ours":      {ours: "1\n2\n", theirs: base, want: "1\n2\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := mergeText([]byte(base), []byte(tt.ours), []byte(tt.theirs))
			if ok == tt.conflict || (ok && string(got) != tt.want) {
				t.Errorf("got %q, %v; want %q, conflict %v", got, ok, tt.want, tt.conflict)
			}
		})
	}
}
