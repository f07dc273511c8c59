package gate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestFaultsOfSeats plays the rows of the failure matrix that claiming a job with the transaction that asks for it adds. The
// webhook and the decision come to a server with a queue of its own, which keeps seats for what follows from them; the other
// server, as everywhere in these worlds, does what is due and held by nobody. What the first one has claimed and does not do,
// because it died or was never told, is the other's when its lease has run out, and not before.
func TestFaultsOfSeats(t *testing.T) {
	t.Parallel()
	for step, on := range map[fault.Step]func(fault.Event) bool{
		fault.SeatIntake:    fault.Sends("insert into signedapproval_deliveries"),
		fault.SeatCommit:    fault.Commits("insert into signedapproval_decisions"),
		fault.SeatBegun:     fault.Others("begun"),
		fault.SeatGivenBack: fault.Commits("last_error = $4, holder = null"),
	} {
		t.Run(string(step), func(t *testing.T) {
			w := newWorld(t)
			rule := w.rule(1, "bob")
			rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
			w.save(rule)
			w.settle()
			fault.Run(t, step, func(t *testing.T, m fault.Mishap, armed bool) fault.Outcome {
				w.t = t
				defer func() { w.t = nil }()
				s := w.newSeated(step)
				defer s.stop()
				number := s.opened(func() {
					if armed {
						s.wire.Set(fault.Trap{On: func(e fault.Event) bool { return on(e) && s.kept.Load() > 0 }, Mishap: m, Meanwhile: s.meanwhile})
					}
				})
				s.road(number)
				fired := s.wire.Fired()
				w.must(s.wire.Land())
				w.statusEvent(number)
				s.road(number)
				if died := m == fault.DiedBefore || m == fault.DiedAfter; armed && s.wire.Dead() != died {
					t.Errorf("the process is dead: %v", s.wire.Dead())
				}
				if want, known := abandons(step, m); armed && known && s.abandoned != want {
					t.Errorf("%d jobs were left to their lease, want %d", s.abandoned, want)
				}
				if !armed && s.abandoned > 0 {
					t.Errorf("%d jobs were left to their lease", s.abandoned)
				}
				return fault.Outcome{Fired: fired, End: w.end(number) + s.freed()}
			})
			w.t = t
		})
	}
}

// seated is a server that claims what it asks for.
type seated struct {
	*world
	wire  *fault.Wire // between it, and Postgres and Bitbucket
	store *store.Store
	gate  *gate.Gate
	queue *jobs.Queue
	stop  func()
	step  fault.Step
	// abandoned is how many jobs were found that it had claimed and was not doing.
	abandoned int
	// kept is how many seats it kept for the latest webhook or decision and what followed from that.
	kept atomic.Int64
	// givingBack is the job that is given back slowly, and found is closed when the other server has found it meanwhile. Both
	// belong to the goroutine that gives it back.
	givingBack int64
	found      chan struct{}
}

func (w *world) newSeated(step fault.Step) *seated {
	w.t.Helper()
	t := w.t
	s := &seated{world: w, wire: &fault.Wire{}, step: step}
	var err error
	s.store, err = store.Open(t.Context(), w.db.AppURL, w.store.Vault, s.wire.Tune)
	w.must(err)
	client := bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL(), Timeout: callTimeout, Transport: s.wire}).As(w.token, "test", bitbucket.Foreground)
	s.gate = w.newGate(s.store, func() *bitbucket.Client { return client })
	redis, err := jobs.Connect(redistest.URL(t))
	w.must(err)
	s.queue = jobs.New(jobs.Options{
		Redis: redis, Prefix: "seated-" + uuid.NewString(), Log: slog.New(slog.DiscardHandler),
		Sweep: 1000 * time.Hour, Block: time.Second, // what is not claimed with being asked for is the other server's
		Ledger: jobs.Ledger{
			Claim: func(context.Context, int64, string, time.Duration) (jobs.Job, bool, error) {
				return jobs.Job{}, false, errors.New("nobody rings here")
			},
			Retry: s.giveBack,
			Extend: func(ctx context.Context, claim jobs.Claim, lease time.Duration) error {
				return s.store.ExtendJob(ctx, store.Claim(claim), lease)
			},
			Due:   func(context.Context, int64, int) ([]jobs.Ring, time.Duration, error) { return nil, time.Hour, nil },
			Defer: func(context.Context, []int64) error { return nil },
			Epoch: func(context.Context) (int64, error) { return 1, nil }, NextEpoch: func(context.Context, int64, int64) (int64, error) { return 1, nil },
			LeaseLost: store.ErrLeaseLost, LeftBehind: store.HolderDied,
		},
	})
	for kind, work := range map[string]func(context.Context, store.Job) error{
		store.KindEvaluate: s.gate.Evaluate, store.KindStatus: s.gate.PutStatus, store.KindMerge: s.gate.Merge, store.KindStatusSeen: s.gate.StatusSeen,
	} {
		s.queue.Handle(kind, jobs.HandlerOptions{Lease: time.Minute, Seated: true}, func(ctx context.Context, j jobs.Job) error {
			job := store.Job{Claim: store.Claim(j.Claim), Kind: j.Kind, Key: j.Key, Workspace: j.Workspace, Payload: j.Payload, Attempt: j.Attempt}
			return s.begin(job, func() error { return work(ctx, job) })
		})
	}
	s.store.Seat = func(kind, workspace string) (store.Seat, bool) {
		lease, fill, ok := s.queue.Seat(kind, workspace)
		if ok {
			s.kept.Add(1)
		}
		return store.Seat{Holder: s.queue.Holder, Lease: lease, Fill: func(j *store.Job) {
			if j == nil {
				fill(nil)
				return
			}
			fill(&jobs.Job{Claim: jobs.Claim(j.Claim), Kind: j.Kind, Key: j.Key, Workspace: j.Workspace, Payload: j.Payload})
		}}, ok
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.queue.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the queue ends: %v", err)
		}
		s.store.Close()
		_ = redis.Close()
	}
	s.wait("it has seats", s.hasSeats)
	return s
}

