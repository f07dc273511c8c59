package witness_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/signedapproval/bitbucket/internal/omniwitness"
	"github.com/signedapproval/bitbucket/server/witness"
)

// somebodyElses runs OmniWitness with a new key, as a witness of a log that has this verifier key, and gives it with the
// line by which a server is told of it and a verifier of its cosignatures.
func somebodyElses(t *testing.T, name, log string) (*omniwitness.Server, string, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	must(t, err)
	key, err := formats.VKeyToCosignatureV1(public)
	must(t, err)
	verifier, err := formats.NewVerifierForCosignatureV1(key)
	must(t, err)
	server := omniwitness.Start(t, private, log)
	return server, key + " " + server.URL(), verifier
}

// signedBy tells whether a checkpoint has a signature by this verifier.
func signedBy(signed []byte, verifier note.Verifier) bool {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	return err == nil && len(opened.Sigs) == 1
}

// TestOmniWitnessCosigns: somebody else's witness, unchanged, cosigns what the log publishes, whoever of the two was
// restarted, and beside one of ours.
func TestOmniWitnessCosigns(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 2) // each checkpoint has a signature that the witness does not know
	server, line, verifier := somebodyElses(t, "witness.example/omni", keys.Verifiers()[0])
	ours := newOther(t, "one.example/w", keys)
	sink := witness.NewDirectory(t.TempDir())
	p, heard := l.witnessed(keys, sink, 2, line, ours.line())
	publish := func(p *witness.Publisher, more int) {
		t.Helper()
		must(t, p.Publish(t.Context(), l.grow(more)))
		if signed := l.newest(); !signedBy(signed, verifier) || cosigned(t, signed, ours) != 1 {
			t.Errorf("not cosigned by both:\n%s", signed)
		}
	}
	for _, more := range []int{1, 1, 7, 300} { // 256 leaves fill a tile
		publish(p, more)
	}
	server.Restart(t)
	publish(p, 2)
	// A server that starts does not know what the witness has seen, and learns it by its refusal.
	restarted, after := l.witnessed(keys, sink, 2, line, ours.line())
	publish(restarted, 5)
	publish(restarted, 1)
	publish(p, 1) // which knows an older size than the witness
	for _, heard := range []*told{heard, after} {
		if got := heard.of("witness.example/omni"); strings.ReplaceAll(strings.Join(got, ""), "cosigned", "") != "" {
			t.Errorf("outcomes %q", got)
		}
	}
}

// TestOmniWitnessSeesARollbackAndAFork: to somebody else's witness no log can take leaves back or show another tree.
func TestOmniWitnessSeesARollbackAndAFork(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	server, line, _ := somebodyElses(t, "witness.example/omni", keys.Verifiers()[0])
	p, _ := l.witnessed(keys, nil, 1, line)
	must(t, p.Publish(t.Context(), l.grow(5)))
	must(t, p.Publish(t.Context(), l.grow(5)))
	l.super(`delete from signedapproval_log_cosignatures where size > 5;` + lose)
	server.Restart(t) // what it has seen is not in its memory alone
	restarted, heard := l.witnessed(keys, nil, 1, line)
	must(t, l.append(t.Context(), "another", 1))
	if err := restarted.Publish(t.Context(), 6); !errors.Is(err, witness.ErrUncosigned) || !strings.Contains(err.Error(), "it has seen 10 leaves") {
		t.Errorf("leaves taken back: %v", err)
	}
	must(t, l.append(t.Context(), "another", 4))
	if err := restarted.Publish(t.Context(), 10); !errors.Is(err, witness.ErrUncosigned) || !strings.Contains(err.Error(), "another tree (422)") {
		t.Errorf("another tree of the same size: %v", err)
	}
	must(t, l.append(t.Context(), "another", 2))
	if err := restarted.Publish(t.Context(), 12); !errors.Is(err, witness.ErrUncosigned) || !strings.Contains(err.Error(), "another tree (422)") {
		t.Errorf("a longer tree that is none of its: %v", err)
	}
	if got := l.size(); got != 5 {
		t.Errorf("checkpoint %d is on record", got)
	}
	if got := strings.Join(heard.of("witness.example/omni"), " "); got != "ahead refused refused" {
		t.Errorf("outcomes %q", got)
	}
}

// TestOmniWitnessDoesNotKnowTheLog, or its key: nothing is published, and it is said of each what it answered. The protocol
// has 404 and 403 for this; this version answers 500 to both.
func TestOmniWitnessDoesNotKnowTheLog(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	_, public, err := witness.NewKey("other.example/log")
	must(t, err)
	_, unknown, _ := somebodyElses(t, "witness.example/unknown", public)
	_, wrong, _ := somebodyElses(t, "witness.example/wrong", newKeys(t, 1).Verifiers()[0])
	p, heard := l.witnessed(keys, nil, 1, unknown, wrong)
	err = p.Publish(t.Context(), l.grow(1))
	if !errors.Is(err, witness.ErrUncosigned) {
		t.Errorf("published: %v", err)
	}
	for _, name := range []string{"witness.example/unknown", "witness.example/wrong"} {
		if got := strings.Join(heard.of(name), " "); got != "away" || !strings.Contains(err.Error(), name+": it answered 500") {
			t.Errorf("%s: outcomes %q, %v", name, got, err)
		}
	}
	if got := l.size(); got != -1 {
		t.Errorf("checkpoint %d is on record", got)
	}
}
