package main

import (
	"bufio"
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
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"golang.org/x/mod/sumdb/note"

	"github.com/signedapproval/bitbucket/internal/embeddedpg"
	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/internal/tether"
)

// bitbucketHost is the name of the simulated Bitbucket. It is no name of this machine, so that servers
// reach it through HTTP_PROXY, which is a link of each one's own.
const bitbucketHost = "bitbucket.localhost"

const database = "chaos"

// stack is everything that runs.
type stack struct {
	*journal
	top      string
	replicas []*replica
	front    *front
	sim      *simulator
	redis    *redistest.Server
	log      note.Verifiers
	closers  []func() error
	stopAll  context.CancelFunc
	running  sync.WaitGroup

	mu        sync.Mutex // guards what a restart of PostgreSQL changes
	data      string     // its folder
	postgres  *embeddedpg.Server
	socket    string    // folder of its socket; "" while it is away
	superUser string    // URL of the database
	since     time.Time // when it was last started
}

// start brings everything up. Whatever was started is stopped by stop, also after an error.
func (s *stack) start(ctx context.Context, o settings, clocks func(n uint64) func() string) (err error) {
	dir := filepath.Join(s.top, folder)
	binary, simulator, err := s.build(ctx, o)
	if err != nil {
		return err
	}
	if err := s.startPostgres(ctx); err != nil {
		return err
	}
	s.closers = append(s.closers, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.postgres == nil {
			return nil
		}
		return errors.Join(s.postgres.Stop(), os.RemoveAll(s.data))
	})
	appURL, ownerURL, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	if s.redis, err = redistest.Run(ctx); err != nil {
		return err
	}
	s.closers = append(s.closers, s.redis.Close)
	if s.front, err = newFront(ctx); err != nil {
		return err
	}
	s.closers = append(s.closers, s.front.server.Close)
	if s.sim, err = startSimulator(ctx, simulator, filepath.Join(dir, "bitbucket.log")); err != nil {
		return err
	}
	s.closers = append(s.closers, s.sim.stop)
	env, err := s.configure(ctx, binary, dir, ownerURL)
	if err != nil {
		return err
	}
	return s.startReplicas(ctx, o, binary, dir, appURL, env, clocks)
}

// build builds the server, with what the run needs in it, and the simulator.
func (s *stack) build(ctx context.Context, o settings) (server, simulator string, err error) {
	dir := filepath.Join(s.top, folder, "overlay")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return "", "", err
	}
	changed := newOverlay(dir)
	if err := changed.readable(s.top); err != nil {
		return "", "", err
	}
	if o.clock {
		if err := changed.clock(s.top); err != nil {
			return "", "", err
		}
	}
	if o.bug != nil {
		if err := changed.seed(s.top, *o.bug); err != nil {
			return "", "", err
		}
	}
	path, err := changed.write()
	if err != nil {
		return "", "", err
	}
	if server, err = buildProgram(ctx, s.top, "signedapproval", "./server", path); err != nil {
		return "", "", err
	}
	simulator, err = buildProgram(ctx, s.top, "bitbucketsim", "./server/bitbucketsim/cmd/bitbucketsim", "")
	return server, simulator, err
}

// startPostgres starts the database, on what an earlier one left.
func (s *stack) startPostgres(ctx context.Context) error {
	if s.data == "" {
		var err error
		if s.data, err = tether.Dir("sachaos", 0); err != nil {
			return err
		}
	}
	server, err := embeddedpg.Start(ctx, embeddedpg.Config{Dir: s.data})
	if err != nil {
		return err
	}
	at, err := url.Parse(server.DSN)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.postgres, s.socket, s.since = server, at.Query().Get("host"), time.Now()
	at.Path = "/" + database
	s.superUser = at.String()
	return nil
}

// postgresSince is when the database was last started.
func (s *stack) postgresSince() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since
}

// postgresAt is where the database listens.
func (s *stack) postgresAt() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == "" {
		return nil
	}
	return &net.UnixAddr{Net: "unix", Name: filepath.Join(s.socket, ".s.PGSQL.5432")}
}

// restartPostgres stops the database, in good order or at once, and starts it again.
func (s *stack) restartPostgres(ctx context.Context, crash bool, away time.Duration) error {
	s.mu.Lock()
	server := s.postgres
	s.postgres, s.socket = nil, ""
	s.mu.Unlock()
	stop := server.Stop
	if crash {
		stop = server.Crash
	}
	if err := stop(); err != nil {
		return err
	}
	pause(ctx, away)
	return s.startPostgres(context.WithoutCancel(ctx))
}

// super connects to the database as its superuser, past the links.
func (s *stack) super(ctx context.Context) (*pgx.Conn, error) {
	s.mu.Lock()
	at, away := s.superUser, s.socket == ""
	s.mu.Unlock()
	if away {
		return nil, errors.New("PostgreSQL is away")
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return pgx.Connect(ctx, at)
}

// prepare makes the database and its logins. The servers' address is left to their links.
func (s *stack) prepare(ctx context.Context) (appURL, ownerURL string, err error) {
	conn, err := pgx.Connect(ctx, s.postgres.DSN)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for _, statement := range []string{
		`create role signedapproval_app nologin nobypassrls`, `create role chaos_owner login createrole`,
		`create role chaos_app login in role signedapproval_app`, `create database ` + database + ` owner chaos_owner`,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return "", "", fmt.Errorf("prepare the database: %w", err)
		}
	}
	owner, err := url.Parse(s.superUser)
	if err != nil {
		return "", "", err
	}
	owner.User = url.User("chaos_owner")
	return "postgres://chaos_app@%s/" + database + "?sslmode=disable", owner.String(), nil
}

