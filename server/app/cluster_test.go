package app_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/internal/invariant"
	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/internal/tether"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	rocket  = "acme/rocket"
	release = "release/1.0"

	// patience is how long a test waits for what must follow. A job whose worker was killed is taken
	// over when its lease has run out.
	patience = 150 * time.Second
)

// builtAs names the program to a test that runs in a process of its own.
const builtAs = "SIGNEDAPPROVAL_TEST_PROGRAM"

// program builds the product once, as an operator would.
var program = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(builtAs); path != "" {
		return path, nil
	}
	dir, err := tether.Dir("saapp", len("/signedapproval"))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "signedapproval")
	out, err := exec.Command("go", "build", "-o", path, "github.com/signedapproval/bitbucket/server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return path, nil
})

// cluster is the product as it runs in earnest: server processes on one PostgreSQL and one Redis,
// behind a proxy, before a simulated Bitbucket.
type cluster struct {
	t     testing.TB
	ctx   context.Context // the deadline of the whole test
	db    dbtest.Database
	redis *redistest.Server
	sim   *bitbucketsim.Sim
	// watcher reads from Bitbucket as carol does: faults strike alice, whose grant the connection is.
	watcher *bitbucket.Client
	proxy   *proxy
	env     []string
	servers []*server
	sink    string // folder of the log's checkpoints

	alice, bob, carol *stage.Person
	workspace         stage.Workspace
	repository        string // UUID
	connectKey        string // of the consumer that connects workspaces
}

// options change what a cluster is made of.
type options struct {
	servers  int
	sim      bitbucketsim.Options
	db       func(t testing.TB) dbtest.Database  // makes the database; dbtest.New
	database func(appURL string) string          // what stands between the servers and PostgreSQL
	sink     string                              // folder of the log's checkpoints, which is there; one that is made
	front    func(sim http.Handler) http.Handler // what stands before Bitbucket
	env      []string
	patience time.Duration // of the whole test; patience
	app      bool          // the Forge app is installed, and the workspace is not connected
}

// newCluster starts everything; the people are signed in, and the repository is gated: release/* needs
// bob and carol, and then merges.
func newCluster(t testing.TB, o options) *cluster {
	t.Helper()
	if o.db == nil {
		o.db = dbtest.New
	}
	c := &cluster{t: t, db: o.db(t), redis: redistest.Start(t), proxy: newProxy(t), sink: o.sink}
	// What a test waits for is the servers. Building them takes minutes where nothing is built yet.
	_, err := program()
	c.must(err)
	// The test's own context is done before its cleanups run, which still ask.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cmp.Or(o.patience, patience))
	t.Cleanup(cancel)
	c.ctx = ctx
	if c.sink == "" {
		c.sink = filepath.Join(t.TempDir(), "log")
		c.must(os.Mkdir(c.sink, 0o700))
	}
	o.sim.RepositoryCallsPerHour, o.sim.HookCallsPerHour = -1, -1
	// A webhook that nobody answers in time is lost: how busy the machine is must not decide that.
	o.sim.WebhookTimeout, o.sim.Forge.EventTimeout = cmp.Or(o.sim.WebhookTimeout, patience), cmp.Or(o.sim.Forge.EventTimeout, patience)
	front := httptest.NewUnstartedServer(nil)
	o.sim.BaseURL = "http://" + front.Listener.Addr().String()
	c.sim = bitbucketsim.New(o.sim)
	t.Cleanup(func() { _ = c.sim.Close() })
	front.Config.Handler = c.sim
	if o.front != nil {
		front.Config.Handler = o.front(c.sim)
	}
	front.Start()
	t.Cleanup(front.Close)
	c.must(c.sim.AddExample())
	app := c.db.AppURL
	if o.database != nil {
		app = o.database(app)
	}
	c.env = append(c.env,
		"SIGNEDAPPROVAL_ORIGIN="+c.proxy.origin, "SIGNEDAPPROVAL_LISTEN=127.0.0.1:0", "DATABASE_URL="+app, "REDIS_URL="+c.redis.URL(),
		"SIGNEDAPPROVAL_KEYSET="+string(store.NewKeyset()), "SIGNEDAPPROVAL_CALLS_PER_HOUR=100000000",
		"SIGNEDAPPROVAL_LOG_KEY="+newLogKey(t, strings.TrimPrefix(c.proxy.origin, "http://")+"/log"), "SIGNEDAPPROVAL_LOG_SINK="+c.sink,
		"SIGNEDAPPROVAL_BITBUCKET_API="+c.sim.URL(), "SIGNEDAPPROVAL_BITBUCKET_WEB="+c.sim.URL(),
	)
	c.env = append(c.env, o.env...)
	for name, consumer := range map[string]bitbucketsim.Consumer{
		"CONNECT": {Name: "SignedApproval", Callback: c.proxy.origin + "/connect/callback", Scopes: []string{"account", "pullrequest:write", "repository:admin", "webhook"}},
		"SIGN_IN": {Name: "SignedApproval sign-in", Callback: c.proxy.origin + "/auth/callback", Scopes: []string{"account", "email"}},
	} {
		made, err := c.sim.AddConsumer(consumer)
		c.must(err)
		c.env = append(c.env, "SIGNEDAPPROVAL_"+name+"_KEY="+made.Key, "SIGNEDAPPROVAL_"+name+"_SECRET="+made.Secret)
		if name == "CONNECT" {
			c.connectKey = made.Key
		}
	}
	if o.app {
		c.deployApp()
	}
	token, err := c.sim.IssueToken(bitbucketsim.TokenRequest{Person: "carol"})
	c.must(err)
	c.watcher = bitbucket.New(bitbucket.Config{BaseURL: c.sim.URL()}).As(token.AccessToken, "watcher", bitbucket.Foreground)
	for range o.servers {
		c.must(c.add(nil).start())
	}
	t.Cleanup(func() {
		for _, s := range c.servers {
			_ = s.end(syscall.SIGKILL) // it may have ended by itself
			if t.Failed() {
				t.Logf("the end of a server's log:\n%s", s.log.tail(6000))
			}
		}
	})
	c.enter(o.app)
	return c
}

