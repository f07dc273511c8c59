package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// weighted picks one of several things, each as often as its weight says.
type weighted[T any] struct {
	weight int
	thing  T
}

func pick[T any](random *rand.Rand, choices []weighted[T]) T {
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := random.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			return c.thing
		}
	}
	panic("chaos: weights are above zero")
}

// jitter is a pause of around d.
func jitter(random *rand.Rand, d time.Duration) time.Duration {
	return d/2 + time.Duration(random.Int64N(int64(d)))
}

// act is one thing that somebody does to Bitbucket.
type act func(w *world, ctx context.Context, random *rand.Rand, r *repository) error

// author acts in a repository until ctx ends.
func (w *world) author(ctx context.Context, o settings, random *rand.Rand, r *repository) {
	for ctx.Err() == nil {
		if err := w.refresh(ctx, r); err != nil {
			w.note("%s: its pull requests cannot be listed: %v", r.fullName, err)
		}
		do := pick(random, o.scenario.acts)
		if len(r.opened()) == 0 {
			do = (*world).openOne
		} else if o.bug == nil && w.events.Load() > 3*w.decisions.Load()+60 {
			do = (*world).wait // where people can decide slowly only, nothing would live long enough to be decided
		}
		if err := do(w, ctx, random, r); err != nil && ctx.Err() == nil {
			w.note("%s: %v", r.fullName, err)
		}
		pause(ctx, jitter(random, o.scenario.pace))
	}
}

func (r *repository) opened() []*change {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.open)
}

// refresh finds out which pull requests are still open, and counts those that were merged.
func (w *world) refresh(ctx context.Context, r *repository) error {
	list, err := w.pullRequests(ctx, r.fullName, "OPEN")
	if err != nil {
		return err
	}
	isOpen := map[int64]bool{}
	for _, p := range list {
		isOpen[p.ID] = true
	}
	for _, c := range r.opened() {
		if isOpen[c.number] {
			continue
		}
		var now remotePullRequest
		if err := w.sim.call(ctx, http.MethodGet, fmt.Sprintf("/2.0/repositories/%s/pullrequests/%d", r.fullName, c.number), w.watcher, nil, &now); err != nil {
			return err
		}
		if now.State == "OPEN" {
			continue
		}
		if now.State == "MERGED" && !c.handMerged() {
			w.merges.Add(1)
		}
		w.note("%s is %s", c, now.State)
		r.mu.Lock()
		r.open = slices.DeleteFunc(r.open, func(other *change) bool { return other == c })
		r.mu.Unlock()
	}
	return nil
}

// mostOpen is how many pull requests of a repository are open at most that merge by themselves, and how many others.
const mostOpen = 3

// wait lets the others catch up.
func (w *world) wait(context.Context, *rand.Rand, *repository) error { return nil }

// openOne opens a pull request. Those that merge by themselves have places of their own; of the others the oldest makes room.
func (w *world) openOne(ctx context.Context, random *rand.Rand, r *repository) error {
	var others []*change
	list := r.opened()
	for _, c := range list {
		if c.into() != release {
			others = append(others, c)
		}
	}
	destination := pick(random, []weighted[string]{{8, release}, {2, hotfix}, {1, ungated}})
	switch {
	case len(others) >= mostOpen:
		return w.declineNow(ctx, nil, others[0])
	case destination == release && len(list)-len(others) >= mostOpen:
		return nil
	}
	r.mu.Lock()
	r.made++
	c := &change{repository: r, branch: fmt.Sprintf("feature/%d", r.made)}
	r.mu.Unlock()
	push := bitbucketsim.Push{Repository: r.fullName, Branch: c.branch, From: release, Person: r.author, Files: map[string]string{c.branch + ".txt": "1\n"}}
	if err := w.sim.control(ctx, "commits", push, nil); err != nil {
		return err
	}
	var made bitbucketsim.OpenedPullRequest
	err := w.sim.control(ctx, "pullrequests", bitbucketsim.PullRequest{
		Repository: r.fullName, Author: r.author, Title: "Change " + c.branch, Source: c.branch, Destination: destination,
	}, &made)
	if err != nil {
		return err
	}
	c.number, c.first, c.destination = int64(made.ID), made.Head, destination
	r.mu.Lock()
	r.open = append(r.open, c)
	r.all[c.number] = c
	r.mu.Unlock()
	w.events.Add(1)
	w.note("%s is opened into %s at %s", c, destination, made.Head[:12])
	return nil
}

