package monitor

import (
	"context"
	"errors"
	"fmt"

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
	// What is no note at all may come from somebody between here and the server, and says nothing about the log.
	if _, err := evidence.OpenCheckpoint(signed, nil, nil); err != nil {
		return Checkpoint{}, err
	}
	c, err := evidence.OpenCheckpoint(signed, anchors.Log, anchors.Witnesses)
	switch evidence.CodeOf(err) {
	case evidence.CodeLog:
		return Checkpoint{}, &unsigned{Unsigned, plain(err.Error())}
	case evidence.CodeWitness:
		return Checkpoint{}, &unsigned{Unwitnessed, err.Error()}
	default:
		return Checkpoint{c.Tree, signed}, err
	}
}

// Checkpoint reads the newest checkpoint that is published, and verifies it.
func (c *Client) Checkpoint(ctx context.Context, anchors evidence.Anchors) (Checkpoint, error) {
	signed, err := c.Get(ctx, logPath+"checkpoint", nil, maxNote)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	return Open(signed, anchors)
}
