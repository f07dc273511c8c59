package monitor

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// Later looks, in the tree of a checkpoint, for the first leaf that is wanted from an index on, and returns its index and the
// leaf, or false where there is none. It reads every entry from there to the tree's end, and believes only what is in the tree.
func (c *Client) Later(ctx context.Context, tree tlog.Tree, from int64, wanted func(index int64, leaf evidence.Leaf) bool) (index int64, leaf evidence.Leaf, found bool, err error) {
	reader, err := newPublished(ctx, c, tree)
	if err != nil {
		return 0, evidence.Leaf{}, false, err
	}
	for index = from; index < tree.N; {
		first := index / width * width
		entries, _, err := reader.entries(index / width)
		if err != nil {
			return 0, evidence.Leaf{}, false, err
		}
		for ; index < first+int64(len(entries)); index++ {
			leaf, err := evidence.ParseLeaf(entries[index-first])
			if err != nil {
				return 0, evidence.Leaf{}, false, fmt.Errorf("leaf %d of the log: %w", index, err)
			}
			if wanted(index, leaf) {
				return index, leaf, true, nil
			}
		}
	}
	return 0, evidence.Leaf{}, false, nil
}
