package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/transparency-dev/formats/log"
	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// maxNote is the limit of a signed note in bytes.
const maxNote = 64 << 10

// Checkpoint is a checkpoint of the log that was verified by anchors.
type Checkpoint struct {
	tlog.Tree
	// Note is the signed note.
	Note []byte
}

// unsigned is why a note is not one that the log signed, or witnesses cosigned.
type unsigned struct {
	code Code
	why  string
}

func (u *unsigned) Error() string { return u.why }

// Open reads a signed note and verifies it: a signature by one of the log's keys, and cosignatures by as many of the
// witnesses as the anchors' quorum.
func Open(signed []byte, anchors evidence.Anchors) (Checkpoint, error) {
	if anchors.Log == nil {
		return Checkpoint{}, errors.New("the anchors name no log")
	}
	keys, err := verifiers(anchors.Log.Keys, formats.NewVerifier)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("anchors: log: %w", err)
	}
	opened, err := note.Open(signed, note.VerifierList(keys...))
	var other *note.UnverifiedNoteError
	var wrong *note.InvalidSignatureError
	switch {
	case errors.As(err, &other), errors.As(err, &wrong):
		return Checkpoint{}, &unsigned{Unsigned, "no key of the log that is pinned has signed the checkpoint"}
	case err != nil:
		return Checkpoint{}, errors.New("the checkpoint is not a signed note")
	}
	var read log.Checkpoint
	rest, err := read.Unmarshal([]byte(opened.Text))
	if err != nil || len(rest) > 0 || len(read.Hash) != tlog.HashSize || read.Size > math.MaxInt64>>8 {
		return Checkpoint{}, errors.New("the log signed something that is not a checkpoint")
	}
	if read.Origin != anchors.Log.Origin {
		return Checkpoint{}, &unsigned{Unsigned, fmt.Sprintf("the checkpoint is of the log %q", plain(read.Origin))}
	}
	if w := anchors.Witnesses; w != nil && w.Quorum > 0 {
		if err := cosigned(signed, *w); err != nil {
			return Checkpoint{}, err
		}
	}
	return Checkpoint{tlog.Tree{N: int64(read.Size), Hash: tlog.Hash(read.Hash)}, signed}, nil
}

// cosigned counts the witnesses that cosigned.
func cosigned(signed []byte, policy evidence.WitnessPolicy) error {
	keys, err := verifiers(policy.Keys, formats.NewVerifierForCosignatureV1)
	if err != nil {
		return fmt.Errorf("anchors: witnesses: %w", err)
	}
	count := 0
	for _, key := range keys { // one by one: a bad cosignature takes nothing from the good ones
		if opened, err := note.Open(signed, note.VerifierList(key)); err == nil && len(opened.Sigs) == 1 {
			count++
		}
	}
	if count < policy.Quorum {
		return &unsigned{Unwitnessed, fmt.Sprintf("%d of the witnesses cosigned the checkpoint, and %d have to", count, policy.Quorum)}
	}
	return nil
}

func verifiers(keys []string, read func(string) (note.Verifier, error)) (list []note.Verifier, err error) {
	seen := map[string]bool{}
	for i, key := range keys {
		verifier, err := read(key)
		if err != nil {
			return nil, fmt.Errorf("key %d is not a verifier key", i+1)
		}
		if seen[key] {
			return nil, fmt.Errorf("key %d is there twice", i+1)
		}
		seen[key] = true
		list = append(list, verifier)
	}
	return list, nil
}

// Checkpoint reads the newest checkpoint that is published, and verifies it.
func (c *Client) Checkpoint(ctx context.Context, anchors evidence.Anchors) (Checkpoint, error) {
	signed, err := c.Get(ctx, logPath+"checkpoint", nil, maxNote)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	return Open(signed, anchors)
}
