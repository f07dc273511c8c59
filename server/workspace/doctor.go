package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// heldAfter is how long a refused merge must have stayed unmerged to count as stopped.
	heldAfter = time.Minute
	// heldWithin is for how long after a "no" the doctor goes on looking whether it held.
	heldWithin = 2 * time.Hour
	// heldLooks bounds how many pull requests one examination reads for that.
	heldLooks = 3
	// doctorRetry is how long the doctor waits when Bitbucket cannot be asked.
	doctorRetry = 5 * time.Minute
	// doctorReads bounds how many checks one examination goes back.
	doctorReads = 200
)

// Doctor is the job that examines a repository. What it does not find out now it tries again; the
// walk of the reconciler asks for it too.
func (w *Workspaces) Doctor(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	var next time.Time
	_, err := w.Examine(ctx, at.Workspace, at.Repository)
	remote, isRemote := errors.AsType[*bitbucket.Error](err)
	switch {
	case refusal.Code(err) == refusal.NotFound: // neither connected nor installed: nobody is gated
	case isRemote && remote.Throttled():
		return jobs.Later(err, remote.RetryAt)
	case err != nil:
		return jobs.Later(err, time.Now().Add(doctorRetry))
	}
	return w.store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		// A refused merge that is too young to tell is looked at again, whoever asked for this examination.
		checks, err := tx.OnMergeChecks(ctx, at.Repository, 1)
		if err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if len(checks) > 0 && !checks[0].Success && now.Sub(checks[0].AskedAt) < heldAfter {
			next = checks[0].AskedAt.Add(heldAfter)
		}
		return tx.FinishJob(ctx, job.Claim, next)
	})
}

// Examine finds out how far Bitbucket enforces the gate in a repository, for each pattern of its rules,
// and keeps it. A change is written into the log; one for the worse alarms the administrators. Of a
// repository that is not gated nothing is kept. An error says that Bitbucket could not be asked just
// now, and that what was known stays.
func (w *Workspaces) Examine(ctx context.Context, workspace, repositoryID string) ([]store.Enforcement, error) {
	var suspects []store.MergeCheck
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if _, err := tx.RepositoryConfig(ctx, repositoryID); err != nil {
			return err
		}
		var err error
		suspects, err = unprovenRefusals(ctx, tx, repositoryID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, w.forgetEnforcement(ctx, workspace, repositoryID)
	}
	if err != nil {
		return nil, err
	}
	client, err := w.Client(ctx, workspace, bitbucket.Background)
	if err != nil {
		return nil, err
	}
	restrictions, readable, err := readRestrictions(ctx, client, workspace, repositoryID)
	if err != nil {
		return nil, err
	}
	var held []store.MergeCheck
	for _, one := range suspects {
		still, err := stillOpen(ctx, client, workspace, one)
		if err != nil {
			return nil, err
		}
		if still {
			held = append(held, one)
		}
	}
	var found []store.Enforcement
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		x := &examination{tx: tx, repository: repositoryID, restrictions: restrictions, readable: readable, held: held}
		found, err = x.run(ctx)
		return err
	})
	if errors.Is(err, store.ErrNotFound) { // ungated meanwhile
		return nil, w.forgetEnforcement(ctx, workspace, repositoryID)
	}
	return found, err
}

// readRestrictions reads the branch restrictions; readable is false where Bitbucket will not show them.
func readRestrictions(ctx context.Context, client *bitbucket.Client, workspace, repositoryID string) (list []bitbucket.BranchRestriction, readable bool, err error) {
	for one, err := range client.BranchRestrictions(ctx, workspace, repositoryID) {
		if remote, ok := errors.AsType[*bitbucket.Error](err); ok && (remote.Forbidden() || remote.NotFound()) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		list = append(list, one)
	}
	return list, true, nil
}

// unprovenRefusals lists the last merges that the check refused and of which it is not known yet
// whether they were stopped, newest first, one for each pull request and branch.
func unprovenRefusals(ctx context.Context, tx *store.Tx, repositoryID string) (list []store.MergeCheck, err error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	known, err := tx.Enforcements(ctx, repositoryID)
	if err != nil {
		return nil, err
	}
	checks, err := tx.OnMergeChecks(ctx, repositoryID, doctorReads)
	if err != nil {
		return nil, err
	}
	type place struct {
		number int64
		branch string
	}
	seen := map[place]bool{}
	for _, c := range checks {
		at := place{c.Number, c.DestinationBranch}
		age := now.Sub(c.AskedAt)
		if c.HeadCommit == "" || age < heldAfter || age > heldWithin || seen[at] || proven(known, c) {
			continue
		}
		seen[at] = true
		if !c.Success && len(list) < heldLooks {
			list = append(list, c)
		}
	}
	return list, nil
}

