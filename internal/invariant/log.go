package invariant

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// log: the tree over all leaves is the one of every published checkpoint, and every chain is gap-free.
func (c *check) log() {
	if int64(len(c.leaves)) != c.treeSize {
		c.breaks("the log says %d leaves and has %d", c.treeSize, len(c.leaves))
	}
	for i, l := range c.leaves {
		if l.Index != int64(i) {
			c.breaks("leaf %d of the log is missing", i)
			c.chains()
			return // the tree has a hole
		}
		if hash := tlog.RecordHash(l.Entry); !bytes.Equal(l.Hash, hash[:]) {
			c.breaks("leaf %d is not what its hash says", i)
		}
	}
	c.checkCheckpoints()
	c.chains()
}

func (c *check) checkCheckpoints() {
	var sizes []int64
	for _, p := range c.checkpoints {
		if p.Size > int64(len(c.leaves)) {
			c.breaks("a checkpoint of %d leaves is published, and the log has %d", p.Size, len(c.leaves))
			continue
		}
		sizes = append(sizes, p.Size)
	}
	computed, err := roots(c.leaves, sizes)
	if err != nil {
		c.breaks("the tree cannot be computed: %v", err)
		return
	}
	for _, p := range c.checkpoints {
		root, ok := computed[p.Size]
		if !ok {
			continue
		}
		if !bytes.Equal(root[:], p.Root) {
			c.breaks("the published checkpoint of %d leaves has another root than the leaves", p.Size)
		}
		if c.Checkpoints == nil {
			continue
		}
		opened, err := note.Open(p.Note, c.Checkpoints)
		if err != nil || !strings.Contains(opened.Text, fmt.Sprintf("\n%d\n%s\n", p.Size, base64.StdEncoding.EncodeToString(root[:]))) {
			c.breaks("the note of the checkpoint of %d leaves does not say so: %v", p.Size, err)
		}
	}
}

func (c *check) chains() {
	entries := map[string][]leaf{}
	for _, l := range c.leaves {
		if l.Chain != "" {
			entries[l.Chain] = append(entries[l.Chain], l)
		}
	}
	for _, p := range c.sorted() {
		list := entries[p.Chain]
		slices.SortFunc(list, func(a, b leaf) int { return int(a.Sequence - b.Sequence) })
		if int64(len(list)) != p.Sequence {
			c.breaks("%s: its chain has %d leaves, and it says %d", p, len(list), p.Sequence)
			continue
		}
		if len(list) == 0 {
			continue
		}
		raw := make([][]byte, len(list))
		for i, l := range list {
			raw[i] = l.Entry
		}
		if _, err := evidence.CheckChain(raw); err != nil {
			c.breaks("%s: chain: %v", p, err)
		}
		if string(evidence.LeafDigest(raw[len(raw)-1])) != p.LastLeaf {
			c.breaks("%s: it names another end of its chain than the log has", p)
		}
	}
}

// sorted are the pull requests, in an order that is the same each time.
func (c *check) sorted() []*pullRequest {
	var list []*pullRequest
	for _, p := range c.snapshot.pullRequests {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *pullRequest) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// parse reads every leaf that can be read; what cannot is the chain's to tell.
func (c *check) parse() []parsed {
	if c.parsedLeaves != nil {
		return c.parsedLeaves
	}
	c.parsedLeaves, c.policyLeaves, c.mergedLeaves = []parsed{}, map[evidence.Digest][]parsed{}, map[string][]evidence.Merged{}
	for _, l := range c.leaves {
		read, err := evidence.ParseLeaf(l.Entry)
		if err != nil {
			continue
		}
		one := parsed{l, read}
		c.parsedLeaves = append(c.parsedLeaves, one)
		switch body := read.Body.(type) {
		case evidence.PolicyVersion:
			c.policyLeaves[body.Repository] = append(c.policyLeaves[body.Repository], one)
		case evidence.Merged:
			c.mergedLeaves[l.Chain] = append(c.mergedLeaves[l.Chain], body)
		}
	}
	return c.parsedLeaves
}

// causes: each cause has one leaf.
func (c *check) causes() {
	opened, closed, merged := map[string]int{}, map[string]int{}, map[string]int{}
	decided, outcomes, single := map[string]int{}, map[evidence.Digest]int{}, map[string]int{}
	paid := map[statusKey]int64{}
	for _, l := range c.parse() {
		switch body := l.Body.(type) {
		case evidence.RequestOpened:
			opened[body.Request]++
		case evidence.RequestClosed:
			closed[body.Request]++
		case evidence.DecisionMade:
			decided[body.Request+" "+string(body.Statement)]++
		case evidence.VerdictReached:
			if outcomes[body.Outcome]++; outcomes[body.Outcome] > 1 {
				c.breaks("a verdict of request %s has %d leaves", body.Request, outcomes[body.Outcome])
			}
		case evidence.StatusPaid:
			if r := c.snapshot.requests[body.Request]; r != nil {
				paid[statusKey{r.PullRequest, r.Head}]++
			}
		case evidence.Merged:
			merged[l.leaf.Chain]++
		case evidence.Genesis:
			single["genesis of a workspace "+l.leaf.Workspace]++
		case evidence.PolicyVersion:
			single[fmt.Sprintf("policy %d of %s", body.Version, body.Repository)]++
		case evidence.RosterVersion:
			single[fmt.Sprintf("roster %d of %s", body.Version, l.leaf.Workspace)]++
		}
	}
	for _, r := range c.snapshot.requests {
		ended := 0
		if !r.alive() {
			ended = 1
		}
		if opened[r.ID] != 1 {
			c.breaks("%s: a request has %d leaves of its opening", c.nameOf(r.PullRequest), opened[r.ID])
		}
		if closed[r.ID] != ended {
			c.breaks("%s: a request that is %s has %d leaves of its end", c.nameOf(r.PullRequest), r.State, closed[r.ID])
		}
	}
	made := map[string]int{}
	for _, d := range c.decisions {
		made[d.Request+" "+string(approval.DigestOf(d.Statement))]++
	}
	for cause, n := range decided {
		if made[cause] != n {
			c.breaks("%d leaves are about a decision of which there are %d", n, made[cause])
		}
	}
	for cause, n := range made {
		if decided[cause] == 0 {
			c.breaks("%d decisions have no leaf: %s", n, cause)
		}
	}
	for _, p := range c.snapshot.pullRequests {
		if n := merged[p.Chain]; n > 1 {
			c.breaks("%s: it has %d leaves of its merge", p, n)
		}
	}
	for key, n := range paid {
		if row := c.statusRows[key]; n > row.Paid {
			c.breaks("%s: %d leaves say that the status on %s was paid, and it was %d times", c.nameOf(key.PullRequest), n, key.Commit[:12], row.Paid)
		}
	}
	for cause, n := range single {
		if n > 1 {
			c.breaks("the %s has %d leaves", cause, n)
		}
	}
}
