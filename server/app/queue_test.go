package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// TestWhatActsOutsideIsSeatedOnPurpose: a job that is seated may begin before what it was asked for with is durable. What mails,
// spends tokens or keeps webhooks would tell the world what a crash of PostgreSQL takes back. Of those that are seated
// two write to Bitbucket: a status makes durable what it reads, and a merge that it calls.
func TestWhatActsOutsideIsSeatedOnPurpose(t *testing.T) {
	t.Parallel()
	redis, err := jobs.Connect(redistest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	s := &Server{}
	s.queue = jobs.New(jobs.Options{Redis: redis, Prefix: "kinds-" + uuid.NewString(), Log: slog.New(slog.DiscardHandler), Ledger: jobs.Ledger{
		Claim: func(context.Context, int64, string, time.Duration) (jobs.Job, bool, error) {
			return jobs.Job{}, false, nil
		},
		Retry:  func(context.Context, jobs.Claim, string, time.Duration, bool, int) (bool, error) { return false, nil },
		Extend: func(context.Context, jobs.Claim, time.Duration) error { return nil },
		Due:    func(context.Context, int64, int) ([]jobs.Ring, time.Duration, error) { return nil, time.Hour, nil },
		Defer:  func(context.Context, []int64) error { return nil },
		Epoch:  func(context.Context) (int64, error) { return 1, nil }, NextEpoch: func(context.Context, int64, int64) (int64, error) { return 1, nil },
		LeaseLost: errors.New("lost"), LeftBehind: "left behind",
	}})
	s.handleJobs()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.queue.Run(ctx) }()
	seated := func(kind string) bool {
		_, fill, ok := s.queue.Seat(kind, "")
		if ok {
			fill(nil)
		}
		return ok
	}
	for deadline := time.Now().Add(time.Minute); !seated(store.KindEvaluate); {
		if time.Now().After(deadline) {
			t.Fatal("the queue has no seats")
		}
	}
	want := map[string]bool{
		store.KindEvaluate: true, store.KindStatus: true, store.KindStatusSeen: true, store.KindBuilds: true, store.KindMerge: true, store.KindFan: true,
		store.KindReconcile: false, store.KindNotify: false, store.KindSweep: false, store.KindRoster: false, store.KindFallen: false, store.KindDoctor: false,
		workspace.KindRefresh: false,
	}
	for _, kind := range slices.Sorted(maps.Keys(want)) {
		if is := seated(kind); is != want[kind] {
			t.Errorf("%s is seated: %v", kind, is)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
