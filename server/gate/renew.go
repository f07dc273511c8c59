package gate

import (
	"context"
	"errors"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// Renew asks again for an approval that was not given in time: the request ends, and the evaluation that
// follows opens the next one. No approval and no override is taken along; a rejection is, since it is about
// the commit, until it is withdrawn or overridden. Whoever may read the pull request may ask.
func (g *Gate) Renew(ctx context.Context, person store.Person, workspace, requestID string) (View, error) {
	v, err := g.ViewRequest(ctx, person, workspace, requestID)
	if err != nil {
		return View{}, err
	}
	notOver := refusal.New(refusal.BadInput, "Only a request whose time is over, and that was neither approved nor overridden, can be asked for again.").At("requestId")
	if !v.Can.Renew {
		return View{}, notOver
	}
	err = g.following(ctx, workspace, func(tx *store.Tx) error {
		pr, err := tx.LockPullRequestByID(ctx, v.PullRequest.ID)
		if err != nil {
			return err
		}
		tx.HoldRules(pr.RepositoryID)
		live, err := tx.LiveRequest(ctx, pr.ID)
		if errors.Is(err, store.ErrNotFound) || err == nil && live.ID != requestID {
			return notOver
		}
		if err != nil {
			return err
		}
		own, err := tx.ReadWorkspace(ctx)
		if err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		t := &settlement{Gate: g, tx: tx, pr: &pr, chain: newChain(own, &pr, now)}
		if err := t.lastWord(ctx, &live); err != nil {
			return err
		}
		// What came in time, and nobody has looked at yet, may have approved it.
		if !mayAskAgain(live, !now.Before(live.ExpiresAt)) {
			return notOver
		}
		if err := closeRequest(ctx, tx, t.chain, live.ID, store.RequestSuperseded, "superseded: it was asked for again"); err != nil {
			return err
		}
		pr.Version++
		tx.Touch("pr:" + pr.ID)
		if err := tx.UpdatePullRequest(ctx, pr); err != nil {
			return err
		}
		if err := tx.Enqueue(ctx, store.AskEvaluate(workspace, pr.RepositoryID, pr.Number)); err != nil {
			return err
		}
		t.chain.write(tx)
		return nil
	})
	if err != nil {
		return View{}, hide(err)
	}
	return g.ViewRequest(ctx, person, workspace, requestID)
}

// Ring asks for an evaluation of a pull request now. Whoever may write to the repository may ask.
func (g *Gate) Ring(ctx context.Context, person store.Person, workspace, pullRequestID string) (View, error) {
	v, err := g.ViewPullRequest(ctx, person, workspace, pullRequestID)
	if err != nil {
		return View{}, err
	}
	permission, err := g.Permission(ctx, person, workspace, v.PullRequest.RepositoryID, true) // as with every change
	if err != nil {
		return View{}, err
	}
	if !permission.Allows(bitbucket.PermissionWrite) {
		return View{}, refusal.New(refusal.Forbidden, "Only people who may write to the repository can ask for that.")
	}
	return v, g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		return tx.Enqueue(ctx, store.AskEvaluate(workspace, v.PullRequest.RepositoryID, v.PullRequest.Number))
	})
}
