package app

import (
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// TestWhatEvidenceHasToKnowOf is all that the log had when it was asked for, whatever the server says that this was.
func TestWhatEvidenceHasToKnowOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		head, pinned int64
		histories    []history
		want         int64
	}{
		"what was fetched in one go":             {want: 100},
		"what was fetched one by one":            {head: 60, want: 60},
		"a head from before the pinned one":      {head: 10, pinned: 50, want: 50},
		"a head from before a listed merge":      {head: 10, histories: []history{{end: 20, settled: 20}, {end: 90, settled: 70}}, want: 70},
		"a head from before what goes on still":  {head: 60, histories: []history{{end: 20, settled: 20}, {end: 70}}, want: 60},
		"a head from after everything":           {head: 90, pinned: 50, histories: []history{{end: 70, settled: 70}}, want: 90},
		"no head, and a pinned one and an ended": {pinned: 50, histories: []history{{end: 70, settled: 70}}, want: 100},
	} {
		look := logLook{known: []lookedThrough{{Size: c.pinned}}, head: tlog.Tree{N: c.head}}
		if got := look.owed(100, c.histories); got != c.want {
			t.Errorf("%s: %d leaves, want %d", name, got, c.want)
		}
	}
}

// TestWhatEvidenceLacks has leaves before and behind what the evidence has to know of.
func TestWhatEvidenceLacks(t *testing.T) {
	t.Parallel()
	digest := func(name string) evidence.Digest { return approval.DigestOf([]byte(name)) }
	h := history{
		workspace: digest("workspace"), chain: digest("chain"), end: 40, places: map[int64]bool{10: true, 39: true},
		roster: &roster{versions: map[evidence.Digest]int64{digest("one"): 1}, counts: map[evidence.Digest]bool{digest("signer"): true, digest("other"): true}},
		rests:  map[evidence.Digest]bool{digest("signer"): true},
	}
	chain := evidence.Leaf{Workspace: h.workspace, Chain: &evidence.Chain{ID: h.chain}, Body: evidence.Connection{}}
	about := func(body evidence.Body) evidence.Leaf { return evidence.Leaf{Workspace: h.workspace, Body: body} }
	newer, known := about(evidence.RosterVersion{Roster: digest("two")}), about(evidence.RosterVersion{Roster: digest("one")})
	revoked, other := about(evidence.KeyRevoked{Key: digest("signer")}), about(evidence.KeyRevoked{Key: digest("other")})
	for _, c := range []struct {
		name   string
		index  int64
		leaf   evidence.Leaf
		closed bool
		lacks  bool
	}{
		{"its own leaf", 10, chain, true, false},
		{"one that is left out", 20, chain, true, true},
		{"one that came after it was closed", 45, chain, true, false},
		{"one that came since", 45, chain, false, true},
		{"one that came while it was fetched", 50, chain, false, false},
		{"a newer roster", 49, newer, true, true},
		{"a newer roster that came while it was fetched", 50, newer, true, false},
		{"a roster that it has", 49, known, true, false},
		{"a key that signed for it", 49, revoked, true, true},
		{"a key that signed for it and was revoked while it was fetched", 50, revoked, true, false},
		{"a key that did not", 49, other, true, false},
	} {
		h := h
		h.closed = c.closed
		if lacks := h.lacks(c.index, c.leaf, 50); lacks != c.lacks {
			t.Errorf("%s: %t", c.name, lacks)
		}
	}
	// What is left out before its last leaf is left out, also where that is behind what it has to know of.
	if !h.lacks(30, chain, 20) {
		t.Error("a leaf before its last one may be left out")
	}
}
