package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// tally computes the verdict of a live request and owes Bitbucket what follows from it.
func (t *settlement) tally(ctx context.Context, r store.ApprovalRequest) (next time.Time, err error) {
	given := t.given
	if !t.new && (given == nil || t.live == nil || t.live.HeadCommit != r.HeadCommit) {
		read, err := t.tx.Given(ctx, t.pr.ID, r.HeadCommit)
		if err != nil {
			return next, err
		}
		given = &read
	}
	decisions, behind, err := judgeGiven(ctx, t.tx, *given)
	if err != nil {
		return next, err
	}
	if len(behind) > 0 {
		return next, rosterBehind(behind)
	}
	if err := t.judgesModels(ctx, t.tx, *t.seen.rule); err != nil {
		return next, err
	}
	if err := t.proveModels(ctx, t.tx, *t.seen.rule, decisions); err != nil {
		return next, err
	}
	facts, err := t.facts(r, decisions)
	if err != nil {
		return next, err
	}
	verdict := approval.Tally(*t.seen.rule, facts)
	before := r.State
	if err := t.record(ctx, &r, t.seen.version, facts, verdict); err != nil {
		return next, err
	}
	if verdict.State == approval.Overridden && before != store.RequestOverridden {
		if err := t.tellOverride(ctx, r, verdict, decisions); err != nil {
			return next, err
		}
	}
	if err := t.askToOverride(ctx, r, verdict, decisions); err != nil {
		return next, err
	}
	state := map[approval.State]bitbucket.StatusState{
		approval.Pending: bitbucket.StatusInProgress, approval.Approved: bitbucket.StatusSuccessful,
		approval.Rejected: bitbucket.StatusFailed, approval.Expired: bitbucket.StatusFailed,
		approval.Overridden: bitbucket.StatusSuccessful, // its sentence begins with "overridden by"
	}[verdict.State]
	if state == "" {
		return next, fmt.Errorf("a verdict of an unknown state %q", verdict.State)
	}
	if err := t.owe(ctx, r, state, verdict.Sentence); err != nil {
		return next, err
	}
	if verdict.State == approval.Approved && t.seen.rule.AutoMerge != nil {
		if err := t.planMerge(ctx, r); err != nil {
			return next, err
		}
	}
	if verdict.State == approval.Pending {
		next = r.ExpiresAt
	}
	return next, nil
}

// record writes a verdict if it, or the decisions that it rests on, differ from the last ones: what
// was taken back before anybody looked changes no verdict, but the bundle must hold it.
func (t *settlement) record(ctx context.Context, r *store.ApprovalRequest, version store.PolicyVersion, facts approval.Facts, verdict approval.Verdict) (err error) {
	last, err := verdictOf(*r)
	if err != nil {
		return err
	}
	before, err := factsOf(*r)
	if err != nil {
		return err
	}
	if reflect.DeepEqual(last, verdict) && slices.Equal(before.Decisions, facts.Decisions) {
		return nil
	}
	r.State, r.Sentence, r.PolicyVersionID = string(verdict.State), verdict.Sentence, version.ID
	if r.Facts, err = json.Marshal(facts); err != nil {
		return err
	}
	if r.Verdict, err = json.Marshal(verdict); err != nil {
		return err
	}
	r.OutcomeSalt = random(evidence.SaltSize)
	if err := t.tx.SaveVerdict(ctx, *r); err != nil {
		return err
	}
	outcome, err := evidence.OutcomeDigest(r.OutcomeSalt, approval.Digest(version.Digest), facts, verdict)
	if err != nil {
		return err
	}
	t.changed = true
	_, err = t.chain.add(evidence.VerdictReached{Request: r.ID, State: r.State, Outcome: outcome})
	return err
}

// verdictOf reads the verdict that a request bears: the zero one before the first tally.
func verdictOf(r store.ApprovalRequest) (v approval.Verdict, err error) {
	if err := json.Unmarshal(r.Verdict, &v); err != nil {
		return v, lost("stored verdict of request "+r.ID, err)
	}
	return v, nil
}

// factsOf reads the facts that a request's verdict was tallied from.
func factsOf(r store.ApprovalRequest) (f approval.Facts, err error) {
	if err := json.Unmarshal(r.Facts, &f); err != nil {
		return f, lost("stored facts of request "+r.ID, err)
	}
	return f, nil
}

// owe sets what Bitbucket should show on a request's commit.
func (t *settlement) owe(ctx context.Context, r store.ApprovalRequest, state bitbucket.StatusState, sentence string) error {
	waitsFor, err := cosignatures(r, state)
	if err != nil {
		return err
	}
	known, read := t.statuses[r.HeadCommit]
	if !read && !t.new {
		status, err := t.tx.Status(ctx, t.pr.ID, r.HeadCommit)
		if optional(err) != nil {
			return err
		}
		if err == nil {
			known = &status
		}
	}
	status := store.CommitStatus{
		PullRequestID: t.pr.ID, Commit: r.HeadCommit, RepositoryID: t.pr.RepositoryID, RequestID: r.ID, Key: t.pr.StatusKey,
		RefName: t.pr.SourceBranch, State: string(state), Description: sentence, URL: t.panelURL(t.tx.Workspace, *t.pr),
		Cosignatures: waitsFor,
	}
	if !t.tx.OweStatus(known, status) {
		return nil
	}
	if t.statuses == nil {
		t.statuses = map[string]*store.CommitStatus{}
	}
	t.statuses[r.HeadCommit] = &status
	t.changed = true
	// What was owed before waits no more; where this does too, the alarm comes back.
	if known != nil && known.Cosignatures > 0 {
		if err := t.tx.CloseAlarm(ctx, store.AlarmUncosigned, waiting(t.pr.ID, r.HeadCommit)); err != nil {
			return err
		}
	}
	return t.tx.Enqueue(ctx, store.AskStatus(t.tx.Workspace, t.pr.ID, r.HeadCommit))
}

