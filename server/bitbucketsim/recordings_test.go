package bitbucketsim_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// recordings is the directory of recorded third-party data. It lies beside the repository; without it the
// tests that compare with it are skipped, which is the only reason to skip in this package.
func recordings(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(bitbucketsim.RepositoryRoot(t), "..", "shared", "testdata")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the recordings in ../shared/testdata are absent")
	}
	return dir
}

func recording(t *testing.T, name string) any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(recordings(t), filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// Sources of recordings.
const (
	barolo   = "B-AROL-O__ble-testsuite/"
	drone    = "drone__go-scm/"
	jenkinsX = "jenkins-x__go-scm/"
	source   = "jenkinsci__bitbucket-branch-source-plugin/"
	pushPR   = "jenkinsci__bitbucket-push-and-pull-request-plugin/"
	atlantis = "runatlantis__atlantis/"
	gildas   = "gildas__bitbucket-cli/"
	codacy   = "codacy__bitbucket-scala-client/"
	danger   = "danger__danger-js/"
	misty    = "MistyKuu__bitbucket-for-visual-studio/"
	php      = "BitbucketPHP__Client/"
	atlas    = "atlassian__atlascode/"
	samples  = "go-playground__webhooks/"
	inRepos  = source + "2.0-repositories-amuniz-test-repos-"
)

// kind is one kind of answer or event, with the recordings that show what it looks like.
type kind struct {
	name string
	// definition is what the OpenAPI document calls an answer of this kind; empty for webhooks.
	definition string
	files      []string
	// within leads to the object inside a recording that wraps it.
	within string
	// mine says which answers of the story are of this kind; nil for a webhook, whose name is its event.
	mine func(exchange) bool
	// mineWithin leads to the object inside our answer.
	mineWithin string
	// only narrows our answers or events down to those that are like the recordings.
	only func(any) bool
}

func kinds() []kind {
	// is matches answers by method, status and the path below the repository.
	is := func(method string, status int, patterns ...string) func(exchange) bool {
		return func(x exchange) bool {
			return x.method == method && x.reply.status == status && pathMatches(x.path, patterns)
		}
	}
	const repo = "/repositories/*/*"
	return []kind{
		{name: "user", definition: "account", files: []string{atlantis + "user.json", drone + "user.json", codacy + "user.json"}, mine: is("GET", 200, "/user")},
		{name: "token", files: []string{atlas + "access-token-bb-cloud.json"}, within: "response.jsonBody", mine: is("POST", 200, tokenPath)},
		{name: "e-mail addresses", files: []string{atlas + "get-user-emails.json"}, within: "response.jsonBody", mine: is("GET", 200, "/user/emails")},
		{name: "e-mail address", files: []string{codacy + "user_emails.json"}, within: "[]", mine: is("GET", 200, "/user/emails"), mineWithin: "values.[]"},
		{name: "members", files: []string{atlas + "get-members.json"}, within: "response.jsonBody", mine: is("GET", 200, "/workspaces/*/members")},
		{name: "workspace", definition: "workspace", files: []string{gildas + "workspace.json", drone + "team.json", php + "workspaces-show-success.json"}, mine: is("GET", 200, "/workspaces/*")},
		{name: "repository", definition: "repository", files: []string{gildas + "repository.json", inRepos[:len(inRepos)-1] + ".json", source + "getRepositoryPayload.json", drone + "repo.json"}, mine: is("GET", 200, repo)},
		{name: "repositories", files: []string{drone + "repo_as_list.json", drone + "repos.json"}, mine: is("GET", 200, "/repositories/*")},
		{name: "repository permissions", files: []string{drone + "perms.json"}, mine: is("GET", 200, "/workspaces/*/permissions/repositories/*", "/user/workspaces/*/permissions/repositories")},
		{name: "branch", definition: "branch", files: []string{gildas + "branch.json", drone + "branch.json", inRepos + "refs-branches-master.json", inRepos + "refs-branches-feature_2FBB-1.json", inRepos + "refs-branches-feature_2FBB-2.json", inRepos + "refs-branches-release_2Frelease-1.json"}, mine: is("GET", 200, repo+"/refs/branches/**")},
		{name: "branches", files: []string{drone + "branches.json"}, mine: is("GET", 200, repo+"/refs/branches")},
		{name: "commit", definition: "commit", files: []string{gildas + "commit.json", drone + "commit.json", codacy + "get_a_commit_1.json", inRepos + "commit-046d9a3c1532.json", inRepos + "commit-174561d625c9.json", inRepos + "commit-bf0e8b7962c0.json", inRepos + "commit-bf4f4ce8a3a8.json", inRepos + "commit-e6cd2efc892e.json"}, mine: is("GET", 200, repo+"/commit/*")},
		{name: "commit of a pull request", definition: "commit", files: []string{danger + "bitbucket_cloud_commits.json"}, within: "[]", mine: is("GET", 200, repo+"/pullrequests/*/commits"), mineWithin: "values.[]"},
		{name: "commits of a pull request", definition: "paginated_changeset", files: []string{misty + "GetPullRequestCommitsResponse.json"}, mine: is("GET", 200, repo+"/pullrequests/*/commits")},
		{name: "diffstat", definition: "paginated_diffstats", files: []string{drone + "diffstat.json", drone + "pr_diffstat.json", jenkinsX + "diffstat.json"}, mine: is("GET", 200, repo+"/diffstat/**")},
		{name: "pull request", definition: "pullrequest", files: []string{
			gildas + "pullrequest.json", inRepos + "pullrequests-1.json", inRepos + "pullrequests-2.json", misty + "GetPullRequestResponse.json",
			danger + "bitbucket_cloud_pr.json", drone + "pr.json", jenkinsX + "pr_create.json", atlantis + "pull-approved.json", atlantis + "pull-approved-multiple.json",
		}, mine: is("GET", 200, repo+"/pullrequests/*")},
		{name: "pull requests", definition: "paginated_pullrequests", files: []string{drone + "prs.json", misty + "GetPullRequestForBranchesResponse.json"}, mine: is("GET", 200, repo+"/pullrequests")},
		{name: "participant", definition: "participant", files: []string{gildas + "participant.json"}, mine: is("POST", 200, repo+"/pullrequests/*/approve", repo+"/pullrequests/*/request-changes")},
		{name: "comments", definition: "paginated_pullrequest_comments", files: []string{drone + "prcomments.json"}, mine: is("GET", 200, repo+"/pullrequests/*/comments")},
		{name: "status", definition: "commitstatus", files: []string{drone + "status.json", jenkinsX + "status.json", inRepos + "commit-046d9a3c1532acf4cf08fe93235c00e4d673c1d2-statuses-build.json"}, mine: func(x exchange) bool {
			return (x.reply.status == 200 || x.reply.status == 201) && pathMatches(x.path, []string{repo + "/commit/*/statuses/build", repo + "/commit/*/statuses/build/*"})
		}},
		{name: "statuses", files: []string{drone + "statuses.json"}, mine: is("GET", 200, repo+"/commit/*/statuses", repo+"/pullrequests/*/statuses")},
		{name: "webhook subscription", definition: "webhook_subscription", files: []string{drone + "hook.json", inRepos + "hooks.json", inRepos + "hooks-_7B202cf34e-7ccf-44b7-ba6b-8827a14d5324_7D.json"}, mine: is("GET", 200, repo+"/hooks/*")},
		{name: "newest webhook subscription", definition: "webhook_subscription", files: []string{inRepos + "hooks.json"}, mine: func(x exchange) bool {
			return (x.reply.status == 200 || x.reply.status == 201) && x.method != "GET" && pathMatches(x.path, []string{repo + "/hooks", repo + "/hooks/*"})
		}},
		{name: "webhook subscriptions", files: []string{drone + "hooks.json"}, mine: is("GET", 200, repo+"/hooks")},
		{name: "error", definition: "error", files: []string{drone + "error.json", jenkinsX + "error.json", drone + "content_fail.json"}, mine: func(x exchange) bool {
			return x.reply.status >= 400 && !pathMatches(x.path, []string{repo + "/commit/*/statuses/build"})
		}},
		{name: "error of a request body", definition: "error", files: []string{gildas + "error-badrequest.json"}, mine: is("POST", 400, repo+"/hooks")},
		{name: "error of an unknown address", definition: "error", files: []string{gildas + "error-noapi.json"}, mine: is("GET", 404, "/nothing/here")},

		{name: "pullrequest:created", files: []string{barolo + "2023-05-11-165428-webhook-site.json", drone + "pr_created.json", source + "createPayloadFork.json", source + "pullrequest_created.json", atlantis + "bitbucket-cloud-pull-event-created.json"}},
		{name: "pullrequest:created", files: []string{source + "pullrequest_created.json"}}, // the newest alone: all of its fields
		{name: "pullrequest:updated", files: []string{drone + "pr_updated.json", source + "updatePayload_newCommit.json", source + "updatePayload_newDestinationCommit.json", pushPR + "pr_updated.json"}},
		{name: "pullrequest:approved", files: []string{barolo + "2023-05-12-134542-webhook-site.json"}},
		{name: "pullrequest:unapproved", files: []string{samples + "pull-request-approval-removed.json"}, within: "approval", mineWithin: "approval"},
		{name: "pullrequest:fulfilled", files: []string{barolo + "2023-05-12-134550-webhook-site.json", drone + "pr_fulfilled.json", source + "fulfilledPayload.json", atlantis + "bitbucket-cloud-pull-event-fulfilled.json"}},
		{name: "pullrequest:rejected", files: []string{drone + "pr_declined.json", source + "rejectedPayload.json"}},
		{name: "pullrequest:comment_created", files: []string{drone + "pr_comment_created.json", atlantis + "bitbucket-cloud-comment-event.json"}},
		{name: "pullrequest:comment_updated", files: []string{pushPR + "pr_comment_updated.json"}, only: func(v any) bool { return len(descend(v, "comment.inline")) == 1 }},
		{name: "pullrequest:comment_deleted", files: []string{drone + "pr_comment_deleted.json"}},
		{name: "repo:commit_status_created", files: []string{drone + "pipeline_hook_created.json"}},
		{name: "repo:commit_status_updated", files: []string{drone + "pipeline_hook_update.json"}},
		{name: "repo:updated", files: []string{samples + "repo-updated.json"}},
		{name: "repo:push", files: []string{
			barolo + "2023-05-11-120942-webhook-site.json", barolo + "2023-05-15-150855-webhook-site.json", barolo + "2023-05-11-165427-webhook-site.json",
			barolo + "2023-05-12-134549-webhook-site.json", drone + "push_branch_create.json", drone + "push_branch_delete.json", drone + "push.json",
			source + "createPayload.json", source + "branch_deleted.json", source + "commit_created.json", source + "updatePayload.json", pushPR + "repo_push.json",
			"woodpecker-ci__woodpecker/HookPush.json",
		}},
		{name: "repo:push", files: []string{source + "branch_deleted.json"}, only: changeIs("closed")},
		{name: "repo:push", files: []string{source + "commit_created.json"}, only: changeIs("forced")},
	}
}

// changeIs accepts a push event whose only change has a flag set.
func changeIs(flag string) func(any) bool {
	return func(v any) bool {
		set := descend(v, "push.changes.[]."+flag)
		return len(set) == 1 && set[0] == true
	}
}

// pathMatches compares a path with patterns in which * is one segment and ** any number.
func pathMatches(path string, patterns []string) bool {
	for _, p := range patterns {
		if segmentsMatch(splitPath(path), splitPath(p)) {
			return true
		}
	}
	return false
}

func segmentsMatch(path, pattern []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			return len(path) > 0
		}
		if len(path) == 0 || (pattern[0] != "*" && pattern[0] != path[0]) {
			return false
		}
		path, pattern = path[1:], pattern[1:]
	}
	return len(path) == 0
}
