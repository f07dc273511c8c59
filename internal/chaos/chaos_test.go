package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

func TestTheLastLine(t *testing.T) {
	t.Parallel()
	s := summary{seed: 7, kills: 201, faults: 650, events: 900, decisions: 1200, merges: 80, violations: 0}
	if got, want := s.String(), "chaos: seed=7 kills=201 faults=650 events=900 decisions=1200 merges=80 violations=0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	o, all := settings{kills: 26, duration: 10 * time.Minute}, map[string]int{}
	for _, one := range kills {
		all[one.thing.name] = 1
	}
	if short := s.enough(o, all); len(short) > 0 {
		t.Errorf("201 kills in ten minutes: %q", short)
	}
	s.kills = 199
	if short := s.enough(o, all); len(short) != 1 {
		t.Errorf("199 kills in ten minutes: %q", short)
	}
	s.kills, s.merges = 300, 0
	if short := s.enough(o, all); len(short) != 1 {
		t.Errorf("nothing was merged: %q", short)
	}
}

// TestALongRunIsSeveralRounds: none is too long, none has the seed of another, and together they are as long as was told.
func TestALongRunIsSeveralRounds(t *testing.T) {
	t.Parallel()
	for length, want := range map[time.Duration]int{time.Second: 1, 10 * time.Minute: 1, longestRound: 1, longestRound + time.Second: 2, time.Hour: 4} {
		list := settings{duration: length, round: longestRound, seed: 7, kills: 26}.rounds()
		var sum time.Duration
		for n, one := range list {
			sum += one.duration
			if one.duration > longestRound || one.seed != 7+uint64(n) || one.kills != 26 {
				t.Errorf("round %d of %s is %+v", n, length, one)
			}
		}
		if len(list) != want || length-sum > time.Microsecond {
			t.Errorf("%s are %d rounds of %s together, want %d", length, len(list), sum, want)
		}
	}
}

// TestRoundsAreOneRun plays rounds whose outcome is known: their counts are added up under the first seed, what struck in one of
// them has struck, each is told of by itself, and the first that finds something broken is the last.
func TestRoundsAreOneRun(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wrong  map[int]string // what is broken in which round
		failed map[int]error
		least  int // kills a minute
		played int
		code   int
		says   []string
	}{
		"all hold": {played: 4, says: []string{
			"chaos: round 4 of 4, ", "chaos: seed=10 kills=3 ", "\nchaos: seed=7 kills=12 faults=16 events=8 decisions=12 merges=4 violations=0\n", "clock stepped 2, ",
		}},
		"the second breaks something": {wrong: map[int]string{2: "it was merged twice"}, played: 2, code: 1, says: []string{
			"SEED=8 repeats it", "chaos: broken: it was merged twice\n", "\nchaos: seed=7 kills=6 faults=8 events=4 decisions=6 merges=2 violations=1\n",
		}},
		"the third cannot be played": {failed: map[int]error{3: errors.New("no PostgreSQL")}, played: 3, code: 1, says: []string{
			"SEED=9 repeats it", "chaos: broken: no PostgreSQL\n", "chaos: seed=7 kills=9 ",
		}},
		"too few kills": {least: 260, played: 4, code: 1, says: []string{"chaos: broken: 12 processes were killed, and "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := settings{duration: 4 * time.Minute, round: time.Minute, seed: 7, kills: 1 + test.least, clock: true, scenario: everything}
			var out strings.Builder
			var seeds []uint64
			code := breakAll(t.Context(), &out, o, func(_ context.Context, one settings) (*journal, error) {
				seeds = append(seeds, one.seed)
				n := len(seeds)
				j, err := newJournal(t.TempDir())
				if err != nil {
					return nil, err
				}
				j.kills.Add(3)
				j.faults.Add(4)
				j.events.Add(2)
				j.decisions.Add(3)
				j.merges.Add(1)
				for _, list := range [][]weighted[trouble]{kills, troubles} {
					for i, kind := range list {
						if i%4 == n-1 { // each kind in one of the rounds
							j.struck(kind.thing.name)
						}
					}
				}
				for _, kind := range changes {
					j.struck(kind)
				}
				if n > 2 || len(test.wrong)+len(test.failed) > 0 {
					j.struck(wrongClocks)
				}
				if sentence := test.wrong[n]; sentence != "" {
					j.violate("at rest", []string{sentence, sentence})
				}
				return j, errors.Join(test.failed[n], j.close())
			})
			if want := []uint64{7, 8, 9, 10}[:test.played]; !slices.Equal(seeds, want) || code != test.code {
				t.Errorf("rounds %d, exit %d; want %d and %d", seeds, code, want, test.code)
			}
			for _, text := range test.says {
				if !strings.Contains(out.String(), text) {
					t.Errorf("it does not say %q:\n%s", text, out.String())
				}
			}
			if last := strings.Split(strings.TrimSpace(out.String()), "\n"); !strings.HasPrefix(last[len(last)-1], "chaos: seed=7 ") {
				t.Errorf("its last line is %q", last[len(last)-1])
			}
		})
	}
}

