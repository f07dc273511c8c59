package jobs

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func ringsOf(workspace string, ids ...int64) []waiting {
	var rings []waiting
	for _, id := range ids {
		rings = append(rings, waiting{Ring{ID: id, Kind: "evaluate", Workspace: workspace}, &ack{quickStream, fmt.Sprint(id)}})
	}
	return rings
}

// begin takes a place, and answers whose job has it.
func begin(t *testing.T, l *lane) (who string, end func()) {
	t.Helper()
	w, ok := l.take()
	if !ok {
		return "", nil
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		l.run(w.Workspace, func() { <-stop })
	}()
	return w.Workspace, func() {
		close(stop)
		<-ended
	}
}

// TestWorkspacesTakeTurns: however many wait of one, another waits for one of them.
func TestWorkspacesTakeTurns(t *testing.T) {
	t.Parallel()
	l := newLane(1, 0, time.Hour)
	l.put(ringsOf("a", 1, 2, 3, 4, 5))
	l.put(ringsOf("b", 6, 7))
	l.put(ringsOf("c", 8))
	var served []string
	for {
		who, end := begin(t, l)
		if end == nil {
			break
		}
		served = append(served, who)
		end()
	}
	if want := []string{"a", "b", "c", "a", "b", "a", "a", "a"}; !slices.Equal(served, want) {
		t.Errorf("served %v, want %v", served, want)
	}
}

// TestHangingJobsLeavePlaces: one workspace whose jobs all hang cannot have the last places.
func TestHangingJobsLeavePlaces(t *testing.T) {
	t.Parallel()
	const slots, reserve = 4, 16
	l := newLane(slots, reserve, 0) // all are slow at once
	var ids []int64
	for id := range int64(100) {
		ids = append(ids, id)
	}
	l.put(ringsOf("a", ids...))
	var ends []func()
	t.Cleanup(func() {
		for _, end := range ends {
			end()
		}
	})
	deadline := time.Now().Add(time.Minute)
	held := func() (all int) {
		for time.Now().Before(deadline) {
			l.guard.Lock()
			turning := l.quick > 0 // somebody is about to turn slow, which makes room
			l.guard.Unlock()
			_, end := begin(t, l)
			if end != nil {
				ends = append(ends, end)
				continue
			}
			if !turning {
				return len(ends)
			}
		}
		t.Fatal("the jobs do not become slow")
		return 0
	}
	if got, want := held(), slots+reserve-l.kept(); got != want {
		t.Fatalf("one workspace runs %d jobs, want %d", got, want)
	}
	l.put(ringsOf("b", 1001, 1002))
	who, end := begin(t, l)
	if who != "b" {
		t.Fatalf("the next place went to %q, want b", who)
	}
	end()
	if who, end = begin(t, l); who != "b" {
		t.Fatalf("the place after it went to %q, want b", who)
	}
	end()
}

// TestALaneIsBounded: what waits already has no use, and what does not fit is deferred: of a workspace
// what is beyond its share, of all what would be served last.
func TestALaneIsBounded(t *testing.T) {
	t.Parallel()
	l := newLane(1, 0, time.Hour)
	needless, deferred := l.put(ringsOf("a", 1, 1))
	if len(needless) != 0 || len(deferred) != 0 {
		t.Errorf("an entry that was taken over from ourselves: needless %v, deferred %v", needless, deferred)
	}
	again := ringsOf("a", 1)
	again[0].entry.entry = "another"
	if needless, _ = l.put(again); len(needless) != 1 {
		t.Errorf("a second entry of a job: needless %v, want it", needless)
	}
	id := int64(1)
	for workspace := 0; l.room() > 0; workspace++ {
		for range share + 1 {
			id++
			_, deferred = l.put(ringsOf(fmt.Sprint(workspace), id))
		}
		if len(deferred) != 1 || deferred[0].ID != id {
			t.Fatalf("beyond the share: deferred %v, want %d", deferred, id)
		}
		if workspace > crowd/share {
			break
		}
	}
	_, deferred = l.put(ringsOf("newcomer", id+1))
	if len(deferred) != 1 || deferred[0].Workspace == "newcomer" || l.room() != 0 {
		t.Errorf("a newcomer where all are: deferred %v, room %d", deferred, l.room())
	}
}

// TestLaneCounts: whatever comes, runs and ends, nothing is lost, nothing runs twice, and the places
// are respected.
func TestLaneCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		slots := rapid.IntRange(1, 4).Draw(r, "slots")
		l := newLane(slots, 0, time.Hour)
		id, put, taken := int64(0), 0, map[int64]bool{}
		var running []string
		r.Repeat(map[string]func(*rapid.T){
			"put": func(r *rapid.T) {
				id++
				put++
				l.put(ringsOf(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "workspace"), id))
			},
			"take": func(r *rapid.T) {
				w, ok := l.take()
				if !ok {
					return
				}
				if taken[w.ID] {
					r.Fatalf("job %d was taken twice", w.ID)
				}
				taken[w.ID] = true
				running = append(running, w.Workspace)
			},
			"end": func(r *rapid.T) {
				if len(running) > 0 {
					l.run(running[0], func() {})
					running = running[1:]
				}
			},
			"": func(r *rapid.T) {
				if quick, _ := l.load(); quick != len(running) || quick > slots {
					r.Fatalf("%d run, and the lane says %d of %d", len(running), quick, slots)
				}
				if waits := crowd - l.room(); waits+len(taken) != put {
					r.Fatalf("%d wait and %d were taken, of %d", waits, len(taken), put)
				}
			},
		})
		if left := l.drain(); len(left)+len(taken) != put || l.room() != crowd {
			r.Fatalf("%d are left, %d were taken, of %d", len(left), len(taken), put)
		}
	})
}

// TestSeatsAreWhatIsLeftOver: a seat is there while nothing waits and less than half of the slots are in use, from when the lane
// is opened until it is closed; and one that was taken counts as a job that runs.
func TestSeatsAreWhatIsLeftOver(t *testing.T) {
	t.Parallel()
	l := newLane(4, 0, time.Hour)
	told := 0
	seat := func() bool { return l.seat("a", func() { told++ }) }
	if seat() {
		t.Error("a seat before the lane was opened")
	}
	l.seats(true)
	if first, second := seat(), seat(); !first || !second {
		t.Error("no seat in an empty lane")
	}
	if seat() {
		t.Error("more seats than half of the slots")
	}
	l.run("a", func() {})
	l.put(ringsOf("b", 1))
	if seat() {
		t.Error("a seat before somebody who waits")
	}
	if who, end := begin(t, l); who != "b" {
		t.Errorf("%q has a place, want b", who)
	} else {
		end()
	}
	if !seat() {
		t.Error("no seat although one was left")
	}
	l.run("a", func() {})
	l.seats(false)
	if seat() {
		t.Error("a seat after the lane was closed")
	}
	l.run("a", func() {})
	if quick, late := l.load(); quick != 0 || late != 0 || len(l.running) != 0 || told != 3 {
		t.Errorf("%d and %d run, of %v, and %d seats were told of; want none, and 3", quick, late, l.running, told)
	}
}
