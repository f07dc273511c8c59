// Package embeddedpg runs a private PostgreSQL for the demo, for development and for tests. It listens on a Unix socket
// only, never runs as root, keeps nothing unless asked to, and ends with the process that started it. It is no way to
// run a database that matters: the binaries that it finds first are a build without security updates.
package embeddedpg

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/tether"
)

// Config says what kind of server to start. Its zero value is a server that is forgotten when it stops.
type Config struct {
	// Dir keeps the databases from one start to the next; it is created if missing and must serve nothing else. Started
	// as root, the server runs under another account; where that account cannot enter Dir, the databases are kept in
	// a folder below /var/tmp that belongs to Dir. Empty: they are removed by Stop.
	Dir string
	// Unsafe gives up outliving a crash of the machine for speed: for tests only. What is not kept in Dir then lies in
	// memory, where the system has room for it (see memory). That costs no more with fsync and synchronous commit than
	// without, so PostgreSQL promises what the product demands of it; only full page writes are off.
	Unsafe bool
	// Installed wants the PostgreSQL of the system, which comes with pg_dump and the like, and not the one from npm.
	Installed bool
}

// Server is a running PostgreSQL with the superuser postgres and the database postgres.
type Server struct {
	// DSN is the URL of the database postgres, as superuser, without password: whoever may enter the socket's folder
	// (this account and root) is let in.
	DSN string

	process *tether.Process
	clear   func() error // removes what is not kept
	stop    func() error
}

// Start makes a database cluster where there is none yet, starts a server on it and returns when it answers. ctx bounds
// the start, not the life of the server. The error says how to get PostgreSQL if none is found, and holds the end of
// the server's log if it does not start.
func Start(ctx context.Context, config Config) (*Server, error) {
	binaries, err := locate(config.Installed)
	if err != nil {
		return nil, err
	}
	return start(ctx, binaries, config)
}

func start(ctx context.Context, binaries installation, config Config) (_ *Server, err error) {
	owner, err := unprivileged()
	if err != nil {
		return nil, err
	}
	run, err := tether.Dir("sapg", len("/.s.PGSQL.5432"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(run))
		}
	}()
	if err := own(run, owner); err != nil {
		return nil, err
	}
	bin, err := binaries.prepare(filepath.Join(run, "pgsql"))
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL of %s: %w", binaries.root, err)
	}
	c := cluster{bin: bin, owner: owner, run: run, home: run, fleeting: []string{run}, unsafe: config.Unsafe}
	if parent := memory(); config.Dir != "" {
		if c.home, err = keptDir(config.Dir, owner); err != nil {
			return nil, err
		}
	} else if config.Unsafe && parent != "" {
		// Only the data: programs may not run there.
		if c.home, err = tether.DirIn(parent, "sapg"); err != nil {
			return nil, err
		}
		c.fleeting = append(c.fleeting, c.home)
		defer func() {
			if err != nil {
				err = errors.Join(err, os.RemoveAll(c.home))
			}
		}()
		if err := own(c.home, owner); err != nil {
			return nil, err
		}
	}
	if err := c.init(ctx); err != nil {
		return nil, err
	}
	return c.serve(ctx)
}

// cluster is what one start has settled: which binaries work on which folders under which account.
type cluster struct {
	bin   string
	owner *syscall.Credential // nil: this process's own account
	run   string              // the socket
	home  string              // data and log; run itself unless kept or in memory
	// fleeting is removed when the server stops.
	fleeting []string
	unsafe   bool
}

