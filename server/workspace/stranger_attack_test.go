package workspace_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// TestStrangersSpendNoCalls lets somebody who may sign in, as everybody with an account at Bitbucket, ask
// for changes in a workspace that is not theirs. The calls would be the workspace's own: who spends them
// all stops its gate.
func TestStrangersSpendNoCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	mallory := w.who("mallory")
	before := w.lastCall()
	for range 20 {
		for _, repository := range []string{w.app, uuid.NewString()} {
			_, _, err := w.SaveRepository(t.Context(), mallory, "session", w.acme, repository, approval.Default())
			refused(t, err, refusal.NotFound)
			_, err = w.RemoveRepository(t.Context(), mallory, "session", w.acme, repository)
			refused(t, err, refusal.NotFound)
		}
		_, err := w.Disconnect(t.Context(), mallory, w.acme)
		refused(t, err, refusal.NotFound)
	}
	if n := len(w.sim.Calls(before)); n > 2 {
		t.Errorf("a stranger spent %d calls", n)
	}
}
