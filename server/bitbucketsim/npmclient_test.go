package bitbucketsim_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// TestClientOfOthers lets the npm package "bitbucket", a client that this project did not write, go through a whole
// pull request.
func TestClientOfOthers(t *testing.T) {
	t.Parallel()
	root := bitbucketsim.RepositoryRoot(t)
	if _, err := os.Stat(filepath.Join(root, "node_modules", "bitbucket")); err != nil {
		t.Fatal("the npm package \"bitbucket\" is not installed: run npm ci in the repository root")
	}
	w := newWorld(t, bitbucketsim.Options{})
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join("testdata", "npmclient", "pullrequest.cjs"), w.sim.URL()+"/2.0")
	cmd.Env = append(os.Environ(), "ALICE="+w.as("alice").token, "BOB="+w.as("bob").token, "CAROL="+w.as("carol").token)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("node: %v\n%s", err, problems.String())
	}
	var saw struct{ State, Head, Main string }
	if err := json.Unmarshal(out.Bytes(), &saw); err != nil {
		t.Fatalf("%v: %q", err, out.String())
	}
	main := w.as("alice").get(w.repo + "/refs/branches/main").str("target.hash")
	if saw.State != "MERGED" || saw.Main != main {
		t.Errorf("the client saw %+v; main is at %s", saw, main)
	}
	calls := w.sim.Calls(0)
	if len(calls) < 25 {
		t.Errorf("only %d calls arrived", len(calls))
	}
}
