package gate

import (
	"context"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// cancelPatience bounds how long Cancel waits for Bitbucket to take the last statuses.
const cancelPatience = 8 * time.Second

// Cancel ends all live requests of a repository, of the whole workspace where it is "", and makes
// Bitbucket show STOPPED while there still is a connection to say so with. It answers what it
// could not do, a sentence each.
func (g *Gate) Cancel(ctx context.Context, workspace, repositoryID, why string) (leftToDo []string, err error) {
	var open []store.PullRequest
	err = g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		open, err = tx.OpenPullRequests(ctx, repositoryID, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, pr := range open {
		if err := g.cancel(ctx, workspace, pr, why); err != nil {
			return nil, err
		}
	}
	return g.payNow(ctx, workspace, repositoryID)
}

func (g *Gate) cancel(ctx context.Context, workspace string, open store.PullRequest, why string) error {
	return g.following(ctx, workspace, func(tx *store.Tx) error {
		pr, err := tx.LockPullRequestByID(ctx, open.ID)
		if err != nil {
			return err
		}
		tx.HoldRules(pr.RepositoryID)
		live, err := tx.LiveRequest(ctx, pr.ID)
		if err != nil {
			return optional(err)
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
		if err := closeRequest(ctx, tx, t.chain, live.ID, store.RequestCancelled, "cancelled: "+why); err != nil {
			return err
		}
		if err := t.owe(ctx, live, bitbucket.StatusStopped, "cancelled: "+why); err != nil {
			return err
		}
		pr.Version++
		tx.Touch("pr:" + pr.ID)
		if err := tx.UpdatePullRequest(ctx, pr); err != nil {
			return err
		}
		t.chain.write(tx)
		return nil
	})
}

// payNow waits for the jobs that pay, and names what they could not pay in time.
func (g *Gate) payNow(ctx context.Context, workspace, repositoryID string) ([]string, error) {
	deadline := time.Now().Add(cancelPatience)
	for {
		var owed []store.CommitStatus
		err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
			owed, err = tx.UnpaidStatuses(ctx, repositoryID)
			return err
		})
		if err != nil || len(owed) == 0 {
			return nil, err
		}
		stuck := 0
		for _, s := range owed {
			if s.Problem != "" {
				stuck++
			}
		}
		if stuck == len(owed) || time.Now().After(deadline) {
			left := make([]string, 0, len(owed))
			for _, s := range owed {
				left = append(left, fmt.Sprintf("The build status on commit %s could not be set to STOPPED.", s.Commit[:12]))
			}
			return left, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
