package gate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// callMerge asks Bitbucket. CALLING is committed first.
func (g *Gate) callMerge(ctx context.Context, job store.Job, at store.Place, a attempt, remote bitbucket.PullRequest) error {
	message, closeBranch, err := mergeText(a, remote)
	if err != nil {
		return err
	}
	err = g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		// The approval may have been withdrawn since it was read, or the rules changed: the last look is under the locks.
		if a.pr, err = tx.LockPullRequestByID(ctx, at.PullRequest); err != nil {
			return err
		}
		tx.HoldRules(a.pr.RepositoryID)
		if a.live, err = g.standingApproval(ctx, tx, a.pr, a.intent, a.writers); err != nil || a.live == nil {
			return err
		}
		// What was published is the verdict that stood then; another one is published by another turn.
		end, err := readChainEnd(ctx, tx, at.PullRequest)
		if err != nil {
			return err
		}
		if end.size > a.end.size && (!end.published || a.cosignatures > 0) {
			return errors.New("the pull request moved while its merge was prepared")
		}
		calling := a.intent
		calling.State, calling.Sentence = store.MergeCalling, ""
		if err := tx.MoveMerge(ctx, calling, store.MergePlanned, store.MergeCalling); err != nil {
			return err
		}
		// Who has outlived its lease calls nothing: it could not end what it began, and nobody else would.
		return tx.HoldJob(ctx, job.Claim)
	})
	if err != nil {
		return err
	}
	if a.live == nil {
		return g.letGo(ctx, job, at, a)
	}
	a.intent.State, a.intent.Sentence = store.MergeCalling, ""
	outcome, err := a.client.Merge(ctx, at.Workspace, a.pr.RepositoryID, a.pr.Number, bitbucket.MergeOptions{
		Message: message, Strategy: bitbucket.MergeStrategy(a.intent.Strategy), CloseSourceBranch: closeBranch, Async: true,
	})
	var failure *bitbucket.Error
	switch {
	case err == nil && outcome.Merged != nil:
		return g.landed(ctx, job, at, a, *outcome.Merged)
	case err == nil:
		a.intent.TaskID = outcome.Task
		return g.waitForMerge(ctx, job, at, a)
	case errors.As(err, &failure) && failure.Conflict(): // a branch moved: read everything again
		return errors.Join(g.uncalled(ctx, job, at, a), err)
	case refusal.Code(err) != "", errors.As(err, &failure) && (failure.Unauthorized() || failure.Throttled()): // not sent, or not taken
		return errors.Join(g.uncalled(ctx, job, at, a), g.fate(err))
	case errors.As(err, &failure) && failure.Class() == bitbucket.Permanent:
		return g.mergeRefused(ctx, job, at, a, failure)
	}
	return errors.Join(g.fate(err), g.unanswered(ctx, job, at, a))
}

// unanswered has it count from now on how long a call may land, and not from when it was made. Where the call is over because the
// job is, there is time for this all the same; nobody else calls before it is done.
func (g *Gate) unanswered(ctx context.Context, job store.Job, at store.Place, a attempt) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), doubtTime)
	defer cancel()
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		if err := tx.MoveMerge(ctx, a.intent, store.MergeCalling); err != nil {
			return err
		}
		return tx.HoldJob(ctx, job.Claim)
	})
}

// uncalled takes back that a call may land, which Bitbucket has answered.
func (g *Gate) uncalled(ctx context.Context, job store.Job, at store.Place, a attempt) error {
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		a.intent.State, a.intent.TaskID = store.MergePlanned, ""
		if err := tx.MoveMerge(ctx, a.intent, store.MergeCalling); err != nil {
			return err
		}
		return tx.HoldJob(ctx, job.Claim)
	})
}

// mergeRefused ends a merge that Bitbucket refuses, unless it refuses because it has merged already: a call that was repeated
// on its way, or that somebody made whose lease had run out.
func (g *Gate) mergeRefused(ctx context.Context, job store.Job, at store.Place, a attempt, failure *bitbucket.Error) error {
	remote, err := a.read(ctx, at)
	if err != nil {
		return g.vanished(ctx, job, at, a, err)
	}
	if remote.State == bitbucket.Merged {
		return g.landed(ctx, job, at, a, remote)
	}
	return g.endMerge(ctx, job, at, a, store.MergeRefused, "not merged: Bitbucket says: "+clip(failure.Message, 200), "")
}

// landsWithin is for how long after it was last heard of a call may land whose intent is CALLING, but for the task that it is known to
// be, or was until that was given up, which the intent says.
func landsWithin(intent store.MergeIntent) time.Duration {
	if intent.TaskID != "" || intent.Sentence != "" {
		return doubtPause
	}
	return taskPatience
}

func mergeText(a attempt, remote bitbucket.PullRequest) (message string, closeBranch bool, err error) {
	rule, err := ruleOf(*a.live)
	if err != nil {
		return "", false, err
	}
	verdict, err := verdictOf(*a.live)
	if err != nil {
		return "", false, err
	}
	if rule.AutoMerge == nil {
		return "", false, jobs.Permanent(errors.New("a merge was planned under a rule without auto-merge"))
	}
	var names []string
	for _, requirement := range verdict.Requirements {
		for _, p := range requirement.Counted {
			if !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	message, err = rule.AutoMerge.Message(approval.MergeMessage{
		Title: remote.Title, Number: remote.ID, Author: remote.Author.DisplayName, Source: remote.Source.Branch,
		Destination: remote.Destination.Branch, Head: a.live.HeadCommit, Approvers: names, URL: remote.HTMLURL,
	})
	return message, rule.AutoMerge.CloseSourceBranch, err
}
