package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrBehind says that the log has fewer leaves than were published: its database lost some.
var ErrBehind = errors.New("the log is behind what was published")

// ErrFork says that the log has other leaves than were published.
var ErrFork = errors.New("the log is not the one that was published")

const (
	// publishPace is how soon leaves are published of which the publisher was told and that nobody asked to publish,
	// and how often a publication that failed is tried again.
	publishPace = 500 * time.Millisecond
	// publishCalm is how often it is looked for leaves of which nobody told: those of a server that died with them. That
	// is when the clock shows a multiple of it: what a server does now and then shall wake it once, not once for each.
	publishCalm = 10 * time.Second
	// publishTime is how long one publication takes at most.
	publishTime = 10 * time.Second
)

// Checkpoint is a checkpoint on record.
type Checkpoint struct {
	Head
	// Note is the signed note with all cosignatures that are on record.
	Note []byte
}

// Log is the log as far as publishing goes: functions, because its rows belong to another package. All of them
// are required and safe for concurrent use, by several servers too.
type Log struct {
	// Size is how many leaves are in the log.
	Size func(ctx context.Context) (int64, error)
	// Grow takes all leaves into the tree, and gives its head as it was before and as it is then, both by its hashes as
	// they are now.
	Grow func(ctx context.Context) (was, head Head, err error)
	// Root is the root of the tree when it had size leaves, as its hashes are now.
	Root func(ctx context.Context, size int64) (tlog.Hash, error)
	// Prove gives the proof that the tree of size leaves begins with the one of old leaves, which are fewer and not none.
	Prove func(ctx context.Context, size, old int64) (tlog.TreeProof, error)
	// Newest is the newest checkpoint on record; nil if there is none.
	Newest func(ctx context.Context) (*Checkpoint, error)
	// Cosigned is the newest checkpoint on record that at least quorum of the witnesses of these ids cosigned; nil if
	// there is none.
	Cosigned func(ctx context.Context, witnesses []string, quorum int) (*Checkpoint, error)
	// Put puts a checkpoint on record with cosignatures, unless one of this size or a larger one is.
	Put func(ctx context.Context, head Head, signed []byte, cosignatures []Cosignature) error
	// Cosign puts a cosignature of the checkpoint of a size on record, unless one by this witness is, or no such
	// checkpoint.
	Cosign func(ctx context.Context, size int64, cosignature Cosignature) error
	// Unpublished is above zero if something is to be published.
	Unpublished func(ctx context.Context) (int64, error)
}

// Options are what a Publisher needs.
type Options struct {
	Log  Log
	Keys *Keys
	// Sink keeps what was published; nil for none.
	Sink Sink
	// Witnesses cosign what is published.
	Witnesses []*Witness
	// Quorum is how many of them must have cosigned a checkpoint before it counts as published. With 0 none is
	// waited for: their cosignatures are put on record when they come.
	Quorum int
	Logger *slog.Logger
	// Observe is told of each publication that was tried; nil for nobody.
	Observe func(took time.Duration, err error)
	// ObserveWitness is told what became of each time that a witness was asked: cosigned; away (no answer, or not
	// now), refused (it does not know the log or its key, or has seen another tree), ahead (it has seen more
	// leaves than the log has), overtaken (it has cosigned a newer checkpoint), nonsense. Nil for nobody.
	ObserveWitness func(name, outcome string, took time.Duration)
}

// Publisher publishes checkpoints. Any number of servers may publish one log: what they can say about one size is the
// same, and the record takes what is larger. It is safe for concurrent use.
type Publisher struct {
	Options
	patience time.Duration   // for one publication
	turn     chan struct{}   // one publication at a time
	grown    chan struct{}   // holds a token when leaves were appended
	asking   []chan struct{} // by how many cosignatures are demanded beyond the quorum of publications: one caller at a time asks
	audited  atomic.Bool     // the sink was compared with the log further back
	// recorded is the size of the newest checkpoint that was seen on record.
	recorded atomic.Int64
	// puts counts the checkpoints that this publisher has put on record; put is the size of the last, for whoever has the turn.
	puts atomic.Int64
	put  int64
}

// New makes a Publisher. It publishes nothing by itself before Run.
func New(options Options) *Publisher {
	p := &Publisher{Options: options, patience: publishTime, turn: make(chan struct{}, 1), grown: make(chan struct{}, 1)}
	for range len(p.Witnesses) + 1 {
		p.asking = append(p.asking, make(chan struct{}, 1))
	}
	return p
}

// Grown tells that leaves were appended. It never waits.
func (p *Publisher) Grown() {
	select {
	case p.grown <- struct{}{}:
	default:
	}
}

// Publish returns once a checkpoint of at least size leaves, which must be committed, is published. Whoever calls
// while a publication is under way shares the next one. It fails with [ErrBehind], [ErrFork] or [ErrSinkLacks] where
// the log is not what was published, with [ErrUncosigned] where too few witnesses cosign, and with another error where
// the database or the sink is out of reach or ctx ends; then nothing is known to be published.
func (p *Publisher) Publish(ctx context.Context, size int64) error {
	return p.PublishCosigned(ctx, size, 0)
}

