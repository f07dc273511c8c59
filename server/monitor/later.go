package monitor

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// ahead is how many bundles of entries are asked for at once.
const ahead = 8

// Later looks, in the tree of a checkpoint, for the first leaf that is wanted from an index on, and returns its index and the
// leaf, or false where there is none. It reads every entry from there to the tree's end, several bundles of entries at once, and
// believes only what is in the tree.
func (c *Client) Later(ctx context.Context, tree tlog.Tree, from int64, wanted func(index int64, leaf evidence.Leaf) bool) (index int64, leaf evidence.Leaf, found bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what is still being read
	reader, err := newPublished(ctx, c, tree)
	if err != nil {
		return 0, evidence.Leaf{}, false, err
	}
	bundles := reader.ahead(ctx, from/width)
	for index = from; index < tree.N; {
		first := index / width * width
		one, goesOn := <-bundles
		if !goesOn {
			return 0, evidence.Leaf{}, false, ctx.Err()
		}
		next := <-one
		if next.err != nil {
			return 0, evidence.Leaf{}, false, next.err
		}
		entries, _, err := reader.prove(first/width, next.bundle)
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

// fetched is a bundle of entries that may be wrong, or why it could not be read.
type fetched struct {
	bundle []byte
	err    error
}

// ahead reads the bundles of entries from a number to the tree's end, a few at once, and gives them in their order, until ctx ends.
func (p *published) ahead(ctx context.Context, number int64) <-chan <-chan fetched {
	bundles := make(chan (<-chan fetched), ahead-1)
	go func() {
		defer close(bundles)
		for ; number*width < p.tree.N; number++ {
			one := make(chan fetched, 1)
			select {
			case bundles <- one:
			case <-ctx.Done():
				return
			}
			go func(number int64) {
				bundle, err := p.fetch(ctx, number)
				one <- fetched{bundle, err}
			}(number)
		}
	}()
	return bundles
}
