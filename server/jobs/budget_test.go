package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
)

const token = "connection:1"

// books counts calls where the budget cannot lose them.
type books struct {
	guard sync.Mutex
	spent map[string]int64
	asked int
	err   error
}

func (b *books) Spent(_ context.Context, tokenKey string) (int64, bool, error) {
	b.guard.Lock()
	defer b.guard.Unlock()
	b.asked++
	calls, known := b.spent[tokenKey]
	return calls, known, b.err
}

func (b *books) AddSpent(_ context.Context, tokenKey string, calls int64) error {
	b.guard.Lock()
	defer b.guard.Unlock()
	if b.err == nil {
		b.spent[tokenKey] += calls
	}
	return b.err
}

// budget has patience: on a machine that is busy, an answer that comes late is no sign of a Redis that is away, and with a tenth
// for this process alone the tests would count something else.
func budget(t *testing.T, url string, perHour int, b *books) *jobs.Budget {
	t.Helper()
	client, err := jobs.Connect(url)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return jobs.NewBudget(jobs.BudgetOptions{
		Redis: client, Prefix: t.Name(), PerHour: perHour, Spent: b.Spent, AddSpent: b.AddSpent, Patience: time.Minute, Log: quiet(),
	})
}

// known are the books of a credential that has not spent anything for an hour.
func known() *books { return &books{spent: map[string]int64{token: 0}} }

// takeAll takes calls until one is refused.
func takeAll(t *testing.T, b *jobs.Budget, class jobs.Class) (taken int, wait time.Duration) {
	t.Helper()
	for {
		ok, at, err := b.Take(t.Context(), token, class)
		must(t, err)
		if !ok {
			return taken, time.Until(at)
		}
		taken++
	}
}

// TestBudgetIsShared lets three replicas take at once: together they get what one would, and the
// background leaves a fifth, the foreground a twentieth.
func TestBudgetIsShared(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"redis": redistest.Start(t).URL(), "miniredis": "redis://" + miniredis.RunT(t).Addr()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const perHour = 400 // 100 at once, then one each 12 s
			var taken atomic.Int64
			replicas := make([]*jobs.Budget, 3)
			for i := range replicas {
				replicas[i] = budget(t, url, perHour, known())
			}
			for _, share := range []struct {
				class jobs.Class
				want  int64
			}{{jobs.Background, 80}, {jobs.Foreground, 15}, {jobs.Urgent, 5}, {jobs.Foreground, 0}, {jobs.Background, 0}} {
				taken.Store(0)
				var all sync.WaitGroup
				for _, b := range replicas {
					for range 2 {
						all.Go(func() {
							for {
								ok, _, err := b.Take(t.Context(), token, share.class)
								if err != nil || !ok {
									return
								}
								taken.Add(1)
							}
						})
					}
				}
				all.Wait()
				// The bucket refills while we look: a few more are right where the machine is slow.
				if got := taken.Load(); got < share.want || got > share.want+10 {
					t.Errorf("taken as %s = %d, want %d", share.class, got, share.want)
				}
			}
		})
	}
}

// clocked is a budget on a Redis whose clock the test moves.
func clocked(t *testing.T, perHour int, b *books) (*jobs.Budget, func(time.Duration)) {
	t.Helper()
	server := miniredis.RunT(t)
	now := time.Now()
	server.SetTime(now)
	return budget(t, "redis://"+server.Addr(), perHour, b), func(d time.Duration) {
		now = now.Add(d)
		server.SetTime(now)
	}
}

func TestBudgetRefillsEvenly(t *testing.T) {
	t.Parallel()
	b, pass := clocked(t, 400, known())
	taken, wait := takeAll(t, b, jobs.Urgent)
	same(t, "taken at first", taken, 100)
	// Ten calls are worth waiting for, at 300 an hour.
	if wait < 119*time.Second || wait > 121*time.Second {
		t.Errorf("wait = %v, want two minutes", wait)
	}
	pass(2 * time.Minute)
	taken, _ = takeAll(t, b, jobs.Urgent)
	same(t, "taken two minutes later", taken, 10)
	pass(time.Minute)
	taken, wait = takeAll(t, b, jobs.Background)
	same(t, "taken by the background out of five", taken, 0)
	if wait < 299*time.Second || wait > 301*time.Second { // 20 are reserved, 10 awaited, 5 there
		t.Errorf("wait of the background = %v, want five minutes", wait)
	}
	pass(5 * time.Hour)
	taken, _ = takeAll(t, b, jobs.Urgent)
	same(t, "taken hours later", taken, 100)
}

