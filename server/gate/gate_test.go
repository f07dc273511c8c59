package gate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

func TestQuorumTurnsTheStatusGreen(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.expect(number, head, "INPROGRESS", "0 of 2 approvals; waiting for Bob or Carol")

	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.expect(number, head, "INPROGRESS", "1 of 2 approvals; waiting for Carol")

	w.decides(number, "carol", approval.Reject)
	w.settle()
	w.expect(number, head, "FAILED", "rejected by Carol")

	w.decides(number, "carol", approval.Withdraw)
	w.settle()
	w.expect(number, head, "INPROGRESS", "1 of 2 approvals; waiting for Carol")

	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob and Carol")

	w.decides(number, "bob", approval.Withdraw)
	w.settle()
	w.expect(number, head, "INPROGRESS", "1 of 2 approvals; waiting for Bob")
}

func TestANewHeadNeedsNewApprovals(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	old := w.view(number).PullRequest.HeadCommit
	late, err := w.draft(number, "bob", approval.Approve)
	w.must(err)
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.expect(number, old, "SUCCESSFUL", "approved by Bob")

	head := w.push("src/nozzle.go", "package main // better\n")
	w.event(number)
	w.settle()
	w.expect(number, old, "STOPPED", "superseded by a newer commit")
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
	if _, err := w.submit("bob", late); refusal.Code(err) != gate.CodeSuperseded {
		t.Errorf("a late decision on the old head: %v, want %s", err, gate.CodeSuperseded)
	}
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
}

func TestAForcePushBackToAnApprovedHeadNeedsNewApprovals(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	old := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.push("src/nozzle.go", "package main // other\n")
	w.event(number)
	w.settle()
	w.rewind(feature, old)
	w.event(number)
	w.settle()
	w.expect(number, old, "INPROGRESS", "0 of 1 approval; waiting for Bob")
}

func TestTitlesDescriptionsAndDraftsAreTold(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	before := w.view(number)
	w.edit(number, map[string]any{"title": "Add a better nozzle"})
	w.event(number)
	w.settle()
	after := w.view(number)
	if after.PullRequest.Title != "Add a better nozzle" || after.Request.ID != before.Request.ID || after.Request.State != store.RequestApproved {
		t.Errorf("a new title: %q, request %s %s", after.PullRequest.Title, after.Request.ID, after.Request.State)
	}
	w.edit(number, map[string]any{"draft": true})
	w.event(number)
	w.settle()
	w.expect(number, before.PullRequest.HeadCommit, "STOPPED", "cancelled: the pull request is a draft")
	w.edit(number, map[string]any{"draft": false})
	w.event(number)
	w.settle()
	w.expect(number, before.PullRequest.HeadCommit, "INPROGRESS", "0 of 1 approval; waiting for Bob")
}

func TestRetargeting(t *testing.T) {
	w := newWorld(t)
	main := w.rule(1, "carol")
	main.Name, main.Branches = "Main", []string{"main"}
	w.save(w.rule(1, "bob"), main)
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
	w.event(number)
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Carol")
	w.save(w.rule(1, "bob")) // main is not gated any more
	w.settle()
	w.expect(number, head, "STOPPED", "cancelled: no rule asks for approval of this destination branch")
}

func TestAChangedRuleAsksAnewAndKeepsRejections(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	w.save(w.rule(2, "bob", "carol"))
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 2 approvals; waiting for Bob or Carol")
	w.decides(number, "carol", approval.Reject)
	w.settle()
	other := w.rule(1, "bob", "carol")
	other.Name = "Renamed"
	w.save(other)
	w.settle()
	w.expect(number, head, "FAILED", "rejected by Carol")
	w.decides(number, "carol", approval.Withdraw)
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
}

