package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/signedapproval/bitbucket/internal/embeddedpg"
	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/internal/tether"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	rocket  = "acme/rocket"
	release = "release/1.0"
	// approvers is how many people take turns at approving: what one may ask for in a short time is limited.
	approverCount = 8
)

// world is everything that runs: PostgreSQL, Redis and the server as an operator would run them, and in this process
// the simulated Bitbucket and the people.
type world struct {
	dir     string
	mode    mode
	binary  string
	super   string // URL of PostgreSQL's superuser
	ours    database
	bare    database // of the bare counterparts, in the same PostgreSQL
	pgdir   string
	redis   *redis.Client
	redisAt string
	sim     *bitbucketsim.Sim
	front   *front
	origin  string
	admin   string // address of the server's metrics
	env     []string
	server  *tether.Process
	store   *store.Store // on the bare database
	http    *http.Client
	closers []func() error

	alice     *stage.Person
	approvers []*stage.Person
	accounts  []string // of the approvers
	workspace stage.Workspace
	repo      string // UUID
	branches  int    // pushed so far
}

// database is one database under the logins that matter.
type database struct{ name, app, owner, super string }

func newWorld(ctx context.Context, dir string, m mode) (*world, error) {
	w := &world{dir: dir, mode: m, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: time.Minute}}
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

// stop ends everything, last started first.
func (w *world) stop() (err error) {
	for i := len(w.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, w.closers[i]())
	}
	w.closers = nil
	return err
}

// beside makes a world of a simulated Bitbucket, people and a server of its own around another database in the same
// PostgreSQL, which is migrated. No server runs in it.
func (w *world) beside(ctx context.Context, name string) (*world, error) {
	b := &world{
		dir: w.dir, mode: w.mode, http: w.http, binary: w.binary, super: w.super, ours: databaseOf(w.super, name), bare: w.bare, pgdir: w.pgdir,
		redis: w.redis, redisAt: w.redisAt, store: w.store,
	}
	for _, step := range []func(context.Context) error{b.startBitbucket, b.configure, b.serve, b.enter} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, b.stop())
		}
	}
	return b, b.end(syscall.SIGTERM)
}

func (w *world) start(ctx context.Context) error {
	w.binary = filepath.Join(w.dir, "signedapproval")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", w.binary, "github.com/signedapproval/bitbucket/server").CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	for _, step := range []func(context.Context) error{w.startPostgres, w.startRedis, w.startBitbucket, w.configure, w.serve, w.enter} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startPostgres starts a durable PostgreSQL, with two migrated databases.
func (w *world) startPostgres(ctx context.Context) error {
	pg, err := embeddedpg.Start(ctx, embeddedpg.Config{Dir: w.mode.data, Installed: w.mode.growth > 0})
	if err != nil {
		return err
	}
	w.closers = append(w.closers, pg.Stop)
	w.super = pg.DSN
	found, err := sql(ctx, w.super, `show data_directory`)
	if err != nil {
		return err
	}
	w.pgdir = found[0]
	if err := makeRoles(ctx, w.super); err != nil {
		return err
	}
	w.ours, w.bare = databaseOf(w.super, "ours"), databaseOf(w.super, "bare")
	for _, d := range []database{w.ours, w.bare} {
		if err := execute(ctx, w.super, `drop database if exists `+d.name, `create database `+d.name+` owner bench_owner`); err != nil {
			return err
		}
		if err := store.Migrate(ctx, d.owner); err != nil {
			return fmt.Errorf("migrate %s: %w", d.name, err)
		}
	}
	vault, err := store.OpenVault(store.NewKeyset())
	if err != nil {
		return err
	}
	if w.store, err = store.Open(ctx, w.bare.app, vault); err != nil {
		return err
	}
	w.closers = append(w.closers, func() error { w.store.Close(); return nil })
	return nil
}

// makeRoles makes the logins, unless they were kept.
func makeRoles(ctx context.Context, super string) error {
	kept, err := sql(ctx, super, `select rolname::text from pg_roles where rolname = 'bench_app'`)
	if err != nil || len(kept) > 0 {
		return err
	}
	return execute(ctx, super, `create role signedapproval_app nologin nobypassrls`, `create role bench_owner login createrole`,
		`create role bench_app login in role signedapproval_app`)
}

// databaseOf is a database of the PostgreSQL with this superuser.
func databaseOf(super, name string) database {
	as := func(role string) string {
		u, err := url.Parse(super)
		if err != nil {
			return ""
		}
		u.User, u.Path = url.User(role), "/"+name
		return u.String()
	}
	return database{name: name, app: as("bench_app"), owner: as("bench_owner"), super: as("postgres")}
}

// startRedis starts a redis-server that keeps an append-only file, as production does.
func (w *world) startRedis(ctx context.Context) error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("a redis-server is needed (Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis)")
	}
	dir, err := tether.Dir("sabench", len("/redis.sock"))
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "redis.sock")
	cmd := exec.Command(program, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction", "--dir", dir, "--logfile", filepath.Join(dir, "redis.log"), "--daemonize", "no")
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	process, err := tether.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	w.redisAt = "unix://" + socket
	w.redis = redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1})
	w.closers = append(w.closers, func() error {
		_ = w.redis.Close()
		_ = process.Stop(0, syscall.SIGKILL) // it was killed, and says so
		return os.RemoveAll(dir)
	})
	return until(ctx, 30*time.Second, "Redis answers", func() (bool, error) { return w.redis.Ping(ctx).Err() == nil, nil })
}

