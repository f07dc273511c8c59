package replay_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/replay"
)

// repository is a real one in a temporary folder.
type repository struct {
	t   *testing.T
	dir string
	now int
}

func newRepository(t *testing.T, format string) *repository {
	t.Helper()
	r := &repository{t: t, dir: t.TempDir(), now: 1_700_000_000}
	r.git("init", "--quiet", "--initial-branch=main", "--object-format="+format)
	r.git("config", "user.name", "Alice")
	r.git("config", "user.email", "alice@example.com")
	r.git("config", "commit.gpgSign", "false")
	return r
}

func (r *repository) try(in string, args ...string) (string, error) {
	r.now++
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir, cmd.Stdin = r.dir, strings.NewReader(in)
	date := "@" + strconv.Itoa(r.now) + " +0000"
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date,
		"GIT_EDITOR=true", "LC_ALL=C")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		r.t.Logf("git %s: %s%s", strings.Join(args, " "), out, said.String())
	}
	return strings.TrimSpace(string(out)), err
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	out, err := r.try("", args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *repository) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// commit writes a file, commits everything, and returns the commit's hash.
func (r *repository) commit(name, text string) string {
	r.t.Helper()
	r.write(name, text)
	r.git("add", "--all")
	r.git("commit", "--quiet", "--allow-empty", "--message", "Change "+name)
	return r.git("rev-parse", "HEAD")
}

const page = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\ntwelve\n"

// branched is a repository whose branch main stands at one commit and whose
// branch feature, which is checked out, has three more.
func branched(t *testing.T) *repository {
	t.Helper()
	r := newRepository(t, "sha1")
	r.write("page", page)
	r.write("other", page)
	r.commit("readme", "hello\n")
	r.git("checkout", "--quiet", "-b", "feature")
	r.commit("page", strings.Replace(page, "two", "TWO", 1))
	r.commit("new/file", "new\n")
	r.commit("page", strings.NewReplacer("two", "TWO", "six", "SIX").Replace(page))
	return r
}

// change is what was signed of the branch feature now, as Bitbucket shows it.
func (r *repository) change() evidence.Change {
	r.t.Helper()
	base := r.git("merge-base", "main", "feature")
	return evidence.Change{
		Head: r.git("rev-parse", "feature"), Branch: "main", Approved: true,
		Shown: []evidence.Shown{{Destination: r.git("rev-parse", "main"), MergeBases: []string{base}, Diff: diffOf(r.rendered(base))}},
	}
}

// rendered is the diff of feature since base, byte for byte.
func (r *repository) rendered(base string, options ...string) []byte {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", append(append([]string{"diff", "--no-color", "--abbrev=7", "-M"}, options...), base, "feature")...)
	cmd.Dir = r.dir
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func diffOf(data []byte) evidence.Diff {
	return evidence.Diff{SHA256: approval.DigestOf(data), Size: int64(len(data))}
}

func look(t *testing.T, dir string, change evidence.Change, diff []byte) evidence.Repository {
	t.Helper()
	found, err := replay.Look(t.Context(), dir, change, diff)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// landing looks at what main is now, as what landed of the change.
func (r *repository) landing(change evidence.Change) *evidence.Landing {
	r.t.Helper()
	change.Landed = r.git("rev-parse", "main")
	l := look(r.t, r.dir, change, nil).Landing
	if l == nil {
		r.t.Fatal("no landing")
	}
	if !l.OnBranch {
		r.t.Error("what landed is not on the branch")
	}
	return l
}

// strategies are Bitbucket's ways to merge: they bring feature into main, which
// is checked out. amend is called before the last commit that they make.
var strategies = map[string]struct {
	method evidence.Method
	merge  func(r *repository, amend func())
}{
	"merge_commit": {evidence.MergeCommit, func(r *repository, amend func()) {
		r.git("merge", "--quiet", "--no-ff", "--no-commit", "feature")
		amend()
		r.git("commit", "--quiet", "--message", "Merged in feature (pull request #7)")
	}},
	"squash": {evidence.Squash, func(r *repository, amend func()) {
		r.git("merge", "--quiet", "--squash", "feature")
		amend()
		r.git("commit", "--quiet", "--message", "Merged in feature (pull request #7)")
	}},
	"rebase_fast_forward": {evidence.Rebase, func(r *repository, amend func()) {
		r.rebase(amend)
		r.git("merge", "--quiet", "--ff-only", "rebased")
	}},
	"rebase_merge": {evidence.RebaseMerge, func(r *repository, amend func()) {
		r.rebase(amend)
		r.git("merge", "--quiet", "--no-ff", "--message", "Merged in feature (pull request #7)", "rebased")
	}},
}

func (r *repository) rebase(amend func()) {
	r.t.Helper()
	r.git("checkout", "--quiet", "-b", "rebased", "feature")
	r.git("rebase", "--quiet", "--force-rebase", "main")
	amend()
	r.git("commit", "--quiet", "--amend", "--no-edit", "--allow-empty")
	r.git("checkout", "--quiet", "main")
}
