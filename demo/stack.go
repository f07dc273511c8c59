package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/embeddedpg"
	"github.com/signedapproval/bitbucket/internal/tether"
	"github.com/signedapproval/bitbucket/internal/witnesstest"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// stack is everything that runs: PostgreSQL, Redis, a simulated Bitbucket, and the server as the
// binary that an operator would run.
type stack struct {
	binary  string
	log     string // file
	witness string // verifier key of the log's witness
	port    int
	origin  string // of the server
	sim     *bitbucketsim.Sim
	closers []func() error
	server  *tether.Process
	env     []string
}

// ports are the first ones to try for each face; 0 is any free one.
type ports struct{ server, bitbucket int }

// usual are the ports that the demo tries first.
var usual = ports{server: 8080, bitbucket: 8180}

// start brings the stack up. Whatever was started is stopped by stop, also after an error.
func start(ctx context.Context, dir string, first ports) (*stack, error) {
	s := &stack{}
	err := s.start(ctx, dir, first)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *stack) start(ctx context.Context, dir string, first ports) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s.binary = filepath.Join(dir, "signedapproval")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "github.com/signedapproval/bitbucket/server").CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	appURL, ownerURL, err := s.postgres(ctx)
	if err != nil {
		return err
	}
	redisURL, err := s.redis()
	if err != nil {
		return err
	}
	if s.port, err = freePort(ctx, first.server); err != nil {
		return err
	}
	s.origin = fmt.Sprintf("http://localhost:%d", s.port)
	if err := s.bitbucket(ctx, first.bitbucket); err != nil {
		return err
	}
	if err := s.deployApp(dir); err != nil {
		return err
	}
	if err := s.command(ctx, append(os.Environ(), "DATABASE_OWNER_URL="+ownerURL), io.Discard, "migrate").Run(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	keyset, err := exec.CommandContext(ctx, s.binary, "keys", "new").Output()
	if err != nil {
		return fmt.Errorf("make a keyset: %w", err)
	}
	var announced strings.Builder
	newKey := exec.CommandContext(ctx, s.binary, "log", "new-key", strings.TrimPrefix(s.origin, "http://")+"/log")
	newKey.Stderr = &announced
	logKey, err := newKey.Output()
	if err != nil {
		return fmt.Errorf("make a log key: %w", err)
	}
	attestationKey, err := exec.CommandContext(ctx, s.binary, "attestation", "new-key").Output()
	if err != nil {
		return fmt.Errorf("make an attestation key: %w", err)
	}
	if err := s.watch(ctx, strings.TrimSpace(strings.TrimPrefix(announced.String(), "verifier key:"))); err != nil {
		return fmt.Errorf("start a witness: %w", err)
	}
	sink := filepath.Join(dir, "log")
	// The sink of an earlier demo is of another log.
	if err := os.RemoveAll(sink); err != nil {
		return err
	}
	if err := os.Mkdir(sink, 0o755); err != nil {
		return err
	}
	if sink, err = filepath.Abs(sink); err != nil {
		return err
	}
	s.env = append(s.env,
		"SIGNEDAPPROVAL_LOG_KEY="+strings.TrimSpace(string(logKey)), "SIGNEDAPPROVAL_LOG_SINK="+sink,
		"SIGNEDAPPROVAL_ATTESTATION_KEY="+strings.TrimSpace(string(attestationKey)),
		"SIGNEDAPPROVAL_ORIGIN="+s.origin, fmt.Sprintf("SIGNEDAPPROVAL_LISTEN=127.0.0.1:%d", s.port),
		"DATABASE_URL="+appURL, "REDIS_URL="+redisURL, "SIGNEDAPPROVAL_KEYSET="+strings.TrimSpace(string(keyset)),
		"SIGNEDAPPROVAL_BITBUCKET_API="+s.sim.URL(), "SIGNEDAPPROVAL_BITBUCKET_WEB="+s.sim.URL(),
	)
	s.log = filepath.Join(dir, "server.log")
	if err := os.Remove(s.log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.closers = append(s.closers, s.stopServer)
	return s.serve(ctx)
}

// watch starts a witness of the log: in life somebody else's program, on somebody else's machine.
func (s *stack) watch(ctx context.Context, logKey string) error {
	w, err := witnesstest.New("witness.demo")
	if err != nil {
		return err
	}
	if err := w.Follow(logKey); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // ends by Close, and says so
	s.closers = append(s.closers, server.Close)
	s.witness = w.Key()
	s.env = append(s.env, "SIGNEDAPPROVAL_LOG_WITNESSES="+w.Key()+" http://"+listener.Addr().String(), "SIGNEDAPPROVAL_LOG_WITNESS_QUORUM=1")
	return nil
}

// postgres starts a private server, or uses the one that DATABASE_URL names, and makes a database
// with the two logins that an operator would make.
func (s *stack) postgres(ctx context.Context) (appURL, ownerURL string, err error) {
	super := os.Getenv("DATABASE_URL")
	if super == "" {
		server, err := embeddedpg.Start(ctx, embeddedpg.Config{})
		if err != nil {
			return "", "", err
		}
		s.closers = append(s.closers, server.Stop)
		super = server.DSN
	}
	conn, err := pgx.Connect(ctx, super)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	name := "signedapproval_demo_" + strconv.Itoa(os.Getpid())
	app, owner := name+"_app", name+"_owner"
	for _, statement := range []string{
		`do $$ begin create role signedapproval_app nologin nobypassrls; exception when duplicate_object then null; end $$`,
		`create role ` + owner + ` login createrole`,
		`create role ` + app + ` login in role signedapproval_app`,
		`create database ` + name + ` owner ` + owner,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return "", "", fmt.Errorf("prepare the database: %w", err)
		}
	}
	as := func(role string) string {
		u, err := url.Parse(super)
		if err != nil {
			return ""
		}
		u.User, u.Path = url.User(role), "/"+name
		return u.String()
	}
	return as(app), as(owner), nil
}

