// Package racefree has tests run without the race detector in which it can find nothing: long computations that share nothing between
// goroutines. With it they take ten times as long.
package racefree

import (
	"bytes"
	"flag"
	"os/exec"
	"strings"
	"testing"
)

// Elsewhere answers false in a build without the race detector: the test is to run here. In one with it the test has run, with its
// subtests, in a build without when Elsewhere answers true, and has passed if it has not failed; it had the flags of its package that
// this process got, and as much time. The test belongs to the package whose folder this process is in, as go test has it.
func Elsewhere(t *testing.T) bool {
	t.Helper()
	if !detector {
		return false
	}
	args := []string{"test", "-vet=off", "-count=1", "-v", "-run=^" + t.Name() + "$", "."}
	flag.Visit(func(f *flag.Flag) {
		switch {
		case !strings.HasPrefix(f.Name, "test."):
			args = append(args, "-"+f.Name+"="+f.Value.String())
		case f.Name == "test.timeout":
			args = append(args, "-timeout="+f.Value.String())
		}
	})
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput() //nolint:gosec // a test of ours, with the flags that somebody gave it
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")) || bytes.Contains(out, []byte("--- SKIP")) {
		t.Errorf("%v\n%s", err, out)
	}
	return true
}
