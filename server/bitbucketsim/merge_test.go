package bitbucketsim_test

import (
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// diverge puts a commit on main that the feature branch does not have.
func (w *world) diverge() {
	w.t.Helper()
	must(w.t)(w.sim.Push(bitbucketsim.Push{
		Repository: "acme/rocket", Branch: "main", Person: "alice", Files: map[string]string{"NEWS": "news\n"},
	}))
}

func (w *world) restrict(kind string, more map[string]any) reply {
	w.t.Helper()
	body := map[string]any{"type": "branchrestriction", "kind": kind, "branch_match_kind": "glob", "pattern": "main"}
	for k, v := range more {
		body[k] = v
	}
	return w.as("alice").do(201, "POST", w.repo+"/branch-restrictions", body)
}

func (w *world) status(person, key, state string, refname any) {
	w.t.Helper()
	head := w.as("bob").get(w.repo + "/refs/branches/feature").str("target.hash")
	w.as(person).do(201, "POST", w.repo+"/commit/"+head+"/statuses/build", map[string]any{
		"key": key, "state": state, "url": "https://ci.example.com/", "refname": refname,
	})
}

func TestMergeStrategies(t *testing.T) {
	t.Parallel()
	for strategy, parents := range map[string]int{"merge_commit": 2, "squash": 1} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, bitbucketsim.Options{})
			w.open("Nozzle")
			w.diverge()
			before := w.as("bob").get(w.repo + "/refs/branches/main").str("target.hash")
			w.as("alice").do(200, "POST", w.repo+"/pullrequests/1/merge", map[string]any{
				"merge_strategy": strategy, "message": "Land it", "close_source_branch": true,
			})
			main := w.as("bob").get(w.repo + "/refs/branches/main")
			got, _ := main.at("target.parents").([]any)
			if len(got) != parents || main.str("target.parents.0.hash") != before {
				t.Errorf("parents are %v, want %d beginning with %s", got, parents, before)
			}
			if main.str("target.message") != "Land it\n" {
				t.Errorf("message is %q", main.str("target.message"))
			}
			for _, file := range []string{"NEWS", "src/nozzle.go"} {
				w.as("bob").get(w.repo + "/src/main/" + file)
			}
			w.as("bob").do(404, "GET", w.repo+"/refs/branches/feature", nil)
		})
	}
	t.Run("rebase_fast_forward", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		must(t)(w.sim.AddRepository(bitbucketsim.Repository{
			Workspace: "acme", Slug: "shuttle", Permissions: map[string]string{"bob": "write"}, MergeStrategies: []string{"rebase_fast_forward"},
		}))
		at := "/2.0/repositories/acme/shuttle"
		push := func(branch, file string) string {
			commit, err := w.sim.Push(bitbucketsim.Push{Repository: "acme/shuttle", Branch: branch, Person: "bob", Files: map[string]string{file: file}})
			if err != nil {
				t.Fatal(err)
			}
			return commit.Hash
		}
		push("feature", "nozzle")
		head := push("feature", "cooler")
		before := push("main", "news")
		w.as("bob").do(201, "POST", at+"/pullrequests", map[string]any{"title": "Nozzle", "source": map[string]any{"branch": map[string]any{"name": "feature"}}})
		w.as("bob").do(200, "POST", at+"/pullrequests/1/merge", map[string]any{})
		list := w.as("bob").get(at + "/commits/main?exclude=" + before)
		values, _ := list.at("values").([]any)
		if len(values) != 2 || list.str("values.0.message") != "Change cooler\n" || list.str("values.1.message") != "Change nozzle\n" {
			t.Fatalf("main got %v", values)
		}
		if list.str("values.0.hash") == head || list.str("values.0.parents.0.hash") != list.str("values.1.hash") || list.str("values.1.parents.0.hash") != before {
			t.Error("the commits were not put on top of main")
		}
		for _, file := range []string{"news", "nozzle", "cooler"} {
			w.as("bob").get(at + "/src/main/" + file)
		}
	})
	t.Run("fast_forward", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.open("Nozzle")
		head := w.as("bob").get(w.repo + "/refs/branches/feature").str("target.hash")
		w.as("alice").do(200, "POST", w.repo+"/pullrequests/1/merge", map[string]any{"merge_strategy": "fast_forward"})
		if got := w.as("bob").get(w.repo + "/refs/branches/main").str("target.hash"); got != head {
			t.Errorf("main is at %s, want the head %s", got, head)
		}
	})
	t.Run("fast_forward of a diverged branch", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.open("Nozzle")
		w.diverge()
		w.as("alice").do(400, "POST", w.repo+"/pullrequests/1/merge", map[string]any{"merge_strategy": "fast_forward"})
	})
	t.Run("not offered", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.open("Nozzle")
		w.as("alice").do(400, "POST", w.repo+"/pullrequests/1/merge", map[string]any{"merge_strategy": "rebase_merge"})
	})
}

func TestConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	must(t)(w.sim.Push(bitbucketsim.Push{
		Repository: "acme/rocket", Branch: "main", Person: "alice", Files: map[string]string{"src/nozzle.go": "package other\n"},
	}))
	out := w.as("alice").do(400, "POST", w.repo+"/pullrequests/1/merge", nil)
	if !strings.Contains(out.str("error.message"), "Conflicts") {
		t.Errorf("a conflict is told as %s", out.raw)
	}
	if got := w.as("alice").get(w.repo + "/pullrequests/1").str("state"); got != "OPEN" {
		t.Errorf("state is %s", got)
	}
}

func TestPassingBuildsAreRequired(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		statuses map[string]string
		refname  any
		want     int
	}{
		"none":              {map[string]string{}, "feature", 400},
		"one of two":        {map[string]string{"a": "SUCCESSFUL"}, "feature", 400},
		"two":               {map[string]string{"a": "SUCCESSFUL", "b": "SUCCESSFUL"}, "feature", 200},
		"one failed":        {map[string]string{"a": "SUCCESSFUL", "b": "SUCCESSFUL", "c": "FAILED"}, "feature", 400},
		"one running":       {map[string]string{"a": "SUCCESSFUL", "b": "SUCCESSFUL", "c": "INPROGRESS"}, "feature", 400},
		"one stopped":       {map[string]string{"a": "SUCCESSFUL", "b": "STOPPED"}, "feature", 400},
		"two, one stopped":  {map[string]string{"a": "SUCCESSFUL", "b": "SUCCESSFUL", "c": "STOPPED"}, "feature", 200},
		"of another branch": {map[string]string{"a": "SUCCESSFUL", "b": "SUCCESSFUL"}, "other", 400},
		"of no branch":      {map[string]string{"a": "SUCCESSFUL", "b": "SUCCESSFUL"}, nil, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, bitbucketsim.Options{})
			w.open("Nozzle")
			w.restrict("require_passing_builds_to_merge", map[string]any{"value": 2})
			w.restrict("enforce_merge_checks", nil)
			for key, state := range tt.statuses {
				w.status("dave", key, state, tt.refname)
			}
			w.as("alice").do(tt.want, "POST", w.repo+"/pullrequests/1/merge", nil)
		})
	}
}

func TestStatusOfAnOldHeadDoesNotCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	w.restrict("require_passing_builds_to_merge", map[string]any{"value": 1})
	w.restrict("enforce_merge_checks", nil)
	w.status("dave", "a", "SUCCESSFUL", "feature")
	must(t)(w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "feature", Person: "bob", Files: map[string]string{"x": "1"}}))
	w.as("alice").do(400, "POST", w.repo+"/pullrequests/1/merge", nil)
}

func TestChecksOnlyWarnUnlessEnforced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	w.restrict("require_approvals_to_merge", map[string]any{"value": 1})
	enforced := w.restrict("enforce_merge_checks", nil)
	merge := func(want int) {
		t.Helper()
		w.as("alice").do(want, "POST", w.repo+"/pullrequests/1/merge", nil)
	}
	merge(400)
	must(t)(w.sim.SetPlan(bitbucketsim.Plan{Workspace: "acme", Premium: false}))
	w.as("alice").do(403, "POST", w.repo+"/branch-restrictions", map[string]any{
		"kind": "enforce_merge_checks", "pattern": "release/*",
	})
	must(t)(w.sim.SetPlan(bitbucketsim.Plan{Workspace: "acme", Premium: true}))
	merge(400)
	w.as("alice").do(204, "DELETE", w.repo+strings.TrimPrefix(enforced.str("links.self.href"), w.sim.URL()+w.repo), nil)
	merge(200) // not enforced: a warning at most
}

