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
		if now.State == "MERGED" {
			w.merges.Add(1)
		}
		w.note("%s is %s", c, now.State)
		r.mu.Lock()
		r.open = slices.DeleteFunc(r.open, func(other *change) bool { return other == c })
		r.mu.Unlock()
	}
	return nil
}

// mostOpen is how many pull requests of a repository are open at most.
const mostOpen = 4

func (w *world) openOne(ctx context.Context, random *rand.Rand, r *repository) error {
	if len(r.opened()) >= mostOpen {
		return nil
	}
	r.mu.Lock()
	r.made++
	c := &change{repository: r, branch: fmt.Sprintf("feature/%d", r.made)}
	r.mu.Unlock()
	destination := pick(random, []weighted[string]{{6, release}, {3, hotfix}, {1, ungated}})
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
	c.number = int64(made.ID)
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
	c.pushed++
	return w.move(c, func() error {
		var made bitbucketsim.Commit
		err := w.sim.control(ctx, "commits", bitbucketsim.Push{
			Repository: r.fullName, Branch: c.branch, Person: r.author, Files: map[string]string{c.branch + ".txt": fmt.Sprintf("%d\n", c.pushed+1)},
		}, &made)
		if err == nil {
			w.note("%s is pushed to: %s", c, made.Hash[:12])
		}
		return err
	})
}

func (w *world) retarget(ctx context.Context, random *rand.Rand, r *repository) error {
	c := r.one(random)
	if c == nil {
		return nil
	}
	to := pick(random, []weighted[string]{{5, release}, {3, hotfix}, {1, ungated}})
	return w.move(c, func() error {
		w.note("%s is turned to %s", c, to)
		return w.sim.call(ctx, http.MethodPut, fmt.Sprintf("/2.0/repositories/%s/pullrequests/%d", r.fullName, c.number), r.token,
			map[string]any{"destination": map[string]any{"branch": map[string]any{"name": to}}}, nil)
	})
}

func (w *world) decline(ctx context.Context, random *rand.Rand, r *repository) error {
	c := r.one(random)
	if c == nil {
		return nil
	}
	w.events.Add(1)
	w.note("%s is declined", c)
	return w.sim.call(ctx, http.MethodPost, fmt.Sprintf("/2.0/repositories/%s/pullrequests/%d/decline", r.fullName, c.number), r.token, nil, nil)
}

// approver decides on pull requests until ctx ends.
func (w *world) approver(ctx context.Context, o settings, random *rand.Rand, p *stage.Person) {
	for ctx.Err() == nil {
		r := w.repositories[random.IntN(len(w.repositories))]
		c, action := r.one(random), pick(random, o.scenario.decisions)
		if c != nil {
			bounded, cancel := context.WithTimeout(ctx, 40*time.Second)
			_, err := p.Decide(bounded, c.place(), action)
			cancel()
			var refused *stage.Refusal
			switch {
			case err == nil:
				w.decisions.Add(1)
				w.note("%s: %s signs %s", c, p.Name, action)
			case errors.As(err, &refused) && refused.Code == "UNAUTHENTICATED":
				w.note("%s has to sign in again: %v", p.Name, p.SignIn(ctx))
			case ctx.Err() == nil && !errors.Is(err, stage.ErrNoRequest) && refused == nil:
				w.note("%s: %s cannot %s: %v", c, p.Name, action, err)
			}
		}
		pause(ctx, jitter(random, o.scenario.pace))
	}
}