// startBitbucket starts the simulated Bitbucket behind its front, without limits on calls.
func (w *world) startBitbucket(ctx context.Context) error {
	w.front = newFront()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	at := "http://" + listener.Addr().String()
	w.sim = bitbucketsim.New(bitbucketsim.Options{BaseURL: at, RepositoryCallsPerHour: -1, HookCallsPerHour: -1})
	w.front.sim = w.sim
	server := &http.Server{Handler: w.front, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // ends by Close, and says so
	w.closers = append(w.closers, func() error { return errors.Join(server.Close(), w.sim.Close()) })
	if err := w.sim.AddExample(); err != nil {
		return err
	}
	for i := range approverCount {
		name := fmt.Sprintf("approver%d", i)
		if _, err := w.sim.AddPerson(bitbucketsim.Person{Nickname: name}); err != nil {
			return err
		}
		if _, err := w.sim.SetMembership(bitbucketsim.Membership{Workspace: "acme", Person: name, Role: bitbucketsim.RoleMember}); err != nil {
			return err
		}
		if _, err := w.sim.SetPermission(bitbucketsim.Permission{Repository: rocket, Person: name, Level: bitbucketsim.PermissionWrite}); err != nil {
			return err
		}
	}
	return nil
}

// configure settles what the server is told.
func (w *world) configure(ctx context.Context) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	adminPort, err := freePort(ctx)
	if err != nil {
		return err
	}
	w.origin, w.admin = fmt.Sprintf("http://localhost:%d", port), fmt.Sprintf("127.0.0.1:%d", adminPort)
	logKey, err := exec.CommandContext(ctx, w.binary, "log", "new-key", strings.TrimPrefix(w.origin, "http://")+"/log").Output()
	if err != nil {
		return fmt.Errorf("make a log key: %w", err)
	}
	sink, err := filepath.Abs(filepath.Join(w.dir, "log-"+w.ours.name))
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(sink), os.Mkdir(sink, 0o755)); err != nil {
		return err
	}
	w.env = append(os.Environ(),
		"SIGNEDAPPROVAL_ORIGIN="+w.origin, fmt.Sprintf("SIGNEDAPPROVAL_LISTEN=127.0.0.1:%d", port), "SIGNEDAPPROVAL_ADMIN_LISTEN="+w.admin,
		"DATABASE_URL="+w.ours.app, "REDIS_URL="+w.redisAt, "SIGNEDAPPROVAL_KEYSET="+string(store.NewKeyset()),
		"SIGNEDAPPROVAL_CALLS_PER_HOUR=100000000",
		"SIGNEDAPPROVAL_LOG_KEY="+strings.TrimSpace(string(logKey)), "SIGNEDAPPROVAL_LOG_SINK="+sink,
		"SIGNEDAPPROVAL_BITBUCKET_API="+w.sim.URL(), "SIGNEDAPPROVAL_BITBUCKET_WEB="+w.sim.URL(),
	)
	for key, consumer := range map[string]bitbucketsim.Consumer{
		"CONNECT": {Name: "SignedApproval", Callback: w.origin + "/connect/callback", Scopes: []string{"account", "pullrequest:write", "repository:admin", "webhook"}},
		"SIGN_IN": {Name: "SignedApproval sign-in", Callback: w.origin + "/auth/callback", Scopes: []string{"account", "email"}},
	} {
		made, err := w.sim.AddConsumer(consumer)
		if err != nil {
			return err
		}
		w.env = append(w.env, "SIGNEDAPPROVAL_"+key+"_KEY="+made.Key, "SIGNEDAPPROVAL_"+key+"_SECRET="+made.Secret)
	}
	w.closers = append(w.closers, func() error { return w.end(syscall.SIGTERM) })
	return nil
}

