package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestFaultsOfARing plays the row of the failure matrix: one server asks for a job and rings, another one does it.
func TestFaultsOfARing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.URL(t))
	worker := w.queue(t, jobs.Options{})
	worker.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
	run(t, worker)
	played := 0
	fault.Run(t, fault.Ring, func(t *testing.T, m fault.Mishap, armed bool) fault.Outcome {
		played++
		key := fmt.Sprint("job ", played)
		wire := &fault.Wire{}
		asking, err := store.Open(t.Context(), w.database.AppURL, nil, wire.Tune)
		must(t, err)
		t.Cleanup(asking.Close)
		q := w.queueOf(t, asking, jobs.Options{})
		q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
		done := func() bool { return w.jobs(t, `state = 'DONE' and key = '`+key+`'`) == 1 }
		// It asks away from the test's goroutine, and so must not end the test.
		late := make(chan struct{})
		q.Redis.AddHook(&troubledRing{wire: wire, key: key, done: late})
		stop := run(t, q)
		asking.Ring = func(ctx context.Context, rings []store.Ring) { q.Ring(ctx, toJobs(rings)) }
		if armed {
			wire.Set(fault.Trap{On: fault.Others("ring"), Mishap: m})
		}
		must(t, asking.Outside(t.Context(), func(sh *store.Shared) error {
			return sh.Enqueue(t.Context(), store.JobSpec{Kind: "evaluate", Key: key, Workspace: workspace})
		}))
		eventually(t, "the job is done", done)
		close(late)
		eventually(t, "the ring was tried", func() bool { return !armed || wire.Fired() > 0 })
		stop()
		wire.Revive()
		// What rang late, or twice, must find nothing to do.
		eventually(t, "the streams are empty", func() bool { return w.entries(t) == 0 })
		end := fmt.Sprintf("job done; effect %d times", w.runs("evaluate", key))
		if w.runs("evaluate", key) == 1 {
			end = "job done; effect once"
		}
		return fault.Outcome{Fired: wire.Clear(), End: end}
	})
}

// troubledRing is what stands between a server and its Redis.
type troubledRing struct {
	wire *fault.Wire
	key  string
	done <-chan struct{} // closed once the job is done without its ring
}

var errNoRedis = errors.New("the connection to Redis is cut")

func (h *troubledRing) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if h.wire.Dead() {
			return nil, errNoRedis
		}
		return next(ctx, network, address)
	}
}

func (h *troubledRing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		return h.process(ctx, []redis.Cmder{command}, func(ctx context.Context) error { return next(ctx, command) })
	}
}

func (h *troubledRing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		return h.process(ctx, commands, func(ctx context.Context) error { return next(ctx, commands) })
	}
}

func (h *troubledRing) process(ctx context.Context, commands []redis.Cmder, next func(context.Context) error) error {
	if h.wire.Dead() {
		return errNoRedis
	}
	if !h.rings(commands) {
		return next(ctx)
	}
	trap, struck := h.wire.Strikes(fault.Event{Other: "ring"})
	if !struck {
		return next(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	switch trap.Mishap {
	case fault.Failed:
		return errNoRedis
	case fault.DiedBefore:
		h.wire.Kill()
		return errNoRedis
	case fault.Slow:
		select {
		case <-h.done:
		case <-time.After(patience):
		}
		return next(ctx)
	case fault.Happened, fault.DiedAfter, fault.Twice:
		if err := next(ctx); err != nil {
			return err
		}
		if trap.Mishap == fault.Twice {
			return next(ctx)
		}
		if trap.Mishap == fault.DiedAfter {
			h.wire.Kill()
		}
	}
	return errNoRedis
}

// rings tells whether the commands ring for the job.
func (h *troubledRing) rings(commands []redis.Cmder) bool {
	for _, c := range commands {
		if strings.EqualFold(c.Name(), "xadd") && strings.Contains(fmt.Sprint(c.Args()...), h.key) {
			return true
		}
	}
	return false
}
