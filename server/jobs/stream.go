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
	// readCount is how many entries one read takes. They wait for slots in this process, so few.
	readCount    = 8
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

// read takes the entries of one stream, and starts a job for each as slots allow.
func (q *Queue) read(ctx context.Context, stream int) {
	cursor := "0-0"
	reclaimAt := time.Now().Add(q.Reclaim)
	tidyAt := time.Now().Add(rand.N(tidyEvery))
	for ctx.Err() == nil {
		var entries []redis.XMessage
		var err error
		if time.Now().After(reclaimAt) {
			// The cursor is carried on: starting at the beginning each time would never reach what
			// lies behind the first page.
			entries, cursor, err = q.reclaim(ctx, stream, cursor)
			if cursor == "0-0" {
				reclaimAt = time.Now().Add(q.Reclaim)
			}
			q.stats.reclaimed.Add(int64(len(entries)))
			if err == nil && time.Now().After(tidyAt) {
				q.tidy(ctx, stream, staleConsumer)
				tidyAt = time.Now().Add(tidyEvery)
			}
		} else {
			entries, err = q.readNew(ctx, stream)
		}
		if err != nil && ctx.Err() == nil {
			cursor = "0-0"
			q.doubt()
			wait(ctx, 100*time.Millisecond+rand.N(400*time.Millisecond))
			continue
		}
		q.begin(ctx, stream, entries)
	}
}

func (q *Queue) readNew(ctx context.Context, stream int) ([]redis.XMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, q.Block+redisTimeout)
	defer cancel()
	streams, err := q.Redis.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: group, Consumer: q.Holder, Streams: []string{q.streamKey(stream), ">"}, Count: readCount, Block: q.Block,
	}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil || len(streams) == 0 {
		return nil, err
	}
	return streams[0].Messages, nil
}

// reclaim takes over entries that their reader has left alone: it died before it claimed their jobs,
// or its acknowledgement got lost.
func (q *Queue) reclaim(ctx context.Context, stream int, cursor string) ([]redis.XMessage, string, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return q.Redis.XAutoClaim(ctx, &redis.XAutoClaimArgs{
		Stream: q.streamKey(stream), Group: group, Consumer: q.Holder, MinIdle: q.MinIdle, Start: cursor, Count: reclaimCount,
	}).Result()
}

// begin starts a job for each entry. When the process stops first, the rest goes back to the stream.
func (q *Queue) begin(ctx context.Context, stream int, entries []redis.XMessage) {
	l := q.quick
	if stream == q.background() {
		l = q.quiet
	}
	for i, entry := range entries {
		ring, ok := ringOf(entry)
		if !ok {
			q.Log.Warn("an entry of the queue is not a ring", slog.String("entry", entry.ID))
			q.done(ack{stream, entry.ID})
			continue
		}
		if !l.enter(ctx) {
			q.handBack(stream, entries[i:])
			return
		}
		q.start(l, ring, &ack{stream, entry.ID})
	}
}

func (q *Queue) start(l *lane, ring Ring, entry *ack) {
	q.working.Go(func() { l.run(func() { q.work(ring, entry) }) })
}

// readLocal starts the jobs that came to this process without Redis.
func (q *Queue) readLocal(ctx context.Context, l *lane) {
	for {
		select {
		case ring := <-l.local:
			if !l.enter(ctx) {
				return // nobody has claimed it; it is due for others
			}
			q.start(l, ring, nil)
		case <-ctx.Done():
			return
		}
	}
}

func ringOf(entry redis.XMessage) (Ring, bool) {
	text, _ := entry.Values["id"].(string)
	kind, _ := entry.Values["kind"].(string)
	key, _ := entry.Values["key"].(string)
	id, err := strconv.ParseInt(text, 10, 64)
	return Ring{ID: id, Kind: kind, Key: key}, err == nil
}

func entryOf(ring Ring) map[string]any {
	return map[string]any{"id": strconv.FormatInt(ring.ID, 10), "kind": ring.Kind, "key": ring.Key}
}

// handBack puts entries that were read and not begun behind the others, for another process.
func (q *Queue) handBack(stream int, entries []redis.XMessage) {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	key := q.streamKey(stream)
	_, err := q.Redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, entry := range entries {
			p.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: entry.Values})
			p.XAck(ctx, key, group, entry.ID)
			p.XDel(ctx, key, entry.ID)
		}
		return nil
	})
	if err != nil {
		q.Log.Warn("entries could not be handed back; another process takes them over", slog.Any("error", err))
		return
	}
	q.stats.handedBack.Add(int64(len(entries)))
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
		entries := map[int][]string{}
		for _, a := range batch {
			entries[a.stream] = append(entries[a.stream], a.entry)
		}
		for stream, ids := range entries {
			send, cancel := context.WithTimeout(context.Background(), redisTimeout)
			// One transaction: an entry that is acknowledged and not deleted would stay for good.
			_, err := q.Redis.TxPipelined(send, func(p redis.Pipeliner) error {
				p.XAck(send, q.streamKey(stream), group, ids...)
				p.XDel(send, q.streamKey(stream), ids...)
				return nil
			})
			cancel()
			if err != nil {
				q.doubt()
			}
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
	for _, ring := range rings {
		if q.lane(ring.Kind).offer(ring) {
			q.stats.local.Add(1)
		} else {
			q.stats.ringsDropped.Add(1)
		}
	}
}

func (q *Queue) publish(rings []Ring) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	_, err := q.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, ring := range rings {
			p.XAdd(ctx, &redis.XAddArgs{Stream: q.streamKey(q.stream(ring)), Values: entryOf(ring)})
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
	for stream := range q.Partitions + 1 {
		err := q.Redis.XGroupCreateMkStream(ctx, q.streamKey(stream), group, "0").Err()
		if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
			return err
		}
	}
	return nil
}

// tidy forgets consumers that hold nothing and were idle for that long.
func (q *Queue) tidy(ctx context.Context, stream int, idle time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	key := q.streamKey(stream)
	consumers, err := q.Redis.XInfoConsumers(ctx, key, group).Result()
	if err != nil {
		return // only tidying
	}
	for _, c := range consumers {
		if c.Name != q.Holder && c.Pending == 0 && c.Idle > idle {
			_ = q.Redis.XGroupDelConsumer(ctx, key, group, c.Name).Err()
		}
	}
}

// leave forgets this process's consumers, once nothing reads any more. One that still holds entries
// stays until others have taken them over.
func (q *Queue) leave() {
	if q.down.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	for stream := range q.Partitions + 1 {
		key := q.streamKey(stream)
		consumers, err := q.Redis.XInfoConsumers(ctx, key, group).Result()
		if err != nil {
			return
		}
		for _, c := range consumers {
			if c.Name == q.Holder && c.Pending == 0 {
				_ = q.Redis.XGroupDelConsumer(ctx, key, group, c.Name).Err()
			}
		}
	}
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