func TestAnotherRuleOfThePolicyVoidsNothing(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	before := w.view(number).Request.ID
	other := w.rule(2, "bob", "carol")
	other.Name, other.Branches = "Hotfixes", []string{"hotfix/**"}
	w.save(w.rule(1, "bob"), other)
	w.settle()
	if after := w.view(number).Request; after.ID != before || after.State != store.RequestApproved {
		t.Errorf("the request became %s %s", after.ID, after.State)
	}
}

// TestNothingIsJudgedByAnOlderPolicy lets the operator point a repository at weaker rules that it had before, of which the
// log would say nothing.
func TestNothingIsJudgedByAnOlderPolicy(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.sql(`update signedapproval_bitbucket_repo_configs c set policy_version_id = v.id from signedapproval_policy_versions v
		where v.repository_id = c.repository_id and v.version = 1`)
	w.decides(number, "bob", approval.Approve)
	failed := w.drain()
	if len(failed) == 0 {
		t.Fatal("nothing failed")
	}
	for _, err := range failed {
		if !errors.Is(err, store.ErrPolicyBehind) {
			t.Error(err)
		}
	}
	w.expect(number, head, "INPROGRESS", "0 of 2 approvals; waiting for Bob or Carol")
	if got := w.mergeCheck(number); got.Success {
		t.Errorf("the merge check answered %+v", got)
	}

	t.Log("an administrator saves the rules again")
	w.save(w.rule(2, "bob", "carol"))
	w.event(number)
	w.settle()
	w.expect(number, head, "INPROGRESS", "1 of 2 approvals; waiting for Carol")
}

func TestExpiryAndAskingAgain(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.sql(`update signedapproval_approval_requests set expires_at = now() - interval '1 minute'`)
	w.sql(`update signedapproval_jobs set run_at = now() where kind = 'evaluate'`)
	w.settle()
	w.expect(number, head, "FAILED", "expired before 1 approval was given (0 of 1)")
	if _, err := w.decide(number, "bob", approval.Approve); refusal.Code(err) != gate.CodeExpired {
		t.Errorf("approving an expired request: %v", err)
	}
	_, err := w.gate.Renew(t.Context(), w.people["bob"].Person, w.workspace, w.view(number).Request.ID)
	w.must(err)
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
}

func TestClosedPullRequests(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.post(number, "decline", nil)
	w.event(number)
	w.settle()
	w.expect(number, head, "STOPPED", "cancelled: the pull request was closed")
	if _, err := w.decide(number, "bob", approval.Approve); refusal.Code(err) == "" {
		t.Errorf("approving a declined pull request: %v", err)
	}
}

func TestAMergeAroundTheGateIsAViolation(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	w.post(number, "merge", map[string]any{"type": "pullrequest"})
	w.event(number)
	w.settle()
	v := w.view(number)
	if v.PullRequest.State != "MERGED" || v.Request.State != store.RequestCancelled {
		t.Errorf("the pull request is %s, its request %s", v.PullRequest.State, v.Request.State)
	}
	w.alarmed(store.AlarmMergedUnapproved)
}

func TestAutoMerge(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit", CloseSourceBranch: true, MessageTemplate: "Merge #{number}: {title} ({approvers})"}
	w.save(rule)
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	w.waitMerged(number)
	v := w.view(number)
	if v.Merge.State != store.MergeMerged || v.Request.State != store.RequestApproved {
		t.Fatalf("merge %s %q, request %s", v.Merge.State, v.Merge.Sentence, v.Request.State)
	}
	commit, err := w.client.Commit(t.Context(), "acme", "rocket", v.Merge.MergeCommit)
	w.must(err)
	if len(commit.Parents) != 2 || commit.Parents[1] != head || strings.TrimSpace(commit.Message) != "Merge #1: Add the nozzle (Bob)" {
		t.Errorf("what landed: %+v", commit)
	}
	if n := w.calls("POST", "/merge$"); n != 1 {
		t.Errorf("Bitbucket was asked to merge %d times", n)
	}
}