// one picks an open pull request; nil if there is none.
func (r *repository) one(random *rand.Rand) *change {
	list := r.opened()
	if len(list) == 0 {
		return nil
	}
	return list[random.IntN(len(list))]
}

// move lets a pull request move, and remembers until when it did.
func (w *world) move(c *change, do func() error) error {
	err := do()
	c.mu.Lock()
	c.moved = append(c.moved, time.Now())
	c.by = nil // they were of another commit, or for another branch
	c.mu.Unlock()
	if err == nil {
		w.events.Add(1)
	}
	return err
}

func (w *world) push(ctx context.Context, random *rand.Rand, r *repository) error {
	c := r.one(random)
	if c == nil {
		return nil
	}
	return w.pushTo(ctx, nil, c)
}

func (w *world) retarget(ctx context.Context, random *rand.Rand, r *repository) error {
	c := r.one(random)
	if c == nil {
		return nil
	}
	to := pick(random, []weighted[string]{{5, release}, {3, hotfix}, {1, ungated}})
	return w.turnTo(ctx, c, to)
}

func (w *world) decline(ctx context.Context, random *rand.Rand, r *repository) error {
	c := r.one(random)
	if c == nil {
		return nil
	}
	return w.declineNow(ctx, nil, c)
}

func (c *change) handMerged() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byHand
}

// approver decides on pull requests until ctx ends, more often than not on those that wait for one more approval.
func (w *world) approver(ctx context.Context, o settings, random *rand.Rand, p *stage.Person) {
	for ctx.Err() == nil {
		r := w.repositories[random.IntN(len(w.repositories))]
		c, action := r.one(random), pick(random, o.scenario.decisions)
		renews := o.scenario.renewals > 0 && random.IntN(o.scenario.renewals) == 0
		if wanting := w.wanting(random, p); wanting != nil && random.IntN(4) > 0 {
			c = wanting
		}
		if c != nil && o.scenario.exact && !c.begins(p.Name) {
			c = nil
		}
		decided := c != nil && w.decide(ctx, p, c, action)
		last := decided && action == "APPROVE" && c.approved(p.Name)
		if c != nil {
			c.ends(p.Name)
		}
		if decided && renews {
			w.secondKey(ctx, p, c)
		}
		if last && len(o.scenario.upon) > 0 {
			then, d := pick(random, o.scenario.upon), soon(random, o.scenario.within)
			pause(ctx, d)
			if err := then(w, ctx, p, c); err != nil && ctx.Err() == nil {
				w.note("%s, upon its approval: %v", c, err)
			}
		}
		pause(ctx, jitter(random, o.scenario.pace))
	}
}

// decide lets somebody sign, and tells whether that was accepted.
func (w *world) decide(ctx context.Context, p *stage.Person, c *change, action string) bool {
	bounded, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	var refused *stage.Refusal
	_, err := p.Decide(bounded, c.place(), action)
	for n := 0; n < 2 && err != nil && !errors.As(err, &refused) && !errors.Is(err, stage.ErrNoRequest); n++ {
		pause(bounded, 200*time.Millisecond) // as one presses again when a server did not answer
		_, err = p.Decide(bounded, c.place(), action)
	}
	switch {
	case err == nil:
		w.decisions.Add(1)
		w.note("%s: %s signs %s", c, p.Name, action)
		switch action {
		case "WITHDRAW":
			c.withdrawn(p.Name)
		case "REJECT":
			c.voided()
		}
	case errors.Is(err, stage.ErrNoRequest):
		w.notDecided("nothing is asked for")
	case errors.As(err, &refused) && refused.Code != "UNAUTHENTICATED":
		w.notDecided(refused.Error())
	case refused != nil:
		w.note("%s has to sign in again: %v", p.Name, p.SignIn(ctx))
	case ctx.Err() == nil:
		w.notDecided("no answer")
		w.note("%s: %s cannot %s: %v", c, p.Name, action, err)
	}
	return err == nil
}
