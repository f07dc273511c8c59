package bitbucketsim_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

func TestFailedEventsAreSentAgain(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := remoteReply{status: 204, release: release}
	for name, tt := range map[string]struct {
		answers []remoteReply
		state   string
		reasons []string // of the retries
	}{
		"at once":      {[]remoteReply{{status: 202}}, "delivered", nil},
		"server error": {[]remoteReply{{status: 500}, {status: 503}, {status: 204}}, "delivered", []string{"INVALID_REMOTE_INVOCATION_ERROR", "INVALID_REMOTE_INVOCATION_ERROR"}},
		"refused":      {[]remoteReply{{status: 400}, {status: 204}}, "delivered", []string{"INVALID_REMOTE_INVOCATION_ERROR"}},
		"redirect":     {[]remoteReply{{status: 302, header: map[string]string{"Location": "/"}}, {status: 204}}, "delivered", []string{"INVALID_REMOTE_INVOCATION_ERROR"}},
		"bad token":    {[]remoteReply{{status: 401}, {status: 204}}, "delivered", []string{"INVALID_FORGE_INVOCATION_TOKEN"}},
		"timeout":      {[]remoteReply{slow, {status: 204}}, "delivered", []string{"TIMEOUT_ERROR"}},
		"never":        {[]remoteReply{{status: 500}}, "failed", slices.Repeat([]string{"INVALID_REMOTE_INVOCATION_ERROR"}, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := bitbucketsim.ForgeOptions{RetryPause: time.Millisecond}
			if name == "timeout" {
				opts.EventTimeout = time.Second
			}
			w := newForgeWorld(t, bitbucketsim.Options{Forge: opts})
			if name == "timeout" {
				t.Cleanup(func() { close(release) }) // before the remote closes, which waits for its answers
			}
			w.remote.answer("/forge/lifecycle", tt.answers...)
			w.install()
			got := w.invoked(1)[0]
			if name == "timeout" { // on a busy machine, further attempts may take too long as well, or not even arrive
				for len(tt.reasons)+1 < len(got.Attempts) {
					tt.reasons = append(tt.reasons, "TIMEOUT_ERROR")
				}
			}
			if got.State != tt.state || len(got.Attempts) != len(tt.reasons)+1 {
				t.Fatalf("%s after %d attempts, want %s after %d: %+v", got.State, len(got.Attempts), tt.state, len(tt.reasons)+1, got.Attempts)
			}
			arrived, tokens, last := w.remote.at("/forge/lifecycle"), map[string]bool{}, -1
			if name != "timeout" && len(arrived) != len(got.Attempts) {
				t.Errorf("%d attempts arrived, want %d", len(arrived), len(got.Attempts))
			}
			for _, c := range arrived {
				tokens[c.header.Get("Authorization")] = true
				retry := c.body.at("retryContext")
				count, _ := c.body.at("retryContext.retryCount").(float64)
				n := int(count)
				if n <= last || n > len(tt.reasons) {
					t.Fatalf("retry %v comes after retry %d", retry, last)
				}
				last = n
				switch {
				case n == 0 && retry != nil:
					t.Errorf("the first attempt has the context %v", retry)
				case n > 0 && (c.body.str("retryContext.retryReason") != tt.reasons[n-1] || c.body.at("retryContext.retryData") != nil):
					t.Errorf("retry %d has the context %v, want reason %s", n, retry, tt.reasons[n-1])
				}
			}
			if len(tokens) != len(arrived) {
				t.Error("a retry carries the token of another attempt")
			}
		})
	}
}

func TestRetriesCanBeStepped(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{}) // a minute between attempts
	w.remote.answer("/forge/lifecycle", remoteReply{status: 500}, remoteReply{status: 204})
	w.install()
	waiting := func(all []bitbucketsim.ForgeInvocation) bool { return len(all) == 1 && all[0].State == "retrying" }
	if _, err := w.sim.WaitForgeInvocations(within(t), waiting); err != nil {
		t.Fatal(err)
	}
	// The step is taken until it is felt: the pause may not have begun yet.
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.invoked(1)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		(&client{w.world, ""}).do(204, "POST", "/sim/forge/retries", nil)
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

