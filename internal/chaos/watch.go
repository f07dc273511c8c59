package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signedapproval/bitbucket/internal/invariant"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// calls are those that the gate made to Bitbucket, as far as they tell whether a merge was looked at.
type calls struct {
	mu   sync.Mutex
	last int
	kept map[string][]bitbucketsim.Call // by pull request
}

var (
	interesting = regexp.MustCompile(`(/pullrequests/\d+)(/commits|/merge)?$`)
	// aTurn is the end of an agent that names its turn of a job.
	aTurn = regexp.MustCompile(`turn/merge-\d+-\d+$`)
	// withoutBraces is how paths are compared: UUIDs have braces, escaped or not, or none.
	withoutBraces = strings.NewReplacer("%7B", "", "%7D", "", "{", "", "}", "")
)

// follow keeps reading the log of the calls, and what has struck.
func (w *world) follow(ctx context.Context, c *calls) {
	for n := 0; ctx.Err() == nil; n++ {
		w.readCalls(ctx, c)
		if n%3 == 0 {
			w.readStrikes(ctx)
		}
		pause(ctx, time.Second)
	}
}

func (w *world) readCalls(ctx context.Context, c *calls) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var log struct{ Calls []bitbucketsim.Call }
	if err := w.sim.call(ctx, http.MethodGet, fmt.Sprintf("/sim/calls?after=%d", c.last), "", nil, &log); err != nil {
		return
	}
	for _, call := range log.Calls {
		c.last = call.Number
		c.keep(call)
	}
}

func (c *calls) keep(call bitbucketsim.Call) {
	if c.kept == nil {
		c.kept = map[string][]bitbucketsim.Call{}
	}
	call.Path = withoutBraces.Replace(call.Path)
	if found := interesting.FindStringSubmatch(call.Path); found != nil && aTurn.MatchString(call.Agent) {
		pr := strings.TrimSuffix(call.Path, found[2])
		c.kept[pr] = append(c.kept[pr], call)
	}
}

// raced tells whether one of these moves of a pull request can have come between the gate's last look and its last
// call to merge, in the same turn: whoever calls after another call has found the approved head once more. A merge reads the pull
// request, then its head, and then calls.
func (c *calls) raced(pullRequest string, moved []time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.kept[withoutBraces.Replace(pullRequest)]
	slices.SortStableFunc(list, func(a, b bitbucketsim.Call) int { return a.At.Compare(b.At) })
	type looks struct{ pullRequest, head time.Time }
	last := map[string]looks{} // by turn
	raced := false
	for _, call := range list {
		turn := last[call.Agent]
		switch {
		case strings.HasSuffix(call.Path, "/merge"):
			raced = !turn.pullRequest.IsZero() && !turn.head.IsZero() && slices.ContainsFunc(moved, func(move time.Time) bool { return move.After(turn.pullRequest) })
		case strings.HasSuffix(call.Path, "/commits"):
			turn.head = call.At
		default:
			turn.pullRequest = call.At
		}
		last[call.Agent] = turn
	}
	return raced
}

// gate is what the invariants are checked of.
func (w *world) gateNow(c *calls, overdue time.Duration) invariant.Gate {
	return invariant.Gate{
		RelyingParty: evidence.RelyingParty{ID: "localhost", Origin: w.front.origin},
		Shown: func(ctx context.Context, _, repositoryID, commit, key string) (invariant.Status, error) {
			r := w.repositoryOf(repositoryID)
			if r == nil {
				return invariant.Status{}, fmt.Errorf("no repository %s", repositoryID)
			}
			var page struct {
				Values []struct{ Key, State, Description string }
			}
			err := w.sim.call(ctx, http.MethodGet, fmt.Sprintf("/2.0/repositories/%s/commit/%s/statuses?pagelen=100", r.fullName, commit), w.watcher, nil, &page)
			for _, s := range page.Values {
				if s.Key == key {
					return invariant.Status{State: s.State, Description: s.Description}, err
				}
			}
			return invariant.Status{}, err
		},
		PullRequests: func(ctx context.Context, _, repositoryID string) ([]invariant.PullRequest, error) {
			return w.remotes(ctx, c, repositoryID)
		},
		Accepted: w.front.taken(), Checkpoints: w.log, Overdue: overdue,
	}
}

