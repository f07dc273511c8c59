package gate_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

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
