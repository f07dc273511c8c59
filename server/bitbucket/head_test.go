package bitbucket_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

func TestPullRequestHead(t *testing.T) {
	t.Parallel()
	s := serve(t, answerJSON(`{"values":[{"hash":"`+headHash+`"},{"hash":"`+destHash+`"}],"next":"https://example.com/more"}`))
	head := must(s.client(bitbucket.Config{}).PullRequestHead(t.Context(), workspaceUUID, repoUUID, 7))(t)
	if head != headHash {
		t.Errorf("head %s", head)
	}
	if got := s.received(); len(got) != 1 || got[0].Path != repoPath+"/pullrequests/7/commits" || got[0].Query != "pagelen=1" {
		t.Errorf("asked %+v", got)
	}

	before := len(s.received())
	_, err := s.client(bitbucket.Config{}).PullRequestHead(t.Context(), workspaceUUID, repoUUID, 0)
	if asError(t, err).Class() != bitbucket.Permanent || len(s.received()) != before {
		t.Errorf("number 0: %v", err)
	}
}

func TestPullRequestHeadThatCannotBeTold(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no commits": `{"values":[]}`,
		"no list":    `{}`,
		"a prefix":   `{"values":[{"hash":"` + headHash[:12] + `"}]}`,
		"upper case": `{"values":[{"hash":"ABCDEF1111111111111111111111111111111111"}]}`,
		"no hash":    `{"values":[{}]}`,
		"null":       `{"values":[null]}`,
		"a SHA-256":  `{"values":[{"hash":"` + headHash + headHash[:24] + `"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			head, err := serve(t, answerJSON(body)).client(bitbucket.Config{}).PullRequestHead(t.Context(), workspaceUUID, repoUUID, 7)
			if failure := asError(t, err); failure.Class() != bitbucket.Transient || failure.Message == "" || head != "" {
				t.Errorf("got %q and %v", head, err)
			}
		})
	}
}

// The recorded list belongs to the recorded pull request 21, whose head is b6988a77079d.
func TestRecordedPullRequestHead(t *testing.T) {
	t.Parallel()
	const folder = "MistyKuu__bitbucket-for-visual-studio/"
	pr := must(replay(t, folder+"GetPullRequestResponse.json").PullRequest(t.Context(), workspaceUUID, repoUUID, 21))(t)
	head := must(replay(t, folder+"GetPullRequestCommitsResponse.json").PullRequestHead(t.Context(), workspaceUUID, repoUUID, 21))(t)
	if head != "b6988a77079d7f96127c085b5c34077d24e4f096" || head[:12] != pr.Source.CommitPrefix {
		t.Errorf("head %s of a pull request at %s", head, pr.Source.CommitPrefix)
	}
}

func TestRestrictionAppliesTo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, branch string
		want            bool
	}{
		{"main", "main", true},
		{"main", "Main", false},
		{"main", "maintenance", false},
		{"*", "release/1.0", true},
		{"*", "main", true},
		{"release/*", "release/1.0", true},
		{"release/*", "release/1.0/hot", true},
		{"release/*", "release/", true},
		{"release/*", "old/release/1", false},
		{"*/hot", "release/1/hot", true},
		{"*/hot", "release/hotter", false},
		{"a*b*c", "a/b/c", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "acb", false},
		{"a*bc*bc", "abc", false},
		{"a*a", "a", false},
		{"a**z", "az", true},
		{"hotfix/**", "hotfix/a/b", true},
		{"release.1", "release-1", false},
		{"", "main", false},
		// What is not explained anywhere counts as anything.
		{"release/?.?", "release/10.1", true},
		{"release/[0-9]", "release/x", true},
		{"release/{a,b}", "release/c", true},
		{"release/?", "main", false},
	} {
		r := bitbucket.BranchRestriction{Kind: bitbucket.RequireApprovals, MatchKind: bitbucket.MatchGlob, Pattern: test.pattern}
		if got := r.AppliesTo(test.branch); got != test.want {
			t.Errorf("%q applies to %q: %v", test.pattern, test.branch, got)
		}
	}
	model := bitbucket.BranchRestriction{Kind: bitbucket.RequireApprovals, MatchKind: bitbucket.MatchBranchingModel, BranchType: "release"}
	if !model.AppliesTo("main") {
		t.Error("a branch type must count as applying")
	}
}

// Whatever "*" is put for, the pattern applies.
func TestRestrictionAppliesToWhatItWasMadeOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.StringMatching(`[ab/]{0,3}`), 1, 6).Draw(t, "parts")
		pattern, branch := parts[0], parts[0]
		for _, part := range parts[1:] {
			pattern += "*" + part
			branch += rapid.StringMatching(`[ab/]{0,3}`).Draw(t, "filling") + part
		}
		r := bitbucket.BranchRestriction{MatchKind: bitbucket.MatchGlob, Pattern: pattern}
		if !r.AppliesTo(branch) {
			t.Fatalf("%q does not apply to %q", pattern, branch)
		}
		if r.AppliesTo(branch+"x") != (len(parts) > 1 && parts[len(parts)-1] == "") {
			t.Fatalf("%q and %q", pattern, branch+"x")
		}
	})
}
