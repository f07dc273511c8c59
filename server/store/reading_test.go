package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/store"
)

// TestWhatIsReadTogetherIsOneRoundTrip: nothing is begun before it and nothing committed after it, and what writes
// as well waits once more, for its commit.
func TestWhatIsReadTogetherIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	s, count := counted(t)
	ctx := t.Context()
	nothing := func(err error) error {
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrLeaseLost) {
			return nil
		}
		return err
	}
	reads := map[string]func(tx *store.Tx) error{
		"a screen": func(tx *store.Tx) error {
			_, err := tx.Screen(ctx, store.Which{RequestID: acme})
			return nothing(err)
		},
		"what is to turn green": func(tx *store.Tx) error {
			_, err := tx.Green(ctx, store.Claim{}, store.CommitStatus{PullRequestID: acme, RepositoryID: acme, RequestID: acme, Commit: "c"})
			return nothing(err)
		},
		"what was asked": func(tx *store.Tx) error {
			_, err := tx.Asked(ctx, acme, acme)
			return nothing(err)
		},
		"what was decided": func(tx *store.Tx) error {
			given, err := tx.Given(ctx, acme, "c")
			if err != nil {
				return err
			}
			_, err = tx.JudgementOf(ctx, given)
			return err
		},
	}
	for name, read := range reads {
		must(t, s.Reading(ctx, acme, read))
		same(t, "round trips of "+name, len(count.take()), 1)
	}
	for name, change := range map[string]func(tx *store.Tx) error{
		"what an evaluation settles upon": func(tx *store.Tx) error {
			_, err := tx.Settling(ctx, acme, 1)
			return nothing(err)
		},
		"what was signed": func(tx *store.Tx) error {
			_, err := tx.TakeSigned(ctx, acme, []byte("challenge"), store.Person{ID: acme}, []byte("session"), []byte("credential"))
			return nothing(err)
		},
		"what a decision meets": func(tx *store.Tx) error {
			_, err := tx.Deciding(ctx, []byte("credential"), 1, false, acme, acme)
			return nothing(err)
		},
		"what is paid": func(tx *store.Tx) error {
			_, err := tx.PayStatus(ctx, acme, "c", 1, 0)
			return nothing(err)
		},
	} {
		must(t, s.InWorkspace(ctx, acme, change))
		same(t, "round trips of "+name, len(count.take()), 2)
	}
}

// TestWhatOnlyReadsWritesNothing, neither at once nor with a commit that there is not.
func TestWhatOnlyReadsWritesNothing(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme)
	ctx := t.Context()
	for name, write := range map[string]func(tx *store.Tx) error{
		"at once":          func(tx *store.Tx) error { return tx.SetStatusProblem(ctx, acme, "c", "p") },
		"by a lock":        func(tx *store.Tx) error { _, err := tx.LockPullRequestByID(ctx, acme); return err },
		"with its end":     func(tx *store.Tx) error { return tx.ReadNoticesOf(ctx, acme, "") },
		"a job":            func(tx *store.Tx) error { return tx.Enqueue(ctx, store.JobSpec{Kind: "kind", Key: "key"}) },
		"a leaf":           func(tx *store.Tx) error { tx.AppendLeaf(acme, [32]byte{1}, []byte("e"), "", 0); return nil },
		"the end of a job": func(tx *store.Tx) error { return tx.FinishJob(ctx, store.Claim{ID: 1}, time.Time{}) },
		"after something else": func(tx *store.Tx) error {
			if _, err := tx.Given(ctx, acme, "c"); err != nil {
				return err
			}
			return tx.MoveChain(ctx, store.PullRequest{ID: acme})
		},
	} {
		if err := h.Reading(ctx, acme, write); err == nil {
			t.Errorf("%s: it wrote", name)
		}
	}
	for _, table := range []string{"signedapproval_jobs", "signedapproval_leaves"} {
		same(t, table, h.count(t, table), 0)
	}
	// The connections are as good as before.
	for range 20 {
		must(t, h.InWorkspace(context.WithoutCancel(ctx), acme, func(tx *store.Tx) error {
			_, err := tx.LockPullRequestByID(ctx, acme)
			return err
		}))
	}
}

// TestAReadingIsOfOneMoment, and sees one workspace.
func TestAReadingIsOfOneMoment(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme)
	ctx := t.Context()
	must(t, h.Reading(ctx, acme, func(tx *store.Tx) error {
		first, err := tx.Now(ctx)
		must(t, err)
		_, err = tx.PullRequest(ctx, acme)
		must(t, err)
		again, err := tx.Now(ctx)
		must(t, err)
		same(t, "its time", again, first)
		return nil
	}))
	err := h.Reading(ctx, "99999999-9999-4999-8999-999999999999", func(tx *store.Tx) error {
		_, err := tx.PullRequest(ctx, acme)
		return err
	})
	wantError(t, "another workspace's pull request", err, store.ErrNotFound)
	wantError(t, "no workspace", h.Reading(ctx, "acme", func(*store.Tx) error { return nil }), store.ErrNotFound)
}
