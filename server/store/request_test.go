package store_test

import (
	"encoding/json"
	"fmt"
	"strings"
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

// TestWhatIsInsertedIsWrittenOnce: what is changed of a row before its insert was sent is inserted, and the row is the same as
// where it was sent before.
func TestWhatIsInsertedIsWrittenOnce(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme)
	ctx := t.Context()
	write := func(n int, between func(*store.Tx) error) (updates int, row string) {
		statements, _ := h.record(t, func(s *store.Store) error {
			return s.InWorkspace(ctx, acme, func(tx *store.Tx) error {
				p, err := tx.PullRequest(ctx, acme)
				must(t, err)
				r, err := tx.LiveRequest(ctx, acme)
				must(t, err)
				p.ID, p.Number, p.StatusKey, p.ChainID = uuid(n), int64(100+n), fmt.Sprint("key ", n), fmt.Sprint("chain ", n)
				p, err = tx.InsertPullRequest(ctx, p)
				must(t, err)
				r.ID, r.PullRequestID = uuid(n+10), p.ID
				r, err = tx.InsertRequest(ctx, r)
				must(t, err)
				must(t, between(tx))
				r.State, r.Sentence, r.OutcomeSalt = store.RequestApproved, "approved", []byte("salt")
				r.Verdict, r.Facts = json.RawMessage(`{"state": "approved"}`), json.RawMessage(`{"head": "c"}`)
				must(t, tx.SaveVerdict(ctx, r))
				p.Title, p.ChainSequence, p.ChainLeaf, p.Version = "another title", 2, "leaf", 2
				return tx.UpdatePullRequest(ctx, p)
			})
		})
		for _, s := range statements {
			if strings.Contains(s.sql, "update signedapproval_pull_requests") || strings.Contains(s.sql, "update signedapproval_approval_requests") {
				updates++
			}
		}
		h.read(t, &row, `select (to_jsonb(p) - array['id', 'number', 'status_key', 'chain_id', 'created_at', 'synced_at'])::text
			|| (to_jsonb(r) - array['id', 'pull_request_id', 'requested_at', 'decided_at'])::text || (p.synced_at = p.created_at and r.decided_at = r.requested_at)
			from signedapproval_pull_requests p join signedapproval_approval_requests r on r.pull_request_id = p.id where p.id = $1`, uuid(n))
		return updates, row
	}
	once, row := write(1, func(*store.Tx) error { return nil })
	twice, want := write(2, func(tx *store.Tx) error { _, err := tx.OpenAlarms(ctx); return err })
	same(t, "updates", once, 0)
	same(t, "updates of what was sent", twice, 2)
	same(t, "the row", row, want)
}
