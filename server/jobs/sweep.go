package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	sweepBatch = 500
	// sweepRounds bounds one sweep, so that a huge backlog does not keep it from looking at Redis.
	sweepRounds = 20
	// localEpoch is no epoch of Redis: what was dispatched in it counts as not dispatched as soon
	// as Redis is back.
	localEpoch = 0
)

// Swept is what one sweep did.
type Swept struct {
	Epoch      int64
	Healed     bool // a new epoch began, or another replica's was adopted
	Degraded   bool // Redis does not answer; due jobs went straight to this process's workers
	Dispatched int
	// Calm says that nothing was on the streams, and nothing was put there.
	Calm bool
	// Next is how long it will take until something is due, as far as the ledger knows.
	Next time.Duration
}

// raiseEpoch sets the epoch unless a later one is there: replicas that heal at the same time may
// write in any order.
var raiseEpoch = redis.NewScript(`
-- KEYS[1] the epoch's key, ARGV[1] the epoch
local present = tonumber(redis.call('GET', KEYS[1]))
if not present or present < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 0`)

func (q *Queue) sweepLoop(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-q.kick: // this sweep is the answer
		default:
		}
		began := time.Now()
		swept, err := q.SweepOnce(ctx)
		if err != nil && ctx.Err() == nil {
			q.stats.ledgerErrors.Add(1)
			q.Log.Error("sweep of the job ledger", slog.Any("error", err))
		}
		// A kick shortens the pause; what is left of it keeps errors from making a busy loop, and a
		// long backlog from making one sweep after the other.
		ended := time.Now()
		soonest := ended.Add(max(q.Sweep/10, 2*ended.Sub(began)))
		timer := time.NewTimer(q.pause(swept, err))
		select {
		case <-q.kick:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if early := time.Until(soonest); early > 0 {
			wait(ctx, early)
		}
	}
}

// pause is how long until the next sweep. While nothing is going on, and nothing is due, there are
// few: what they would find was rung by a process that died before its ring was out, or was done to
// the ledger by hand.
func (q *Queue) pause(swept Swept, err error) time.Duration {
	pause := q.Sweep + rand.N(q.Sweep/10+1)
	if err == nil && swept.Calm && time.Since(time.Unix(0, q.asked.Load())) > q.settled() {
		pause = max(untilFull(q.Calm, time.Now()), q.Sweep)
	}
	if err == nil {
		pause = min(pause, swept.Next)
	}
	return pause
}

// untilFull is how long it is until the clock shows a multiple of d, and d besides where that is almost now. Whatever a
// process does now and then it does at such moments: one that is at rest wakes up once for all of it.
func untilFull(d time.Duration, now time.Time) time.Duration {
	left := now.Truncate(d).Add(d).Sub(now.Round(0))
	if left < d/10 {
		left += d
	}
	return left
}

// SweepOnce rings every due job that no ring seems to reach, after it has seen to it that Redis
// lives in the epoch that the ledger says. Only the ledger's errors are its errors.
func (q *Queue) SweepOnce(ctx context.Context) (Swept, error) {
	q.sweeping.Lock()
	defer q.sweeping.Unlock()
	ledger, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	epoch, err := q.Ledger.Epoch(ledger)
	if err != nil {
		return Swept{}, err
	}
	swept := Swept{Epoch: epoch}
	seen, err := q.look(ctx)
	if err == nil {
		swept.Epoch, swept.Healed, err = q.heal(ledger, epoch, seen)
	}
	var gone redisError
	if errors.As(err, &gone) {
		return q.sweepWithoutRedis(ledger, gone)
	}
	if err != nil {
		return Swept{}, err
	}
	if q.down.Swap(false) {
		q.Log.Info("the queue's Redis answers again", slog.Int64("epoch", swept.Epoch))
	}
	for range sweepRounds {
		var rings []Ring
		rings, swept.Next, err = q.Ledger.Due(ledger, swept.Epoch, sweepBatch)
		if err != nil {
			return swept, err
		}
		if len(rings) > 0 {
			q.dispatch(rings)
		}
		swept.Dispatched += len(rings)
		q.stats.swept.Add(int64(len(rings)))
		if len(rings) < sweepBatch {
			break
		}
	}
	swept.Calm = seen.waiting == 0 && !swept.Healed && swept.Dispatched == 0
	return swept, nil
}

// seen is what a sweep sees of Redis.
type seen struct {
	epoch   int64  // 0 where there is none
	life    string // the run ids of the servers, which change with a restart and with a fail-over; "" where they do not tell
	waiting int64  // entries on the streams
	lost    bool   // a stream or its group is not there
}