// TestBudgetNeverExceedsTheHour takes whatever it gets for three hours, and looks at every sixty
// minutes of them.
func TestBudgetNeverExceedsTheHour(t *testing.T) {
	t.Parallel()
	const perHour = 100
	b, pass := clocked(t, perHour, known())
	var minutes []int
	for range 180 {
		taken, _ := takeAll(t, b, jobs.Urgent)
		minutes = append(minutes, taken)
		pass(time.Minute)
	}
	for from := range len(minutes) - 60 {
		sum := 0
		for _, taken := range minutes[from : from+60] {
			sum += taken
		}
		if sum > perHour {
			t.Fatalf("%d calls from minute %d on, want at most %d an hour", sum, from, perHour)
		}
	}
	total := 0
	for _, taken := range minutes {
		total += taken
	}
	if total < 240 { // 25 at once and 75 an hour
		t.Errorf("%d calls in three hours, want nearly 250", total)
	}
}

func TestBudgetPause(t *testing.T) {
	t.Parallel()
	b, pass := clocked(t, 400, known())
	ok, _, err := b.Take(t.Context(), token, jobs.Urgent)
	must(t, err)
	same(t, "taken", ok, true)
	must(t, b.Pause(t.Context(), token, time.Now().Add(10*time.Minute)))
	must(t, b.Pause(t.Context(), token, time.Now().Add(5*time.Minute))) // a second replica's refusal, less far
	taken, wait := takeAll(t, b, jobs.Urgent)
	same(t, "taken while paused", taken, 0)
	if wait < 9*time.Minute || wait > 11*time.Minute {
		t.Errorf("wait = %v, want ten minutes", wait)
	}
	// Half the rate at first, and five percent more for each quiet minute: ten minutes later it is
	// full again. The bucket was emptied by the refusal.
	pass(10*time.Minute + time.Second)
	taken, _ = takeAll(t, b, jobs.Urgent)
	if taken < 25 || taken > 51 { // at half and at the full rate of five a minute
		t.Errorf("taken after the pause = %d, want what flowed in", taken)
	}
	other, _, err := b.Take(t.Context(), "connection:2", jobs.Urgent)
	must(t, err)
	same(t, "taken from another credential", other, true)
}

func TestBudgetIsHalvedOncePerRefusal(t *testing.T) {
	t.Parallel()
	b, pass := clocked(t, 4000, known()) // 50 a minute
	takeAll(t, b, jobs.Urgent)
	for range 5 { // five replicas meet the same refusal
		must(t, b.Pause(t.Context(), token, time.Now().Add(time.Second)))
	}
	pass(50 * time.Second)
	taken, _ := takeAll(t, b, jobs.Urgent)
	if taken < 20 || taken > 21 { // 50 s at 25 a minute
		t.Errorf("taken after one refusal = %d, want half of the full rate's 41", taken)
	}
	pass(20 * time.Minute)
	takeAll(t, b, jobs.Urgent)
	pass(time.Minute)
	taken, _ = takeAll(t, b, jobs.Urgent)
	if taken < 49 || taken > 51 {
		t.Errorf("taken in a minute after twenty quiet ones = %d, want the full rate's 50", taken)
	}
}

// TestBudgetOfAnEmptyRedis starts from what was counted, not from a full bucket.
func TestBudgetOfAnEmptyRedis(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		books *books
		want  int
	}{
		{"never seen", &books{spent: map[string]int64{}}, 25},
		{"nothing spent", known(), 100},
		{"half of the hour spent", &books{spent: map[string]int64{token: 350}}, 50},
		{"all of the hour spent", &books{spent: map[string]int64{token: 500}}, 0},
		{"not to be known", &books{err: errors.New("away")}, 25},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, _ := clocked(t, 400, test.books)
			taken, _ := takeAll(t, b, jobs.Urgent)
			same(t, "taken", taken, test.want)
			same(t, "books looked at", test.books.asked, 1)
		})
	}
}