// add adds a server, of another program than this one where one is given; it is not started yet.
func (c *cluster) add(program func() (string, error)) *server {
	s := &server{cluster: c, log: &journal{}, program: program}
	c.servers = append(c.servers, s)
	c.proxy.add(s)
	return s
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// enter connects the workspace, or installs the app there; it signs the people in and gates the
// repository.
func (c *cluster) enter(app bool) {
	c.t.Helper()
	if app {
		c.installApp()
	}
	for name, into := range map[string]**stage.Person{"alice": &c.alice, "bob": &c.bob, "carol": &c.carol} {
		p, err := stage.NewPerson(name, c.proxy.origin)
		c.must(err)
		c.must(p.SignIn(c.ctx))
		*into = p
	}
	var err error
	if app {
		c.workspace, err = c.alice.Workspace(c.ctx, "acme")
	} else {
		c.workspace, err = c.alice.Connect(c.ctx)
	}
	c.must(err)
	c.repository, err = c.alice.Repository(c.ctx, c.workspace, rocket, "rocket")
	c.must(err)
	approvers, err := c.alice.Accounts(c.ctx, c.workspace, "Bob", "Carol")
	c.must(err)
	_, err = c.alice.Gate(c.ctx, c.workspace, c.repository, map[string]any{
		"name": "Releases", "branches": []string{"release/*"},
		"requirements": []any{map[string]any{"name": "Approval", "quorum": 2, "approvers": approvers}},
		"autoMerge":    map[string]any{"strategy": "merge_commit", "messageTemplate": "Merge #{number}: {title}"},
	})
	c.must(err)
}

// opened is a pull request on Bitbucket.
type opened struct {
	stage.Place
	head string
}

// open opens a pull request from a branch of its own.
func (c *cluster) open(name string) opened {
	c.t.Helper()
	branch := "feature/" + name
	commit, err := c.sim.Push(bitbucketsim.Push{
		Repository: rocket, Branch: branch, From: release, Person: "alice", Files: map[string]string{"src/" + name + ".go": "package main // " + name + "\n"},
	})
	c.must(err)
	pr, err := c.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Add " + name, Source: branch, Destination: release})
	c.must(err)
	return opened{Place: c.place(pr.ID), head: commit.Hash}
}

func (c *cluster) place(number int) stage.Place {
	return stage.Place{Workspace: c.workspace.UUID, Repository: c.repository, Number: int64(number)}
}

func (c *cluster) openMany(n int, prefix string) []opened {
	c.t.Helper()
	list := make([]opened, n)
	for i := range list {
		list[i] = c.open(fmt.Sprintf("%s%02d", prefix, i))
	}
	return list
}

// eventually polls until done answers true.
func (c *cluster) eventually(what string, done func() bool) {
	c.t.Helper()
	if err := c.wait(what, done); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) wait(what string, done func() bool) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-c.ctx.Done():
			return fmt.Errorf("waited in vain: %s\n%s", what, c.unfinished())
		}
	}
	return nil
}

