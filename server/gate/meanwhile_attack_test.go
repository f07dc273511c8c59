package gate_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestAPushThatWasMergedAtOnceIsAViolation has the head read before somebody pushes and merges, and the pull
// request after that.
func TestAPushThatWasMergedAtOnceIsAViolation(t *testing.T) {
	w := newWorld(t)
	number := approved(w)
	old := w.view(number).PullRequest.HeadCommit
	w.push("src/evil.go", "package evil\n")
	w.land(number)
	_, err := w.sim.AddFault(bitbucketsim.Fault{
		Method: http.MethodGet, Path: `/pullrequests/1/commits$`, Times: 1, Status: http.StatusOK, Body: `{"values": [{"hash": "` + old + `"}]}`,
	})
	w.must(err)
	w.event(number)
	w.drain()
	if merged := w.merged(number); merged.Kind != store.MergeSeenViolation || merged.HeadCommit == old {
		t.Errorf("a head that nobody approved was merged: %s of %s, %s", merged.Kind, merged.HeadCommit, merged.Sentence)
	}
}

// TestAPushWhileAMergeWaitsForWitnesses has nothing merged: the last look comes after all waiting.
func TestAPushWhileAMergeWaitsForWitnesses(t *testing.T) {
	c := newCosigned(t)
	rule := c.demanding(2)
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	c.save(rule)
	number := c.open()
	c.settle()
	c.decides(number, "bob", approval.Approve)
	c.allBut(store.KindMerge)
	works, pushed := c.gate.Publish, ""
	c.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
		err := works(ctx, size, cosignatures)
		if pushed == "" {
			pushed = c.push("src/evil.go", "package evil\n")
		}
		return err
	}
	c.only(store.KindMerge)
	if calls := c.calls("POST", "/merge$"); pushed == "" || calls > 0 {
		t.Errorf("after the push of %q Bitbucket was asked %d times to merge", pushed, calls)
	}
}

// TestAWithdrawalWhileAStatusWaitsForWitnesses has nothing turn green for what was taken back meanwhile.
func TestAWithdrawalWhileAStatusWaitsForWitnesses(t *testing.T) {
	c := newCosigned(t)
	c.save(c.demanding(2))
	number := c.open()
	c.settle()
	c.decides(number, "bob", approval.Approve)
	c.allBut(store.KindStatus)
	works, taken := c.gate.Publish, false
	c.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
		err := works(ctx, size, cosignatures)
		if !taken {
			taken = true
			c.decides(number, "bob", approval.Withdraw)
			c.onlyAll(store.KindEvaluate)
		}
		return err
	}
	head := c.view(number).PullRequest.HeadCommit
	c.only(store.KindStatus)
	if !taken {
		t.Fatal("nothing was published, so nobody waited")
	}
	c.expect(number, head, "INPROGRESS", c.view(number).Status.Description)
}