// clear removes what is not kept.
func (c cluster) clear() error {
	var err error
	for _, dir := range c.fleeting {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

func (c cluster) data() string { return filepath.Join(c.home, "data") }
func (c cluster) log() string  { return filepath.Join(c.home, "postgres.log") }

func (c cluster) prepare(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = c.run
	cmd.Env = []string{"TZ=UTC", "PATH=/usr/bin:/bin"} // none of our secrets
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner}
	return cmd
}

// init makes the cluster beside its place and moves it there when complete, so that a start that was cut short leaves
// nothing that looks like a cluster.
func (c cluster) init(ctx context.Context) error {
	if _, err := os.Stat(c.data()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made, err := os.MkdirTemp(c.home, "initdb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	if err := own(made, c.owner); err != nil {
		return err
	}
	args := []string{"-D", made, "-U", "postgres", "-A", "trust", "-E", "UTF8"}
	if runtime.GOOS == "darwin" { // has no C.UTF-8
		args = append(args, "--locale=C", "--lc-ctype=UTF-8")
	} else {
		args = append(args, "--locale=C.UTF-8")
	}
	if c.unsafe {
		args = append(args, "--no-sync")
	}
	cmd := c.prepare(exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"), args...))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, tail(out))
	}
	if err := os.Rename(made, c.data()); err != nil && !errors.Is(err, fs.ErrExist) { // another start was first
		return err
	}
	return nil
}

func (c cluster) serve(ctx context.Context) (*Server, error) {
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the server has its own handle
	args := []string{
		"-D", c.data(), "-k", c.run,
		// Trusting everybody is safe as long as nobody else can get here.
		"-c", "listen_addresses=", "-c", "unix_socket_permissions=0700",
		// Several server processes with a pool each, and tests in parallel.
		"-c", "max_connections=600",
		// Checkers of what happened in what order ask when a transaction was committed.
		"-c", "track_commit_timestamp=on",
	}
	if c.unsafe {
		args = append(args, "-c", "full_page_writes=off")
	}
	cmd := c.prepare(exec.Command(filepath.Join(c.bin, "postgres"), args...))
	cmd.Stdout, cmd.Stderr = log, log
	// SIGINT is PostgreSQL's fast shutdown: sessions are ended, a checkpoint is written.
	process, err := tether.Start(cmd, syscall.SIGINT)
	if err != nil {
		return nil, err
	}
	dsn := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres", RawQuery: url.Values{"host": {c.run}}.Encode()}
	s := &Server{DSN: dsn.String(), process: process, clear: c.clear}
	s.stop = sync.OnceValue(func() error {
		// Never SIGKILL: it would leave the server's children and shared memory behind. SIGQUIT ends it at once.
		return errors.Join(process.Stop(10*time.Second, syscall.SIGINT, syscall.SIGQUIT), c.clear())
	})
	if err := c.await(ctx, s); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// await returns when the server answers.
func (c cluster) await(ctx context.Context, s *Server) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		// On a kept folder another server may be running: its answer must not be taken for ours.
		if c.ownedBy(s.process.PID()) {
			conn, err := pgx.Connect(ctx, s.DSN)
			if err == nil {
				return conn.Close(ctx)
			}
		}
		select {
		case <-s.process.Done():
			out, err := os.ReadFile(c.log())
			return errors.Join(fmt.Errorf("PostgreSQL does not start:\n%s", tail(out)), err)
		case <-ctx.Done():
			return fmt.Errorf("waiting for PostgreSQL: %w", ctx.Err())
		case <-poll.C:
		}
	}
}

// ownedBy reads the first line of postmaster.pid, the process that serves this folder.
func (c cluster) ownedBy(pid int) bool {
	content, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	line, _, _ := strings.Cut(string(content), "\n")
	return err == nil && line == strconv.Itoa(pid)
}

// Stop ends open sessions, stops the server and removes what is not kept. Calling it again does nothing. An error means
// that the server did not end well or that something could not be removed.
func (s *Server) Stop() error { return s.stop() }

// Crash ends the server at once, as a power failure would: sessions break and nothing is written any more. What is kept
// (Config.Dir) is recovered by the next start. Stop must not be called any more.
func (s *Server) Crash() error {
	if err := s.process.Signal(syscall.SIGQUIT); err != nil {
		return err
	}
	<-s.process.Done()
	return s.clear()
}

// tail is the end of a program's output, as much as belongs in an error.
func tail(out []byte) []byte {
	const most = 2000
	out = bytes.TrimSpace(out)
	return out[max(0, len(out)-most):]
}

// keptDir is dir, or its stand-in where owner cannot enter dir.
func keptDir(dir string, owner *syscall.Credential) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if owner == nil {
		return dir, nil
	}
	enter := exec.Command("/bin/sh", "-c", `cd "$0"`, filepath.Dir(dir))
	enter.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	if enter.Run() == nil {
		return dir, own(dir, owner)
	}
	standIn := filepath.Join("/var/tmp", fmt.Sprintf("signedapproval-pg-%x", sha256.Sum256([]byte(dir)))[:34])
	switch err := os.Mkdir(standIn, 0o700); {
	case err == nil:
		return standIn, own(standIn, owner)
	case !errors.Is(err, fs.ErrExist):
		return "", err
	}
	// Everybody may write in /var/tmp: take the folder only if it is the one that an earlier start made.
	info, err := os.Lstat(standIn)
	if err != nil {
		return "", err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || stat.Uid != owner.Uid || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("%s is in the way: it is not a private folder of the account that PostgreSQL runs as", standIn)
	}
	return standIn, nil
}
