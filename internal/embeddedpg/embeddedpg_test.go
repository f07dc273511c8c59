package embeddedpg

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestMain is also the parent of TestServerEndsWithItsParent: it starts a server, prints its address and hangs.
func TestMain(m *testing.M) {
	if os.Getenv("EMBEDDEDPG_TEST_PARENT") != "" {
		s, err := Start(context.Background(), Config{Unsafe: true})
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString(s.DSN + "\n")
		<-s.process.Done()
	}
	os.Exit(m.Run())
}

func starting(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, s *Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(starting(t), s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may be stopped by then
	return conn
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Errorf("Stop = %v", err)
	}
}

// runDir is where the server's socket is.
func runDir(t *testing.T, s *Server) string {
	t.Helper()
	config, err := pgx.ParseConfig(s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	return config.Host
}

// dataDir is where the server's databases are.
func dataDir(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var dir string
	if err := conn.QueryRow(starting(t), `show data_directory`).Scan(&dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Every PostgreSQL of this machine must do, so each is tried; that at least one is there is the first thing to hold.
func TestEveryInstallationServes(t *testing.T) {
	t.Parallel()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	usable := slices.DeleteFunc(slices.Concat(packed(wd), installed()), func(i installation) bool { return !i.complete() })
	if len(usable) == 0 {
		t.Fatal("there is no PostgreSQL: run `npm ci` at the root of the repository")
	}
	for _, binaries := range usable {
		t.Run(binaries.root, func(t *testing.T) {
			t.Parallel()
			s, err := start(starting(t), binaries, Config{Unsafe: true})
			if err != nil {
				t.Fatal(err)
			}
			defer stop(t, s)
			var listen, encoding, zone, user string
			err = connect(t, s).QueryRow(t.Context(), `select current_setting('listen_addresses'),
				current_setting('server_encoding'), current_setting('TimeZone'), current_user`).Scan(&listen, &encoding, &zone, &user)
			if err != nil {
				t.Fatal(err)
			}
			if listen != "" || encoding != "UTF8" || zone != "UTC" || user != "postgres" {
				t.Errorf("listen_addresses %q, encoding %q, zone %q, user %q; want none, UTF8, UTC, postgres", listen, encoding, zone, user)
			}
		})
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	s, err := Start(starting(t), Config{Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, s) // an open session does not hold up the stop
	dirs := []string{runDir(t, s), filepath.Dir(dataDir(t, conn))}
	if parent := memory(); parent != "" && filepath.Dir(dirs[1]) != parent {
		t.Errorf("the data is in %s and not in %s", dirs[1], parent)
	}
	stop(t, s)
	stop(t, s)
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there (%v)", dir, err)
		}
	}
	if _, err := pgx.Connect(starting(t), s.DSN); err == nil {
		t.Error("the stopped server still answers")
	}
}

func TestKeptDirectory(t *testing.T) {
	t.Parallel()
	// As root the server's account cannot enter this folder: the stand-in takes its place and keeps just as well.
	locked := filepath.Join(t.TempDir(), "locked")
	if err := os.Mkdir(locked, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"open": filepath.Join(openTempDir(t), "pg"), "locked": filepath.Join(locked, "pg")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() { removeKept(t, dir) })
			config := Config{Dir: dir, Unsafe: true}
			first, err := Start(starting(t), config)
			if err != nil {
				t.Fatal(err)
			}
			defer stop(t, first)
			if _, err := connect(t, first).Exec(t.Context(), `create table kept as select 42 as answer`); err != nil {
				t.Fatal(err)
			}

			if second, err := Start(starting(t), config); err == nil {
				stop(t, second)
				t.Fatal("a second server started on a folder in use")
			} else if !strings.Contains(err.Error(), "postmaster.pid") {
				t.Errorf("a second start on a folder in use = %v, want it to name the lock file", err)
			}
			stop(t, first)

			again, err := Start(starting(t), config)
			if err != nil {
				t.Fatal(err)
			}
			defer stop(t, again)
			var answer int
			if err := connect(t, again).QueryRow(t.Context(), `select answer from kept`).Scan(&answer); err != nil || answer != 42 {
				t.Errorf("after a restart: %d, %v", answer, err)
			}
		})
	}
}