// proven tells whether a refusal as new as this one is known to have held for the branch.
func proven(known []store.Enforcement, c store.MergeCheck) bool {
	for _, e := range known {
		if doublestar.MatchUnvalidated(e.Pattern, c.DestinationBranch) && (e.HeldAt == nil || e.HeldAt.Before(c.AskedAt)) {
			return false
		}
	}
	return len(known) > 0
}

// stillOpen tells whether a refused merge was stopped: the pull request is open at that very head.
func stillOpen(ctx context.Context, client *bitbucket.Client, workspace string, c store.MergeCheck) (bool, error) {
	remote, err := client.PullRequest(ctx, workspace, c.RepositoryID, c.Number)
	if gone, ok := errors.AsType[*bitbucket.Error](err); ok && (gone.NotFound() || gone.Forbidden()) {
		return false, nil
	}
	if err != nil || remote.State != bitbucket.Open || remote.Destination.Branch != c.DestinationBranch {
		return false, err
	}
	head, err := client.PullRequestHead(ctx, workspace, c.RepositoryID, c.Number)
	return head == c.HeadCommit, err
}

// forgetEnforcement is for a repository that is not gated.
func (w *Workspaces) forgetEnforcement(ctx context.Context, workspace, repositoryID string) error {
	return w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if _, err := tx.RepositoryConfig(ctx, repositoryID); !errors.Is(err, store.ErrNotFound) {
			return err // gated meanwhile: whoever did that has asked for the doctor
		}
		return forgetPatterns(ctx, tx, repositoryID, nil)
	})
}

func forgetPatterns(ctx context.Context, tx *store.Tx, repositoryID string, keep []string) error {
	gone, err := tx.KeepEnforcements(ctx, repositoryID, keep)
	if err != nil {
		return err
	}
	for _, pattern := range gone {
		if err := tx.CloseAlarm(ctx, store.AlarmNotEnforced, enforcementSubject(repositoryID, pattern)); err != nil {
			return err
		}
	}
	return nil
}

func enforcementSubject(repositoryID, pattern string) string { return repositoryID + ":" + pattern }

// examination is the transaction of Examine.
type examination struct {
	tx           *store.Tx
	repository   string
	restrictions []bitbucket.BranchRestriction
	readable     bool
	held         []store.MergeCheck

	workspace store.Workspace
	config    store.RepositoryConfig
	policy    approval.Policy
	checks    []store.MergeCheck
	merges    []store.MergeSeen
}

func (x *examination) run(ctx context.Context) (found []store.Enforcement, err error) {
	// The lock makes two examinations follow each other, so that each change is told once.
	if x.config, err = x.tx.LockRepositoryConfig(ctx, x.repository); err != nil {
		return nil, err
	}
	version, err := x.tx.PolicyVersion(ctx, x.config.PolicyVersionID)
	if err != nil {
		return nil, err
	}
	if x.policy, err = approval.ParsePolicy(version.Document); err != nil {
		return nil, fmt.Errorf("stored policy %s: %w", version.ID, err)
	}
	if x.workspace, err = x.tx.ReadWorkspace(ctx); err != nil {
		return nil, err
	}
	if x.checks, err = x.tx.OnMergeChecks(ctx, x.repository, doctorReads); err != nil {
		return nil, err
	}
	if x.merges, err = x.tx.LastMergesSeen(ctx, x.repository); err != nil {
		return nil, err
	}
	known, err := x.tx.Enforcements(ctx, x.repository)
	if err != nil {
		return nil, err
	}
	before := make(map[string]store.Enforcement, len(known))
	for _, e := range known {
		before[e.Pattern] = e
	}
	patterns := patternsOf(x.policy)
	for _, pattern := range patterns {
		if err := x.examine(ctx, pattern, before[pattern]); err != nil {
			return nil, err
		}
	}
	if err := forgetPatterns(ctx, x.tx, x.repository, patterns); err != nil {
		return nil, err
	}
	return x.tx.Enforcements(ctx, x.repository)
}

// patternsOf lists the patterns of a policy's rules, each once, in the order of the rules; exclusions
// are none, since what they let out is covered by no rule or by a later one.
func patternsOf(policy approval.Policy) (patterns []string) {
	seen := map[string]bool{}
	for _, rule := range policy.Rules {
		for _, pattern := range rule.Branches {
			if pattern != "" && pattern[0] != '!' && !seen[pattern] {
				seen[pattern] = true
				patterns = append(patterns, pattern)
			}
		}
	}
	return patterns
}

