package racefree_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/signedapproval/bitbucket/internal/racefree"
)

var note = flag.String("note", "", "a file to write to that the test ran without the detector")

// TestElsewhere runs where there is no detector, once, whichever build asks, and with the flags of that one.
func TestElsewhere(t *testing.T) {
	if *note == "" { // the outermost
		if err := flag.Set("note", filepath.Join(t.TempDir(), "it ran")); err != nil {
			t.Fatal(err)
		}
	}
	if racefree.Elsewhere(t) {
		if ran, err := os.ReadFile(*note); err != nil || string(ran) != "here" {
			t.Errorf("elsewhere wrote %q, %v", ran, err)
		}
		return
	}
	if err := os.WriteFile(*note, []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
}