// redis runs in this process. Its clock stands still unless somebody moves it.
func (s *stack) redis() (string, error) {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return "", err
	}
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				m.FastForward(100 * time.Millisecond)
			}
		}
	}()
	s.closers = append(s.closers, func() error { close(done); m.Close(); return nil })
	return "redis://" + m.Addr(), nil
}

// bitbucket starts the simulated Bitbucket with a small world and the two consumers.
func (s *stack) bitbucket(ctx context.Context, first int) error {
	s.sim = bitbucketsim.New(bitbucketsim.Options{})
	port, err := freePort(ctx, first)
	if err != nil {
		return err
	}
	if err := s.sim.Start(fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		return err
	}
	s.closers = append(s.closers, s.sim.Close)
	if err := s.sim.AddExample(); err != nil {
		return err
	}
	for key, consumer := range map[string]bitbucketsim.Consumer{
		"CONNECT": {Name: "SignedApproval", Callback: s.origin + "/connect/callback", Scopes: []string{"account", "pullrequest:write", "repository:admin", "webhook"}},
		"SIGN_IN": {Name: "SignedApproval sign-in", Callback: s.origin + "/auth/callback", Scopes: []string{"account", "email"}},
	} {
		made, err := s.sim.AddConsumer(consumer)
		if err != nil {
			return err
		}
		s.env = append(s.env, "SIGNEDAPPROVAL_"+key+"_KEY="+made.Key, "SIGNEDAPPROVAL_"+key+"_SECRET="+made.Secret)
	}
	return nil
}

func (s *stack) command(ctx context.Context, env []string, out io.Writer, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, os.Stderr
	return cmd
}

// serve starts the server and waits until it is ready. Its log goes to a file.
func (s *stack) serve(ctx context.Context) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.binary, "serve")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), s.env...)
	if s.server, err = tether.Start(cmd, syscall.SIGTERM); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.origin+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			tail, _ := os.ReadFile(s.log)
			return fmt.Errorf("the server did not become ready:\n%s", last(tail, 4000))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func last(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// stopServer ends the server; the rest goes on. Calling it again does nothing.
func (s *stack) stopServer() error {
	if s.server == nil {
		return nil
	}
	server := s.server
	s.server = nil
	return server.Stop(20*time.Second, syscall.SIGTERM, syscall.SIGKILL)
}

// stop ends everything, last started first.
func (s *stack) stop() (err error) {
	for i := len(s.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closers[i]())
	}
	s.closers = nil
	return err
}

// freePort finds the first port from first on that nobody listens on; any where first is 0.
func freePort(ctx context.Context, first int) (int, error) {
	for port := first; port < first+100; port++ {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return listener.Addr().(*net.TCPAddr).Port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free", first, first+99)
}
