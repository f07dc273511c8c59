package gate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

// steps are the calls to Bitbucket that the road of a pull request takes, from the event to the
// merge.
var steps = []struct{ name, method, path string }{
	{"read the pull request", "GET", `/pullrequests/1$`},
	{"read the head", "GET", `/pullrequests/1/commits$`},
	{"read the people", "GET", `/permissions/repositories/`},
	{"write the status", "POST", `/statuses/build$`},
	{"read the restrictions", "GET", `/branch-restrictions$`},
	{"merge", "POST", `/merge$`},
}

// mishaps are what becomes of a call: it failed, or it failed but happened.
var mishaps = []struct {
	name  string
	fault bitbucketsim.Fault
}{
	{"fails with 500", bitbucketsim.Fault{Status: 500}},
	{"fails with 429", bitbucketsim.Fault{Status: 429}},
	{"times out before anything happened", bitbucketsim.Fault{Hang: true}},
	{"happens, and answers 555", bitbucketsim.Fault{Status: 555, AfterEffect: true}},
	{"happens, and the answer is lost", bitbucketsim.Fault{LostReply: true}},
}

// TestFailureMatrix lets each step meet each mishap, once early and once late, and expects the same
// end: the approved head merged once, one leaf per cause, and never a green status without its
// quorum, which drain checks after every job.
func TestFailureMatrix(t *testing.T) {
	t.Parallel()
	for _, step := range steps {
		for _, mishap := range mishaps {
			for _, skip := range []int{0, 1} {
				if skip > 0 && (step.name == "merge" || step.name == "read the restrictions") {
					continue // they happen once
				}
				t.Run(fmt.Sprintf("%s %s, after %d", step.name, mishap.name, skip), func(t *testing.T) {
					w := newWorld(t)
					rule := w.rule(1, "bob")
					rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
					w.save(rule)
					w.settle()
					fault := mishap.fault
					fault.Method, fault.Path, fault.Skip, fault.Times = step.method, step.path, skip, 1
					_, err := w.sim.AddFault(fault)
					w.must(err)
					number := w.open()
					w.drainAll()
					w.retry(func() error { _, err := w.decide(number, "bob", approval.Approve); return err })
					w.untilMerged(number)
					w.checkEnd(number)
				})
			}
		}
	}
}

// TestACrashAtEachStep kills the worker while Bitbucket carries out its call; another worker takes
// over when the lease has run out.
func TestACrashAtEachStep(t *testing.T) {
	t.Parallel()
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			w := newWorld(t)
			rule := w.rule(1, "bob")
			rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
			w.save(rule)
			w.settle()
			number := w.open()
			crashed := false
			for range 400 {
				rings := w.due()
				if len(rings) == 0 {
					v := w.view(number)
					if v.Merge != nil && v.Merge.State == store.MergeMerged && v.PullRequest.State == "MERGED" {
						break
					}
					if v.Request != nil && len(v.Decisions) == 0 {
						w.decides(number, "bob", approval.Approve)
						continue
					}
					w.soon()
					continue
				}
				for _, ring := range rings {
					if crashed {
						_ = w.do(ring)
					} else {
						crashed = w.crash(ring, step.method, step.path)
					}
					w.check(false)
				}
			}
			if !crashed {
				t.Fatal("the step was never reached")
			}
			w.drainAll()
			w.checkEnd(number)
		})
	}
}

// TestAWriteThatLandsLateIsUndone lets the write of SUCCESSFUL land after the withdrawal was shown:
// a worker that was given up on had its call still in flight.
func TestAWriteThatLandsLateIsUndone(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	for _, ring := range w.due() {
		if ring.Kind == store.KindEvaluate {
			w.must(w.do(ring))
		}
	}
	// The first worker dies with its call on the way.
	for _, ring := range w.due() {
		if ring.Kind == store.KindStatus {
			w.crashBefore(ring)
		}
	}
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

// crash runs a job whose worker dies when Bitbucket gets the call; it answers whether that happened.
func (w *world) crash(ring store.Ring, method, path string) bool {
	w.t.Helper()
	job, ok, err := w.store.ClaimJob(w.t.Context(), ring.ID, uuid.NewString(), time.Minute)
	w.must(err)
	if !ok {
		return false
	}
	before := w.calls(method, path)
	_, err = w.sim.AddFault(bitbucketsim.Fault{Method: method, Path: path, Times: 1, LostReply: true})
	w.must(err)
	err = w.run(job)
	w.sim.ClearFaults()
	if w.calls(method, path) > before {
		w.expireLeases() // nobody gives the job back: it is found when the lease has run out
		return true
	}
	if err != nil {
		_, retryErr := w.store.RetryJob(w.t.Context(), job.Claim, err.Error(), 0, true, 50)
		w.must(retryErr)
	}
	return false
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

// drainAll drains with what waits for its next attempt made due, until nothing is.
func (w *world) drainAll() {
	w.t.Helper()
	for range 5 {
		w.drain()
		w.soon()
	}
	w.drain()
}

// retry does what a person does whom Bitbucket did not answer: try again.
func (w *world) retry(do func() error) {
	w.t.Helper()
	var err error
	for range 3 {
		if err = do(); err == nil {
			return
		}
	}
	w.must(err)
}

func (w *world) untilMerged(number int64) {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
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

// checkEnd makes sure that each cause left one leaf, and that one merge landed.
func (w *world) checkEnd(number int64) {
	w.t.Helper()
	w.check(true)
	v := w.view(number)
	events, _, err := w.gate.History(w.t.Context(), v, 0, 1000)
	w.must(err)
	count := map[string]int{}
	for _, e := range events {
		count[e.Type]++
	}
	for kind, want := range map[string]int{"request-opened": 1, "decision": 1, "merged": 1, "request-closed": 0} {
		if count[kind] != want {
			w.t.Errorf("%d leaves of type %s, want %d", count[kind], kind, want)
		}
	}
	w.expect(number, v.PullRequest.HeadCommit, "SUCCESSFUL", "approved by Bob")
	if merges := w.merges(); merges != 1 {
		w.t.Errorf("%d merge commits landed", merges)
	}
}

// merges counts the merge commits on the destination branch.
func (w *world) merges() (n int) {
	w.t.Helper()
	branch, err := w.client.Branch(w.t.Context(), "acme", "rocket", release)
	w.must(err)
	for hash := branch.Head; hash != ""; {
		commit, err := w.client.Commit(w.t.Context(), "acme", "rocket", hash)
		w.must(err)
		if len(commit.Parents) > 1 {
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
