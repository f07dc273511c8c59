package jobs

import (
	"context"
	"time"
)

// lane bounds how many jobs of one class run. A job that takes longer than slow is waiting for
// somebody, as a rule for Bitbucket: it moves to the reserve, so that the slots stay free for those
// that are quick. Where the reserve is full it keeps its slot.
type lane struct {
	slots   chan struct{}
	reserve chan struct{}
	slow    time.Duration
	// local is this process's own stream, for while Redis is away.
	local chan Ring
}

func newLane(slots, reserve int, slow time.Duration) *lane {
	return &lane{
		slots: make(chan struct{}, slots), reserve: make(chan struct{}, reserve), slow: slow,
		local: make(chan Ring, 256),
	}
}

// enter takes a slot, or answers false when ctx ends first.
func (l *lane) enter(ctx context.Context) bool {
	select {
	case l.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// run works in the slot that enter took and gives it back.
func (l *lane) run(work func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	timer := time.NewTimer(l.slow)
	defer timer.Stop()
	select {
	case <-done:
		<-l.slots
		return
	case <-timer.C:
	}
	select {
	case <-done:
		<-l.slots
	case l.reserve <- struct{}{}:
		<-l.slots
		<-done
		<-l.reserve
	}
}

// offer puts a ring onto the local stream; false where it is full.
func (l *lane) offer(ring Ring) bool {
	select {
	case l.local <- ring:
		return true
	default:
		return false
	}
}