// begin does a job that was claimed with being asked for, or what becomes of it.
func (s *seated) begin(job store.Job, work func() error) error {
	if job.Kind != store.KindStatus || !s.decided(job) {
		return work()
	}
	if s.step == fault.SeatGivenBack && s.wire.Fired() == 0 {
		return errors.New("something broke")
	}
	trap, struck := s.wire.Strikes(fault.Event{Other: "begun"})
	if !struck {
		return work()
	}
	switch trap.Mishap {
	case fault.Failed:
		return errors.New("it could not begin")
	case fault.Happened:
		s.must(work())
		return errors.New("the answer is lost")
	case fault.DiedBefore:
		s.wire.Kill()
	case fault.DiedAfter:
		s.must(work())
		s.wire.Kill()
	case fault.Slow:
		s.expireLeases()
		s.must(s.elsewhere(job.ID))
	case fault.Twice:
		s.wire.Again()
		s.must(work())
		if err := work(); !errors.Is(err, store.ErrLeaseLost) {
			s.t.Errorf("done twice under one claim: %v", err)
		}
		return nil
	}
	return work()
}

// decided tells whether a job writes the status of a pull request that somebody has decided about.
func (s *seated) decided(job store.Job) (yes bool) {
	s.must(s.super.QueryRow(s.t.Context(), `select exists (select from signedapproval_decisions d join signedapproval_approval_requests r on r.id = d.request_id
		where starts_with($1, r.pull_request_id::text))`, job.Key).Scan(&yes))
	return yes
}

// giveBack gives a job back, as the queue has its ledger do.
func (s *seated) giveBack(ctx context.Context, claim jobs.Claim, reason string, after time.Duration, burn bool, most int) (bool, error) {
	slow := s.step == fault.SeatGivenBack && s.wire.Awaits(fault.Slow)
	if slow {
		s.givingBack = claim.ID
		s.expireLeases()
	}
	dead, err := s.store.RetryJob(ctx, store.Claim(claim), reason, after, burn, most)
	if slow {
		<-s.found
	}
	if s.wire.Again() {
		if _, again := s.store.RetryJob(ctx, store.Claim(claim), reason, after, burn, most); !errors.Is(again, store.ErrLeaseLost) {
			s.t.Errorf("given back twice under one claim: %v", again)
		}
	}
	return dead, err
}

// meanwhile is [world.meanwhile], and while a job is given back the other server, which finds its lease at an end.
func (s *seated) meanwhile() {
	if s.step != fault.SeatGivenBack {
		s.world.meanwhile()
		return
	}
	s.found = s.beside(func() error { return s.elsewhere(s.givingBack) })
}

// elsewhere is the other server, which finds a job due and held by nobody, and does it.
func (s *seated) elsewhere(id int64) error {
	job, ok, err := s.world.store.ClaimJob(s.t.Context(), id, uuid.NewString(), time.Minute)
	if err != nil || !ok {
		return err
	}
	return s.run(job)
}

