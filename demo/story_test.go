package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The demonstration itself, from the first log-in to the evidence, which a stranger who pinned
// nothing finds consistent and no more.
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
	out, err := exec.CommandContext(t.Context(), s.binary, "verify", "--repo", filepath.Join(dir, "rocket.git"),
		filepath.Join(dir, "evidence.json")).CombinedOutput()
	var exited *exec.ExitError
	if !errors.As(err, &exited) || exited.ExitCode() != 2 {
		t.Errorf("verify: %v, not exit code 2\n%s", err, out)
	}
	// What landed is what was signed.
	if !regexp.MustCompile(`(?m)^\d+  ok +landed: clean replay \(merge-commit\)`).Match(out) {
		t.Errorf("verify with the repository:\n%s", out)
	}
}
