package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// landed verifies what was merged, as far as can be told without a clone. The call names no head, and its answer may have
// been lost: what Bitbucket merged can be another head, or lie on another branch, than what was approved here, by this
// call or by somebody else's. Then the intent came to nothing; the evaluation judges what was merged.
func (g *Gate) landed(ctx context.Context, job store.Job, at store.Place, a attempt, remote bitbucket.PullRequest) error {
	head, err := a.client.PullRequestHead(ctx, at.Workspace, a.pr.RepositoryID, a.pr.Number)
	if err != nil {
		return g.unread(a, err)
	}
	switch {
	case head != at.Commit:
		return g.landedElsewhere(ctx, job, at, a, remote, head, fmt.Sprintf("not merged: the pull request was merged at another commit, %.12s", head))
	case remote.Destination.Branch != a.destination:
		return g.landedElsewhere(ctx, job, at, a, remote, head, "not merged: the pull request was merged into another branch, "+clip(remote.Destination.Branch, 200))
	}
	commit, err := landing(ctx, a.client, at.Workspace, a.pr.RepositoryID, remote, job.Attempt)
	if err != nil {
		return g.unread(a, err)
	}
	sentence := "merged " + at.Commit[:12]
	switch {
	case commit.Hash == "":
		sentence += "; Bitbucket does not say what landed"
	case commit.Hash == at.Commit || slices.Contains(commit.Parents, at.Commit):
		sentence += "; what landed contains the approved commit"
	case strings.Contains(a.intent.Strategy, "squash") || strings.Contains(a.intent.Strategy, "rebase"):
		sentence += " as new commits; only a clone can tell that their content is what was approved"
	default:
		sentence = "merged, but what landed does not contain the approved commit"
		if err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
			return g.sawMerge(ctx, tx, store.MergeSeen{
				RepositoryID: a.pr.RepositoryID, Number: a.pr.Number, PullRequestID: &a.pr.ID, DestinationBranch: remote.Destination.Branch,
				Kind: store.MergeSeenViolation, HeadCommit: at.Commit, LandedCommit: commit.Hash,
				Sentence: fmt.Sprintf("Pull request %d: what landed does not contain the approved commit.", a.pr.Number),
			})
		}); err != nil {
			return err
		}
	}
	if err := g.sawUngated(ctx, at, a, commit.Hash); err != nil {
		return err
	}
	return g.endMerge(ctx, job, at, a, store.MergeMerged, sentence, commit.Hash)
}

// sawUngated records what a call merged of a repository that is no longer gated, where no evaluation looks: by what was asked, and
// what had been decided about it.
func (g *Gate) sawUngated(ctx context.Context, at store.Place, a attempt, landed string) error {
	if a.intent.State != store.MergeCalling {
		return nil
	}
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		if _, err := tx.RepositoryConfig(ctx, a.pr.RepositoryID); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		asked, err := tx.Request(ctx, a.intent.RequestID)
		if err != nil {
			return err
		}
		rule, err := ruleOf(asked)
		if err != nil {
			return err
		}
		given, err := tx.Given(ctx, a.pr.ID, at.Commit)
		if err != nil {
			return err
		}
		facts, _, err := g.factsNow(ctx, tx, asked, rule, given, nil)
		if err != nil {
			return err
		}
		m := store.MergeSeen{
			RepositoryID: a.pr.RepositoryID, Number: a.pr.Number, PullRequestID: &a.pr.ID, DestinationBranch: a.destination,
			Kind: store.MergeSeenApproved, HeadCommit: at.Commit, LandedCommit: landed,
			Sentence: fmt.Sprintf("Pull request %d was merged by a call of the gate with the approvals that were asked for, and landed when the repository was no longer gated.", a.pr.Number),
		}
		if approval.Tally(rule, facts).State != approval.Approved {
			m.Kind, m.Sentence = store.MergeSeenViolation, mergedWhileCalled(a.pr.Number, a.destination)
		}
		return g.sawMerge(ctx, tx, m)
	})
}

// landedElsewhere ends an intent that came to nothing, once the evaluation has judged what was merged: that has to see that it was
// being called. Where nothing is gated any more no evaluation looks.
func (g *Gate) landedElsewhere(ctx context.Context, job store.Job, at store.Place, a attempt, remote bitbucket.PullRequest, head, sentence string) error {
	if a.intent.State != store.MergeCalling {
		return g.endMerge(ctx, job, at, a, store.MergeRefused, sentence, "")
	}
	judged := true
	err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		pr, err := tx.LockPullRequestByID(ctx, a.pr.ID)
		if err != nil {
			return err
		}
		if judged = pr.State != "OPEN" && pr.State != "GONE"; judged {
			return nil
		}
		_, err = tx.RepositoryConfig(ctx, pr.RepositoryID)
		if errors.Is(err, store.ErrNotFound) {
			judged = true
			return g.sawMerge(ctx, tx, store.MergeSeen{
				RepositoryID: pr.RepositoryID, Number: pr.Number, PullRequestID: &pr.ID, DestinationBranch: remote.Destination.Branch,
				Kind: store.MergeSeenViolation, HeadCommit: head, Sentence: mergedWhileCalled(pr.Number, remote.Destination.Branch),
			})
		}
		if err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if err := tx.Enqueue(ctx, store.AskEvaluate(at.Workspace, pr.RepositoryID, pr.Number)); err != nil {
			return err
		}
		return tx.FinishJob(ctx, job.Claim, now.Add(doubtPause)) // the evaluation rings before
	})
	if err != nil || !judged {
		return err
	}
	return g.endMerge(ctx, job, at, a, store.MergeRefused, sentence, "")
}

// endMerge records the outcome and has the pull request evaluated.
func (g *Gate) endMerge(ctx context.Context, job store.Job, at store.Place, a attempt, state, sentence, landed string) error {
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		a.intent.State, a.intent.Sentence, a.intent.MergeCommit, a.intent.TaskID = state, sentence, landed, ""
		if err := tx.MoveMerge(ctx, a.intent, store.MergePlanned, store.MergeCalling); err != nil {
			return err
		}
		tx.Touch("pr:" + a.pr.ID)
		if err := tx.Enqueue(ctx, store.AskEvaluate(at.Workspace, a.pr.RepositoryID, a.pr.Number)); err != nil {
			return err
		}
		return tx.FinishJob(ctx, job.Claim, time.Time{})
	})
}
