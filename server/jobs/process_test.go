package jobs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/internal/tether"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestMain is also the worker of the tests with processes.
func TestMain(m *testing.M) {
	if os.Getenv("JOBS_TEST_WORKER") != "" {
		if err := worker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// worker is a server as far as jobs go: it works until SIGTERM.
func worker() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := store.Open(ctx, os.Getenv("JOBS_TEST_DATABASE"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	client, err := jobs.Connect(os.Getenv("JOBS_TEST_REDIS"))
	if err != nil {
		return err
	}
	defer client.Close()
	q := jobs.New(jobs.Options{
		Redis: client, Ledger: ledger(s), Prefix: os.Getenv("JOBS_TEST_PREFIX"), Concurrency: 4, Reserve: 4,
		Sweep: 200 * time.Millisecond, MinIdle: time.Second, Block: 200 * time.Millisecond,
	})
	s.Ring = func(ctx context.Context, rings []store.Ring) { q.Ring(ctx, toJobs(rings)) }
	// The effect is a leaf, written with the finish: the log has no opinion on how often a leaf comes.
	effect := func(ctx context.Context, job jobs.Job, follow ...store.JobSpec) error {
		entry := []byte(job.Kind + " " + job.Key)
		return s.Outside(ctx, func(sh *store.Shared) error {
			sh.AppendLeaf(workspace, sha256.Sum256(entry), entry, "", 0)
			if err := sh.Enqueue(ctx, follow...); err != nil {
				return err
			}
			return sh.FinishJob(ctx, store.Claim(job.Claim), time.Time{})
		})
	}
	lease, err := time.ParseDuration(os.Getenv("JOBS_TEST_LEASE"))
	if err != nil {
		return err
	}
	options := jobs.HandlerOptions{Lease: lease, MaxAttempts: 100} // a busy machine may let leases end, too
	q.Handle("evaluate", options, func(ctx context.Context, job jobs.Job) error {
		return effect(ctx, job, store.JobSpec{Kind: "status", Key: job.Key, Workspace: workspace})
	})
	q.Handle("status", options, func(ctx context.Context, job jobs.Job) error { return effect(ctx, job) })
	q.Handle("poison", jobs.HandlerOptions{Lease: lease, MaxAttempts: 4}, func(context.Context, jobs.Job) error {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})
	return q.Run(ctx)
}

// replica is a worker process.
type replica struct {
	*tether.Process
	output bytes.Buffer
}

// replica starts a worker. Its lease is what a kill costs.
func (w *world) replica(t *testing.T, lease time.Duration) *replica {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	r := &replica{}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "JOBS_TEST_WORKER=1", "JOBS_TEST_DATABASE="+w.database.AppURL,
		"JOBS_TEST_REDIS="+w.redisURL, "JOBS_TEST_PREFIX="+w.prefix, "JOBS_TEST_LEASE="+lease.String())
	cmd.Stdout, cmd.Stderr = &r.output, &r.output
	r.Process, err = tether.Start(cmd, syscall.SIGKILL)
	must(t, err)
	t.Cleanup(func() {
		must(t, r.Signal(syscall.SIGKILL))
		<-r.Done()
		if t.Failed() {
			t.Logf("worker %d:\n%s", r.PID(), r.output.String())
		}
	})
	return r
}

func (w *world) leaves(t *testing.T) int {
	t.Helper()
	var n int
	w.read(t, &n, `select count(*)::integer from signedapproval_leaves`)
	return n
}

// doneOnce fails unless every job had exactly one effect.
func (w *world) doneOnce(t *testing.T, want int) {
	t.Helper()
	var effects, distinct, size int
	w.read(t, &effects, `select count(*)::integer from signedapproval_leaves`)
	w.read(t, &distinct, `select count(distinct entry)::integer from signedapproval_leaves`)
	w.read(t, &size, `select size::integer from signedapproval_log_head`)
	same(t, "effects", effects, want)
	same(t, "different effects", distinct, want)
	same(t, "size of the log", size, want)
}

// TestProcessesAreKilled: three processes work, and are killed one after the other in the middle of
// it. Every job is done once.
func TestProcessesAreKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.Start(t).URL())
	replicas := []*replica{w.replica(t, 3*time.Second), w.replica(t, 3*time.Second), w.replica(t, 3*time.Second)}
	const n = 600
	w.enqueueMany(t, "evaluate", n)
	for i, victim := range replicas {
		// Each has an effect behind it and work before it when it dies.
		eventually(t, "the work has come some way", func() bool { return w.leaves(t) >= (i+1)*n/5 })
		must(t, victim.Signal(syscall.SIGKILL))
		<-victim.Done()
		w.replica(t, 3*time.Second)
	}
	eventually(t, "all jobs are done", w.allDone(t))
	w.doneOnce(t, 2*n)
}

// TestProcessesLoseRedis: as above, with Redis killed and its successor flushed.
func TestProcessesLoseRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	w := newWorld(t, server.URL())
	for range 3 {
		w.replica(t, 3*time.Second)
	}
	const n = 300
	w.enqueueMany(t, "evaluate", n)
	eventually(t, "the work has begun", func() bool { return w.leaves(t) >= n/10 })
	server.Kill(t)
	eventually(t, "the work goes on without Redis", func() bool { return w.leaves(t) >= n/3 })
	server.Restart(t)
	eventually(t, "the work goes on", func() bool { return w.leaves(t) >= n })
	must(t, server.Client(t).FlushAll(t.Context()).Err())
	eventually(t, "all jobs are done", w.allDone(t))
	w.doneOnce(t, 2*n)
}

// TestProcessesStopInGoodOrder: a rolling restart costs no attempt and no lease.
func TestProcessesStopInGoodOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.Start(t).URL())
	replicas := []*replica{w.replica(t, time.Minute), w.replica(t, time.Minute), w.replica(t, time.Minute)}
	const n = 300
	w.enqueueMany(t, "evaluate", n)
	for i, leaving := range replicas {
		eventually(t, "the work has come some way", func() bool { return w.leaves(t) >= (i+1)*n/5 })
		w.replica(t, time.Minute)
		must(t, leaving.Signal(syscall.SIGTERM))
		if err := leaving.Err(); err != nil {
			t.Errorf("a worker that was asked to stop: %v", err)
		}
	}
	eventually(t, "all jobs are done", w.allDone(t))
	w.doneOnce(t, 2*n)
	same(t, "claims beyond the first", w.jobs(t, `fence > seq`), 0)
}

// TestPoisonKillsNoMoreThanItMay: a job that takes its process down each time ends among the dead,
// and the other jobs are done.
func TestPoisonKillsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redistest.Start(t).URL())
	const n = 100
	w.enqueueMany(t, "evaluate", n)
	w.enqueue(t, store.JobSpec{Kind: "poison", Key: "1"})
	running := []*replica{w.replica(t, 2*time.Second), w.replica(t, 2*time.Second)}
	deaths := 0
	eventually(t, "the poison is dead and the rest done", func() bool {
		for i, r := range running {
			select {
			case <-r.Done():
				deaths++
				running[i] = w.replica(t, 2*time.Second)
			default:
			}
		}
		return w.jobs(t, `kind = 'poison' and state = 'DEAD'`) == 1 && w.jobs(t, `kind <> 'poison' and state <> 'DONE'`) == 0
	})
	same(t, "processes that it took down", deaths, 4)
	same(t, "attempts", w.jobs(t, `kind = 'poison' and attempt = 4`), 1)
	w.doneOnce(t, 2*n)
}
