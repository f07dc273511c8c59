package bitbucket_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

func TestRecordedPullRequests(t *testing.T) {
	t.Parallel()
	type want struct {
		id                     int64
		state                  bitbucket.PullRequestState
		source, sourceCommit   string
		sourceRepo             string
		target, targetCommit   string
		merge, closedBy        string
		participants, approved int
	}
	tests := map[string]want{
		"MistyKuu__bitbucket-for-visual-studio/GetPullRequestResponse.json": {
			21, bitbucket.Open, "testbranch", "b6988a77079d", "1e417585-0a5e-4fde-b960-6c0cf7a7c7eb",
			"ASD-ASD", "f2fd0045b8ff", "", "", 1, 0,
		},
		"danger__danger-js/bitbucket_cloud_pr.json": {
			324, bitbucket.Open, "fix/add-danger-message", "007bf2423436", "f6c37714-cfda-4298-aadb-08997b3eec24",
			"develop", "8a2eb414cb5d", "", "", 5, 1,
		},
		"drone__go-scm/pr.json": {
			4982, bitbucket.Open, "Lachlan-Vass/ios-date-picker-component-duplicate-marc-1579222909688", "31c54529bd80",
			"ffe76500-0627-43f6-a9c5-4d6373a5e4eb", "master", "710db794f15b", "", "", 0, 0,
		},
		"gildas__bitbucket-cli/pullrequest.json": {
			2, bitbucket.Merged, "feature/links", "2ae150fc05f8", "f12769c1-7465-4a94-b265-8b1b04e07cb5",
			"dev", "67a6aa42721a", "5663ada8560f", "4115785a-a1b9-4887-9af2-ca401bc7f168", 0, 0,
		},
		"jenkinsci__bitbucket-branch-source-plugin/2.0-repositories-amuniz-test-repos-pullrequests-2.json": {
			2, bitbucket.Open, "feature/BB-2", "046d9a3c1532", "62dbf0d6-95bb-44da-82ca-70d162135379",
			"master", "bf4f4ce8a3a8", "", "", 0, 0,
		},
		"runatlantis__atlantis/pull-approved-multiple.json": {
			12, bitbucket.Open, "lkysow/maintf-edited-online-with-bitbucket-1549990080103", "75d1e7c57cd9",
			"94189367-116b-436a-9f77-2314b97a6067", "main", "c641f2c615ad", "", "", 3, 2,
		},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := must(replay(t, name).PullRequest(t.Context(), workspaceUUID, repoUUID, want.id))(t)
			if p.ID != want.id || p.State != want.state || p.Draft || p.Title == "" || p.HTMLURL == "" {
				t.Errorf("got id %d, state %s, draft %v, title %q, page %q", p.ID, p.State, p.Draft, p.Title, p.HTMLURL)
			}
			if p.Source.Branch != want.source || p.Source.CommitPrefix != want.sourceCommit ||
				p.Source.Repository == nil || p.Source.Repository.UUID != want.sourceRepo {
				t.Errorf("source %+v, want %+v", p.Source, want)
			}
			if p.Destination.Branch != want.target || p.Destination.CommitPrefix != want.targetCommit || p.Destination.Repository == nil {
				t.Errorf("destination %+v, want %+v", p.Destination, want)
			}
			if (p.MergeCommit == nil) != (want.merge == "") || p.MergeCommit != nil && *p.MergeCommit != want.merge {
				t.Errorf("merge commit %v, want %q", p.MergeCommit, want.merge)
			}
			if (p.ClosedBy == nil) != (want.closedBy == "") || p.ClosedBy != nil && p.ClosedBy.UUID != want.closedBy {
				t.Errorf("closed by %+v, want %q", p.ClosedBy, want.closedBy)
			}
			approved := 0
			for _, participant := range p.Participants {
				if participant.User.UUID == "" || participant.Role == "" {
					t.Errorf("participant %+v", participant)
				}
				if participant.Approved {
					approved++
				}
			}
			if len(p.Participants) != want.participants || approved != want.approved {
				t.Errorf("%d participants, %d approved; want %d, %d", len(p.Participants), approved, want.participants, want.approved)
			}
			if p.CreatedOn.IsZero() || p.UpdatedOn.Before(p.CreatedOn) || p.Author.UUID == "" {
				t.Errorf("created %v, updated %v, author %+v", p.CreatedOn, p.UpdatedOn, p.Author)
			}
		})
	}
}

