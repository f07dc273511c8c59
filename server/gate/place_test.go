package gate_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestAStatusSpendsWhatItCalls: the job of a status asks the budget before it knows whether it will write. Whatever becomes of
// it, what is spent in the end are the calls that were made.
func TestAStatusSpendsWhatItCalls(t *testing.T) {
	w := newWorld(t)
	var reserved, returned, called atomic.Int64
	api := bitbucket.New(bitbucket.Config{
		BaseURL: w.sim.URL(), Timeout: callTimeout, Transport: w.wire,
		Reserve: func(context.Context, bitbucket.Call) error { reserved.Add(1); return nil },
		Return:  func(context.Context, bitbucket.Call, time.Time) { returned.Add(1) },
		Observe: func(bitbucket.Call, int, time.Duration) { called.Add(1) },
	})
	w.gate.Client = func(_ context.Context, _ string, class bitbucket.Class) (*bitbucket.Client, error) {
		return api.As(w.token, "test", class), nil
	}
	// status runs the job that is rung, and tells of how much it gave back.
	status := func(what string, gaveBack int64) {
		t.Helper()
		reserved.Store(0)
		returned.Store(0)
		called.Store(0)
		if done, _ := w.only(store.KindStatus); done != 1 {
			t.Fatalf("%s: %d jobs", what, done)
		}
		if reserved.Load()-returned.Load() != called.Load() || returned.Load() != gaveBack {
			t.Errorf("%s: %d reserved, %d given back, %d calls; want %d given back", what, reserved.Load(), returned.Load(), called.Load(), gaveBack)
		}
	}
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.allBut(store.KindStatus)
	status("a status in progress", 0)
	head := w.view(number).PullRequest.HeadCommit
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")

	w.decides(number, "bob", approval.Approve)
	w.allBut(store.KindStatus)
	works := w.gate.Publish
	w.gate.Publish = func(context.Context, int64, int) error { return errors.New("the log is away") }
	status("a green one that cannot be published", 1)
	w.gate.Publish = works
	w.soon()
	status("a green one", 0)
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")

	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(t.Context(), store.AskStatus(w.workspace, w.view(number).PullRequest.ID, head))
	})
	status("one that Bitbucket shows already", 1)
}