func (w *world) remotes(ctx context.Context, c *calls, repositoryID string) (all []invariant.PullRequest, err error) {
	r := w.repositoryOf(repositoryID)
	if r == nil {
		return nil, fmt.Errorf("no repository %s", repositoryID)
	}
	list, err := w.pullRequests(ctx, r.fullName, "OPEN", "MERGED", "DECLINED")
	if err != nil {
		return nil, err
	}
	w.readCalls(ctx, c)
	for _, p := range list {
		r.mu.Lock()
		known := r.all[p.ID]
		r.mu.Unlock()
		one, err := w.remoteOf(ctx, c, r, p, known)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// remoteOf is a pull request as the checker wants it. Of one that was merged nothing changes any more.
func (w *world) remoteOf(ctx context.Context, c *calls, r *repository, p remotePullRequest, known *change) (one invariant.PullRequest, err error) {
	one = invariant.PullRequest{
		Number: p.ID, State: p.State, Draft: p.Draft, Head: p.Source.Commit.Hash, Destination: p.Destination.Branch.Name,
		ByGate: p.State == "MERGED" && p.ClosedBy.Nickname == r.owner,
	}
	var moved []time.Time
	if known != nil {
		known.mu.Lock()
		defer known.mu.Unlock()
		if known.merged != nil {
			return *known.merged, nil
		}
		moved = known.moved
	}
	if p.State != "DECLINED" {
		if one.Head, err = w.head(ctx, r, p); err != nil {
			return one, err
		}
	}
	if p.State == "MERGED" && known != nil {
		one.Raced = c.raced(fmt.Sprintf("/2.0/repositories/%s/%s/pullrequests/%d", r.workspace.UUID, r.uuid, p.ID), moved)
		if one.Raced || len(moved) == 0 || time.Since(moved[len(moved)-1]) > time.Minute { // every call of then is known by now
			known.merged = &one
		}
	}
	return one, nil
}

// head resolves the twelve digits that a pull request shows.
func (w *world) head(ctx context.Context, r *repository, p remotePullRequest) (string, error) {
	if len(p.Source.Commit.Hash) == 40 {
		return p.Source.Commit.Hash, nil
	}
	var commit struct{ Hash string }
	err := w.sim.call(ctx, http.MethodGet, "/2.0/repositories/"+r.fullName+"/commit/"+p.Source.Commit.Hash, w.watcher, nil, &commit)
	return commit.Hash, err
}

// check checks the invariants once, and answers what does not hold; an error is why nothing can be said.
func (w *world) check(ctx context.Context, c *calls, overdue time.Duration, atRest bool) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	conn, err := w.super(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	g := w.gateNow(c, overdue)
	g.DB = conn
	looked := 0
	g.Acts = func(ctx context.Context) ([]invariant.Act, error) {
		acts, err := w.acts(ctx)
		looked = len(acts)
		return acts, err
	}
	err = g.Check(ctx, atRest)
	if err == nil || len(invariant.Violations(err)) > 0 {
		w.deeds.judged(looked) // nothing that comes later changes what is thought of them
	}
	if broken := invariant.Violations(err); len(broken) > 0 {
		return broken, nil
	}
	return nil, err
}

// watch checks the invariants while everything goes on, and that something does.
func (w *world) watch(ctx context.Context, o settings, c *calls) {
	merges, kills := w.merges.Load(), w.journal.kills.Load()
	mergedAt, killedAt := time.Now(), time.Now()
	for {
		pause(ctx, o.scenario.checkEvery)
		if ctx.Err() != nil {
			return
		}
		broken, err := w.check(ctx, c, o.scenario.overdue, false)
		switch {
		case len(broken) > 0:
			w.violate("while it runs", broken)
		case err != nil && ctx.Err() == nil:
			w.note("the invariants cannot be checked now: %v", err)
		case err == nil:
			w.note("the invariants hold")
		}
		w.noteUndecided()
		if n := w.merges.Load(); n > merges {
			merges, mergedAt = n, time.Now()
		}
		if n := w.journal.kills.Load(); n > kills {
			kills, killedAt = n, time.Now()
		}
		if o.bug == nil && (time.Since(mergedAt) > o.stall || time.Since(killedAt) > o.stall) {
			w.violate("progress", []string{fmt.Sprintf("more than %s went by without a merge, or without a kill", o.stall)})
		}
	}
}