func TestBudgetCounts(t *testing.T) {
	t.Parallel()
	ledger := known()
	b, _ := clocked(t, 400, ledger)
	taken, _ := takeAll(t, b, jobs.Urgent)
	ledger.err = errors.New("away")
	b.Count(t.Context())
	same(t, "counted while the books are away", ledger.spent[token], 0)
	ledger.err = nil
	b.Count(t.Context())
	b.Count(t.Context())
	same(t, "counted", ledger.spent[token], int64(taken))

	ctx, cancel := context.WithCancel(t.Context())
	other := clockedTake(t, ledger)
	cancel()
	must(t, other.Run(ctx)) // ends at once, and counts what is left
	same(t, "counted at the end", ledger.spent[token], int64(taken)+1)
}

func clockedTake(t *testing.T, ledger *books) *jobs.Budget {
	t.Helper()
	b, _ := clocked(t, 4000, ledger)
	ok, _, err := b.Take(t.Context(), token, jobs.Urgent)
	must(t, err)
	same(t, "taken", ok, true)
	return b
}

// TestBudgetWithoutRedis: a tenth, and no waiting for an answer each time.
func TestBudgetWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := budget(t, server.URL(), 4000, known())
	ok, _, err := b.Take(t.Context(), token, jobs.Urgent)
	must(t, err)
	same(t, "taken", ok, true)
	server.Kill(t)
	taken, wait := takeAll(t, b, jobs.Background)
	if taken < 80 || taken > 85 {
		t.Errorf("taken by the background without Redis = %d, want 80", taken)
	}
	if wait <= 0 {
		t.Errorf("wait = %v", wait)
	}
	taken, _ = takeAll(t, b, jobs.Urgent)
	if taken < 20 || taken > 25 {
		t.Errorf("taken by the foreground after it = %d, want 20", taken)
	}
	if err := b.Pause(t.Context(), "connection:2", time.Now().Add(time.Hour)); err == nil {
		t.Error("a pause that the others are not told of is no error")
	}
	ok, at, err := b.Take(t.Context(), "connection:2", jobs.Urgent)
	must(t, err)
	if ok || time.Until(at) < 59*time.Minute {
		t.Errorf("Take of a paused credential = %t, again in %v", ok, time.Until(at))
	}
	server.Restart(t)
	eventually(t, "Redis is asked again", func() bool {
		taken, _ := takeAll(t, b, jobs.Urgent)
		return taken >= 900 // the books say that nothing was spent
	})
}

func TestBudgetObeysItsContext(t *testing.T) {
	t.Parallel()
	b, _ := clocked(t, 400, known())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ok, _, err := b.Take(ctx, token, jobs.Urgent)
	if ok || !errors.Is(err, context.Canceled) {
		t.Errorf("Take = %t, %v; want the context's error", ok, err)
	}
}

// TestBudgetsAreApart: a connection that has spent its calls, or that Bitbucket refuses, leaves those of
// others alone, with Redis and without.
func TestBudgetsAreApart(t *testing.T) {
	t.Parallel()
	const other = "connection:2"
	server := redistest.Start(t)
	b := budget(t, server.URL(), 400, &books{spent: map[string]int64{token: 0, other: 0}})
	for _, redisLives := range []bool{true, false} {
		if !redisLives {
			server.Kill(t)
		}
		_, _ = takeAll(t, b, jobs.Urgent)
		for _, class := range []jobs.Class{jobs.Background, jobs.Foreground, jobs.Urgent} {
			ok, _, err := b.Take(t.Context(), other, class)
			must(t, err)
			same(t, fmt.Sprintf("Redis lives: %t: the other may take as %s", redisLives, class), ok, true)
		}
		_ = b.Pause(t.Context(), token, time.Now().Add(time.Hour)) // an error says that nobody else is told
		ok, _, err := b.Take(t.Context(), other, jobs.Background)
		must(t, err)
		same(t, fmt.Sprintf("Redis lives: %t: the other may take beside a refused one", redisLives), ok, true)
	}
}
