package graph

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// What one caller may spend on one replica: points as @cost counts them, at least entryCost for each
// request however cheap or broken it is.
const (
	pointsPerSecond = 1_000
	pointsAtOnce    = 40_000
	entryCost       = 10
	maxPurses       = 10_000 // callers remembered; the one that was longest away is forgotten first
	maxStreams      = 10     // subscriptions that one caller may hold open
)

// meter counts what each caller spends and holds open on this replica.
type meter struct {
	mu      sync.Mutex // guards the check-then-add of purses, and streams
	purses  *lru.Cache[string, *rate.Limiter]
	streams map[string]int
}

func newMeter() (*meter, error) {
	purses, err := lru.New[string, *rate.Limiter](maxPurses)
	if err != nil {
		return nil, err
	}
	return &meter{purses: purses, streams: make(map[string]int)}, nil
}

// spend takes points from the caller's purse; if it holds too few, it says after how many seconds to
// come back, and takes nothing.
func (m *meter) spend(caller string, points int, header http.Header) *requestError {
	purse := m.purse(caller)
	now := time.Now()
	if purse.AllowN(now, points) {
		return nil
	}
	wait := math.Ceil((float64(points) - purse.TokensAt(now)) / pointsPerSecond)
	header.Set("Retry-After", strconv.Itoa(max(1, int(wait))))
	return refused(codeTooMany, "Too much was asked for in a short time. Try again later.")
}

func (m *meter) purse(caller string) *rate.Limiter {
	m.mu.Lock()
	defer m.mu.Unlock()
	purse, ok := m.purses.Get(caller)
	if !ok {
		purse = rate.NewLimiter(pointsPerSecond, pointsAtOnce)
		m.purses.Add(caller, purse)
	}
	return purse
}

// open counts a stream of the caller, until closed is called.
func (m *meter) open(caller string) (closed func(), no *requestError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.streams[caller] >= maxStreams {
		return nil, refused(codeTooManyStreams, "At most %d subscriptions can be open at a time.", maxStreams)
	}
	m.streams[caller]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.streams[caller]--; m.streams[caller] == 0 {
			delete(m.streams, caller)
		}
	}, nil
}
