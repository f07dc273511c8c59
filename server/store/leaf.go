package store

import (
	"context"
	"fmt"
)

// AppendLeaf appends one event to the log and returns its index: 0, 1, 2, … without a gap. hash is
// the RFC 6962 leaf hash of entry. chainID and sequence place it in a pull request's chain, "" and
// 0 outside of any; [ErrConflict] if that place is taken. The log's head stays locked until the
// transaction ends, which is what keeps the log gap-free: append last, and end soon.
func (sh *Shared) AppendLeaf(ctx context.Context, workspace string, hash [32]byte, entry []byte, chainID string, sequence int64) (int64, error) {
	var index int64
	err := sh.tx.QueryRow(ctx, `
		with head as (update signedapproval_log_head set size = size + 1 returning size - 1 as index)
		insert into signedapproval_leaves (index, hash, entry, workspace_id, chain_id, sequence)
		select index, $1, $2, $3, $4, $5 from head
		returning index`, hash[:], entry, workspace, chainID, sequence).Scan(&index)
	if violates(err) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("store: append leaf: %w", err)
	}
	return index, nil
}