func TestForgeFaults(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	w.invoked(1)
	fault := func(f bitbucketsim.WebhookFault) {
		t.Helper()
		must(t)(w.sim.AddForgeFault(f))
	}
	names := func() []string {
		var out []string
		for _, c := range w.remote.at("/forge/events") {
			out = append(out, strings.TrimPrefix(c.body.str("eventType"), "avi:bitbucket:"))
		}
		return out
	}
	fault(bitbucketsim.WebhookFault{Event: "created:pullrequest", Times: 1, Reorder: true})
	w.open("Nozzle")
	at := w.repo + "/pullrequests/1"
	w.as("bob").do(200, "PUT", at, map[string]any{"title": "Better"})
	w.invoked(3)
	if got := names(); !slices.Equal(got, []string{"updated:pullrequest", "created:pullrequest"}) {
		t.Errorf("reordered events arrived as %v", got)
	}
	fault(bitbucketsim.WebhookFault{Event: "updated:pullrequest$", Times: 1, Duplicate: 1, DelayMS: 1})
	w.as("bob").do(200, "PUT", at, map[string]any{"title": "Best"})
	w.invoked(4)
	twice := w.remote.at("/forge/events")
	if len(twice) != 4 || string(twice[2].body.raw) != string(twice[3].body.raw) {
		t.Errorf("%d events arrived, want 4 with the last two alike", len(twice))
	}
	fault(bitbucketsim.WebhookFault{Event: "rejected", Drop: true})
	w.as("bob").do(200, "POST", at+"/decline", nil)
	if last := w.invoked(5)[4]; last.State != "dropped" || len(w.remote.at("/forge/events")) != 4 {
		t.Errorf("the event was %s", last.State)
	}
	must(t)(w.sim.AddForgeFault(bitbucketsim.WebhookFault{Event: "push", Reorder: true}))
	must(t)(w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "other", Person: "bob"}))
	w.sim.ClearFaults()
	w.invoked(6)
	if got := names(); got[len(got)-1] != "push:repository" {
		t.Errorf("a held event was not sent when the faults were cleared: %v", got)
	}
}

func TestEventsNeedATriggerAScopeAndTheApp(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(forgeManifest)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(string) string
		want   int
	}{
		"as it is": {func(m string) string { return m }, 1},
		"no trigger": {func(m string) string {
			return strings.Replace(m, "        - avi:bitbucket:rejected:pullrequest\n", "", 1)
		}, 0},
		"no scope": {func(m string) string {
			return strings.Replace(m, "    - read:pullrequest:bitbucket\n", "", 1)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "manifest.yml")
			if err := os.WriteFile(path, []byte(tt.change(string(raw))), 0o600); err != nil {
				t.Fatal(err)
			}
			w := newForgeWorld(t, bitbucketsim.Options{})
			w.open("Nozzle")
			w.install()
			app, err := w.sim.RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: path, RemoteURL: w.remote.URL})
			if err != nil {
				t.Fatal(err)
			}
			if app.Version != "1.1.0" {
				must(t)(w.sim.UpgradeForgeApp(w.by("alice")))
			}
			w.as("bob").do(200, "POST", w.repo+"/pullrequests/1/decline", nil)
			n := 0
			for _, x := range w.sim.ForgeInvocations() {
				if x.Name == "avi:bitbucket:rejected:pullrequest" {
					n++
				}
			}
			if n != tt.want {
				t.Errorf("%d events", n)
			}
		})
	}
}

func TestSchedulesBringASystemToken(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	w.invoked(1)
	if n := w.sim.RunForgeSchedules(); n != 1 {
		t.Fatalf("%d schedules were run", n)
	}
	x, call := w.named("scheduledTrigger", "/forge/scheduled")
	if x.Kind != "schedule" || x.Module != "hourly" || call.body.str("context.moduleKey") != "hourly" {
		t.Errorf("schedule is %+v with %s", x, call.body.raw)
	}
	(&client{w.world, call.header.Get("X-Forge-Oauth-System")}).get(w.repo)
}

func TestBadManifests(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(forgeManifest)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ from, to, want string }{
		"event":    {"avi:bitbucket:push:repository", "avi:bitbucket:pushed:repository", `event "avi:bitbucket:pushed:repository"`},
		"trigger":  {"- on-merge", "- pre-merge", `trigger "pre-merge"`},
		"endpoint": {"endpoint: events-ep", "endpoint: evnts-ep", `endpoint "evnts-ep"`},
		"resource": {"resource: panel", "resource: pannel", `resource "pannel"`},
		"remote":   {"remote: backend\n      route", "remote: backed\n      route", `remote "backed"`},
		"app":      {"id: ari:cloud:ecosystem::app/", "id: app/", "no ARI"},
		"yaml":     {"modules:", "modules: [", "manifest:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(string(raw), tt.from, tt.to, 1)
			if changed == string(raw) {
				t.Fatal("nothing was changed")
			}
			path := filepath.Join(t.TempDir(), "manifest.yml")
			if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := bitbucketsim.New(bitbucketsim.Options{}).RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: path})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want one that says %s", err, tt.want)
			}
		})
	}
}
