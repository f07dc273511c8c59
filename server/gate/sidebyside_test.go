package gate_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

// The head is asked for while Bitbucket still thinks about the pull request.
func TestFactsAreReadSideBySide(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	w.open()
	_, err := w.sim.AddFault(bitbucketsim.Fault{Method: http.MethodGet, Path: `/pullrequests/1$`, Times: 1, Hang: true})
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var job store.Job
	for _, ring := range w.due() {
		if ring.Kind == store.KindEvaluate {
			job, _, err = w.store.ClaimJob(ctx, ring.ID, uuid.NewString(), time.Minute)
			w.must(err)
		}
	}
	if job.ID == 0 {
		t.Fatal("no evaluation is due")
	}
	ended := make(chan error, 1)
	go func() { ended <- w.gate.Evaluate(ctx, job) }()
	head := func(c bitbucketsim.Call) bool { return strings.HasSuffix(c.Path, "/pullrequests/1/commits") }
	if _, err := w.sim.WaitCall(ctx, head); err != nil {
		t.Error("the head is not asked for before the pull request is there:", err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("an evaluation without a pull request ended well")
	}
	w.expireLeases()
	w.drainAll()
	if v := w.view(1); v.Request == nil || v.Status == nil || !v.Status.Paid() {
		t.Error("the pull request was not evaluated afterwards")
	}
}

// A head that was read before a push, beside a pull request that was read after it, is thrown away.
func TestAHeadOfBeforeThePushIsThrownAway(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	number := w.open()
	w.drainAll()
	old := w.view(number).PullRequest.HeadCommit
	pushed := w.push("src/more.go", "package main\n")
	before := w.calls(http.MethodGet, `/pullrequests/1/commits$`)
	_, err := w.sim.AddFault(bitbucketsim.Fault{
		Method: http.MethodGet, Path: `/pullrequests/1/commits$`, Times: 1, Status: http.StatusOK, Body: `{"values": [{"hash": "` + old + `"}]}`,
	})
	w.must(err)
	w.event(number)
	w.drain()
	v := w.view(number)
	if v.PullRequest.HeadCommit != pushed || v.Request == nil || v.Request.HeadCommit != pushed {
		t.Errorf("the head is %s, not %s, or the request is about another one", v.PullRequest.HeadCommit, pushed)
	}
	if again := w.calls(http.MethodGet, `/pullrequests/1/commits$`) - before; again < 2 {
		t.Errorf("the head was read %d times: the stale one was taken", again)
	}
}

// headPanics is a way to Bitbucket that panics when the head of a pull request is asked for.
type headPanics struct{ http.RoundTripper }

func (p headPanics) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/commits") {
		panic("no way to the head")
	}
	return p.RoundTripper.RoundTrip(r)
}

// A panic beside the reading of the pull request is one of the job, which the queue makes an error of, and not the end of
// the process.
func TestAPanicBesideTheReadingIsTheJobs(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	number := w.open()
	works := w.client
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	w.must(err)
	api := bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL(), Timeout: callTimeout, Transport: headPanics{w.wire}})
	w.client = api.As(token.AccessToken, "test", bitbucket.Foreground)
	var caught any
	func() {
		defer func() { caught = recover() }()
		w.onlyAll(store.KindEvaluate)
	}()
	if told, _ := caught.(string); !strings.Contains(told, "no way to the head") || !strings.Contains(told, "RoundTrip") {
		t.Errorf("the job's own goroutine caught %v", caught)
	}
	w.client = works
	w.expireLeases()
	w.drainAll()
	if v := w.view(number); v.Request == nil || v.Status == nil || !v.Status.Paid() {
		t.Error("the pull request was not evaluated afterwards")
	}
}
