package store

import "context"

// AllPolicyVersions lists every version of the rules of every repository of the workspace, those that ended a gating included.
func (tx *Tx) AllPolicyVersions(ctx context.Context) ([]PolicyVersion, error) {
	return list[PolicyVersion](ctx, tx.tx, `select `+policyVersionColumns+` from signedapproval_policy_versions
		where workspace_id = $1 order by repository_id, version`, tx.Workspace)
}

// Chain is a pull request's chain.
type Chain struct {
	ChainID      string
	RepositoryID string
	Number       int64
	// DestinationBranch is where the pull request goes to.
	DestinationBranch string
}

// Chains lists the chains of the workspace's pull requests, at most limit.
func (tx *Tx) Chains(ctx context.Context, limit int) ([]Chain, error) {
	return list[Chain](ctx, tx.tx, `select chain_id, repository_id, number, destination_branch from signedapproval_pull_requests
		where workspace_id = $1 order by repository_id, number limit $2`, tx.Workspace, limit)
}