func (s *stack) keepClaims(ctx context.Context) error {
	conn, err := s.super(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, keepClaims)
	return errors.Join(err, conn.Close(ctx))
}

// configure migrates the database and makes the settings that all replicas share.
func (s *stack) configure(ctx context.Context, binary, dir, ownerURL string) ([]string, error) {
	run := func(env []string, args ...string) (string, string, error) {
		var announced strings.Builder
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Env, cmd.Stderr = append(os.Environ(), env...), &announced
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, announced.String())
		}
		return strings.TrimSpace(string(out)), strings.TrimSpace(announced.String()), err
	}
	if _, _, err := run([]string{"DATABASE_OWNER_URL=" + ownerURL}, "migrate"); err != nil {
		return nil, err
	}
	if err := s.keepClaims(ctx); err != nil {
		return nil, err
	}
	keyset, _, err := run(nil, "keys", "new")
	if err != nil {
		return nil, err
	}
	logKey, announced, err := run(nil, "log", "new-key", strings.TrimPrefix(s.front.origin, "http://")+"/log")
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(strings.TrimPrefix(announced, "verifier key:")))
	if err != nil {
		return nil, err
	}
	s.log = note.VerifierList(verifier)
	sink := filepath.Join(dir, "sink")
	if err := errors.Join(os.RemoveAll(sink), os.Mkdir(sink, 0o755)); err != nil {
		return nil, err
	}
	env := []string{
		"SIGNEDAPPROVAL_ORIGIN=" + s.front.origin, "SIGNEDAPPROVAL_LISTEN=127.0.0.1:0", "SIGNEDAPPROVAL_KEYSET=" + keyset,
		"SIGNEDAPPROVAL_LOG_KEY=" + logKey, "SIGNEDAPPROVAL_LOG_SINK=" + sink, "SIGNEDAPPROVAL_CALLS_PER_HOUR=100000000",
		"SIGNEDAPPROVAL_BITBUCKET_API=" + s.sim.url, "SIGNEDAPPROVAL_BITBUCKET_WEB=" + s.sim.url, "NO_PROXY=", "no_proxy=",
	}
	consumers, err := s.sim.consumers(ctx, s.front.origin)
	return append(env, consumers...), err
}

func (s *stack) startReplicas(ctx context.Context, o settings, binary, dir, appURL string, env []string, clocks func(n uint64) func() string) error {
	log, err := os.Create(filepath.Join(dir, "servers.log"))
	if err != nil {
		return err
	}
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopAll = stop
	at := func(a net.Addr) func() net.Addr { return func() net.Addr { return a } }
	for n := range o.replicas {
		r := &replica{name: fmt.Sprintf("server %d", n+1), binary: binary, log: log, journal: s.journal, clock: clocks(n)}
		for _, l := range []struct {
			into   **link
			name   string
			target func() net.Addr
		}{
			{&r.postgres, "PostgreSQL", s.postgresAt},
			{&r.redis, "Redis", at(&net.UnixAddr{Net: "unix", Name: s.redis.Addr()})},
			{&r.bitbucket, "Bitbucket", at(s.sim.addr)},
			{&r.hooks, "webhooks", r.serves},
			{&r.people, "people", r.serves},
		} {
			if *l.into, err = newLink(ctx, r.name+" - "+l.name, l.target); err != nil {
				return err
			}
			(*l.into).struck = s.struck
		}
		r.env = append(env[:len(env):len(env)], "DATABASE_URL="+fmt.Sprintf(appURL, r.postgres.addr()), "REDIS_URL=redis://"+r.redis.addr(),
			"HTTP_PROXY=http://"+r.bitbucket.addr(), "http_proxy=http://"+r.bitbucket.addr())
		s.replicas = append(s.replicas, r)
	}
	s.front.replicas = s.replicas
	for _, r := range s.replicas {
		s.running.Go(func() { r.run(alive) })
	}
	s.closers = append(s.closers, func() error {
		stop()
		var failed []error
		for _, r := range s.replicas {
			failed = append(failed, closeAll(r.links()))
		}
		s.running.Wait()
		return errors.Join(append(failed, log.Close())...)
	})
	return s.await(ctx)
}

// await waits until a server is ready.
func (s *stack) await(ctx context.Context) error {
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.front.origin+"/readyz", nil)
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
		pause(ctx, 100*time.Millisecond)
	}
	return errors.New("no server becomes ready")
}

// client is a client of Redis past the links.
func (s *stack) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.redis.Addr(), MaxRetries: -1})
}

// stop ends everything, last started first.
func (s *stack) stop() (err error) {
	for i := len(s.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closers[i]())
	}
	s.closers = nil
	return err
}

// startSimulator starts the simulated Bitbucket as a process of its own.
func startSimulator(ctx context.Context, binary, logPath string) (*simulator, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := listener.Addr()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	s := &simulator{addr: addr, url: fmt.Sprintf("http://%s:%d", bitbucketHost, addr.(*net.TCPAddr).Port)}
	reached, writer := io.Pipe()
	cmd := exec.Command(binary, "-addr", addr.String(), "-url", s.url, "-calls", "-1")
	cmd.Stdout, cmd.Stderr = writer, log
	process, err := tether.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	s.signal = process.Signal
	s.stop = func() error {
		_ = process.Signal(syscall.SIGCONT)                                // it may be frozen
		_ = process.Stop(10*time.Second, syscall.SIGTERM, syscall.SIGKILL) // however it ends, it is over
		return errors.Join(writer.Close(), log.Close())
	}
	go func() { <-process.Done(); _ = writer.Close() }()
	if _, err := bufio.NewReader(reached).ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("the simulated Bitbucket does not start, see %s: %w", logPath, err), s.stop())
	}
	return s, nil
}
