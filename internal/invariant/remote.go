package invariant

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/signedapproval/bitbucket/server/approval"
)

func (g Gate) readStatuses(ctx context.Context) (map[statusKey]status, error) {
	return readStatuses(ctx, g.DB)
}

// look reads what Bitbucket shows. While servers work only what may still change is read.
func (g Gate) look(ctx context.Context, rows map[statusKey]status, atRest bool) map[statusKey]Status {
	shown := map[statusKey]Status{}
	for key, row := range rows {
		if !atRest && !row.Recent {
			continue
		}
		if s, err := g.Shown(ctx, row.Workspace, row.Repository, row.Commit, row.Key); err == nil {
			shown[key] = s // an error is a fault that somebody put in place
		}
	}
	return shown
}

// remote reads the pull requests that Bitbucket has in the gated repositories. At rest nothing may be
// left out.
func (g Gate) remote(ctx context.Context, atRest bool) (map[repositoryKey][]PullRequest, error) {
	all := map[repositoryKey][]PullRequest{}
	if g.PullRequests == nil {
		return all, nil
	}
	repositories, err := collect[repositoryKey](ctx, g.DB, `select workspace_id::text, repository_id::text from signedapproval_bitbucket_repo_configs`)
	if err != nil {
		return nil, err
	}
	for _, r := range repositories {
		list, err := g.PullRequests(ctx, r.Workspace, r.Repository)
		if err != nil && atRest {
			return nil, fmt.Errorf("read Bitbucket's pull requests: %w", err)
		}
		if err == nil {
			all[r] = list
		}
	}
	return all, nil
}

// stateOf is what Bitbucket must show for a live request in a state.
var stateOf = map[string]string{
	"PENDING": "INPROGRESS", "APPROVED": "SUCCESSFUL", "OVERRIDDEN": "SUCCESSFUL", "REJECTED": "FAILED", "EXPIRED": "FAILED",
}

// statuses: nothing is green without its verdict under a published checkpoint; what the gate believes
// to be shown is shown; and at rest that is the last verdict.
func (c *check) statuses() {
	for key, shown := range c.shown {
		name := c.nameOf(key.PullRequest)
		if shown.State == "SUCCESSFUL" {
			covered, found := c.goodOn(key)
			switch {
			case !found:
				c.breaks("%s: %s is SUCCESSFUL without its approvals, and without an override", name, key.Commit[:12])
			case !covered:
				c.breaks("%s: %s is SUCCESSFUL although no published checkpoint covers its verdict with the cosignatures that its rule demands", name, key.Commit[:12])
			}
		}
		before, row := c.before[key], c.statusRows[key]
		same := before.Owed == row.Owed && before.Paid == row.Paid && before.State == row.State
		if same && row.Paid >= row.Owed && !before.Doubtful && !row.Doubtful && row.Problem == "" && !c.attended(key) &&
			(shown.State != row.State || shown.Description != row.Description) {
			c.breaks("%s: the gate takes %s %q on %s for paid, and Bitbucket shows %s %q", name, row.State, row.Description, key.Commit[:12], shown.State, shown.Description)
		}
	}
	for _, sentence := range c.strange {
		c.breaks("%s", sentence)
	}
	if c.atRest {
		c.lastVerdicts()
	}
}

// attended tells whether a job is about to look at a status.
func (c *check) attended(key statusKey) bool {
	pr := c.snapshot.pullRequests[key.PullRequest]
	for _, k := range []jobKey{
		{"status", key.PullRequest + ":" + key.Commit}, {"status-seen", pr.Workspace + "/" + pr.Repository + ":" + pr.StatusKey},
	} {
		if j, found := c.jobRows[k]; found && j.State == "READY" && (j.Held || !j.DueAt.After(c.now)) {
			return true
		}
	}
	return false
}

