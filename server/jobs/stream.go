package jobs

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// readCount is how many entries one read takes of each stream.
	readCount    = 64
	reclaimCount = 64
	// A consumer without entries that was not seen for an hour belongs to a process that is gone.
	staleConsumer = time.Hour
	tidyEvery     = 10 * time.Minute
)

// ack is an entry whose duty is done.
type ack struct {
	stream int
	entry  string
}

// read lets the entries of the streams wait for a place, as they come. It does not wait for places:
// behind a thousand entries of one workspace there may be one of another.
func (q *Queue) read(ctx context.Context) {
	for ctx.Err() == nil {
		err := q.readUntilTrouble(ctx)
		if ctx.Err() == nil {
			q.Log.Debug("the queue's reader begins again", slog.Any("error", err))
			q.doubt()
			wait(ctx, 100*time.Millisecond+rand.N(400*time.Millisecond))
		}
	}
}

func (q *Queue) readUntilTrouble(ctx context.Context) error {
	begin, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	node, err := q.node(begin)
	if err != nil {
		return err
	}
	conn := node.Conn()
	defer conn.Close()
	id, err := conn.ClientID(begin).Result()
	if err == nil {
		err = node.ClientUnblock(begin, id).Err() // which it knows, or refuses
	}
	block := q.Block
	var refused redis.Error
	switch {
	case err == nil:
		left := make(chan struct{})
		defer close(left)
		defer context.AfterFunc(ctx, func() { interrupt(node, id, left) })()
	case errors.As(err, &refused): // it does not know how to interrupt: whoever stops waits for a read
		block = min(block, uninterrupted)
	default:
		return err
	}
	for ctx.Err() == nil {
		entries, err := q.readNew(conn, untilFull(block, time.Now()))
		if err != nil {
			return err
		}
		for stream, messages := range entries {
			q.admit(stream, messages)
		}
	}
	return nil
}

// node is the server that has the streams.
func (q *Queue) node(ctx context.Context) (*redis.Client, error) {
	switch client := q.Redis.(type) {
	case *redis.Client:
		return client, nil
	case *redis.ClusterClient:
		client.ReloadState(ctx) // they may have moved, which is not said to who speaks to a node
		return client.MasterForKey(ctx, q.streamKey(quickStream))
	}
	return nil, errors.New("jobs: this kind of Redis client is not known")
}

// interrupt makes a connection that waits for entries, or is about to, answer at once, where Redis
// knows how.
func interrupt(node *redis.Client, id int64, left <-chan struct{}) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
		err := node.ClientUnblock(ctx, id).Err()
		cancel()
		if err != nil {
			return
		}
		pause := time.NewTimer(10 * time.Millisecond)
		select {
		case <-left:
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// uninterrupted is the longest that a reader waits which cannot be interrupted.
const uninterrupted = time.Second

func (q *Queue) readNew(conn *redis.Conn, block time.Duration) (entries [streams][]redis.XMessage, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), block+redisTimeout)
	defer cancel()
	found, err := conn.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: group, Consumer: q.Holder, Count: readCount, Block: block,
		Streams: []string{q.streamKey(quickStream), q.streamKey(quietStream), ">", ">"},
	}).Result()
	if errors.Is(err, redis.Nil) {
		return entries, nil
	}
	for _, one := range found {
		for stream := range entries {
			if one.Stream == q.streamKey(stream) {
				entries[stream] = one.Messages
			}
		}
	}
	return entries, err
}

// admit lets the rings of entries wait for places.
func (q *Queue) admit(stream int, entries []redis.XMessage) {
	rings := make([]waiting, 0, len(entries))
	for _, entry := range entries {
		ring, ok := ringOf(entry)
		if !ok {
			q.Log.Warn("an entry of the queue is not a ring", slog.String("entry", entry.ID))
			q.done(ack{stream, entry.ID})
			continue
		}
		rings = append(rings, waiting{ring, &ack{stream, entry.ID}})
	}
	q.await(q.laneOf(stream), rings)
}

// await lets rings wait in a lane.
func (q *Queue) await(l *lane, rings []waiting) {
	if len(rings) == 0 {
		return
	}
	needless, deferred := l.put(rings)
	for _, w := range needless {
		q.stats.duplicates.Add(1)
		q.acknowledge(w.entry)
	}
	q.stats.deferred.Add(int64(len(deferred)))
	q.putOff(deferred)
}

// putOff leaves jobs to the ledger, some time soon. Where that gets lost, their entries are taken over
// in a while, and those that have none are rung again after a minute.
func (q *Queue) putOff(rings []waiting) {
	for _, w := range rings {
		select {
		case q.deferred <- w:
		default:
		}
	}
}

// sendDeferred leaves jobs to the ledger in batches, until ctx ends and nothing waits.
func (q *Queue) sendDeferred(ctx context.Context) {
	for batch := range batches(ctx, q.deferred) {
		ids := make([]int64, len(batch))
		for i, w := range batch {
			ids[i] = w.ID
		}
		send, cancel := context.WithTimeout(context.Background(), ledgerTimeout)
		err := q.Ledger.Defer(send, ids)
		cancel()
		if err != nil {
			q.stats.ledgerErrors.Add(1)
			q.Log.Error("jobs could not be put off", slog.Any("error", err))
			continue
		}
		for _, w := range batch {
			q.acknowledge(w.entry)
		}
	}
}