// examine derives the state of one pattern, keeps it, and tells of a change.
func (x *examination) examine(ctx context.Context, pattern string, before store.Enforcement) error {
	o := x.observe(pattern, before.HeldAt)
	state, reasons := enforcement(pattern, x.restrictions, x.readable, o)
	document, err := json.Marshal(reasons)
	if err != nil {
		return err
	}
	err = x.tx.PutEnforcement(ctx, store.Enforcement{
		RepositoryID: x.repository, Pattern: pattern, State: string(state), Reasons: document, HeldAt: o.held,
	})
	if err != nil || before.State == string(state) {
		return err
	}
	repository := bitbucket.BracedUUID(x.repository)
	if err := appendLeaf(ctx, x.tx, x.workspace, evidence.EnforcementSeen{
		Repository: evidence.RepositoryID(x.workspace.GenesisSalt, repository),
		Branches:   evidence.BranchID(x.workspace.GenesisSalt, repository, pattern), State: string(state),
	}); err != nil {
		return err
	}
	was := EnforcementState(before.State)
	switch {
	case before.State == "": // the first look; screens show what it found
		return nil
	case state.worse(was):
		return x.alarm(ctx, pattern, was, state, reasons[0])
	}
	return x.tx.CloseAlarm(ctx, store.AlarmNotEnforced, enforcementSubject(x.repository, pattern))
}

// observe picks what is on record of the branches of a pattern.
func (x *examination) observe(pattern string, held *time.Time) observed {
	o := observed{held: held}
	later := func(at *time.Time, t time.Time) *time.Time {
		if at == nil || t.After(*at) {
			return &t
		}
		return at
	}
	for _, c := range x.held {
		if x.gates(pattern, c.DestinationBranch) {
			o.held = later(o.held, c.AskedAt)
		}
	}
	for _, c := range x.checks {
		if x.gates(pattern, c.DestinationBranch) {
			o.asked = later(o.asked, c.AskedAt)
		}
	}
	for _, m := range x.merges {
		switch {
		case !x.gates(pattern, m.DestinationBranch):
		case !m.Asked && m.ByGate: // whether Bitbucket asks of merges through its API is not known
		case !m.Asked:
			o.unasked = later(o.unasked, m.SeenAt)
		case !m.Checked:
			o.overridden = later(o.overridden, m.SeenAt)
		}
	}
	return o
}

// gates tells whether a branch is gated because of a pattern.
func (x *examination) gates(pattern, branch string) bool {
	if branch == "" || !doublestar.MatchUnvalidated(pattern, branch) {
		return false
	}
	_, _, gated := x.policy.Match(branch)
	return gated
}

var stateWords = map[EnforcementState]string{
	EnforcementOpen: "open", EnforcementWarnsOnly: "only warned of", EnforcementUnknown: "not known to be enforced", EnforcementEnforced: "enforced",
}

func (x *examination) alarm(ctx context.Context, pattern string, was, state EnforcementState, worst Reason) error {
	sentence := fmt.Sprintf("The gate for %s in %s was %s and is now %s. %s", pattern, x.config.FullName, stateWords[was], stateWords[state], worst.Sentence)
	if _, err := x.tx.RaiseAlarm(ctx, store.Alarm{
		Kind: store.AlarmNotEnforced, RepositoryID: &x.repository, Subject: enforcementSubject(x.repository, pattern), Sentence: sentence,
	}); err != nil {
		return err
	}
	now, err := x.tx.Now(ctx)
	if err != nil {
		return err
	}
	return x.tx.NotifyAdministrators(ctx, store.Notice{
		Kind: store.AlarmNotEnforced, DedupeKey: fmt.Sprintf("not-enforced:%s:%s:%d", x.workspace.ID, enforcementSubject(x.repository, pattern), now.UnixNano()),
		Title: "The gate of " + x.config.FullName + " is weaker than before", Sentence: sentence, Path: RepositoryPath(x.workspace.Slug, x.config.Slug),
	})
}

// RepositoryPath is the path of a repository's page on our origin.
func RepositoryPath(workspaceSlug, repositorySlug string) string {
	return "/workspaces/" + workspaceSlug + "/repositories/" + repositorySlug
}

// ReasonsOf reads the reasons of an enforcement.
func ReasonsOf(e store.Enforcement) (reasons []Reason, err error) {
	if err := json.Unmarshal(e.Reasons, &reasons); err != nil {
		return nil, fmt.Errorf("stored reasons of %s: %w", e.Pattern, err)
	}
	return reasons, nil
}