// cosignatures is how many witnesses a status of this state waits for, by the rule of its request.
func cosignatures(r store.ApprovalRequest, state bitbucket.StatusState) (int, error) {
	if state != bitbucket.StatusSuccessful {
		return 0, nil
	}
	rule, err := ruleOf(r)
	return rule.Cosignatures, err
}

// planMerge records the intent to merge. The merge itself is asked for once Bitbucket has
// confirmed the status, or now where nothing is owed any more.
func (t *settlement) planMerge(ctx context.Context, r store.ApprovalRequest) error {
	planned, err := t.tx.PlanMerge(ctx, store.MergeIntent{
		PullRequestID: t.pr.ID, HeadCommit: r.HeadCommit, RequestID: r.ID, Strategy: t.seen.rule.AutoMerge.Strategy,
	})
	if err != nil {
		return err
	}
	t.changed = t.changed || planned
	status, err := t.tx.Status(ctx, t.pr.ID, r.HeadCommit)
	if err != nil || !status.Paid() {
		return err
	}
	intent, err := t.tx.Merge(ctx, t.pr.ID, r.HeadCommit)
	if err != nil {
		return optional(err)
	}
	return askForMerge(ctx, t.tx, *t.pr, &intent, r.HeadCommit)
}

// facts is everything that a tally looks at.
func (t *settlement) facts(r store.ApprovalRequest, decisions []store.Decision) (facts approval.Facts, err error) {
	facts = approval.Facts{
		Author: t.pr.AuthorAccountID, Writers: t.seen.writers,
		Request: approval.RequestFacts{
			ID: r.ID, HeadCommit: r.HeadCommit, DestinationBranch: r.DestinationBranch,
			RuleDigest: approval.Digest(r.RuleDigest), ExpiresAt: r.ExpiresAt.UTC(),
		},
	}
	for _, approvers := range approversOf(*t.seen.rule) {
		for _, p := range t.seen.people {
			if slices.Contains(approvers.Accounts, p.AccountID) {
				facts.People = append(facts.People, p)
			}
		}
	}
	facts.Decisions = decisionsOf(*t.seen.rule, r, decisions)
	err = setTime(r, &facts, t.now)
	return facts, err
}

// setTime sets the time of facts, and whether that of their request was up. It is never before the time of the last verdict:
// a clock that goes back gives nobody's time back.
func setTime(r store.ApprovalRequest, facts *approval.Facts, now time.Time) error {
	before, err := factsOf(r)
	if err != nil {
		return err
	}
	if facts.Now = now; before.Now.After(now) {
		facts.Now = before.Now
	}
	facts.Request.Lapsed, err = lapsed(r, before, *facts)
	return err
}

// lapsed tells whether the time of a request was up, by the facts of a moment, before it was approved or overridden, as
// [approval.RequestFacts.Lapsed] says. The verifier tells it from the chain.
func lapsed(r store.ApprovalRequest, before, now approval.Facts) (bool, error) {
	last, err := verdictOf(r)
	if err != nil {
		return false, err
	}
	over := func(at time.Time) bool { return !at.Before(r.ExpiresAt) }
	switch {
	case !over(now.Now), last.State == "", last.State == approval.Approved, last.State == approval.Overridden:
		return false, nil
	case over(before.Now):
		return true, nil
	}
	rested := int64(0) // the last decision that the verdict rests on
	for _, d := range before.Decisions {
		rested = max(rested, d.Sequence)
	}
	return !slices.ContainsFunc(now.Decisions, func(d approval.Decision) bool { return d.Sequence > rested && !d.Late }), nil
}

// approversOf lists the sets of people that a rule asks, those who may override it last.
func approversOf(rule approval.Rule) (sets []approval.Approvers) {
	for _, requirement := range rule.Requirements {
		sets = append(sets, requirement.Approvers)
	}
	if rule.Override != nil {
		sets = append(sets, rule.Override.Approvers)
	}
	return sets
}

// decisionsOf is what a rule's tally of a request looks at of decisions.
func decisionsOf(rule approval.Rule, r store.ApprovalRequest, rows []store.Decision) (decisions []approval.Decision) {
	needs := rule.Needs()
	for _, d := range rows {
		if !needs.Identities {
			d.Identity = ""
		}
		if !needs.Models || !slices.Contains(rule.Keys.Models, d.Model) {
			d.Model = ""
		}
		decisions = append(decisions, approval.Decision{
			ID: d.ID, RequestID: d.RequestID, PersonID: d.PersonID, AccountID: d.AccountID, Name: d.Name, Identity: d.Identity, Model: d.Model, Compromised: d.Compromised,
			Action: approval.Action(d.Action), HeadCommit: d.HeadCommit, DestinationBranch: d.DestinationBranch,
			RuleDigest: approval.Digest(d.RuleDigest), Sequence: d.Sequence, Late: !d.DecidedAt.Before(r.ExpiresAt),
		})
	}
	return decisions
}
