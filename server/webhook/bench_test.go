package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/webhook"
)

// bench is the door on a server and a database of its own.
type bench struct {
	store    *store.Store
	intake   *store.Intake
	database dbtest.Database
	link     *link // between the store and the database
	url      string
	log      *journal

	mu       sync.Mutex
	later    time.Duration // by which the door's clock is ahead
	observed []string      // "event outcome"
}

// setup makes a bench; nil options are the defaults, with a started intake.
func setup(t *testing.T, options *store.IntakeOptions) *bench {
	t.Helper()
	b := &bench{database: dbtest.New(t), log: &journal{}}
	vault, err := store.OpenVault(store.NewKeyset())
	if err != nil {
		t.Fatal(err)
	}
	b.link = join(t, b.database.AppURL)
	if b.store, err = store.Open(t.Context(), b.link.url, vault); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.store.Close)
	if options == nil {
		options = &store.IntakeOptions{}
	}
	b.intake = store.NewIntake(b.store, *options)
	t.Cleanup(b.intake.Stop)
	door := webhook.New(webhook.Options{
		Store: b.store, Intake: b.intake, Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: func() time.Time {
			b.mu.Lock()
			defer b.mu.Unlock()
			return time.Now().Add(b.later)
		},
		Observe: func(event, outcome string, took time.Duration) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.observed = append(b.observed, event+" "+outcome)
			if took < 0 {
				b.observed = append(b.observed, "took "+took.String())
			}
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/hooks/{hook}", door)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b.url = server.URL + "/hooks/"
	return b
}

// sleep moves the door's clock.
func (b *bench) sleep(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.later += d
}

// seen takes what was observed since the last time.
func (b *bench) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := b.observed
	b.observed = nil
	return seen
}

// hook makes an endpoint for a repository, with a random secret.
func (b *bench) hook(t *testing.T, workspace, repository string) store.HookEndpoint {
	t.Helper()
	var endpoint store.HookEndpoint
	err := b.store.InWorkspace(t.Context(), workspace, func(tx *store.Tx) (err error) {
		endpoint, err = tx.PutHookEndpoint(t.Context(), uuid.NewString(), repository, store.Secret(rand.Text()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

// journal keeps what was logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// sign is the signature that Bitbucket would write.
func sign(secret store.Secret, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// request is a delivery as Bitbucket sends it.
func (b *bench) request(t *testing.T, hook store.HookEndpoint, event, requestUUID string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+hook.ID, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "Bitbucket-Webhooks/2.0", "X-Event-Key": event,
		"X-Hook-UUID": uuid.NewString(), "X-Request-UUID": requestUUID, "X-Attempt-Number": "1",
		"X-Hub-Signature": sign(hook.Secret, body),
	} {
		r.Header.Set(name, value)
	}
	return r
}

// reply is what the door answered.
type reply struct {
	status int
	code   string // of the error; "" where the body is empty
	header http.Header
}

// send may be called from any goroutine: a request that got no answer has the zero reply.
func send(t *testing.T, r *http.Request) reply {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	var problem struct {
		Error struct{ Code, Message string }
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &problem); err != nil || problem.Error.Code == "" || problem.Error.Message == "" ||
			res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("answered %d with %q", res.StatusCode, body)
		}
	}
	return reply{res.StatusCode, problem.Error.Code, res.Header}
}

// deliver sends a proper delivery and returns the answer.
func (b *bench) deliver(t *testing.T, hook store.HookEndpoint, event, requestUUID string, body []byte) reply {
	t.Helper()
	return send(t, b.request(t, hook, event, requestUUID, body))
}

// accepted demands a 2xx.
func (r reply) accepted(t *testing.T) {
	t.Helper()
	if r.status != http.StatusNoContent {
		t.Fatalf("answered %d %s", r.status, r.code)
	}
}

// turnedAway demands the answer that makes Bitbucket come again.
func (r reply) turnedAway(t *testing.T) {
	t.Helper()
	if r.status != http.StatusServiceUnavailable || r.code != "TRY_AGAIN" || r.header.Get("Retry-After") != "5" {
		t.Fatalf("answered %d %s, Retry-After %q", r.status, r.code, r.header.Get("Retry-After"))
	}
}

// row is a stored delivery.
type row struct {
	Workspace, Repository, Event string
	Attempt                      int
	Outcome                      string
}

func (b *bench) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.database.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func stored(t *testing.T, conn *pgx.Conn) map[string]row {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select request_uuid::text, workspace_id::text, repository_id::text, event_key, attempt, outcome from signedapproval_deliveries`)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]row{}
	var id string
	var r row
	_, err = pgx.ForEachRow(rows, []any{&id, &r.Workspace, &r.Repository, &r.Event, &r.Attempt, &r.Outcome}, func() error {
		all[id] = r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ledger lists the jobs as "kind key", with how often each was asked for.
func ledger(t *testing.T, conn *pgx.Conn) (names []string, asked []int64) {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select kind || ' ' || key, seq from signedapproval_jobs`)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	var name string
	var seq int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &seq}, func() error {
		counts[name] = seq
		names = append(names, name)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		asked = append(asked, counts[name])
	}
	return names, asked
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never came true: %s", what)
		}
	}
}

// link passes a database's connections on until it is cut.
type link struct {
	url string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// join listens on loopback in place of a database.
func join(t *testing.T, database string) *link {
	t.Helper()
	config, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{conns: map[net.Conn]bool{}, url: (&url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: listener.Addr().String(),
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}).String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.pass(conn, network, address) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(true)
		all.Wait()
	})
	return l
}

// set cuts the link or mends it.
func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for conn := range l.conns {
			_ = conn.Close()
		}
	}
}

func (l *link) pass(from net.Conn, network, address string) {
	defer from.Close()
	to, err := net.Dial(network, address)
	if err != nil {
		return
	}
	defer to.Close()
	l.mu.Lock()
	if l.cut {
		l.mu.Unlock()
		return
	}
	l.conns[from], l.conns[to] = true, true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, from)
		delete(l.conns, to)
	}()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	})
	_, _ = io.Copy(to, from)
	_ = to.Close()
	back.Wait()
}

// recordings is the folder of recorded bodies beside the repository.
func recordings(t *testing.T) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(root)
		if parent == root {
			t.Fatal("no go.mod above the test")
		}
		root = parent
	}
	folder := filepath.Join(root, "..", "shared", "testdata")
	if _, err := os.Stat(folder); err != nil {
		t.Skip("the recorded bodies are not there: ../shared/testdata")
	}
	return folder
}

func recording(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(recordings(t), filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".feature") {
		return raw
	}
	// A story with one body between triple quotes.
	parts := strings.Split(string(raw), `"""`)
	if len(parts) != 3 {
		t.Fatalf("%s has %d parts", name, len(parts))
	}
	return []byte(parts[1])
}
