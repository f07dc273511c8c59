package app

import (
	"net"
	"net/http"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// The doors that answer anybody and write a row, or read a lot: so many calls an address has, at
// once and then each second.
const (
	paceBurst     = 120
	pacePerSecond = 2
	// paceAddresses is how many addresses are remembered.
	paceAddresses = 10_000
)

// pace holds each address to the pace, in this replica.
type pace struct {
	addresses *lru.Cache[string, *rate.Limiter]
}

func newPace() (*pace, error) {
	addresses, err := lru.New[string, *rate.Limiter](paceAddresses)
	return &pace{addresses: addresses}, err
}

// limit answers 429 to an address that calls too often.
func (p *pace) limit(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !p.allow(r.RemoteAddr) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "Too many requests; try again in a moment.", http.StatusTooManyRequests)
			return
		}
		next(w, r)
	}
}

func (p *pace) allow(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	limiter := rate.NewLimiter(pacePerSecond, paceBurst)
	if present, found, _ := p.addresses.PeekOrAdd(host, limiter); found {
		p.addresses.Get(host) // it is in use: keep it
		limiter = present
	}
	return limiter.Allow()
}
