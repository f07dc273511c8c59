package gate_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// patiently does the due jobs, and puts off, as the queue does, those that say when to come back. Any
// other failure is the test's. It answers the kinds of those that were put off.
func (w *world) patiently() (waiting []string) {
	w.t.Helper()
	ctx := w.t.Context()
	for rings := w.due(); len(rings) > 0; rings = w.due() {
		for _, ring := range rings {
			job, ok, err := w.store.ClaimJob(ctx, ring.ID, uuid.NewString(), time.Minute)
			w.must(err)
			if !ok {
				continue
			}
			if err = w.run(job); err == nil {
				continue
			}
			var later interface{ RetryAt() (time.Time, bool) }
			if !errors.As(err, &later) {
				w.t.Fatalf("%s fails instead of waiting: %v", job.Kind, err)
			}
			_, err = w.store.RetryJob(ctx, job.Claim, err.Error(), time.Hour, false, 3)
			w.must(err)
			waiting = append(waiting, job.Kind)
		}
	}
	return waiting
}

// TestWhatIsWrittenWaitsForTheAppsToken approves a pull request while the gate may read and not write:
// the status and the merge wait without blame or alarm, and are made once they are rung.
func TestWhatIsWrittenWaitsForTheAppsToken(t *testing.T) {
	for _, code := range []string{refusal.WaitingForToken, refusal.AwaitingConfirmation} {
		t.Run(code, func(t *testing.T) {
			w := newWorld(t)
			rule := w.rule(1, "bob")
			rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
			w.save(rule)
			number := w.open()
			w.settle()

			writes := w.client
			w.client = writes.ReadOnly(refusal.New(code, "Not now."))
			w.decides(number, "bob", approval.Approve)
			if waiting := w.patiently(); !slices.Equal(waiting, []string{store.KindStatus}) {
				t.Errorf("%q wait, want the status", waiting)
			}
			// As if the status had been paid before the token's time was over.
			w.client = writes
			w.ring(code)
			for _, ring := range w.due() {
				if ring.Kind == store.KindStatus {
					w.must(w.do(ring))
				}
			}
			w.client = writes.ReadOnly(refusal.New(code, "Not now."))
			if waiting := w.patiently(); !slices.Contains(waiting, store.KindMerge) {
				t.Errorf("%q wait, want the merge among them", waiting)
			}
			if n := w.merges(); n != 0 {
				t.Errorf("%d merges were sent", n)
			}
			w.in(func(tx *store.Tx) error {
				alarms, err := tx.OpenAlarms(t.Context())
				for _, a := range alarms {
					t.Errorf("alarm %s: %s", a.Kind, a.Sentence)
				}
				return err
			})

			w.client = writes
			w.ring(code)
			w.waitMerged(number)
			if v := w.view(number); v.Merge.State != store.MergeMerged {
				t.Errorf("the merge is %s: %s", v.Merge.State, v.Merge.Sentence)
			}
			if n := w.merges(); n != 1 {
				t.Errorf("%d merges were sent", n)
			}
		})
	}
}

// ring does what the arrival of a token does.
func (w *world) ring(code string) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error { return tx.AskAgain(w.t.Context(), code) })
}

// TestJobsWaitWhileNobodyMayBeAsked: no client at all.
func TestJobsWaitWhileNobodyMayBeAsked(t *testing.T) {
	for _, code := range []string{refusal.WaitingForToken, refusal.AwaitingConfirmation, refusal.NeedsReconnecting} {
		t.Run(code, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob"))
			client := w.gate.Client
			w.gate.Client = func(context.Context, string, bitbucket.Class) (*bitbucket.Client, error) {
				return nil, refusal.New(code, "Not now.")
			}
			number := w.open()
			if waiting := w.patiently(); !slices.Contains(waiting, store.KindEvaluate) || !slices.Contains(waiting, store.KindReconcile) {
				t.Errorf("%q wait", waiting)
			}
			w.gate.Client = client
			w.ring(code)
			w.settle()
			w.expect(number, w.view(number).PullRequest.HeadCommit, "INPROGRESS", "0 of 1 approval; waiting for Bob")
		})
	}
}
