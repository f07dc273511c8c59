package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// Options say how a queue works; zero fields mean the defaults.
type Options struct {
	// Redis is required. Each partition blocks a connection: the pool needs Partitions + 9 of them,
	// and commands must obey the deadline of their context. [Connect] makes such a client.
	Redis  redis.UniversalClient
	Ledger Ledger // required
	// Prefix begins every key: "signedapproval".
	Prefix string
	// Holder is a UUID that names this process; a random one.
	Holder string
	// Partitions is the number of streams, which must be the same in all replicas: 16.
	Partitions int
	// Concurrency is how many quick jobs run at once: 16.
	Concurrency int
	// Reserve is how many slow ones run besides: 4 × Concurrency.
	Reserve int
	// Background is how many jobs of background kinds run at once: a quarter of Concurrency.
	Background int
	// Grace is how long running jobs may take to end after Run was told to stop, and again how long
	// those that are cancelled then may take to be given back: 10 s.
	Grace time.Duration
	Log   *slog.Logger
	// Observe is told how each job ended and how long it ran, for metrics; nil tells nobody.
	Observe func(kind, outcome string, took time.Duration)

	// Slow is when a job moves to the reserve (25 ms: one that takes longer waits for Bitbucket), Sweep the pause between sweeps (1 s), Block
	// how long a reader waits for an entry (2 s). An entry that its reader left alone for MinIdle
	// (4 s) goes to another; readers look for such each Reclaim (1 s).
	Slow, Sweep, Block, MinIdle, Reclaim time.Duration
}

// HandlerOptions say how jobs of one kind run; zero fields mean the defaults.
type HandlerOptions struct {
	// Lease is how long a claim holds without a sign of life, and so how long the job of a worker
	// that was killed waits: 4 s. A running job extends it.
	Lease time.Duration
	// Timeout is when the handler's context ends: 2 min.
	Timeout time.Duration
	// MaxAttempts is the number of failures after which a job is dead: 12.
	MaxAttempts int
	// Background kinds have slots of their own, and never hold up the others.
	Background bool
}

// Handler does a job, and ends its claim in the transaction of the effect. It may run twice at the
// same time where a lease ran out: the ledger lets only the newer claim finish. An error puts the
// job back; see [Permanent] and [Later].
type Handler func(ctx context.Context, job Job) error

// Outcomes of a job, as told to Options.Observe.
const (
	OutcomeDone       = "done"
	OutcomeRetried    = "retried"
	OutcomeThrottled  = "throttled"
	OutcomeDead       = "dead"
	OutcomeLeaseLost  = "lease_lost"
	OutcomeHandedBack = "handed_back"
)

const (
	group = "workers"
	// ringBacklog is how many rings may wait for Redis; more are dropped and counted, and the sweep
	// finds their jobs.
	ringBacklog = 8192
	// ledgerTimeout and redisTimeout bound one call.
	ledgerTimeout = 10 * time.Second
	redisTimeout  = 2 * time.Second
)

type handler struct {
	HandlerOptions
	run Handler
}

// Queue reads rings and runs handlers. Its methods are safe for concurrent use once Run was called.
type Queue struct {
	Options
	handlers map[string]handler
	quick    *lane
	quiet    *lane // background
	stats    counters

	rings chan Ring
	acks  chan ack
	// kick makes the sweep begin at once.
	kick chan struct{}

	// down is true while Redis does not answer; suspect is set by whoever met an error and read by
	// the sweep, which then begins a new epoch: what Redis lost meanwhile nobody knows.
	down, suspect atomic.Bool
	// life is owned by the sweep: the run ids of the Redis servers, "" where they do not tell.
	life     string
	sweeping sync.Mutex

	// quarantine holds one token for the job that runs although its workers died time and again.
	quarantine chan struct{}

	// working counts jobs from the moment they have a slot. stop ends the contexts of their
	// handlers, which is the last resort of a graceful stop.
	working sync.WaitGroup
	alive   context.Context
	stop    context.CancelCauseFunc
}

// errStopping is the cause of a handler's cancelled context when the process stops.
var errStopping = errors.New("jobs: the server is stopping")

