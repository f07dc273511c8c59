package bitbucket_test

import (
	"context"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// namedCall is one call of the client with plausible arguments.
type namedCall struct {
	name string
	run  func() error
}

// everyCall is each method of the client once, so that what must hold for all
// of them is tested for all of them.
func everyCall(ctx context.Context, c *bitbucket.Client) []namedCall {
	const w, r = workspaceUUID, repoUUID
	hook := bitbucket.HookOptions{URL: "https://example.com/hook", Active: true, Events: []string{"repo:push"}, Secret: "hook-secret-0123456789"}
	restriction := bitbucket.BranchRestriction{ID: 7, Kind: bitbucket.RestrictPush, MatchKind: bitbucket.MatchGlob, Pattern: "main"}
	status := bitbucket.Status{Key: "sa-1", State: bitbucket.StatusInProgress, URL: "https://example.com/pr"}
	return []namedCall{
		{"CurrentUser", func() error { _, err := c.CurrentUser(ctx); return err }},
		{"Emails", func() error { _, err := c.Emails(ctx); return err }},
		{"User", func() error { _, err := c.User(ctx, userUUID); return err }},
		{"Workspaces", func() error { _, err := collect(c.Workspaces(ctx)); return err }},
		{"Workspace", func() error { _, err := c.Workspace(ctx, w); return err }},
		{"WorkspacePermission", func() error { _, err := c.WorkspacePermission(ctx, w, userUUID); return err }},
		{"Members", func() error { _, err := collect(c.Members(ctx, w)); return err }},
		{"Repository", func() error { _, err := c.Repository(ctx, w, r); return err }},
		{"Repositories", func() error { _, err := c.Repositories(ctx, w, "x", ""); return err }},
		{"RepositoryPermission", func() error { _, err := c.RepositoryPermission(ctx, w, r, userUUID); return err }},
		{"RepositoryPermissions", func() error { _, err := collect(c.RepositoryPermissions(ctx, w, r)); return err }},
		{"Branches", func() error { _, err := collect(c.Branches(ctx, w, r, "rel")); return err }},
		{"Branch", func() error { _, err := c.Branch(ctx, w, r, "release/1.0"); return err }},
		{"PullRequest", func() error { _, err := c.PullRequest(ctx, w, r, 1); return err }},
		{"PullRequestHead", func() error { _, err := c.PullRequestHead(ctx, w, r, 1); return err }},
		{"OpenPullRequests", func() error { _, err := collect(c.OpenPullRequests(ctx, w, r)); return err }},
		{"ResolveCommit", func() error { _, err := c.ResolveCommit(ctx, w, r, headHash[:12]); return err }},
		{"Commit", func() error { _, err := c.Commit(ctx, w, r, headHash); return err }},
		{"Commits", func() error { _, err := collect(c.Commits(ctx, w, r, headHash, destHash)); return err }},
		{"MergeBase", func() error { _, err := c.MergeBase(ctx, w, r, headHash, destHash); return err }},
		{"Diff of pull request", func() error { _, err := c.Diff(ctx, w, r, bitbucket.OfPullRequest(1), 0); return err }},
		{"Diff of commits", func() error { _, err := c.Diff(ctx, w, r, bitbucket.Between(headHash, destHash), 0); return err }},
		{"DiffStat of pull request", func() error { _, err := collect(c.DiffStat(ctx, w, r, bitbucket.OfPullRequest(1))); return err }},
		{"DiffStat of commits", func() error {
			_, err := collect(c.DiffStat(ctx, w, r, bitbucket.Between(headHash, destHash)))
			return err
		}},
		{"Merge", func() error { _, err := c.Merge(ctx, w, r, 1, bitbucket.MergeOptions{}); return err }},
		{"MergeTask", func() error { _, err := c.MergeTask(ctx, w, r, 1, "task-1"); return err }},
		{"PutStatus", func() error { _, err := c.PutStatus(ctx, w, r, headHash, status); return err }},
		{"GetStatus", func() error { _, err := c.GetStatus(ctx, w, r, headHash, "sa-1"); return err }},
		{"Statuses", func() error { _, err := collect(c.Statuses(ctx, w, r, headHash)); return err }},
		{"CreateHook", func() error { _, err := c.CreateHook(ctx, w, r, hook); return err }},
		{"UpdateHook", func() error { _, err := c.UpdateHook(ctx, w, r, hookUUID, hook); return err }},
		{"DeleteHook", func() error { return c.DeleteHook(ctx, w, r, hookUUID) }},
		{"Hooks", func() error { _, err := collect(c.Hooks(ctx, w, r)); return err }},
		{"BranchRestrictions", func() error { _, err := collect(c.BranchRestrictions(ctx, w, r)); return err }},
		{"CreateBranchRestriction", func() error { _, err := c.CreateBranchRestriction(ctx, w, r, restriction); return err }},
		{"UpdateBranchRestriction", func() error { _, err := c.UpdateBranchRestriction(ctx, w, r, restriction); return err }},
		{"DeleteBranchRestriction", func() error { return c.DeleteBranchRestriction(ctx, w, r, 7) }},
	}
}
