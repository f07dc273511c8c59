package bitbucketsim_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// The shapes of the events, from the Forge documentation, events-reference/bitbucket (August 2026): each member
// that an interface or an example there has, with the pattern of its value as JSON. A ? marks those that may be
// absent.
const (
	braced   = `"\{[0-9a-f-]{36}\}"`
	text     = `".*"`
	hash12   = `"[0-9a-f]{12}"`
	hash40   = `"[0-9a-f]{40}"`
	utc      = `"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"`
	offset   = `"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"`
	boolean  = `true|false`
	number   = `\d+`
	whose    = `"user"|"app_user"`
	lifeID   = `"[0-9a-f-]{36}"`
	appState = `"OPEN"|"MERGED"|"DECLINED"`
)

var commonShape = map[string]string{
	"eventType": text, "timestamp": utc, "selfGenerated": boolean,
	"actor.type": whose, "actor.accountId": text, "actor.uuid": braced,
	"repository.uuid": braced, "repository.slug?": text, "project.uuid": braced, "workspace.uuid": braced,
}

func eventShape(more ...map[string]string) map[string]string {
	out := maps.Clone(commonShape)
	for _, m := range more {
		maps.Copy(out, m)
	}
	return out
}

var pullRequestShape = map[string]string{
	"pullrequest.id": number, "pullrequest.state": appState,
	"pullrequest.source.branch": text, "pullrequest.source.commit.hash": hash12,
	"pullrequest.destination.branch": text, "pullrequest.destination.commit.hash": hash12,
	"pullrequest.title.truncated?": boolean, "pullrequest.title.value?": text,
	"pullrequest.author.type?": whose, "pullrequest.author.accountId?": text, "pullrequest.author.uuid?": braced,
	"pullrequest.author.displayName?": text, "pullrequest.updatedOn?": offset, "pullrequest.createdOn?": offset,
	"pullrequest.commentCount?": number, "pullrequest.taskCount?": number,
}

var commentShape = map[string]string{"comment.id": number}

var buildStatusShape = map[string]string{
	"buildStatus.key": text, "buildStatus.commit.hash": hash40, "buildStatus.state": text, "buildStatus.url": text,
	"buildStatus.createdOn": utc, "buildStatus.updatedOn": utc, "buildStatus.refName?": text,
}

var forgeShapes = map[string]map[string]string{
	"avi:bitbucket:created:repository": eventShape(),
	"avi:bitbucket:deleted:repository": eventShape(),
	"avi:bitbucket:updated:repository": eventShape(map[string]string{
		"changes.name.old.value?": text, "changes.name.old.truncated?": boolean,
		"changes.name.new.value?": text, "changes.name.new.truncated?": boolean,
		"changes.description.old.value?": text, "changes.description.old.truncated?": boolean,
		"changes.description.new.value?": text, "changes.description.new.truncated?": boolean,
	}),
	"avi:bitbucket:push:repository": eventShape(map[string]string{
		"push.ref": text, "push.mainbranch": boolean, "push.before?": hash40, "push.after?": hash40,
		"push.created": boolean, "push.closed": boolean, "push.forced": boolean, "push.truncated": boolean,
		"push.commits[].hash": hash40, "push.commits[].message.value": text, "push.commits[].message.truncated": boolean,
		"push.commits[].date": utc, "push.commits[].author.user.type": whose,
		"push.commits[].author.user.accountId": text, "push.commits[].author.user.uuid": braced,
	}),
	"avi:bitbucket:created:build-status":         eventShape(buildStatusShape),
	"avi:bitbucket:updated:build-status":         eventShape(buildStatusShape),
	"avi:bitbucket:created:pullrequest":          eventShape(pullRequestShape),
	"avi:bitbucket:updated:pullrequest":          eventShape(pullRequestShape),
	"avi:bitbucket:rejected:pullrequest":         eventShape(pullRequestShape),
	"avi:bitbucket:fulfilled:pullrequest":        eventShape(pullRequestShape, map[string]string{"pullrequest.mergeCommit.hash": hash12}),
	"avi:bitbucket:created:pullrequest-comment":  eventShape(pullRequestShape, commentShape),
	"avi:bitbucket:updated:pullrequest-comment":  eventShape(pullRequestShape, commentShape),
	"avi:bitbucket:deleted:pullrequest-comment":  eventShape(pullRequestShape, commentShape),
	"avi:bitbucket:resolved:pullrequest-comment": eventShape(pullRequestShape, commentShape),
	"avi:bitbucket:reopened:pullrequest-comment": eventShape(pullRequestShape, commentShape),
	"avi:bitbucket:updated:pullrequest-reviewer-status": eventShape(pullRequestShape, map[string]string{
		"reviewers.truncated": boolean, "reviewers.value[].user.type": whose, "reviewers.value[].user.accountId": text,
		"reviewers.value[].user.uuid": braced, "reviewers.value[].status": `"approved"|"changes_requested"|"unapproved"`,
		"reviewers.value[].timestamp": `"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`,
	}),
	// Forge documentation, events-reference/life-cycle and remote, "Installations".
	"avi:forge:installed:app": {
		"id": lifeID, "eventType": text, "context": `"ari:cloud:bitbucket::workspace/[0-9a-f-]{36}"`,
		"installerAccountId": text, "app.id": lifeID, "app.version": `"\d+\.\d+\.\d+"`, "app.name": text,
		"app.ownerAccountId": text, "environment.id": lifeID,
	},
	"avi:forge:upgraded:app": {
		"id": lifeID, "eventType": text, "context": `"ari:cloud:bitbucket::workspace/[0-9a-f-]{36}"`,
		"upgraderAccountId": text, "app.id": lifeID, "app.version": `"\d+\.\d+\.\d+"`, "app.name": text,
		"app.ownerAccountId": text, "environment.id": lifeID,
		"permissions.scopes[]": text, "permissions.external.fetch.client[]": text,
	},
}

