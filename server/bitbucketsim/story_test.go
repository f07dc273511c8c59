package bitbucketsim_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// exchange is one call of the story and its answer.
type exchange struct {
	method, path string // path as it was sent, below /2.0, without the query
	reply        reply
}

// story is everything that the Sim said while it was driven through its whole API: the material of the
// conformance tests.
type story struct {
	exchanges []exchange
	events    map[string][]any // decoded webhook bodies by event
}

// tokenPath is where OAuth tokens are had; it is no operation of the REST API.
const tokenPath = "/site/oauth2/access_token"

// teller makes the calls of a story and keeps them.
type teller struct {
	*client
	story *story
}

func (c *teller) call(want int, method, path string, body any) reply {
	c.w.t.Helper()
	out := c.do(want, method, path, body)
	u, err := url.Parse(path)
	if err != nil {
		c.w.t.Fatal(err)
	}
	c.story.exchanges = append(c.story.exchanges, exchange{method, strings.TrimPrefix(u.EscapedPath(), "/2.0"), out})
	return out
}

func (c *teller) get(path string) reply { c.w.t.Helper(); return c.call(200, "GET", path, nil) }

type object = map[string]any

// play drives the Sim through every operation that it has.
func play(t *testing.T) *story {
	t.Helper()
	w := newWorld(t, bitbucketsim.Options{AsyncMergeDelay: time.Millisecond})
	st := &story{events: map[string][]any{}}
	as := func(n string, scopes ...string) *teller { return &teller{w.as(n, scopes...), st} }
	alice, bob, carol, dave := as("alice"), as("bob"), as("carol"), as("dave")
	hooks := newReceiver(t)
	repo := w.repo

	// Accounts and workspaces.
	me := alice.get("/2.0/user")
	alice.get("/2.0/user/emails")
	alice.get("/2.0/user/workspaces")
	alice.get("/2.0/user/workspaces/acme/permission")
	alice.get("/2.0/user/workspaces/acme/permissions/repositories")
	alice.get("/2.0/users/" + url.PathEscape(me.str("uuid")))
	ws := alice.get("/2.0/workspaces/acme")
	alice.get("/2.0/workspaces/" + url.PathEscape(ws.str("uuid")))
	alice.get("/2.0/workspaces/acme/members")
	alice.get("/2.0/workspaces/acme/members/" + url.PathEscape(me.str("uuid")))
	alice.get("/2.0/workspaces/acme/permissions?q=" + url.QueryEscape(`permission="owner"`))
	alice.get("/2.0/workspaces/acme/permissions/repositories/rocket")
	for _, gone := range []string{"/2.0/workspaces", "/2.0/repositories", "/2.0/user/permissions/workspaces", "/2.0/user/permissions/repositories"} {
		alice.call(410, "GET", gone, nil)
	}

	// A token, as an OAuth client gets it.
	conf := w.consumer("account")
	tok := w.token(conf, url.Values{
		"grant_type": {"authorization_code"}, "code": {w.code(conf, "bob")}, "redirect_uri": {callback},
	}, 200)
	st.exchanges = append(st.exchanges, exchange{"POST", tokenPath, tok})

	// Webhooks: of the workspace, then of the repository.
	all := bitbucketsim.HookEvents()
	hook := object{"description": "story", "url": hooks.URL, "active": true, "events": all, "secret": "s3cret"}
	for _, base := range []string{"/2.0/workspaces/acme", repo} {
		alice.call(400, "POST", base+"/hooks", object{"description": "no url"})
		made := alice.call(201, "POST", base+"/hooks", hook)
		at := base + "/hooks/" + url.PathEscape(made.str("uuid"))
		alice.get(base + "/hooks")
		alice.get(at)
		alice.call(200, "PUT", at, object{"description": "changed", "url": hooks.URL, "active": true, "events": all})
		if base == repo {
			second := alice.call(201, "POST", base+"/hooks", hook)
			at = base + "/hooks/" + url.PathEscape(second.str("uuid"))
		}
		alice.call(204, "DELETE", at, nil)
	}

	// Repositories, refs, commits and content.
	alice.get("/2.0/repositories/acme?role=admin&q=" + url.QueryEscape(`name~"rock"`))
	r := alice.get(repo)
	alice.get("/2.0/repositories/" + url.PathEscape(ws.str("uuid")) + "/" + url.PathEscape(r.str("uuid")))
	alice.get(repo + "/permissions-config/users")
	alice.get(repo + "/permissions-config/users/" + url.PathEscape(bob.get("/2.0/user").str("uuid")))
	alice.get(repo + "/refs/branches")
	release := alice.get(repo + "/refs/branches/release/1.0")
	head := alice.get(repo + "/refs/branches/feature").str("target.hash")
	alice.get(repo + "/commits?pagelen=1")
	alice.get(repo + "/commits/feature?exclude=main")
	alice.get(repo + "/commit/" + head[:12])
	alice.get(repo + "/src/" + head + "/src/main.go")
	alice.get(repo + "/merge-base/" + head + ".." + release.str("target.hash"))
	alice.get(repo + "/diff/" + head)
	alice.get(repo + "/diffstat/" + head + "..main")

	// Branch restrictions.
	made := alice.call(201, "POST", repo+"/branch-restrictions", object{
		"type": "branchrestriction", "kind": "require_passing_builds_to_merge", "branch_match_kind": "glob",
		"pattern": "main", "value": 1,
	})
	alice.call(201, "POST", repo+"/branch-restrictions", object{
		"type": "branchrestriction", "kind": "enforce_merge_checks", "branch_match_kind": "glob", "pattern": "main",
	})
	extra := alice.call(201, "POST", repo+"/branch-restrictions", object{
		"type": "branchrestriction", "kind": "restrict_merges", "branch_match_kind": "branching_model",
		"branch_type": "hotfix", "users": []any{object{"uuid": me.str("uuid")}}, "groups": []any{},
	})
	alice.call(400, "POST", repo+"/branch-restrictions", object{"kind": "nonsense"})
	alice.get(repo + "/branch-restrictions")
	rule := func(x reply) string { return x.str("links.self.href")[len(w.sim.URL()):] }
	alice.get(rule(made))
	alice.call(200, "PUT", rule(made), object{"type": "branchrestriction", "value": 1})
	alice.call(204, "DELETE", rule(extra), nil)
	bob.call(403, "GET", repo+"/branch-restrictions", nil)

	// A pull request, with everything that can be done to it.
	open := func(title, source string) string {
		pr := bob.call(201, "POST", repo+"/pullrequests", object{
			"title": title, "description": "Some words", "source": object{"branch": object{"name": source}},
			"destination": object{"branch": object{"name": "main"}}, "reviewers": []any{object{"uuid": me.str("uuid")}},
		})
		return pr.str("links.self.href")[len(w.sim.URL()):]
	}
	bob.call(400, "POST", repo+"/pullrequests", object{"title": "no source"})
	pr := open("Nozzle", "feature")
	bob.call(200, "PUT", pr, object{"title": "Nozzle, better", "draft": false})
	push := func(branch, file, content string, force bool, from string) {
		t.Helper()
		must(t)(w.sim.Push(bitbucketsim.Push{
			Repository: "acme/rocket", Branch: branch, Person: "bob", From: from, Force: force,
			Files: map[string]string{file: content},
		}))
	}
	push("feature", "src/nozzle.go", "package main\n\nvar nozzle = 2\n", false, "")
	push("feature", "README.md", "# Rocket\n\nIt flies.\n", false, "")
	head = alice.get(repo + "/refs/branches/feature").str("target.hash")
	for _, kind := range []string{"diff", "diffstat"} {
		to := alice.call(302, "GET", pr+"/"+kind, nil).header.Get("Location")
		alice.get(to[len(w.sim.URL()):])
	}
	alice.get(repo + "/pullrequests?state=OPEN&pagelen=50")
	alice.get(repo + "/pullrequests?fields=%2Bvalues.participants,%2Bvalues.reviewers")
	carol.call(200, "POST", pr+"/approve", nil)
	carol.call(204, "DELETE", pr+"/approve", nil)
	carol.call(200, "POST", pr+"/request-changes", nil)
	carol.call(204, "DELETE", pr+"/request-changes", nil)
	carol.call(200, "POST", pr+"/approve", nil)
	said := carol.call(201, "POST", pr+"/comments", object{"content": object{"raw": "Looks right"}})
	thread := said.str("links.self.href")[len(w.sim.URL()):]
	note := carol.call(201, "POST", pr+"/comments", object{
		"content": object{"raw": "Here"}, "inline": object{"path": "src/nozzle.go", "to": 3},
	})
	carol.call(200, "PUT", note.str("links.self.href")[len(w.sim.URL()):], object{"content": object{"raw": "Here, I think"}})
	alice.call(201, "POST", pr+"/comments", object{"content": object{"raw": "Yes"}, "parent": object{"id": said.at("id")}})
	carol.get(pr + "/comments")
	carol.get(thread)
	carol.call(200, "PUT", thread, object{"content": object{"raw": "Looks right to me"}})
	carol.call(200, "POST", thread+"/resolve", nil)
	carol.call(204, "DELETE", thread+"/resolve", nil)
	carol.call(204, "DELETE", thread, nil)
	alice.get(pr)
	alice.get(pr + "/commits")

	// Builds, and a merge that waits for them.
	blocked := alice.call(400, "POST", pr+"/merge", object{"type": "pullrequest"})
	if blocked.str("error.message") == "" {
		t.Errorf("a blocked merge says %s", blocked.raw)
	}
	build := repo + "/commit/" + head + "/statuses"
	status := object{
		"key": "build", "state": "INPROGRESS", "name": "Build", "description": "Running", "refname": "feature",
		"url": "https://ci.example.com/{repository.full_name}/1",
	}
	dave.call(201, "POST", build+"/build", status)
	dave.call(200, "PUT", build+"/build/build", object{"state": "SUCCESSFUL", "refname": "feature"})
	dave.call(201, "POST", build+"/build", object{"key": "lint", "state": "SUCCESSFUL", "url": "https://ci.example.com/2"})
	bob.call(403, "PUT", build+"/build/build", object{"state": "FAILED"})
	dave.call(400, "POST", build+"/build", object{"key": strings.Repeat("k", 48), "state": "FAILED", "url": "https://ci.example.com"})
	dave.get(build)
	dave.get(build + "/build/build")
	dave.get(pr + "/statuses")
	task := alice.call(202, "POST", pr+"/merge?async=true", object{
		"type": "pullrequest", "message": "Land it", "merge_strategy": "squash", "close_source_branch": true,
	})
	at := task.header.Get("Location")[len(w.sim.URL()):]
	if _, err := w.sim.WaitDeliveries(within(t), func(all []bitbucketsim.Delivery) bool {
		for _, d := range all {
			if d.Event == "pullrequest:fulfilled" {
				return true
			}
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	if got := alice.get(at).str("task_status"); got != "SUCCESS" {
		t.Errorf("task status is %q", got)
	}
	alice.get(pr)
	alice.call(201, "POST", pr+"/comments", object{"content": object{"raw": "Landed"}})
	alice.call(400, "POST", pr+"/merge", object{"type": "pullrequest"})

	// A second one that is declined, a third that is merged at once, a branch that is rewritten and deleted.
	push("idea", "idea.txt", "1\n", false, "")
	carolsPR := open("Idea", "idea")
	push("idea", "idea.txt", "2\n", true, "main")
	bob.call(200, "POST", carolsPR+"/decline", nil)
	bob.get(carolsPR)
	alice.call(204, "DELETE", repo+"/refs/branches/idea", nil)
	push("other", "other.txt", "1\n", false, "")
	tip := alice.get(repo + "/refs/branches/other").str("target.hash")
	third := open("Other", "other")
	dave.call(201, "POST", repo+"/commit/"+tip+"/statuses/build", object{"key": "build", "state": "SUCCESSFUL", "url": "https://ci.example.com"})
	alice.call(200, "POST", third+"/merge", object{"type": "pullrequest", "merge_strategy": "merge_commit"})
	alice.get(repo + "/pullrequests?state=MERGED&state=DECLINED")

	// A fork, a rename, a transfer and a deletion.
	must(t)(w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "bobs", Owners: []string{"bob"}}))
	must(t)(w.sim.AddRepository(bitbucketsim.Repository{Workspace: "bobs", Slug: "rocket", ForkOf: "acme/rocket"}))
	must(t)(w.sim.Push(bitbucketsim.Push{Repository: "bobs/rocket", Branch: "patch", Person: "bob", Files: map[string]string{"p": "1"}}))
	fork := bob.call(201, "POST", repo+"/pullrequests", object{
		"title": "From a fork", "source": object{"branch": object{"name": "patch"}, "repository": object{"full_name": "bobs/rocket"}},
	})
	must(t)(w.sim.RemoveRepository(bitbucketsim.Removal{Repository: "bobs/rocket", Person: "bob"}))
	orphan := alice.get(fork.str("links.self.href")[len(w.sim.URL()):])
	if orphan.at("source.repository") != nil || orphan.at("source.commit") != nil {
		t.Errorf("the source of a deleted fork is %v", orphan.at("source"))
	}
	must(t)(w.sim.RenameRepository(bitbucketsim.Rename{Repository: "acme/rocket", Person: "alice", Slug: "rocket-2", Description: "Second stage"}))
	must(t)(w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "other", Owners: []string{"alice"}}))
	must(t)(w.sim.RenameRepository(bitbucketsim.Rename{Repository: "acme/rocket-2", Person: "alice", Workspace: "other"}))
	must(t)(w.sim.RemoveRepository(bitbucketsim.Removal{Repository: "other/rocket-2", Person: "alice"}))

	// Refusals.
	alice.call(404, "GET", repo, nil)
	alice.call(404, "GET", "/2.0/nothing/here", nil)
	as("alice", "email").call(403, "GET", "/2.0/user", nil)
	(&teller{&client{w, "no such token"}, st}).call(401, "GET", "/2.0/user", nil)
	(&teller{&client{w, ""}, st}).call(401, "GET", "/2.0/workspaces/acme/members", nil)

	deliveries := w.sim.Deliveries()
	w.settled(len(deliveries))
	for _, d := range deliveries {
		var body any
		if err := json.Unmarshal(d.Body, &body); err != nil {
			t.Fatal(err)
		}
		st.events[d.Event] = append(st.events[d.Event], body)
	}
	if len(hooks.all()) == 0 {
		t.Error("no webhook arrived")
	}
	return st
}

// TestStoryUsesEveryOperation keeps the conformance tests honest: what the story leaves out, they do not see.
func TestStoryUsesEveryOperation(t *testing.T) {
	t.Parallel()
	st := play(t)
	mux := http.NewServeMux()
	for _, r := range bitbucketsim.Routes() {
		mux.HandleFunc(r, func(http.ResponseWriter, *http.Request) {})
	}
	used := map[string]bool{}
	for _, x := range st.exchanges {
		if x.reply.status >= 400 && x.reply.status != 410 {
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), x.method, "http://sim"+x.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, pattern := mux.Handler(req)
		used[pattern] = true
	}
	for _, r := range bitbucketsim.Routes() {
		if !used[r] {
			t.Errorf("the story does not call %s", r)
		}
	}
}