// goodOn tells whether a verdict lets a commit be merged, and whether a checkpoint covers one that as many witnesses
// cosigned as its rule demands.
func (c *check) goodOn(key statusKey) (covered, found bool) {
	for id, at := range c.good {
		r := c.snapshot.requests[id]
		if r.PullRequest != key.PullRequest || r.Head != key.Commit {
			continue
		}
		found = true
		covered = covered || slices.ContainsFunc(c.checkpoints, func(p checkpoint) bool {
			return at < p.Size && p.Cosignatures >= int64(r.rule().Cosignatures)
		})
	}
	return covered, found
}

func (c *check) lastVerdicts() {
	last := map[statusKey]*request{}
	for _, r := range c.snapshot.requests {
		key := statusKey{r.PullRequest, r.Head}
		if last[key] == nil || last[key].Round < r.Round {
			last[key] = r
		}
	}
	for key, r := range last {
		row, found := c.statusRows[key]
		if !found || row.Problem != "" || row.Paid < row.Owed {
			continue // what is owed is the jobs' to tell
		}
		// A request that ended has its say on the next commit; it must not leave anything green behind.
		if wanted := stateOf[r.State]; wanted != "" && row.State != wanted || wanted == "" && row.State == "SUCCESSFUL" {
			c.breaks("%s: the last verdict on %s is %s, and its status is %s", c.nameOf(key.PullRequest), key.Commit[:12], r.State, row.State)
		}
	}
}

// merges: the gate merged a pull request once at most, and only a head that was approved.
func (c *check) merges() {
	merged := map[string][]intent{}
	planned := map[string]bool{}
	for _, i := range c.intents {
		planned[i.PullRequest] = true
		if i.State == "MERGED" {
			merged[i.PullRequest] = append(merged[i.PullRequest], i)
		}
		if i.State == "CALLING" && c.atRest && c.Overdue > 0 {
			c.breaks("%s: nobody knows what became of its merge", c.nameOf(i.PullRequest))
		}
	}
	for id, list := range merged {
		name := c.nameOf(id)
		if len(list) > 1 {
			c.breaks("%s: it was merged %d times", name, len(list))
		}
		for _, i := range list {
			r := c.snapshot.requests[i.Request]
			if _, approved := c.good[i.Request]; !approved || r.Head != i.Head {
				c.breaks("%s: %s was merged without its approvals", name, i.Head[:12])
			}
		}
	}
	for at, list := range c.remote {
		for _, remote := range list {
			pr := c.pullRequestAt(numberKey{at.Workspace, at.Repository, remote.Number})
			if remote.State != "MERGED" || pr == nil {
				continue
			}
			c.recorded(pr, at, remote)
			rule, known := c.ruleAt(pr, remote.Destination, math.MaxInt64)
			asked := !known || rule != nil || remote.ByGate // nobody asks anything of a branch without a rule
			if c.atRest && asked && planned[pr.ID] && c.mergesSeen[numberKey{at.Workspace, at.Repository, remote.Number}] == "" {
				c.breaks("%s: it was to be merged, and was, and nothing says whether with its approvals", pr)
			}
			c.byTheGate(pr, at, remote, merged[pr.ID])
		}
	}
}

// byTheGate: what the gate merged is what was approved, by the intent that it says it carried out, and by any intent where it says
// of none that it did.
func (c *check) byTheGate(pr *pullRequest, at repositoryKey, remote PullRequest, carriedOut []intent) {
	switch {
	case len(carriedOut) == 1:
		i := carriedOut[0]
		if r := c.snapshot.requests[i.Request]; r == nil || i.Head == remote.Head && r.Destination == remote.Destination {
			return
		}
	case !remote.ByGate || c.approvedAs(pr, remote):
		return
	}
	seen := c.mergesSeen[numberKey{at.Workspace, at.Repository, remote.Number}]
	switch {
	case !remote.Raced:
		c.breaks("%s: the gate merged %s into %s, and that was not what was approved", pr, remote.Head[:12], remote.Destination)
	case c.atRest && seen != "VIOLATION":
		c.breaks("%s: %s was merged into %s, which was not what was approved, and nobody says so", pr, remote.Head[:12], remote.Destination)
	}
}

