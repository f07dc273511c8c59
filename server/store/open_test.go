package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/store"
)

// Two tenants, and holders of leases.
const (
	acme   = "aaaaaaaa-0000-4000-8000-000000000001"
	globex = "bbbbbbbb-0000-4000-8000-000000000002"
	repo   = "cccccccc-0000-4000-8000-000000000003"
	alice  = "11111111-0000-4000-8000-000000000001"
	bob    = "22222222-0000-4000-8000-000000000002"
)

// house is a store on a database of its own, whose rings are kept.
type house struct {
	*store.Store
	dbtest.Database
	guard sync.Mutex
	rung  []store.Ring
}

func open(t *testing.T) *house {
	t.Helper()
	h := &house{Database: dbtest.New(t)}
	h.Store = reopen(t, h.AppURL, store.NewKeyset())
	h.Ring = func(_ context.Context, rings []store.Ring) {
		h.guard.Lock()
		defer h.guard.Unlock()
		h.rung = append(h.rung, rings...)
	}
	return h
}

func reopen(t *testing.T, url string, keyset []byte) *store.Store {
	t.Helper()
	vault, err := store.OpenVault(keyset)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), url, vault)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// rings takes what was rung since the last time, as "kind key".
func (h *house) rings() []string {
	h.guard.Lock()
	defer h.guard.Unlock()
	var names []string
	for _, ring := range h.rung {
		names = append(names, ring.Kind+" "+ring.Key)
	}
	h.rung = nil
	return names
}

// super runs SQL that nothing binds.
func (h *house) super(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := connect(t, h.SuperURL).Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", strings.TrimSpace(sql), err)
	}
}

func (h *house) read(t *testing.T, into any, sql string, args ...any) {
	t.Helper()
	conn := connect(t, h.SuperURL)
	defer conn.Close(context.WithoutCancel(t.Context())) // whoever polls would have all that there are
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(into); err != nil {
		t.Fatalf("%s: %v", strings.TrimSpace(sql), err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never came true: %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

func (h *house) enqueue(t *testing.T, specs ...store.JobSpec) {
	t.Helper()
	must(t, h.Outside(t.Context(), func(sh *store.Shared) error { return sh.Enqueue(t.Context(), specs...) }))
}

func (h *house) finish(ctx context.Context, claim store.Claim, next time.Time) error {
	return h.Outside(ctx, func(sh *store.Shared) error { return sh.FinishJob(ctx, claim, next) })
}

// job reads a row of the ledger.
type row struct {
	ID, Seq, Fence int64
	State          string
	Attempt        int
	Due, Held      bool
	LastError      string
}

func (h *house) job(t *testing.T, kind, key string) row {
	t.Helper()
	rows, err := connect(t, h.SuperURL).Query(t.Context(), `
		select id, seq, fence, state, attempt, state = 'READY' and run_at <= now() as due, holder is not null as held, last_error
		from signedapproval_jobs where kind = $1 and key = $2`, kind, key)
	must(t, err)
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[row])
	if err != nil {
		t.Fatalf("job %s %s: %v", kind, key, err)
	}
	return r
}

func (h *house) claim(t *testing.T, id int64, holder string) store.Job {
	t.Helper()
	job, ok, err := h.ClaimJob(t.Context(), id, holder, time.Minute)
	must(t, err)
	if !ok {
		t.Fatalf("job %d cannot be claimed", id)
	}
	return job
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func uuid(n int) string { return fmt.Sprintf("dddddddd-0000-4000-8000-%012d", n) }
