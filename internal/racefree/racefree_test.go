package racefree_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/signedapproval/bitbucket/internal/racefree"
)

// TestElsewhere runs where there is no detector, once, whichever build asks.
func TestElsewhere(t *testing.T) {
	const note = "RACEFREE_TEST_NOTE"
	path := os.Getenv(note)
	if path == "" { // the outermost
		path = filepath.Join(t.TempDir(), "ran")
		t.Setenv(note, path)
	}
	if racefree.Elsewhere(t) {
		if ran, err := os.ReadFile(path); err != nil || string(ran) != "here" {
			t.Errorf("elsewhere wrote %q, %v", ran, err)
		}
		return
	}
	if err := os.WriteFile(path, []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
}
