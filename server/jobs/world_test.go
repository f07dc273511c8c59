package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

const workspace = "aaaaaaaa-0000-4000-8000-000000000001"

// ledger is the real one, as the server wires it.
func ledger(s *store.Store) jobs.Ledger {
	return jobs.Ledger{
		Claim: func(ctx context.Context, id int64, holder string, lease time.Duration) (jobs.Job, bool, error) {
			j, ok, err := s.ClaimJob(ctx, id, holder, lease)
			return jobs.Job{
				Claim: jobs.Claim(j.Claim), Kind: j.Kind, Key: j.Key, Workspace: j.Workspace, Payload: j.Payload, Attempt: j.Attempt, Orphaned: j.Orphaned,
			}, ok, err
		},
		Retry: func(ctx context.Context, claim jobs.Claim, reason string, after time.Duration, burn bool, most int) (bool, error) {
			return s.RetryJob(ctx, store.Claim(claim), reason, after, burn, most)
		},
		Extend: func(ctx context.Context, claim jobs.Claim, lease time.Duration) error {
			return s.ExtendJob(ctx, store.Claim(claim), lease)
		},
		Due: func(ctx context.Context, epoch int64, limit int) ([]jobs.Ring, time.Duration, error) {
			rings, next, err := s.DueJobs(ctx, epoch, limit)
			return toJobs(rings), next, err
		},
		Defer: s.DeferJobs,
		Epoch: s.QueueEpoch, NextEpoch: s.MoveQueueEpoch, LeaseLost: store.ErrLeaseLost, LeftBehind: store.HolderDied,
	}
}

func toJobs(rings []store.Ring) []jobs.Ring {
	out := make([]jobs.Ring, len(rings))
	for i, r := range rings {
		out[i] = jobs.Ring(r)
	}
	return out
}

// world is a database, a Redis and the queues of any number of replicas in this process.
type world struct {
	*store.Store
	database dbtest.Database
	redisURL string
	prefix   string

	// books is held for reading by whoever is about to finish a job and to count that, so that whoever sees a job done, and
	// then reads, finds it counted.
	books sync.RWMutex
	guard sync.Mutex     // guards ran
	ran   map[string]int // "kind key" -> how often a handler finished it
}

// onBoth runs a test on a real Redis and on the one of the demo.
func onBoth(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, redistest.URL(t)))
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, "redis://"+miniredis.RunT(t).Addr()))
	})
}

func newWorld(t *testing.T, redisURL string) *world {
	t.Helper()
	w := &world{database: dbtest.New(t), redisURL: redisURL, ran: map[string]int{}}
	w.prefix = w.database.Name // nobody else's
	s, err := store.Open(t.Context(), w.database.AppURL, nil)
	must(t, err)
	t.Cleanup(s.Close)
	w.Store = s
	return w
}

func (w *world) client(t *testing.T) redis.UniversalClient {
	t.Helper()
	client, err := jobs.Connect(w.redisURL)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// queue makes a queue with short pauses. The caller adds handlers and runs it.
func (w *world) queue(t *testing.T, options jobs.Options) *jobs.Queue {
	t.Helper()
	return w.queueOf(t, w.Store, options)
}

// queueOf is queue on another server's store.
func (w *world) queueOf(t *testing.T, s *store.Store, options jobs.Options) *jobs.Queue {
	t.Helper()
	options.Redis, options.Ledger, options.Prefix = w.client(t), ledger(s), w.prefix
	options.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	short := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	short(&options.Sweep, 100*time.Millisecond)
	short(&options.Block, 200*time.Millisecond)
	short(&options.MinIdle, 300*time.Millisecond)
	return jobs.New(options)
}

// run runs a queue until the test ends or stop is called, which waits for its end.
func run(t *testing.T, q *jobs.Queue) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// rung connects the ledger's transactions to the queue, as the server does.
func (w *world) rung(q *jobs.Queue) {
	w.Ring = func(ctx context.Context, rings []store.Ring) { q.Ring(ctx, toJobs(rings)) }
}

// finish is the handler that does nothing but finish, and counts.
func (w *world) finish(ctx context.Context, job jobs.Job) error {
	w.books.RLock()
	defer w.books.RUnlock()
	err := w.Outside(ctx, func(sh *store.Shared) error {
		return sh.FinishJob(ctx, store.Claim(job.Claim), time.Time{})
	})
	if err == nil {
		w.guard.Lock()
		w.ran[job.Kind+" "+job.Key]++
		w.guard.Unlock()
	}
	return err
}

func (w *world) runs(kind, key string) int {
	w.books.Lock()
	defer w.books.Unlock()
	return w.ran[kind+" "+key]
}

func (w *world) enqueue(t *testing.T, specs ...store.JobSpec) {
	t.Helper()
	must(t, w.Outside(t.Context(), func(sh *store.Shared) error { return sh.Enqueue(t.Context(), specs...) }))
}

// enqueueMany asks for jobs "kind 0" to "kind n-1".
func (w *world) enqueueMany(t *testing.T, kind string, n int) {
	t.Helper()
	var specs []store.JobSpec
	for i := range n {
		specs = append(specs, store.JobSpec{Kind: kind, Key: fmt.Sprint(i), Workspace: workspace})
	}
	w.enqueue(t, specs...)
}

func (w *world) super(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.database.SuperURL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), sql, args...)
	must(t, err)
}

func (w *world) read(t *testing.T, into any, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.database.SuperURL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	must(t, conn.QueryRow(t.Context(), sql, args...).Scan(into))
}

// jobs counts the rows of the ledger that satisfy a condition.
func (w *world) jobs(t *testing.T, where string) int {
	t.Helper()
	var n int
	w.read(t, &n, `select count(*)::integer from signedapproval_jobs where `+where)
	return n
}

func (w *world) allDone(t *testing.T) func() bool {
	return func() bool { return w.jobs(t, `state <> 'DONE'`) == 0 }
}

// entries counts what is on the streams, read or not.
func (w *world) entries(t *testing.T) int64 {
	t.Helper()
	client := w.client(t)
	var n int64
	for _, stream := range w.streams() {
		length, err := client.XLen(t.Context(), stream).Result()
		must(t, err)
		n += length
	}
	return n
}

func (w *world) streams() []string {
	return []string{w.prefix + ":{jobs}:background", w.prefix + ":{jobs}:quick"}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

// patience is longer than the minute after which a job whose ring got lost is rung again: where the
// machine is so busy that a claim fails, that minute is the right answer.
const patience = 3 * time.Minute

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never came true: %s", what)
		}
	}
}

// gate is what stuck handlers wait at.
type gate struct {
	opened chan struct{}
	once   sync.Once
	inside chan string // keys of those that arrived
}

func newGate(t *testing.T) *gate {
	g := &gate{opened: make(chan struct{}), inside: make(chan string, 100)}
	t.Cleanup(g.open)
	return g
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (g *gate) pass(ctx context.Context, job jobs.Job) error {
	g.inside <- job.Key
	select {
	case <-g.opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) await(t *testing.T, n int) (keys []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range n {
		select {
		case key := <-g.inside:
			keys = append(keys, key)
		case <-ctx.Done():
			t.Fatalf("only %s of %d jobs began", strings.Join(keys, ", "), n)
		}
	}
	return keys
}

var errFailed = errors.New("it failed")
