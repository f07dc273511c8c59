package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/store"
)

// TestAStatusIsOwedSince looks at since when Bitbucket may show something else than a status: while one is owed, other words
// do not begin anew.
func TestAStatusIsOwedSince(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme)
	commit := strings.Repeat("a", 40)
	since := func(change func(*store.Tx) error) time.Time {
		t.Helper()
		must(t, h.InWorkspace(t.Context(), acme, change))
		var at time.Time
		must(t, h.InWorkspace(t.Context(), acme, func(tx *store.Tx) error {
			status, err := tx.Status(t.Context(), acme, commit)
			at = status.OwedSince
			return err
		}))
		return at
	}
	owes := func(description string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			known, err := tx.Status(t.Context(), acme, commit)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			wanted := store.CommitStatus{
				PullRequestID: acme, Commit: commit, RepositoryID: acme, RequestID: acme, Key: "k", RefName: "b", State: "INPROGRESS", Description: description, URL: "u",
			}
			if !tx.OweStatus(&known, wanted) {
				return errors.New("it is owed already")
			}
			if tx.OweStatus(&wanted, wanted) {
				return errors.New("what is owed is owed again")
			}
			return nil
		}
	}
	pays := func(version int64) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			_, err := tx.PayStatus(t.Context(), acme, commit, version, 0)
			return err
		}
	}
	first := since(owes("one"))
	same(t, "owed still, in other words", since(owes("two")), first)
	same(t, "an older version was paid", since(pays(2)), first)
	since(pays(3))
	again := since(owes("three"))
	if !again.After(first) {
		t.Errorf("owed since %v after all was paid, and before since %v", again, first)
	}
	since(pays(4))
	if overwritten := since(func(tx *store.Tx) error { return tx.OweStatusAgain(t.Context(), acme, commit) }); !overwritten.After(again) {
		t.Errorf("overwritten by somebody else, and owed since %v, before since %v", overwritten, again)
	}
}
