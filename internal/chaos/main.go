// Command chaos lets replicas of the real server work before a simulated Bitbucket while everything around
// them breaks, and checks what must hold whatever happens: no accepted event is lost, nothing is merged
// twice, no status is green without its quorum. "make chaos" runs it.
//
// Three server processes, PostgreSQL, Redis and the simulated Bitbucket run as processes of their own, joined
// by TCP proxies in this one. People open, push, retarget, approve, reject, withdraw and decline at random,
// only by the public doors. Meanwhile processes are killed, frozen and restarted, Redis is emptied, commits
// fail, networks are cut, clocks are wrong, webhooks get lost, repeated and reordered, calls fail and are
// throttled, and queues fill up. What is done follows from the seed; how the processes interleave does not.
//
// The last line of the output sums a run up. The exit code is 0 if nothing was violated and enough happened;
// .chaos/timeline holds what happened when.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// folder is where a run keeps its files, below the top of the repository.
const folder = ".chaos"

// scenario is what happens how often.
type scenario struct {
	pace       time.Duration // between two acts of one person
	killEvery  time.Duration // 0 for never
	faultEvery time.Duration
	checkEvery time.Duration
	overdue    time.Duration // what a job may be late by while everything breaks
	acts       []weighted[act]
	decisions  []weighted[string]
	troubles   []weighted[trouble]
	first      *trouble // before anything else; nil for nothing
	// What comes right upon the last approval that a pull request needs, and within what time.
	upon   []weighted[sequel]
	within time.Duration
	exact  bool // nobody approves what has enough approvals, so that each of them can be missed
	// How often the rules of a workspace change, 0 for never, and after how many turns somebody enrols a second key on average.
	rulesEvery time.Duration
	renewals   int
	must       []string // kinds of what people do that have to happen
}

// settings are what a run is told.
type settings struct {
	duration, rest, stall    time.Duration
	round                    time.Duration // the longest that a round lasts
	seed                     uint64
	kills                    int // a minute
	workspaces, repositories int
	replicas                 uint64
	clock                    bool
	bug                      *bug
	scenario                 scenario
}

var everything = scenario{
	pace: 600 * time.Millisecond, faultEvery: 900 * time.Millisecond, checkEvery: 8 * time.Second, overdue: 2 * time.Minute,
	acts:      []weighted[act]{{8, (*world).openOne}, {2, (*world).push}, {1, (*world).retarget}, {1, (*world).decline}, {1, (*world).mergeByHand}},
	decisions: []weighted[string]{{14, "APPROVE"}, {1, "REJECT"}, {2, "WITHDRAW"}},
	troubles:  troubles,
	upon: []weighted[sequel]{
		{12, nothing},
		{4, (*world).pushTo},
		{2, (*world).revert},
		{2, (*world).turn},
		{3, (*world).takeBack},
		{1, (*world).declineNow},
		{4, (*world).stolen},
		{2, (*world).revoked},
	},
	within: 1500 * time.Millisecond, rulesEvery: 12 * time.Second, renewals: 4, must: changes,
}

