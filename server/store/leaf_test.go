package store_test

import (
	"context"
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

// TestAPlaceThatWasFreeWhenItWasLookedFor: a place is looked for before the head of the log is held, and whoever holds that
// may take it, or leave it. Whoever took it keeps it, and the log has neither a gap nor a place twice.
func TestAPlaceThatWasFreeWhenItWasLookedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(pgx.Tx, context.Context) error
		want error
	}{
		"taken":          {pgx.Tx.Commit, store.ErrConflict},
		"left to others": {pgx.Tx.Rollback, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			ctx := t.Context()
			faster, err := connect(t, h.SuperURL).Begin(ctx)
			must(t, err)
			_, err = faster.Exec(ctx, `update signedapproval_log_head set size = size + 2`)
			must(t, err)
			_, err = faster.Exec(ctx, `insert into signedapproval_leaves (index, hash, entry, workspace_id, chain_id, sequence)
				values (0, '', 'faster', $1, 'other', 1), (1, '', 'faster', $1, 'chain', 1)`, acme)
			must(t, err)
			appended := make(chan error, 1)
			add := func(sequences ...int64) error {
				return h.InWorkspace(ctx, acme, func(tx *store.Tx) error {
					for _, sequence := range sequences {
						tx.AppendLeaf(acme, [32]byte{}, []byte("slower"), "chain", sequence)
					}
					return nil
				})
			}
			go func() { appended <- add(1, 2) }()
			watcher := connect(t, h.SuperURL)
			eventually(t, "the slower one waits for the head", func() (waits bool) {
				must(t, watcher.QueryRow(ctx, `select exists (select from pg_stat_activity where datname = current_database()
					and wait_event_type = 'Lock' and query like '%insert into signedapproval_leaves%')`).Scan(&waits))
				return waits
			})
			must(t, c.end(faster, ctx))
			err = <-appended
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.want == nil {
				must(t, add(3))
			} else {
				must(t, add(2)) // as whoever reads again finds it
			}
			var log string
			h.read(t, &log, `select string_agg(format('%s %s %s', chain_id, sequence, convert_from(entry, 'UTF8')), ', ' order by index) ||
				format(': %s to %s of %s', min(index), max(index), (select size from signedapproval_log_head)) from signedapproval_leaves`)
			same(t, "log", log, map[bool]string{
				true:  "chain 1 slower, chain 2 slower, chain 3 slower: 0 to 2 of 3",
				false: "other 1 faster, chain 1 faster, chain 2 slower: 0 to 2 of 3",
			}[c.want == nil])
		})
	}
}

// TestOfOneCauseThereIsOneLeaf: two that have the same cause to append take turns at the pull request, and who comes second
// finds what the first one left, be that a leaf or nothing.
func TestOfOneCauseThereIsOneLeaf(t *testing.T) {
	t.Parallel()
	failing := errors.New("rolled back")
	for name, c := range map[string]struct {
		first, second error
		leaves        int64
	}{
		"both commit":           {nil, nil, 1},
		"the first rolls back":  {failing, nil, 1},
		"the second rolls back": {nil, failing, 1},
		"neither commits":       {failing, failing, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			ctx := t.Context()
			h.grow(t, history{acme, repo, 1, 1, 1, true})
			const pull = "00000001-0000-4000-8000-000000000001"
			once := func(end error, locked func()) error {
				return h.InWorkspace(ctx, acme, func(tx *store.Tx) error {
					p, err := tx.LockPullRequestByID(ctx, pull)
					if err != nil {
						return err
					}
					locked()
					if p.ChainSequence > 3 { // what it has grown with
						return end
					}
					p.ChainSequence++
					tx.AppendLeaf(acme, [32]byte{1}, []byte("cause"), p.ChainID, p.ChainSequence)
					return errors.Join(tx.MoveChain(ctx, p), end)
				})
			}
			var before int64
			h.read(t, &before, `select size from signedapproval_log_head`)
			second, watcher := make(chan error, 1), connect(t, h.SuperURL)
			err := once(c.first, func() {
				go func() { second <- once(c.second, func() {}) }()
				eventually(t, "the second waits for the pull request", func() (waits bool) {
					must(t, watcher.QueryRow(ctx, `select exists (select from pg_stat_activity
						where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waits))
					return waits
				})
			})
			for what, err := range map[string][2]error{"first": {err, c.first}, "second": {<-second, c.second}} {
				if !errors.Is(err[0], err[1]) {
					t.Errorf("%s: %v, want %v", what, err[0], err[1])
				}
			}
			var size, sequence, leaves int64
			h.read(t, &size, `select size from signedapproval_log_head`)
			h.read(t, &sequence, `select chain_sequence from signedapproval_pull_requests where id = '`+pull+`'`)
			h.read(t, &leaves, `select count(*) from signedapproval_leaves where entry = 'cause'`)
			same(t, "leaves of the cause", leaves, c.leaves)
			same(t, "leaves in the log", size-before, c.leaves)
			same(t, "leaves in the chain", sequence-3, c.leaves)
		})
	}
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
