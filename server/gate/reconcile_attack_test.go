package gate_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestTheWalkGoesOnWithoutAWebhook has Bitbucket refuse the webhook for good, as it does where a
// repository has as many as it may have: then the walk is all that finds what changed.
func TestTheWalkGoesOnWithoutAWebhook(t *testing.T) {
	w := newWorld(t)
	w.gate.EnsureHook = func(context.Context, string, string) error {
		return &bitbucket.Error{Op: "create webhook", Status: 400, Message: "too many webhooks"}
	}
	w.save(w.rule(1, "bob"))
	w.settle()
	w.openSilently()
	w.sql(`update signedapproval_jobs set run_at = now() where kind = 'reconcile'`)
	w.settle()
	w.expect(1, w.view(1).PullRequest.HeadCommit, "INPROGRESS", "0 of 1 approval; waiting for Bob")
}

// TestTheWalkNeverGivesUp lets Bitbucket deny the repository: whoever took the right away may give it back.
func TestTheWalkNeverGivesUp(t *testing.T) {
	t.Parallel()
	for _, status := range []int{403, 404, 410, 500} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob"))
			_, err := w.sim.AddFault(bitbucketsim.Fault{Method: "GET", Path: "/pullrequests$", Status: status, Times: 1})
			w.must(err)
			walked := false
			for _, ring := range w.due() {
				if ring.Kind != store.KindReconcile {
					continue
				}
				walked = true
				job, ok, err := w.store.ClaimJob(t.Context(), ring.ID, uuid.NewString(), time.Minute)
				w.must(err)
				if !ok {
					t.Fatal("the job cannot be claimed")
				}
				err = w.gate.Reconcile(t.Context(), job)
				if err == nil || jobs.IsPermanent(err) {
					t.Errorf("the walk ended: %v", err)
				}
				var again interface{ RetryAt() (time.Time, bool) }
				if !errors.As(err, &again) {
					t.Errorf("the failure counts against the walk: %v", err)
				}
			}
			if !walked {
				t.Fatal("there was no walk")
			}
		})
	}
}

// TestAStatusThatWasGivenUpIsOwedStill has Bitbucket refuse, in a way that ends the job, the write that
// takes a green status back.
func TestAStatusThatWasGivenUpIsOwedStill(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	w.decides(number, "bob", approval.Withdraw)
	w.onlyAll(store.KindEvaluate)
	w.sql(`update signedapproval_jobs set state = 'DEAD' where kind = 'status'`)
	w.soon()
	w.sql(`update signedapproval_jobs set run_at = now() where kind = 'reconcile'`)
	w.onlyAll(store.KindReconcile)
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
}
