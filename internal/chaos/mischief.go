package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// trouble is one kind of mischief. What it does may take a while; others happen meanwhile. A kind counts as done once it
// has struck: a call was really refused, a connection really cut. Whoever sees that happen says so under the kind's name.
type trouble struct {
	name string
	do   func(w *world, ctx context.Context, random *rand.Rand, name string)
}

// wrongClocks is the kind of mischief that every start of a server may bring along.
const wrongClocks = "clock stepped"

// injector picks mischief from a list: first each kind once, in some order; later by weight, but every second time a kind
// that has not struck yet.
type injector struct {
	list  []weighted[trouble]
	first []trouble
	turn  int
}

func newInjector(random *rand.Rand, list []weighted[trouble]) *injector {
	i := &injector{list: list}
	for _, one := range list {
		i.first = append(i.first, one.thing)
	}
	random.Shuffle(len(i.first), func(a, b int) { i.first[a], i.first[b] = i.first[b], i.first[a] })
	return i
}

func (i *injector) next(random *rand.Rand, struck func(name string) bool) trouble {
	if i.turn++; i.turn <= len(i.first) {
		return i.first[i.turn-1]
	}
	chosen := pick(random, i.list) // drawn in any case: what a seed draws depends little on what has struck
	if missing := slices.DeleteFunc(slices.Clone(i.first), func(t trouble) bool { return struck(t.name) }); len(missing) > 0 && i.turn%2 == 0 {
		return missing[i.turn/2%len(missing)]
	}
	return chosen
}

// inject does something of a list again and again until ctx ends, each at its own time, and returns when all
// of it is over.
func (w *world) inject(ctx context.Context, random *rand.Rand, every time.Duration, list []weighted[trouble]) {
	if every == 0 || len(list) == 0 {
		return
	}
	from := newInjector(random, list)
	done := make(chan struct{})
	running := 0
	for {
		pause(ctx, time.Duration((0.5+random.Float64())*float64(every)))
		if ctx.Err() != nil {
			break
		}
		next, own := from.next(random, w.hasStruck), rand.New(rand.NewPCG(random.Uint64(), random.Uint64()))
		running++
		go func() {
			next.do(w, ctx, own, next.name)
			done <- struct{}{}
		}()
		for drained := false; !drained; {
			select {
			case <-done:
				running--
			default:
				drained = true
			}
		}
	}
	for ; running > 0; running-- {
		<-done
	}
}

// arm remembers of which kind a fault is that waits in the simulated Bitbucket for a call or a webhook.
func (j *journal) arm(id int, name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.armed[id] = name
}

// struck counts a kind of mischief that has met somebody.
func (j *journal) struck(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.strikes[name]++
}

// readStrikes asks the simulated Bitbucket which of its faults have struck.
func (w *world) readStrikes(ctx context.Context) {
	var answer struct{ Strikes map[int]int }
	if err := w.sim.call(ctx, http.MethodGet, "/sim/strikes", "", nil, &answer); err != nil {
		return // asked again soon
	}
	w.journal.mu.Lock()
	defer w.journal.mu.Unlock()
	w.sprung = map[string]int{}
	for id, n := range answer.Strikes {
		if name, ours := w.armed[id]; ours {
			w.sprung[name] += n
		}
	}
}

// tally is how often each kind of mischief has struck.
func (j *journal) tally() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := maps.Clone(j.strikes)
	for name, n := range j.sprung {
		all[name] += n
	}
	return all
}

func (j *journal) hasStruck(name string) bool { return j.tally()[name] > 0 }

// struckLine says how often each kind has struck.
func struckLine(tally map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(tally)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, tally[name]))
	}
	return "chaos: struck: " + strings.Join(parts, ", ")
}

// missed are the kinds of mischief that a run should have seen and did not.
func missed(o settings, tally map[string]int) (names []string) {
	for _, list := range [][]weighted[trouble]{kills, o.scenario.troubles} {
		for _, one := range list {
			if tally[one.thing.name] == 0 {
				names = append(names, one.thing.name)
			}
		}
	}
	for _, name := range o.scenario.must {
		if tally[name] == 0 {
			names = append(names, name)
		}
	}
	if o.clock && tally[wrongClocks] == 0 {
		names = append(names, wrongClocks)
	}
	slices.Sort(names)
	return names
}
