package jobs_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/server/jobs"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// bell makes one replica's bell, connected.
func bell(t *testing.T, url, prefix string) *jobs.Bell {
	t.Helper()
	client, err := jobs.Connect(url)
	must(t, err)
	b := jobs.NewBell(client, prefix, quiet())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	// The connection itself wakes every watcher: that is how we know of it.
	wake, stop := b.Subscribe("connected")
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
		_ = client.Close()
	})
	awake(t, "the bell is connected", wake)
	stop()
	return b
}

func awake(t *testing.T, what string, wake <-chan struct{}) {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
		t.Fatalf("never woken: %s", what)
	}
}

func asleep(t *testing.T, what string, wake <-chan struct{}) {
	t.Helper()
	select {
	case <-wake:
		t.Errorf("woken: %s", what)
	default:
	}
}

func TestBellReachesEveryReplica(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"redis": redistest.URL(t), "miniredis": "redis://" + miniredis.RunT(t).Addr()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := t.Name()
			here, there := bell(t, url, prefix), bell(t, url, prefix)
			foreign := bell(t, url, prefix+"-other")
			mine, cancelMine := here.Subscribe("pr:1")
			defer cancelMine()
			theirs, cancelTheirs := there.Subscribe("pr:1")
			defer cancelTheirs()
			second, cancelSecond := there.Subscribe("pr:1")
			defer cancelSecond()
			other, cancelOther := there.Subscribe("pr:2")
			defer cancelOther()
			strange, cancelStrange := foreign.Subscribe("pr:1")
			defer cancelStrange()

			here.Publish(t.Context(), []string{"pr:1", "inbox:1"})
			awake(t, "a watcher in the same process", mine)
			awake(t, "a watcher in another", theirs)
			awake(t, "the second watcher there", second)
			asleep(t, "the watcher of another topic", other)
			there.Publish(t.Context(), []string{"pr:2"})
			awake(t, "the watcher of the other topic", other)
			asleep(t, "a watcher of another prefix", strange)
		})
	}
}

// TestBellCoalesces: however often a topic is published, nothing waits and one wake-up is kept.
func TestBellCoalesces(t *testing.T) {
	t.Parallel()
	here := bell(t, redistest.URL(t), t.Name())
	there := bell(t, redistest.URL(t), t.Name())
	lazy, cancel := there.Subscribe("pr:1")
	defer cancel()
	marker, stop := there.Subscribe("marker")
	defer stop()
	var publishers sync.WaitGroup
	for range 8 {
		publishers.Go(func() {
			for n := range 200 {
				here.Publish(t.Context(), []string{"pr:1", fmt.Sprint("pr:", n)})
			}
		})
	}
	publishers.Wait()
	here.Publish(t.Context(), []string{"marker"})
	awake(t, "everything before the marker has arrived", marker)
	awake(t, "the lazy watcher", lazy)
	asleep(t, "the lazy watcher a second time", lazy)
}

func TestBellCancel(t *testing.T) {
	t.Parallel()
	b := jobs.NewBell(nil, "p", quiet())
	gone, cancel := b.Subscribe("pr:1")
	stays, cancelStays := b.Subscribe("pr:1")
	defer cancelStays()
	cancel()
	cancel()
	b.Publish(t.Context(), []string{"pr:1"})
	awake(t, "the one that stays", stays)
	asleep(t, "the one that left", gone)
}

// TestBellWithoutRedis: watchers of the same process are woken, and when Redis is back everybody is.
func TestBellWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	here, there := bell(t, server.URL(), "p"), bell(t, server.URL(), "p")
	mine, cancelMine := here.Subscribe("pr:1")
	defer cancelMine()
	theirs, cancelTheirs := there.Subscribe("pr:1")
	defer cancelTheirs()
	server.Kill(t)
	here.Publish(t.Context(), []string{"pr:1"})
	awake(t, "a watcher in the same process", mine)
	asleep(t, "a watcher in another", theirs)
	server.Restart(t)
	awake(t, "a watcher in the same process, when Redis is back", mine)
	awake(t, "a watcher in another, when Redis is back", theirs)
	here.Publish(t.Context(), []string{"pr:1"})
	awake(t, "a watcher in another", theirs)
}