// leaves lists the members of a value by path, with the JSON of each.
func leaves(path string, v any, into map[string][]string) {
	switch x := v.(type) {
	case map[string]any:
		for k, y := range x {
			leaves(strings.TrimPrefix(path+"."+k, "."), y, into)
		}
	case []any:
		for _, y := range x {
			leaves(path+"[]", y, into)
		}
	case string:
		into[path] = append(into[path], `"`+x+`"`)
	case float64:
		into[path] = append(into[path], fmt.Sprintf("%.0f", x))
	default:
		into[path] = append(into[path], fmt.Sprint(x))
	}
}

func wantShape(t *testing.T, name string, body reply) {
	t.Helper()
	want := forgeShapes[name]
	got := map[string][]string{}
	leaves("", body.json, got)
	if !checkLeaves(t, got, want) {
		t.Errorf("%s is %s", name, body.raw)
	}
}

// checkLeaves compares members with the patterns of a shape.
func checkLeaves(t *testing.T, got map[string][]string, want map[string]string) (ok bool) {
	t.Helper()
	ok = true
	wrong := func(format string, args ...any) {
		t.Helper()
		t.Errorf(format, args...)
		ok = false
	}
	documented := map[string]bool{}
	for path, pattern := range want {
		bare := strings.TrimSuffix(path, "?")
		documented[bare] = true
		values, there := got[bare]
		if !there && bare == path && !strings.Contains(bare, "[]") {
			wrong("%s is missing", path)
		}
		for _, v := range values {
			if !regexp.MustCompile(`(?s)^(` + pattern + `)$`).MatchString(v) {
				wrong("%s is %s, want %s", bare, v, pattern)
			}
		}
	}
	for path := range got {
		if !documented[path] {
			wrong("%s is not documented", path)
		}
	}
	return ok
}

