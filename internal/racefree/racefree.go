// Package racefree has tests run without the race detector in which it can find nothing: long computations that share nothing between
// goroutines. With it they take ten times as long.
package racefree

import (
	"bytes"
	"os/exec"
	"testing"
)

// Elsewhere answers false in a build without the race detector: the test is to run here. In one with it the test has run, with its
// subtests, in a build without when Elsewhere answers true, and has passed if it has not failed. The test belongs to the package whose
// folder this process is in, as go test has it.
func Elsewhere(t *testing.T) bool {
	t.Helper()
	if !detector {
		return false
	}
	run := "^" + t.Name() + "$"
	out, err := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-count=1", "-v", "-run", run, ".").CombinedOutput() //nolint:gosec // the name of a test of ours
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")) || bytes.Contains(out, []byte("--- SKIP")) {
		t.Errorf("%v\n%s", err, out)
	}
	return true
}
