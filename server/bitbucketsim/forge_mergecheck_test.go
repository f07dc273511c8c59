package bitbucketsim_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// gatedWorld is a forgeWorld with the app installed, custom merge checks enabled and a pull request open.
func gatedWorld(t *testing.T, opts bitbucketsim.Options) *forgeWorld {
	t.Helper()
	w := newForgeWorld(t, opts)
	w.install()
	must(t)(w.sim.SetCustomMergeChecks(bitbucketsim.CustomMergeChecks{Workspace: "acme", Person: "alice", Enabled: true}))
	w.open("Nozzle")
	return w
}

func (w *forgeWorld) check(c bitbucketsim.MergeCheck) bitbucketsim.MergeCheck {
	w.t.Helper()
	if c.Level == "" {
		c.Repository = "acme/rocket"
	} else {
		c.Workspace = "acme"
	}
	if c.Person == "" {
		c.Person = "alice"
	}
	out, err := w.sim.SaveMergeCheck(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

const (
	yes = `{"success":true,"message":"Signed by two people."}`
	no  = `{"success":false,"message":"0 of 2 signed approvals."}`
)

func (w *forgeWorld) merge(want int) reply {
	w.t.Helper()
	return w.as("alice").do(want, "POST", w.repo+"/pullrequests/1/merge", map[string]any{"message": "Land it"})
}

func TestOnMergeCheckIsAsked(t *testing.T) {
	t.Parallel()
	w := gatedWorld(t, bitbucketsim.Options{})
	check := w.check(bitbucketsim.MergeCheck{Module: "merge-check-on-merge", Pattern: "main", Required: true})
	w.remote.answer("/forge/merge-check", remoteReply{status: 200, body: no}, remoteReply{status: 200, body: yes})
	refused := w.merge(400)
	if got := refused.str("error.message"); got != "Unresolved merge checks prevent this pull request from being merged." {
		t.Errorf("refused with %q", got)
	}
	if got := refused.str("error.fields.merge_checks.0"); got != "Signed approvals: 0 of 2 signed approvals." {
		t.Errorf("refused because of %q", got)
	}
	call := w.remote.at("/forge/merge-check")[0]
	claims, err := w.verify(call.header)
	if err != nil {
		t.Fatal(err)
	}
	if claims.str("app.module.key") != "merge-check-ep" || claims.at("principal") != nil {
		t.Errorf("the token is for %v of %v", claims.at("app.module"), claims.at("principal"))
	}
	wantParts(t, w.browser().logIn("carol").page("/acme/rocket/pull-requests/1"), "0 of 2 signed approvals.")
	w.merge(200)
	results, err := w.sim.MergeCheckResults("acme/rocket", 1)
	if err != nil || len(results) != 1 || results[0].Check != check.ID || results[0].State != "passed" ||
		results[0].Message != "Signed by two people." || !results[0].Blocks || len(results[0].Head) != 40 {
		t.Errorf("results are %+v, %v", results, err)
	}
}

// TestMergeCheckBody compares the body with the documentation, modules/bitbucket-merge-check.
func TestMergeCheckBody(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"workspace.uuid": braced, "repository.uuid": braced, "pullrequest.id": number, "trigger.type": `"on-merge"`,
		"mergeProperties.commitMessage": text, "mergeProperties.commitMessageTruncated": boolean,
		"mergeProperties.mergeStrategy": `"squash"`, "mergeProperties.closeSourceBranch": boolean,
	}
	w := gatedWorld(t, bitbucketsim.Options{})
	w.check(bitbucketsim.MergeCheck{Module: "merge-check-on-merge"})
	w.as("alice").do(200, "POST", w.repo+"/pullrequests/1/merge", map[string]any{
		"message": strings.Repeat("é", 1001), "merge_strategy": "squash",
	})
	body := w.remote.at("/forge/merge-check")[0].body
	got := map[string][]string{}
	leaves("", body.json, got)
	if len(got) != len(want) {
		t.Errorf("body is %s", body.raw)
	}
	checkLeaves(t, got, want)
	if m := body.str("mergeProperties.commitMessage"); len([]rune(m)) != 1000 || body.at("mergeProperties.commitMessageTruncated") != true {
		t.Errorf("the message has %d characters", len([]rune(m)))
	}
}

func TestWhatBlocksAMerge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		required, free bool
		answer         remoteReply
		want           int
	}{
		"passed":              {true, false, remoteReply{status: 200, body: yes}, 200},
		"failed":              {true, false, remoteReply{status: 200, body: no}, 400},
		"not required":        {false, false, remoteReply{status: 200, body: no}, 200},
		"not Premium":         {true, true, remoteReply{status: 200, body: no}, 200},
		"server error":        {true, false, remoteReply{status: 500, body: yes}, 400},
		"bad token":           {true, false, remoteReply{status: 401, body: yes}, 400},
		"redirect":            {true, false, remoteReply{status: 302, body: yes}, 400},
		"no body":             {true, false, remoteReply{status: 204}, 400},
		"no JSON":             {true, false, remoteReply{status: 200, body: "<html>"}, 400},
		"without success":     {true, false, remoteReply{status: 200, body: `{"message":"fine"}`}, 400},
		"success is no truth": {true, false, remoteReply{status: 200, body: `{"success":"true"}`}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gatedWorld(t, bitbucketsim.Options{})
			w.check(bitbucketsim.MergeCheck{Module: "merge-check-on-merge", Required: tt.required})
			if tt.free {
				must(t)(w.sim.SetPlan(bitbucketsim.Plan{Workspace: "acme", Premium: false}))
			}
			w.remote.answer("/forge/merge-check", tt.answer)
			w.merge(tt.want)
			if n := len(w.remote.at("/forge/merge-check")); n != 1 {
				t.Errorf("the check was asked %d times", n)
			}
		})
	}
}

