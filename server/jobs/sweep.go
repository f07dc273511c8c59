package jobs

import (
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
		if _, err := q.SweepOnce(ctx); err != nil && ctx.Err() == nil {
			q.stats.ledgerErrors.Add(1)
			q.Log.Error("sweep of the job ledger", slog.Any("error", err))
		}
		// A kick shortens the pause; what is left of it keeps errors from making a busy loop.
		least := q.Sweep / 10
		wait(ctx, least)
		timer := time.NewTimer(q.Sweep - least + rand.N(q.Sweep/10+1))
		select {
		case <-q.kick:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
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
	swept.Epoch, swept.Healed, err = q.heal(ledger, epoch)
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
		rings, err := q.Ledger.Due(ledger, swept.Epoch, sweepBatch)
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
	return swept, nil
}

// redisError sets an error of Redis apart from one of the ledger.
type redisError struct{ error }

func (e redisError) Unwrap() error { return e.error }

// heal compares the epoch of Redis with the ledger's, and begins a new one where they differ, where
// Redis was away or is another server than before. It returns the epoch that holds.
func (q *Queue) heal(ctx context.Context, epoch int64) (now int64, healed bool, err error) {
	ask, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	text, err := q.Redis.Get(ask, q.epochKey()).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, false, redisError{err}
	}
	found, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		found = 0 // missing, or not ours
	}
	life := q.readLife(ask)
	changed := life != "" && q.life != "" && life != q.life
	doubted := q.suspect.Swap(false)
	if found == epoch && !changed && !doubted && !q.down.Load() {
		q.life = life
		return epoch, false, nil
	}
	next, err := q.Ledger.NextEpoch(ctx, epoch, found)
	if err != nil {
		q.suspect.Store(true)
		return 0, false, err
	}
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

// readLife is which Redis servers these are: their run ids, which change with a restart and with a
// fail-over. "" where they do not tell.
func (q *Queue) readLife(ctx context.Context) string {
	var guard sync.Mutex
	var ids []string
	ask := func(ctx context.Context, client *redis.Client) error {
		info, err := client.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		for line := range strings.Lines(info) {
			if id, ok := strings.CutPrefix(line, "run_id:"); ok {
				guard.Lock()
				defer guard.Unlock()
				ids = append(ids, strings.TrimSpace(id))
				return nil
			}
		}
		return errors.New("jobs: Redis names no run id")
	}
	var err error
	switch client := q.Redis.(type) {
	case *redis.Client:
		err = ask(ctx, client)
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, ask)
	}
	if err != nil {
		return ""
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// sweepWithoutRedis hands due jobs to this process's workers, as many as they can take.
func (q *Queue) sweepWithoutRedis(ctx context.Context, cause error) (Swept, error) {
	if !q.down.Swap(true) {
		q.Log.Warn("the queue's Redis does not answer; this process works from the ledger", slog.Any("error", cause))
	}
	free := min(cap(q.quick.local)-len(q.quick.local), cap(q.quiet.local)-len(q.quiet.local))
	if free == 0 {
		return Swept{Degraded: true}, nil
	}
	rings, err := q.Ledger.Due(ctx, localEpoch, free)
	if err != nil {
		return Swept{Degraded: true}, fmt.Errorf("without Redis: %w", err)
	}
	q.dispatch(rings)
	q.stats.swept.Add(int64(len(rings)))
	return Swept{Degraded: true, Dispatched: len(rings)}, nil
}