func TestRecordedPullRequestWithoutIdentityIsRefused(t *testing.T) {
	t.Parallel()
	// This body was written for a mock: its repositories have no real UUID.
	_, err := replay(t, "atlassian__atlascode/get-pullrequest.json").PullRequest(t.Context(), "mockuser", "test-repository", 123)
	failure := asError(t, err)
	contains(t, failure.Error(), "a repository has no UUID")
	if failure.Class() != bitbucket.Transient {
		t.Errorf("class %s", failure.Class())
	}
}

func TestRecordedLists(t *testing.T) {
	t.Parallel()
	t.Run("pull requests", func(t *testing.T) {
		t.Parallel()
		list := must(collect(replay(t, "drone__go-scm/prs.json").OpenPullRequests(t.Context(), workspaceUUID, repoUUID)))(t)
		if len(list) != 1 || list[0].ID != 4982 || list[0].Source.CommitPrefix != "31c54529bd80" || list[0].UpdatedOn.IsZero() {
			t.Errorf("got %+v", list)
		}
	})
	t.Run("branches", func(t *testing.T) {
		t.Parallel()
		c := replay(t, "jenkinsci__bitbucket-branch-source-plugin/2.0-repositories-amuniz-test-repos-refs-branches_pagelen_100.json")
		list := must(collect(c.Branches(t.Context(), workspaceUUID, repoUUID, "")))(t)
		if len(list) < 2 || list[0].Name != "feature/BB-1" || list[0].Head != "fb522a6f08c7c7df337312e4e65ec1b57710672e" ||
			list[0].DefaultMergeStrategy != bitbucket.MergeCommit ||
			!slices.Equal(list[0].MergeStrategies, []bitbucket.MergeStrategy{bitbucket.MergeCommit, bitbucket.Squash, bitbucket.FastForward}) {
			t.Errorf("got %+v", list)
		}
	})
	t.Run("diffstat", func(t *testing.T) {
		t.Parallel()
		list := must(collect(replay(t, "drone__go-scm/diffstat.json").DiffStat(t.Context(), workspaceUUID, repoUUID, bitbucket.OfPullRequest(1))))(t)
		if len(list) != 3 || list[0] != (bitbucket.FileChange{Status: "modified", OldPath: "CONTRIBUTING.md", NewPath: "CONTRIBUTING.md", LinesAdded: 15, LinesRemoved: 15}) {
			t.Errorf("got %+v", list)
		}
		if list[1].Status != "renamed" || list[1].OldPath == list[1].NewPath {
			t.Errorf("got %+v", list[1])
		}
	})
	t.Run("hooks", func(t *testing.T) {
		t.Parallel()
		list := must(collect(replay(t, "drone__go-scm/hooks.json").Hooks(t.Context(), workspaceUUID, repoUUID)))(t)
		if len(list) != 1 || list[0].UUID != "d53603cc-3f67-45ea-b310-aaa5ef6ec061" || !list[0].Active || list[0].SecretSet ||
			list[0].URL != "http://example.com/webhook" || len(list[0].Events) != 3 || list[0].CreatedAt.Year() != 2015 {
			t.Errorf("got %+v", list)
		}
	})
	t.Run("members", func(t *testing.T) {
		t.Parallel()
		list := must(collect(replay(t, "atlassian__atlascode/get-members.json").Members(t.Context(), "mockuser")))(t)
		if len(list) != 1 || list[0].AccountID != "123" || list[0].DisplayName != "Mock User" || list[0].UUID != "" {
			t.Errorf("got %+v", list)
		}
	})
	t.Run("workspaces", func(t *testing.T) {
		t.Parallel()
		list := must(collect(replay(t, "drone__go-scm/user_workspaces.json").Workspaces(t.Context())))(t)
		want := []bitbucket.Workspace{
			{UUID: "123e4567-e89b-12d3-a456-426614174000", Slug: "my-workspace", Name: "My Workspace", Administrator: true},
			{UUID: "987fcdeb-51a2-43f7-9c8b-123456789abc", Slug: "team-workspace", Name: "Team Workspace"},
		}
		if !slices.Equal(list, want) {
			t.Errorf("got %+v", list)
		}
	})
	t.Run("repositories", func(t *testing.T) {
		t.Parallel()
		page := must(replay(t, "drone__go-scm/repo_as_list.json").Repositories(t.Context(), workspaceUUID, "", ""))(t)
		if len(page.Repositories) != 1 || page.Next != "" {
			t.Fatalf("got %+v", page)
		}
		r := page.Repositories[0]
		if r.UUID != "7dd600e6-0d9c-4801-b967-cb4cc17359ff" || r.FullName != "atlassian/stash-example-plugin" || r.MainBranch != "master" ||
			r.WorkspaceSlug != "atlassian" || r.Slug != "stash-example-plugin" || !r.Private {
			t.Errorf("got %+v", r)
		}
		empty := must(replay(t, "drone__go-scm/repos_empty.json").Repositories(t.Context(), workspaceUUID, "", ""))(t)
		if len(empty.Repositories) != 0 || empty.Next != "" {
			t.Errorf("got %+v", empty)
		}
	})
	t.Run("emails", func(t *testing.T) {
		t.Parallel()
		list := must(replay(t, "atlassian__atlascode/get-user-emails.json").Emails(t.Context()))(t)
		if !slices.Equal(list, []bitbucket.Email{{Address: "mock@atlassian.code", Primary: true, Confirmed: true}}) {
			t.Errorf("got %+v", list)
		}
		// An address of which nothing is said is not confirmed.
		list = must(replay(t, "drone__go-scm/userEmail.json").Emails(t.Context()))(t)
		if !slices.Equal(list, []bitbucket.Email{{Address: "test@harness.io", Primary: true}}) {
			t.Errorf("got %+v", list)
		}
	})
}

