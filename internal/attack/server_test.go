package attack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/internal/redistest"
	screen "github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/internal/witnesstest"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

const (
	rocket   = "acme/rocket"
	patience = 5 * time.Minute
)

// live is the product as it runs: the server with PostgreSQL, Redis and a sink, a witness of somebody else's, and people
// before a simulated Bitbucket. The operator has all of it but the people's keys, the witness and the auditor's files.
type live struct {
	t       *testing.T
	ctx     context.Context
	db      dbtest.Database
	sim     *bitbucketsim.Sim
	origin  string
	to      atomic.Pointer[url.URL] // where the server is; nil while it is not
	flags   []string
	keys    *witness.Keys // of the log
	sink    string
	witness *witnesstest.Witness
	refused atomic.Int64 // answers of the witness with 409
	// lies is set where other code than the product's answers the merge check; question is what it was asked last.
	lies     atomic.Bool
	question atomic.Pointer[[]byte]
	app      bool // installed in the workspace, which then has no OAuth connection
	stop     func() string

	alice, bob, carol *screen.Person
	workspace         screen.Workspace
	repository        string
	token             string // file of the auditor
	anchors, loose    string // files of the auditor; loose asks for no witness
	state             string // of the auditor's monitor
}

// newLive starts everything. The repository asks for bob's and carol's approval on release branches, and then merges.
func newLive(t *testing.T) *live {
	t.Helper()
	return begin(t, false)
}

func begin(t *testing.T, withApp bool) *live {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	l := &live{t: t, ctx: ctx, db: dbtest.New(t), sink: filepath.Join(t.TempDir(), "sink"), state: filepath.Join(t.TempDir(), "state"), app: withApp}
	must(t, os.Mkdir(l.sink, 0o700))
	l.sim = bitbucketsim.New(bitbucketsim.Options{RepositoryCallsPerHour: -1, HookCallsPerHour: -1, AsyncMergeDelay: time.Millisecond, WebhookTimeout: patience})
	must(t, l.sim.Start("127.0.0.1:0"))
	t.Cleanup(func() { _ = l.sim.Close() })
	must(t, l.sim.AddExample())
	l.front()
	l.configure()
	if l.app {
		l.deployApp()
	}
	must(t, l.start())
	t.Cleanup(func() { l.stop() })
	l.enter()
	return l
}

// front is the public address, which stays when the server is another one.
func (l *live) front() {
	server := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			if to := l.to.Load(); to != nil {
				r.SetURL(to)
			}
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusServiceUnavailable) },
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == mergeCheckPath && !l.answersCheck(w, r) {
			return
		}
		server.ServeHTTP(w, r)
	}))
	l.t.Cleanup(proxy.Close)
	l.origin = strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1)
}

func (l *live) configure() {
	l.t.Helper()
	origin := strings.TrimPrefix(l.origin, "http://") + "/log"
	private, verifier, err := witness.NewKey(origin)
	must(l.t, err)
	l.keys, err = witness.ParseKeys(origin, []byte(private))
	must(l.t, err)
	l.witness, err = witnesstest.New("witness.example")
	must(l.t, err)
	must(l.t, l.witness.Follow(verifier))
	cosigner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		l.witness.ServeHTTP(answer, r)
		if answer.Code == http.StatusConflict && l.witness.Seen(origin) > 0 {
			l.refused.Add(1)
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	l.t.Cleanup(cosigner.Close)
	attestation, _, err := attest.NewKey()
	must(l.t, err)
	l.flags = []string{
		"serve", "--origin=" + l.origin, "--listen=127.0.0.1:0", "--database-url=" + l.db.AppURL, "--redis-url=" + redistest.Start(l.t).URL(),
		"--keyset=" + string(store.NewKeyset()), "--calls-per-hour=100000000", "--log-key=" + private, "--attestation-key=" + string(attestation),
		"--log-witnesses=" + l.witness.Key() + " " + cosigner.URL, "--log-witness-quorum=1", "--bitbucket-api=" + l.sim.URL(), "--bitbucket-web=" + l.sim.URL(),
	}
	for flag, consumer := range map[string]bitbucketsim.Consumer{
		"connect": {Name: "SignedApproval", Callback: l.origin + "/connect/callback", Scopes: []string{"account", "pullrequest:write", "repository:admin", "webhook"}},
		"sign-in": {Name: "SignedApproval sign-in", Callback: l.origin + "/auth/callback", Scopes: []string{"account", "email"}},
	} {
		made, err := l.sim.AddConsumer(consumer)
		must(l.t, err)
		l.flags = append(l.flags, "--"+flag+"-key="+made.Key, "--"+flag+"-secret="+made.Secret)
	}
}

// journal is what the server logs; serving is told of its address.
type journal struct {
	mutex   sync.Mutex
	text    bytes.Buffer
	serving chan string
}

func (j *journal) Write(line []byte) (int, error) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	var entry struct{ Msg, Address string }
	if json.Unmarshal(line, &entry) == nil && entry.Msg == "serving" {
		j.serving <- entry.Address
	}
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return j.text.String()
}

