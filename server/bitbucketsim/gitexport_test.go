package bitbucketsim_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// git makes the same commits of an export, under the same hashes, and finds nothing wrong with them.
func TestFastExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	must(t)(w.sim.Push(bitbucketsim.Push{
		Repository: "acme/rocket", Branch: "feature", Person: "bob", Message: "Zünder\n\nin two paragraphs",
		Files: map[string]string{"a \"quoted\"\tname": "x", "ümlaut/empty": "", "src/binary": "\x00\n\xff"},
	}))
	w.open("Nozzle")
	w.diverge()
	w.as("alice").do(200, "POST", w.repo+"/pullrequests/1/merge", map[string]any{"merge_strategy": "merge_commit"})
	stream, err := w.sim.FastExport("acme/rocket")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	git := func(in []byte, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir, cmd.Stdin, cmd.Env = dir, bytes.NewReader(in), append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git(nil, "init", "--quiet", "--bare")
	git(stream, "fast-import", "--quiet")
	for _, branch := range []string{"main", "feature", "release/1.0"} {
		want := w.as("bob").get(w.repo + "/refs/branches/" + branch).str("target.hash")
		if got := git(nil, "rev-parse", "refs/heads/"+branch); got != want {
			t.Errorf("%s is %s, not %s", branch, got, want)
		}
	}
	if n := strings.Count(git(nil, "for-each-ref"), "\n") + 1; n != 3 {
		t.Errorf("%d refs", n)
	}
	git(nil, "fsck", "--strict", "--full")
	if _, err := w.sim.FastExport("acme/absent"); !errors.Is(err, bitbucketsim.ErrNotFound) {
		t.Errorf("a repository that is not there: %v", err)
	}
}