func TestRecordedStatusesOfManyShapes(t *testing.T) {
	t.Parallel()
	const drone = "a6e5e7d797edf751cbd839d6bd4aef86c941eec9"
	s := must(replay(t, "drone__go-scm/status.json").GetStatus(t.Context(), workspaceUUID, repoUUID, drone, "drone"))(t)
	if s.State != bitbucket.StatusSuccessful || s.Commit != drone || s.RefName != "" || s.Author != nil || s.Name != "build-22" || s.UpdatedOn.IsZero() {
		t.Errorf("got %+v", s)
	}
	const jenkins = "046d9a3c1532acf4cf08fe93235c00e4d673c1d2"
	s = must(replay(t, "jenkinsci__bitbucket-branch-source-plugin/2.0-repositories-amuniz-test-repos-commit-"+jenkins+"-statuses-build.json").
		GetStatus(t.Context(), workspaceUUID, repoUUID, jenkins, "fe7e71305b004dd8dd5a124e1dae4c33"))(t)
	if s.State != bitbucket.StatusFailed || s.Commit != jenkins {
		t.Errorf("got %+v", s)
	}
	// The recorded list goes on at bitbucket.org, which is not the API: the first
	// page is delivered, then the list ends in an error.
	list, err := collect(replay(t, "drone__go-scm/statuses.json").Statuses(t.Context(), workspaceUUID, repoUUID, drone))
	if len(list) != 1 || list[0].Key != "drone" {
		t.Errorf("got %+v", list)
	}
	contains(t, asError(t, err).Error(), bitbucket.ErrForeignOrigin.Error())
}

