package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// The protocol of a merge.
//
// There is one intent per pull request and head. It is moved to CALLING, and that is committed,
// before Bitbucket is asked; so whoever finds CALLING knows that a call may have been made and
// reads the pull request before anything else. It stays CALLING for as long as a call may be on its way, so that whoever sees
// the pull request merged knows that the gate may have done that, and nobody calls once more meanwhile. Bitbucket's merge
// takes no expected head: the pull request is read again right before the call, and what landed is verified right after.
//
// What Bitbucket answers a call, but that it merged, or is at it, ends the call: it is planned again, or refused. Where no answer came,
// what was lost may have been the answer that Bitbucket is at it, as a task of which nobody knows: it has the time of a task,
// taskPatience. Meanwhile the pull request is read again and again, and nobody calls; then it is called for once more, since most
// calls without an answer never arrived. A task that is known ends by what Bitbucket says of it, or of the pull request, and by
// nothing else: one of which it says nothing, whatever it answers, has taskPatience, is waited out for doubtPause, and refused, never
// called again. The job of an intent that is CALLING waits for as long as Bitbucket cannot be read.
//
// That a request is APPROVED is what the last evaluation said. A decision, or a change of the rules,
// that no evaluation has seen yet counts here all the same: the transaction that moves the intent to
// CALLING tallies once more. An intent whose approval does not stand stays PLANNED; the evaluation
// that finds it standing again rings.

const (
	// mergePoll is the pace of asking after a merge that Bitbucket is still at, at first: it is asked the less often the longer
	// that takes, down to mergePollLast.
	mergePoll     = time.Second
	mergePollLast = 30 * time.Second
	// taskPatience is how long Bitbucket may be at a merge, whether or not it said so.
	taskPatience = 10 * time.Minute
	// unreadPause is when a merge that may have been called for is looked at again that could not be read.
	unreadPause = time.Minute
)

// attempt is everything that one turn of a merge knows.
type attempt struct {
	pr     store.PullRequest
	intent store.MergeIntent
	live   *store.ApprovalRequest // nil where the approval does not stand
	// destination is the branch that the intent's request is about.
	destination string
	// doubt is how long an earlier call may still land, and called for how long Bitbucket has had it; of one that is CALLING.
	doubt, called time.Duration
	end           chainEnd
	// cosignatures is how many witnesses have cosigned what was published of end.
	cosignatures int
	client       *bitbucket.Client
	// writers are those with write permission now; nil until they were read.
	writers []approval.Person
}

// Merge is the job that merges an approved head, or finds out what became of an earlier attempt.
func (g *Gate) Merge(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	a, err := g.readMerge(ctx, at)
	if err != nil {
		return err
	}
	if a.intent.State == store.MergeMerged || a.intent.State == store.MergeRefused {
		return g.done(ctx, job)
	}
	if a.client, err = g.Client(ctx, at.Workspace, bitbucket.Urgent); err != nil {
		return g.unread(a, err)
	}
	if a.intent.TaskID != "" {
		return g.pollMerge(ctx, job, at, a)
	}
	if a.live == nil || a.intent.State == store.MergeCalling { // an earlier call may have merged it
		remote, err := a.read(ctx, at)
		if err != nil {
			return g.vanished(ctx, job, at, a, err)
		}
		if remote.State == bitbucket.Merged {
			return g.landed(ctx, job, at, a, remote)
		}
	}
	switch {
	case a.doubt > 0:
		return g.lookLater(ctx, job, a)
	case a.intent.State == store.MergeCalling && a.intent.Sentence != "": // said already what it ends with
		return g.endMerge(ctx, job, at, a, store.MergeRefused, a.intent.Sentence, "")
	case a.live == nil:
		return g.letGo(ctx, job, at, a)
	}
	if err := g.prepareMerge(ctx, at, &a); err != nil {
		return err
	}
	remote, err := a.read(ctx, at)
	if err != nil {
		return g.vanished(ctx, job, at, a, err)
	}
	if remote.State == bitbucket.Merged {
		return g.landed(ctx, job, at, a, remote)
	}
	switch obstacle, err := g.mayMerge(ctx, at, a, remote); {
	case err != nil:
		return g.unread(a, err)
	case obstacle.reason != "" && obstacle.forNow:
		return g.postponeMerge(ctx, job, at, a, obstacle.reason)
	case obstacle.reason != "":
		return g.endMerge(ctx, job, at, a, store.MergeRefused, obstacle.reason, "")
	}
	return g.callMerge(ctx, job, at, a, remote)
}