// look asks Redis all that a sweep wants to know, and takes over entries that their reader has left
// alone: it died before it claimed their jobs, or its acknowledgement got lost.
func (q *Queue) look(ctx context.Context) (seen, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	var epoch, info *redis.StringCmd
	var lengths [streams]*redis.IntCmd
	var abandoned [streams]*redis.XAutoClaimCmd
	_, _ = q.Redis.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		epoch, info = p.Get(ctx, q.epochKey()), p.Info(ctx, "server")
		for stream := range streams {
			key := q.streamKey(stream)
			lengths[stream] = p.XLen(ctx, key)
			// The cursor is carried on: starting at the beginning each time would never reach what lies
			// behind the first page.
			abandoned[stream] = p.XAutoClaim(ctx, &redis.XAutoClaimArgs{
				Stream: key, Group: group, Consumer: q.Holder, MinIdle: q.MinIdle, Start: cmp.Or(q.cursors[stream], "0-0"), Count: reclaimCount,
			})
		}
		return nil
	})
	text, err := epoch.Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return seen{}, redisError{err}
	}
	var s seen
	if s.epoch, err = strconv.ParseInt(text, 10, 64); err != nil {
		s.epoch = 0 // missing, or not ours
	}
	for stream := range streams {
		s.waiting += lengths[stream].Val()
		entries, cursor, err := abandoned[stream].Result()
		if err != nil {
			s.lost = true
			continue
		}
		q.cursors[stream] = cursor
		q.stats.reclaimed.Add(int64(len(entries)))
		q.admit(stream, entries)
	}
	if time.Now().After(q.tidyAt) {
		q.tidyAt = time.Now().Add(tidyEvery)
		q.tidy(ctx, func(c redis.XInfoConsumer) bool { return c.Name != q.Holder && c.Idle > staleConsumer })
	}
	s.life = runID(info.Val())
	if cluster, ok := q.Redis.(*redis.ClusterClient); ok {
		s.life = lifeOf(ctx, cluster)
	}
	return s, nil
}

// redisError sets an error of Redis apart from one of the ledger.
type redisError struct{ error }

func (e redisError) Unwrap() error { return e.error }

// heal compares the epoch of Redis with the ledger's, and begins a new one where they differ, where
// Redis was away or is another server than before. It returns the epoch that holds.
func (q *Queue) heal(ctx context.Context, epoch int64, s seen) (now int64, healed bool, err error) {
	found, life := s.epoch, s.life
	changed := life != "" && q.life != "" && life != q.life
	doubted := q.suspect.Swap(false)
	if found == epoch && !s.lost && !changed && !doubted && !q.down.Load() {
		q.life = life
		return epoch, false, nil
	}
	next, err := q.Ledger.NextEpoch(ctx, epoch, found)
	if err != nil {
		q.suspect.Store(true)
		return 0, false, err
	}
	ask, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	err = q.createGroups(ask)
	if err == nil {
		err = raiseEpoch.Run(ask, q.Redis, []string{q.epochKey()}, next).Err()
	}
	if err != nil {
		q.suspect.Store(true)
		return 0, false, redisError{err}
	}
	q.life = life
	q.stats.epochs.Add(1)
	q.Log.Info("a new epoch of the queue", slog.Int64("epoch", next), slog.Int64("found", found))
	return next, true, nil
}

// lifeOf is the run ids of all nodes, "" where one does not tell.
func lifeOf(ctx context.Context, cluster *redis.ClusterClient) string {
	var guard sync.Mutex
	var ids []string
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx, "server").Result()
		guard.Lock()
		defer guard.Unlock()
		ids = append(ids, runID(info))
		return err
	})
	if err != nil || slices.Contains(ids, "") {
		return ""
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// runID finds the run id in what INFO says; "" where it is not there.
func runID(info string) string {
	for line := range strings.Lines(info) {
		if id, ok := strings.CutPrefix(line, "run_id:"); ok {
			return strings.TrimSpace(id)
		}
	}
	return ""
}

// sweepWithoutRedis hands due jobs to this process's workers, as many as they can take.
func (q *Queue) sweepWithoutRedis(ctx context.Context, cause error) (Swept, error) {
	if !q.down.Swap(true) {
		q.Log.Warn("the queue's Redis does not answer; this process works from the ledger", slog.Any("error", cause))
	}
	free := min(q.quick.room(), q.quiet.room(), sweepBatch)
	if free == 0 {
		return Swept{Degraded: true, Next: q.Sweep}, nil
	}
	rings, next, err := q.Ledger.Due(ctx, localEpoch, free)
	if err != nil {
		return Swept{Degraded: true}, fmt.Errorf("without Redis: %w", err)
	}
	q.dispatch(rings)
	q.stats.swept.Add(int64(len(rings)))
	return Swept{Degraded: true, Dispatched: len(rings), Next: next}, nil
}
