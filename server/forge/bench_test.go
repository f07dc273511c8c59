package forge_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/atlassiantest"
	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/atlassian"
	"github.com/signedapproval/bitbucket/server/forge"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/store"
)

// bench is the door on a server and a database of its own. Behind it stand no use cases but a record of
// how they are called; the intake and the store are the real ones.
type bench struct {
	forge    *atlassiantest.Forge
	store    *store.Store
	intake   *store.Intake
	database dbtest.Database
	url      string
	log      *journal

	mu           sync.Mutex
	observed     []string // "event outcome"
	called       []string
	installation store.Installation
	fail         map[string]error // by use case
	answer       func(context.Context, gate.MergeQuestion) gate.MergeAnswer
}

// setup makes a bench with a gated repository; nil options are the defaults, with an intake that is not
// started yet.
func setup(t *testing.T, intake *store.IntakeOptions, change func(*forge.Options)) *bench {
	t.Helper()
	b := &bench{
		forge: atlassiantest.New(t), database: dbtest.New(t), log: &journal{}, fail: map[string]error{},
		installation: store.Installation{State: store.InstallationActive},
	}
	vault, err := store.OpenVault(store.NewKeyset())
	if err != nil {
		t.Fatal(err)
	}
	if b.store, err = store.Open(t.Context(), b.database.AppURL, vault); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.store.Close)
	if intake == nil {
		intake = &store.IntakeOptions{}
	}
	b.intake = store.NewIntake(b.store, *intake)
	t.Cleanup(b.intake.Stop)
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	options := forge.Options{
		Verifier: b.forge.Verifier(t, func(c *atlassian.Config) { c.Log = log }), Store: b.store, Intake: b.intake, Log: log,
		Patience: time.Minute, // a busy machine is no fault
		Invoked: func(_ context.Context, inv atlassian.Invocation, token string, expires time.Time) (store.Installation, error) {
			err := b.call("invoked", inv, lives(token, expires))
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.installation, err
		},
		Installed: func(_ context.Context, inv atlassian.Invocation, installer string) error {
			return b.call("installed", inv, "by "+installer)
		},
		Upgraded: func(_ context.Context, inv atlassian.Invocation) error { return b.call("upgraded", inv, "") },
		Uninstalling: func(_ context.Context, inv atlassian.Invocation, token string, expires time.Time) error {
			return b.call("uninstalling", inv, lives(token, expires))
		},
		Scheduled: func(_ context.Context, inv atlassian.Invocation) error { return b.call("scheduled", inv, "") },
		MergeCheck: func(ctx context.Context, q gate.MergeQuestion) gate.MergeAnswer {
			b.mu.Lock()
			b.called = append(b.called, fmt.Sprintf("merge check %s %s %d %s %q", short(q.Workspace), short(q.Repository), q.Number, q.Trigger, q.AccountID))
			answer := b.answer
			b.mu.Unlock()
			if answer == nil {
				return gate.MergeAnswer{Success: true, Message: "2 of 2 approvals."}
			}
			return answer(ctx, q)
		},
		Observe: func(event, outcome string, took time.Duration) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.observed = append(b.observed, event+" "+outcome)
			if took < 0 {
				b.observed = append(b.observed, "took "+took.String())
			}
		},
	}
	if change != nil {
		change(&options)
	}
	door := forge.New(options)
	mux := http.NewServeMux()
	mux.HandleFunc("/forge/events", door.Events)
	mux.HandleFunc("/forge/lifecycle", door.Lifecycle)
	mux.HandleFunc("/forge/scheduled", door.Scheduled)
	mux.HandleFunc("/forge/merge-check", door.MergeCheck)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b.url = server.URL
	b.gateRepository(t, workspaceUUID, repoUUID)
	return b
}

// short names the ids of the tests.
func short(id string) string {
	switch id {
	case workspaceUUID:
		return "W"
	case repoUUID:
		return "R"
	default:
		return id
	}
}

