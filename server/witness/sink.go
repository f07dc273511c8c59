package witness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sync/errgroup"
)

// maxSize is the largest tree whose checkpoint a sink has a name for.
const maxSize = 1e18 - 1

// Sink keeps checkpoints where whoever restores or changes the database does not change them as well: a [Directory] or
// a [Bucket]. What is in it is never changed, and several servers may share one.
type Sink interface {
	// String is where the sink is, without secrets.
	String() string
	// put writes a checkpoint so that it stays. It fails with [fs.ErrExist] if there is one of this size.
	put(ctx context.Context, size int64, signed []byte) error
	// at reads the checkpoint of a size. It fails with [fs.ErrNotExist] if there is none.
	at(ctx context.Context, size int64) ([]byte, error)
	// upTo gives the sizes of checkpoints of at most so many leaves, the largest first, and at most so many sizes.
	upTo(ctx context.Context, size int64, most int) ([]int64, error)
}

// OpenSink gives the sink at an address: the path of a folder, or s3://bucket/prefix, see [NewBucket].
func OpenSink(address string) (Sink, error) {
	if strings.HasPrefix(address, "s3:") {
		return NewBucket(address)
	}
	return NewDirectory(address), nil
}

// ErrSinkUnread says that the sink is out of reach, or that what is in it cannot be read.
var ErrSinkUnread = errors.New("the sink cannot be read")

// ErrSinkLacks says that the sink has not what was published last: it was emptied or put back, or it is a new one.
var ErrSinkLacks = errors.New("the sink lacks what was published")

const (
	// auditNewest is how many of the sink's newest checkpoints a server compares with the log before it publishes for the
	// first time. Of those before, it takes the newest up to each half of the size of the one before.
	auditNewest = 64
	// auditAtOnce is how many of them are read at once.
	auditAtOnce = 8
)

// kept reads the checkpoint of a size from the sink.
func (p *Publisher) kept(ctx context.Context, size int64) (Head, error) {
	signed, err := p.Sink.at(ctx, size)
	if err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrSinkUnread, err)
	}
	head, err := readHead(p.Keys.origin, signed)
	if err == nil && head.Size != size {
		err = fmt.Errorf("it is one of %d leaves", head.Size)
	}
	if err != nil {
		return Head{}, fmt.Errorf("%w: the checkpoint %d in %s: %w", ErrSinkUnread, size, p.Sink, err)
	}
	return head, nil
}

// keptUpTo lists the sizes of checkpoints in the sink, as [Sink] does.
func (p *Publisher) keptUpTo(ctx context.Context, size int64, most int) ([]int64, error) {
	sizes, err := p.Sink.upTo(ctx, size, most)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrSinkUnread, err)
	}
	return sizes, err
}

// newestKept reads the newest checkpoint in the sink; nil if there is none.
func (p *Publisher) newestKept(ctx context.Context) (*Head, error) {
	sizes, err := p.keptUpTo(ctx, maxSize, 1)
	if err != nil || len(sizes) == 0 {
		return nil, err
	}
	head, err := p.kept(ctx, sizes[0])
	return &head, err
}

// lacks makes sure that the sink has what is newest on record. A publication puts a checkpoint into the sink before
// it puts it on record, so the sink lost it otherwise, and with it may have gone what would have shown
// that the database was put back.
func (p *Publisher) lacks(ctx context.Context, recorded Head) error {
	kept, err := p.kept(ctx, recorded.Size)
	if errors.Is(err, fs.ErrNotExist) {
		// A folder that is away lacks everything: that is another trouble, and ends by itself.
		if _, err := p.keptUpTo(ctx, maxSize, 1); err != nil {
			return err
		}
		return fmt.Errorf("%w: the checkpoint %d is on record and not in %s: it was emptied, put back, or not used for a while; once a person has looked, `signedapproval log adopt-sink` goes on with it", ErrSinkLacks, recorded.Size, p.Sink)
	}
	if err == nil && kept != recorded {
		err = fmt.Errorf("%w: its own record has the root %s at %d leaves, and the sink %s has %s", ErrFork, recorded.Root, recorded.Size, p.Sink, kept.Root)
	}
	return err
}

// history lists the checkpoints in the sink that a server compares before it publishes for the first time; none where it
// did. It is read before the log's size is: other servers publish meanwhile.
func (p *Publisher) history(ctx context.Context) ([]int64, error) {
	if p.Sink == nil || p.audited.Load() {
		return nil, nil
	}
	sizes, err := p.keptUpTo(ctx, maxSize, auditNewest)
	if err != nil || len(sizes) < auditNewest {
		return sizes, err
	}
	for bound := sizes[auditNewest-1] / 2; bound > 0; bound /= 2 {
		older, err := p.keptUpTo(ctx, bound, 1)
		if err != nil {
			return nil, err
		}
		if len(older) == 0 {
			break
		}
		sizes, bound = append(sizes, older[0]), older[0]
	}
	return sizes, nil
}

// audit compares the log with what the sink has, further back than to its newest checkpoint: once,
// before anything is published by this server.
func (p *Publisher) audit(ctx context.Context, now tree, sizes []int64) error {
	if p.Sink == nil || p.audited.Load() {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(auditAtOnce)
	for _, kept := range sizes {
		group.Go(func() error {
			head, err := p.kept(ctx, kept)
			if err == nil {
				err = p.holds(ctx, now, head)
			}
			if err != nil {
				return fmt.Errorf("against the sink %s: %w", p.Sink, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	p.audited.Store(true)
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
	kept, err := p.kept(ctx, head.Size)
	if err != nil {
		return err
	}
	if kept != head {
		return fmt.Errorf("against the sink %s: %w: its root at %d leaves is %s, and %s was published", p.Sink, ErrFork, head.Size, head.Root, kept.Root)
	}
	return nil
}

// AdoptSink goes on with a sink that lacks what was published last, such as a new one: it puts the newest checkpoint on
// record into it, and gives its size; -1 if nothing of the log named origin is on record, and so nothing is
// lacking. What is in the sink already must be of this log: [ErrBehind] and [ErrFork] are not adopted.
func AdoptSink(ctx context.Context, log Log, origin string, sink Sink) (size int64, err error) {
	p := New(Options{Log: log, Keys: &Keys{origin: origin}, Sink: sink})
	newest, err := log.Newest(ctx)
	if err != nil {
		return 0, fmt.Errorf("adopt the sink: %w", err)
	}
	sizes, err := p.history(ctx)
	if err == nil {
		size, err = log.Size(ctx)
	}
	if err == nil {
		err = p.audit(ctx, tree{size: size}, sizes)
	}
	if err == nil && newest != nil {
		err = p.holds(ctx, tree{size: size}, newest.Head)
	}
	if err != nil {
		return 0, fmt.Errorf("adopt the sink: %w", err)
	}
	if newest == nil || !p.ours(newest) {
		return -1, nil
	}
	if err := p.keep(ctx, newest.Head, newest.Note); err != nil {
		return 0, fmt.Errorf("adopt the sink: %w", err)
	}
	return newest.Size, nil
}