// directed are the scenarios that look for one bug each.
var directed = map[string]scenario{
	"skip-the-sweep": {
		pace: 500 * time.Millisecond, faultEvery: 2 * time.Second, checkEvery: 5 * time.Second, overdue: time.Minute,
		acts: everything.acts, decisions: everything.decisions,
		troubles: []weighted[trouble]{
			{1, trouble{"Redis flushed", flushRedis}},
			{1, trouble{"call refused", troubleCalls(func(_ *rand.Rand, f *bitbucketsim.Fault) { f.Status = http.StatusBadGateway })}},
		},
	},
	"count-keys-not-people": {
		pace: 300 * time.Millisecond, checkEvery: 5 * time.Second,
		acts: []weighted[act]{{1, (*world).openOne}}, decisions: []weighted[string]{{1, "APPROVE"}},
	},
	"pay-a-stale-status": {
		pace: 200 * time.Millisecond, faultEvery: time.Second, checkEvery: 5 * time.Second,
		acts: []weighted[act]{{1, (*world).openOne}}, decisions: []weighted[string]{{2, "APPROVE"}, {2, "WITHDRAW"}, {1, "REJECT"}},
		troubles: []weighted[trouble]{{1, trouble{"status late", slowStatuses}}},
	},
	"write-what-was-taken-back": {
		pace: 200 * time.Millisecond, checkEvery: 5 * time.Second,
		acts: []weighted[act]{{1, (*world).openOne}}, decisions: []weighted[string]{{1, "APPROVE"}},
		first: &trouble{"evaluation late, status refused", lateEvaluations},
		upon:  []weighted[sequel]{{1, (*world).takeBackOwed}}, exact: true,
	},
	"put-before-publishing": {
		pace: 200 * time.Millisecond, faultEvery: 2 * time.Second, checkEvery: 2 * time.Second,
		acts: []weighted[act]{{1, (*world).openOne}}, decisions: []weighted[string]{{1, "APPROVE"}},
		troubles: []weighted[trouble]{{1, trouble{"log not published", keepUnpublished}}},
	},
	"drop-the-fencing": {
		pace: 200 * time.Millisecond, faultEvery: 1500 * time.Millisecond, checkEvery: 5 * time.Second,
		acts: everything.acts, decisions: []weighted[string]{{2, "APPROVE"}, {2, "WITHDRAW"}, {1, "REJECT"}},
		troubles: []weighted[trouble]{{2, trouble{"status late", slowStatuses}}, {2, trouble{"server frozen", freezeServer}}},
	},
	"merge-without-re-reading": {
		pace: 300 * time.Millisecond, checkEvery: 5 * time.Second,
		acts: []weighted[act]{{1, (*world).openOne}}, decisions: []weighted[string]{{1, "APPROVE"}},
		first: &trouble{"push unheard", unheardPushes},
		upon:  []weighted[sequel]{{1, nothing}, {1, (*world).pushTo}}, within: 1500 * time.Millisecond,
	},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx)
	stop()
	os.Exit(code)
}

func command(ctx context.Context) int {
	o := settings{replicas: 3, workspaces: 3, repositories: 2}
	var seed uint64
	var selftest bool
	var only string
	flag.DurationVar(&o.duration, "duration", 10*time.Minute, "how long everything breaks")
	flag.DurationVar(&o.rest, "rest", 12*time.Minute, "how long the system may take to come to rest afterwards: the longest pause of a job, and the sweep")
	flag.DurationVar(&o.stall, "stall", time.Minute, "the run fails if so long nothing is merged, or nothing is killed")
	flag.DurationVar(&o.round, "round", longestRound, "how long a round lasts at most: a longer run is several, each on an empty database")
	flag.Uint64Var(&seed, "seed", 0, "repeat what a run with this seed did; 0 for a new one")
	flag.IntVar(&o.kills, "kills", 26, "processes killed in a minute")
	flag.BoolVar(&o.clock, "clock", true, "let the servers' clocks be wrong")
	flag.BoolVar(&selftest, "selftest", false, "build bugs into the server, and see each of them caught")
	flag.StringVar(&only, "bug", "", "only this bug of the self-test")
	flag.Parse()
	o.seed = cmp.Or(seed, uint64(time.Now().UnixNano())%1_000_000_000)
	throughHere()
	if selftest {
		return selfTest(ctx, o, only)
	}
	o.scenario = everything
	o.scenario.killEvery = time.Minute / time.Duration(o.kills)
	fmt.Printf("chaos: seed %d, %s, about %d kills a minute\n", o.seed, o.duration, o.kills)
	return breakAll(ctx, os.Stdout, o, run)
}

// longestRound is how long a round lasts at most, unless told otherwise. A run that is longer is several of them, one after the other, each on an empty
// database and a new Bitbucket: the invariants are checked again and again over all that ever happened in a round, so it must not
// grow without end.
const longestRound = 15 * time.Minute

