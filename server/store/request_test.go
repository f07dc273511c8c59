package store_test

import (
	"testing"

	"github.com/signedapproval/bitbucket/server/store"
)

// TestRequestsInPages walks the requests of a workspace page by page, at equal times too: each is there once, whatever
// states are asked for, and however often.
func TestRequestsInPages(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme, globex)
	h.super(t, `insert into signedapproval_approval_requests (workspace_id, pull_request_id, round, head_commit, destination_branch,
			policy_version_id, rule, rule_digest, state, sentence, verdict, requested_at, expires_at)
		select workspace_id, pull_request_id, 100 + n, head_commit, destination_branch, policy_version_id, rule, rule_digest,
			(array['SUPERSEDED', 'CANCELLED'])[1 + n % 2], sentence, verdict, requested_at + (n / 4) * interval '1 second', expires_at
		from signedapproval_approval_requests, generate_series(1, 21) n`)
	for name, c := range map[string]struct {
		states []string
		want   int
	}{
		"all": {nil, 22}, "two": {[]string{store.RequestSuperseded, store.RequestCancelled}, 21},
		"one": {[]string{store.RequestCancelled}, 11}, "one, twice": {[]string{store.RequestCancelled, store.RequestCancelled}, 11},
		"none of them": {[]string{store.RequestExpired}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]int{}
			at := store.Page{First: 3}
			for more := true; more; {
				must(t, h.InWorkspace(t.Context(), acme, func(tx *store.Tx) error {
					page, further, err := tx.Requests(t.Context(), []string{acme, globex}, c.states, at)
					for _, r := range page {
						seen[r.ID]++
						at.After = r.Cursor()
					}
					more = further
					return err
				}))
			}
			if len(seen) != c.want {
				t.Errorf("%d requests, want %d", len(seen), c.want)
			}
			for id, times := range seen {
				if times != 1 {
					t.Errorf("%s is there %d times", id, times)
				}
			}
		})
	}
}
