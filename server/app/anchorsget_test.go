package app

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// TestPoliciesArePinnedForTheirRepository: one has had three policies, of which the last is the first again, one is gated no longer, and
// of one the newest comes first.
func TestPoliciesArePinnedForTheirRepository(t *testing.T) {
	t.Parallel()
	const b, a, gone = "{bbbbbbbb-0000-4000-8000-000000000000}", "{aaaaaaaa-0000-4000-8000-000000000000}", "{cccccccc-0000-4000-8000-000000000000}"
	digest := func(policy string) evidence.Digest { return approval.DigestOf([]byte(policy)) }
	var opened evidence.Openings
	for _, p := range []struct {
		repository string
		version    int64
		policy     string
	}{{b, 1, `"lax"`}, {b, 2, `"strict"`}, {b, 3, `"lax"`}, {a, 2, `"strict"`}, {a, 1, `"old"`}, {gone, 1, `"old"`}, {gone, 2, ""}} {
		opened.Policies = append(opened.Policies, evidence.OpenedPolicy{Repository: p.repository, Version: p.version, Policy: json.RawMessage(p.policy)})
	}
	if lax, strict, old := digest(`"lax"`), digest(`"strict"`), digest(`"old"`); lax > strict || old > strict {
		t.Fatal("the digests below are not ascending")
	}
	for which, want := range map[string][]evidence.PinnedPolicies{
		"newest": {
			{Repository: a, Digests: []evidence.Digest{digest(`"strict"`)}},
			{Repository: b, Digests: []evidence.Digest{digest(`"lax"`)}},
		},
		"all": {
			{Repository: a, Digests: []evidence.Digest{digest(`"old"`), digest(`"strict"`)}},
			{Repository: b, Digests: []evidence.Digest{digest(`"lax"`), digest(`"strict"`)}},
			{Repository: gone, Digests: []evidence.Digest{digest(`"old"`)}},
		},
	} {
		var anchors evidence.Anchors
		(&anchorsGetCommand{Policies: which}).pin(&anchors, opened)
		if diff := cmp.Diff(want, anchors.Policies); diff != "" {
			t.Errorf("%s (-want +got):\n%s", which, diff)
		}
	}
}

// TestAnchorsKeepWhatNoServerPublishes: the models and keys that somebody pinned stay when the rest is made anew.
func TestAnchorsKeepWhatNoServerPublishes(t *testing.T) {
	t.Parallel()
	log := &evidence.LogAnchor{Origin: "approvals.example/log"}
	former := evidence.Anchors{Log: log, Genesis: "g", Models: &evidence.Models{Number: 7}, Keys: []evidence.PinnedKey{{Person: "alice"}}, Roster: "old"}
	made := evidence.Anchors{Log: log, Genesis: "g", Roster: "new"}
	if err := succeeds(&made, former); err != nil {
		t.Fatal(err)
	}
	if want := (evidence.Anchors{Log: log, Genesis: "g", Models: former.Models, Keys: former.Keys, Roster: "new"}); !cmp.Equal(made, want) {
		t.Error(cmp.Diff(want, made))
	}
	for name, former := range map[string]evidence.Anchors{
		"another log":       {Log: &evidence.LogAnchor{Origin: "other.example/log"}, Genesis: "g"},
		"another workspace": {Log: log, Genesis: "h"},
	} {
		if err := succeeds(&made, former); err == nil {
			t.Errorf("%s: it is written over", name)
		}
	}
}
