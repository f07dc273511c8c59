package bitbucket

import (
	"context"
	"errors"
	"iter"
	"net/url"
)

// MergeStrategy is a way in which Bitbucket merges a pull request.
type MergeStrategy string

// The strategies that Bitbucket has; a destination branch offers some of them.
const (
	MergeCommit        MergeStrategy = "merge_commit"
	Squash             MergeStrategy = "squash"
	FastForward        MergeStrategy = "fast_forward"
	SquashFastForward  MergeStrategy = "squash_fast_forward"
	RebaseFastForward  MergeStrategy = "rebase_fast_forward"
	RebaseMergeCommits MergeStrategy = "rebase_merge"
)

// Branch is a branch of a repository.
type Branch struct {
	Name string
	// Head is the full hash of its newest commit.
	Head string
	// MergeStrategies are those which pull requests into this branch may use.
	MergeStrategies []MergeStrategy
	// DefaultMergeStrategy is the one that Bitbucket proposes; may be "".
	DefaultMergeStrategy MergeStrategy
}

// Branches lists the branches whose name contains search, in any case, in the
// order of their names; all of them if search is "". Scope: repository.
func (c *Client) Branches(ctx context.Context, workspace, repo, search string) iter.Seq2[Branch, error] {
	query := url.Values{"pagelen": {pageLen}, "sort": {"name"}}
	if search != "" {
		query.Set("q", "name ~ "+quote(search))
	}
	return pages(ctx, c, "list branches", query, wireBranch.branch, repository(workspace, repo, "refs", "branches")...)
}

// Branch returns one branch by its exact name. Scope: repository.
func (c *Client) Branch(ctx context.Context, workspace, repo, name string) (Branch, error) {
	const op = "read branch"
	wire, err := get[wireBranch](ctx, c, op, nil, repository(workspace, repo, "refs", "branches", name)...)
	if err != nil {
		return Branch{}, err
	}
	branch, err := wire.branch()
	if err == nil && branch.Name != name {
		err = errors.New("another branch than the one asked for")
	}
	if err != nil {
		return Branch{}, c.fail(op, err)
	}
	return branch, nil
}

type wireBranch struct {
	Name   string `json:"name"`
	Target struct {
		Hash string `json:"hash"`
	} `json:"target"`
	MergeStrategies      []MergeStrategy `json:"merge_strategies"`
	DefaultMergeStrategy MergeStrategy   `json:"default_merge_strategy"`
}

func (w wireBranch) branch() (Branch, error) {
	if w.Name == "" || !IsFullHash(w.Target.Hash) {
		return Branch{}, errors.New("a branch has no name or no full commit hash")
	}
	return Branch{
		Name: w.Name, Head: w.Target.Hash,
		MergeStrategies: w.MergeStrategies, DefaultMergeStrategy: w.DefaultMergeStrategy,
	}, nil
}
