package gate

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// reached is a commit in the history of a branch.
type reached struct {
	bitbucket.Commit
	place int              // in the order in which each commit is behind its parents, the first of them first
	merge *store.MergeSeen // it is what this merge landed as
	by    *store.MergeSeen // the merge that brought it
	when  attest.Reached
}

func (c *reached) edge() *attest.Edge { return &attest.Edge{Commit: c.Hash, Reached: c.when} }

// joins tells whether it is a merge commit that took another commit in.
func (c *reached) joins(other string) bool {
	return other != "" && len(c.Parents) == 2 && c.Parents[1] == other
}

// heads lists those of some commits that are no parent of another of them.
func heads(commits []*reached) (list []string) {
	below := map[string]bool{}
	for _, c := range slices.Backward(commits) {
		if !below[c.Hash] {
			list = append(list, c.Hash)
		}
		for _, parent := range c.Parents {
			below[parent] = true
		}
	}
	return list
}

// walk reads the history of the branch: down to the commit that was named, or to what the start landed as,
// or to its roots where there is no start, or where the branch no longer holds it on its own line.
func (a *auditing) walk(ctx context.Context, found func() error) error {
	if a.of.Since != "" {
		done, err := a.read(ctx, a.of.Since, found)
		if err == nil && !done {
			err = refusal.New(refusal.BadInput, "The branch does not hold the commit at which the audit begins, or not on its own line.").At("since")
		}
		return err
	}
	if a.start != nil {
		done, err := a.read(ctx, a.start.LandedCommit, found)
		if done || err != nil && !notFound(err) {
			return err
		}
	}
	done, err := a.read(ctx, "", found)
	if err == nil && !done {
		err = gaps()
	}
	return err
}

func gaps() error {
	return refusal.New(refusal.BitbucketUnavailable, "Bitbucket's list of commits has gaps; nothing is audited.")
}

// read reads the history of the tip without that of stop, or all of it if stop is "". It tells whether the first
// parents lead there.
func (a *auditing) read(ctx context.Context, stop string, found func() error) (done bool, err error) {
	listed := map[string]bitbucket.Commit{}
	for c, err := range a.client.Commits(ctx, a.workspace, a.repository, a.tip, stop) {
		if err != nil {
			return false, err
		}
		listed[c.Hash] = bitbucket.Commit{Hash: c.Hash, Parents: c.Parents, Date: c.Date}
		if len(listed)%100 == 0 {
			if err := found(); err != nil {
				return false, err
			}
		}
	}
	for want := a.tip; want != stop; {
		c, here := listed[want]
		if !here {
			return false, nil
		}
		want = append(c.Parents, "")[0]
	}
	a.stop = stop
	return true, a.arrange(ctx, listed)
}

// arrange puts each commit behind its parents. A parent that is not listed must be in the history of stop.
func (a *auditing) arrange(ctx context.Context, listed map[string]bitbucket.Commit) error {
	a.commits, a.by = nil, map[string]*reached{}
	put := func(c bitbucket.Commit) {
		at := &reached{Commit: c, place: len(a.commits), merge: a.landed[c.Hash]}
		a.commits, a.by[c.Hash] = append(a.commits, at), at
	}
	entered := map[string]bool{a.tip: true}
	if a.stop != "" {
		entered[a.stop] = true
		put(bitbucket.Commit{Hash: a.stop})
	}
	type visit struct {
		commit bitbucket.Commit
		next   int // the parent to look at
	}
	var path []visit
	if a.tip != a.stop {
		path = append(path, visit{commit: listed[a.tip]})
	}
	for len(path) > 0 {
		at := &path[len(path)-1]
		if at.next == len(at.commit.Parents) {
			put(at.commit)
			path = path[:len(path)-1]
			continue
		}
		parent := at.commit.Parents[at.next]
		at.next++
		if entered[parent] {
			continue
		}
		entered[parent] = true
		if c, here := listed[parent]; here {
			path = append(path, visit{commit: c})
			continue
		}
		if below, err := a.below(ctx, parent); err != nil || !below {
			return cmp.Or(err, gaps())
		}
	}
	return nil
}

// below tells whether a commit that was not read is in the history of stop.
func (a *auditing) below(ctx context.Context, commit string) (bool, error) {
	if a.stop == "" {
		return false, nil
	}
	base, err := a.client.MergeBase(ctx, a.workspace, a.repository, a.stop, commit)
	if notFound(err) {
		return false, nil
	}
	return base == commit, err
}

// cover says of each commit which merge brought it: the one that landed as it, or the first seen of those that landed as a
// commit whose history has it, and found the branch without it. What no merge brought was not approved.
func (a *auditing) cover(ctx context.Context) error {
	var landed []*reached
	for _, c := range a.commits {
		if c.merge != nil {
			c.by = c.merge
			landed = append(landed, c)
		}
	}
	slices.SortStableFunc(landed, func(x, y *reached) int { return x.merge.SeenAt.Compare(y.merge.SeenAt) })
	for _, c := range landed {
		if c.Hash == a.stop {
			continue
		}
		stood, err := a.stood(ctx, c)
		if err != nil {
			return err
		}
		for _, other := range a.brought(c, stood) {
			if other.by == nil {
				other.by = c.merge
			}
		}
	}
	return nil
}