// opened opens a pull request, of which Bitbucket tells this server, and the other one where it gets no answer.
func (s *seated) opened(arm func()) int64 {
	s.t.Helper()
	branch := "feature/" + uuid.NewString()
	number := s.openOn(branch)
	// The event that openOn has left is not this story's.
	s.sql(`delete from signedapproval_jobs where kind = 'evaluate' and key like '%:' || $1`, fmt.Sprint(number))
	told := s.delivery(number)
	arm()
	s.kept.Store(0)
	s.again = func() error {
		if err := s.world.store.AcceptDeliveries(s.t.Context(), []store.Delivery{s.delivery(number)}); err != nil {
			return err
		}
		var id int64
		s.must(s.super.QueryRow(s.t.Context(), `select id from signedapproval_jobs where kind = 'evaluate' and key = $1`, told.Jobs[0].Key).Scan(&id))
		return s.elsewhere(id)
	}
	err := s.store.AcceptDeliveries(s.t.Context(), []store.Delivery{told})
	s.join()
	if s.wire.Again() {
		s.must(s.store.AcceptDeliveries(s.t.Context(), []store.Delivery{told}))
	}
	if err != nil {
		s.must(s.world.store.AcceptDeliveries(s.t.Context(), []store.Delivery{told})) // Bitbucket tries again
	}
	s.accepted = append(s.accepted, told.RequestUUID)
	return number
}

func (s *seated) delivery(number int64) store.Delivery {
	return store.Delivery{
		RequestUUID: uuid.NewString(), Workspace: bare(s.workspace), Repository: bare(s.repository), EventKey: "pullrequest:created", Attempt: 1, Outcome: "PARSED",
		Body: fmt.Appendf(nil, `{"pullrequest": {"id": %d}}`, number), Jobs: []store.JobSpec{store.AskEvaluate(s.workspace, s.repository, number)},
	}
}

// road is [world.road] with bob's decision made at this server as long as it lives, and the rest done by both.
func (s *seated) road(number int64) {
	s.t.Helper()
	for range 400 {
		s.wait("it has done what it claimed", func() bool { return s.wire.Dead() || !s.busy() })
		rings := s.due()
		for _, ring := range rings {
			_ = s.do(ring) // it is tried again
		}
		if s.wire.Fired() > 0 {
			s.check(false)
		}
		if len(rings) > 0 {
			continue
		}
		if s.held() > 0 {
			s.abandoned++
			s.expireLeases()
			continue
		}
		v := s.view(number)
		switch {
		case v.Merge != nil && v.Merge.State == store.MergeMerged && v.PullRequest.State == "MERGED" && v.Status.Paid():
			s.check(true)
			return
		case v.Merge != nil && v.Merge.State == store.MergeRefused:
			s.t.Fatalf("the merge was refused: %s", v.Merge.Sentence)
		case v.Request != nil && len(v.Decisions) == 0:
			s.decideHere(number)
		default:
			s.soon()
			s.unanswered()
		}
	}
	v := s.view(number)
	s.t.Fatalf("no end of the road: %+v %+v", v.PullRequest, v.Merge)
}

// decideHere lets bob approve at this server, or at the other one where this one is dead.
func (s *seated) decideHere(number int64) {
	s.t.Helper()
	s.kept.Store(0)
	if !s.wire.Dead() {
		was, wire := s.world.gate, s.world.wire
		s.world.gate, s.world.wire = s.gate, s.wire
		defer func() { s.world.gate, s.world.wire = was, wire }()
	}
	_, _ = s.decide(number, "bob", approval.Approve) // whom nobody answered tries again
}

// busy tells whether the queue has given seats that are not free again.
func (s *seated) busy() bool {
	stats := s.queue.Stats()
	return stats.Running+stats.RunningSlow > 0
}

func (s *seated) hasSeats() bool {
	_, fill, ok := s.queue.Seat(store.KindEvaluate, s.workspace)
	if ok {
		fill(nil)
	}
	return ok
}

// held is how many jobs are held for this server.
func (s *seated) held() (n int) {
	s.t.Helper()
	s.must(s.super.QueryRow(s.t.Context(), `select count(*)::integer from signedapproval_jobs where holder = $1 and leased_until > now()`, s.queue.Holder).Scan(&n))
	return n
}

// abandons is how many jobs a mishap leaves to their lease: each that was claimed by a process that died, or was not told.
func abandons(step fault.Step, m fault.Mishap) (n int, known bool) {
	claims := step == fault.SeatIntake || step == fault.SeatCommit
	switch {
	case step == fault.SeatBegun && m == fault.DiedAfter:
		return 0, false // what follows from the job was claimed with its end, and may have been done or not
	case claims && (m == fault.Happened || m == fault.DiedAfter), !claims && m == fault.DiedBefore:
		return 1, true
	}
	return 0, true
}

// freed says that all seats were given back.
func (s *seated) freed() string {
	s.t.Helper()
	s.wait("no seat is kept", func() bool { return !s.busy() })
	if !s.hasSeats() {
		return "; there is no seat any more"
	}
	return "; every seat is free"
}

// wait polls until the condition holds.
func (s *seated) wait(what string, holds func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			s.t.Fatalf("never came true: %s", what)
		}
		<-tick.C
	}
}