// lives tells a system token without showing it.
func lives(token string, expires time.Time) string {
	if token == "" {
		return "without token"
	}
	return "with token for " + time.Until(expires).Round(time.Hour).String()
}

func (b *bench) call(what string, inv atlassian.Invocation, more string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	words := what + " " + short(inv.Workspace)
	if more != "" {
		words += " " + more
	}
	b.called = append(b.called, words)
	return b.fail[what]
}

// set changes what stands behind the door.
func (b *bench) set(change func(*bench)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

// seen takes what was observed, and called takes what was called, since the last time.
func (b *bench) seen() (observed, called []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	observed, called = b.observed, b.called
	b.observed, b.called = nil, nil
	return observed, called
}

// gateRepository sets a repository up as an administrator would.
func (b *bench) gateRepository(t *testing.T, workspace, repository string) {
	t.Helper()
	err := b.store.InWorkspace(t.Context(), workspace, func(tx *store.Tx) error {
		if _, _, err := tx.PutWorkspace(t.Context(), "acme", "Acme"); err != nil {
			return err
		}
		version, _, err := tx.PutPolicyVersion(t.Context(), store.PolicyVersion{
			RepositoryID: repository, Document: []byte("{}"), Digest: "0", CreatedBy: uuid.NewString(), CreatedVia: "session",
		})
		if err != nil {
			return err
		}
		_, err = tx.PutRepositoryConfig(t.Context(), store.RepositoryConfig{
			RepositoryID: repository, Slug: "rocket", FullName: "acme/rocket", Name: "rocket", PolicyVersionID: version.ID, HookID: uuid.NewString(),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
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

// systemToken is one that lives for 3 h.
func systemToken() string {
	payload := fmt.Sprintf(`{"exp":%d,"secret":"sesame"}`, time.Now().Add(3*time.Hour).Unix())
	return "c3lzdGVt." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2VzYW1lLXNpZ25hdHVyZQ"
}

// request is a call as Forge makes it: to a path below /forge/, through the endpoint that leads there.
func (b *bench) request(t *testing.T, path string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/forge/"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+b.forge.Sign(b.forge.Claims(path+"-ep")))
	r.Header.Set("X-Forge-Oauth-System", systemToken())
	r.Header.Set("X-B3-Traceid", "a523b7549f0b88c9")
	return r
}

// reply is what the door answered.
type reply struct {
	status  int
	code    string // of the error; "" where there is none
	success *bool  // of the merge check; nil where it is none
	message string
	header  http.Header
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
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	var said struct {
		Error   struct{ Code, Message string }
		Success *bool
		Message string
	}
	if len(raw) > 0 {
		err := json.Unmarshal(raw, &said)
		if err != nil || (said.Error.Code == "" || said.Error.Message == "") == (said.Success == nil) || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("answered %d with %q", res.StatusCode, raw)
		}
	}
	return reply{res.StatusCode, said.Error.Code, said.Success, said.Message, res.Header}
}

func (b *bench) deliver(t *testing.T, path string, body []byte) reply {
	t.Helper()
	return send(t, b.request(t, path, body))
}

// accepted demands a 2xx.
func (r reply) accepted(t *testing.T) {
	t.Helper()
	if r.status != http.StatusNoContent {
		t.Fatalf("answered %d %s", r.status, r.code)
	}
}

// turnedAway demands the answer that makes Forge come again.
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

// stored lists the deliveries by their ids.
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

// ledger lists the jobs as "kind key", with R for the repository.
func ledger(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select kind || ' ' || replace(key, $1, 'R') from signedapproval_jobs where workspace_id = $2`, workspaceUUID+"/"+repoUUID, workspaceUUID)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// forget forgets deliveries and jobs.
func forget(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), `truncate signedapproval_deliveries, signedapproval_jobs`); err != nil {
		t.Fatal(err)
	}
}