func TestSlowMergeCheckFails(t *testing.T) {
	t.Parallel()
	w := gatedWorld(t, bitbucketsim.Options{Forge: bitbucketsim.ForgeOptions{EventTimeout: 100 * time.Millisecond}})
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	w.check(bitbucketsim.MergeCheck{Module: "merge-check-on-merge", Required: true})
	w.remote.answer("/forge/merge-check", remoteReply{status: 200, body: yes, release: release})
	if got := w.merge(400).str("error.fields.merge_checks.0"); got != "Signed approvals: The check could not be run." {
		t.Errorf("refused because of %q", got)
	}
}

// TestMergeCheckMayCallBack lets the remote read and change the pull request while the merge waits for it.
func TestMergeCheckMayCallBack(t *testing.T) {
	t.Parallel()
	w := gatedWorld(t, bitbucketsim.Options{})
	w.check(bitbucketsim.MergeCheck{Module: "merge-check-on-merge", Required: true})
	at := w.repo + "/pullrequests/1"
	w.remote.answer("/forge/merge-check",
		remoteReply{status: 200, body: yes, during: func() {
			if out, err := w.as("carol").try("GET", at, nil); err != nil || out.str("state") != "OPEN" {
				t.Errorf("while the check is asked: %v %s", err, out.raw)
			}
			if _, err := w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "feature", Person: "bob", Files: map[string]string{"late": "1"}}); err != nil {
				t.Error(err)
			}
		}},
		remoteReply{status: 200, body: yes})
	w.merge(409) // what was checked is not what would be merged
	w.merge(200)
}

func TestEachLevelIsAsked(t *testing.T) {
	t.Parallel()
	w := gatedWorld(t, bitbucketsim.Options{})
	for _, level := range []string{"", "project", "workspace"} {
		w.check(bitbucketsim.MergeCheck{Level: level, Module: "merge-check-on-merge", Required: level == "workspace"})
	}
	w.check(bitbucketsim.MergeCheck{Module: "merge-check-on-merge", Pattern: "release/*", Required: true})
	w.remote.answer("/forge/merge-check", remoteReply{status: 200, body: no})
	refused := w.merge(400)
	if n := len(w.remote.at("/forge/merge-check")); n != 3 {
		t.Errorf("the check was asked %d times, want once for each level", n)
	}
	if n := len(descend(refused.json, "error.fields.merge_checks.[]")); n != 1 {
		t.Errorf("refused with %s", refused.raw)
	}
}

func TestPreMergeCheck(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	must(t)(w.sim.SetCustomMergeChecks(bitbucketsim.CustomMergeChecks{Workspace: "acme", Person: "alice", Enabled: true}))
	check := w.check(bitbucketsim.MergeCheck{Module: "merge-check-pre-merge", Required: true})
	w.remote.answer("/forge/merge-check", remoteReply{status: 200, body: no})
	w.open("Nozzle")
	settled := func(n int, state, trigger string) {
		t.Helper()
		_, err := w.sim.WaitForgeInvocations(within(t), func(all []bitbucketsim.ForgeInvocation) bool {
			all = slices.DeleteFunc(slices.Clone(all), func(x bitbucketsim.ForgeInvocation) bool { return x.Kind != "merge-check" || x.State == "waiting" })
			return len(all) == n
		})
		if err != nil {
			t.Fatal(err)
		}
		w.resultIs(check.ID, state, trigger)
	}
	settled(1, "failed", "on-code-pushed")
	if got := w.merge(400).str("error.fields.merge_checks.0"); got != "Signed approvals so far: 0 of 2 signed approvals." {
		t.Errorf("refused because of %q", got)
	}
	if w.remote.at("/forge/merge-check")[0].body.at("mergeProperties") != nil {
		t.Error("a check before the merge is told how it would be merged")
	}
	w.as("carol").do(200, "POST", w.repo+"/pullrequests/1/approve", nil)
	settled(2, "failed", "on-reviewer-status-changed")
	must(t)(w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "feature", Person: "bob", Files: map[string]string{"x": "1"}}))
	settled(3, "failed", "on-code-pushed")
	w.remote.answer("/forge/merge-check", remoteReply{status: 200, body: yes})
	carol := w.browser().logIn("carol")
	wantParts(t, carol.page("/acme/rocket/pull-requests/1"), "0 of 2 signed approvals.", "Run again")
	carol.do(303, "POST", "/acme/rocket/pull-requests/1/rerun-check", map[string][]string{"check": {itoa(check.ID)}})
	settled(4, "passed", "on-code-pushed")
	w.merge(200)
}