// TestEachBugCanBeSeeded fails when the text that a bug replaces has moved.
func TestEachBugCanBeSeeded(t *testing.T) {
	t.Parallel()
	where, err := top()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bugs {
		if err := newOverlay(t.TempDir()).seed(where, b); err != nil {
			t.Error(err)
		}
		if _, known := directed[b.name]; !known {
			t.Errorf("nobody looks for %s", b.name)
		}
	}
	if len(bugs) != len(directed) {
		t.Errorf("%d bugs and %d scenarios", len(bugs), len(directed))
	}
	if o := newOverlay(t.TempDir()); o.clock(where) != nil || o.readable(where) != nil {
		t.Errorf("%v, %v", newOverlay(t.TempDir()).clock(where), newOverlay(t.TempDir()).readable(where))
	}
	moved := bug{"moved", []replacement{{"go.mod", "no such text", ""}}}
	if err := newOverlay(t.TempDir()).seed(where, moved); err == nil {
		t.Error("a bug whose text has moved is seeded")
	}
}

// TestAnOverlayHoldsSeveralChanges changes one file twice.
func TestAnOverlayHoldsSeveralChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("one two three two"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newOverlay(t.TempDir())
	if err := o.change(path, "two", "2"); err == nil {
		t.Error("a text that is there twice was replaced")
	}
	for _, c := range [][2]string{{"one", "1"}, {"three", "3"}} {
		if err := o.change(path, c[0], c[1]); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(o.files[path]); err != nil || string(got) != "1 two 3 two" {
		t.Errorf("the overlay has %q, %v", got, err)
	}
}

func TestASeedRepeatsWhatIsDone(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (drawn []string) {
		random := rand.New(rand.NewPCG(seed, 1))
		for range 50 {
			drawn = append(drawn, pick(random, everything.decisions))
		}
		steps := clocks(settings{seed: seed, clock: true})(1)
		for range 20 {
			drawn = append(drawn, steps())
		}
		return drawn
	}
	if !slices.Equal(draw(1), draw(1)) {
		t.Error("a seed draws differently the second time")
	}
	if slices.Equal(draw(1), draw(2)) {
		t.Error("two seeds draw the same")
	}
}

// echo is a server that answers with what it is sent.
func echo(t *testing.T) net.Addr {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr()
}

func dialed(t *testing.T, l *link) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// answers tells whether what is sent comes back.
func answers(conn net.Conn, text string) bool {
	if _, err := io.WriteString(conn, text); err != nil {
		return false
	}
	back := make([]byte, len(text))
	_, err := io.ReadFull(conn, back)
	return err == nil && string(back) == text
}

func newTestLink(t *testing.T) *link {
	t.Helper()
	to := echo(t)
	l, err := newLink(context.WithoutCancel(t.Context()), "test", func() net.Addr { return to })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.close() })
	return l
}

func TestALinkIsCut(t *testing.T) {
	t.Parallel()
	l := newTestLink(t)
	first := dialed(t, l)
	if !answers(first, "one") {
		t.Fatal("an open link does not carry")
	}
	l.set(refused)
	if answers(first, "two") || answers(dialed(t, l), "three") {
		t.Error("a link that is cut carries")
	}
	l.set(open)
	second := dialed(t, l)
	if !answers(second, "four") {
		t.Error("a link that was cut does not carry again")
	}
	l.set(silent)
	got := make(chan bool, 1)
	go func() { got <- answers(second, "five") }()
	l.set(open)
	<-got // what was sent while it was silent may have passed before, or is lost: but somebody is told
	if !answers(dialed(t, l), "six") {
		t.Error("a link that was silent does not carry again")
	}
}

func TestCommitsFail(t *testing.T) {
	t.Parallel()
	l := newTestLink(t)
	l.failCommits(false, true, false)
	for _, text := range []string{string(commit), "before" + string(commit), "before" + string(preparedCommit)} {
		conn := dialed(t, l)
		if !answers(conn, "begin") || answers(conn, text) {
			t.Error("a commit that is to fail is answered")
		}
	}
	if conn := dialed(t, l); !answers(conn, string(commit)) {
		t.Error("a commit fails that is not to")
	}
	if cut, send := l.commitFails(commit); cut || send {
		t.Error("more commits fail than were to")
	}
	l.failCommits(true)
	if cut, send := l.commitFails(commit); !cut || !send {
		t.Error("a commit that is to happen is not sent")
	}
}