// read reads the pull request of a merge.
func (a attempt) read(ctx context.Context, at store.Place) (bitbucket.PullRequest, error) {
	return a.client.PullRequest(ctx, at.Workspace, a.pr.RepositoryID, a.pr.Number)
}

// unread is the fate of a turn that could not read Bitbucket. One that may have been called for is never given up: nobody
// else finds out what became of it. Nor is one of which Bitbucket shows nothing, as where it hides the repository for a while.
func (g *Gate) unread(a attempt, err error) error {
	var later interface{ RetryAt() (time.Time, bool) }
	err = g.fate(err)
	if a.intent.State != store.MergeCalling && !notFound(err) || errors.As(err, &later) || errors.Is(err, errUnnamed) {
		return err
	}
	return jobs.Later(err, time.Now().Add(unreadPause))
}

// vanished is unread of the pull request itself, which ends where Bitbucket surely does not have it any more.
func (g *Gate) vanished(ctx context.Context, job store.Job, at store.Place, a attempt, err error) error {
	if !notFound(err) {
		return g.unread(a, err)
	}
	if err := g.surelyGone(ctx, a.client, store.Place{Workspace: at.Workspace, Repository: a.pr.RepositoryID}); err != nil {
		return g.unread(a, err)
	}
	if a.doubt > 0 {
		return g.lookLater(ctx, job, a)
	}
	return g.endMerge(ctx, job, at, a, store.MergeRefused, "not merged: Bitbucket no longer has the pull request", "")
}

// prepareMerge does what can take its time, before the last look at the pull request: a push meanwhile would be merged.
func (g *Gate) prepareMerge(ctx context.Context, at store.Place, a *attempt) error {
	// Somebody else's build can ring before our own status was paid.
	rule, err := ruleOf(*a.live)
	if err != nil {
		return err
	}
	a.cosignatures = rule.Cosignatures
	if err := g.publish(ctx, a.end, a.cosignatures); err != nil {
		return err
	}
	people, err := g.People(ctx, at.Workspace, a.pr.RepositoryID)
	if err != nil {
		return g.unread(*a, err)
	}
	a.writers = writersOf(people)
	return nil
}

func (g *Gate) readMerge(ctx context.Context, at store.Place) (a attempt, err error) {
	err = g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		if a.pr, err = tx.PullRequest(ctx, at.PullRequest); err != nil {
			return err
		}
		if a.intent, err = tx.Merge(ctx, at.PullRequest, at.Commit); err != nil {
			return err
		}
		asked, err := tx.Request(ctx, a.intent.RequestID)
		if err != nil {
			return err
		}
		a.destination = asked.DestinationBranch
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if a.intent.State == store.MergeCalling {
			a.called = now.Sub(a.intent.UpdatedAt)
			a.doubt = landsWithin(a.intent) - a.called
		}
		if a.live, err = g.standingApproval(ctx, tx, a.pr, a.intent, nil); err != nil {
			return err
		}
		a.end, err = readChainEnd(ctx, tx, at.PullRequest)
		return err
	})
	return a, err
}

// standingApproval gives the request of an intent if it is approved by the rules and the decisions as they are now, else
// nil. Who may write is as of the last evaluation where writers is nil.
func (g *Gate) standingApproval(ctx context.Context, tx *store.Tx, pr store.PullRequest, intent store.MergeIntent, writers []approval.Person) (*store.ApprovalRequest, error) {
	if pr.State != "OPEN" {
		return nil, nil
	}
	asked, err := tx.Asked(ctx, pr.RepositoryID, intent.RequestID)
	if err != nil || asked.Request.State != store.RequestApproved {
		return nil, optional(err)
	}
	if holds, err := g.holds(ctx, tx, pr, asked, writers); err != nil || !holds {
		return nil, err
	}
	return &asked.Request, nil
}

