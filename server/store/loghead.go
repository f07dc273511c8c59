package store

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// LogHead is the tree of the newest published checkpoint, and the empty tree where none was published.
func (sh *Shared) LogHead(ctx context.Context) (head TreeHead, err error) {
	var root []byte
	err = one(sh.tx.QueryRow(ctx, `select size, root from signedapproval_log_checkpoints order by size desc limit 1`).Scan(&head.Size, &root))
	switch {
	case errors.Is(err, ErrNotFound):
		head.Root, err = tlog.TreeHash(0, nil)
		return head, err
	case err != nil:
		return head, fmt.Errorf("store: head of the log: %w", err)
	}
	head.Root = tlog.Hash(root)
	return head, nil
}
