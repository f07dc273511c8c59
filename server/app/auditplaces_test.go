package app

import (
	"strings"
	"testing"
)

// TestAuditsAreSharedOut: neither a person nor a workspace can have all places, and one that is left is taken anew.
func TestAuditsAreSharedOut(t *testing.T) {
	t.Parallel()
	var p auditPlaces
	var leaves []func()
	for _, step := range []struct{ person, workspace, full string }{
		{"alice", "acme", ""},
		{"alice", "acme", "already"},
		{"alice", "initech", "already"},
		{"bob", "acme", ""},
		{"carol", "acme", "of this workspace"},
		{"carol", "initech", ""},
		{"dave", "initech", ""},
		{"erin", "umbrella", "As many audits are made here"},
	} {
		leave, full := p.take(step.person, step.workspace)
		if (step.full == "") != (full == "") || !strings.Contains(full, step.full) || (leave == nil) != (full != "") {
			t.Errorf("%s in %s: %q, want %q", step.person, step.workspace, full, step.full)
		}
		if leave != nil {
			leaves = append(leaves, leave)
		}
	}
	leaves[0]() // alice's
	if _, full := p.take("carol", "acme"); !strings.Contains(full, "already") {
		t.Errorf("carol has two: %q", full)
	}
	if _, full := p.take("alice", "acme"); full != "" {
		t.Errorf("a place that was left: %s", full)
	}
}
