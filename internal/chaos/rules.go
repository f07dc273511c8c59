package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/internal/stage"
)

// administrator is who may change the rules of a workspace. It is for one goroutine at a time.
type administrator struct {
	person *stage.Person
	in     stage.Workspace
	list   []*repository
}

// rules are what a repository is gated by: what its release branches ask for. A hotfix asks for one of the same people.
type rules struct {
	quorum    int
	approvers []string // names, in their order
	autoMerge bool
}

var firstRules = rules{quorum: 2, approvers: approverNames, autoMerge: true}

// The names of what people do to rules and keys, each of which must happen in a run.
const (
	quorumRaised      = "quorum raised"
	quorumLowered     = "quorum lowered"
	approversChanged  = "other approvers"
	autoMergeSwitched = "auto-merge switched"
	keyRenewed        = "second key enrolled"
	keyRevoked        = "key revoked"
	keyStolen         = "key reported stolen"
)

var changes = []string{quorumRaised, quorumLowered, approversChanged, autoMergeSwitched, keyRenewed, keyRevoked, keyStolen}

// another draws other rules than these: more often than not those that let pull requests be merged.
func (r rules) another(random *rand.Rand) rules {
	next := r
	switch random.IntN(6) {
	case 0, 1, 2:
		next.quorum = pick(random, []weighted[int]{{3, 1}, {4, 2}, {1, 3}})
	case 3, 4:
		next.approvers = slices.Clone(approverNames)
		for n := random.IntN(3); n > 0; n-- {
			next.approvers = slices.Delete(next.approvers, 0, 1)
			random.Shuffle(len(next.approvers), func(a, b int) {
				next.approvers[a], next.approvers[b] = next.approvers[b], next.approvers[a]
			})
		}
		slices.Sort(next.approvers)
	case 5:
		next.autoMerge = !r.autoMerge
	}
	if !r.autoMerge && random.IntN(2) == 0 {
		next.autoMerge = true
	}
	return next
}

// from says in what these rules differ from those before.
func (r rules) from(before rules) (names []string) {
	switch {
	case r.quorum > before.quorum:
		names = append(names, quorumRaised)
	case r.quorum < before.quorum:
		names = append(names, quorumLowered)
	}
	if !slices.Equal(r.approvers, before.approvers) {
		names = append(names, approversChanged)
	}
	if r.autoMerge != before.autoMerge {
		names = append(names, autoMergeSwitched)
	}
	return names
}

// save has a repository gated by rules.
func (a *administrator) save(ctx context.Context, r *repository, is rules) error {
	titles := make([]string, len(is.approvers))
	for i, name := range is.approvers {
		titles[i] = strings.ToUpper(name[:1]) + name[1:]
	}
	approvers, err := a.person.Accounts(ctx, a.in, titles...)
	if err != nil {
		return err
	}
	releases := map[string]any{
		"name": "Releases", "branches": []string{"release/*"},
		"requirements": []any{map[string]any{"name": "Approval", "quorum": is.quorum, "approvers": approvers}},
	}
	if is.autoMerge {
		releases["autoMerge"] = map[string]any{"strategy": "merge_commit", "messageTemplate": "Merge #{number}: {title}"}
	}
	_, err = a.person.Gate(ctx, a.in, r.uuid, releases, map[string]any{
		"name": "Hotfixes", "branches": []string{"hotfix/*"},
		"requirements": []any{map[string]any{"name": "Approval", "quorum": 1, "approvers": approvers}},
	})
	return err
}

