package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// SweepInterval is how often it is looked for what nothing attends to: when the clock shows a multiple of it, which is
// when servers at rest look at the ledger of jobs.
const SweepInterval = 30 * time.Second

// sweepBatch bounds one turn of the sweep.
const sweepBatch = 500

// Fan is the job that follows an event of a branch: it asks for an evaluation of every open pull
// request that comes from it.
func (g *Gate) Fan(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		open, err := tx.OpenPullRequests(ctx, at.Repository, at.Branch)
		if err != nil {
			return err
		}
		for _, pr := range open {
			if err := tx.Enqueue(ctx, store.AskEvaluate(at.Workspace, at.Repository, pr.Number)); err != nil {
				return err
			}
		}
		return tx.FinishJob(ctx, job.Claim, time.Time{})
	})
}

// The reconciler may spend a fifth of what one credential may ask in an hour, over all repositories
// of its workspace.
const (
	reconcileShare = 5
	// reconcileSoonest keeps a workspace of one quiet repository from being walked all the time.
	reconcileSoonest = 2 * time.Minute
	reconcileLatest  = 6 * time.Hour
)

// reconcileInterval is the pace at which walks of this cost stay inside the reconciler's share.
func (g *Gate) reconcileInterval(calls, repositories int) time.Duration {
	interval := time.Duration(calls*repositories) * time.Hour * reconcileShare / time.Duration(max(g.CallsPerHour, 1))
	return min(max(interval, reconcileSoonest), reconcileLatest)
}

// Reconcile is the job that walks the open pull requests of a repository on Bitbucket, finds what
// lost webhooks hid, and repairs the webhook. It runs again by itself.
func (g *Gate) Reconcile(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	var known []store.PullRequest
	repositories := 0
	err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		if _, err := tx.RepositoryConfig(ctx, at.Repository); err != nil {
			return err
		}
		var err error
		if repositories, err = tx.CountRepositoryConfigs(ctx); err != nil {
			return err
		}
		known, err = tx.OpenPullRequests(ctx, at.Repository, "")
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return g.done(ctx, job)
	}
	if err != nil {
		return err
	}
	numbers := map[int64]bool{}
	for _, pr := range known {
		numbers[pr.Number] = true // those that are closed on Bitbucket must be looked at as well
	}
	client, err := g.Client(ctx, at.Workspace, bitbucket.Background)
	if err != nil {
		return g.walkLater(err)
	}
	// First: it notices a repository that was deleted or moved, of which the list would say nothing. It
	// says by itself what is wrong, and the walk is all there is while the webhook does not work.
	if err := g.EnsureHook(ctx, at.Workspace, at.Repository); err != nil {
		g.Log.WarnContext(ctx, "the webhook could not be looked after", "workspace", at.Workspace, "repository", at.Repository, "error", err)
	}
	for remote, err := range client.OpenPullRequests(ctx, at.Workspace, at.Repository) {
		if err != nil {
			return g.walkLater(err)
		}
		numbers[remote.ID] = true
	}
	// A walk costs its pages, the look at the webhook, the doctor's at the branch restrictions, and per
	// pull request an evaluation (pull request and head) and the status read back.
	interval := g.reconcileInterval(3+len(numbers)/50+3*len(numbers), repositories)
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		for number := range numbers {
			if err := tx.Enqueue(ctx, store.AskEvaluate(at.Workspace, at.Repository, number)); err != nil {
				return err
			}
		}
		for _, pr := range known {
			if err := tx.Enqueue(ctx, store.AskStatusSeen(at.Workspace, at.Repository, pr.StatusKey)); err != nil {
				return err
			}
			// Only its own job finds out what became of a merge that was called for, and that may have been given up too.
			if err := ringMerges(ctx, tx, pr.ID, store.MergeCalling); err != nil {
				return err
			}
			// What is owed may have been given up: then Bitbucket shows something else for as long.
			unpaid, err := tx.UnpaidStatusesOf(ctx, pr.ID)
			if err != nil {
				return err
			}
			for _, status := range unpaid {
				if err := tx.Enqueue(ctx, store.AskStatus(at.Workspace, pr.ID, status.Commit)); err != nil {
					return err
				}
			}
		}
		if err := tx.SetReconciled(ctx, at.Repository, interval); err != nil {
			return err
		}
		if err := tx.Enqueue(ctx, store.AskDoctor(at.Workspace, at.Repository)); err != nil {
			return err
		}
		return tx.FinishJob(ctx, job.Claim, now.Add(interval))
	})
}

// walkLater puts a walk that failed off, whatever the reason and however often: a walk that gave up
// would leave nobody to notice that the reason is gone.
func (g *Gate) walkLater(err error) error {
	var remote *bitbucket.Error
	if errors.As(err, &remote) && remote.Throttled() {
		return g.fate(err)
	}
	return jobs.Later(err, time.Now().Add(reconnectPause))
}

// Sweep is the job that asks for an evaluation of every pull request that owes something while no
// job attends to it. The ledger is written with its cause, so it finds nothing unless jobs were
// removed by hand. It runs again by itself.
func (g *Gate) Sweep(ctx context.Context, job store.Job) error {
	unattended, err := g.Store.Unattended(ctx, sweepBatch)
	if err != nil {
		return err
	}
	for _, u := range unattended {
		err := g.Store.InWorkspace(ctx, u.Workspace, func(tx *store.Tx) error {
			pr, err := tx.PullRequest(ctx, u.PullRequest)
			if err != nil {
				return err
			}
			unpaid, err := tx.UnpaidStatusesOf(ctx, pr.ID)
			if err != nil {
				return err
			}
			for _, status := range unpaid {
				if err := tx.Enqueue(ctx, store.AskStatus(u.Workspace, pr.ID, status.Commit)); err != nil {
					return err
				}
			}
			return tx.Enqueue(ctx, store.AskEvaluate(u.Workspace, pr.RepositoryID, pr.Number))
		})
		if err != nil {
			return err
		}
	}
	// In transactions of its own, and whatever becomes of it, the sweep goes on.
	if _, err := g.Store.ForgetDeliveries(ctx); err != nil {
		g.Log.ErrorContext(ctx, "old deliveries could not be forgotten", "error", err)
	}
	return g.Store.Outside(ctx, func(sh *store.Shared) error {
		now, err := sh.Now(ctx)
		if err != nil {
			return err
		}
		if err := sh.ForgetExpired(ctx); err != nil {
			return err
		}
		return sh.FinishJob(ctx, job.Claim, now.Truncate(SweepInterval).Add(SweepInterval))
	})
}

// StartSweeping asks for the first sweep; it keeps itself going.
func (g *Gate) StartSweeping(ctx context.Context) error {
	return g.Store.Outside(ctx, func(sh *store.Shared) error {
		return sh.Enqueue(ctx, store.AskSweep())
	})
}
