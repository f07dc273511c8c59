package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// merged records that the pull request was seen merged, and whether what was merged was approved or
// overridden.
func (t *settlement) merged(ctx context.Context, before store.PullRequest, live *store.ApprovalRequest) error {
	body := evidence.Merged{Kind: "violation", Commit: t.seen.landed}
	fell := false   // it was approved or overridden, and is not any more
	called := false // the gate was calling for a merge, of something that is not asked for any more
	switch {
	case live != nil:
		body.Request = live.ID
		was := approval.State(live.State)
		if err := t.lastWord(ctx, live); err != nil {
			return err
		}
		if live.HeadCommit == t.pr.HeadCommit && live.DestinationBranch == t.pr.DestinationBranch {
			var err error
			if body.Kind, err = t.kindNow(ctx, *live, was); err != nil {
				return err
			}
			fell = body.Kind == "violation" && kindOfMerge(was) != "violation"
		}
	default:
		// Nothing was asked for: it was a draft, or went elsewhere, or its request had just ended. Whether
		// that is how it was merged is known only if the rules are older than our last look; but what our own call may have
		// merged is ours to tell, wherever it landed.
		var err error
		if called, err = t.called(ctx, before.SyncedAt); err != nil {
			return err
		}
		switch ruled := t.seen.rule != nil && t.older(before.SyncedAt); {
		case !ruled && !called:
			return nil
		case ruled && before.State == "GONE":
			if body.Request, body.Kind, err = t.decidedWhenGone(ctx); err != nil {
				return err
			}
		}
	}
	// Whoever merged in our name has looked closer, at what landed.
	known, err := t.tx.MergeSeen(ctx, t.at.Repository, t.at.Number)
	if optional(err) != nil {
		return err
	}
	if err == nil && known.Kind == store.MergeSeenViolation {
		body.Kind = "violation"
	}
	m := store.MergeSeen{
		RepositoryID: t.at.Repository, Number: t.at.Number, PullRequestID: &t.pr.ID, DestinationBranch: t.pr.DestinationBranch,
		Kind: store.MergeSeenApproved, HeadCommit: t.pr.HeadCommit, LandedCommit: t.seen.landed,
		Sentence: fmt.Sprintf("Pull request %d was merged with the approvals that its rule asks for.", t.pr.Number),
	}
	switch body.Kind {
	case "override":
		m.Kind, m.Sentence = store.MergeSeenOverride, fmt.Sprintf("Pull request %d was merged by an override, without the approvals that its rule asks for.", t.pr.Number)
	case "violation":
		m.Kind, m.Sentence = store.MergeSeenViolation, fmt.Sprintf("Pull request %d was merged without the approvals that its rule asks for.", t.pr.Number)
		if called {
			m.Sentence = mergedWhileCalled(t.pr.Number, t.pr.DestinationBranch)
		} else if fell {
			m.Sentence = fmt.Sprintf("Pull request %d was merged while an approval that its rule asks for was being taken back.", t.pr.Number)
		} else if t.late {
			m.Sentence = fmt.Sprintf("Pull request %d was merged before what its rule asks for was on record.", t.pr.Number)
		}
	}
	if err := t.sawMerge(ctx, t.tx, m); err != nil {
		return err
	}
	t.changed = true
	if body.Commit == "" { // Bitbucket does not say what landed
		return nil
	}
	_, err = t.chain.add(body)
	return err
}

// landedTries is how often it is tried to read what landed before it counts as what Bitbucket does not say.
const landedTries = 6

// errUnnamed counts as a failure of its job: so it comes to an end.
var errUnnamed = errors.New("bitbucket does not say yet what landed")