// New makes a queue. It panics where Redis or a function of the ledger is missing.
func New(options Options) *Queue {
	l := options.Ledger
	if options.Redis == nil || l.Claim == nil || l.Retry == nil || l.Extend == nil || l.Due == nil ||
		l.Epoch == nil || l.NextEpoch == nil || l.LeaseLost == nil || l.LeftBehind == "" {
		panic("jobs: a queue needs Redis and a whole ledger")
	}
	o := &options
	o.Prefix = cmp.Or(o.Prefix, "signedapproval")
	o.Holder = cmp.Or(o.Holder, uuid.NewString())
	o.Partitions = cmp.Or(o.Partitions, 16)
	o.Concurrency = cmp.Or(o.Concurrency, 16)
	o.Reserve = cmp.Or(o.Reserve, 4*o.Concurrency)
	o.Background = cmp.Or(o.Background, max(2, o.Concurrency/4))
	o.Grace = cmp.Or(o.Grace, 10*time.Second)
	o.Log = cmp.Or(o.Log, slog.Default())
	o.Slow = cmp.Or(o.Slow, 25*time.Millisecond)
	o.Sweep = cmp.Or(o.Sweep, time.Second)
	o.Block = cmp.Or(o.Block, 2*time.Second)
	o.MinIdle = cmp.Or(o.MinIdle, 4*time.Second)
	o.Reclaim = cmp.Or(o.Reclaim, time.Second)
	q := &Queue{
		Options: options, handlers: map[string]handler{},
		quick: newLane(o.Concurrency, o.Reserve, o.Slow),
		// Background work is slow as a rule, and what it may use is its slots.
		quiet: newLane(o.Background, 0, o.Slow),
		rings: make(chan Ring, ringBacklog), acks: make(chan ack, ringBacklog), kick: make(chan struct{}, 1),
		quarantine: make(chan struct{}, 1),
	}
	q.alive, q.stop = context.WithCancelCause(context.Background())
	return q
}

// Handle says who does the jobs of a kind. It must be called before Run, once for each kind.
func (q *Queue) Handle(kind string, options HandlerOptions, run Handler) {
	if _, twice := q.handlers[kind]; twice {
		panic("jobs: two handlers for " + kind)
	}
	options.Lease = cmp.Or(options.Lease, 4*time.Second)
	options.Timeout = cmp.Or(options.Timeout, 2*time.Minute)
	options.MaxAttempts = cmp.Or(options.MaxAttempts, 12)
	q.handlers[kind] = handler{HandlerOptions: options, run: run}
}

// Ring makes due jobs known. It never waits: what does not fit is dropped and counted, and what gets
// lost on the way is found by the sweep.
func (q *Queue) Ring(_ context.Context, rings []Ring) {
	for _, ring := range rings {
		select {
		case q.rings <- ring:
		default:
			q.stats.ringsDropped.Add(1)
		}
	}
}

// Run works until ctx ends. Then it reads no more, gives back what it has not begun, waits Grace for
// what is running, cancels the rest, whose jobs go back without blame, and returns. Its error says
// that a handler obeys nothing.
func (q *Queue) Run(ctx context.Context) error {
	var readers, tail sync.WaitGroup
	late, endTail := context.WithCancel(context.WithoutCancel(ctx))
	defer endTail()
	tail.Go(func() { q.sendRings(late) })
	tail.Go(func() { q.sendAcks(late) })

	readers.Go(func() { q.sweepLoop(ctx) })
	for stream := range q.Partitions + 1 {
		readers.Go(func() { q.read(ctx, stream) })
	}
	for _, l := range []*lane{q.quick, q.quiet} {
		readers.Go(func() { q.readLocal(ctx, l) })
	}
	<-ctx.Done()
	readers.Wait()

	ended := make(chan struct{})
	go func() {
		q.working.Wait()
		close(ended)
	}()
	var err error
	if !within(ended, q.Grace) {
		q.stop(errStopping)
		// A handler that does not obey its context keeps its lease, which then runs out.
		if !within(ended, q.Grace) {
			err = errors.New("jobs: handlers are still running; their jobs are taken over when their leases end")
		}
	}
	q.stop(errStopping)
	endTail()
	tail.Wait()
	q.leave()
	return err
}

func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// background is the stream of background kinds; the others are numbered from 0.
func (q *Queue) background() int { return q.Partitions }

// stream is where a ring goes: all rings of one key share a stream.
func (q *Queue) stream(ring Ring) int {
	if q.handlers[ring.Kind].Background {
		return q.background()
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(ring.Key))
	return int(hash.Sum32()>>1) % q.Partitions // 31 bits: an int everywhere
}

// streamKey has a hash tag of its own, so that the streams spread over a Redis Cluster.
func (q *Queue) streamKey(stream int) string {
	if stream == q.background() {
		return fmt.Sprintf("%s:{jobs-background}", q.Prefix)
	}
	return fmt.Sprintf("%s:{jobs-%d}", q.Prefix, stream)
}

func (q *Queue) epochKey() string { return q.Prefix + ":epoch" }

func (q *Queue) lane(kind string) *lane {
	if q.handlers[kind].Background {
		return q.quiet
	}
	return q.quick
}

// doubt notes that Redis may have lost something, and asks for a sweep.
func (q *Queue) doubt() {
	q.suspect.Store(true)
	select {
	case q.kick <- struct{}{}:
	default:
	}
}