// start starts a server and waits until it is ready. The error is why it does not start.
func (l *live) start(without ...string) error {
	l.t.Helper()
	flags := append(l.flags[:len(l.flags):len(l.flags)], "--log-sink="+l.sink)
	for _, flag := range without {
		for i := len(flags) - 1; i >= 0; i-- {
			if strings.HasPrefix(flags[i], flag) {
				flags = append(flags[:i:i], flags[i+1:]...)
			}
		}
	}
	ctx, cancel := context.WithCancel(l.ctx)
	log := &journal{serving: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() { ended <- app.Main(ctx, flags, strings.NewReader(""), log, log) }()
	l.stop = sync.OnceValue(func() string {
		l.to.Store(nil)
		cancel()
		<-ended
		return log.String()
	})
	select {
	case code := <-ended:
		ended <- code
		return fmt.Errorf("exit %d: %s", code, log)
	case address := <-log.serving:
		l.to.Store(&url.URL{Scheme: "http", Host: address})
	}
	l.eventually("the server lives", func() bool {
		status, _ := l.get("/livez")
		return status == http.StatusOK
	})
	return nil
}

func (l *live) get(path string) (int, []byte) {
	l.t.Helper()
	request, err := http.NewRequestWithContext(l.ctx, http.MethodGet, l.origin+path, nil)
	must(l.t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, body
}

func (l *live) eventually(what string, done func() bool) {
	l.t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-l.ctx.Done():
			l.t.Fatalf("waited in vain: %s\n%s", what, l.stop())
		}
	}
}

// enter signs people in, connects the workspace, gates the repository, and gives the auditor a token.
func (l *live) enter() {
	l.t.Helper()
	if l.app {
		l.installApp()
	}
	for name, into := range map[string]**screen.Person{"alice": &l.alice, "bob": &l.bob, "carol": &l.carol} {
		p, err := screen.NewPerson(name, l.origin)
		must(l.t, err)
		must(l.t, p.SignIn(l.ctx))
		*into = p
	}
	var err error
	if l.app {
		l.workspace, err = l.alice.Workspace(l.ctx, "acme")
	} else {
		l.workspace, err = l.alice.Connect(l.ctx)
	}
	must(l.t, err)
	l.repository, err = l.alice.Repository(l.ctx, l.workspace, rocket, "rocket")
	must(l.t, err)
	_, err = l.alice.Gate(l.ctx, l.workspace, l.repository, l.rule("Releases", 2))
	must(l.t, err)
	var made struct {
		CreateAPIToken struct{ Secret string }
	}
	must(l.t, l.alice.Ask(l.ctx, "CreateApiToken", map[string]any{"input": map[string]any{
		"workspaceId": l.workspace.ID, "name": "audit", "scopes": []string{"READ"}, "expiresInDays": 7,
	}}, &made))
	l.token = filepath.Join(l.t.TempDir(), "token")
	must(l.t, os.WriteFile(l.token, []byte(made.CreateAPIToken.Secret), 0o600))
}

// pull is a pull request.
type pull struct {
	screen.Place
	head string
}

func (l *live) open(name string) pull {
	l.t.Helper()
	commit, err := l.sim.Push(bitbucketsim.Push{
		Repository: rocket, Branch: "feature/" + name, From: branch, Person: "alice", Files: map[string]string{"src/" + name + ".go": "package main // " + name + "\n"},
	})
	must(l.t, err)
	pr, err := l.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Add " + name, Source: "feature/" + name, Destination: branch})
	must(l.t, err)
	p := pull{screen.Place{Workspace: l.workspace.UUID, Repository: l.repository, Number: int64(pr.ID)}, commit.Hash}
	l.eventually("approval is asked for", func() bool {
		r, err := l.alice.Request(l.ctx, p.Place)
		return err == nil && r.State == "PENDING"
	})
	return p
}

