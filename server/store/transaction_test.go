package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/store"
)

// trips counts how often a store waits for its database, and with how many statements.
type trips struct {
	mu   sync.Mutex
	list [][]string
}

func (c *trips) add(statements ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, statements)
}

func (c *trips) take() [][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c.add(data.SQL)
	return ctx
}

func (c *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	var statements []string
	for _, q := range data.Batch.QueuedQueries {
		statements = append(statements, q.SQL)
	}
	c.add(statements...)
	return ctx
}

func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func counted(t *testing.T) (*store.Store, *trips) {
	t.Helper()
	vault, err := store.OpenVault(store.NewKeyset())
	must(t, err)
	count := &trips{}
	s, err := store.Open(t.Context(), dbtest.New(t).AppURL, vault, func(c *pgxpool.Config) { c.ConnConfig.Tracer = count })
	must(t, err)
	t.Cleanup(s.Close)
	count.take()
	return s, count
}

// TestAnAppendTravelsWithItsCommit: between the lock on the log's head and the commit nobody waits for this process.
func TestAnAppendTravelsWithItsCommit(t *testing.T) {
	t.Parallel()
	s, count := counted(t)
	ctx := t.Context()
	entry := []byte("entry")
	must(t, s.InWorkspace(ctx, acme, func(tx *store.Tx) error {
		must(t, tx.Enqueue(ctx, store.JobSpec{Kind: "kind", Key: "key"}))
		tx.AppendLeaf(acme, sha256.Sum256(entry), entry, "", 0)
		_, err := tx.OpenAlarms(ctx)
		return err
	}))
	list := count.take()
	same(t, "round trips", len(list), 2)
	same(t, "statements of the first", len(list[0]), 3) // its beginning, the workspace, the read
	last := list[1]
	same(t, "the one before the last of the second", last[len(last)-2], "commit") // what follows makes it durable
	same(t, "the one before appends", slices.IndexFunc(last, func(sql string) bool {
		return strings.Contains(sql, "insert into signedapproval_leaves")
	}), len(last)-3)
}

func TestATransactionOfNothingAsksNothing(t *testing.T) {
	t.Parallel()
	s, count := counted(t)
	must(t, s.Outside(t.Context(), func(*store.Shared) error { return nil }))
	failure := errors.New("fails")
	wantError(t, "its error", s.Outside(t.Context(), func(*store.Shared) error { return failure }), failure)
	same(t, "round trips", len(count.take()), 0)
}

// TestTheTransactionsTimeIsOne: whoever asks first or last, and whatever was read between.
func TestTheTransactionsTimeIsOne(t *testing.T) {
	t.Parallel()
	s, _ := counted(t)
	ctx := t.Context()
	for name, run := range map[string]func(fn func(*store.Shared) error) error{
		"outside": func(fn func(*store.Shared) error) error { return s.Outside(ctx, fn) },
		"in a workspace": func(fn func(*store.Shared) error) error {
			return s.InWorkspace(ctx, acme, func(tx *store.Tx) error { return fn(tx.Shared) })
		},
	} {
		must(t, run(func(sh *store.Shared) error {
			first, err := sh.Now(ctx)
			must(t, err)
			if age := time.Since(first).Abs(); age > time.Hour {
				t.Errorf("%s: the time is %v", name, first)
			}
			_, err = sh.LogHead(ctx)
			must(t, err)
			second, err := sh.Now(ctx)
			must(t, err)
			same(t, name, second, first)
			return nil
		}))
	}
}

// TestALostClaimTakesAllBack: its end, its jobs and its leaves are sent together with the commit, which must not pass.
func TestALostClaimTakesAllBack(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	must(t, h.Outside(ctx, func(sh *store.Shared) error { return sh.Enqueue(ctx, store.JobSpec{Kind: "kind", Key: "held"}) }))
	var id int64
	h.read(t, &id, `select id from signedapproval_jobs where key = 'held'`)
	job, ok, err := h.ClaimJob(ctx, id, "11111111-1111-4111-8111-111111111111", time.Minute)
	must(t, err)
	same(t, "claimed", ok, true)
	lost := job.Claim
	lost.Fence--
	entry := []byte("entry")
	attempt := func(claim store.Claim) error {
		return h.Outside(ctx, func(sh *store.Shared) error {
			sh.AppendLeaf(acme, sha256.Sum256(entry), entry, "", 0)
			must(t, sh.Enqueue(ctx, store.JobSpec{Kind: "kind", Key: "next"}))
			return sh.FinishJob(ctx, claim, time.Time{})
		})
	}
	count := func() (leaves, size, jobs int64) {
		h.read(t, &leaves, `select count(*) from signedapproval_leaves`)
		h.read(t, &size, `select size from signedapproval_log_head`)
		h.read(t, &jobs, `select count(*) from signedapproval_jobs where key = 'next'`)
		return leaves, size, jobs
	}
	wantError(t, "a lost claim", attempt(lost), store.ErrLeaseLost)
	leaves, size, jobs := count()
	same(t, "leaves, size, jobs", [3]int64{leaves, size, jobs}, [3]int64{0, 0, 0})
	must(t, attempt(job.Claim))
	leaves, size, jobs = count()
	same(t, "leaves, size, jobs", [3]int64{leaves, size, jobs}, [3]int64{1, 1, 1})
}
