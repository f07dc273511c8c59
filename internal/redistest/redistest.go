// Package redistest gives tests a real Redis: the one that REDIS_URL names, or a redis-server of their own on a Unix
// socket, without persistence, that ends with the test binary.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/signedapproval/bitbucket/internal/tether"
)

// Client returns a client of the Redis that all tests of this binary share, closed when the test ends. It may be a
// server that others use as well (REDIS_URL): a test keeps to keys under a prefix of its own and never flushes.
func Client(t testing.TB) *redis.Client {
	t.Helper()
	return dial(t, URL(t))
}

// URL is the address of the shared Redis, as in REDIS_URL, for a process that the test starts.
func URL(t testing.TB) string {
	t.Helper()
	url, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// Addr is the address of the shared Redis for [redis.Options]: the path of a socket, or host and port. Where REDIS_URL
// holds a password, use [URL].
func Addr(t testing.TB) string {
	t.Helper()
	return parse(t, URL(t)).Addr
}

// shared starts the shared server once. Nobody stops it: it is tethered to this process. Its folder holds a socket
// only, and goes when the next test binary starts one.
var shared = sync.OnceValues(func() (string, error) {
	if url := os.Getenv("REDIS_URL"); url != "" {
		_, err := redis.ParseURL(url)
		return url, err
	}
	dir, err := tether.Dir("sared", len("/redis.sock"))
	if err != nil {
		return "", err
	}
	s := &Server{dir: dir}
	return s.URL(), s.start(context.Background())
})

// Addr is the server's address for [redis.Options], the same after a restart.
func (s *Server) Addr() string { return filepath.Join(s.dir, "redis.sock") }

// URL is the server's address for [redis.ParseURL], the same after a restart.
func (s *Server) URL() string { return "unix://" + s.Addr() }

// Client returns a client that is closed when the test ends.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	return dial(t, s.URL())
}

// Pause freezes the server: connections stay open and nothing is answered, until Resume.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	if err := s.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// Resume lets a paused server go on.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	if err := s.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) start(ctx context.Context) error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("these tests need a Redis: install redis-server (Debian and Ubuntu: apt-get install redis-server; "+
			"macOS: brew install redis), or set REDIS_URL: %w", err)
	}
	logPath := filepath.Join(s.dir, "redis.log")
	cmd := exec.Command(program, "--port", "0", "--unixsocket", s.Addr(), "--unixsocketperm", "700",
		"--save", "", "--appendonly", "no", "--dir", s.dir, "--logfile", logPath, "--daemonize", "no")
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	// A socket that a killed server left would make a dial fail in another way than one that is not there yet.
	if err := os.RemoveAll(s.Addr()); err != nil {
		return err
	}
	if s.process, err = tether.Start(cmd, syscall.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
	defer client.Close()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.process.Done():
			out, readErr := os.ReadFile(logPath)
			return errors.Join(fmt.Errorf("redis-server does not start: %w\n%s", s.process.Err(), out), readErr)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("redis-server does not answer: %w", err), s.process.Stop(0, syscall.SIGKILL))
		case <-poll.C:
		}
	}
}

func dial(t testing.TB, url string) *redis.Client {
	t.Helper()
	client := redis.NewClient(parse(t, url))
	t.Cleanup(func() {
		if err := client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			t.Error(err)
		}
	})
	return client
}

func parse(t testing.TB, url string) *redis.Options {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return options
}
