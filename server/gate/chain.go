package gate

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// chain appends leaves to a pull request's chain. The pull request is locked by the transaction,
// so nobody else appends meanwhile.
type chain struct {
	pr        *store.PullRequest
	workspace evidence.Digest
	now       time.Time
	entries   [][]byte
}

// newChain starts appending to pr, whose chain fields move with each leaf.
func newChain(workspace store.Workspace, pr *store.PullRequest, now time.Time) *chain {
	return &chain{pr: pr, workspace: evidence.WorkspaceID(workspace.GenesisSalt, bitbucket.BracedUUID(workspace.ID)), now: now}
}

// add appends one event and returns the hash of its leaf, in hex.
func (c *chain) add(body evidence.Body) (string, error) {
	leaf := evidence.Leaf{
		Time: c.now, Workspace: c.workspace, Body: body,
		Chain: &evidence.Chain{
			ID: evidence.Digest(c.pr.ChainID), Sequence: c.pr.ChainSequence + 1, Previous: evidence.Digest(c.pr.ChainLeaf),
		},
	}
	entry, err := leaf.Entry()
	if err != nil {
		return "", fmt.Errorf("leaf %s: %w", body.Type(), err)
	}
	hash := evidence.LeafHash(entry)
	c.pr.ChainSequence++
	c.pr.ChainLeaf = hex.EncodeToString(hash[:])
	c.entries = append(c.entries, entry)
	return c.pr.ChainLeaf, nil
}

// write appends what was added to the log.
func (c *chain) write(tx *store.Tx) {
	first := c.pr.ChainSequence - int64(len(c.entries)) + 1
	for i, entry := range c.entries {
		tx.AppendLeaf(tx.Workspace, evidence.LeafHash(entry), entry, c.pr.ChainID, first+int64(i))
	}
}