// landing reads what a merge put on its branch after so many failures. Bitbucket may name it a moment later than it says that it
// merged; where it never does, or names what it does not have, the commit is the zero one.
func landing(ctx context.Context, client *bitbucket.Client, workspace, repositoryID string, remote bitbucket.PullRequest, attempt int) (bitbucket.Commit, error) {
	if remote.MergeCommit != nil && *remote.MergeCommit != "" {
		commit, err := client.ResolveCommit(ctx, workspace, repositoryID, *remote.MergeCommit)
		if !notFound(err) {
			return commit, err
		}
	}
	if attempt < landedTries {
		return bitbucket.Commit{}, errUnnamed
	}
	return bitbucket.Commit{}, nil
}

// mergedWhileCalled is what is said of a merge that the gate may have called for, of what was no longer asked for when it landed.
func mergedWhileCalled(number int64, branch string) string {
	return fmt.Sprintf("Pull request %d was merged into %s while a call of the gate to merge it was under way, though what was approved was no longer asked for.",
		number, clip(branch, 200))
}

// called tells whether the gate may have made the merge that was seen: a call of its own was under way, or is known to have merged
// this head. One that could not land any more when the pull request was last looked at, before the merge, has not made it, however long
// its job does not come to end it.
func (t *settlement) called(ctx context.Context, last time.Time) (bool, error) {
	open, err := t.tx.OpenMerges(ctx, t.pr.ID)
	if err != nil || slices.ContainsFunc(open, func(m store.MergeIntent) bool {
		return m.State == store.MergeCalling && (m.TaskID != "" || last.Before(m.UpdatedAt.Add(landsWithin(m))))
	}) {
		return err == nil, err
	}
	ended, err := t.tx.Merge(ctx, t.pr.ID, t.pr.HeadCommit)
	return ended.State == store.MergeMerged, optional(err)
}

// ringMerges has what was intended looked after by its own job, whoever has merged, and whether or not the merge is on record:
// an intent whose request had ended, as that of a draft, waits for nobody else.
func (t *settlement) ringMerges(ctx context.Context) error {
	return ringMerges(ctx, t.tx, t.pr.ID, store.MergePlanned, store.MergeCalling)
}

// ringMerges has the intents of a pull request looked after that are in one of several states.
func ringMerges(ctx context.Context, tx *store.Tx, pullRequestID string, states ...string) error {
	intents, err := tx.OpenMerges(ctx, pullRequestID)
	if err != nil {
		return err
	}
	for _, intent := range intents {
		if !slices.Contains(states, intent.State) {
			continue
		}
		if err := tx.Enqueue(ctx, store.AskMerge(tx.Workspace, pullRequestID, intent.HeadCommit)); err != nil {
			return err
		}
	}
	return nil
}

// kindOfMerge is what a merge is called that came while a request was in a state.
func kindOfMerge(state approval.State) string {
	if state == approval.Approved {
		return "approved"
	}
	if state == approval.Overridden {
		return "override"
	}
	return "violation"
}

// kindNow is what a merge is called that was seen while a request was alive: was is what the request bore before the merge
// was seen. A decision that came since, while it was being merged, is on record before the merge, and counts. But
// nothing becomes better by it: it may have been made after the merge.
func (t *settlement) kindNow(ctx context.Context, live store.ApprovalRequest, was approval.State) (kind string, err error) {
	before, now := kindOfMerge(was), kindOfMerge(approval.State(live.State))
	t.late = before == "violation" && now != "violation"
	kind = max(before, now) // the further down in approved, override, violation
	if kind != "violation" && approval.State(live.State) != was {
		verdict, err := verdictOf(live)
		if err != nil {
			return "", err
		}
		return kind, t.owe(ctx, live, bitbucket.StatusSuccessful, verdict.Sentence)
	}
	return kind, nil
}

// verdictNow tallies a request once more, over the decisions as they are now.
func (t *settlement) verdictNow(ctx context.Context, r store.ApprovalRequest, rule approval.Rule) (approval.Facts, approval.Verdict, error) {
	given, err := t.tx.Given(ctx, r.PullRequestID, r.HeadCommit)
	if err != nil {
		return approval.Facts{}, approval.Verdict{}, err
	}
	facts, behind, err := t.factsNow(ctx, t.tx, r, rule, given, nil)
	if err == nil && len(behind) > 0 {
		err = rosterBehind(behind)
	}
	if err != nil {
		return facts, approval.Verdict{}, err
	}
	return facts, approval.Tally(rule, facts), nil
}

