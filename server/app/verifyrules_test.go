package app

import (
	"maps"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// TestWhichRulesWereInForce: by the leaves that were looked through, and by what was known where the look began.
func TestWhichRulesWereInForce(t *testing.T) {
	t.Parallel()
	digest := func(name string) evidence.Digest { return approval.DigestOf([]byte(name)) }
	workspace, rocket, shuttle := digest("workspace"), digest("rocket"), digest("shuttle")
	rules := &rulesSeen{workspace: workspace, size: 100, before: map[evidence.Digest]ruleInForce{rocket: {2, digest("known")}, shuttle: {7, digest("other")}}}
	// The look began at leaf 40, since a pull request did; what is known is of the log of 100 leaves.
	for _, came := range []struct {
		index      int64
		workspace  evidence.Digest
		repository evidence.Digest
		version    int64
		policy     evidence.Digest
	}{
		{50, workspace, rocket, 1, digest("first")},
		{60, workspace, rocket, 2, digest("known")},
		{65, workspace, rocket, 1, digest("first")}, // once more
		{70, digest("another workspace"), rocket, 9, digest("theirs")},
		{105, workspace, rocket, 1, digest("first")}, // and again
		{110, workspace, rocket, 3, digest("second")},
		{115, workspace, rocket, 2, digest("known")},
		{120, workspace, rocket, 4, ""},
	} {
		rules.see(came.index, evidence.Leaf{Workspace: came.workspace, Body: evidence.PolicyVersion{Repository: came.repository, Version: came.version, Policy: came.policy}})
	}
	rules.see(130, evidence.Leaf{Workspace: workspace, Body: evidence.Connection{Event: "renewed"}})
	for _, c := range []struct {
		repository evidence.Digest
		index      int64
		policy     evidence.Digest
		known      bool
	}{
		{rocket, 45, "", false},
		{rocket, 50, "", false}, // a verdict at the place of the leaf itself is before it
		{rocket, 51, digest("first"), true},
		{rocket, 99, digest("known"), true},
		{rocket, 110, digest("known"), true},
		{rocket, 111, digest("second"), true},
		{rocket, 121, "", true},
		{shuttle, 99, "", false},
		{shuttle, 100, digest("other"), true},
		{digest("nobody's"), 200, "", false},
	} {
		if rule, known := rules.at(c.repository, c.index); rule.Policy != c.policy || known != c.known {
			t.Errorf("leaf %d: %q, %t; want %q, %t", c.index, rule.Policy, known, c.policy, c.known)
		}
	}
	for _, c := range []struct {
		green    []int64
		verdict  int64
		policy   evidence.Digest
		outdated bool
	}{
		{nil, -1, digest("first"), false}, // nothing was decided
		{nil, 45, digest("first"), false}, // nothing is known
		{nil, 55, digest("first"), false},
		{nil, 65, digest("first"), true},
		{nil, 115, digest("second"), false},
		{nil, 125, digest("second"), true},           // it is gated no longer
		{[]int64{55}, 65, digest("first"), false},    // it was green already
		{[]int64{106}, 112, digest("first"), true},   // by rules that were in force no longer then
		{[]int64{112}, 125, digest("second"), false}, // merged when it was gated no longer
	} {
		if outcome, outdated := rules.outdated(history{repository: rocket, green: c.green, verdict: c.verdict, policy: c.policy}); outdated != c.outdated || outdated && outcome.Code != gateOldPolicy {
			t.Errorf("green at %v, a verdict at %d: %+v, %t", c.green, c.verdict, outcome, outdated)
		}
	}
	if now := rules.now(); !maps.Equal(now, map[evidence.Digest]ruleInForce{rocket: {4, ""}, shuttle: {7, digest("other")}}) {
		t.Errorf("remembered: %v", now)
	}
}
