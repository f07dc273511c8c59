package store

import "context"

// The queries of this file answer for many pull requests at once, so that a list costs the same
// number of statements however long it is.

// PullRequestsByID reads pull requests by our ids, in any order.
func (tx *Tx) PullRequestsByID(ctx context.Context, ids []string) ([]PullRequest, error) {
	return list[PullRequest](ctx, tx.tx, `select `+pullRequestColumns+` from signedapproval_pull_requests
		where workspace_id = $1 and id = any($2)`, tx.Workspace, ids)
}

// LastRequests reads the request of each pull request that was opened last.
func (tx *Tx) LastRequests(ctx context.Context, pullRequestIDs []string) ([]ApprovalRequest, error) {
	return list[ApprovalRequest](ctx, tx.tx, `select distinct on (pull_request_id) `+requestColumns+` from signedapproval_approval_requests
		where workspace_id = $1 and pull_request_id = any($2) order by pull_request_id, round desc`, tx.Workspace, pullRequestIDs)
}

// DecisionsOfPullRequests reads all decisions on the pull requests, in the order of their chains.
func (tx *Tx) DecisionsOfPullRequests(ctx context.Context, pullRequestIDs []string) ([]Decision, error) {
	return tx.decisions(ctx, `pull_request_id = any($2)`, pullRequestIDs)
}

// StatusesOnHeads reads the status on the head commit of each pull request, given by our ids and heads in the same order.
func (tx *Tx) StatusesOnHeads(ctx context.Context, pullRequestIDs, heads []string) ([]CommitStatus, error) {
	return list[CommitStatus](ctx, tx.tx, ofEach(`select `+statusColumns+` from signedapproval_bitbucket_commit_statuses
		where workspace_id = $1 and pull_request_id = wanted.id and commit = wanted.head limit 1`), tx.Workspace, pullRequestIDs, heads)
}

// MergesOfHeads reads the merge intent for the head commit of each pull request, given as to StatusesOnHeads.
func (tx *Tx) MergesOfHeads(ctx context.Context, pullRequestIDs, heads []string) ([]MergeIntent, error) {
	return list[MergeIntent](ctx, tx.tx, ofEach(`select `+mergeColumns+` from signedapproval_merge_intents
		where workspace_id = $1 and pull_request_id = wanted.id and head_commit = wanted.head limit 1`), tx.Workspace, pullRequestIDs, heads)
}

// ofEach looks up one pair of a pull request and its head after the other: PostgreSQL must not go through all rows to
// find those that are among the pairs. Without the limit of one row it may.
func ofEach(one string) string {
	return `select found.* from unnest($2::uuid[], $3::text[]) as wanted (id, head) cross join lateral (` + one + `) found`
}

// LeafRow is one leaf of a chain.
type LeafRow struct {
	Index    int64
	Sequence int64
	Hash     []byte
	Entry    []byte
}

// Chain reads the leaves of a chain after a sequence number, oldest first, up to limit.
func (sh *Shared) Chain(ctx context.Context, chainID string, after int64, limit int) ([]LeafRow, error) {
	return list[LeafRow](ctx, sh.tx, `select index, sequence, hash, entry from signedapproval_leaves
		where chain_id = $1 and chain_id <> '' and sequence > $2 order by sequence limit $3`, chainID, after, limit)
}