// approve has bob and carol approve, and waits until it is merged. It gives what landed.
func (l *live) approve(p pull) string {
	l.t.Helper()
	for _, who := range []*screen.Person{l.bob, l.carol} {
		if _, err := who.Decide(l.ctx, p.Place, "APPROVE"); err != nil {
			l.t.Fatal(err)
		}
	}
	return l.merged(p)
}

// merged waits until the merge of a pull request is recorded and under a checkpoint.
func (l *live) merged(p pull) (landed string) {
	l.t.Helper()
	l.eventually("the merge is recorded", func() bool {
		found := l.sql(`select m.landed_commit from signedapproval_merges_seen m join signedapproval_pull_requests p on p.id = m.pull_request_id
			where p.number = $1 and m.landed_commit <> ''`, p.Number)
		if len(found) == 1 {
			landed = found[0]
		}
		return len(found) == 1
	})
	l.published()
	return landed
}

// published waits until everything is under a checkpoint.
func (l *live) published() {
	l.t.Helper()
	l.eventually("it is published", func() bool {
		return len(l.sql(`select 'x' from signedapproval_log_head h where size > (select max(size) from signedapproval_log_checkpoints)`)) == 0
	})
}

// sql is the operator at the database, whom nothing binds.
func (l *live) sql(statement string, args ...any) []string {
	l.t.Helper()
	return query(l.t, l.db.SuperURL, statement, args...)
}

func query(t testing.TB, database, statement string, args ...any) []string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, database)
	must(t, err)
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, statement, args...)
	must(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return list
}

// run is the auditor at the command line.
func (l *live) run(args ...string) (code int, out string) {
	l.t.Helper()
	var stdout, stderr bytes.Buffer
	code = app.Main(l.ctx, append(args, "--url="+l.origin, "--token-file="+l.token), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

// pin takes the anchors that the auditor keeps.
func (l *live) pin() {
	l.t.Helper()
	folder := l.t.TempDir()
	l.anchors, l.loose = filepath.Join(folder, "anchors.json"), filepath.Join(folder, "loose.json")
	for file, quorum := range map[string]string{l.anchors: "1", l.loose: "0"} {
		if code, out := l.run("anchors", "get", "--workspace=acme", "-o", file, "--witness="+l.witness.Key(), "--quorum="+quorum); code != 0 {
			l.t.Fatalf("anchors get: exit %d\n%s", code, out)
		}
	}
}

// evidence takes the evidence of a commit along, and verifies it offline.
func (l *live) evidence(commit string) (code int, out string) {
	l.t.Helper()
	file := filepath.Join(l.t.TempDir(), "bundle.json")
	if code, out := l.run("evidence", "get", commit, "--workspace=acme", "-o", file); code != 0 {
		return code, out
	}
	var stdout, stderr bytes.Buffer
	code = app.Main(l.ctx, []string{"verify", file, "--anchors", l.anchors}, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

// watch makes a pass of the auditor's monitor, and gives its alarms.
func (l *live) watch(anchors string, flags ...string) (alarms []string) {
	l.t.Helper()
	_, out := l.run(append([]string{"monitor", "--once", "--json", "--anchors", anchors, "--state", l.state, "--openings", "--workspace=acme"}, flags...)...)
	for _, line := range strings.Split(out, "\n") {
		var f struct {
			Code   string
			Notice bool
		}
		if json.Unmarshal([]byte(line), &f) == nil && f.Code != "" && !f.Notice {
			alarms = append(alarms, "monitor: "+f.Code)
		}
	}
	return alarms
}

// control fails unless what was approved verifies with everything pinned, and the monitor is quiet.
func (l *live) control(commit string) {
	l.t.Helper()
	if code, out := l.evidence(commit); code != 0 {
		l.t.Fatalf("the control: exit %d\n%s", code, out)
	}
	if alarms := l.watch(l.anchors); len(alarms) > 0 {
		l.t.Fatalf("the control: %v", alarms)
	}
}

// asApp is Bitbucket with the token that the app has.
func (l *live) asApp() *bitbucket.Client {
	l.t.Helper()
	token, err := l.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"}) // whose grant the connection is
	must(l.t, err)
	return bitbucket.New(bitbucket.Config{BaseURL: l.sim.URL()}).As(token.AccessToken, "operator", bitbucket.Foreground)
}
