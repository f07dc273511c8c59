package store

import (
	"context"
	"fmt"
)

// CommitRequest is the approval request that a commit belongs to.
type CommitRequest struct {
	RequestID     string
	PullRequestID string
	RepositoryID  string
}

// RequestsOfCommit lists, for each repository that knows a commit, the newest request that the commit
// belongs to: as its head, or as what landed when that head was merged. commit is a full hash; an empty
// repositoryID, branch or pullRequestID stands for all repositories, destination branches and pull requests.
func (tx *Tx) RequestsOfCommit(ctx context.Context, commit, repositoryID, branch, pullRequestID string) ([]CommitRequest, error) {
	// What is found is looked up row by row, and not joined: PostgreSQL must not begin with all requests.
	rows, err := list[CommitRequest](ctx, tx.tx, `
		select distinct on (p.repository_id) r.id as request_id, r.pull_request_id, p.repository_id
		from (
			select id from signedapproval_approval_requests where workspace_id = $1 and head_commit = $2
			union all
			select r.id from signedapproval_merges_seen m cross join lateral (
				select id from signedapproval_approval_requests where workspace_id = $1 and pull_request_id = m.pull_request_id
					and head_commit = m.head_commit and destination_branch = m.destination_branch offset 0) r
			where m.workspace_id = $1 and m.landed_commit = $2 and m.landed_commit <> ''
		) found
		cross join lateral (select * from signedapproval_approval_requests where workspace_id = $1 and id = found.id limit 1) r
		cross join lateral (select * from signedapproval_pull_requests where workspace_id = $1 and id = r.pull_request_id limit 1) p
		where ($3 = '' or p.repository_id::text = $3) and ($4 = '' or r.destination_branch = $4) and ($5 = '' or p.id::text = $5)
		order by p.repository_id, r.requested_at desc, r.round desc, r.id desc`, tx.Workspace, commit, repositoryID, branch, pullRequestID)
	if err != nil {
		return nil, fmt.Errorf("store: requests of a commit: %w", err)
	}
	return rows, nil
}

// MergesInto lists the merges into a branch of a repository of which it is known what landed, the last
// seen first.
func (tx *Tx) MergesInto(ctx context.Context, repositoryID, branch string) ([]MergeSeen, error) {
	rows, err := list[MergeSeen](ctx, tx.tx, `select `+mergeSeenColumns+` from signedapproval_merges_seen
		where workspace_id = $1 and repository_id = $2 and destination_branch = $3 and landed_commit <> ''
		order by seen_at desc, number desc`, tx.Workspace, repositoryID, branch)
	if err != nil {
		return nil, fmt.Errorf("store: list merges into a branch: %w", err)
	}
	return rows, nil
}
