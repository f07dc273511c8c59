package witness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrBehind says that the log has fewer leaves than were published: its database lost some.
var ErrBehind = errors.New("the log is behind what was published")

// ErrFork says that the log has other leaves than were published.
var ErrFork = errors.New("the log is not the one that was published")

const (
	// publishPace is how often it is looked for leaves that nobody asked to publish.
	publishPace = 500 * time.Millisecond
	// publishTime is how long one publication takes at most.
	publishTime = 10 * time.Second
)

// Log is the log as far as publishing goes: functions, because its rows belong to another package. All of them
// are required and safe for concurrent use, by several servers too.
type Log struct {
	// Size is how many leaves are in the log.
	Size func(ctx context.Context) (int64, error)
	// Grow takes all leaves into the tree.
	Grow func(ctx context.Context) (Head, error)
	// Root is the root of the tree when it had size leaves, as its hashes are now.
	Root func(ctx context.Context, size int64) (tlog.Hash, error)
	// Newest is the newest checkpoint on record; false if there is none.
	Newest func(ctx context.Context) (Head, bool, error)
	// Put puts a checkpoint on record, unless that or a larger one is.
	Put func(ctx context.Context, head Head, signed []byte) error
	// Unpublished is above zero if something is to be published.
	Unpublished func(ctx context.Context) (int64, error)
}

// Options are what a Publisher needs.
type Options struct {
	Log  Log
	Keys *Keys
	// Sink keeps what was published; nil for none.
	Sink   *Directory
	Logger *slog.Logger
	// Observe is told of each publication that was tried; nil for nobody.
	Observe func(took time.Duration, err error)
}

// Publisher publishes checkpoints. Any number of servers may publish one log: what they can say about one size is the
// same, and the record takes what is larger. It is safe for concurrent use.
type Publisher struct {
	Options
	turn chan struct{}
}

// New makes a Publisher. It publishes nothing by itself before Run.
func New(options Options) *Publisher {
	return &Publisher{Options: options, turn: make(chan struct{}, 1)}
}

// Publish returns once a checkpoint of at least size leaves, which must be committed, is published. Whoever calls
// while a publication is under way shares the next one. It fails with [ErrBehind] or [ErrFork] where
// the log is not what was published, and with another error where the database or the sink is out of
// reach or ctx ends; then nothing is known to be published.
func (p *Publisher) Publish(ctx context.Context, size int64) error {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	if done, err := p.published(ctx, size); done || err != nil {
		return err
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("publish the log: %w", ctx.Err())
	}
	defer func() { <-p.turn }()
	if done, err := p.published(ctx, size); done || err != nil { // by whoever had the turn before
		return err
	}
	start := time.Now()
	head, err := p.publish(ctx)
	if p.Observe != nil {
		p.Observe(time.Since(start), err)
	}
	if err != nil {
		return fmt.Errorf("publish the log: %w", err)
	}
	if head.Size < size {
		return fmt.Errorf("publish the log: it has %d leaves, not %d", head.Size, size)
	}
	return nil
}

// published tells whether a checkpoint of at least so many leaves is on record. It is asked of the record each time: a
// database that was put back while this server runs has lost its newest checkpoints too.
func (p *Publisher) published(ctx context.Context, size int64) (bool, error) {
	newest, found, err := p.Log.Newest(ctx)
	if err != nil {
		return false, fmt.Errorf("publish the log: %w", err)
	}
	return found && newest.Size >= size, nil
}

func (p *Publisher) publish(ctx context.Context) (Head, error) {
	past, err := p.past(ctx)
	if err != nil {
		return Head{}, err
	}
	head, err := p.Log.Grow(ctx)
	if err != nil {
		return head, err
	}
	if err := p.check(ctx, head.Size, past); err != nil {
		return head, err
	}
	signed, err := p.Keys.Sign(head)
	if err != nil {
		return head, err
	}
	if err := p.keep(ctx, head, signed); err != nil {
		return head, err
	}
	return head, p.Log.Put(ctx, head, signed)
}

// past is what was published last. It is read before the log's size is: the log grows under other servers too.
type past struct {
	recorded *Head // nil for none
	kept     *Head // in the sink; nil for none
}

func (p *Publisher) past(ctx context.Context) (past, error) {
	newest, found, err := p.Log.Newest(ctx)
	if err != nil {
		return past{}, err
	}
	var was past
	if found {
		was.recorded = &newest
	}
	if p.Sink == nil {
		return was, nil
	}
	kept, err := p.Sink.newest(ctx)
	if err != nil || kept == nil {
		return was, err
	}
	head, err := p.Keys.read(kept)
	if err != nil {
		return was, fmt.Errorf("the newest checkpoint in the sink %s: %w", p.Sink, err)
	}
	was.kept = &head
	return was, nil
}

// check makes sure that the log, of so many leaves, is what was published.
func (p *Publisher) check(ctx context.Context, size int64, was past) error {
	if was.recorded != nil {
		if err := p.holds(ctx, size, *was.recorded); err != nil {
			return fmt.Errorf("against its own record: %w", err)
		}
	}
	if was.kept != nil && (was.recorded == nil || *was.kept != *was.recorded) {
		if err := p.holds(ctx, size, *was.kept); err != nil {
			return fmt.Errorf("against the sink %s: %w", p.Sink, err)
		}
	}
	return nil
}

// holds makes sure that the log contains the tree of an earlier head.
func (p *Publisher) holds(ctx context.Context, size int64, past Head) error {
	if past.Size > size {
		return fmt.Errorf("%w: %d leaves were published, and it has %d", ErrBehind, past.Size, size)
	}
	root, err := p.Log.Root(ctx, past.Size)
	if err != nil {
		return err
	}
	if root != past.Root {
		return fmt.Errorf("%w: its root at %d leaves is %s, and %s was published", ErrFork, past.Size, root, past.Root)
	}
	return nil
}

// keep puts a checkpoint into the sink. One of this size may be there, of another server, or of one that ended
// right after: it must say the same.
func (p *Publisher) keep(ctx context.Context, head Head, signed []byte) error {
	if p.Sink == nil {
		return nil
	}
	err := p.Sink.put(ctx, head.Size, signed)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	present, err := p.Sink.at(ctx, head.Size)
	if err != nil {
		return err
	}
	said, err := p.Keys.read(present)
	if err != nil {
		return fmt.Errorf("the checkpoint %d in the sink %s: %w", head.Size, p.Sink, err)
	}
	if said != head {
		return fmt.Errorf("against the sink %s: %w: its root at %d leaves is %s, and %s was published", p.Sink, ErrFork, head.Size, head.Root, said.Root)
	}
	return nil
}

// Check makes sure that the log is what was published, and that the sink can be read. It fails as [Publisher.Publish]
// does.
func (p *Publisher) Check(ctx context.Context) error {
	was, err := p.past(ctx)
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	size, err := p.Log.Size(ctx)
	if err == nil {
		err = p.check(ctx, size, was)
	}
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	return nil
}

// Run publishes what nobody asks to publish, within a second, until ctx ends. It says in the logger where the sink is,
// and each failure that is another than the one before.
func (p *Publisher) Run(ctx context.Context) error {
	if p.Sink == nil {
		p.Logger.WarnContext(ctx, "checkpoints of the log are kept in the database only: whoever restores or changes it can take them back unnoticed here", "verifiers", p.Keys.Verifiers())
	} else {
		p.Logger.InfoContext(ctx, "checkpoints of the log are kept in the sink as well", "sink", p.Sink.String(), "verifiers", p.Keys.Verifiers())
	}
	tick := time.NewTicker(publishPace)
	defer tick.Stop()
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
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