func TestApprovalsAreRequired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	w.restrict("require_approvals_to_merge", map[string]any{"value": 2})
	w.restrict("require_no_changes_requested", nil)
	w.restrict("enforce_merge_checks", nil)
	at := w.repo + "/pullrequests/1"
	merge := func(want int) { t.Helper(); w.as("alice").do(want, "POST", at+"/merge", nil) }
	w.as("carol").do(200, "POST", at+"/approve", nil)
	w.as("carol").do(200, "POST", at+"/approve", nil) // counts once
	merge(400)
	w.as("dave").do(200, "POST", at+"/approve", nil)
	w.as("bob").do(200, "POST", at+"/request-changes", nil)
	merge(400)
	w.as("bob").do(204, "DELETE", at+"/request-changes", nil)
	w.as("bob").do(404, "DELETE", at+"/request-changes", nil)
	merge(200)
	w.as("dave").do(400, "DELETE", at+"/approve", nil) // merged already
}

func TestRestrictMergesAndPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	carol := w.as("carol").get("/2.0/user").str("uuid")
	only := map[string]any{"users": []any{map[string]any{"uuid": carol}}}
	w.restrict("restrict_merges", only)
	w.restrict("push", only)
	at := w.repo + "/pullrequests/1/merge"
	w.as("alice").do(403, "POST", at, nil)
	w.as("dave").do(403, "POST", at, nil) // reads only
	push := bitbucketsim.Push{Repository: "acme/rocket", Branch: "main", Person: "bob", Files: map[string]string{"x": "1"}}
	if _, err := w.sim.Push(push); err == nil {
		t.Error("bob pushed to a restricted branch")
	}
	push.Person = "carol"
	must(t)(w.sim.Push(push))
	w.as("carol").do(200, "POST", at, nil)
}

func TestDraftIsNotMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	at := w.repo + "/pullrequests/1"
	if w.as("bob").do(200, "PUT", at, map[string]any{"draft": true}).at("draft") != true {
		t.Error("the pull request is no draft")
	}
	w.as("alice").do(400, "POST", at+"/merge", nil)
}

func TestRetargeting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	at := w.repo + "/pullrequests/1"
	to := func(name string) map[string]any {
		return map[string]any{"destination": map[string]any{"branch": map[string]any{"name": name}}}
	}
	if got := w.as("bob").do(200, "PUT", at, to("release/1.0")).str("destination.branch.name"); got != "release/1.0" {
		t.Errorf("destination is %s", got)
	}
	w.as("bob").do(400, "PUT", at, to("nowhere"))
	w.as("dave").do(403, "PUT", at, to("main"))
	w.as("bob").do(200, "POST", at+"/decline", nil)
	w.as("bob").do(400, "PUT", at, to("main"))
}

func TestApprovalsAreResetOnPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	w.restrict("reset_pullrequest_approvals_on_change", nil)
	at := w.repo + "/pullrequests/1"
	w.as("carol").do(200, "POST", at+"/approve", nil)
	must(t)(w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "feature", Person: "bob", Files: map[string]string{"x": "1"}}))
	if got := w.as("bob").get(at).at("participants.0.approved"); got != false {
		t.Errorf("after the push approved is %v", got)
	}
}

func TestStatusRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	head := w.as("bob").get(w.repo + "/refs/branches/feature").str("target.hash")
	at := w.repo + "/commit/" + head + "/statuses/build"
	body := func(key, state string, refname any) map[string]any {
		return map[string]any{"key": key, "state": state, "url": "https://ci.example.com/", "refname": refname}
	}
	long := w.as("dave").do(400, "POST", at, body(strings.Repeat("é", 48), "FAILED", nil))
	if want := `{"error":{"fields":{"key":["Ensure this value has at most 40 characters (it has 48)."]}}}`; string(long.raw) != want {
		t.Errorf("a long key is refused with %s, want %s", long.raw, want)
	}
	w.as("dave").do(201, "POST", at, body(strings.Repeat("é", 40), "FAILED", nil))
	w.as("dave").do(400, "POST", at, body("k", "ALMOST", nil))
	w.as("dave").do(400, "POST", at, map[string]any{"state": "FAILED"})
	w.as("dave").do(404, "POST", w.repo+"/commit/"+strings.Repeat("0", 40)+"/statuses/build", body("k", "FAILED", nil))

	// Only the creator and administrators overwrite.
	first := w.as("dave").do(201, "POST", at, body("k", "INPROGRESS", "feature"))
	if first.str("author.nickname") != "dave" || first.str("commit.hash") != head {
		t.Errorf("status is %s", first.raw)
	}
	w.as("bob").do(403, "POST", at, body("k", "SUCCESSFUL", "feature"))
	w.as("bob").do(403, "PUT", at+"/k", map[string]any{"state": "SUCCESSFUL"})
	w.as("dave").do(200, "PUT", at+"/k", map[string]any{"state": "FAILED"})
	over := w.as("alice").do(201, "POST", at, body("k", "SUCCESSFUL", "feature"))
	if over.str("uuid") != first.str("uuid") || over.str("author.nickname") != "dave" {
		t.Errorf("overwriting made %s", over.raw)
	}
	// Another refname is another status, which anybody may create.
	other := w.as("bob").do(201, "POST", at, body("k", "FAILED", "elsewhere"))
	if other.str("uuid") == first.str("uuid") {
		t.Error("refname is no part of the identity")
	}
	shown, _ := w.as("bob").get(w.repo + "/pullrequests/1/statuses").at("values").([]any)
	if len(shown) != 2 {
		t.Errorf("%d statuses show on the pull request, want 2: those of its branch and of none", len(shown))
	}
	w.as("bob").do(404, "PUT", at+"/unknown", map[string]any{"state": "FAILED"})
	// A stranger sees nothing.
	w.as("erin").do(404, "POST", at, body("x", "FAILED", nil))
}

func TestForkStatusNeedsTheFork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	must(t)(w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "bobs", Owners: []string{"bob"}}))
	must(t)(w.sim.AddRepository(bitbucketsim.Repository{Workspace: "bobs", Slug: "rocket", ForkOf: "acme/rocket"}))
	made, ok := must(t)(w.sim.Push(bitbucketsim.Push{
		Repository: "bobs/rocket", Branch: "patch", Person: "bob", Files: map[string]string{"p": "1"},
	})).(bitbucketsim.Commit)
	if !ok {
		t.Fatal("no commit")
	}
	body := map[string]any{"key": "k", "state": "SUCCESSFUL", "url": "https://ci.example.com/"}
	w.as("bob").do(404, "POST", w.repo+"/commit/"+made.Hash+"/statuses/build", body)
	w.as("bob").do(201, "POST", "/2.0/repositories/bobs/rocket/commit/"+made.Hash+"/statuses/build", body)
	opened, ok := must(t)(w.sim.OpenPullRequest(bitbucketsim.PullRequest{
		Repository: "acme/rocket", Author: "bob", Title: "Patch", SourceRepository: "bobs/rocket", Source: "patch",
	})).(bitbucketsim.OpenedPullRequest)
	if !ok || opened.Head != made.Hash {
		t.Fatalf("opened %+v", opened)
	}
	shown, _ := w.as("alice").get(w.repo + "/pullrequests/1/statuses").at("values").([]any)
	if len(shown) != 0 {
		t.Errorf("%d statuses of the fork show on the pull request", len(shown))
	}
	redirect := w.as("bob").do(302, "GET", w.repo+"/pullrequests/1/diff", nil)
	if got := string(w.as("bob").get(redirect.header.Get("Location")).raw); !strings.Contains(got, "+++ b/p\n") {
		t.Errorf("the diff of the fork is %q", got)
	}
}
