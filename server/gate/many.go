package gate

import (
	"context"

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
		views, err = viewsOfRequests(ctx, tx, requests)
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
		views, err = viewsOfPullRequests(ctx, tx, pullRequests)
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