// rounds are equal parts of a run, each with a seed of its own.
func (o settings) rounds() (list []settings) {
	n := max(1, (o.duration+o.round-1)/o.round)
	for i := range n {
		one := o
		one.duration, one.seed = o.duration/n, o.seed+uint64(i)
		list = append(list, one)
	}
	return list
}

// breakAll has each round played until something is violated, and sums them up.
func breakAll(ctx context.Context, out io.Writer, o settings, play func(context.Context, settings) (*journal, error)) int {
	sum, tally := summary{seed: o.seed}, map[string]int{}
	var broken []string
	list := o.rounds()
	for n, one := range list {
		j, err := play(ctx, one)
		if err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			if j == nil {
				return 1
			}
		}
		s := j.summary(one.seed)
		sum.add(s)
		for name, times := range j.tally() {
			tally[name] += times
		}
		if len(list) > 1 {
			fmt.Fprintf(out, "chaos: round %d of %d, %s: %s\n", n+1, len(list), time.Since(j.began).Round(time.Second), s)
		}
		if broken = j.violations; err != nil || len(broken) > 0 {
			fmt.Fprintf(out, "chaos: CHAOS=%s SEED=%d repeats it; what happened when: %s\n", one.duration, one.seed, j.path)
			o.duration = time.Duration(n+1) * one.duration // what was not done is not missed
			if err != nil {
				broken = append(broken, err.Error())
			}
			break
		}
	}
	broken = append(broken, sum.enough(o, tally)...)
	for _, sentence := range broken {
		fmt.Fprintln(out, "chaos: broken:", sentence)
	}
	fmt.Fprintln(out, struckLine(tally))
	fmt.Fprintln(out, sum)
	if len(broken) > 0 {
		return 1
	}
	return 0
}

// longEnough is the shortest run in which every kind of mischief must have struck.
const longEnough = 2 * time.Minute

// enough says what a run did too little of to show anything.
func (s summary) enough(o settings, tally map[string]int) (short []string) {
	least := int64(float64(o.kills) * o.duration.Minutes() * 20 / 26)
	if s.kills < least {
		short = append(short, fmt.Sprintf("%d processes were killed, and %d must be", s.kills, least))
	}
	if s.merges == 0 || s.decisions == 0 || s.events == 0 {
		short = append(short, "nothing was merged, decided or done")
	}
	if o.duration >= longEnough {
		for _, name := range missed(o, tally) {
			short = append(short, "this never struck: "+name)
		}
	}
	return short
}

// selfTest builds one bug after the other into the server; each must be noticed.
func selfTest(ctx context.Context, o settings, only string) int {
	missed := 0
	var last string
	for i := range bugs {
		if only != "" && bugs[i].name != only || ctx.Err() != nil {
			continue
		}
		o.bug, o.clock = &bugs[i], false
		o.scenario = directed[o.bug.name]
		o.workspaces, o.repositories = 1, 2
		j, err := run(ctx, o)
		var s summary
		if j != nil {
			s = j.summary(o.seed)
		}
		switch {
		case err != nil:
			missed++
			last = fmt.Sprintf("chaos: %s could not be tried: %v", o.bug.name, err)
		case s.violations == 0:
			missed++
			last = fmt.Sprintf("chaos: %s was NOT noticed: %s", o.bug.name, s)
		default:
			last = fmt.Sprintf("chaos: %s was noticed after %s: %s\n  %s", o.bug.name, time.Since(j.began).Round(time.Second), j.violations[0], s)
		}
		fmt.Println(last)
	}
	if missed > 0 || last == "" || ctx.Err() != nil {
		return 1
	}
	return 0
}

// top is the top of the repository.
func top() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("chaos must run inside the repository")
			return "", err
		}
	}
	return "", err
}

