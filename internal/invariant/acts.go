package invariant

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// Act is something that the gate did to Bitbucket because of an approval: it wrote SUCCESSFUL on a commit, or asked for a merge.
type Act struct {
	Workspace, Repository string // UUIDs
	// Commit and Key are of the status that was written.
	Commit, Key string
	// Number is of the pull request that was to be merged; 0 for a status.
	Number int64
	// Began is when the turn of the job that did it began, by the database's clock: whatever was committed before, that turn
	// can see. Done is when Bitbucket did it, by a clock that agrees with the database's.
	Began, Done time.Time
}

func (a Act) String() string {
	if a.Number != 0 {
		return fmt.Sprintf("it was asked at %s to be merged", a.Done.UTC().Format("15:04:05.000"))
	}
	return fmt.Sprintf("SUCCESSFUL was written on %s at %s", a.Commit[:12], a.Done.UTC().Format("15:04:05.000"))
}

// never is when what has not happened happens, and forever its place in the log.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

const forever = int64(1) << 62

// committed reads when each leaf was committed, by index. The database must keep that (track_commit_timestamp).
func committed(ctx context.Context, tx pgx.Tx) (map[int64]time.Time, error) {
	type row struct {
		Index int64
		At    time.Time
	}
	list, err := collect[row](ctx, tx, `select index, pg_xact_commit_timestamp(xmin) from signedapproval_leaves`)
	at := make(map[int64]time.Time, len(list))
	for _, l := range list {
		at[l.Index] = l.At
	}
	return at, err
}

// voids finds out which decisions count no more because somebody said that their key was in other hands, and since when:
// by the roster, with the verifier's own judgement.
func (c *check) voids() {
	places := map[string]map[int64]int64{} // of the leaf of each version of a workspace's roster
	for _, l := range c.parse() {
		if body, ok := l.Body.(evidence.RosterVersion); ok {
			if places[l.leaf.Workspace] == nil {
				places[l.leaf.Workspace] = map[int64]int64{}
			}
			places[l.leaf.Workspace][body.Version] = l.Index
		}
	}
	for workspace, roster := range c.rosters {
		var changes []evidence.RosterChange
		for _, document := range roster.documents {
			change, err := evidence.ParseRosterChange(document)
			if err != nil {
				c.breaks("a version of a roster cannot be read: %v", err)
				return
			}
			if changes = append(changes, change); change.CompromisedSince == nil {
				continue
			}
			replayed, err := evidence.ReplayRoster(roster.genesis, changes)
			if err != nil {
				c.breaks("a roster does not follow from its versions: %v", err)
				return
			}
			place := places[workspace][change.Version]
			for _, d := range c.decisions {
				if key, found := replayed.Key(d.Credential); d.Workspace == workspace && d.void == forever && found && replayed.Compromised(key, d.DecidedAt) {
					d.void, d.voidAt = place, c.committed[place]
				}
			}
		}
	}
}

// span is how long something held, as far as the gate can have seen it.
type span struct{ from, to time.Time }

func (s span) holds(at time.Time) bool { return !at.Before(s.from) && at.Before(s.to) }

