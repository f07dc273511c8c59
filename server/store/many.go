package store

import "context"

// The queries of this file answer for many pull requests at once, so that a list costs the same
// number of statements however long it is.

// PullRequestsByID reads pull requests by our ids, in any order.
func (tx *Tx) PullRequestsByID(ctx context.Context, ids []string) ([]PullRequest, error) {
	return list[PullRequest](ctx, tx.tx, ofEach(byID, `select `+pullRequestColumns+` from signedapproval_pull_requests
		where workspace_id = $1 and id = wanted.id limit 1`), tx.Workspace, ids)
}

// LastRequests reads the request of each pull request that was opened last.
func (tx *Tx) LastRequests(ctx context.Context, pullRequestIDs []string) ([]ApprovalRequest, error) {
	return list[ApprovalRequest](ctx, tx.tx, ofEach(byID, `select `+requestColumns+` from signedapproval_approval_requests
		where workspace_id = $1 and pull_request_id = wanted.id order by round desc limit 1`), tx.Workspace, pullRequestIDs)
}

// DecisionsOfPullRequests reads all decisions on the pull requests, in the order of their chains.
func (tx *Tx) DecisionsOfPullRequests(ctx context.Context, pullRequestIDs []string) ([]Decision, error) {
	return list[Decision](ctx, tx.tx, ofEach(byID, selectDecisions+`pull_request_id = wanted.id`+inChain)+inChain, tx.Workspace, pullRequestIDs)
}

// StatusesOnHeads reads the status on the head commit of each pull request, given by our ids and heads in the same order.
func (tx *Tx) StatusesOnHeads(ctx context.Context, pullRequestIDs, heads []string) ([]CommitStatus, error) {
	return list[CommitStatus](ctx, tx.tx, ofEach(byHead, `select `+statusColumns+` from signedapproval_bitbucket_commit_statuses
		where workspace_id = $1 and pull_request_id = wanted.id and commit = wanted.head limit 1`), tx.Workspace, pullRequestIDs, heads)
}

// MergesOfHeads reads the merge intent for the head commit of each pull request, given as to StatusesOnHeads.
func (tx *Tx) MergesOfHeads(ctx context.Context, pullRequestIDs, heads []string) ([]MergeIntent, error) {
	return list[MergeIntent](ctx, tx.tx, ofEach(byHead, `select `+mergeColumns+` from signedapproval_merge_intents
		where workspace_id = $1 and pull_request_id = wanted.id and head_commit = wanted.head limit 1`), tx.Workspace, pullRequestIDs, heads)
}

// What is looked up one after the other, by ofEach: ids, or pairs of a pull request and its head.
const (
	byID   = `unnest($2::uuid[]) as given (id)`
	byHead = `unnest($2::uuid[], $3::text[]) as given (id, head)`
)

// ofEach looks up one of those that are wanted after the other, each once: PostgreSQL must not go through all rows of a
// workspace to find those that are among them, which looks as good to it as long as there are few; a statement is planned
// once. For that it must not be able to take the inner statement apart, so that has a limit or an order.
func ofEach(wanted, one string) string {
	return `select found.* from (select distinct * from ` + wanted + `) as wanted cross join lateral (` + one + `) found`
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
