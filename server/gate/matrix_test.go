package gate_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestAWriteThatLandsLateIsUndone lets the write of SUCCESSFUL land after the withdrawal was shown:
// a worker that was given up on had its call still in flight.
func TestAWriteThatLandsLateIsUndone(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	head := w.approvedInTheAir(number)
	w.decides(number, "bob", approval.Withdraw)
	w.drain() // what is to be looked at once more waits
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
	// Now the call lands.
	v := w.view(number)
	_, err := w.client.PutStatus(t.Context(), "acme", "rocket", head, bitbucketStatus(v.PullRequest.StatusKey, v.Status.URL))
	w.must(err)
	w.soon()
	w.sql(`update signedapproval_bitbucket_commit_statuses set doubt_until = now()`)
	for _, ring := range w.due() {
		w.must(w.do(ring))
	}
	w.drainAll()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
}

// TestACallThatWasGivenUpIsRememberedHoweverItsJobEnded lets the write of SUCCESSFUL land after the withdrawal was shown. Its job
// went back without blame, as when a server stops, or failed for the last time.
func TestACallThatWasGivenUpIsRememberedHoweverItsJobEnded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		burn bool
		most int
	}{
		"the server stopped":      {false, 12},
		"it was the last attempt": {true, 1},
		"it was one more failure": {true, 12},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob"))
			number := w.open()
			w.settle()
			head := w.view(number).PullRequest.HeadCommit
			w.decides(number, "bob", approval.Approve)
			w.allBut(store.KindStatus)
			_, err := w.sim.AddFault(bitbucketsim.Fault{Method: http.MethodPost, Path: `/statuses/build`, Status: http.StatusGatewayTimeout, Times: 50})
			w.must(err)
			for _, ring := range w.due() {
				if ring.Kind != store.KindStatus {
					continue
				}
				job, ok, err := w.store.ClaimJob(t.Context(), ring.ID, uuid.NewString(), time.Minute)
				w.must(err)
				if !ok {
					t.Fatal("not claimed")
				}
				cause := w.gate.PutStatus(t.Context(), job)
				if cause == nil {
					t.Fatal("the call was answered")
				}
				_, err = w.store.RetryJob(t.Context(), job.Claim, cause.Error(), 0, c.burn, c.most)
				w.must(err)
			}
			w.sim.ClearFaults()
			w.decides(number, "bob", approval.Withdraw)
			w.drain()
			w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
			v := w.view(number)
			_, err = w.client.PutStatus(t.Context(), "acme", "rocket", head, bitbucketStatus(v.PullRequest.StatusKey, v.Status.URL))
			w.must(err)
			w.soon()
			w.sql(`update signedapproval_bitbucket_commit_statuses set doubt_until = now() where doubt_until is not null`)
			for _, ring := range w.due() {
				w.must(w.do(ring))
			}
			w.drainAll()
			w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
		})
	}
}

// TestASentenceThatLandsLateIsUndone lets the write of an older sentence land after a newer one of the same state was shown. One
// that Bitbucket should spell in its own way is written once more, and not forever.
func TestASentenceThatLandsLateIsUndone(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.approvedInTheAir(number)
	w.decides(number, "carol", approval.Approve)
	w.drain()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob and Carol")
	v := w.view(number)
	late := bitbucketStatus(v.PullRequest.StatusKey, v.Status.URL)
	late.Description = "approved by Bob"
	land := func() {
		t.Helper()
		_, err := w.client.PutStatus(t.Context(), "acme", "rocket", head, late)
		w.must(err)
		w.soon()
	}
	land()
	w.sql(`update signedapproval_bitbucket_commit_statuses set doubt_until = now()`)
	for _, ring := range w.due() {
		w.must(w.do(ring))
	}
	w.drainAll()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob and Carol")
	if n := w.alarms(store.AlarmForeignStatus); n > 0 {
		t.Errorf("%d alarms of a call of our own", n)
	}

	// Nobody is in doubt any more: the event of a status is not answered with a write that causes the next event.
	land()
	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(t.Context(), store.AskStatusSeen(w.workspace, w.repository, v.PullRequest.StatusKey))
	})
	for _, ring := range w.due() {
		w.must(w.do(ring))
	}
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	if left := w.due(); len(left) > 0 {
		t.Errorf("the event left %v", left)
	}
	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(t.Context(), store.AskStatus(w.workspace, v.PullRequest.ID, head))
	})
	w.drainAll()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob and Carol")
}

