package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/refusal"
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
	policy, err := approval.ParsePolicy(asked.Policy.Document)
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

// obstacle is why an approved head must not be merged; no reason means that it may.
type obstacle struct {
	reason string
	forNow bool // it may go away by itself
}

func final(reason string) obstacle { return obstacle{reason: reason} }

func forNow(format string, args ...any) obstacle {
	return obstacle{reason: fmt.Sprintf(format, args...), forNow: true}
}

// mayMerge answers what stands in the way of merging the approved head now: head and destination must
// be exactly those approved, and no check of Bitbucket's own would be overridden.
func (g *Gate) mayMerge(ctx context.Context, at store.Place, a attempt, remote bitbucket.PullRequest) (obstacle, error) {
	switch {
	case remote.State != bitbucket.Open:
		return final("not merged: the pull request was closed"), nil
	case remote.Draft:
		return final("not merged: the pull request is a draft"), nil
	case remote.Destination.Branch != a.live.DestinationBranch:
		return final("not merged: the destination branch changed"), nil
	}
	head, err := a.client.PullRequestHead(ctx, at.Workspace, a.pr.RepositoryID, a.pr.Number)
	if err != nil {
		return obstacle{}, err
	}
	if head != at.Commit || head != a.live.HeadCommit {
		return final("not merged: there is a newer commit than the one that was approved"), nil
	}
	return g.checksInTheWay(ctx, at, a, remote)
}

// checksInTheWay looks for checks of Bitbucket's own that are not met. Without Premium Bitbucket
// would only warn, and a merge by us would override them.
func (g *Gate) checksInTheWay(ctx context.Context, at store.Place, a attempt, remote bitbucket.PullRequest) (obstacle, error) {
	for restriction, err := range a.client.BranchRestrictions(ctx, at.Workspace, a.pr.RepositoryID) {
		if err != nil {
			return obstacle{}, err
		}
		if !restriction.AppliesTo(remote.Destination.Branch) {
			continue
		}
		wanted := 0
		if restriction.Value != nil {
			wanted = *restriction.Value
		}
		switch restriction.Kind {
		case bitbucket.RequirePassingBuilds:
			passed, stopped, err := builds(ctx, a.client, at, a.pr)
			if err != nil {
				return obstacle{}, err
			}
			if stopped || passed < wanted {
				return forNow("not merged yet: Bitbucket asks for %d passing builds and none failed or running", wanted), nil
			}
		case bitbucket.RequireApprovals:
			if approvals(remote) < wanted {
				return forNow("not merged yet: Bitbucket asks for %d of its own approvals", wanted), nil
			}
		case bitbucket.RequireNoChangesRequested:
			if changesRequested(remote) {
				return forNow("not merged yet: a reviewer requested changes on Bitbucket"), nil
			}
		case bitbucket.RequireTasksCompleted, bitbucket.RequireCommentsResolved, bitbucket.RequireCommitsBehind,
			bitbucket.RequireReviewGroupApprovals, bitbucket.RequireDefaultReviewerApprovals, bitbucket.RequireDependenciesMerged:
			return final(cannotTell(restriction.Kind)), nil
		default:
			// A check that Bitbucket got after this was written; the others say nothing about a merge.
			if strings.HasPrefix(string(restriction.Kind), "require_") {
				return final(cannotTell(restriction.Kind)), nil
			}
		}
	}
	return obstacle{}, nil
}

func cannotTell(kind bitbucket.RestrictionKind) string {
	return fmt.Sprintf("not merged: whether Bitbucket's check %q is met cannot be told from here; merge by hand", kind)
}

// builds counts the passing builds of a head, and tells whether one failed or is running.
func builds(ctx context.Context, client *bitbucket.Client, at store.Place, pr store.PullRequest) (passed int, stopped bool, err error) {
	for status, err := range client.Statuses(ctx, at.Workspace, pr.RepositoryID, at.Commit) {
		if err != nil {
			return 0, false, err
		}
		if status.RefName != "" && status.RefName != pr.SourceBranch {
			continue
		}
		switch status.State {
		case bitbucket.StatusSuccessful:
			passed++
		case bitbucket.StatusFailed, bitbucket.StatusInProgress:
			stopped = true
		case bitbucket.StatusStopped: // neither passes nor stands in the way
		}
	}
	return passed, stopped, nil
}

func approvals(remote bitbucket.PullRequest) (n int) {
	for _, p := range remote.Participants {
		if p.Approved {
			n++
		}
	}
	return n
}

func changesRequested(remote bitbucket.PullRequest) bool {
	return slices.ContainsFunc(remote.Participants, func(p bitbucket.Participant) bool { return p.State == "changes_requested" })
}

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