// decidedWhenGone looks at a pull request that could not be seen for a while, so that its request was
// cancelled, and then was merged. It gives that request if its decisions approve or override what was
// merged by the rule in force, else "", and what to call the merge.
func (t *settlement) decidedWhenGone(ctx context.Context) (requestID, kind string, err error) {
	kind = kindOfMerge("")
	last, err := t.tx.LastRequest(ctx, t.pr.ID)
	if err != nil {
		return "", kind, optional(err)
	}
	if !t.fits(last) || last.State != store.RequestCancelled {
		return "", kind, nil
	}
	_, verdict, err := t.verdictNow(ctx, last, *t.seen.rule)
	if err != nil {
		return "", kind, err
	}
	if kind = kindOfMerge(verdict.State); kind == "violation" {
		return "", kind, nil
	}
	return last.ID, kind, nil
}

// unseen looks at a pull request that was never seen open: one that was opened and merged between two
// looks was merged around the gate.
func (t *settlement) unseen(ctx context.Context) error {
	remote := t.seen.remote
	if remote == nil || remote.State != bitbucket.Merged || t.seen.rule == nil || !t.older(remote.CreatedOn) {
		return nil
	}
	return t.sawMerge(ctx, t.tx, store.MergeSeen{
		RepositoryID: t.at.Repository, Number: t.at.Number, DestinationBranch: remote.Destination.Branch, Kind: store.MergeSeenViolation,
		Sentence: fmt.Sprintf("Pull request %d was opened and merged before its approval could be asked for.", t.at.Number),
	})
}

// older tells whether the repository was gated, by the rules in force, before a moment.
func (t *settlement) older(moment time.Time) bool {
	return t.seen.version.CreatedAt.Before(moment) && t.config.CreatedAt.Before(moment)
}

// sawMerge stores a merge, once, with what the merge check had said of it, and has the doctor look at
// what it tells of Bitbucket's settings. The administrators are told of a violation.
func (g *Gate) sawMerge(ctx context.Context, tx *store.Tx, m store.MergeSeen) error {
	var err error
	if m.Asked, m.Checked, err = tx.CheckedOnMerge(ctx, m.RepositoryID, m.Number, m.HeadCommit); err != nil {
		return err
	}
	first, err := tx.PutMergeSeen(ctx, m)
	if err != nil || !first {
		return err
	}
	if err := tx.Enqueue(ctx, store.AskDoctor(tx.Workspace, m.RepositoryID)); err != nil {
		return err
	}
	if m.Kind != store.MergeSeenViolation {
		return nil
	}
	subject := fmt.Sprintf("%s:%d", m.RepositoryID, m.Number)
	if m.PullRequestID != nil {
		subject = *m.PullRequestID
	}
	if _, err := tx.RaiseAlarm(ctx, store.Alarm{
		Kind: store.AlarmMergedUnapproved, RepositoryID: &m.RepositoryID, PullRequestID: m.PullRequestID, Subject: subject, Sentence: m.Sentence,
	}); err != nil {
		return err
	}
	config, err := tx.RepositoryConfig(ctx, m.RepositoryID)
	if errors.Is(err, store.ErrNotFound) { // it is no longer gated
		config.FullName = m.RepositoryID
	} else if err != nil {
		return err
	}
	return tx.NotifyAdministrators(ctx, store.Notice{
		PullRequestID: m.PullRequestID, Kind: store.AlarmMergedUnapproved, DedupeKey: fmt.Sprintf("merged-unapproved:%s:%s", tx.Workspace, subject),
		Title: "Merged without approval in " + config.FullName, Sentence: m.Sentence, Path: PanelPath(tx.Workspace, m.RepositoryID, m.Number),
	})
}
