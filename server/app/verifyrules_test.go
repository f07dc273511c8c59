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
	rules := &rulesSeen{workspace: workspace, before: map[evidence.Digest]ruleInForce{rocket: {2, digest("known"), 60}, shuttle: {7, digest("other"), 90}}}
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
		{shuttle, 90, "", false},
		{shuttle, 91, digest("other"), true}, // though what is remembered is of a longer log
		{digest("nobody's"), 200, "", false},
	} {
		if rule, known := rules.at(c.repository, c.index); rule.Policy != c.policy || known != c.known {
			t.Errorf("leaf %d: %q, %t; want %q, %t", c.index, rule.Policy, known, c.policy, c.known)
		}
	}
	for _, c := range []struct {
		verdict  int64
		policy   evidence.Digest
		outdated bool
	}{
		{-1, digest("first"), false}, // nothing was decided
		{45, digest("first"), false}, // nothing is known
		{55, digest("first"), false},
		{65, digest("first"), true},
		{115, digest("second"), false},
		{125, digest("second"), true}, // it is gated no longer
	} {
		if outcome, outdated := rules.outdated(history{repository: rocket, verdict: c.verdict, policy: c.policy}); outdated != c.outdated || outdated && outcome.Code != gateOldPolicy {
			t.Errorf("a verdict at leaf %d: %+v, %t", c.verdict, outcome, outdated)
		}
	}
	known := []lookedThrough{{Size: 300}, {Size: 200, Policies: rules.before}, {Size: 100, Policies: map[evidence.Digest]ruleInForce{rocket: {1, digest("first"), 50}}}}
	if newest := remembered(known); !maps.Equal(newest, rules.before) {
		t.Errorf("of several looks: %v", newest)
	}
	if now := rules.now(); !maps.Equal(now, map[evidence.Digest]ruleInForce{rocket: {4, "", 120}, shuttle: {7, digest("other"), 90}}) {
		t.Errorf("remembered: %v", now)
	}
}
