package jobs

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Class is a share of a budget.
type Class string

const (
	// Urgent may spend all of it.
	Urgent Class = "urgent"
	// Foreground leaves a twentieth to what is urgent.
	Foreground Class = "foreground"
	// Background leaves a fifth to the others.
	Background Class = "background"
)

// BudgetOptions say how a budget works; zero fields mean the defaults.
type BudgetOptions struct {
	Redis  redis.UniversalClient // required
	Prefix string                // "signedapproval"
	// PerHour is how many calls a credential has in any sixty minutes: 1000.
	PerHour int
	// Spent estimates the calls that a credential has made in the last sixty minutes, and whether
	// anything is known. It is asked when Redis knows nothing of the credential. Required.
	Spent func(ctx context.Context, tokenKey string) (calls int64, known bool, err error)
	// AddSpent counts calls for Spent. Required.
	AddSpent func(ctx context.Context, tokenKey string, calls int64) error
	// Patience is how long Redis has for an answer, before this replica goes on without the others for a second: 500 ms.
	Patience time.Duration
	Log      *slog.Logger
}

// Budget keeps the calls made with each credential, by all replicas together, below what Bitbucket
// allows. A quarter of the hour's calls may be spent at once; three quarters flow in evenly over the
// hour, so that no sixty minutes see more than all of them. After a refusal the rate is halved, and
// recovers slowly.
//
// While Redis is away each replica allows itself a tenth.
type Budget struct {
	BudgetOptions

	// guard guards what follows. It is never held over a call.
	guard   sync.Mutex
	spent   map[string]int64 // not yet counted by AddSpent
	local   map[string]*bucket
	paused  map[string]time.Time
	awayTil time.Time // Redis did not answer; it is asked again from then on

	// counting holds a token when there is something to count.
	counting chan struct{}
}

const (
	// spendAtOnce is the share of the hour's calls that a full bucket holds.
	spendAtOnce = 4
	// localShare is the share that a replica takes without asking the others.
	localShare = 10
	// urgentShare and reserveShare are the shares of the bucket that the foreground and the background
	// leave.
	urgentShare  = 20
	reserveShare = 5
	// callsAhead is how many calls a refused caller waits for: a job needs several, and one that
	// came back for a single call would spend it and fail at the next, for ever.
	callsAhead = 10

	// countEvery is how long calls wait to be counted.
	countEvery = 10 * time.Second
)

//go:embed budget.lua
var budgetSource string

var budgetScript = redis.NewScript(budgetSource)

// NewBudget makes a budget; Run counts what it spends. It panics where something required is missing.
func NewBudget(options BudgetOptions) *Budget {
	if options.Redis == nil || options.Spent == nil || options.AddSpent == nil {
		panic("jobs: a budget needs Redis and a place to count")
	}
	options.Prefix = cmp.Or(options.Prefix, "signedapproval")
	options.PerHour = max(cmp.Or(options.PerHour, 1000), 1)
	options.Patience = cmp.Or(options.Patience, 500*time.Millisecond)
	options.Log = cmp.Or(options.Log, slog.Default())
	return &Budget{
		BudgetOptions: options,
		spent:         map[string]int64{}, local: map[string]*bucket{}, paused: map[string]time.Time{}, counting: make(chan struct{}, 1),
	}
}

// capacity is what a full bucket holds.
func (b *Budget) capacity() float64 { return max(1, float64(b.PerHour)/spendAtOnce) }

// refill is how many calls flow in within an hour.
func (b *Budget) refill() float64 { return max(1, float64(b.PerHour)-b.capacity()) }

func (b *Budget) leave(class Class, capacity float64) float64 {
	switch class {
	case Urgent:
		return 0
	case Foreground:
		return capacity / urgentShare
	default:
		return capacity / reserveShare
	}
}

// Take takes one call from the budget of a credential. Where it answers false, at is when to come
// again. tokenKey names the credential; it is not a secret. The error is ctx's.
func (b *Budget) Take(ctx context.Context, tokenKey string, class Class) (ok bool, at time.Time, err error) {
	wait, err := b.take(ctx, tokenKey, class)
	if err != nil {
		if ctx.Err() != nil {
			return false, time.Time{}, ctx.Err()
		}
		wait = b.takeLocally(tokenKey, class, time.Now())
	}
	if wait > 0 {
		return false, time.Now().Add(wait), nil
	}
	b.guard.Lock()
	b.spent[tokenKey]++
	b.guard.Unlock()
	poke(b.counting)
	return true, time.Time{}, nil
}

var errAway = errors.New("jobs: Redis did not answer a moment ago")