func TestRecordedSingles(t *testing.T) {
	t.Parallel()
	t.Run("user", func(t *testing.T) {
		t.Parallel()
		u := must(replay(t, "drone__go-scm/user.json").CurrentUser(t.Context()))(t)
		if u.UUID != "87bb15eb-47c1-49b3-9f16-ca824a2979a4" || u.AccountID != "557058:2a6349dc-4346-4805-bd84-3abdd0812d17" ||
			u.DisplayName != "Brad Rydzewski" || u.Nickname != "brydzewski" || u.Type != "user" {
			t.Errorf("got %+v", u)
		}
	})
	t.Run("commits", func(t *testing.T) {
		t.Parallel()
		for _, hash := range []string{
			"046d9a3c1532acf4cf08fe93235c00e4d673c1d2", "bf4f4ce8a3a8d5c7dbfe7d609973a81a6c6664cf",
		} {
			name := "jenkinsci__bitbucket-branch-source-plugin/2.0-repositories-amuniz-test-repos-commit-" + hash[:12] + ".json"
			commit := must(replay(t, name).ResolveCommit(t.Context(), workspaceUUID, repoUUID, strings.ToUpper(hash[:12])))(t)
			if commit.Hash != hash || len(commit.Parents) == 0 || commit.Message == "" || commit.Author == "" || commit.Date.IsZero() {
				t.Errorf("got %+v", commit)
			}
			// The same answer to another question is refused.
			_, err := replay(t, name).ResolveCommit(t.Context(), workspaceUUID, repoUUID, "0123456789ab")
			contains(t, asError(t, err).Error(), "another commit")
		}
	})
	t.Run("branch", func(t *testing.T) {
		t.Parallel()
		b := must(replay(t, "jenkinsci__bitbucket-branch-source-plugin/2.0-repositories-amuniz-test-repos-refs-branches-master.json").
			Branch(t.Context(), workspaceUUID, repoUUID, "master"))(t)
		if b.Head != "bf4f4ce8a3a8d5c7dbfe7d609973a81a6c6664cf" || len(b.MergeStrategies) != 3 || b.DefaultMergeStrategy != bitbucket.MergeCommit {
			t.Errorf("got %+v", b)
		}
		_, err := replay(t, "drone__go-scm/branch.json").Branch(t.Context(), workspaceUUID, repoUUID, "main")
		contains(t, asError(t, err).Error(), "another branch")
	})
	t.Run("repository", func(t *testing.T) {
		t.Parallel()
		r := must(replay(t, "jenkinsci__bitbucket-branch-source-plugin/2.0-repositories-amuniz-test-repos.json").
			Repository(t.Context(), "amuniz", "test-repos"))(t)
		if r.FullName != "amuniz/test-repos" || r.UUID == "" || r.Slug != "test-repos" || r.HTMLURL == "" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("hook", func(t *testing.T) {
		t.Parallel()
		h := must(replay(t, "jenkinsci__bitbucket-branch-source-plugin/2.0-repositories-amuniz-test-repos-hooks.json").
			CreateHook(t.Context(), "amuniz", "test-repos", bitbucket.HookOptions{URL: "https://jenkins.io/", Events: []string{"repo:push"}}))(t)
		if h.UUID != "202cf34e-7ccf-44b7-ba6b-8827a14d5324" || !h.SecretSet || len(h.Events) != 5 {
			t.Errorf("got %+v", h)
		}
	})
	t.Run("diff", func(t *testing.T) {
		t.Parallel()
		want := recording(t, "atlassian__atlascode/get-diff.json")
		got := must(replay(t, "atlassian__atlascode/get-diff.json").Diff(t.Context(), workspaceUUID, repoUUID, bitbucket.Between(headHash, destHash), 0))(t)
		if string(got) != string(want) || !strings.HasPrefix(string(got), "diff --git ") {
			t.Errorf("got %q", got)
		}
	})
}

func TestRecordedPermissions(t *testing.T) {
	t.Parallel()
	const person = "d5bb8c49-f033-4498-910e-7e4b546b04ee"
	c := replay(t, "drone__go-scm/workspace_repo_perms.json")
	if got := must(c.RepositoryPermission(t.Context(), workspaceUUID, repoUUID, "{"+strings.ToUpper(person)+"}"))(t); got != bitbucket.PermissionAdmin {
		t.Errorf("got %s", got)
	}
	// The same list says nothing about somebody else, filter or not.
	if got := must(c.RepositoryPermission(t.Context(), workspaceUUID, repoUUID, userUUID))(t); got != bitbucket.PermissionNone {
		t.Errorf("got %s", got)
	}
	// An entry that names nobody is nobody's.
	c = replay(t, "drone__go-scm/workspace_repo_perms_read.json")
	if got := must(c.RepositoryPermission(t.Context(), workspaceUUID, repoUUID, person))(t); got != bitbucket.PermissionNone {
		t.Errorf("got %s", got)
	}
	list := must(collect(replay(t, "drone__go-scm/perms.json").RepositoryPermissions(t.Context(), workspaceUUID, repoUUID)))(t)
	if len(list) != 1 || list[0].Permission != bitbucket.PermissionAdmin || list[0].User.UUID != "87bb15eb-47c1-49b3-9f16-ca824a2979a4" {
		t.Errorf("got %+v", list)
	}
}

func TestRecordedErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		message, detail, field, complaint string
	}{
		"drone__go-scm/error.json":                    {message: "Repository dev/null not found"},
		"jenkins-x__go-scm/error.json":                {message: "Repository dev/null not found"},
		"drone__go-scm/content_fail.json":             {message: "No such file or directory: README.md.asdas"},
		"gildas__bitbucket-cli/error-noapi.json":      {message: "Resource not found", detail: "There is no API hosted at this URL"},
		"gildas__bitbucket-cli/error-badrequest.json": {message: "Bad request", field: "links.avatar", complaint: "required key not provided"},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := string(recording(t, name))
			c := serve(t, answer(http.StatusNotFound, "application/json", body)).client(bitbucket.Config{})
			_, err := c.Repository(t.Context(), "dev", "null")
			failure := asError(t, err)
			if failure.Message != want.message || failure.Detail != want.detail || !failure.NotFound() {
				t.Errorf("got %+v", failure)
			}
			if want.field != "" && !slices.Equal(failure.Fields[want.field], []string{want.complaint}) {
				t.Errorf("fields %v", failure.Fields)
			}
			contains(t, failure.Error(), want.message)
		})
	}
}

