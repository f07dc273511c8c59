package app

import (
	"fmt"
	"maps"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// rulesSeen are the policies that came to a workspace's repositories, by its log from a leaf on. Rules are held from before a verdict until its leaf
// is in the log, so the order of the leaves is the order in which they were in force.
type rulesSeen struct {
	workspace evidence.Digest
	// before are those in force in the log of size leaves, as far as they are known; of each repository one, empty where it is gated no longer.
	size   int64
	before map[evidence.Digest]evidence.Digest
	came   []ruleSeen
}

type ruleSeen struct {
	index              int64
	repository, policy evidence.Digest
}

// see takes a leaf in, in their order.
func (r *rulesSeen) see(index int64, leaf evidence.Leaf) {
	if version, ok := leaf.Body.(evidence.PolicyVersion); ok && leaf.Workspace == r.workspace {
		r.came = append(r.came, ruleSeen{index, version.Repository, version.Policy})
	}
}

// at is the policy of a repository that was in force at a leaf, and false where nothing is known of it.
func (r *rulesSeen) at(repository evidence.Digest, index int64) (policy evidence.Digest, known bool) {
	if r.size <= index {
		policy, known = r.before[repository]
	}
	for _, rule := range r.came {
		if rule.repository == repository && rule.index < index {
			policy, known = rule.policy, true
		}
	}
	return policy, known
}

// now are all that are in force by now.
func (r *rulesSeen) now() map[evidence.Digest]evidence.Digest {
	now := maps.Clone(r.before)
	if now == nil {
		now = map[evidence.Digest]evidence.Digest{}
	}
	for _, rule := range r.came {
		if rule.index >= r.size {
			now[rule.repository] = rule.policy
		}
	}
	return now
}

// outdated says why the policy of a bundle is not the one by which its verdict had to be reached.
func (r *rulesSeen) outdated(h history) (gateOutcome, bool) {
	inForce, known := r.at(h.repository, h.verdict)
	if h.verdict < 0 || !known || inForce == h.policy {
		return gateOutcome{}, false
	}
	return gateOutcome{Code: gateOldPolicy, Sentence: fmt.Sprintf("the verdict, leaf %d of the log, was reached by a policy that was in force no longer (%s)", h.verdict, h.policy)}, true
}
