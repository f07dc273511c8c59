package app

import (
	"fmt"
	"maps"
	"math"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// rulesSeen are the policies that came to a workspace's repositories, by its log from a leaf on. Rules are held from before a verdict until its leaf
// is in the log, so the order of the leaves is the order in which they were in force.
type rulesSeen struct {
	workspace evidence.Digest
	// before are those that are known to have come, each the newest of its repository, by what stands for that.
	before map[evidence.Digest]ruleInForce
	came   []ruleSeen
}

// ruleInForce is a repository's policy, empty where it is gated no longer.
type ruleInForce struct {
	Version int64           `json:"version"`
	Policy  evidence.Digest `json:"policy,omitempty"`
	// Leaf is the index of the first leaf that says so: whatever is behind it is not by an older one.
	Leaf int64 `json:"leaf"`
}

type ruleSeen struct {
	repository evidence.Digest
	ruleInForce
}

// remembered are the newest policies of all that is known, which may be of several looks.
func remembered(known []lookedThrough) map[evidence.Digest]ruleInForce {
	newest := map[evidence.Digest]ruleInForce{}
	for _, k := range known {
		for repository, rule := range k.Policies {
			if rule.Version > newest[repository].Version {
				newest[repository] = rule
			}
		}
	}
	return newest
}

// see takes a leaf in, in their order.
func (r *rulesSeen) see(index int64, leaf evidence.Leaf) {
	if version, ok := leaf.Body.(evidence.PolicyVersion); ok && leaf.Workspace == r.workspace {
		r.came = append(r.came, ruleSeen{version.Repository, ruleInForce{version.Version, version.Policy, index}})
	}
}

// at is the policy of a repository that was in force at a leaf, and false where nothing is known of it. A version that had come before counts for
// nothing when its leaf comes once more.
func (r *rulesSeen) at(repository evidence.Digest, index int64) (rule ruleInForce, known bool) {
	if before, ok := r.before[repository]; ok && before.Leaf < index {
		rule, known = before, true
	}
	for _, came := range r.came {
		if came.repository == repository && came.Leaf < index && came.Version > rule.Version {
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

// outdated says why the policy of a bundle is not the one by which its verdict had to be reached.
func (r *rulesSeen) outdated(h history) (gateOutcome, bool) {
	inForce, known := r.at(h.repository, h.verdict)
	if h.verdict < 0 || !known || inForce.Policy == h.policy {
		return gateOutcome{}, false
	}
	return gateOutcome{Code: gateOldPolicy, Sentence: fmt.Sprintf("the verdict, leaf %d of the log, was reached by a policy that was in force no longer (%s)", h.verdict, h.policy)}, true
}
