package jobs

import (
	"context"
	"sync"
	"time"
)

const (
	// share is how many rings of one workspace wait in a process, crowd how many of all. What does not
	// fit is deferred: the ledger has it, and names it again.
	share = 512
	crowd = 8192
	// keptShare is the share of the places of a lane, one at least where there are four, that is for
	// workspaces of which nothing runs: those whose jobs all hang cannot have it.
	keptShare = 10
)

// waiting is a ring that waits for a place; entry is nil where it did not come through Redis.
type waiting struct {
	Ring
	entry *ack
}

func (w waiting) same(other waiting) bool {
	return w.entry != nil && other.entry != nil && *w.entry == *other.entry
}

// lane is where the jobs of one class wait and run. Workspaces take turns: whoever comes with one job
// waits for one of each other workspace at most, and for a place.
//
// A job that runs longer than slow is waiting for somebody, as a rule for Bitbucket. It no longer
// counts among the quick ones, of which slots may run at a time, but among the slow ones, of which
// reserve may run besides; what is beyond takes the quick ones' places.
type lane struct {
	slots, reserve int
	slow           time.Duration
	// changed holds a token when there may be something to start that was not there before.
	changed chan struct{}

	// guard guards what follows. It is never held over a call.
	guard       sync.Mutex
	turns       Turns[waiting]    // of workspaces
	ids         map[int64]waiting // what waits, by job
	running     map[string]int    // by workspace
	quick, late int
	open        bool // seats may be taken
}

func newLane(slots, reserve int, slow time.Duration) *lane {
	return &lane{
		slots: slots, reserve: reserve, slow: slow, changed: make(chan struct{}, 1),
		ids: map[int64]waiting{}, running: map[string]int{},
	}
}

// put lets rings wait. It returns those that have no use, because their job waits already, and those
// that found no room, which need not be of those that came.
func (l *lane) put(rings []waiting) (needless, deferred []waiting) {
	l.guard.Lock()
	defer l.guard.Unlock()
	for _, w := range rings {
		if present, there := l.ids[w.ID]; there {
			if !w.same(present) { // else it was taken over from ourselves
				needless = append(needless, w)
			}
			continue
		}
		if l.turns.Waiting(w.Workspace) >= share {
			deferred = append(deferred, w)
			continue
		}
		l.turns.Wait(w.Workspace, w)
		l.ids[w.ID] = w
		if len(l.ids) > crowd {
			last := l.turns.Last()
			delete(l.ids, last.ID)
			deferred = append(deferred, last)
		}
	}
	poke(l.changed)
	return needless, deferred
}

// next waits until something may run, and takes a place for it; false when ctx ends first. Whoever
// calls it must call run.
func (l *lane) next(ctx context.Context) (waiting, bool) {
	for ctx.Err() == nil {
		if w, ok := l.take(); ok {
			return w, true
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
		}
	}
	return waiting{}, false
}

func (l *lane) take() (waiting, bool) {
	l.guard.Lock()
	defer l.guard.Unlock()
	if l.quick+max(0, l.late-l.reserve) >= l.slots {
		return waiting{}, false
	}
	scarce := l.scarce()
	w, ok := l.turns.Next(func(workspace string) bool { return !scarce || l.running[workspace] == 0 })
	if ok {
		delete(l.ids, w.ID)
		l.running[w.Workspace]++
		l.quick++
	}
	return w, ok
}

// seat takes a place for a job of a workspace that is about to be asked for, and tells first, while nobody can close the
// lane. It answers false where anything waits, and where half of the slots are in use or places are scarce: what is left is
// for what comes by the streams. Whoever got one must call run.
func (l *lane) seat(workspace string, first func()) bool {
	l.guard.Lock()
	defer l.guard.Unlock()
	if !l.open || len(l.ids) > 0 || 2*(l.quick+max(0, l.late-l.reserve)) >= l.slots || l.scarce() {
		return false
	}
	first()
	l.running[workspace]++
	l.quick++
	return true
}

// seats lets seats be taken from now on, or no longer.
func (l *lane) seats(open bool) {
	l.guard.Lock()
	defer l.guard.Unlock()
	l.open = open
}

// scarce says that what is left is for workspaces of which nothing runs.
func (l *lane) scarce() bool { return l.slots+l.reserve-l.quick-l.late <= l.kept() }

func (l *lane) kept() int {
	places := l.slots + l.reserve
	return max(places/keptShare, min(places/4, 1))
}

// run works in the place that next took, and gives it back.
func (l *lane) run(workspace string, work func()) {
	var late, ended bool
	timer := time.AfterFunc(l.slow, func() {
		l.guard.Lock()
		defer l.guard.Unlock()
		if !ended {
			late = true
			l.quick--
			l.late++
			poke(l.changed)
		}
	})
	defer func() {
		timer.Stop()
		l.guard.Lock()
		defer l.guard.Unlock()
		ended = true
		if late {
			l.late--
		} else {
			l.quick--
		}
		if l.running[workspace]--; l.running[workspace] == 0 {
			delete(l.running, workspace)
		}
		poke(l.changed)
	}()
	work()
}

// drain takes out all that waits.
func (l *lane) drain() []waiting {
	l.guard.Lock()
	defer l.guard.Unlock()
	clear(l.ids)
	return l.turns.Drain()
}

// room is how many more may wait.
func (l *lane) room() int {
	l.guard.Lock()
	defer l.guard.Unlock()
	return crowd - len(l.ids)
}

// load is how many run quickly, and how many slowly.
func (l *lane) load() (quick, late int) {
	l.guard.Lock()
	defer l.guard.Unlock()
	return l.quick + max(0, l.late-l.reserve), min(l.late, l.reserve)
}
