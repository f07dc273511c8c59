package store

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrBusy says that deliveries arrive faster than they can be committed, or that the intake has
// stopped: nothing of this one was kept, and the sender should come again.
var ErrBusy = errors.New("store: the intake is busy")

// IntakeOptions bound an [Intake]; zero fields mean the defaults.
type IntakeOptions struct {
	Writers int           // batches that are committed at once; 4
	Queue   int           // deliveries that may wait for a writer; 1024
	Batch   int           // deliveries in one commit; 128
	Timeout time.Duration // from arrival to commit; 5 s
}

// Intake gathers deliveries that arrive at the same time into one commit. It never waits for a batch
// to fill: a writer takes what is there.
type Intake struct {
	store   *Store
	options IntakeOptions
	queue   chan waiting
	writers sync.WaitGroup
	// closing guards queue against a send after close; it is held for reading while one is sent.
	closing sync.RWMutex
	closed  bool
}

// waiting is a delivery and where its outcome is awaited.
type waiting struct {
	packed
	until time.Time
	done  chan error // capacity 1: a writer never waits for a caller
}

// NewIntake makes an intake; Start sets it to work.
func NewIntake(store *Store, options IntakeOptions) *Intake {
	options.Writers = cmp.Or(options.Writers, 4)
	options.Queue = cmp.Or(options.Queue, 1024)
	options.Batch = cmp.Or(options.Batch, 128)
	options.Timeout = cmp.Or(options.Timeout, 5*time.Second)
	return &Intake{store: store, options: options, queue: make(chan waiting, options.Queue)}
}

// Start starts the writers. It is called once.
func (i *Intake) Start() {
	for range i.options.Writers {
		i.writers.Go(i.write)
	}
}

// Stop refuses further deliveries, commits those that were taken, and returns when that is done. It
// may be called more than once.
func (i *Intake) Stop() {
	i.closing.Lock()
	if !i.closed {
		i.closed = true
		close(i.queue)
	}
	i.closing.Unlock()
	i.writers.Wait()
}

// Accept returns nil once the delivery, or the first copy of it, is committed. [ErrBusy] means that
// it was not taken. Any other error may leave it committed or not: the sender repeats it, and a
// repeat is a no-op. When ctx or the intake's timeout ends first, Accept returns that error and the
// delivery goes on without its caller.
func (i *Intake) Accept(ctx context.Context, d Delivery) error {
	p, err := pack(d)
	if err != nil {
		return err
	}
	w := waiting{packed: p, until: time.Now().Add(i.options.Timeout), done: make(chan error, 1)}
	ctx, cancel := context.WithDeadline(ctx, w.until)
	defer cancel()
	if err := i.send(w); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (i *Intake) send(w waiting) error {
	i.closing.RLock()
	defer i.closing.RUnlock()
	if i.closed {
		return ErrBusy
	}
	select {
	case i.queue <- w:
		return nil
	default:
		return ErrBusy
	}
}

func (i *Intake) write() {
	for w := range i.queue {
		i.commit(i.gather(w))
	}
}

// gather adds to the first what is waiting already, and turns away what waited too long: a database
// that was away must not be met by a queue of requests that nobody waits for any more.
func (i *Intake) gather(w waiting) []waiting {
	var batch []waiting
	for open := true; open; {
		if time.Now().After(w.until) {
			w.done <- ErrBusy
		} else {
			batch = append(batch, w)
		}
		if len(batch) == i.options.Batch {
			break
		}
		select {
		case w, open = <-i.queue:
		default:
			open = false
		}
	}
	return batch
}

// commit writes a batch under a deadline of its own: a caller that hangs up must not take the others
// with it. If the database refuses the batch, each delivery is tried alone, so that only the one at
// fault fails; unless it can do nothing at all now, when trying each would only make that worse.
func (i *Intake) commit(batch []waiting) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), batch[0].until)
	defer cancel()
	rows := make([]packed, len(batch))
	for n, w := range batch {
		rows[n] = w.packed
	}
	err := i.store.accept(ctx, rows)
	for try := 0; lostConnection(err) && ctx.Err() == nil && try < 3; try++ {
		err = i.store.accept(ctx, rows) // the pool gives another; a repeat is a no-op
	}
	var refused *pgconn.PgError
	alone := err != nil && len(batch) > 1 && errors.As(err, &refused) && !Unavailable(err)
	for _, w := range batch {
		if alone {
			err = i.store.accept(ctx, []packed{w.packed})
		}
		w.done <- err
	}
}