// TestEventsAreShapedAsDocumented lets everything happen that is told, and compares each event with its shape.
func TestEventsAreShapedAsDocumented(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	at := w.repo + "/pullrequests/1"
	w.open("Nozzle")
	bob, carol := w.as("bob"), w.as("carol")
	bob.do(200, "PUT", at, map[string]any{"title": "A better nozzle"})
	head := bob.get(w.repo + "/refs/branches/feature").str("target.hash")
	status := w.repo + "/commit/" + head + "/statuses/build"
	w.as("dave").do(201, "POST", status, map[string]any{"key": "ci", "state": "INPROGRESS", "url": "https://ci.example.com/", "refname": "feature"})
	w.as("dave").do(200, "PUT", status+"/ci", map[string]any{"state": "SUCCESSFUL"})
	comment := carol.do(201, "POST", at+"/comments", map[string]any{"content": map[string]any{"raw": "Why?"}})
	on := fmt.Sprintf("%s/comments/%.0f", at, comment.at("id"))
	carol.do(200, "PUT", on, map[string]any{"content": map[string]any{"raw": "Why so?"}})
	carol.do(200, "POST", on+"/resolve", nil)
	carol.do(204, "DELETE", on+"/resolve", nil)
	carol.do(204, "DELETE", on, nil)
	carol.do(200, "POST", at+"/request-changes", nil)
	carol.do(200, "POST", at+"/approve", nil)
	must(t)(w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "feature", Person: "bob", Files: map[string]string{"x": "1"}}))
	w.as("alice").do(200, "POST", at+"/merge", nil)
	must(t)(w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "second", Person: "bob", Files: map[string]string{"y": "1"}}))
	opened, ok := must(t)(w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: "acme/rocket", Author: "bob", Title: "Second", Source: "second"})).(bitbucketsim.OpenedPullRequest)
	if !ok {
		t.Fatal("not opened")
	}
	bob.do(200, "POST", fmt.Sprintf("%s/pullrequests/%d/decline", w.repo, opened.ID), nil)
	must(t)(w.sim.RemoveBranch(bitbucketsim.BranchRemoval{Repository: "acme/rocket", Branch: "second", Person: "bob"}))
	must(t)(w.sim.AddRepository(bitbucketsim.Repository{Workspace: "acme", Slug: "probe"}))
	must(t)(w.sim.RenameRepository(bitbucketsim.Rename{Repository: "acme/probe", Person: "alice", Slug: "lander", Description: "It lands."}))
	must(t)(w.sim.RemoveRepository(bitbucketsim.Removal{Repository: "acme/lander", Person: "alice"}))
	major(t, w)
	must(t)(w.sim.UpgradeForgeApp(w.by("alice")))

	all, err := w.sim.WaitForgeInvocations(within(t), func(all []bitbucketsim.ForgeInvocation) bool {
		return !slices.ContainsFunc(all, func(x bitbucketsim.ForgeInvocation) bool { return x.State != "delivered" })
	})
	if err != nil {
		t.Fatalf("%+v: %v", all, err)
	}
	seen := map[string]int{}
	for _, path := range []string{"/forge/events", "/forge/lifecycle"} {
		for _, c := range w.remote.at(path) {
			name := c.body.str("eventType")
			seen[name]++
			wantShape(t, name, c.body)
		}
	}
	for name := range forgeShapes {
		if seen[name] == 0 {
			t.Errorf("%s was not sent", name)
		}
	}
	if n := seen["avi:bitbucket:updated:pullrequest-reviewer-status"]; n != 2 {
		t.Errorf("two changes of a reviewer's status were told in %d events", n)
	}
	known := bitbucketsim.ForgeEvents()
	for name := range forgeShapes {
		if !slices.Contains(known, name) {
			t.Errorf("a trigger may not name %s", name)
		}
	}
}

// major deploys a version that needs an administrator's consent.
func major(t *testing.T, w *forgeWorld) bitbucketsim.ForgeApp {
	t.Helper()
	app, err := w.sim.RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: forgeManifest, RemoteURL: w.remote.URL + "/"})
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func TestSelfGenerated(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	_, call := w.named("avi:forge:installed:app", "/forge/lifecycle")
	head := w.as("bob").get(w.repo + "/refs/branches/feature").str("target.hash")
	at := w.repo + "/commit/" + head + "/statuses/build"
	(&client{w.world, call.header.Get("X-Forge-Oauth-System")}).do(201, "POST", at, map[string]any{"key": "gate", "state": "FAILED"})
	_, own := w.named("avi:bitbucket:created:build-status", "/forge/events")
	if own.body.at("selfGenerated") != true || own.body.str("actor.type") != "app_user" {
		t.Errorf("the app's own status is told as %s", own.body.raw)
	}
	w.open("Nozzle")
	_, other := w.named("avi:bitbucket:created:pullrequest", "/forge/events")
	if other.body.at("selfGenerated") != false || other.body.str("actor.type") != "user" {
		t.Errorf("a person's pull request is told as %s", other.body.raw)
	}
}
