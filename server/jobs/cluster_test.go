package jobs_test

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/signedapproval/bitbucket/internal/tether"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// cluster starts a Redis Cluster of one node, which refuses a command over several slots as any
// cluster does.
func cluster(t *testing.T) (url string) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	must(t, err)
	dir := t.TempDir()
	for try := 0; ; try++ {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		port := listener.Addr().(*net.TCPAddr).Port
		bus, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		busPort := bus.Addr().(*net.TCPAddr).Port
		must(t, listener.Close())
		must(t, bus.Close())
		cmd := exec.Command(program, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes",
			"--cluster-port", strconv.Itoa(busPort), "--cluster-config-file", "nodes.conf", "--save", "", "--appendonly", "no",
			"--dir", dir, "--logfile", filepath.Join(dir, "redis.log"))
		server, err := tether.Start(cmd, syscall.SIGKILL)
		must(t, err)
		client := redis.NewClient(&redis.Options{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), MaxRetries: -1})
		defer client.Close()
		answers := false
		eventually(t, "the node answers or has ended", func() bool {
			select {
			case <-server.Done(): // another process took a port meanwhile
				return true
			default:
			}
			answers = client.Ping(t.Context()).Err() == nil
			return answers
		})
		if !answers {
			if try == 5 {
				t.Fatalf("the node does not start: %v", server.Err())
			}
			continue
		}
		t.Cleanup(func() {
			must(t, server.Signal(syscall.SIGKILL))
			<-server.Done()
		})
		must(t, client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
		eventually(t, "the cluster has all slots", func() bool {
			err := client.Set(t.Context(), "probe", "1", 0).Err()
			return err == nil
		})
		return "redis+cluster://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
}

func flush(ctx context.Context, node *redis.Client) error { return node.FlushAll(ctx).Err() }

func TestCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster(t))
	q := w.queue(t, jobs.Options{})
	q.Handle("evaluate", jobs.HandlerOptions{}, w.finish)
	q.Handle("reconcile", jobs.HandlerOptions{Background: true}, w.finish)
	w.rung(q)
	stop := run(t, q)
	w.enqueueMany(t, "evaluate", 40)
	w.enqueueMany(t, "reconcile", 10)
	eventually(t, "all jobs are done", w.allDone(t))
	eventually(t, "the streams are empty", func() bool { return w.entries(t) == 0 })
	eventually(t, "rings go through Redis", func() bool {
		w.enqueue(t, store.JobSpec{Kind: "evaluate", Key: "again"})
		return q.Stats().Rung > 0
	})
	same(t, "Down", q.Stats().Down, false)
	must(t, w.client(t).(*redis.ClusterClient).ForEachMaster(t.Context(), flush))
	w.enqueueMany(t, "evaluate", 40)
	eventually(t, "all jobs are done after a flush", w.allDone(t))
	stop()

	b := budget(t, w.redisURL, 400, known())
	taken, _ := takeAll(t, b, jobs.Urgent)
	if taken < 100 || taken > 105 {
		t.Errorf("taken = %d, want 100", taken)
	}
	must(t, b.Pause(t.Context(), token, time.Now().Add(time.Minute)))

	here, there := bell(t, w.redisURL, "p"), bell(t, w.redisURL, "p")
	theirs, cancel := there.Subscribe("pr:1")
	defer cancel()
	here.Publish(t.Context(), []string{"pr:1"})
	awake(t, "a watcher in another replica", theirs)
}
