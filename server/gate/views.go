package gate

import (
	"context"

	"github.com/signedapproval/bitbucket/server/store"
)

// viewsOfRequests reads the views of many requests with as many statements as of one; a roster that nobody has read yet
// is read by the page. The order stays.
func (g *Gate) viewsOfRequests(ctx context.Context, tx *store.Tx, requests []store.ApprovalRequest) ([]View, error) {
	ids := make([]string, len(requests))
	for i, r := range requests {
		ids[i] = r.PullRequestID
	}
	pullRequests, err := tx.PullRequestsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	byID := map[string]store.PullRequest{}
	for _, pr := range pullRequests {
		byID[pr.ID] = pr
	}
	views := make([]View, len(requests))
	for i, r := range requests {
		views[i].PullRequest = byID[r.PullRequestID]
		if err := views[i].setRequest(r); err != nil {
			return nil, err
		}
	}
	return views, g.fill(ctx, tx, views)
}

// viewsOfPullRequests reads the views of many pull requests, each with its last request.
func (g *Gate) viewsOfPullRequests(ctx context.Context, tx *store.Tx, pullRequests []store.PullRequest) ([]View, error) {
	ids := make([]string, len(pullRequests))
	for i, pr := range pullRequests {
		ids[i] = pr.ID
	}
	requests, err := tx.LastRequests(ctx, ids)
	if err != nil {
		return nil, err
	}
	last := map[string]store.ApprovalRequest{}
	for _, r := range requests {
		last[r.PullRequestID] = r
	}
	views := make([]View, len(pullRequests))
	for i, pr := range pullRequests {
		views[i].PullRequest = pr
		if r, ok := last[pr.ID]; ok {
			if err := views[i].setRequest(r); err != nil {
				return nil, err
			}
		}
	}
	return views, g.fill(ctx, tx, views)
}

// fill reads what all views need besides: their workspace, repositories, decisions, statuses and
// merges.
func (g *Gate) fill(ctx context.Context, tx *store.Tx, views []View) error {
	if len(views) == 0 {
		return nil
	}
	ids, heads := make([]string, len(views)), make([]string, len(views))
	for i, v := range views {
		ids[i], heads[i] = v.PullRequest.ID, v.PullRequest.HeadCommit
	}
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	configs, err := tx.AllRepositoryConfigs(ctx)
	if err != nil {
		return err
	}
	decisions, err := tx.DecisionsOfPullRequests(ctx, ids)
	if err != nil {
		return err
	}
	if err := judge(ctx, tx, decisions); err != nil {
		return err
	}
	statuses, err := tx.StatusesOnHeads(ctx, ids, heads)
	if err != nil {
		return err
	}
	merges, err := tx.MergesOfHeads(ctx, ids, heads)
	if err != nil {
		return err
	}
	var asking [][]store.Decision // those on which models have a say
	for i := range views {
		v := &views[i]
		v.Workspace = workspace
		for _, c := range configs {
			if c.RepositoryID == v.PullRequest.RepositoryID {
				v.Repository = c
			}
		}
		for _, d := range decisions {
			if v.Request != nil && d.PullRequestID == v.PullRequest.ID && d.HeadCommit == v.Request.HeadCommit {
				v.Decisions = append(v.Decisions, d)
			}
		}
		if v.Request != nil && v.Rule.Needs().Models {
			asking = append(asking, v.Decisions)
		}
		for _, s := range statuses {
			if s.PullRequestID == v.PullRequest.ID {
				v.Status = &s
			}
		}
		for _, m := range merges {
			if m.PullRequestID == v.PullRequest.ID {
				v.Merge = &m
			}
		}
	}
	return g.proveAll(ctx, tx, asking...)
}