// acts: nothing was written green, and no merge was asked for, but for what had its quorum, by the rule in force, at some moment
// between the beginning of the turn that did it and the deed. What was taken back while the call was on its way excuses it; what was
// taken back before does not.
func (c *check) acts() {
	if c.committed == nil {
		return
	}
	c.timeDecisions()
	lives, closings := c.lives()
	for _, a := range c.done {
		var pr *pullRequest
		for _, p := range c.snapshot.pullRequests {
			if p.Workspace == a.Workspace && p.Repository == a.Repository && (a.Number != 0 && p.Number == a.Number || a.Number == 0 && p.StatusKey == a.Key) {
				pr = p
			}
		}
		if pr == nil {
			c.breaks("%s in %s, of a pull request that is not there", a, a.Repository)
			continue
		}
		// Of what was merged and is on record, nothing is judged any more: what was approved then stays owed.
		a.Began = earlier(a.Began, closings[pr.ID])
		if !c.justified(a, pr, lives) {
			c.breaks("%s: %s, by a turn that began at %s, and by the decisions and the rule in force nothing was approved from then on", pr, a, a.Began.UTC().Format("15:04:05.000"))
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// lives tells when each request was alive, and when each pull request was put on record as merged: a moment before that.
func (c *check) lives() (lives map[string]span, merged map[string]time.Time) {
	lives, merged = map[string]span{}, map[string]time.Time{}
	chains := map[string]string{}
	for _, p := range c.snapshot.pullRequests {
		chains[p.Chain] = p.ID
	}
	for _, l := range c.parse() {
		switch body := l.Body.(type) {
		case evidence.RequestOpened:
			lives[body.Request] = span{l.Time, never}
		case evidence.RequestClosed:
			lives[body.Request] = span{lives[body.Request].from, c.committed[l.Index]}
		case evidence.Merged:
			merged[chains[l.leaf.Chain]] = l.Time.Add(-time.Microsecond)
		}
	}
	return lives, merged
}

// timeDecisions finds out from when on each decision must, or may, have been seen: an approval counts from the beginning of its
// transaction, and what takes one back from its commit.
func (c *check) timeDecisions() {
	type place struct {
		chain    string
		sequence int64
	}
	at := map[place]time.Time{}
	for _, l := range c.leaves {
		at[place{l.Chain, l.Sequence}] = c.committed[l.Index]
	}
	for _, d := range c.decisions {
		d.effective = d.DecidedAt
		if pr := c.snapshot.pullRequests[d.PullRequest]; pr != nil && d.purpose != evidence.Approve && d.purpose != evidence.Override {
			d.effective = at[place{pr.Chain, d.Sequence}]
		}
	}
}

// justified tells whether a request of a pull request had its quorum at some moment of an act.
func (c *check) justified(a Act, pr *pullRequest, lives map[string]span) bool {
	rules := c.rulesOf(pr)
	for _, r := range c.snapshot.requests {
		if r.PullRequest != pr.ID || a.Number == 0 && r.Head != a.Commit {
			continue
		}
		moments := []time.Time{a.Began, lives[r.ID].from}
		for _, d := range c.decisions {
			if d.PullRequest == pr.ID {
				moments = append(moments, d.effective)
			}
		}
		for _, s := range rules {
			moments = append(moments, s.from)
		}
		for _, m := range moments {
			if m.Before(a.Began) || m.After(a.Done) || !lives[r.ID].holds(m) {
				continue
			}
			if slices.ContainsFunc(rules, func(s ruling) bool { return s.holds(m) && s.asks(r, a.Number != 0) }) && c.hadQuorum(r, m) {
				return true
			}
		}
	}
	return false
}

// ruling is a policy while it was in force.
type ruling struct {
	span
	policy  *approval.Policy // nil for none
	unknown bool             // it has no leaf: nobody can tell
}

// asks tells whether the policy asks for what a request asks, and merges it, where that is wanted.
func (s ruling) asks(r *request, merges bool) bool {
	if s.unknown {
		return true
	}
	if s.policy == nil {
		return false
	}
	rule, _, found := s.policy.Match(r.Destination)
	return found && string(rule.Digest()) == r.RuleDigest && (!merges || rule.AutoMerge != nil)
}

// rulesOf are the policies of a pull request's repository, each while it was in force: one that nobody can tell where they have
// no leaves.
func (c *check) rulesOf(pr *pullRequest) (rules []ruling) {
	documents := map[evidence.Digest]*approval.Policy{}
	for _, p := range c.policies {
		if document, err := approval.ParsePolicy(p.Document); err == nil && p.Repository == pr.Repository {
			documents[evidence.Digest(p.Digest)] = &document
		}
	}
	for _, l := range c.policyLeaves[evidence.RepositoryID(c.salts[pr.Workspace], bitbucket.BracedUUID(pr.Repository))] {
		if n := len(rules); n > 0 {
			rules[n-1].to = c.committed[l.Index]
		}
		rules = append(rules, ruling{span: span{l.Time, never}, policy: documents[l.Body.(evidence.PolicyVersion).Policy]})
	}
	if len(rules) == 0 {
		rules = []ruling{{span: span{time.Time{}, never}, unknown: true}}
	}
	return rules
}

// hadQuorum tells whether a request had at a moment what its rule asks for, or was overridden.
func (c *check) hadQuorum(r *request, at time.Time) bool {
	seen := func(d *decision) bool { return !d.effective.After(at) }
	counts := func(d *decision) bool { return at.Before(d.voidAt) }
	return c.lacks(r, "APPROVED", seen, counts) == "" || c.lacks(r, "OVERRIDDEN", seen, counts) == ""
}
