package bitbucketsim_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

func (w *world) fault(f bitbucketsim.Fault) {
	w.t.Helper()
	must(w.t)(w.sim.AddFault(f))
}

func TestFaultWithStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	bob := w.as("bob")
	w.fault(bitbucketsim.Fault{Method: "POST", Path: `/approve$`, Status: 503, Skip: 1, Times: 2})
	w.open("Nozzle")
	at := w.repo + "/pullrequests/1/approve"
	bob.do(200, "POST", at, nil)
	bob.do(503, "POST", at, nil)
	w.as("carol").do(503, "POST", at, nil)
	w.as("carol").do(200, "POST", at, nil)
	w.fault(bitbucketsim.Fault{Path: `/user$`, Person: "dave", Status: 429, Body: "slow down"})
	bob.get("/2.0/user")
	w.as("dave").do(429, "GET", "/2.0/user", nil)
	w.sim.ClearFaults()
	w.as("dave").get("/2.0/user")
	for _, f := range []bitbucketsim.Fault{{Path: `(`}, {Agent: `(`}} {
		if _, err := w.sim.AddFault(f); err == nil {
			t.Errorf("a pattern that does not compile was accepted: %+v", f)
		}
	}
	w.fault(bitbucketsim.Fault{Path: `/user$`, Agent: "^nobody's", Status: 503})
	w.as("dave").get("/2.0/user")
	w.fault(bitbucketsim.Fault{Path: `/user$`, Agent: "^Go-http-client/", Status: 503})
	w.as("dave").do(503, "GET", "/2.0/user", nil)
}

func TestTimeoutMayHaveMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	at := w.repo + "/pullrequests/1"
	w.fault(bitbucketsim.Fault{Path: `/merge$`, Status: 555, Times: 1})
	w.as("alice").do(555, "POST", at+"/merge", nil)
	if got := w.as("alice").get(at).str("state"); got != "OPEN" {
		t.Errorf("state is %s", got)
	}
	w.fault(bitbucketsim.Fault{Path: `/merge$`, Status: 555, Times: 1, AfterEffect: true})
	w.as("alice").do(555, "POST", at+"/merge", nil)
	if got := w.as("alice").get(at).str("state"); got != "MERGED" {
		t.Errorf("state is %s", got)
	}
}

func TestLostReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	w.fault(bitbucketsim.Fault{Method: "POST", Path: `/merge$`, LostReply: true, Times: 1})
	if out, err := w.as("alice").try("POST", w.repo+"/pullrequests/1/merge", nil); err == nil {
		t.Fatalf("an answer came: %d", out.status)
	}
	if got := w.as("alice").get(w.repo + "/pullrequests/1").str("state"); got != "MERGED" {
		t.Errorf("state is %s", got)
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.fault(bitbucketsim.Fault{Path: `/user$`, Hang: true, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for len(w.sim.Strikes()) == 0 { // it does not hang yet
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.sim.URL()+"/2.0/user", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.as("bob").token)
	if _, err := send(noRedirect, req); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	call, err := w.sim.WaitCall(within(t), func(c bitbucketsim.Call) bool { return c.Path == "/2.0/user" })
	if err != nil {
		t.Fatal(err)
	}
	if call.Status != 0 || call.Fault == 0 || call.Person != "bob" {
		t.Errorf("call is %+v", call)
	}
}

func TestSlowMergeBecomesATask(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{AsyncMergeDelay: time.Millisecond})
	w.open("Nozzle")
	w.fault(bitbucketsim.Fault{Path: `/merge$`, Async: true, Times: 1})
	task := w.as("alice").do(202, "POST", w.repo+"/pullrequests/1/merge", map[string]any{"type": "pullrequest"})
	at := task.header.Get("Location")
	w.as("alice").do(400, "GET", at+"x", nil)
	if got := w.pollTask(at); got.str("merge_result.state") != "MERGED" {
		t.Errorf("task ended with %s", got.raw)
	}
}

// pollTask asks for the status of a merge until it has ended.
func (w *world) pollTask(at string) reply {
	w.t.Helper()
	ctx := within(w.t)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := w.as("alice").try("GET", at, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		if out.str("task_status") != "PENDING" {
			return out
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatal("the task did not end")
		}
	}
}

func TestFailedMergeTask(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{AsyncMergeDelay: time.Millisecond})
	w.open("Nozzle")
	w.diverge()
	task := w.as("alice").do(202, "POST", w.repo+"/pullrequests/1/merge?async=true", map[string]any{"merge_strategy": "fast_forward"})
	if out := w.pollTask(task.header.Get("Location")); out.status != 400 || out.str("error.message") == "" {
		t.Errorf("task ended with %d %s", out.status, out.raw)
	}
}

func TestTokenEndpointFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	conf := w.consumer("account")
	w.fault(bitbucketsim.Fault{Path: `^/site/oauth2/access_token$`, Status: 503, Times: 1})
	code := w.code(conf, "bob")
	if _, err := conf.Exchange(t.Context(), code); err == nil {
		t.Error("the fault did not strike")
	}
	if _, err := conf.Exchange(t.Context(), code); err != nil {
		t.Errorf("the code was used up by a call that was not carried out: %v", err)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	clock := newClock()
	w := newWorld(t, bitbucketsim.Options{Now: clock.now, RepositoryCallsPerHour: 3, HookCallsPerHour: 1})
	bob, alice := w.as("bob"), w.as("alice")
	for range 3 {
		out := bob.get(w.repo)
		for name := range out.header {
			if name == "Retry-After" || name == "X-Ratelimit-Limit" {
				t.Errorf("an OAuth consumer is told %s", name)
			}
		}
		clock.advance(10 * time.Minute)
	}
	limited := bob.do(429, "GET", w.repo, nil)
	if got := limited.str("error.message"); got != "Rate limit for this resource has been exceeded" {
		t.Errorf("429 says %q", got)
	}
	bob.get("/2.0/user") // no repository call
	alice.get(w.repo)    // another grant
	alice.get(w.repo + "/hooks")
	alice.do(429, "GET", w.repo+"/hooks", nil)
	alice.get(w.repo) // hooks count by themselves
	clock.advance(31 * time.Minute)
	bob.get(w.repo) // the first call is an hour old
	bob.do(429, "GET", w.repo, nil)
}

func TestCallsAreLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.as("bob").get(w.repo + "/pullrequests?state=OPEN")
	w.as("dave").do(403, "GET", w.repo+"/hooks", nil)
	calls := w.sim.Calls(0)
	if len(calls) != 2 {
		t.Fatalf("%d calls are logged", len(calls))
	}
	first := calls[0]
	if first.Number != 1 || first.Method != "GET" || first.Path != w.repo+"/pullrequests" || first.Query != "state=OPEN" ||
		first.Person != "bob" || first.Status != 200 || first.Agent != "Go-http-client/1.1" {
		t.Errorf("first call is %+v", first)
	}
	if rest := w.sim.Calls(1); len(rest) != 1 || rest[0].Person != "dave" || rest[0].Status != 403 {
		t.Errorf("calls after the first are %+v", rest)
	}
}

// TestStrikesAreCounted counts what has met somebody, also once the fault is spent or cleared.
func TestStrikesAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	twice, err := w.sim.AddFault(bitbucketsim.Fault{Path: `/user$`, Status: 503, Skip: 1, Times: 2})
	must(t)(twice, err)
	never, err := w.sim.AddFault(bitbucketsim.Fault{Path: `/nowhere$`, Status: 503})
	must(t)(never, err)
	w.hook(newReceiver(t).URL, "", "pullrequest:created")
	dropped, err := w.sim.AddWebhookFault(bitbucketsim.WebhookFault{Event: "created", Drop: true})
	must(t)(dropped, err)
	for _, status := range []int{200, 503, 503, 200} {
		w.as("bob").do(status, "GET", "/2.0/user", nil)
	}
	w.open("Nozzle")
	w.sim.ClearFaults()
	strikes := w.sim.Strikes()
	if strikes[twice.ID] != 2 || strikes[never.ID] != 0 || strikes[dropped.ID] != 1 {
		t.Errorf("%v have struck", strikes)
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	t.Parallel()
	sim := bitbucketsim.New(bitbucketsim.Options{})
	if err := sim.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := sim.WaitCall(context.Background(), func(bitbucketsim.Call) bool { return false })
		ended <- err
	}()
	if err := sim.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("waiting ended without an error")
		}
	case <-within(t).Done():
		t.Error("waiting did not end")
	}
}
