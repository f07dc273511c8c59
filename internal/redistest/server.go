package redistest

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/signedapproval/bitbucket/internal/tether"
)

// Server is a Redis of somebody's own, which they may kill, restart and flush.
type Server struct {
	dir     string
	process *tether.Process
}

// Run starts an empty server for a program that is no test, until Close.
func Run(ctx context.Context) (*Server, error) {
	dir, err := tether.Dir("sared", len("/redis.sock"))
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// Close ends the server, and removes what it had.
func (s *Server) Close() error { return errors.Join(s.Crash(), os.RemoveAll(s.dir)) }

// Crash ends the server as a crash does: connections break and everything in it is lost.
func (s *Server) Crash() error {
	if err := s.process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-s.process.Done()
	return nil
}

// Revive starts a server that crashed again, empty, at the same address.
func (s *Server) Revive(ctx context.Context) error { return s.start(ctx) }

// Signal sends a signal to the server's process, such as SIGSTOP.
func (s *Server) Signal(sig syscall.Signal) error { return s.process.Signal(sig) }

// Start starts an empty server that stops when the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Kill is Crash for tests.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.Crash(); err != nil {
		t.Fatal(err)
	}
}

// Restart is Revive for tests.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.Revive(t.Context()); err != nil {
		t.Fatal(err)
	}
}
