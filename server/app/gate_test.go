package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// approvedVector is the good bundle of the vectors whose request was approved and merged, with all its anchors.
func approvedVector(t testing.TB) ([]byte, evidence.Anchors) {
	t.Helper()
	return vector(t, "good-approved")
}

// vector is a bundle of the vectors, with its anchors.
func vector(t testing.TB, name string) ([]byte, evidence.Anchors) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "evidence", "testdata", "vectors", "bundles", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var vector struct {
		Bundle  string
		Anchors evidence.Anchors
	}
	if err := json.Unmarshal(raw, &vector); err != nil {
		t.Fatal(err)
	}
	return []byte(vector.Bundle), vector.Anchors
}

// TestTheGateLetsNothingThroughBesideTheChange: what is deployed is the whole tree, with what came to the branch before the change.
func TestTheGateLetsNothingThroughBesideTheChange(t *testing.T) {
	t.Parallel()
	raw, anchors := approvedVector(t)
	report := evidence.Verify(raw, anchors)
	change, ok := report.Change()
	if !ok {
		t.Fatal(report.Sentence())
	}
	between := strings.Repeat("b", 40)
	for name, c := range map[string]struct {
		method  evidence.Method
		between []string
		commit  string
		code    int
	}{
		"a merge commit":                      {evidence.MergeCommit, nil, change.Landed, 0},
		"a merge commit after another change": {evidence.MergeCommit, []string{between}, change.Landed, 2},
		"a rebase-merge after another change": {evidence.RebaseMerge, []string{between}, change.Landed, 2},
		"a squash":                            {evidence.Squash, nil, change.Landed, 0},
		"a squash after another change":       {evidence.Squash, []string{between}, change.Landed, 2},
		"the head, which does not have it":    {evidence.MergeCommit, []string{between}, change.Head, 0},
	} {
		var views []evidence.RepositoryView
		for _, shown := range change.Shown {
			views = append(views, evidence.RepositoryView{Bases: shown.MergeBases, Bytes: true, Source: "given"})
		}
		full := report.Recompute(evidence.Repository{Views: views, Landing: &evidence.Landing{
			Relation: evidence.CleanReplay, Method: c.method, Commit: change.Landed, Onto: strings.Repeat("a", 40), Between: c.between, OnBranch: true,
		}})
		gate := verifyCommand{Commit: c.commit, Repository: change.Repository, Branch: change.Branch, Repo: "."}
		outcome, code := gate.judge(full, raw, c.commit)
		if code != c.code || c.code == 2 && outcome.Code != gateAsserted {
			t.Errorf("%s: exit %d, %+v", name, code, outcome)
		}
		if named := strings.Contains(outcome.Sentence, between); c.code == 2 && c.method != evidence.Squash && !named {
			t.Errorf("%s: %s", name, outcome.Sentence)
		}
	}
}

// TestTheGateNeedsEvidenceOfWhatCameInBetween asks a server that has none of a commit, or cannot say which one is meant. Any other
// refusal is an error.
func TestTheGateNeedsEvidenceOfWhatCameInBetween(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]int{refusal.NotFound: 2, gate.CodeAmbiguousCommit: 2, "FORBIDDEN": 1} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(monitor.CodeHeader, code)
			w.WriteHeader(http.StatusBadRequest)
		}))
		defer server.Close()
		client, err := monitor.NewClient(server.URL, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		c := verifyCommand{MaxBetween: 1}
		_, outcome, exit, err := c.between(t.Context(), client, place{}, evidence.Anchors{}, looked{found: evidence.Repository{Rests: []string{strings.Repeat("b", 40)}}}, new(rosters))
		if exit != want || (err != nil) != (want == 1) || want == 2 && outcome.Code != gateAsserted {
			t.Errorf("%s: exit %d, %+v, %v", code, exit, outcome, err)
		}
	}
}

// TestAMergeAfterItsRequestEndedDoesNotPass: the evidence of a request that was closed ends with that, and says nothing of what landed.
func TestAMergeAfterItsRequestEndedDoesNotPass(t *testing.T) {
	t.Parallel()
	raw, anchors := vector(t, "good-stolen-of-three-when-it-was-superseded")
	report := evidence.Verify(raw, anchors)
	change, ok := report.Change()
	if !ok || change.Landed != "" {
		t.Fatalf("%s: %+v", report.Sentence(), change)
	}
	for _, commit := range []string{strings.Repeat("c", 40), change.Head} {
		c := verifyCommand{Commit: commit, Repository: change.Repository, Branch: change.Branch}
		if outcome, code := c.judge(report, raw, commit); code != 1 || outcome.Code != gateClosed || !strings.Contains(outcome.Sentence, "the approval ended with it") {
			t.Errorf("%s: exit %d, %+v", commit, code, outcome)
		}
	}
}
