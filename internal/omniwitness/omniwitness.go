// Package omniwitness runs OmniWitness, the program behind the witnesses of transparency.dev, for tests: somebody else's
// implementation of C2SP tlog-witness, unchanged. tools/witness pins its version; the go command builds it once.
package omniwitness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/tether"
)

// patience is how long the program may take to be built or to listen.
const patience = 10 * time.Minute

// Server is a running OmniWitness. It ends with the test.
type Server struct {
	args    []string
	address string
	process *tether.Process
}

// Start starts one that signs with a private key in the encoding of signed notes, and follows the log that has this
// verifier key. What it has seen it keeps in a database of its own.
func Start(t testing.TB, privateKey, log string) *Server {
	t.Helper()
	dir := t.TempDir()
	key, logs := filepath.Join(dir, "key"), filepath.Join(dir, "logs.yaml")
	origin, _, _ := strings.Cut(log, "+")
	for file, text := range map[string]string{
		key:  privateKey,
		logs: fmt.Sprintf("Logs:\n  - Origin: %q\n    PublicKey: %q\n", origin, log),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// It cannot be told to take any port that is free, and to say which.
	var listen net.ListenConfig
	free, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{address: free.Addr().String()}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	s.args = []string{
		"--listen=" + s.address, "--metrics_listen=", "--private_key_path=" + key, "--additional_logs=" + logs,
		"--db_file=" + filepath.Join(dir, "seen.db"),
	}
	s.start(t)
	t.Cleanup(func() { s.stop(t) })
	return s
}

// URL is the prefix of its addresses.
func (s *Server) URL() string { return "http://" + s.address }

// Restart kills it and starts it again: it knows what it had seen.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.stop(t)
	s.start(t)
}

func (s *Server) stop(t testing.TB) {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](s.process.Stop(0, syscall.SIGKILL)); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("OmniWitness had ended before: %v", s.process.Err())
	}
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd := exec.Command(program(ctx, t), s.args...)
	cmd.Stdout, cmd.Stderr = said, said
	if s.process, err = tether.Start(cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		dialer := net.Dialer{Timeout: time.Second}
		connection, err := dialer.DialContext(ctx, "tcp", s.address)
		if err == nil {
			_ = connection.Close()
			return
		}
		select {
		case <-s.process.Done():
			text, _ := os.ReadFile(said.Name())
			t.Fatalf("OmniWitness does not start: %v\n%s", s.process.Err(), text)
		case <-ctx.Done():
			t.Fatalf("OmniWitness does not listen: %v", err)
		case <-poll.C:
		}
	}
}

// program is the path of the program, in the cache of the go command.
func program(ctx context.Context, t testing.TB) string {
	t.Helper()
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f={{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "-n", "omniwitness")
	cmd.Dir = filepath.Join(strings.TrimSpace(string(module)), "tools", "witness")
	var said strings.Builder
	cmd.Stderr = &said
	path, err := cmd.Output()
	if err != nil {
		t.Fatalf("OmniWitness cannot be built: %v\n%s", err, said.String())
	}
	return strings.TrimSpace(string(path))
}