// serve starts the server, with settings beside the usual ones, and waits until it is ready.
func (w *world) serve(ctx context.Context) error { return w.serveWith(ctx) }

func (w *world) serveWith(ctx context.Context, settings ...string) error {
	log, err := os.OpenFile(filepath.Join(w.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(w.binary, "serve")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append([]string{}, w.env...), settings...)
	if w.server, err = tether.Start(cmd, syscall.SIGKILL); err != nil {
		return err
	}
	return w.ready(ctx, w.origin)
}

// ready waits until a server answers that it can take webhooks in.
func (w *world) ready(ctx context.Context, origin string) error {
	return until(ctx, time.Minute, "the server is ready (see "+filepath.Join(w.dir, "server.log")+")", func() (bool, error) {
		status, err := w.get(ctx, origin+"/readyz", nil)
		return err == nil && status == http.StatusOK, nil
	})
}

// end ends the server by a signal. Ending it twice does nothing.
func (w *world) end(sig syscall.Signal) error {
	if w.server == nil {
		return nil
	}
	server := w.server
	w.server = nil
	if sig == syscall.SIGKILL {
		_ = server.Stop(0, sig) // it was killed, and says so
		return nil
	}
	return server.Stop(30*time.Second, sig, syscall.SIGKILL)
}

// restart starts the server anew, with settings beside the usual ones.
func (w *world) restart(ctx context.Context, settings ...string) error {
	if err := w.end(syscall.SIGTERM); err != nil {
		return err
	}
	return w.serveWith(ctx, settings...)
}

// enter signs the people in, connects the workspace and gates the repository by a rule that one approval satisfies and
// that merges nothing.
func (w *world) enter(ctx context.Context) (err error) {
	if w.alice, err = w.person(ctx, "alice"); err != nil {
		return err
	}
	if w.workspace, err = w.alice.Connect(ctx); err != nil {
		return err
	}
	if w.repo, err = w.alice.Repository(ctx, w.workspace, rocket, "rocket"); err != nil {
		return err
	}
	names := make([]string, 0, approverCount)
	for i := range approverCount {
		p, err := w.person(ctx, fmt.Sprintf("approver%d", i))
		if err != nil {
			return err
		}
		w.approvers, names = append(w.approvers, p), append(names, fmt.Sprintf("Approver%d", i))
	}
	if w.accounts, err = w.alice.Accounts(ctx, w.workspace, names...); err != nil {
		return err
	}
	if _, err = w.alice.Gate(ctx, w.workspace, w.repo, map[string]any{
		"name": "Releases", "branches": []string{"release/*"},
		"requirements": []any{map[string]any{"name": "Approval", "quorum": 1, "approvers": w.accounts}},
	}); err != nil {
		return err
	}
	if err := w.silence(); err != nil {
		return err
	}
	// The reconciler would find the pull requests before their webhooks are sent.
	if err := until(ctx, time.Minute, "the first walk over the repository ends", func() (bool, error) {
		done, err := w.sql(ctx, w.ours, `update signedapproval_jobs set run_at = now() + interval '1 day' where kind = 'reconcile' and state = 'READY' and holder is null
			and exists (select from signedapproval_bitbucket_repo_configs where reconciled_at is not null) and run_at > now() returning key`)
		return len(done) > 0, err
	}); err != nil {
		return err
	}
	return w.rest(ctx)
}

func (w *world) person(ctx context.Context, name string) (*stage.Person, error) {
	p, err := stage.NewPerson(name, w.origin)
	if err != nil {
		return nil, err
	}
	return p, p.SignIn(ctx)
}

// silence keeps the simulated Bitbucket from sending the webhooks that this program sends itself.
func (w *world) silence() error {
	_, err := w.sim.AddWebhookFault(bitbucketsim.WebhookFault{Event: "^(pullrequest:|repo:push)", Drop: true})
	return err
}

// pull is a pull request on Bitbucket and the webhook of its opening, which nobody has sent.
type pull struct {
	stage.Place
	head string
	hook bitbucketsim.Delivery
}

// open opens pull requests.
func (w *world) open(n int) ([]pull, error) {
	last := 0
	for _, d := range w.sim.Deliveries() {
		last = d.ID
	}
	list := make([]pull, 0, n)
	for range n {
		w.branches++
		name := fmt.Sprintf("b%06d", w.branches)
		commit, err := w.sim.Push(bitbucketsim.Push{
			Repository: rocket, Branch: "feature/" + name, From: release, Person: "alice", Files: map[string]string{"src/" + name + ".go": "package main // " + name + "\n"},
		})
		if err != nil {
			return nil, err
		}
		opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{
			Repository: rocket, Author: "alice", Title: "Add " + name, Source: "feature/" + name, Destination: release,
		})
		if err != nil {
			return nil, err
		}
		list = append(list, pull{Place: stage.Place{Workspace: w.workspace.UUID, Repository: w.repo, Number: int64(opened.ID)}, head: commit.Hash})
	}
	hooks := make([]bitbucketsim.Delivery, 0, n)
	for _, d := range w.sim.Deliveries() {
		if d.ID > last && d.Event == "pullrequest:created" {
			hooks = append(hooks, d)
		}
	}
	if len(hooks) != n {
		return nil, fmt.Errorf("%d webhooks of %d pull requests", len(hooks), n)
	}
	for i := range list {
		list[i].hook = hooks[i]
	}
	return list, nil
}