// take asks Redis; a positive answer is how long to wait. Its error means that Redis cannot say.
func (b *Budget) take(ctx context.Context, tokenKey string, class Class) (time.Duration, error) {
	for {
		answer, err := b.ask(ctx, tokenKey, "take", b.leave(class, b.capacity()), callsAhead)
		if err != nil {
			return 0, err
		}
		switch answer[0] {
		case 1:
			return 0, nil
		case 0:
			return max(time.Duration(answer[1])*time.Microsecond, time.Millisecond), nil
		}
		// A credential that Redis does not know, or has lost: what was counted elsewhere says how
		// much is left, and where nothing was, a quarter is.
		left := b.capacity() / 4
		calls, known, err := b.Spent(ctx, tokenKey)
		if err != nil {
			b.Log.Error("the calls spent are not known", slog.String("credential", tokenKey), slog.Any("error", err))
		} else if known {
			left = min(max(float64(b.PerHour)-float64(calls), 0), b.capacity())
		}
		if _, err := b.ask(ctx, tokenKey, "seed", left); err != nil {
			return 0, err
		}
	}
}

func (b *Budget) ask(ctx context.Context, tokenKey, what string, args ...any) ([]int64, error) {
	b.guard.Lock()
	away := time.Now().Before(b.awayTil)
	b.guard.Unlock()
	if away {
		return nil, errAway
	}
	call, cancel := context.WithTimeout(ctx, b.Patience)
	defer cancel()
	answer, err := budgetScript.Run(call, b.Redis, []string{b.Prefix + ":budget:{" + tokenKey + "}"},
		append([]any{what, b.refill(), b.capacity()}, args...)...).Int64Slice()
	if err == nil && len(answer) != 2 {
		err = errors.New("jobs: the budget's answer is not a pair")
	}
	if err != nil && ctx.Err() == nil {
		b.guard.Lock()
		b.awayTil = time.Now().Add(time.Second)
		b.guard.Unlock()
		b.Log.Warn("the budget's Redis does not answer; this process allows itself a tenth", slog.Any("error", err))
	}
	return answer, err
}

// Pause leaves a credential alone until then, in all replicas: Bitbucket has refused a call. It also
// halves the rate. An error means that the other replicas are not told; this one pauses all the same.
func (b *Budget) Pause(ctx context.Context, tokenKey string, until time.Time) error {
	b.guard.Lock()
	if until.After(b.paused[tokenKey]) {
		b.paused[tokenKey] = until
	}
	b.guard.Unlock()
	// The length, not the moment: the clock of Redis is another.
	length := time.Until(until)
	if length <= 0 {
		return nil
	}
	_, err := b.ask(ctx, tokenKey, "pause", length.Microseconds())
	return err
}

// takeLocally is take for one replica that cannot ask.
func (b *Budget) takeLocally(tokenKey string, class Class, now time.Time) time.Duration {
	b.guard.Lock()
	defer b.guard.Unlock()
	if wait := b.paused[tokenKey].Sub(now); wait > 0 {
		return wait
	}
	capacity := max(1, b.capacity()/localShare)
	if b.local[tokenKey] == nil {
		b.local[tokenKey] = &bucket{level: capacity, at: now}
	}
	return b.local[tokenKey].take(now, capacity, b.refill()/localShare, b.leave(class, capacity))
}

// bucket is the same algorithm as the script's, in one process.
type bucket struct {
	level float64
	at    time.Time
}

// take takes one call where more than leave would be left, or answers how long to wait.
func (b *bucket) take(now time.Time, capacity, perHour, leave float64) time.Duration {
	b.level = min(capacity, b.level+max(0, now.Sub(b.at).Hours())*perHour)
	b.at = now
	leave = min(leave, capacity-1) // else nothing could ever be taken
	if b.level-1 < leave {
		missing := min(leave+callsAhead, capacity) - b.level
		return max(time.Duration(missing/perHour*float64(time.Hour)), time.Millisecond)
	}
	b.level--
	return 0
}

// Run counts what is spent, within ten seconds, and what is left when ctx ends.
func (b *Budget) Run(ctx context.Context) error {
	for {
		select {
		case <-b.counting:
			wait(ctx, countEvery)
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledgerTimeout)
			defer cancel()
			b.Count(last)
			return nil
		}
		b.Count(ctx)
	}
}

// Count hands what was spent since the last time to AddSpent. What cannot be counted is kept for the
// next time.
func (b *Budget) Count(ctx context.Context) {
	b.guard.Lock()
	spent := b.spent
	b.spent = map[string]int64{}
	for key, until := range b.paused {
		if time.Now().After(until) {
			delete(b.paused, key)
		}
	}
	b.guard.Unlock()
	for tokenKey, calls := range spent {
		if err := b.AddSpent(ctx, tokenKey, calls); err != nil {
			b.Log.Error("calls could not be counted", slog.String("credential", tokenKey), slog.Any("error", err))
			b.guard.Lock()
			b.spent[tokenKey] += calls
			b.guard.Unlock()
			poke(b.counting)
		}
	}
}
