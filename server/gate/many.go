package gate

import (
	"cmp"
	"context"
	"slices"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// ViewRequests lists the requests of a pull request, newest first, each in a view of its own. The
// caller has seen the pull request in v.
func (g *Gate) ViewRequests(ctx context.Context, person store.Person, v View, page store.Page) (views []View, more bool, err error) {
	err = g.Store.InWorkspace(ctx, v.Workspace.ID, func(tx *store.Tx) error {
		requests, next, err := tx.RequestsOf(ctx, v.PullRequest.ID, page)
		if err != nil {
			return err
		}
		more = next
		views, err = g.viewsOfRequests(ctx, tx, requests)
		return err
	})
	return finish(person, views), more, err
}

// ViewPullRequests gives the views of those of the pull requests that the person may see, in any order.
func (g *Gate) ViewPullRequests(ctx context.Context, person store.Person, workspace string, ids []string) ([]View, error) {
	var views []View
	err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		pullRequests, err := tx.PullRequestsByID(ctx, ids)
		if err != nil {
			return err
		}
		views, err = g.viewsOfPullRequests(ctx, tx, pullRequests)
		return err
	})
	if err != nil {
		return nil, err
	}
	if views, err = g.visible(ctx, person, workspace, views); err != nil {
		return nil, err
	}
	return finish(person, views), nil
}

// Version tells whether a pull request moved: two equal versions are the same state.
func (g *Gate) Version(ctx context.Context, person store.Person, workspace, id string) (int64, error) {
	repositoryID, version, err := g.Store.PullRequestVersion(ctx, workspace, id)
	if err != nil {
		return 0, hide(err)
	}
	return version, g.see(ctx, person, workspace, repositoryID, false)
}

// WaitingIn is Waiting in several workspaces. Each is a tenant and is asked by itself; all order by the
// same keys, so one cursor says where to go on in every one of them.
func (g *Gate) WaitingIn(ctx context.Context, person store.Person, workspaces []string, page store.Page) ([]View, bool, error) {
	var merged []View
	more := false
	for _, workspace := range workspaces {
		views, next, err := g.Waiting(ctx, person, workspace, page)
		if err != nil {
			return nil, false, err
		}
		merged, more = append(merged, views...), more || next
	}
	slices.SortFunc(merged, func(a, b View) int {
		return cmp.Or(a.Request.RequestedAt.Compare(b.Request.RequestedAt), cmp.Compare(a.Request.ID, b.Request.ID))
	})
	first := page.First
	if first == 0 {
		first = 20
	}
	if len(merged) > first {
		return merged[:first], true, nil
	}
	return merged, more, nil
}

// visible leaves out what the person may not read on Bitbucket. Each repository is asked about once.
func (g *Gate) visible(ctx context.Context, person store.Person, workspace string, views []View) ([]View, error) {
	allowed := map[string]bool{}
	seen := views[:0]
	for _, v := range views {
		id := v.PullRequest.RepositoryID
		if _, asked := allowed[id]; !asked {
			err := g.see(ctx, person, workspace, id, false)
			if err != nil && refusal.Code(err) != refusal.NotFound {
				return nil, err
			}
			allowed[id] = err == nil
		}
		if allowed[id] {
			seen = append(seen, v)
		}
	}
	return seen, nil
}