// TestAWorkerThatLostItsLeaseChangesNothing lets two workers evaluate the same pull request; only
// the newer claim may write.
func TestAWorkerThatLostItsLeaseChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	number := w.open()
	var evaluate store.Ring
	for _, ring := range w.due() {
		if ring.Kind == store.KindEvaluate {
			evaluate = ring
		}
	}
	slow, ok, err := w.store.ClaimJob(t.Context(), evaluate.ID, uuid.NewString(), time.Minute)
	w.must(err)
	if !ok {
		t.Fatal("the job cannot be claimed")
	}
	w.expireLeases()
	w.settle()
	before := w.view(number)
	if err := w.gate.Evaluate(t.Context(), slow); err == nil {
		t.Error("the worker that slept could finish")
	}
	if after := w.view(number); after.PullRequest.Version != before.PullRequest.Version || after.PullRequest.ChainSequence != before.PullRequest.ChainSequence {
		t.Error("the worker that slept changed something")
	}
	w.check(true)
}

// approvedInTheAir lets bob approve a pull request, and the worker that writes that die with its call on the way. It answers the head.
func (w *world) approvedInTheAir(number int64) string {
	w.t.Helper()
	w.decides(number, "bob", approval.Approve)
	for _, kind := range []string{store.KindEvaluate, store.KindStatus} {
		for _, ring := range w.due() {
			switch {
			case ring.Kind != kind:
			case kind == store.KindStatus:
				w.crashBefore(ring)
			default:
				w.must(w.do(ring))
			}
		}
	}
	return w.view(number).PullRequest.HeadCommit
}

// crashBefore claims a job and dies.
func (w *world) crashBefore(ring store.Ring) {
	w.t.Helper()
	_, ok, err := w.store.ClaimJob(w.t.Context(), ring.ID, uuid.NewString(), time.Minute)
	w.must(err)
	if !ok {
		w.t.Fatal("the job cannot be claimed")
	}
	w.expireLeases()
}

func (w *world) expireLeases() {
	w.t.Helper()
	w.sql(`update signedapproval_jobs set leased_until = now() - interval '1 second' where leased_until is not null`)
}

// soon makes everything that waits due, but for the walks that repeat themselves.
func (w *world) soon() {
	w.t.Helper()
	w.sql(`update signedapproval_jobs set run_at = now() where state = 'READY' and run_at > now() and kind not in ('reconcile', 'sweep')
		and not (kind = 'evaluate' and run_at > now() + interval '1 hour')`)
}

// unanswered lets so much time pass that no call to merge of which no answer came can land any more.
func (w *world) unanswered() {
	w.t.Helper()
	w.sql(`update signedapproval_merge_intents set updated_at = updated_at - case when task_id = '' and sentence = '' then interval '10 minutes 1 second'
		else interval '31 seconds' end where state = 'CALLING'`)
}

// drainAll drains with what waits for its next attempt made due, until nothing is.
func (w *world) drainAll() {
	w.t.Helper()
	for range 5 {
		w.drain()
		w.soon()
	}
	w.drain()
}

func (w *world) untilMerged(number int64) {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		w.drainAll()
		if v := w.view(number); v.Merge != nil && v.Merge.State == store.MergeMerged && v.PullRequest.State == "MERGED" {
			return
		}
		if time.Now().After(deadline) {
			v := w.view(number)
			w.t.Fatalf("not merged: pull request %s, merge %+v, status %+v", v.PullRequest.State, v.Merge, v.Status)
		}
	}
}

// merges counts the merge commits on the destination branch.
func (w *world) merges() int {
	w.t.Helper()
	return w.landings(func([]string) bool { return true })
}

// landings counts the commits of the destination that merge what is asked for, by their parents.
func (w *world) landings(of func(parents []string) bool) (n int) {
	w.t.Helper()
	branch, err := w.client.Branch(w.t.Context(), "acme", "rocket", release)
	w.must(err)
	for hash := branch.Head; hash != ""; {
		commit, err := w.client.Commit(w.t.Context(), "acme", "rocket", hash)
		w.must(err)
		if len(commit.Parents) > 1 && of(commit.Parents) {
			n++
		}
		hash = ""
		if len(commit.Parents) > 0 {
			hash = commit.Parents[0]
		}
	}
	return n
}

func bitbucketStatus(key, url string) bitbucket.Status {
	return bitbucket.Status{Key: key, State: bitbucket.StatusSuccessful, URL: url, RefName: feature, Name: "SignedApproval"}
}
