package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// summary is what a run came to.
type summary struct {
	seed                                                 uint64
	kills, faults, events, decisions, merges, violations int64
}

// String is the last line of a run.
func (s summary) String() string {
	return fmt.Sprintf("chaos: seed=%d kills=%d faults=%d events=%d decisions=%d merges=%d violations=%d",
		s.seed, s.kills, s.faults, s.events, s.decisions, s.merges, s.violations)
}

// add adds what another round came to.
func (s *summary) add(other summary) {
	s.kills += other.kills
	s.faults += other.faults
	s.events += other.events
	s.decisions += other.decisions
	s.merges += other.merges
	s.violations += other.violations
}

// journal is the timeline of a run: everything that was done to the system, and what came of it.
type journal struct {
	began time.Time
	path  string

	kills, faults, events, decisions, merges atomic.Int64

	mu         sync.Mutex
	file       *os.File
	out        *bufio.Writer
	violations []string
	seen       map[string]bool
	strikes    map[string]int // by kind of mischief
	armed      map[int]string // kinds of the simulated Bitbucket's faults, by their id
	sprung     map[string]int // how often those have struck, as was last read
	undecided  map[string]int // why people could not decide since the last look, and how often
	broken     chan struct{}  // closed by the first violation
}

func newJournal(dir string) (*journal, error) {
	j := &journal{began: time.Now(), path: filepath.Join(dir, "timeline"), seen: map[string]bool{}, strikes: map[string]int{}, undecided: map[string]int{}, armed: map[int]string{}, broken: make(chan struct{})}
	var err error
	if j.file, err = os.Create(j.path); err != nil {
		return nil, err
	}
	j.out = bufio.NewWriter(j.file)
	return j, nil
}

// note writes one line.
func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.out, "%s %8.3f  %s\n", time.Now().UTC().Format("15:04:05.000"), time.Since(j.began).Seconds(), fmt.Sprintf(format, args...))
	_ = j.out.Flush()
}

func (j *journal) fault(format string, args ...any) {
	j.faults.Add(1)
	j.note("FAULT  "+format, args...)
}

func (j *journal) kill(format string, args ...any) {
	j.kills.Add(1)
	j.fault(format, args...)
}

// notDecided counts a decision that could not be given, by what whoever tried was told.
func (j *journal) notDecided(why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.undecided[why]++
}

// noteUndecided notes what people were told since the last time.
func (j *journal) noteUndecided() {
	j.mu.Lock()
	was := j.undecided
	j.undecided = map[string]int{}
	j.mu.Unlock()
	if len(was) > 0 {
		j.note("people could not decide: %v", was)
	}
}

// violate records sentences, each once.
func (j *journal) violate(when string, sentences []string) {
	for _, s := range sentences {
		j.mu.Lock()
		known := j.seen[s]
		if !known {
			j.seen[s] = true
			j.violations = append(j.violations, s)
			if len(j.violations) == 1 {
				close(j.broken)
			}
		}
		j.mu.Unlock()
		if !known {
			j.note("BROKEN %s: %s", when, s)
		}
	}
}

func (j *journal) summary(seed uint64) summary {
	j.mu.Lock()
	defer j.mu.Unlock()
	return summary{
		seed: seed, kills: j.kills.Load(), faults: j.faults.Load(), events: j.events.Load(), decisions: j.decisions.Load(),
		merges: j.merges.Load(), violations: int64(len(j.violations)),
	}
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = j.out.Flush()
	return j.file.Close()
}
