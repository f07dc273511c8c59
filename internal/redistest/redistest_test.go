package redistest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestSharedServer(t *testing.T) {
	t.Parallel()
	client := Client(t)
	key := "redistest:" + t.Name() + ":" + time.Now().Format(time.RFC3339Nano)
	t.Cleanup(func() { _ = client.Del(context.Background(), key).Err() })
	if err := client.Set(t.Context(), key, "1", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	other := Client(t)
	if got, err := other.Get(t.Context(), key).Result(); err != nil || got != "1" {
		t.Errorf("another client of the shared server reads %q, %v; want what the first wrote", got, err)
	}
	if options, err := redis.ParseURL(URL(t)); err != nil || options.Addr != Addr(t) {
		t.Errorf("URL leads to %v (%v), Addr is %s", options, err, Addr(t))
	}
}

func TestServerIsAlone(t *testing.T) {
	t.Parallel()
	one, two := Start(t), Start(t)
	if err := one.Client(t).Set(t.Context(), "key", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := two.Client(t).Get(t.Context(), "key").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("the other server answers %v, want no such key", err)
	}
}

func TestKillLosesEverything(t *testing.T) {
	t.Parallel()
	s := Start(t)
	client := s.Client(t)
	if err := client.Set(t.Context(), "key", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill(t)
	if err := client.Get(t.Context(), "key").Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Fatalf("a killed server answers %v", err)
	}
	s.Restart(t)
	if err := client.Get(t.Context(), "key").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("after a restart the same client reads %v, want no such key", err)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := Start(t)
	client := s.Client(t)
	s.Pause(t)
	// A server that is not paused answers well within this time, and the ping succeeds.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("a paused server answered")
	}
	s.Resume(t)
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("after Resume: %v", err)
	}
}