// resultIs waits until the stored result of a check before the merge is such.
func (w *forgeWorld) resultIs(check int, state, trigger string) {
	w.t.Helper()
	var last []bitbucketsim.MergeCheckResult
	ctx := within(w.t)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var err error
		if last, err = w.sim.MergeCheckResults("acme/rocket", 1); err != nil {
			w.t.Fatal(err)
		}
		for _, r := range last {
			if r.Check == check && !r.OnMerge && r.State == state && r.Trigger == trigger {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("results are %+v, want %s after %s", last, state, trigger)
		}
	}
}

func TestMergeChecksAreConfiguredByAdministrators(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	on := bitbucketsim.MergeCheck{Repository: "acme/rocket", Module: "merge-check-on-merge", Person: "alice"}
	if _, err := w.sim.SaveMergeCheck(on); err == nil || !strings.Contains(err.Error(), "not enabled") {
		t.Errorf("before custom merge checks are enabled: %v", err)
	}
	if _, err := w.sim.SetCustomMergeChecks(bitbucketsim.CustomMergeChecks{Workspace: "acme", Person: "bob", Enabled: true}); err == nil {
		t.Error("bob enabled custom merge checks")
	}
	must(t)(w.sim.SetCustomMergeChecks(bitbucketsim.CustomMergeChecks{Workspace: "acme", Person: "alice", Enabled: true}))
	if _, err := w.sim.SaveMergeCheck(on); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("before the app is installed: %v", err)
	}
	w.install()
	for name, change := range map[string]func(*bitbucketsim.MergeCheck){
		"no administrator": func(c *bitbucketsim.MergeCheck) { c.Person = "bob" },
		"unknown module":   func(c *bitbucketsim.MergeCheck) { c.Module = "pr-card" },
		"unknown level":    func(c *bitbucketsim.MergeCheck) { c.Level, c.Workspace = "branch", "acme" },
		"unknown id":       func(c *bitbucketsim.MergeCheck) { c.ID = 7777 },
	} {
		bad := on
		change(&bad)
		if _, err := w.sim.SaveMergeCheck(bad); err == nil {
			t.Errorf("%s: the check was saved", name)
		}
	}
	must(t)(w.sim.SetPermission(bitbucketsim.Permission{Repository: "acme/rocket", Person: "carol", Level: "admin"}))
	on.Person = "carol"
	saved, err := w.sim.SaveMergeCheck(on)
	if err != nil {
		t.Fatal(err)
	}
	saved.Required, saved.Person = true, "carol"
	if again, err := w.sim.SaveMergeCheck(saved); err != nil || again.ID != saved.ID || !again.Required {
		t.Errorf("changed to %+v, %v", again, err)
	}
	if _, err := w.sim.SaveMergeCheck(bitbucketsim.MergeCheck{Level: "workspace", Workspace: "acme", Module: on.Module, Person: "carol"}); err == nil {
		t.Error("carol configured the whole workspace")
	}
	if _, err := w.sim.RemoveMergeCheck(bitbucketsim.MergeCheckRemoval{ID: saved.ID, Person: "bob"}); err == nil {
		t.Error("bob removed the check")
	}
	must(t)(w.sim.RemoveMergeCheck(bitbucketsim.MergeCheckRemoval{ID: saved.ID, Person: "carol"}))
	// Uninstalling takes the checks away, so that nothing is left to block.
	must(t)(w.sim.SaveMergeCheck(on))
	must(t)(w.sim.UninstallForgeApp(w.by("alice")))
	if left, err := w.sim.MergeChecks("acme"); err != nil || len(left) != 0 {
		t.Errorf("left are %+v, %v", left, err)
	}
}

func TestAsynchronousMergeAsks(t *testing.T) {
	t.Parallel()
	w := gatedWorld(t, bitbucketsim.Options{AsyncMergeDelay: time.Millisecond})
	w.check(bitbucketsim.MergeCheck{Module: "merge-check-on-merge", Required: true})
	w.remote.answer("/forge/merge-check", remoteReply{status: 200, body: no})
	task := w.as("alice").do(202, "POST", w.repo+"/pullrequests/1/merge?async=true", nil)
	if out := w.pollTask(task.header.Get("Location")); out.status != 400 || out.str("error.fields.merge_checks.0") == "" {
		t.Errorf("task ended with %d %s", out.status, out.raw)
	}
}