// PublishCosigned does as Publish, and returns only once that many witnesses have cosigned the checkpoint, where this
// is more than the quorum of all publications. Who demands less does not wait for it.
func (p *Publisher) PublishCosigned(ctx context.Context, size int64, quorum int) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	if quorum = max(quorum, p.Quorum); quorum > len(p.Witnesses) {
		return fmt.Errorf("publish the log: %w: %d are asked for, and the server has %d witnesses", ErrUncosigned, quorum, len(p.Witnesses))
	}
	least := size // of the checkpoint to publish
	for round := 1; ; round++ {
		if quorum > 0 { // whoever has the turn may be waiting for witnesses
			if _, done, err := p.published(ctx, size, quorum); err != nil {
				return fmt.Errorf("publish the log: %w", err)
			} else if done {
				return nil
			}
		}
		err := p.take(ctx, least)
		if err == nil && quorum <= p.Quorum {
			return nil // it published as much, or somebody did
		}
		if err == nil {
			err = p.gather(ctx, quorum)
		}
		// A witness may have seen what another server is about to publish: then this one publishes as much.
		if ahead, is := errors.AsType[*aheadError](err); is && ahead.overtaken && round < publishRounds {
			least = max(least, ahead.seen)
			continue
		}
		if err != nil {
			return fmt.Errorf("publish the log: %w", err)
		}
		if round == publishRounds {
			return fmt.Errorf("publish the log: %w: it grows faster than they are asked", ErrUncosigned)
		}
	}
}

// take publishes in turn, unless as much is on record by then. Whoever had the turn meanwhile may have put it there, and then the
// record need not be asked once more.
func (p *Publisher) take(ctx context.Context, size int64) error {
	before := p.puts.Load()
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.turn }()
	if p.puts.Load() > before && p.put >= size {
		return nil
	}
	newest, done, err := p.published(ctx, size, p.Quorum)
	if done || err != nil {
		return err
	}
	start := time.Now()
	head, err := p.publish(ctx, newest)
	if p.Observe != nil {
		p.Observe(time.Since(start), err)
	}
	if err == nil && head.Size < size {
		err = fmt.Errorf("it has %d leaves, not %d", head.Size, size)
	}
	return err
}

// published tells whether a checkpoint of at least so many leaves, cosigned by so many witnesses, is on record. It is
// asked of the record each time: a database that was put back while this server runs has lost its newest
// checkpoints too. What is left on record was of another past: nothing counts as published before the log was compared
// with the sink again, as when this server started.
func (p *Publisher) published(ctx context.Context, size int64, quorum int) (newest *Checkpoint, done bool, err error) {
	before := p.recorded.Load()
	newest, err = p.Log.Newest(ctx)
	if err != nil || newest == nil || newest.Size < max(size, before) || p.Sink != nil && !p.audited.Load() {
		return newest, false, err
	}
	p.recorded.CompareAndSwap(before, newest.Size)
	if quorum == 0 || len(p.cosigners(newest.Note)) >= quorum {
		return newest, true, nil
	}
	_, err = p.Cosigned(ctx, size, quorum)
	if errors.Is(err, ErrUncosigned) {
		return newest, false, nil
	}
	return newest, err == nil, err
}