func TestARaceIsToldFromNegligence(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	const pr = "/2.0/repositories/%7Bw%7D/r/pullrequests/1"
	add := func(c *calls, turn string, first int, paths ...string) {
		for i, path := range paths {
			c.keep(bitbucketsim.Call{At: at(first + 10*i), Path: pr + path, Agent: "SignedApproval turn/" + turn})
		}
	}
	c := &calls{}
	add(c, "merge-1-1", 10, "", "/commits", "/merge")
	if !c.raced(pr, []time.Time{at(15)}) || !c.raced(pr, []time.Time{at(25)}) {
		t.Error("a push after the last look is no race")
	}
	if c.raced(pr, []time.Time{at(5)}) || c.raced(pr, nil) {
		t.Error("a push before the last look is a race")
	}
	if c.raced(strings.Replace(pr, "/1", "/2", 1), []time.Time{at(15)}) {
		t.Error("another pull request raced")
	}
	add(c, "evaluate-2-1", 31, "", "/commits") // others look as well, and it excuses nothing
	add(c, "merge-1-2", 40, "", "/commits", "/merge")
	if c.raced(pr, []time.Time{at(35)}) || !c.raced(pr, []time.Time{at(45)}) {
		t.Error("the look before a call that failed counts for the next one")
	}
	blind := &calls{}
	add(blind, "evaluate-2-1", 10, "", "/commits")
	add(blind, "merge-1-1", 30, "", "/merge")
	if blind.raced(pr, []time.Time{at(35)}) {
		t.Error("a merge without a look is excused")
	}
}

// TestEachMischiefComesAndCounts draws as a run does: each kind comes once before any comes again, those that have not struck
// come more often later, and a run says which never did.
func TestEachMischiefComesAndCounts(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	from := newInjector(random, troubles)
	seen := map[string]int{}
	for range troubles {
		seen[from.next(random, func(string) bool { return false }).name]++
	}
	if len(seen) != len(troubles) {
		t.Errorf("%d kinds came in the first %d", len(seen), len(troubles))
	}
	for range 20 {
		seen[from.next(random, func(name string) bool { return name != "429" }).name]++
	}
	if seen["429"] < 11 {
		t.Errorf("what has not struck came %d times", seen["429"])
	}
	o := settings{kills: 26, duration: longEnough, clock: true, scenario: everything}
	for name := range seen {
		seen[name] = 1
	}
	for _, name := range changes[1:] {
		seen[name] = 1
	}
	if got, want := missed(o, seen), []string{"PostgreSQL crashed", "Redis killed, back empty", wrongClocks, quorumRaised, "server killed"}; !slices.Equal(got, want) {
		t.Errorf("missed %q, want %q", got, want)
	}
	s := summary{kills: 100, events: 1, decisions: 1, merges: 1}
	if short := s.enough(o, seen); len(short) != 5 {
		t.Errorf("what never struck: %q", short)
	}
	if line := struckLine(map[string]int{"b": 2, "a": 1}); line != "chaos: struck: a 1, b 2" {
		t.Error(line)
	}
}

func TestALinkTellsWhatItHasHit(t *testing.T) {
	t.Parallel()
	l := newTestLink(t)
	var struck []string
	l.struck = func(name string) { struck = append(struck, name) }
	l.set(refused)
	if l.hits.Load() != 0 {
		t.Error("a cut that met nobody counts")
	}
	answers(dialed(t, l), "one")
	if l.hits.Load() == 0 {
		t.Error("a cut that met somebody does not count")
	}
	l.failCommits(true, false)
	l.commitFails(commit)
	l.commitFails(commit)
	if !slices.Equal(struck, []string{commitUnanswered, commitLost}) {
		t.Errorf("struck: %q", struck)
	}
}

func TestWhoSeesThatAPullRequestHasAllItNeeds(t *testing.T) {
	t.Parallel()
	c := &change{destination: release, repository: &repository{rules: firstRules}}
	var last []bool
	for _, who := range []string{"bob", "bob", "carol", "dave"} {
		last = append(last, c.approved(who))
	}
	if !slices.Equal(last, []bool{false, false, true, false}) {
		t.Errorf("the second of two people completes it, and nobody else: %v", last)
	}
	c.voided()
	c.repository.ruledBy(rules{quorum: 1})
	if !c.approved("bob") {
		t.Error("one is enough where the rule says so")
	}
	c.voided()
	c.repository.ruledBy(firstRules)
	if c.destination = hotfix; !c.approved("bob") {
		t.Error("one is enough for a hotfix")
	}
}

// TestRulesChange draws rules as an administrator does: each kind of change comes, nothing comes that nobody could meet, and
// what merges by itself comes back.
func TestRulesChange(t *testing.T) {
	t.Parallel()
	random, is, seen := rand.New(rand.NewPCG(5, 6)), firstRules, map[string]bool{}
	merging := 0
	for range 500 {
		next := is.another(random)
		for _, name := range next.from(is) {
			seen[name] = true
		}
		if is = next; is.autoMerge {
			merging++
		}
		if is.quorum < 1 || is.quorum > len(is.approvers) || !slices.IsSorted(is.approvers) {
			t.Fatalf("%d of %q", is.quorum, is.approvers)
		}
	}
	if len(seen) != 4 || merging < 300 || !slices.Equal(firstRules.approvers, approverNames) || len(approverNames) != 5 {
		t.Errorf("seen %v, merging by itself %d times, at first %v", seen, merging, firstRules)
	}
}