// approve makes a person approve pull requests, as often as it takes: servers die, and answers get
// lost. What is refused because it is done already is done.
func (c *cluster) approve(p *stage.Person, list []opened) error {
	left := append([]opened(nil), list...)
	var last error
	err := c.wait(p.Name+" approves", func() bool {
		var again []opened
		for _, pr := range left {
			_, err := p.Decide(c.ctx, pr.Place, "APPROVE")
			var refused *stage.Refusal
			if err == nil || errors.As(err, &refused) && (refused.Code == "ALREADY_DECIDED" || refused.Code == "NOT_OPEN") {
				continue
			}
			again, last = append(again, pr), err
		}
		left = again
		if len(left) > 0 { // the API has a limit, which people who press again and again would meet
			select {
			case <-time.After(time.Second):
			case <-c.ctx.Done():
			}
		}
		return len(left) == 0
	})
	if err != nil {
		return fmt.Errorf("%w; %d are left; the last error: %w", err, len(left), last)
	}
	return nil
}

// approveBoth makes bob and carol approve at the same time.
func (c *cluster) approveBoth(list []opened) {
	c.t.Helper()
	failed := make(chan error, 2)
	for _, p := range []*stage.Person{c.bob, c.carol} {
		go func() { failed <- c.approve(p, list) }()
	}
	c.must(errors.Join(<-failed, <-failed))
}

// merged counts those of the pull requests that Bitbucket has merged.
func (c *cluster) merged(list []opened) (n int) {
	c.t.Helper()
	for _, pr := range list {
		remote, err := c.watcher.PullRequest(c.ctx, "acme", "rocket", pr.Number)
		c.must(err)
		if remote.State == bitbucket.Merged {
			n++
		}
	}
	return n
}

// shows tells whether Bitbucket shows a state under one of our keys on each head.
func (c *cluster) shows(state bitbucket.StatusState, list ...opened) bool {
	c.t.Helper()
	for _, pr := range list {
		if got := c.status(pr.head); got != state {
			return false
		}
	}
	return true
}

func (c *cluster) status(commit string) bitbucket.StatusState {
	c.t.Helper()
	for s, err := range c.watcher.Statuses(c.ctx, "acme", "rocket", commit) {
		c.must(err)
		if strings.HasPrefix(s.Key, store.StatusKeyPrefix) {
			return s.State
		}
	}
	return ""
}

// sql runs a statement as the superuser, and answers its first column.
func (c *cluster) sql(statement string, args ...any) []string {
	c.t.Helper()
	list, err := c.query(statement, args...)
	c.must(err)
	return list
}

