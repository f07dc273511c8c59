package graph

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signedapproval/bitbucket/server/jobs"
)

const (
	// maxRunning bounds what one replica executes at a time; a page of fifty takes some hundred goroutines.
	maxRunning = 64
	// maxOfWorkspace is how many of these the people, tokens and frames of one workspace may have together, and maxOfCaller
	// how many any one caller.
	maxOfWorkspace = 32
	maxOfCaller    = 16
	// keptPlaces are for those of whom nothing runs: however many callers have operations that hang, they cannot have
	// the last ones.
	keptPlaces = 6
	// maxWaiting is how many operations of one caller wait for their turn.
	maxWaiting = 256
	// patience is how long an operation waits for its turn, of which somebody waits for the answer, and eventPatience how
	// long an event does, for which a stream would look again no sooner.
	patience      = 5 * time.Second
	eventPatience = 10 * time.Second
)

// Outcomes of waiting for a turn, as told to Options.Waited.
const (
	waitServed   = "served"
	waitCrowded  = "crowded"  // the caller's own operations, or those of its workspace, had all that they may have
	waitOverload = "overload" // others' had all places
	waitGone     = "gone"     // the request ended before
)

// places are what operations run in. Callers take turns, as workspaces do in the queue of jobs: whoever comes with one
// operation waits for one of each other caller at most, and for a place.
type places struct {
	patience, eventPatience time.Duration
	observe                 func(outcome string, took time.Duration)

	// guard guards what follows. It is never held over a call.
	guard   sync.Mutex
	waiting jobs.Turns[*turn]
	running map[string]int // by party, and by workspace
	taken   int
}

// turn is an operation that waits for a place.
type turn struct {
	party string
	come  chan struct{} // closed once it has one
}

func newPlaces(observe func(string, time.Duration)) *places {
	if observe == nil {
		observe = func(string, time.Duration) {}
	}
	return &places{patience: patience, eventPatience: eventPatience, observe: observe, running: map[string]int{}}
}

// party names who waits and runs: the caller, and before it the workspaces that it is counted in, if there are any.
func party(caller Caller, key string) string {
	return strings.Join(caller.counted(), ",") + " " + key
}

func workspacesOf(party string) []string {
	workspaces, _, _ := strings.Cut(party, " ")
	if workspaces == "" {
		return nil
	}
	return strings.Split(workspaces, ",")
}

// take waits for a place, which leave gives back.
func (p *places) take(ctx context.Context, party string, event bool) (leave func(), no *requestError) {
	began := time.Now()
	patience := p.patience
	if event {
		patience = p.eventPatience
	}
	leave, outcome := p.wait(ctx, party, patience)
	p.observe(outcome, time.Since(began))
	switch outcome {
	case waitCrowded:
		return nil, refused(codeTooMany, "So many of your operations are under way that this one had no turn. Try again when some have ended.")
	case waitOverload:
		return nil, refused(codeOverloaded, "The server is busy. Try again.")
	case waitGone:
		return nil, refused(codeTimeout, "The request was given up while it waited for its turn.")
	}
	return leave, nil
}

func (p *places) wait(ctx context.Context, party string, patience time.Duration) (leave func(), outcome string) {
	t := &turn{party: party, come: make(chan struct{})}
	leave = func() { p.leave(party) }
	p.guard.Lock()
	if p.waiting.Waiting(party) >= maxWaiting {
		p.guard.Unlock()
		return nil, waitCrowded
	}
	p.waiting.Wait(party, t)
	p.serve()
	p.guard.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-t.come:
		return leave, waitServed
	case <-late.C:
		outcome = waitOverload
	case <-ctx.Done():
		outcome = waitGone
	}
	p.guard.Lock()
	waited := p.waiting.Leave(party, func(other *turn) bool { return other == t })
	if outcome == waitOverload && p.full(party) {
		outcome = waitCrowded
	}
	p.guard.Unlock()
	switch {
	case waited:
		return nil, outcome
	case outcome == waitGone: // its turn came at the same time
		leave()
		return nil, waitGone
	}
	return leave, waitServed
}

// serve lets all begin that may.
func (p *places) serve() {
	for {
		t, ok := p.waiting.Next(p.may)
		if !ok {
			return
		}
		p.count(t.party, 1)
		close(t.come)
	}
}

func (p *places) may(party string) bool {
	free := maxRunning - p.taken
	if free <= 0 || p.full(party) {
		return false
	}
	if free > keptPlaces {
		return true
	}
	kin := workspacesOf(party)
	if len(kin) == 0 {
		kin = []string{party}
	}
	return !slices.ContainsFunc(kin, func(name string) bool { return p.running[name] > 0 })
}

// full tells whether a caller has all places that it, or one of its workspaces, may have.
func (p *places) full(party string) bool {
	return p.running[party] >= maxOfCaller ||
		slices.ContainsFunc(workspacesOf(party), func(workspace string) bool { return p.running[workspace] >= maxOfWorkspace })
}

func (p *places) leave(party string) {
	p.guard.Lock()
	defer p.guard.Unlock()
	p.count(party, -1)
	p.serve()
}

func (p *places) count(party string, n int) {
	p.taken += n
	for _, name := range append(workspacesOf(party), party) {
		if p.running[name] += n; p.running[name] == 0 {
			delete(p.running, name)
		}
	}
}
