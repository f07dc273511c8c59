package app

import (
	"context"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// ledger hands the job ledger of store to the queue: the two packages stand on one floor.
func (s *Server) ledger() jobs.Ledger {
	return jobs.Ledger{
		Claim: func(ctx context.Context, id int64, holder string, lease time.Duration) (jobs.Job, bool, error) {
			j, ok, err := s.store.ClaimJob(ctx, id, holder, lease)
			return jobs.Job{
				Claim: jobs.Claim(j.Claim), Kind: j.Kind, Key: j.Key, Workspace: j.Workspace, Payload: j.Payload, Attempt: j.Attempt,
				Orphaned: j.Orphaned,
			}, ok, err
		},
		Retry: func(ctx context.Context, claim jobs.Claim, reason string, after time.Duration, burn bool, most int) (bool, error) {
			dead, err := s.store.RetryJob(ctx, store.Claim(claim), reason, after, burn, most)
			if dead && err == nil {
				s.log.ErrorContext(ctx, "a job gave up", "job", claim.ID, "reason", reason)
				s.gate.Mourn(ctx, claim.ID)
			}
			return dead, err
		},
		Extend: func(ctx context.Context, claim jobs.Claim, lease time.Duration) error {
			return s.store.ExtendJob(ctx, store.Claim(claim), lease)
		},
		Due: func(ctx context.Context, epoch int64, limit int) ([]jobs.Ring, time.Duration, error) {
			rings, next, err := s.store.DueJobs(ctx, epoch, limit)
			return toJobs(rings), next, err
		},
		Defer: s.store.DeferJobs,
		Epoch: s.store.QueueEpoch, NextEpoch: s.store.MoveQueueEpoch, LeaseLost: store.ErrLeaseLost, LeftBehind: store.HolderDied,
	}
}

// seat keeps a seat in the queue for a job that a transaction is about to ask for.
func (s *Server) seat(kind, workspace string) (store.Seat, bool) {
	lease, fill, ok := s.queue.Seat(kind, workspace)
	if !ok {
		return store.Seat{}, false
	}
	return store.Seat{Holder: s.queue.Holder, Lease: lease, Fill: func(j *store.Job) {
		if j == nil {
			fill(nil)
			return
		}
		fill(&jobs.Job{Claim: jobs.Claim(j.Claim), Kind: j.Kind, Key: j.Key, Workspace: j.Workspace, Payload: j.Payload})
	}}, true
}

func toJobs(rings []store.Ring) []jobs.Ring {
	out := make([]jobs.Ring, len(rings))
	for i, r := range rings {
		out[i] = jobs.Ring(r)
	}
	return out
}

// handleJobs says who does what.
func (s *Server) handleJobs() {
	handle := func(kind string, options jobs.HandlerOptions, run func(context.Context, store.Job) error) {
		s.queue.Handle(kind, options, func(ctx context.Context, j jobs.Job) error {
			return run(ctx, store.Job{
				Claim: store.Claim(j.Claim), Kind: j.Kind, Key: j.Key, Workspace: j.Workspace, Payload: j.Payload, Attempt: j.Attempt,
			})
		})
	}
	// A running job keeps extending its lease of 4 s, so a worker may wait for Bitbucket as long as a
	// call may take, and the job of one that was killed is taken over within one local sweep. A worker
	// that loses its lease gives its call up; that call may still land, which is what a status in doubt
	// is for. Those that are on the road of a webhook or a decision are seated: they tell nobody outside, but for a status, which
	// has its claim and all that it read made durable first, and a merge, which has CALLING.
	handle(store.KindEvaluate, jobs.HandlerOptions{Seated: true}, s.gate.Evaluate)
	handle(store.KindStatus, jobs.HandlerOptions{Seated: true, MaxAttempts: 30}, s.gate.PutStatus)
	handle(store.KindStatusSeen, jobs.HandlerOptions{Seated: true}, s.gate.StatusSeen)
	handle(store.KindBuilds, jobs.HandlerOptions{Seated: true}, s.gate.Builds)
	handle(store.KindMerge, jobs.HandlerOptions{Seated: true}, s.gate.Merge)
	handle(store.KindFan, jobs.HandlerOptions{Seated: true}, s.gate.Fan)
	handle(store.KindReconcile, jobs.HandlerOptions{Background: true, MaxAttempts: 1000}, s.gate.Reconcile)
	handle(store.KindNotify, jobs.HandlerOptions{Background: true}, s.gate.SendNotice)
	handle(store.KindSweep, jobs.HandlerOptions{MaxAttempts: 1_000_000}, s.gate.Sweep)
	handle(store.KindRoster, jobs.HandlerOptions{MaxAttempts: 1000}, s.gate.FollowKeys)
	handle(store.KindFallen, jobs.HandlerOptions{Background: true, MaxAttempts: 1000}, s.gate.Fallen)
	handle(store.KindDoctor, jobs.HandlerOptions{Background: true, MaxAttempts: 1000}, s.workspaces.Doctor)
	handle(workspace.KindRefresh, jobs.HandlerOptions{MaxAttempts: 1000}, s.workspaces.Refresh)
}

// spent says what Postgres knows of a credential. It knows all but the last seconds, so a credential
// that it has no count of has spent nothing yet.
func (s *Server) spent(ctx context.Context, tokenKey string) (int64, bool, error) {
	calls, _, err := s.store.Spent(ctx, tokenKey)
	return calls, err == nil, err
}

// personShare is the share of a connection's calls that the questions of one person may use: whoever only looks, however often, must
// not keep pull requests from being looked at, nor others from deciding.
const personShare = 2

// Whose share is not known has spent none of it: the budget is known, and holds all the same.
func unspent(context.Context, string) (int64, bool, error) { return 0, true, nil }
func uncounted(context.Context, string, int64) error       { return nil }

// reserve asks the budget of a connection before each call, and before that the share of who asked for it.
func (s *Server) reserve(ctx context.Context, call bitbucket.Call) error {
	if call.Person != "" {
		if err := reserveIn(ctx, s.shares, call, call.TokenKey+"/"+call.Person, jobs.Urgent, "your share of the calls of this connection is spent for now"); err != nil {
			return err
		}
	}
	return reserveIn(ctx, s.budget, call, call.TokenKey, jobs.Class(call.Class), "the call budget of this connection is spent for now")
}

func reserveIn(ctx context.Context, budget *jobs.Budget, call bitbucket.Call, key string, class jobs.Class, spent string) error {
	ok, at, err := budget.Take(ctx, key, class)
	if err != nil {
		return err
	}
	if !ok {
		return &bitbucket.Error{Op: call.Op, Status: 429, Message: spent, RetryAt: at}
	}
	return nil
}

// throttled makes every replica leave a connection alone that Bitbucket throttles.
func (s *Server) throttled(ctx context.Context, call bitbucket.Call, until time.Time) {
	s.meters.throttled.Inc()
	if err := s.budget.Pause(ctx, call.TokenKey, until); err != nil {
		s.log.WarnContext(ctx, "a throttled connection could not be paused", "error", err)
	}
}
