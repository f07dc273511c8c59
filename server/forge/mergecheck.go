package forge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// mergeCheck is the label of the merge check.
	mergeCheck = "merge-check"
	// grace is for how much longer an answer is awaited whose time is up: it knows better why it is no.
	grace = 300 * time.Millisecond
)

// Sentences for who wants to merge, where the gate was not asked or did not answer.
const (
	sayAgain       = "The approvals could not be checked just now. Try again in a moment."
	sayLate        = "The approvals could not be checked in time. Try again in a moment."
	sayOver        = "SignedApproval is no longer installed in this workspace, so it cannot check the approvals."
	sayWrongModule = "This question does not come from the merge check, so it is not answered."
	sayOther       = "This question is about another workspace than the one that it comes from, so it is not answered."
	sayUnclear     = "The question about this merge could not be understood, so the answer is no. Tell an administrator if this happens again."
)

// said is the sentence for each refusal that a merge check with a good token can get.
var said = map[*refused]string{
	wrongModule: sayWrongModule, otherWorkspace: sayOther, wrongMediaType: sayUnclear, tooLarge: sayUnclear, incomplete: sayUnclear, notNow: sayAgain,
}

// answer is what Bitbucket wants to hear.
type answer struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
}

// MergeCheck answers whether a pull request may be merged. It is mounted at /forge/merge-check. Once
// the token is good the status is 200, and whatever is wrong is a "no" with a sentence: of an error
// Bitbucket would show nobody the reason.
func (d *Door) MergeCheck(w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, start: d.options.Now(), log: d.options.Log}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), d.options.Patience)
	defer cancel()
	if no := d.prove(ctx, c); no != nil {
		no.write(w)
		d.observe(c, otherEvent, no.outcome)
		return
	}
	a, no := d.check(ctx, c)
	outcome := OutcomeDenied
	switch {
	case no != nil:
		a, outcome = answer{Message: no.message}, no.outcome
		if sentence, ok := said[no]; ok {
			a.Message = sentence
		}
	case a.Success:
		outcome = OutcomeAllowed
	}
	write(w, http.StatusOK, a)
	d.observe(c, mergeCheck, outcome)
}

func (d *Door) check(ctx context.Context, c *call) (answer, *refused) {
	if no := d.admit(ctx, c, EndpointMergeCheck); no != nil {
		return answer{}, no
	}
	if c.installation.Over() {
		return answer{Message: sayOver}, nil
	}
	if no := d.read(c); no != nil {
		return answer{}, no
	}
	q, err := parseQuestion(c.raw)
	switch {
	case err != nil:
		c.log.WarnContext(ctx, "merge check denied: it cannot be parsed", "error", err)
		return answer{Message: sayUnclear}, nil
	case q.Workspace != c.inv.Workspace:
		c.log.WarnContext(ctx, "merge check denied: it is about another workspace than its token", "named", q.Workspace)
		return answer{}, otherWorkspace
	}
	if c.inv.ModuleKey == onMerge {
		q.Trigger = store.CheckOnMerge
	}
	q.AccountID = c.inv.Principal
	return d.ask(ctx, c, q), nil
}

// ask asks the gate and does not wait for it longer than Bitbucket waits.
func (d *Door) ask(ctx context.Context, c *call, q gate.MergeQuestion) answer {
	answered := make(chan gate.MergeAnswer, 1)
	go func() {
		defer func() {
			if fault := recover(); fault != nil {
				c.log.ErrorContext(ctx, "merge check broke down", "fault", fault, "stack", string(debug.Stack()))
				answered <- gate.MergeAnswer{Message: sayAgain}
			}
		}()
		answered <- d.options.MergeCheck(ctx, q)
	}()
	deadline, _ := ctx.Deadline()
	late := time.NewTimer(time.Until(deadline) + grace)
	defer late.Stop()
	select {
	case a := <-answered:
		return answer{a.Success, a.Message}
	case <-late.C:
		c.log.ErrorContext(ctx, "merge check denied: the gate did not answer in time", "repository", q.Repository, "number", q.Number)
		return answer{Message: sayLate}
	}
}

// parseQuestion reads the body of a merge check. Bitbucket's own samples name the trigger wrongly:
// somebody is merging wherever the body says how.
func parseQuestion(raw []byte) (gate.MergeQuestion, error) {
	var b struct {
		Workspace   named `json:"workspace"`
		Repository  named `json:"repository"`
		PullRequest struct {
			ID int64 `json:"id"`
		} `json:"pullrequest"`
		Trigger struct {
			Type string `json:"type"`
		} `json:"trigger"`
		MergeProperties map[string]json.RawMessage `json:"mergeProperties"`
	}
	if err := json.Unmarshal(unwrap(raw), &b); err != nil {
		return gate.MergeQuestion{}, errors.New("forge: the body is not the JSON of a merge check")
	}
	workspace, inWorkspace := bitbucket.BareUUID(b.Workspace.UUID)
	repository, inRepository := bitbucket.BareUUID(b.Repository.UUID)
	if !inWorkspace || !inRepository || b.PullRequest.ID <= 0 {
		return gate.MergeQuestion{}, errors.New("forge: the body does not name a pull request")
	}
	q := gate.MergeQuestion{Workspace: workspace, Repository: repository, Number: b.PullRequest.ID, Trigger: store.CheckPreMerge}
	if b.MergeProperties != nil || b.Trigger.Type == "on-merge" {
		q.Trigger = store.CheckOnMerge
	}
	return q, nil
}
