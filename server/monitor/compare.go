package monitor

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// Comparison says whether two auditors were shown one log.
type Comparison struct {
	// Same is true where one of the two logs begins with the other.
	Same bool `json:"same"`
	// Sizes are how many leaves each was shown.
	Sizes [2]int64 `json:"sizes"`
	// FirstOther is the index of the first leaf in which they differ; nil where that is not known.
	FirstOther *int64 `json:"firstOther,omitempty"`
	// Notes are the two signed notes, which are the proof where Same is false.
	Notes [2]string `json:"notes"`
}

// Compare finds out offline whether the monitors of two states were shown one log. Both newest checkpoints must be signed
// as the anchors say. It is an error where a state is not read to its newest checkpoint.
func Compare(a, b *State, anchors evidence.Anchors) (Comparison, error) {
	first, err := a.whole(anchors)
	if err != nil {
		return Comparison{}, err
	}
	second, err := b.whole(anchors)
	if err != nil {
		return Comparison{}, err
	}
	c := Comparison{Sizes: [2]int64{first.N, second.N}, Notes: [2]string{string(first.Note), string(second.Note)}}
	size := min(first.N, second.N)
	roots := [2]tlog.Hash{}
	for i, s := range []*State{a, b} {
		if roots[i], err = s.rootAt(size); err != nil {
			return Comparison{}, err
		}
	}
	if c.Same = roots[0] == roots[1]; c.Same {
		return c, nil
	}
	c.FirstOther, err = differ(a, b, size)
	return c, err
}

// differ finds the first leaf in which two states differ.
func differ(a, b *State, size int64) (*int64, error) {
	const step = 1 << 16
	for from := int64(0); from < size; from += step {
		to := min(from+step, size)
		var hashes [2][]tlog.Hash
		for i, s := range []*State{a, b} {
			var err error
			if hashes[i], err = s.between(from, to); err != nil {
				return nil, err
			}
		}
		for i := range hashes[0] {
			if hashes[0][i] != hashes[1][i] {
				at := from + int64(i)
				return &at, nil
			}
		}
	}
	return nil, nil
}

// whole gives the newest checkpoint of a state whose leaves were all read, and makes sure that they are the
// checkpoint's.
func (s *State) whole(anchors evidence.Anchors) (Checkpoint, error) {
	p, err := s.progress()
	switch {
	case err != nil:
		return Checkpoint{}, err
	case p.newest() == nil || p.Next < p.newest().Size:
		return Checkpoint{}, fmt.Errorf("the state %s is not read to its end yet", s.folder)
	}
	c, err := Open([]byte(p.newest().Note), anchors)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the state %s: %w", s.folder, err)
	}
	root, err := s.rootAt(c.N)
	if err == nil && root != c.Hash {
		err = fmt.Errorf("the state %s is damaged: its leaves are not those of its checkpoint", s.folder)
	}
	return c, err
}

// Gossip compares the state with a signed note that somebody else was shown, after a pass. What it finds is told by [Monitor.Told].
func (m *Monitor) Gossip(signed []byte) error {
	other, err := Open(signed, m.Anchors)
	if err != nil {
		return fmt.Errorf("the other checkpoint: %w", err)
	}
	p, err := m.State.progress()
	if err != nil {
		return err
	}
	kept := p.newest()
	if kept == nil || p.Next < min(kept.Size, other.N) {
		return errors.New("the log is not read far enough to compare it")
	}
	log := "log " + m.Anchors.Log.Origin
	if other.N > kept.Size {
		proof, err := m.State.keepProof(Hidden, []byte(kept.Note), signed)
		if err != nil {
			return err
		}
		return m.stop(Hidden, fmt.Sprintf("%s at %d", log, other.N), proof, "Somebody was shown %d leaves; at %s this server showed %d.",
			other.N, kept.At.UTC().Format(time.RFC3339), kept.Size)
	}
	root, err := m.State.rootAt(other.N)
	if err != nil || root == other.Hash {
		return err
	}
	proof, err := m.State.keepProof(Fork, []byte(kept.Note), signed)
	if err != nil {
		return err
	}
	return m.stop(Fork, fmt.Sprintf("%s at %d and %d", log, kept.Size, other.N), proof,
		"Its key signed two trees, of %d and of %d leaves, of which neither begins with the other: two auditors were shown different logs.", kept.Size, other.N)
}