// TestPathsAreInTheSpecification compares every request of the package with the
// recorded OpenAPI description of Bitbucket, which is older than some paths.
func TestPathsAreInTheSpecification(t *testing.T) {
	t.Parallel()
	var spec map[string]map[string]json.RawMessage
	if err := json.Unmarshal(recording(t, "MunifTanjim__node-bitbucket/paths.json"), &spec); err != nil {
		t.Fatal(err)
	}
	newer := []string{"/user/workspaces"} // replaced /workspaces in 2026
	s := serve(t, answer(http.StatusTeapot, "text/plain", ""))
	calls := everyCall(t.Context(), s.client(bitbucket.Config{}))
	for _, call := range calls {
		before := len(s.received())
		if err := call.run(); err == nil {
			t.Fatalf("%s succeeded", call.name)
		}
		requests := s.received()
		if len(requests) != before+1 {
			t.Errorf("%s sent %d requests", call.name, len(requests)-before)
			continue
		}
		got := requests[before]
		path := strings.TrimPrefix(got.Path, "/2.0")
		if path == got.Path {
			t.Errorf("%s: path %s", call.name, got.Path)
		}
		known := slices.Contains(newer, path)
		for template, methods := range spec {
			if _, ok := methods[strings.ToLower(got.Method)]; ok && matches(template, path) {
				known = true
			}
		}
		if !known {
			t.Errorf("%s: %s %s is not in the specification", call.name, got.Method, got.Path)
		}
	}
}

// matches compares a path with a template, segment by segment.
func matches(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !strings.HasPrefix(want[i], "{") {
			return false
		}
	}
	return true
}
