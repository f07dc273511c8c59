package app

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// rulesSeen are the policies that came to a workspace's repositories, by its log from a leaf on. Rules are held from before a verdict until its leaf
// is in the log, so the order of the leaves is the order in which they were in force. But what was green when the rules changed, and is merged before
// anybody looked, is judged once more by the rules by which it was.
type rulesSeen struct {
	workspace evidence.Digest
	// before are those in force in the log of size leaves, as far as they are known, by what stands for their repositories.
	size   int64
	before map[evidence.Digest]ruleInForce
	came   []ruleSeen
}

// ruleInForce is a repository's policy, empty where it is gated no longer.
type ruleInForce struct {
	Version int64           `json:"version"`
	Policy  evidence.Digest `json:"policy,omitempty"`
}

type ruleSeen struct {
	index      int64
	repository evidence.Digest
	ruleInForce
}

// see takes a leaf in, in their order.
func (r *rulesSeen) see(index int64, leaf evidence.Leaf) {
	if version, ok := leaf.Body.(evidence.PolicyVersion); ok && leaf.Workspace == r.workspace {
		r.came = append(r.came, ruleSeen{index, version.Repository, ruleInForce{version.Version, version.Policy}})
	}
}

// at is the policy of a repository that was in force at a leaf, and false where nothing is known of it. A version that had come before counts for
// nothing when its leaf comes once more.
func (r *rulesSeen) at(repository evidence.Digest, index int64) (rule ruleInForce, known bool) {
	if r.size <= index {
		rule, known = r.before[repository]
	}
	for _, came := range r.came {
		if came.repository == repository && came.index < index && came.Version > rule.Version {
			rule, known = came.ruleInForce, true
		}
	}
	return rule, known
}

// now are all that are in force behind the last leaf that was seen.
func (r *rulesSeen) now() map[evidence.Digest]ruleInForce {
	now := map[evidence.Digest]ruleInForce{}
	maps.Copy(now, r.before)
	for _, came := range r.came {
		now[came.repository], _ = r.at(came.repository, math.MaxInt64)
	}
	return now
}

// outdated says why the policy of a bundle is not one by which its verdict could be reached.
func (r *rulesSeen) outdated(h history) (gateOutcome, bool) {
	if h.verdict < 0 || r.mayBe(h, h.verdict) || slices.ContainsFunc(h.green, func(index int64) bool { return r.mayBe(h, index) }) {
		return gateOutcome{}, false
	}
	return gateOutcome{Code: gateOldPolicy, Sentence: fmt.Sprintf("the verdict, leaf %d of the log, was reached by a policy that was in force no longer (%s)", h.verdict, h.policy)}, true
}

// mayBe reports whether the policy of a bundle can have been in force at a leaf, by what is known.
func (r *rulesSeen) mayBe(h history, index int64) bool {
	inForce, known := r.at(h.repository, index)
	return !known || inForce.Policy == h.policy
}
