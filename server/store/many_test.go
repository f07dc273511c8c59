package store_test

import (
	"testing"

	"github.com/signedapproval/bitbucket/server/store"
)

// TestWhatIsWantedTwiceIsReadOnce: a page of requests names a pull request as often as it was asked for, and what was
// decided on it must not count as often.
func TestWhatIsWantedTwiceIsReadOnce(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.grow(t, history{acme, repo, 1, 3, 3, true})
	pull, other := "00000001-0000-4000-8000-000000000002", "00000001-0000-4000-8000-000000000003"
	ids := []string{pull, other, pull}
	must(t, h.InWorkspace(t.Context(), acme, func(tx *store.Tx) error {
		pulls, err := tx.PullRequestsByID(t.Context(), ids)
		must(t, err)
		same(t, "pull requests", len(pulls), 2)
		requests, err := tx.LastRequests(t.Context(), ids)
		must(t, err)
		same(t, "requests", len(requests), 2)
		decisions, err := tx.DecisionsOfPullRequests(t.Context(), ids)
		must(t, err)
		same(t, "decisions", len(decisions), 2)
		same(t, "decision on the first", decisions[0].PullRequestID, pull)
		same(t, "decision on the second", decisions[1].PullRequestID, other)
		return nil
	}))
}
