package store

import (
	"context"
	"errors"
	"fmt"
)

// leaf is one event on its way into the log.
type leaf struct {
	hash             [32]byte
	entry            []byte
	workspace, chain string
	sequence         int64
}

// AppendLeaf appends one event to the log when the transaction ends, behind those that it appended
// before; indexes are 0, 1, 2, … without a gap. hash is the RFC 6962 leaf hash of entry. chainID and
// sequence place it in a pull request's chain, "" and 0 outside of any; the transaction fails with
// [ErrConflict] if that place is taken.
func (sh *Shared) AppendLeaf(workspace string, hash [32]byte, entry []byte, chainID string, sequence int64) {
	sh.leaves = append(sh.leaves, leaf{hash: hash, entry: entry, workspace: workspace, chain: chainID, sequence: sequence})
}

// appendLeaves holds the head of the log, which all that append wait for. Where a leaf goes in the index of chains is looked
// for before that: chains lie there in no order, so that the page of one that is new is not in memory once the log is long,
// and all would wait while it is read. Whether the place is taken is for the index to say, when the leaf is there.
const appendLeaves = `
	with head as (update signedapproval_log_head set size = size + cardinality($1::bytea[])
		where (select count((select index from signedapproval_leaves where chain_id = chain and chain_id <> '' and sequence = place))
			from unnest($4::text[], $5::bigint[]) as w (chain, place)) >= 0
		returning size - cardinality($1::bytea[]) as first)
	insert into signedapproval_leaves (index, hash, entry, workspace_id, chain_id, sequence)
	select first + place - 1, hash, entry, workspace::uuid, chain, sequence
	from head, unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::bigint[]) with ordinality as w (hash, entry, workspace, chain, sequence, place)`

// leafColumns turns leaves into the arrays that unnest wants.
func leafColumns(leaves []leaf) (hashes, entries [][]byte, workspaces, chains []string, sequences []int64) {
	for _, l := range leaves {
		hashes, entries = append(hashes, l.hash[:]), append(entries, l.entry)
		workspaces, chains, sequences = append(workspaces, l.workspace), append(chains, l.chain), append(sequences, l.sequence)
	}
	return hashes, entries, workspaces, chains, sequences
}

const chainEnd = `
	select l.index + 1, l.index < coalesce((select max(size) from signedapproval_log_checkpoints), 0)
	from signedapproval_pull_requests p join signedapproval_leaves l on l.chain_id = p.chain_id and l.sequence = p.chain_sequence
	where p.workspace_id = $1 and p.id = $2 and l.chain_id <> ''`

// ChainEnd says how large the log must be published for the newest leaf of a pull request's chain, and with it all
// those before, to be under a checkpoint, and whether it is. [ErrNotFound] for a pull request without leaves.
func (tx *Tx) ChainEnd(ctx context.Context, pullRequestID string) (size int64, published bool, err error) {
	err = one(tx.tx.QueryRow(ctx, chainEnd, tx.Workspace, pullRequestID).Scan(&size, &published))
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("store: end of a chain: %w", err)
	}
	return size, published, err
}
