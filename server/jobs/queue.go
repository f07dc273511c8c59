package jobs

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// Options say how a queue works; zero fields mean the defaults.
type Options struct {
	// Redis is required. The commands must obey the deadline of their context, and one connection is
	// the reader's. [Connect] makes such a client.
	Redis  redis.UniversalClient
	Ledger Ledger // required
	// Prefix begins every key: "signedapproval".
	Prefix string
	// Holder is a UUID that names this process; a random one.
	Holder string
	// Concurrency is how many quick jobs run at once: 16.
	Concurrency int
	// Reserve is how many slow ones run besides: 4 × Concurrency.
	Reserve int
	// Background is how many jobs of background kinds run at once: a quarter of Concurrency.
	Background int
	// Grace is how long running jobs may take to end after Run was told to stop, and half of it how
	// long those that are cancelled then may take to be given back: 6 s.
	Grace time.Duration
	Log   *slog.Logger
	// Observe is told how each job ended and how long it ran, for metrics; nil tells nobody.
	Observe func(kind, outcome string, took time.Duration)

	// Slow is when a job moves to the reserve: 25 ms, since one that takes longer waits for Bitbucket.
	Slow time.Duration
	// Sweep is the pause between sweeps while anything is going on (1 s), and Calm about the longest one
	// while nothing is (10 s). Block is about how long the reader waits for an entry (10 s): both end when
	// the clock shows a multiple of them. An entry that its reader left alone for MinIdle (4 s) goes to
	// another, which looks for such with each sweep.
	Sweep, Calm, Block, MinIdle time.Duration
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
	// Seated kinds can be claimed by whoever asks for them: see [Queue.Seat]. Such a job may begin before what it was asked for with is
	// durable, so nothing that it does outside may rest on having been asked. Whoever claims a job of the others, which
	// are rung, makes that durable first.
	Seated bool
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

	rings    chan Ring
	acks     chan ack
	deferred chan waiting
	// kick makes the sweep begin at once.
	kick chan struct{}

	// down is true while Redis does not answer; suspect is set by whoever met an error and read by
	// the sweep, which then begins a new epoch: what Redis lost meanwhile nobody knows.
	down, suspect atomic.Bool
	// asked is when, in Unix nanoseconds, somebody rang last: the sweep is awake until those rings
	// have arrived for certain.
	asked atomic.Int64
	// sweeping guards what follows, which only sweeps know: which Redis servers these are; where the search for abandoned entries goes on, by stream; and when consumers
	// that are gone are forgotten.
	sweeping sync.Mutex
	life     string
	cursors  [streams]string
	tidyAt   time.Time

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
		l.Defer == nil || l.Epoch == nil || l.NextEpoch == nil || l.LeaseLost == nil || l.LeftBehind == "" {
		panic("jobs: a queue needs Redis and a whole ledger")
	}
	o := &options
	o.Prefix = cmp.Or(o.Prefix, "signedapproval")
	o.Holder = cmp.Or(o.Holder, uuid.NewString())
	o.Concurrency = cmp.Or(o.Concurrency, 16)
	o.Reserve = cmp.Or(o.Reserve, 4*o.Concurrency)
	o.Background = cmp.Or(o.Background, max(2, o.Concurrency/4))
	o.Grace = cmp.Or(o.Grace, 6*time.Second)
	o.Log = cmp.Or(o.Log, slog.Default())
	o.Slow = cmp.Or(o.Slow, 25*time.Millisecond)
	o.Sweep = cmp.Or(o.Sweep, time.Second)
	o.Calm = cmp.Or(o.Calm, 10*o.Sweep)
	o.Block = cmp.Or(o.Block, 10*time.Second)
	o.MinIdle = cmp.Or(o.MinIdle, 4*time.Second)
	q := &Queue{
		Options: options, handlers: map[string]handler{},
		quick: newLane(o.Concurrency, o.Reserve, o.Slow),
		// Background work is slow as a rule, and what it may use is its slots.
		quiet: newLane(o.Background, 0, o.Slow),
		rings: make(chan Ring, ringBacklog), acks: make(chan ack, ringBacklog), deferred: make(chan waiting, ringBacklog), kick: make(chan struct{}, 1),
		quarantine: make(chan struct{}, 1), tidyAt: time.Now().Add(rand.N(tidyEvery)),
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
	// Where nothing was going on, the sweep looks soon whether these arrive.
	if last := q.asked.Swap(time.Now().UnixNano()); time.Since(time.Unix(0, last)) > q.settled() {
		q.wake()
	}
	for _, ring := range rings {
		select {
		case q.rings <- ring:
		default:
			q.stats.ringsDropped.Add(1)
		}
	}
}

// Seat keeps a place for a job that is about to be claimed, for Options.Holder and for the length of lease, by whoever asks
// for it. Where it answers true, fill must be called once, with the claimed job or with nil for none; it does not wait. There
// is a seat for [HandlerOptions.Seated] kinds alone, and none for background ones, while anything waits or half of the places are in use,
// and before and after Run: such jobs are to be rung.
func (q *Queue) Seat(kind, workspace string) (lease time.Duration, fill func(job *Job), ok bool) {
	h := q.handlers[kind]
	if !h.Seated || h.Background || !q.quick.seat(workspace, func() { q.working.Add(1) }) {
		return 0, nil, false
	}
	since := time.Now()
	sit := func(work func()) {
		defer q.working.Done()
		q.quick.run(workspace, work)
	}
	return h.Lease, func(job *Job) {
		if job == nil {
			sit(func() {})
			return
		}
		go sit(func() { q.carryOut(h, *job, since) })
	}, true
}

// Run works until ctx ends. Then it reads no more, gives back what it has not begun, waits Grace for
// what is running, cancels the rest, whose jobs go back without blame, and returns after one and a
// half times Grace at the latest. Its error says that a handler obeys nothing.
func (q *Queue) Run(ctx context.Context) error {
	var inside, tail sync.WaitGroup
	late, endTail := context.WithCancel(context.WithoutCancel(ctx))
	defer endTail()
	tail.Go(func() { q.sendRings(late) })
	tail.Go(func() { q.sendAcks(late) })
	tail.Go(func() { q.sendDeferred(late) })

	q.quick.seats(true)
	inside.Go(func() { q.sweepLoop(ctx) })
	inside.Go(func() { q.read(ctx) })
	for _, l := range []*lane{q.quick, q.quiet} {
		inside.Go(func() { q.start(ctx, l) })
	}
	<-ctx.Done()
	q.quick.seats(false)

	ended := make(chan struct{})
	go func() {
		inside.Wait()
		for _, l := range []*lane{q.quick, q.quiet} {
			left := l.drain()
			q.stats.handedBack.Add(int64(len(left)))
			q.putOff(left)
		}
		q.working.Wait()
		close(ended)
	}()
	var err error
	if !within(ended, q.Grace) {
		q.stop(errStopping)
		// A handler that does not obey its context keeps its lease, which then runs out.
		if !within(ended, q.Grace/2) {
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

// The streams: one for each lane.
const (
	quickStream = iota
	quietStream
	streams
)

func (q *Queue) stream(kind string) int {
	if q.handlers[kind].Background {
		return quietStream
	}
	return quickStream
}

// streamKey has the same hash tag for all of them, so that one command reads them in a Redis Cluster
// too. One node bears the whole queue, whose entries are small and few beside what it can.
func (q *Queue) streamKey(stream int) string {
	return q.Prefix + [streams]string{":{jobs}:quick", ":{jobs}:background"}[stream]
}

func (q *Queue) epochKey() string { return q.Prefix + ":epoch" }

func (q *Queue) lane(kind string) *lane {
	return q.laneOf(q.stream(kind))
}

func (q *Queue) laneOf(stream int) *lane {
	if stream == quietStream {
		return q.quiet
	}
	return q.quick
}

// doubt notes that Redis may have lost something, and asks for a sweep.
func (q *Queue) doubt() {
	q.suspect.Store(true)
	q.wake()
}

// wake makes the sweep begin soon.
func (q *Queue) wake() { poke(q.kick) }

// settled is how long a ring may be on its way without the sweep growing calm: longer than the
// ledger and the streams wait before they think it lost.
func (q *Queue) settled() time.Duration { return q.MinIdle + 2*q.Sweep }