// administer changes the rules of a workspace's repositories until ctx ends.
func (w *world) administer(ctx context.Context, o settings, random *rand.Rand, a *administrator) {
	merges, last := w.merges.Load(), time.Now()
	for o.scenario.rulesEvery > 0 {
		pause(ctx, jitter(random, o.scenario.rulesEvery))
		if ctx.Err() != nil {
			return
		}
		// Whatever was approved is asked for anew: where people can decide slowly only, nothing would ever be merged.
		if w.merges.Load() == merges && time.Since(last) < 4*o.scenario.rulesEvery {
			continue
		}
		merges, last = w.merges.Load(), time.Now()
		r := a.list[random.IntN(len(a.list))]
		before := r.inForce()
		next := before.another(random)
		names := next.from(before)
		for n := 0; n < 6 && !slices.ContainsFunc(names, func(name string) bool { return !w.hasStruck(name) }); n++ {
			next = before.another(random) // what has not come yet comes first
			names = next.from(before)
		}
		if len(names) == 0 {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, 40*time.Second)
		err := a.save(bounded, r, next)
		for n := 0; n < 2 && err != nil; n++ {
			pause(bounded, time.Second) // as one presses again when Bitbucket was away
			err = a.save(bounded, r, next)
		}
		cancel()
		var refused *stage.Refusal
		if errors.As(err, &refused) && refused.Code == "UNAUTHENTICATED" {
			w.note("%s has to sign in again: %v", a.person.Name, a.person.SignIn(ctx))
		}
		if err != nil {
			w.note("%s: its rules cannot be changed: %v", r.fullName, err) // they may have been: then the next change says so
			continue
		}
		r.ruledBy(next)
		w.events.Add(1)
		w.note("%s: %s: %d of %s, auto-merge: %v", r.fullName, strings.Join(names, ", "), next.quorum, strings.Join(next.approvers, ", "), next.autoMerge)
		for _, name := range names {
			w.struck(name)
		}
	}
}

func (r *repository) inForce() rules {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rules
}

// ruledBy remembers what a repository is gated by from here on: whatever was approved is asked for anew.
func (r *repository) ruledBy(is rules) {
	r.mu.Lock()
	r.rules = is
	r.mu.Unlock()
	for _, c := range r.opened() {
		c.voided()
	}
}

// needs is how many people must approve a pull request.
func (c *change) needs() int {
	if c.into() == release {
		return c.repository.inForce().quorum
	}
	return 1
}

// secondKey lets somebody enrol a second passkey.
func (w *world) secondKey(ctx context.Context, p *stage.Person, c *change) {
	if _, has := p.HasSpare(); has {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	err := p.Renew(bounded, c.place())
	if err == nil {
		w.struck(keyRenewed)
	}
	w.note("%s enrols a second key: %v", p.Name, err)
}

// stolen lets somebody report that the key that they have just approved with was in other hands by then.
func (w *world) stolen(ctx context.Context, p *stage.Person, c *change) error {
	since := time.Now().Add(-10 * time.Second).Truncate(time.Second)
	return w.replaceKey(ctx, p, c, &since)
}

// revoked lets somebody revoke the key that they have just approved with: what it signed counts all the same.
func (w *world) revoked(ctx context.Context, p *stage.Person, c *change) error {
	return w.replaceKey(ctx, p, c, nil)
}

func (w *world) replaceKey(ctx context.Context, p *stage.Person, c *change, since *time.Time) error {
	enrolled, has := p.HasSpare()
	if !has {
		return nil
	}
	if since != nil && since.Before(enrolled) {
		since = &enrolled // else the second key falls with the first
	}
	if since != nil && since.After(time.Now()) {
		return nil // it was enrolled this very second
	}
	bounded, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	err := p.Replace(bounded, c.place(), since)
	for n := 0; n < 2 && err != nil && bounded.Err() == nil; n++ {
		pause(bounded, 200*time.Millisecond)
		err = p.Replace(bounded, c.place(), since)
	}
	if err != nil {
		return fmt.Errorf("%s cannot revoke a key: %w", p.Name, err)
	}
	if since == nil {
		w.struck(keyRevoked)
		w.note("%s revokes the key", p.Name)
		return nil
	}
	w.struck(keyStolen)
	w.note("%s reports the key stolen since %s", p.Name, since.UTC().Format("15:04:05"))
	c.voided()
	return nil
}
