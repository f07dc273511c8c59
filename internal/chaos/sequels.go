package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// sequel is what somebody does right upon the last approval that a pull request needs, when it is about to turn green and
// to be merged. p is who approved.
type sequel func(w *world, ctx context.Context, p *stage.Person, c *change) error

func nothing(*world, context.Context, *stage.Person, *change) error { return nil }

// approved remembers an approval, and tells whether the pull request has now all that it needs, as far as is known.
func (c *change) approved(by string) (last bool) {
	needs := c.needs()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]bool{}
	}
	before := len(c.by)
	c.by[by] = true
	return before < needs && len(c.by) >= needs
}

// begins tells whether somebody may sign an approval without which there are too few, with those that others are signing just
// now; they sign it until ends is called.
func (c *change) begins(by string) bool {
	needs := c.needs()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[by] || len(c.by)+len(c.signing) >= needs {
		return false
	}
	if c.signing == nil {
		c.signing = map[string]bool{}
	}
	c.signing[by] = true
	return true
}

func (c *change) ends(by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.signing, by)
}

// withdrawn forgets an approval.
func (c *change) withdrawn(by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, by)
}

// voided forgets the approvals: they were of another commit, or for another branch.
func (c *change) voided() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = nil
}

// approvers are those who approved what the pull request is now, as far as is known.
func (c *change) approvers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.by))
}

// wanting is an open pull request that merges by itself and that somebody else has approved already; nil if there is none.
func (w *world) wanting(random *rand.Rand, p *stage.Person) *change {
	var list []*change
	for _, r := range w.repositories {
		for _, c := range r.opened() {
			if by := c.approvers(); len(by) > 0 && len(by) < c.needs() && !slices.Contains(by, p.Name) && c.into() == release {
				list = append(list, c)
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[random.IntN(len(list))]
}

func (c *change) into() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.destination
}

// pushTo pushes another commit.
func (w *world) pushTo(ctx context.Context, _ *stage.Person, c *change) error {
	r := c.repository
	c.mu.Lock()
	c.pushed++
	content := fmt.Sprintf("%d\n", c.pushed+1)
	c.mu.Unlock()
	return w.move(c, func() error {
		var made bitbucketsim.Commit
		err := w.sim.control(ctx, "commits", bitbucketsim.Push{
			Repository: r.fullName, Branch: c.branch, Person: r.author, Files: map[string]string{c.branch + ".txt": content},
		}, &made)
		if err == nil {
			w.note("%s is pushed to: %s", c, made.Hash[:12])
		}
		return err
	})
}

// revert pushes another commit, and rewinds to the first one of the pull request at once: what was signed is the head again.
func (w *world) revert(ctx context.Context, p *stage.Person, c *change) error {
	if err := w.pushTo(ctx, p, c); err != nil {
		return err
	}
	return w.move(c, func() error {
		w.note("%s is rewound to %s", c, c.first[:12])
		return w.sim.control(ctx, "commits", bitbucketsim.Push{Repository: c.repository.fullName, Branch: c.branch, From: c.first, Force: true, Person: c.repository.author}, nil)
	})
}

// turn gives a pull request another destination.
func (w *world) turn(ctx context.Context, _ *stage.Person, c *change) error {
	to := hotfix
	if c.into() == hotfix {
		to = release
	}
	return w.turnTo(ctx, c, to)
}

func (w *world) turnTo(ctx context.Context, c *change, to string) error {
	return w.move(c, func() error {
		w.note("%s is turned to %s", c, to)
		err := w.sim.call(ctx, http.MethodPut, fmt.Sprintf("/2.0/repositories/%s/pullrequests/%d", c.repository.fullName, c.number), c.repository.token,
			map[string]any{"destination": map[string]any{"branch": map[string]any{"name": to}}}, nil)
		if err == nil {
			c.mu.Lock()
			c.destination = to
			c.mu.Unlock()
		}
		return err
	})
}

// takeBack withdraws the approval that was just given.
func (w *world) takeBack(ctx context.Context, p *stage.Person, c *change) error {
	w.decide(ctx, p, c, "WITHDRAW")
	return nil
}

// takeBackOwed withdraws the approval that was just given, as soon as it is owed to Bitbucket that the pull request is green, and
// before it is written.
func (w *world) takeBackOwed(ctx context.Context, p *stage.Person, c *change) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := w.super(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for owed := false; !owed; pause(ctx, 20*time.Millisecond) {
		err := conn.QueryRow(ctx, `select exists (select from signedapproval_bitbucket_commit_statuses s
			join signedapproval_pull_requests p on p.workspace_id = s.workspace_id and p.id = s.pull_request_id and p.head_commit = s.commit
			where p.repository_id = $1 and p.number = $2 and s.state = 'SUCCESSFUL' and s.paid_version < s.owed_version)`,
			bare(c.repository.uuid), c.number).Scan(&owed)
		if err != nil {
			return err
		}
	}
	return w.takeBack(ctx, p, c)
}

func (w *world) declineNow(ctx context.Context, _ *stage.Person, c *change) error {
	w.events.Add(1)
	w.note("%s is declined", c)
	return w.sim.call(ctx, http.MethodPost, fmt.Sprintf("/2.0/repositories/%s/pullrequests/%d/decline", c.repository.fullName, c.number), c.repository.token, nil, nil)
}

// mergeByHand lets the author merge one that the gate does not merge by itself, green or not.
func (w *world) mergeByHand(ctx context.Context, random *rand.Rand, r *repository) error {
	list := slices.DeleteFunc(r.opened(), func(c *change) bool { return c.into() == release })
	if len(list) == 0 {
		return nil
	}
	c := list[random.IntN(len(list))]
	c.mu.Lock()
	c.byHand = true
	c.mu.Unlock()
	w.events.Add(1)
	w.note("%s is merged by its author", c)
	return w.sim.call(ctx, http.MethodPost, fmt.Sprintf("/2.0/repositories/%s/pullrequests/%d/merge", r.fullName, c.number), r.token, map[string]any{}, nil)
}

// soon is a moment within d: half of them at once.
func soon(random *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 || random.IntN(2) == 0 {
		return time.Duration(random.Int64N(int64(60 * time.Millisecond)))
	}
	return time.Duration(random.Int64N(int64(d)))
}