// Cosigned gives the newest checkpoint on record that covers size leaves and that quorum witnesses cosigned, such as
// what [Publisher.PublishCosigned] has published. It asks nobody, and fails with [ErrUncosigned] if there is none.
func (p *Publisher) Cosigned(ctx context.Context, size int64, quorum int) (*Checkpoint, error) {
	ids := make([]string, 0, len(p.Witnesses))
	for _, w := range p.Witnesses {
		ids = append(ids, w.ID())
	}
	found, err := p.Log.Cosigned(ctx, ids, quorum)
	if err == nil && (found == nil || found.Size < size || len(p.cosigners(found.Note)) < quorum) {
		err = fmt.Errorf("%w: none of %d leaves by %d witnesses is on record", ErrUncosigned, size, quorum)
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (p *Publisher) publish(ctx context.Context, newest *Checkpoint) (Head, error) {
	past, err := p.past(ctx, newest)
	if err != nil {
		return Head{}, err
	}
	was, head, err := p.Log.Grow(ctx)
	if err != nil {
		return head, err
	}
	if err := p.check(ctx, tree{head.Size, was}, past); err != nil {
		return head, err
	}
	signed, err := p.Keys.Sign(head)
	if err != nil {
		return head, err
	}
	var cosignatures []Cosignature
	var rest func(func(Cosignature))
	if p.Quorum > 0 {
		cosignatures, rest, err = p.ask(ctx, head, signed, p.Witnesses, p.Quorum)
		if err != nil {
			return head, err
		}
	}
	whole := bytes.Clone(signed)
	for _, c := range cosignatures {
		whole = append(whole, c.Line...)
	}
	if err := p.keep(ctx, head, whole); err != nil {
		return head, err
	}
	if err := p.Log.Put(ctx, head, signed, cosignatures); err != nil {
		return head, err
	}
	p.recorded.Store(head.Size)
	p.put = head.Size
	p.puts.Add(1)
	if rest != nil {
		p.later(ctx, head.Size, rest)
	}
	return head, nil
}

// ours tells whether a checkpoint on record is of the log of this name: one that lost leaves may have gone on with another.
func (p *Publisher) ours(recorded *Checkpoint) bool {
	_, err := readHead(p.Keys.origin, recorded.Note)
	return err == nil
}

// past is what was published last. All of it is read before the log's size is: the log grows under other servers too.
type past struct {
	recorded *Head // nil for none
	ours     bool
	kept     *Head   // in the sink; nil for none
	history  []int64 // see [Publisher.history]
}

func (p *Publisher) past(ctx context.Context, newest *Checkpoint) (was past, err error) {
	if newest != nil {
		was.recorded, was.ours = &newest.Head, p.ours(newest)
	}
	if p.Sink != nil {
		if was.kept, err = p.newestKept(ctx); err == nil {
			was.history, err = p.history(ctx)
		}
	}
	return was, err
}

// tree is what is known of the log's tree.
type tree struct {
	size  int64
	known Head // the root that it had at this size, by its hashes as they are now; the zero Head for none
}

// check makes sure that the log is what was published.
func (p *Publisher) check(ctx context.Context, now tree, was past) error {
	if was.recorded != nil {
		if err := p.holds(ctx, now, *was.recorded); err != nil {
			return fmt.Errorf("against its own record: %w", err)
		}
	}
	if was.kept != nil && (was.recorded == nil || *was.kept != *was.recorded) {
		if err := p.holds(ctx, now, *was.kept); err != nil {
			return fmt.Errorf("against the sink %s: %w", p.Sink, err)
		}
	}
	if p.Sink != nil && was.ours && (was.kept == nil || *was.kept != *was.recorded) {
		if err := p.lacks(ctx, *was.recorded); err != nil {
			return err
		}
	}
	return p.audit(ctx, now, was.history)
}

// holds makes sure that the log contains the tree of an earlier head.
func (p *Publisher) holds(ctx context.Context, now tree, past Head) (err error) {
	if past.Size > now.size {
		return fmt.Errorf("%w: %d leaves were published, and it has %d", ErrBehind, past.Size, now.size)
	}
	root := now.known.Root
	if now.known == (Head{}) || past.Size != now.known.Size {
		if root, err = p.Log.Root(ctx, past.Size); err != nil {
			return err
		}
	}
	if root != past.Root {
		return fmt.Errorf("%w: its root at %d leaves is %s, and %s was published", ErrFork, past.Size, root, past.Root)
	}
	return nil
}

// Check makes sure that the log is what was published, and that the sink can be read. It fails as [Publisher.Publish]
// does.
func (p *Publisher) Check(ctx context.Context) error {
	newest, err := p.Log.Newest(ctx)
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	was, err := p.past(ctx, newest)
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	size, err := p.Log.Size(ctx)
	if err == nil {
		err = p.check(ctx, tree{size: size}, was)
	}
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	return nil
}

// Run publishes what nobody asks to publish, within a second of being told of it, else within some seconds, and has it
// cosigned by every witness, until ctx ends.
// It says in the logger where the sink is and who the witnesses are, and each failure that is another than the one
// before.
func (p *Publisher) Run(ctx context.Context) error {
	if p.Sink == nil {
		p.Logger.WarnContext(ctx, "checkpoints of the log are kept in the database only: whoever restores or changes it can take them back unnoticed here", "verifiers", p.Keys.Verifiers())
	} else {
		p.Logger.InfoContext(ctx, "checkpoints of the log are kept in the sink as well", "sink", p.Sink.String(), "verifiers", p.Keys.Verifiers())
	}
	if len(p.Witnesses) > 0 {
		names := make([]string, 0, len(p.Witnesses))
		for _, w := range p.Witnesses {
			names = append(names, w.Name())
		}
		p.Logger.InfoContext(ctx, "checkpoints of the log are cosigned", "witnesses", names, "quorum", p.Quorum)
		var following sync.WaitGroup
		defer following.Wait()
		following.Go(func() { p.follow(ctx) })
	}
	trouble := ""
	for {
		unpublished, err := p.Log.Unpublished(ctx)
		if err == nil && unpublished > 0 {
			var size int64
			if size, err = p.Log.Size(ctx); err == nil {
				err = p.Publish(ctx, size)
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && trouble != "":
			p.Logger.InfoContext(ctx, "the log is published again")
			trouble = ""
		case err != nil && err.Error() != trouble:
			trouble = err.Error()
			p.Logger.ErrorContext(ctx, "the log is not published", "error", err)
		}
		pause := publishPace
		if trouble == "" {
			select {
			case <-ctx.Done():
			case <-p.grown: // what comes one after the other is published together
			case <-time.After(time.Until(time.Now().Truncate(publishCalm).Add(publishCalm))):
				pause = 0
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
