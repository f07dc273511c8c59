package store

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

const appendLeaves = `
	with head as (update signedapproval_log_head set size = size + cardinality($1::bytea[]) returning size - cardinality($1::bytea[]) as first)
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