// approvedAs tells whether a request of a pull request approved what was merged.
func (c *check) approvedAs(pr *pullRequest, remote PullRequest) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(c.good)), func(request string) bool { return c.rightly(pr, remote, request) })
}

// rightly tells whether a request approved what was merged.
func (c *check) rightly(pr *pullRequest, remote PullRequest, request string) bool {
	r := c.snapshot.requests[request]
	_, good := c.good[request]
	return good && r.PullRequest == pr.ID && r.Head == remote.Head && r.Destination == remote.Destination
}

// recorded: what is on record as merged with approval, or by an override, by the gate or by anybody, is exactly what has them.
func (c *check) recorded(pr *pullRequest, at repositoryKey, remote PullRequest) {
	if kind := c.mergesSeen[numberKey{at.Workspace, at.Repository, remote.Number}]; (kind == "APPROVED" || kind == "OVERRIDE") && !c.approvedAs(pr, remote) {
		c.breaks("%s: it is on record as merged %s, and %s into %s never was", pr, kind, remote.Head[:12], remote.Destination)
	}
	for _, body := range c.mergedLeaves[pr.Chain] {
		if body.Kind != "violation" && !c.rightly(pr, remote, body.Request) {
			c.breaks("%s: the log says that it was merged, kind %s, and %s into %s never was approved", pr, body.Kind, remote.Head[:12], remote.Destination)
		}
	}
}

// strange: at rest Bitbucket shows nothing under our key on the head of a pull request that nothing is owed on.
func (g Gate) strange(ctx context.Context, s *snapshot, remote map[repositoryKey][]PullRequest) (found []string) {
	for at, list := range remote {
		for _, p := range list {
			pr := s.pullRequestAt(numberKey{at.Workspace, at.Repository, p.Number})
			if pr == nil || len(p.Head) != 40 {
				continue
			}
			if _, known := s.statusRows[statusKey{pr.ID, p.Head}]; known {
				continue
			}
			if shown, err := g.Shown(ctx, at.Workspace, at.Repository, p.Head, pr.StatusKey); err == nil && shown.State != "" {
				found = append(found, fmt.Sprintf("%s: Bitbucket shows %s on %s, and the gate knows nothing of it", pr, shown.State, p.Head[:12]))
			}
		}
	}
	return found
}

// pullRequests: at rest the gate knows each as Bitbucket has it, and has asked for what must be asked.
func (c *check) pullRequests() {
	if !c.atRest {
		return
	}
	live := map[string]*request{}
	for _, r := range c.snapshot.requests {
		if r.alive() {
			live[r.PullRequest] = r
		}
	}
	for at, list := range c.remote {
		document, err := approval.ParsePolicy(c.policies[c.inForce[at]].Document)
		if err != nil {
			c.breaks("the policy in force of a repository cannot be read: %v", err)
			continue
		}
		for _, remote := range list {
			rule, _, gated := document.Match(remote.Destination)
			pr := c.pullRequestAt(numberKey{at.Workspace, at.Repository, remote.Number})
			switch {
			case pr == nil && gated && remote.State == "OPEN":
				c.breaks("pull request %d is open on Bitbucket, and the gate does not know it", remote.Number)
			case pr == nil:
			case pr.State != remote.State:
				c.breaks("%s: it is %s on Bitbucket, and %s here", pr, remote.State, pr.State)
			case remote.State == "OPEN" && (pr.Head != remote.Head || pr.Destination != remote.Destination):
				c.breaks("%s: it is %s into %s on Bitbucket, and %s into %s here", pr, remote.Head[:12], remote.Destination, pr.Head[:12], pr.Destination)
			case remote.State == "OPEN":
				r := live[pr.ID]
				wanted := gated && !remote.Draft
				if wanted != (r != nil) || wanted && (r.Head != remote.Head || r.Destination != remote.Destination || r.RuleDigest != string(rule.Digest())) {
					c.breaks("%s: what is asked for is not what must be asked", pr)
				}
			}
		}
	}
}