// stood says where the branch stood before a merge landed as c: at the first parent of a merge commit that took in the head of the
// pull request; else (a fast-forward, a rebase, a squash) where Bitbucket says that its destination stood. "" if that is not known.
func (a *auditing) stood(ctx context.Context, c *reached) (string, error) {
	if c.joins(c.merge.HeadCommit) {
		return c.Parents[0], nil
	}
	if len(c.Parents) == 0 {
		return "", nil
	}
	if parent := a.by[c.Parents[0]]; len(c.Parents) == 1 && (parent == nil || parent.merge != nil) {
		return c.Parents[0], nil // it brought one commit
	}
	remote, err := a.client.PullRequest(ctx, a.workspace, a.repository, c.merge.Number)
	if err != nil {
		return "", err
	}
	prefix, stood := remote.Destination.CommitPrefix, ""
	if prefix == "" {
		return "", nil
	}
	for _, other := range a.commits {
		if !strings.HasPrefix(other.Hash, prefix) {
			continue
		}
		if stood != "" {
			return "", nil // one of two
		}
		stood = other.Hash
	}
	return stood, nil
}

// brought lists what is in the history of c and not in that of stood. If stood is not known to be below c, that is c alone.
func (a *auditing) brought(c *reached, stood string) (list []*reached) {
	const (
		ours  = 1 // it is in the history of c
		there = 2 // it is in that of stood
	)
	marks := map[int]byte{c.place: ours}
	open := 1 // places with no other mark than ours that are still to be looked at
	mark := func(hash string, with byte) {
		other := a.by[hash]
		if other == nil {
			return // below stop
		}
		old := marks[other.place]
		marks[other.place] |= with
		switch {
		case old == 0 && with == ours:
			open++
		case old == ours && with&there != 0:
			open--
		}
	}
	known := stood != c.Hash && slices.Contains(c.Parents, stood)
	if at := a.by[stood]; at != nil && at.place < c.place {
		mark(stood, there)
		defer func() {
			if marks[at.place]&ours == 0 {
				list = []*reached{c}
			}
		}()
		known = true
	}
	if !known {
		return []*reached{c}
	}
	for place := c.place; open > 0; place-- { // what is below a commit has a lower place
		with := marks[place]
		if with == 0 {
			continue
		}
		if with == ours {
			open--
			list = append(list, a.commits[place])
		}
		for _, parent := range a.commits[place].Parents {
			if with&there != 0 {
				mark(parent, there)
			} else {
				mark(parent, ours)
			}
		}
	}
	return list
}

// date says of each commit when it reached the branch, and puts them into that order, each still behind its parents. What is
// recorded is known. Everything else reached it not after the first recorded merge whose history has it, and not before its
// parents, nor before an earlier recorded merge, whose history does not have it. A commit's own date is no more than another limit from below: commits
// are made before they are pushed, and one that claims to be older than it is gains nothing by that. One that claims to
// be younger is listed as late as can be.
func (a *auditing) date() {
	for _, c := range a.commits {
		c.when = attest.Reached{NotBefore: c.Date.UTC(), NotAfter: a.now.UTC(), Basis: attest.Claimed}
	}
	for _, c := range slices.Backward(a.commits) {
		if c.merge != nil {
			c.when.NotAfter = earlier(c.when.NotAfter, c.merge.SeenAt.UTC())
		}
		for _, hash := range c.Parents {
			if parent := a.by[hash]; parent != nil {
				parent.when.NotAfter = earlier(parent.when.NotAfter, c.when.NotAfter)
			}
		}
	}
	if a.of.Since != "" {
		a.commits = a.commits[1:] // it is no part of the audit
	}
	slices.SortStableFunc(a.commits, func(x, y *reached) int { return x.when.NotAfter.Compare(y.when.NotAfter) })
	var floor, next time.Time // recorded merges
	for _, c := range a.commits {
		if c.when.NotAfter.After(next) {
			floor, next = next, c.when.NotAfter
		}
		if c.by != nil {
			c.when.Basis, c.when.NotBefore = attest.Recorded, c.when.NotAfter
			continue
		}
		from := c.when.NotBefore
		if from.Before(floor) {
			from = floor
		}
		for _, hash := range c.Parents {
			if parent := a.by[hash]; parent != nil && parent.when.NotBefore.After(from) {
				from = parent.when.NotBefore
			}
		}
		c.when.NotBefore = earlier(from, next)
	}
	slices.SortStableFunc(a.commits, func(x, y *reached) int {
		return cmp.Or(x.when.NotAfter.Compare(y.when.NotAfter), x.when.NotBefore.Compare(y.when.NotBefore))
	})
}

func earlier(x, y time.Time) time.Time {
	if y.Before(x) {
		return y
	}
	return x
}

// missing lists the merges of the window that the branch no longer holds.
func (a *auditing) missing(ctx context.Context) (list []attest.Missing, err error) {
	for _, m := range slices.Backward(a.merges) {
		if m.SeenAt.Before(a.of.From) || !m.SeenAt.Before(a.of.To) || a.by[m.LandedCommit] != nil {
			continue
		}
		below, err := a.below(ctx, m.LandedCommit)
		if err != nil {
			return nil, err
		}
		if !below {
			list = append(list, attest.Missing{PullRequest: m.Number, Landed: m.LandedCommit, Recorded: m.SeenAt.UTC()})
		}
	}
	return list, nil
}
