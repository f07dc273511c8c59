package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The demonstration itself, from the first log-in to the evidence, which holds for whoever pinned the
// anchors, and which a stranger who pinned nothing finds consistent and no more.
func TestStory(t *testing.T) {
	t.Parallel()
	s, err := start(t.Context(), t.TempDir(), ports{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	if err := (&tale{stack: s, dir: dir}).play(t.Context()); err != nil {
		t.Fatal(err)
	}
	verify := func(args ...string) ([]byte, int) {
		out, err := exec.CommandContext(t.Context(), s.binary, append([]string{
			"verify", "--repo", filepath.Join(dir, "rocket.git"),
			filepath.Join(dir, "evidence.json"),
		}, args...)...).CombinedOutput()
		var exited *exec.ExitError
		if err != nil && !errors.As(err, &exited) {
			t.Fatal(err)
		}
		if exited != nil {
			return out, exited.ExitCode()
		}
		return out, 0
	}
	if out, code := verify(); code != 2 {
		t.Errorf("without anchors the exit code is %d, not 2\n%s", code, out)
	}
	out, code := verify("--anchors", filepath.Join(dir, "anchors.json"))
	if code != 0 {
		t.Errorf("with anchors the exit code is %d, not 0\n%s", code, out)
	}
	// What landed is what was signed.
	if !regexp.MustCompile(`(?m)^\d+  ok +landed: clean replay \(merge-commit\)`).Match(out) {
		t.Errorf("verify with the repository:\n%s", out)
	}
}