// holds tells whether what a request bears, that its head is approved or that it is overridden, still follows from the
// rules and the decisions as they are now, and was found over exactly these: what a verdict on record does not rest on may
// not be public yet, nor durable. What a pull request bears that was merged was found for good when that was seen.
func (g *Gate) holds(ctx context.Context, tx *store.Tx, pr store.PullRequest, asked store.Asked, writers []approval.Person) (bool, error) {
	r := asked.Request
	if r.State != store.RequestApproved && r.State != store.RequestOverridden {
		return false, nil
	}
	if pr.State == "MERGED" {
		return true, nil
	}
	if asked.Repository == nil || asked.Policy == nil {
		return false, nil
	}
	rule, err := ruleOf(r)
	if err != nil {
		return false, err
	}
	policy, err := g.policies.parse(asked.Policy.Document)
	if err != nil {
		return false, fmt.Errorf("stored policy %s: %w", asked.Policy.ID, err)
	}
	inForce, _, ok := policy.Match(r.DestinationBranch)
	if !ok || inForce.Digest() != rule.Digest() {
		return false, nil
	}
	tallied, err := factsOf(r)
	if err != nil {
		return false, err
	}
	facts, _, err := g.factsNow(ctx, tx, r, rule, asked.Given, writers)
	return err == nil && slices.Equal(tallied.Decisions, facts.Decisions) && string(approval.Tally(rule, facts).State) == r.State, err
}

// policyOf reads the rules in force in a repository.
func policyOf(ctx context.Context, tx *store.Tx, config store.RepositoryConfig) (approval.Policy, error) {
	version, err := tx.PolicyInForce(ctx, config.RepositoryID)
	if err != nil {
		return approval.Policy{}, err
	}
	policy, err := approval.ParsePolicy(version.Document)
	if err != nil {
		return approval.Policy{}, fmt.Errorf("stored policy %s: %w", version.ID, err)
	}
	return policy, nil
}

// factsNow are the facts of a request's last evaluation with the decisions, given, and the time as they are now, and who may
// write unless writers is nil; behind is as of judge.
func (g *Gate) factsNow(ctx context.Context, tx *store.Tx, r store.ApprovalRequest, rule approval.Rule, given store.Given, writers []approval.Person) (facts approval.Facts, behind []string, err error) {
	if facts, err = factsOf(r); err != nil {
		return facts, nil, err
	}
	decisions, behind, err := judgeGiven(ctx, tx, given)
	if err != nil {
		return facts, nil, err
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return facts, nil, err
	}
	if err := g.judgesModels(ctx, tx, rule); err != nil {
		return facts, nil, err
	}
	if err := g.proveModels(ctx, tx, rule, decisions); err != nil {
		return facts, nil, err
	}
	facts.Decisions = decisionsOf(rule, r, decisions)
	if err := setTime(r, &facts, now); err != nil {
		return facts, nil, err
	}
	if writers != nil && rule.Needs().Writers {
		facts.Writers = writers
	}
	return facts, behind, nil
}

// mergeWait is when a merge that waits for Bitbucket's own checks is tried again though no event came:
// builds, approvals and the like ring it before.
const mergeWait = 10 * time.Minute

// postponeMerge keeps an intent planned, says why, and comes back.
func (g *Gate) postponeMerge(ctx context.Context, job store.Job, at store.Place, a attempt, reason string) error {
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		a.intent.State, a.intent.Sentence = store.MergePlanned, reason
		if err := tx.MoveMerge(ctx, a.intent, store.MergePlanned, store.MergeCalling); err != nil {
			return err
		}
		tx.Touch("pr:" + a.pr.ID)
		return tx.FinishJob(ctx, job.Claim, now.Add(mergeWait))
	})
}

// Builds is the job that follows the build of somebody else: it rings the merges that may be waiting
// for it.
func (g *Gate) Builds(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		waiting, err := tx.PlannedMerges(ctx, at.Repository, at.Commit)
		if err != nil {
			return err
		}
		for _, id := range waiting {
			if err := tx.Enqueue(ctx, store.AskMerge(at.Workspace, id, at.Commit)); err != nil {
				return err
			}
		}
		return tx.FinishJob(ctx, job.Claim, time.Time{})
	})
}

// letGo ends a turn whose approval does not stand, and has the pull request evaluated.
func (g *Gate) letGo(ctx context.Context, job store.Job, at store.Place, a attempt) error {
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		a.intent.State = store.MergePlanned
		if err := tx.MoveMerge(ctx, a.intent, store.MergePlanned, store.MergeCalling); err != nil {
			return err
		}
		if err := tx.Enqueue(ctx, store.AskEvaluate(at.Workspace, a.pr.RepositoryID, a.pr.Number)); err != nil {
			return err
		}
		return tx.FinishJob(ctx, job.Claim, time.Time{})
	})
}