// query is sql for other goroutines than the test's, and after its deadline.
func (c *cluster) query(statement string, args ...any) ([]string, error) {
	ctx := context.WithoutCancel(c.ctx)
	conn, err := pgx.Connect(ctx, c.db.SuperURL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// reconcileNow moves the reconciler's time: it finds what lost webhooks hid.
func (c *cluster) reconcileNow() {
	c.t.Helper()
	c.sql(`update signedapproval_jobs set run_at = now(), dispatched_at = null where kind = 'reconcile' and state = 'READY' and holder is null returning key`)
}

// unfinished lists the jobs that somebody works at or should.
func (c *cluster) unfinished() string {
	list, err := c.query(`select format('%s %s: attempt %s, due in %s, held for %s, %s', kind, key, attempt, run_at - now(), leased_until - now(), last_error)
		from signedapproval_jobs where state = 'READY' and kind not in ('sweep', 'reconcile', 'refresh') and (run_at <= now() or holder is not null or kind = 'merge')`)
	if err != nil {
		return err.Error()
	}
	return strings.Join(list, "\n")
}

// underWay counts what Bitbucket has to tell the servers still; newest names what came last of all that it ever had.
func (c *cluster) underWay() (left int, newest [2]int) {
	for _, d := range c.sim.Deliveries() {
		if newest[0] = d.ID; d.State == "waiting" {
			left++
		}
	}
	for _, d := range c.sim.ForgeInvocations() {
		if newest[1] = d.ID; d.State == "waiting" {
			left++
		}
	}
	return left, newest
}

// rest waits until no job is due or held, other than those that keep themselves going, and Bitbucket tells of nothing that makes
// another: neither while the jobs were looked at, nor before.
func (c *cluster) rest() {
	c.t.Helper()
	c.eventually("the jobs come to rest", func() bool {
		left, newest := c.underWay()
		if left > 0 || c.unfinished() != "" {
			return false
		}
		left, now := c.underWay()
		return left == 0 && now == newest
	})
}

// atRest waits for rest, and then checks everything that must hold then.
func (c *cluster) atRest() {
	c.t.Helper()
	c.rest()
	c.check(true)
	if dead := c.sql(`select kind || ' ' || key || ': ' || last_error from signedapproval_jobs where state = 'DEAD'`); len(dead) > 0 {
		c.t.Errorf("jobs gave up: %s", strings.Join(dead, "\n"))
	}
	stored := map[string]bool{}
	for _, id := range c.sql(`select request_uuid::text from signedapproval_deliveries`) {
		stored[id] = true
	}
	for _, d := range c.sim.Deliveries() {
		if d.State == "delivered" && !stored[d.RequestUUID] {
			c.t.Errorf("delivery %s of %s was answered with 2xx and is not stored", d.RequestUUID, d.Event)
		}
	}
}

// check looks at what must hold at any time, or at rest.
func (c *cluster) check(atRest bool) {
	c.t.Helper()
	conn, err := pgx.Connect(c.ctx, c.db.SuperURL)
	c.must(err)
	defer func() { _ = conn.Close(context.WithoutCancel(c.ctx)) }()
	c.must(invariant.Gate{
		DB: conn, RelyingParty: evidence.RelyingParty{ID: "localhost", Origin: c.proxy.origin},
		Shown: func(ctx context.Context, _, repositoryID, commit, key string) (invariant.Status, error) {
			for s, err := range c.watcher.Statuses(ctx, "acme", repositoryID, commit) {
				if err != nil {
					return invariant.Status{}, err
				}
				if s.Key == key {
					return invariant.Status{State: string(s.State), Description: s.Description}, nil
				}
			}
			return invariant.Status{}, nil
		},
	}.Check(c.ctx, atRest))
}

// mergedOnce fails unless each of the pull requests was merged by the gate, once.
func (c *cluster) mergedOnce(list []opened) {
	c.t.Helper()
	intents := c.sql(`select p.number::text from signedapproval_merge_intents m join signedapproval_pull_requests p on p.id = m.pull_request_id where m.state = 'MERGED'`)
	leaves := c.sql(`select chain_id from signedapproval_leaves where convert_from(entry, 'UTF8')::jsonb @> '{"type": "merged", "body": {"kind": "approved"}}'`)
	if len(intents) != len(list) || len(leaves) != len(list) {
		c.t.Errorf("%d merges and %d leaves of merges, want %d", len(intents), len(leaves), len(list))
	}
	landed := map[string]bool{}
	for _, pr := range list {
		remote, err := c.watcher.PullRequest(c.ctx, "acme", "rocket", pr.Number)
		c.must(err)
		if remote.State != bitbucket.Merged || remote.MergeCommit == nil || landed[*remote.MergeCommit] {
			c.t.Errorf("pull request %d is %s", pr.Number, remote.State)
			continue
		}
		landed[*remote.MergeCommit] = true
	}
}

// server is one process.
type server struct {
	cluster *cluster
	log     *journal
	program func() (string, error) // builds what it runs; nil means program

	mu      sync.Mutex // guards what a restart changes
	process *tether.Process
	address atomic.Pointer[string] // nil while it does not serve
}

// start starts the process and waits until it is ready.
func (s *server) start() error {
	build := program
	if s.program != nil {
		build = s.program
	}
	path, err := build()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, "serve")
	serving := make(chan string, 1)
	cmd.Stdout, cmd.Stderr = s.log, &announcer{to: s.log, serving: serving}
	cmd.Env = append(os.Environ(), s.cluster.env...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process, err = tether.Start(cmd, syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case address := <-serving:
		return s.ready(address)
	case <-s.process.Done():
		return fmt.Errorf("a server ended: %w\n%s", s.process.Err(), s.log.tail(4000))
	case <-s.cluster.ctx.Done():
		return errors.New("a server does not start")
	}
}

func (s *server) ready(address string) error {
	err := s.cluster.wait("a server is ready", func() bool {
		status, _, err := s.get(address, "/readyz")
		return err == nil && status == http.StatusOK
	})
	if err == nil {
		s.address.Store(&address)
	}
	return err
}

func (s *server) get(address, path string) (int, string, error) {
	request, err := http.NewRequestWithContext(s.cluster.ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// end signals the process and waits until it has ended; its exit error, if any, is the answer.
func (s *server) end(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	if sig == syscall.SIGKILL {
		s.address.Store(nil) // the proxy also finds out by itself
	}
	err := s.process.Stop(0, sig)
	s.address.Store(nil)
	return err
}

// restart kills the process and starts another one.
func (s *server) restart() error {
	_ = s.end(syscall.SIGKILL)
	return s.start()
}

// announcer reads from a server's log where it serves.
type announcer struct {
	to      io.Writer
	serving chan<- string
	line    []byte
	done    bool
}

func (a *announcer) Write(b []byte) (int, error) {
	if !a.done {
		a.line = append(a.line, b...)
		for {
			line, rest, found := bytes.Cut(a.line, []byte("\n"))
			if !found {
				break
			}
			a.line = rest
			var entry struct{ Msg, Address string }
			if json.Unmarshal(line, &entry) == nil && entry.Msg == "serving" {
				a.done = true
				a.serving <- entry.Address
				break
			}
		}
	}
	return a.to.Write(b)
}

// journal keeps what servers log.
type journal struct {
	mu   sync.Mutex
	text []byte
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, b...)
	return len(b), nil
}

func (j *journal) tail(n int) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.text[max(0, len(j.text)-n):])
}

// proxy spreads requests over the servers that live, as a load balancer does. What a dead server has
// left half done is answered with 503.
type proxy struct {
	origin string
	turn   atomic.Int64

	mu      sync.Mutex
	servers []*server
	// answered is told of each answer before it is passed on; nil tells nobody.
	answered func(*http.Response)
}

func newProxy(t testing.TB) *proxy {
	t.Helper()
	p := &proxy{}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.origin = fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
	transport := &http.Transport{DialContext: p.dial, DisableKeepAlives: true} // each request has its turn
	handler := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "servers"})
			r.Out.Host = r.In.Host
		},
		Transport: transport,
		ModifyResponse: func(r *http.Response) error {
			p.mu.Lock()
			tell := p.answered
			p.mu.Unlock()
			if tell != nil {
				tell(r)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	front := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = front.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = front.Close()
		<-served
		transport.CloseIdleConnections()
	})
	return p
}

func (p *proxy) add(s *server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers = append(p.servers, s)
}

func (p *proxy) tell(answered func(*http.Response)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered = answered
}

// dial connects to the next server that lives.
func (p *proxy) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	servers := p.servers
	p.mu.Unlock()
	for range servers {
		s := servers[int(p.turn.Add(1))%len(servers)]
		address := s.address.Load()
		if address == nil {
			continue
		}
		if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", *address); err == nil {
			return conn, nil
		}
	}
	return nil, errors.New("no server lives")
}
