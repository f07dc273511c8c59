package gate

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// waitForMerge keeps Bitbucket's task, or that it is given up, and comes back.
func (g *Gate) waitForMerge(ctx context.Context, job store.Job, at store.Place, a attempt) error {
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		pause := mergePoll
		if a.intent.TaskID == "" {
			pause = doubtPause
		}
		a.intent.State = store.MergeCalling
		if err := tx.MoveMerge(ctx, a.intent, store.MergeCalling); err != nil {
			return err
		}
		return tx.FinishJob(ctx, job.Claim, now.Add(pause))
	})
}

func (g *Gate) pollMerge(ctx context.Context, job store.Job, at store.Place, a attempt) error {
	outcome, err := a.client.MergeTask(ctx, at.Workspace, a.pr.RepositoryID, a.pr.Number, a.intent.TaskID)
	var failure *bitbucket.Error
	switch {
	case err == nil && outcome.Merged != nil:
		return g.landed(ctx, job, at, a, *outcome.Merged)
	case errors.As(err, &failure) && failure.Conflict(): // it ended without a merge: start again from reading
		return errors.Join(g.uncalled(ctx, job, at, a), err)
	case errors.As(err, &failure) && failure.Status == http.StatusBadRequest: // it went wrong
		return g.mergeRefused(ctx, job, at, a, failure)
	case a.called > taskPatience, notFound(err):
		return g.lookPastTask(ctx, job, at, a)
	case err == nil:
		return g.lookLater(ctx, job, a)
	}
	return g.unread(a, err) // that it cannot be asked for says nothing of the task
}

// lookLater looks again for what became of a call, the less often the longer ago that was, and when it cannot land any more. Until
// then its intent stays CALLING.
func (g *Gate) lookLater(ctx context.Context, job store.Job, a attempt) error {
	return g.Store.Outside(ctx, func(sh *store.Shared) error {
		now, err := sh.Now(ctx)
		if err != nil {
			return err
		}
		pause := min(max(a.called/4, mergePoll), mergePollLast)
		if a.doubt > 0 {
			pause = min(pause, a.doubt)
		}
		return sh.FinishJob(ctx, job.Claim, now.Add(pause))
	})
}

// lookPastTask looks at the pull request itself, where Bitbucket does not have the task, or does not show it, or has been at it for
// too long. It may land all the same: until its time is over nothing ends, and nothing else is called for. Then the merge ends after
// one more look, when that cannot land any more, as far as anybody can tell; it is not called for again.
func (g *Gate) lookPastTask(ctx context.Context, job store.Job, at store.Place, a attempt) error {
	remote, err := a.read(ctx, at)
	if err != nil {
		return g.vanished(ctx, job, at, a, err)
	}
	if remote.State == bitbucket.Merged {
		return g.landed(ctx, job, at, a, remote)
	}
	if a.called <= taskPatience {
		return g.lookLater(ctx, job, a)
	}
	a.intent.TaskID = ""
	a.intent.Sentence = fmt.Sprintf("not merged: Bitbucket did not come to an end with it in %.0f minutes; merge by hand", taskPatience.Minutes())
	return g.waitForMerge(ctx, job, at, a)
}
