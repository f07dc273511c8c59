package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signedapproval/bitbucket/server/store"
)

// TestLeavesHaveNoGap lets eight writers append, a third of them in transactions that fail.
func TestLeavesHaveNoGap(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	const writers, each = 8, 15
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range each {
				entry := fmt.Appendf(nil, "%d %d", w, n)
				failing := errors.New("rolled back")
				fails := (w+n)%3 == 0
				err := h.InWorkspace(ctx, acme, func(tx *store.Tx) error {
					tx.AppendLeaf(acme, sha256.Sum256(entry), entry, fmt.Sprint("chain ", w), int64(n+1))
					if fails {
						return failing
					}
					return nil
				})
				if fails && !errors.Is(err, failing) || !fails && err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	rows, err := connect(t, h.AppURL).Query(ctx, `select index, hash, entry from signedapproval_leaves order by index`)
	must(t, err)
	var index, next int64
	var hash, entry []byte
	_, err = pgx.ForEachRow(rows, []any{&index, &hash, &entry}, func() error {
		same(t, "index", index, next)
		same(t, "hash", [32]byte(hash), sha256.Sum256(entry))
		next++
		return nil
	})
	must(t, err)
	var size int64
	h.read(t, &size, `select size from signedapproval_log_head`)
	same(t, "size of the log", size, next)
	same(t, "leaves", next, writers*each*2/3)
}

func TestAppendLeafToAChain(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	add := func(chain string, sequence int64) (index int64, err error) {
		err = h.Outside(ctx, func(sh *store.Shared) error {
			sh.AppendLeaf(acme, [32]byte{}, []byte("entry"), chain, sequence)
			return nil
		})
		h.read(t, &index, `select coalesce(max(index), -1) from signedapproval_leaves`)
		return index, err
	}
	for want, place := range []struct {
		chain    string
		sequence int64
	}{{"a", 1}, {"a", 2}, {"b", 1}, {"", 0}, {"", 0}} {
		index, err := add(place.chain, place.sequence)
		must(t, err)
		same(t, "index", index, int64(want))
	}
	_, err := add("a", 2)
	wantError(t, "a place that is taken", err, store.ErrConflict)
	index, err := add("a", 3)
	must(t, err)
	same(t, "index after a conflict", index, 5)
}

// TestWhoWaitsForTheHeadOfTheLogHasReadItsPlace: whoever holds the head holds up all that append, and is not to read pages
// of a long index meanwhile. An index counts who looks something up in it, and not who adds to it.
func TestWhoWaitsForTheHeadOfTheLogHasReadItsPlace(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	holder, err := connect(t, h.SuperURL).Begin(ctx)
	must(t, err)
	_, err = holder.Exec(ctx, `select from signedapproval_log_head for update`)
	must(t, err)
	vault, err := store.OpenVault(store.NewKeyset())
	must(t, err)
	hasty, err := store.Open(ctx, h.AppURL, vault, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["lock_timeout"], c.ConnConfig.RuntimeParams["application_name"] = "50ms", "hasty"
	})
	must(t, err)
	err = hasty.Outside(ctx, func(sh *store.Shared) error {
		for n := range 3 {
			sh.AppendLeaf(acme, [32]byte{}, []byte("entry"), fmt.Sprint("chain ", n), 1)
		}
		return nil
	})
	hasty.Close()
	if err == nil {
		t.Fatal("appended while another held the head of the log")
	}
	must(t, holder.Rollback(ctx))
	carryOut(t, h, `do $$ begin -- what a session has counted it tells before it is gone
		while exists (select from pg_stat_activity where application_name = 'hasty' and datname = current_database()) loop
			perform pg_sleep(0.005), pg_stat_clear_snapshot();
		end loop; end $$`)
	var scans int
	h.read(t, &scans, `select idx_scan from pg_stat_user_indexes where indexrelname = 'signedapproval_leaves_chain_id_sequence_idx'`)
	same(t, "places looked for", scans, 3)
}