// clocks gives the steps of the clocks of each replica's processes.
func clocks(o settings) func(n uint64) func() string {
	return func(n uint64) func() string {
		random := rand.New(rand.NewPCG(o.seed, 1000+n))
		var mu sync.Mutex
		return func() string {
			mu.Lock()
			defer mu.Unlock()
			if !o.clock || random.IntN(3) > 0 {
				return ""
			}
			var steps []string
			for at := random.IntN(3); at < 60 && len(steps) < 4; at += 1 + random.IntN(8) {
				steps = append(steps, fmt.Sprintf("%d:%d", at, random.IntN(241)-120))
			}
			return strings.Join(steps, ",") + ","
		}
	}
}

// run is one run: start, break, rest, check.
func run(ctx context.Context, o settings) (j *journal, err error) {
	where, err := top()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(where, folder), 0o755); err != nil {
		return nil, err
	}
	if j, err = newJournal(filepath.Join(where, folder)); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	j.note("seed %d", o.seed)
	s := &stack{journal: j, top: where}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, o, clocks(o)); err != nil {
		return j, err
	}
	w, err := newWorld(ctx, s, o)
	if err != nil {
		return j, err
	}
	c := &calls{}
	w.duration = o.duration
	w.breakEverything(ctx, o, c)
	if ctx.Err() != nil {
		return j, ctx.Err()
	}
	if o.bug == nil || len(j.violations) == 0 {
		w.comeToRest(ctx, o, c)
	}
	return j, ctx.Err()
}

// breakEverything lets people act and everything break, for as long as the run is told, or until a seeded bug is noticed.
func (w *world) breakEverything(ctx context.Context, o settings, c *calls) {
	ctx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	if o.bug != nil {
		go func() {
			select {
			case <-w.broken:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	if o.scenario.first != nil {
		o.scenario.first.do(w, ctx, nil, o.scenario.first.name)
	}
	var all sync.WaitGroup
	n := uint64(0)
	random := func() *rand.Rand { n++; return rand.New(rand.NewPCG(o.seed, n)) }
	for _, r := range w.repositories {
		own := random()
		all.Go(func() { w.author(ctx, o, own, r) })
	}
	for _, p := range w.approvers {
		own := random()
		all.Go(func() { w.approver(ctx, o, own, p) })
	}
	for _, a := range w.admins {
		own := random()
		all.Go(func() { w.administer(ctx, o, own, a) })
	}
	killing, breaking := random(), random()
	all.Go(func() { w.inject(ctx, killing, o.scenario.killEvery, kills) })
	all.Go(func() { w.inject(ctx, breaking, o.scenario.faultEvery, o.scenario.troubles) })
	all.Go(func() { w.follow(ctx, c) })
	all.Go(func() { w.watch(ctx, o, c) })
	all.Wait()
	w.readStrikes(context.WithoutCancel(ctx))
}

// comeToRest ends all faults, waits until everything holds that must hold at rest, and records what does not.
func (w *world) comeToRest(ctx context.Context, o settings, c *calls) {
	w.note("the faults end")
	for _, r := range w.replicas {
		r.signal(syscall.SIGCONT)
		for _, l := range r.links() {
			l.set(open)
			l.healCommits()
		}
	}
	_, _ = w.redis.Signal(syscall.SIGCONT), w.sim.signal(syscall.SIGCONT) // they may be running: then nothing happens
	for {
		request, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := w.sim.call(request, "DELETE", "/sim/faults", "", nil, nil)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
		pause(ctx, time.Second)
	}
	deadline := time.Now().Add(o.rest)
	for {
		broken, err := w.check(ctx, c, 15*time.Second, true)
		if err == nil && len(broken) == 0 {
			for _, r := range w.repositories {
				if err := w.refresh(ctx, r); err != nil {
					w.note("%s: %v", r.fullName, err)
				}
			}
			w.note("everything is at rest, and holds")
			return
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			if err != nil {
				broken = append(broken, "the invariants cannot be checked: "+err.Error())
			}
			w.violate("at rest", broken)
			return
		}
		w.note("not at rest yet: %v %v", strings.Join(broken, "; "), err)
		pause(ctx, 3*time.Second)
	}
}
