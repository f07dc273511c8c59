package gate

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// requests brings the pull request's approval request to where it should be.
func (t *settlement) requests(ctx context.Context, before store.PullRequest) (next time.Time, err error) {
	live := t.live
	if t.pr.State == "MERGED" && (before.State == "OPEN" || before.State == "GONE") {
		if err := t.merged(ctx, before, live); err != nil {
			return next, err
		}
		if err := t.ringMerges(ctx); err != nil {
			return next, err
		}
		// What was approved stays owed, and nobody waits for it.
		if err := t.tx.CloseAlarm(ctx, store.AlarmUncosigned, waiting(t.pr.ID, before.HeadCommit)); err != nil {
			return next, err
		}
	}
	if !t.seen.gated {
		// Nobody walks over it any more, and a call may still be under way.
		if err := ringMerges(ctx, t.tx, t.pr.ID, store.MergeCalling); err != nil {
			return next, err
		}
	}
	wanted := t.seen.gated && t.pr.State == "OPEN" && !t.pr.Draft && t.seen.rule != nil
	if live != nil && (!wanted || !t.fits(*live)) {
		if err := t.close(ctx, *live, wanted); err != nil {
			return next, err
		}
		live = nil
	}
	if !wanted {
		return next, nil
	}
	if live == nil {
		opened, err := t.open(ctx)
		if err != nil {
			return next, err
		}
		live = &opened
	}
	return t.tally(ctx, *live)
}

// fits tells whether a request asks exactly what must be asked now.
func (t *settlement) fits(r store.ApprovalRequest) bool {
	return r.HeadCommit == t.pr.HeadCommit && r.DestinationBranch == t.pr.DestinationBranch && r.RuleDigest == string(t.seen.rule.Digest())
}

// lastWord tallies over a request that is about to end, by the rules that it was asked under, where a decision about its commit
// came since it was last looked at: its evidence has to hold that decision, and could never be given without a verdict that
// rests on it.
func (t *settlement) lastWord(ctx context.Context, r *store.ApprovalRequest) error {
	rows, err := t.tx.DecisionsOn(ctx, r.PullRequestID, r.HeadCommit)
	if err != nil || len(rows) == 0 {
		return err
	}
	rule, err := ruleOf(*r)
	if err != nil {
		return err
	}
	before, err := factsOf(*r)
	if err != nil {
		return err
	}
	facts, verdict, err := t.verdictNow(ctx, *r, rule)
	if err != nil || slices.Equal(before.Decisions, facts.Decisions) {
		return err
	}
	version := t.seen.version // which is in force
	if t.seen.rule == nil || !t.fits(*r) {
		if version, err = t.tx.PolicyVersion(ctx, r.PolicyVersionID); err != nil {
			return err
		}
	}
	return t.record(ctx, r, version, facts, verdict)
}

// closeRequest ends a request, with its leaf. state is SUPERSEDED or CANCELLED.
func closeRequest(ctx context.Context, tx *store.Tx, c *chain, id, state, sentence string) error {
	if err := tx.CloseRequest(ctx, id, state, sentence); err != nil {
		return err
	}
	_, err := c.add(evidence.RequestClosed{Request: id, Reason: strings.ToLower(state)})
	return err
}

// close ends a request that no longer fits: superseded where another one takes its place,
// cancelled where none does. An approved or overridden request of a merged pull request has done its
// work: it stays as it is.
func (t *settlement) close(ctx context.Context, r store.ApprovalRequest, replaced bool) error {
	if t.pr.State == "MERGED" && !t.late && (r.State == store.RequestApproved || r.State == store.RequestOverridden) &&
		r.HeadCommit == t.pr.HeadCommit && r.DestinationBranch == t.pr.DestinationBranch {
		return nil
	}
	if t.pr.State != "MERGED" {
		if err := t.lastWord(ctx, &r); err != nil {
			return err
		}
	}
	state, sentence := store.RequestCancelled, t.cancelSentence()
	if replaced {
		state, sentence = store.RequestSuperseded, t.supersedeSentence(r)
	}
	if err := closeRequest(ctx, t.tx, t.chain, r.ID, state, sentence); err != nil {
		return err
	}
	t.changed = true
	if replaced && r.HeadCommit == t.pr.HeadCommit {
		return nil // the next request owes a status on this very commit
	}
	return t.owe(ctx, r, bitbucket.StatusStopped, sentence)
}

func (t *settlement) cancelSentence() string {
	switch {
	case !t.seen.gated:
		return "cancelled: the repository is no longer gated"
	case t.pr.State == "MERGED":
		return "cancelled: the pull request was merged"
	case t.pr.State == "GONE":
		return "cancelled: Bitbucket no longer has the pull request"
	case t.pr.State != "OPEN":
		return "cancelled: the pull request was closed"
	case t.pr.Draft:
		return "cancelled: the pull request is a draft"
	}
	return "cancelled: no rule asks for approval of this destination branch"
}

func (t *settlement) supersedeSentence(r store.ApprovalRequest) string {
	switch {
	case r.HeadCommit != t.pr.HeadCommit:
		return "superseded by a newer commit"
	case r.DestinationBranch != t.pr.DestinationBranch:
		return "superseded: the destination branch changed"
	}
	return "superseded: the rule changed"
}

// open asks the approvers.
func (t *settlement) open(ctx context.Context) (store.ApprovalRequest, error) {
	rule, round := *t.seen.rule, 1
	if !t.new {
		last, err := t.tx.LastRequest(ctx, t.pr.ID)
		if optional(err) != nil {
			return last, err
		}
		round += last.Round
	}
	request, err := t.tx.InsertRequest(ctx, store.ApprovalRequest{
		ID: store.NewID(), PullRequestID: t.pr.ID, Round: round, HeadCommit: t.pr.HeadCommit, DestinationBranch: t.pr.DestinationBranch,
		PolicyVersionID: t.seen.version.ID, Rule: rule.Canonical(), RuleDigest: string(rule.Digest()), Sentence: "waiting for approvals",
		ExpiresAt: t.now.Add(rule.Expiry()),
	})
	if err != nil {
		return store.ApprovalRequest{}, err
	}
	about, err := requestDocument(t.workspace, *t.pr, request).Digest()
	if err != nil {
		return store.ApprovalRequest{}, err
	}
	if _, err := t.chain.add(evidence.RequestOpened{Request: request.ID, Document: about}); err != nil {
		return store.ApprovalRequest{}, err
	}
	t.changed = true
	return request, t.notify(ctx, request, rule)
}