// openTempDir is a folder that the server's account can enter, as the ones of t.TempDir need not be.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embeddedpg-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func removeKept(t *testing.T, dir string) {
	t.Helper()
	owner, err := unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := keptDir(dir, owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(kept); err != nil {
		t.Error(err)
	}
}

func TestClusterOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openTempDir(t), "pg")
	s, err := Start(starting(t), Config{Dir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9.6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(starting(t), Config{Dir: dir, Unsafe: true}); err == nil {
		stop(t, s)
		t.Fatal("started on a cluster of another version")
	} else if !strings.Contains(err.Error(), "9.6") {
		t.Errorf("Start = %v, want the version named", err)
	}
}

// A clone may lie below a folder that only root can enter.
func TestBinariesBehindALockedFolder(t *testing.T) {
	t.Parallel()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	usable := slices.DeleteFunc(packed(wd), func(i installation) bool { return !i.complete() })
	if len(usable) == 0 {
		t.Fatal("the npm package is not installed: run `npm ci` at the root of the repository")
	}
	locked := filepath.Join(t.TempDir(), "locked")
	if err := os.Mkdir(locked, 0o700); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(locked, "native")
	if err := copyTree(usable[0].root, root); err != nil {
		t.Fatal(err)
	}
	s, err := start(starting(t), installation{root: root, packed: true}, Config{Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
}

// With the strictest umask nobody but the owner can read the files, so they cannot be linked.
func TestCopyTreeMakesFilesReadable(t *testing.T) {
	t.Parallel()
	source, destination := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for name, mode := range map[string]fs.FileMode{"program": 0o700, "data": 0o600} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyTree(source, destination); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"program": 0o755, "data": 0o644} {
		info, err := os.Stat(filepath.Join(destination, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %v", name, info, err, want)
		}
		content, err := os.ReadFile(filepath.Join(destination, name))
		if err != nil || string(content) != name {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
}

func TestLinksStayInThePackage(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"native/../../etc/x", "/etc/x", "lib/x"} {
		root := t.TempDir()
		list := `[{"source":"native/lib/x.1","target":"` + target + `"}]`
		if err := os.WriteFile(filepath.Join(root, "pg-symlinks.json"), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := link(root); err == nil || !strings.Contains(err.Error(), "outside") {
			t.Errorf("a link at %s: %v, want it refused", target, err)
		}
	}
}

func TestServerEndsWithItsParent(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(starting(t), self)
	parent.Env = append(os.Environ(), "EMBEDDEDPG_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	orphan := &Server{DSN: strings.TrimSpace(line)}
	conn, dir := connect(t, orphan), runDir(t, orphan)
	data := dataDir(t, conn)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed, as asked for

	// The session ends when the server shuts down, and not before.
	if _, err := conn.Exec(starting(t), `select pg_sleep(100)`); err == nil {
		t.Fatal("the server outlived its parent")
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for ctx := starting(t); ; {
		if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); errors.Is(err, fs.ErrNotExist) {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("the server did not finish its shutdown")
		case <-poll.C:
		}
	}

	// What it could not remove is removed by the next start.
	next, err := Start(starting(t), Config{Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, next)
	for _, dir := range []string{dir, data} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there (%v)", dir, err)
		}
	}
}

func TestStartStopsWaitingWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Start(ctx, Config{Unsafe: true}); err == nil {
		stop(t, s)
		t.Fatal("started under a cancelled context")
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("Start = %v, want it cancelled", err)
	}
}

func TestMajor(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{"/usr/lib/postgresql/15": 15, "/usr/pgsql-9": 9, "/opt/homebrew/opt/postgresql@18": 18, "/x/latest": 0} {
		if got := major(path); got != want {
			t.Errorf("major(%s) = %d, want %d", path, got, want)
		}
	}
}
