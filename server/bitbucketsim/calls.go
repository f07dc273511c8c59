package bitbucketsim

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Call is one call to the REST API or the token endpoint.
type Call struct {
	Number int       `json:"number"` // counts from 1
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	Path   string    `json:"path"` // as it was escaped
	Query  string    `json:"query"`
	Person string    `json:"person"` // nickname; empty where the token was refused or absent
	Agent  string    `json:"agent"`  // its User-Agent
	// Status is what the client was told; 0 where the connection was cut.
	Status int `json:"status"`
	Fault  int `json:"fault,omitempty"` // id of the fault that struck
}

// keptCalls is how many calls the log holds.
const keptCalls = 20000

// Calls returns the calls after the given number; 0 for all that are kept.
func (s *Sim) Calls(after int) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.callsAfter(after)
}

func (s *Sim) callsAfter(after int) []Call {
	first := s.callsSeen - len(s.calls) // number of the last call that was forgotten
	return slices.Clone(s.calls[min(max(after-first, 0), len(s.calls)):])
}

// WaitCall waits for a call that match accepts, beginning with those that were made already. match must not call
// the Sim.
func (s *Sim) WaitCall(ctx context.Context, match func(Call) bool) (Call, error) {
	seen := 0
	var found Call
	err := s.wait(ctx, func() bool {
		for _, c := range s.callsAfter(seen) {
			seen = c.Number
			if match(c) {
				found = c
				return true
			}
		}
		return false
	})
	return found, err
}

// Deliveries returns what became of the webhook events, oldest first.
func (s *Sim) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allDeliveries()
}

func (s *Sim) allDeliveries() []Delivery {
	out := make([]Delivery, 0, len(s.deliveries))
	for _, d := range s.deliveries {
		out = append(out, d.copy())
	}
	return out
}

func (d *delivery) copy() Delivery {
	c := d.Delivery
	c.Attempts = slices.Clone(d.Attempts)
	return c
}

// WaitDeliveries waits until done accepts the deliveries, and returns them. done must not call the Sim.
func (s *Sim) WaitDeliveries(ctx context.Context, done func([]Delivery) bool) ([]Delivery, error) {
	var all []Delivery
	err := s.wait(ctx, func() bool {
		all = s.allDeliveries()
		return done(all)
	})
	return all, err
}

var errClosed = errors.New("bitbucketsim: closed")

// wait blocks until done is true; it is called with the lock held.
func (s *Sim) wait(ctx context.Context, done func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.ctx.Err() != nil {
			return errClosed
		}
		s.changed.Wait()
	}
	return nil
}