// start starts what waits in a lane as places get free, until ctx ends.
func (q *Queue) start(ctx context.Context, l *lane) {
	for {
		w, ok := l.next(ctx)
		if !ok {
			return
		}
		q.working.Go(func() { l.run(w.Workspace, func() { q.work(w.Ring, w.entry) }) })
	}
}

func ringOf(entry redis.XMessage) (Ring, bool) {
	text, _ := entry.Values["id"].(string)
	kind, _ := entry.Values["kind"].(string)
	key, _ := entry.Values["key"].(string)
	workspace, _ := entry.Values["workspace"].(string)
	id, err := strconv.ParseInt(text, 10, 64)
	return Ring{ID: id, Kind: kind, Key: key, Workspace: workspace}, err == nil
}

func entryOf(ring Ring) map[string]any {
	return map[string]any{"id": strconv.FormatInt(ring.ID, 10), "kind": ring.Kind, "key": ring.Key, "workspace": ring.Workspace}
}

// done acknowledges an entry, some time soon. A lost acknowledgement costs a look at the ledger.
func (q *Queue) done(a ack) {
	select {
	case q.acks <- a:
	default:
	}
}

// sendAcks removes entries in batches, until ctx ends and nothing waits.
func (q *Queue) sendAcks(ctx context.Context) {
	for batch := range batches(ctx, q.acks) {
		if q.down.Load() {
			continue
		}
		var entries [streams][]string
		for _, a := range batch {
			entries[a.stream] = append(entries[a.stream], a.entry)
		}
		send, cancel := context.WithTimeout(context.Background(), redisTimeout)
		// One transaction: an entry that is acknowledged and not deleted would stay for good.
		_, err := q.Redis.TxPipelined(send, func(p redis.Pipeliner) error {
			for stream, ids := range entries {
				if len(ids) > 0 {
					p.XAck(send, q.streamKey(stream), group, ids...)
					p.XDel(send, q.streamKey(stream), ids...)
				}
			}
			return nil
		})
		cancel()
		if err != nil {
			q.doubt()
		}
	}
}

// sendRings puts rings onto their streams in batches, until ctx ends and nothing waits.
func (q *Queue) sendRings(ctx context.Context) {
	for batch := range batches(ctx, q.rings) {
		q.dispatch(batch)
	}
}

// dispatch puts rings onto their streams, or, while Redis is away, before this process's workers.
func (q *Queue) dispatch(rings []Ring) {
	if !q.down.Load() {
		err := q.publish(rings)
		if err == nil {
			q.stats.rung.Add(int64(len(rings)))
			return
		}
		q.down.Store(true)
		q.doubt()
		q.Log.Warn("the queue's Redis does not answer; this process works from the ledger", slog.Any("error", err))
	}
	q.stats.local.Add(int64(len(rings)))
	for _, ring := range rings {
		q.await(q.lane(ring.Kind), []waiting{{ring, nil}})
	}
}

func (q *Queue) publish(rings []Ring) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	_, err := q.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, ring := range rings {
			p.XAdd(ctx, &redis.XAddArgs{Stream: q.streamKey(q.stream(ring.Kind)), Values: entryOf(ring)})
		}
		return nil
	})
	return err
}

// batches yields what waits in a channel, at least one and at most 256 at a time. When ctx ends it
// yields what is left and stops.
func batches[T any](ctx context.Context, from <-chan T) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		for {
			var batch []T
			select {
			case one := <-from:
				batch = append(batch, one)
			case <-ctx.Done():
			}
			for more := true; more && len(batch) < 256; {
				select {
				case one := <-from:
					batch = append(batch, one)
				default:
					more = false
				}
			}
			if len(batch) == 0 || !yield(batch) {
				return
			}
		}
	}
}

// createGroups makes the streams and their group where they are missing.
func (q *Queue) createGroups(ctx context.Context) error {
	for stream := range streams {
		err := q.Redis.XGroupCreateMkStream(ctx, q.streamKey(stream), group, "0").Err()
		if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
			return err
		}
	}
	return nil
}

// tidy forgets consumers that hold nothing and that gone says are gone. One that still holds entries
// stays until others have taken them over.
func (q *Queue) tidy(ctx context.Context, gone func(redis.XInfoConsumer) bool) {
	for stream := range streams {
		key := q.streamKey(stream)
		consumers, err := q.Redis.XInfoConsumers(ctx, key, group).Result()
		if err != nil {
			return // only tidying
		}
		for _, c := range consumers {
			if c.Pending == 0 && gone(c) {
				_ = q.Redis.XGroupDelConsumer(ctx, key, group, c.Name).Err()
			}
		}
	}
}

// leave forgets this process's consumers, once nothing reads any more.
func (q *Queue) leave() {
	if q.down.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	q.tidy(ctx, func(c redis.XInfoConsumer) bool { return c.Name == q.Holder })
}

// wait returns after d or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