func TestAutoMergeOverridesNoOtherCheck(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	two := 2
	_, err := w.client.CreateBranchRestriction(t.Context(), "acme", "rocket", bitbucket.BranchRestriction{
		Kind: bitbucket.RequirePassingBuilds, MatchKind: bitbucket.MatchGlob, Pattern: "release/*", Value: &two,
	})
	w.must(err)
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	v := w.view(number)
	if v.Merge.State != store.MergePlanned || v.Merge.Sentence != "not merged yet: Bitbucket asks for 2 passing builds and none failed or running" {
		t.Errorf("merge %s %q", v.Merge.State, v.Merge.Sentence)
	}
	if n := w.calls("POST", "/merge$"); n != 0 {
		t.Errorf("Bitbucket was asked to merge %d times", n)
	}
	// The other build passes after the approval, as builds do.
	head := v.PullRequest.HeadCommit
	_, err = w.client.PutStatus(t.Context(), "acme", "rocket", head, bitbucket.Status{
		Key: "ci", State: bitbucket.StatusSuccessful, URL: "https://ci.example/1", RefName: feature,
	})
	w.must(err)
	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(t.Context(), store.AskBuilds(w.workspace, w.repository, head))
	})
	w.waitMerged(number)
	if v := w.view(number); v.Merge.State != store.MergeMerged {
		t.Errorf("after the build: merge %s %q", v.Merge.State, v.Merge.Sentence)
	}
}

func TestAutoMergeNeverMergesAnotherHead(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1, "bob")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	// Everything is done but the merge itself; then somebody pushes, and its webhook is lost.
	for pending := true; pending; {
		pending = false
		for _, ring := range w.due() {
			if ring.Kind != store.KindMerge {
				w.must(w.do(ring))
				pending = true
			}
		}
	}
	w.push("src/evil.go", "package main // not what was approved\n")
	w.settle()
	v := w.view(number)
	if v.PullRequest.State != "OPEN" || v.Merge != nil && v.Merge.State == store.MergeMerged {
		t.Fatalf("the pull request is %s", v.PullRequest.State)
	}
	if n := w.calls("POST", "/merge$"); n != 0 {
		t.Errorf("Bitbucket was asked to merge %d times", n)
	}
}

func TestAForeignStatusIsNoticedAndOverwritten(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	v := w.view(number)
	_, err := w.client.PutStatus(t.Context(), "acme", "rocket", v.PullRequest.HeadCommit, bitbucket.Status{
		Key: v.PullRequest.StatusKey, State: bitbucket.StatusSuccessful, URL: "https://evil.example/", RefName: feature,
	})
	w.must(err)
	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(t.Context(), store.AskStatusSeen(w.workspace, w.repository, v.PullRequest.StatusKey))
	})
	for _, ring := range w.due() {
		w.must(w.do(ring))
	}
	w.settle()
	w.expect(number, v.PullRequest.HeadCommit, "INPROGRESS", "0 of 1 approval; waiting for Bob")
	w.alarmed(store.AlarmForeignStatus)
}