// post sends a webhook to our door, and answers the status.
func (w *world) post(ctx context.Context, d bitbucketsim.Delivery, requestUUID string) (int, error) {
	secret, path := w.front.hook()
	return w.deliver(ctx, w.origin+path, secret, d.Event, requestUUID, d.Body)
}

// deliver sends a signed webhook.
func (w *world) deliver(ctx context.Context, to, secret, event, requestUUID string, body []byte) (int, error) {
	return w.deliverSigned(ctx, to, bitbucketsim.Sign(secret, body), event, requestUUID, body)
}

func (w *world) deliverSigned(ctx context.Context, to, signature, event, requestUUID string, body []byte) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Event-Key", event)
	request.Header.Set("X-Request-UUID", requestUUID)
	request.Header.Set("X-Attempt-Number", "1")
	request.Header.Set("X-Hub-Signature", signature)
	response, err := w.http.Do(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, errors.Join(err, response.Body.Close())
}

// accepted sends the webhook of a pull request's opening, which must be taken.
func (w *world) accepted(ctx context.Context, p pull) error {
	status, err := w.post(ctx, p.hook, p.hook.RequestUUID)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("a webhook was answered with %d", status)
	}
	return err
}

func (w *world) get(ctx context.Context, address string, into any) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	response, err := w.http.Do(request)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil || into == nil {
		return response.StatusCode, err
	}
	return response.StatusCode, json.Unmarshal(body, into)
}

// sql runs a statement as superuser, and answers its first column.
func (w *world) sql(ctx context.Context, on database, statement string, args ...any) ([]string, error) {
	return sql(ctx, on.super, statement, args...)
}

// sql runs a statement, and answers its first column.
func sql(ctx context.Context, super, statement string, args ...any) ([]string, error) {
	conn, err := pgx.Connect(ctx, super)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// execute runs statements, each by itself.
func execute(ctx context.Context, super string, statements ...string) error {
	conn, err := pgx.Connect(ctx, super)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// rest waits until no job is due or held, other than those that keep themselves going.
func (w *world) rest(ctx context.Context) error {
	var left []string
	err := until(ctx, 5*time.Minute, "the jobs come to rest", func() (_ bool, err error) {
		left, err = w.sql(ctx, w.ours, `select format('%s %s: %s', kind, key, last_error) from signedapproval_jobs
			where state = 'READY' and kind not in ('sweep', 'reconcile', 'refresh', 'doctor') and (run_at <= now() or holder is not null)`)
		return len(left) == 0, err
	})
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, strings.Join(left[:min(len(left), 5)], "\n"))
	}
	return err
}

// until polls until done answers true.
func until(ctx context.Context, patience time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %s: %w", what, ctx.Err())
		case <-poll.C:
		}
	}
}

func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}