func TestTheReconcilerFindsWhatLostWebhooksHid(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	w.openSilently()
	w.sql(`update signedapproval_jobs set run_at = now() where kind = 'reconcile'`)
	w.settle()
	v := w.view(1)
	w.expect(1, v.PullRequest.HeadCommit, "INPROGRESS", "0 of 1 approval; waiting for Bob")
	head := w.push("src/nozzle.go", "package main // later\n")
	w.sql(`update signedapproval_jobs set run_at = now() where kind = 'reconcile'`)
	w.settle()
	w.expect(1, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
	w.post(1, "decline", nil)
	w.sql(`update signedapproval_jobs set run_at = now() where kind = 'reconcile'`)
	w.settle()
	w.expect(1, head, "STOPPED", "cancelled: the pull request was closed")
}

func TestTheSweepFindsWhatNoJobAttendsTo(t *testing.T) {
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
	w.sql(`delete from signedapproval_jobs`)
	w.must(w.gate.StartSweeping(t.Context()))
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
}

func TestAPullRequestThatBitbucketNoLongerHas(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	_, err := w.sim.AddFault(bitbucketsim.Fault{Method: "GET", Path: `/pullrequests/1$`, Status: 404})
	w.must(err)
	w.event(number)
	w.settle()
	w.expect(number, head, "STOPPED", "cancelled: Bitbucket no longer has the pull request")
}

func TestARepositoryOutOfSightVoidsNothing(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	before := w.view(number)
	for _, path := range []string{`/pullrequests/1$`, `/repositories/[^/]+/[^/]+$`} {
		_, err := w.sim.AddFault(bitbucketsim.Fault{Method: "GET", Path: path, Status: 404})
		w.must(err)
	}
	w.event(number)
	for _, ring := range w.due() {
		if err := w.do(ring); err == nil {
			t.Error("the evaluation came to an end")
		}
	}
	w.sim.ClearFaults()
	if after := w.view(number); after.Request.ID != before.Request.ID || after.Request.State != store.RequestPending {
		t.Errorf("the request became %s %s", after.Request.ID, after.Request.State)
	}
	w.soon()
	w.settle()
	w.expect(number, before.PullRequest.HeadCommit, "INPROGRESS", "1 of 2 approvals; waiting for Carol")
}

func TestAutoMergeCountsNobodyWhoLostTheRightToWrite(t *testing.T) {
	w := newWorld(t)
	rule := w.rule(1) // anyone with write permission
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	for pending := true; pending; { // all but the merge
		pending = false
		for _, ring := range w.due() {
			if ring.Kind != store.KindMerge {
				w.must(w.do(ring))
				pending = true
			}
		}
	}
	_, err := w.sim.SetPermission(bitbucketsim.Permission{Repository: rocket, Person: "bob", Level: "read"})
	w.must(err)
	w.drain()
	if v := w.view(number); v.PullRequest.State != "OPEN" || v.Request.State != store.RequestPending {
		t.Errorf("the pull request is %s, its request %s: %s", v.PullRequest.State, v.Request.State, v.Request.Sentence)
	}
	if n := w.calls("POST", "/merge$"); n != 0 {
		t.Errorf("Bitbucket was asked to merge %d times", n)
	}
}

// TestNothingGetsBetterWhenTheTimeIsUp takes a rejection back when the request's time is up: that is on record, and the
// request is expired, so that it can be asked for again.
func TestNothingGetsBetterWhenTheTimeIsUp(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	expire := func() {
		t.Helper()
		w.sql(`update signedapproval_approval_requests set expires_at = now(), facts = jsonb_set(facts, '{request,expiresAt}', to_jsonb(now())) where state in ('PENDING', 'APPROVED', 'REJECTED')`)
	}
	again := func() {
		t.Helper()
		_, err := w.gate.Renew(t.Context(), w.people["bob"].Person, w.workspace, w.view(number).Request.ID)
		w.must(err)
		w.settle()
	}
	w.decides(number, "bob", approval.Approve)
	w.decides(number, "carol", approval.Reject)
	w.settle()
	expire()
	w.decides(number, "carol", approval.Withdraw)
	if answer := w.mergeCheck(number); answer.Success {
		t.Errorf("the merge check lets it be merged: %+v", answer)
	}
	w.settle()
	w.expect(number, head, "FAILED", "expired before it was approved")

	again()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
	w.decides(number, "bob", approval.Approve)
	w.settle()
	expire()
	if _, err := w.decide(number, "carol", approval.Approve); refusal.Code(err) != gate.CodeExpired {
		t.Errorf("approving what was approved, when its time is up: %v", err)
	}
	w.event(number)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	w.decides(number, "carol", approval.Reject)
	w.settle()
	w.expect(number, head, "FAILED", "rejected by Carol")
	w.decides(number, "carol", approval.Withdraw)
	w.settle()
	w.expect(number, head, "FAILED", "expired before it was approved")

	// Decided in time, and looked at when it is over.
	again()
	w.decides(number, "carol", approval.Approve)
	expire()
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Carol")
}
