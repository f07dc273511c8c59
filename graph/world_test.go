package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

const origin = "https://approvals.example"

// world is the product behind its API: the real use cases on a real database before a simulated
// Bitbucket. Only the queue is not there: settle does the jobs that were rung.
type world struct {
	t   *testing.T
	sim *bitbucketsim.Sim
	// scissors stand between the server and Bitbucket.
	scissors scissors
	store    *store.Store
	people   *people.People
	spaces   *workspace.Workspaces
	gate     *gate.Gate
	handler  *Handler
	server   *httptest.Server
	bell     *bell
	models   *evidence.Models // what rules can ask for; nil: nothing
	count    atomic.Int64     // SQL statements, those of transactions included

	mu     sync.Mutex // guards rings
	rings  []store.Ring
	frames map[string]Caller // by what they show as a token
	super  string            // the database, for its superuser
}

// browser is a person's, with the session's cookie and an authenticator.
type browser struct {
	*world
	cookie string
	key    *passkeytest.Authenticator
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, nil)
}

// newWorldWith is newWorld where rules can ask for models of authenticators.
func newWorldWith(t *testing.T, models *evidence.Models) *world {
	t.Helper()
	w := &world{t: t, models: models, bell: &bell{listeners: make(map[chan struct{}]string)}}
	vault, err := store.OpenVault(store.NewKeyset())
	w.must(err)
	database := dbtest.New(t)
	w.super = database.SuperURL
	w.store, err = store.Open(t.Context(), database.AppURL, vault, func(c *pgxpool.Config) { c.ConnConfig.Tracer = w })
	w.must(err)
	t.Cleanup(w.store.Close)
	w.store.Ring = w.rung
	w.store.Changed = func(_ context.Context, topics []string) {
		for _, topic := range topics {
			w.bell.ring(topic)
		}
	}
	w.sim = bitbucketsim.New(bitbucketsim.Options{RepositoryCallsPerHour: -1, HookCallsPerHour: -1})
	w.must(w.sim.Start("127.0.0.1:0"))
	t.Cleanup(func() { w.must(w.sim.Close()) })
	w.must(w.sim.AddExample())
	_, err = w.sim.AddPerson(bitbucketsim.Person{Nickname: "mallory"})
	w.must(err)
	w.wire()
	return w
}

// wire does what app does.
func (w *world) wire() {
	ceremonies, err := passkey.New("approvals.example", "SignedApproval", origin)
	w.must(err)
	ceremonies.Attest = w.models != nil
	log := slog.New(slog.DiscardHandler)
	api := bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL(), Transport: &w.scissors})
	// Webhooks arrive somewhere; event says what they would have said.
	hooks := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w.t.Cleanup(hooks.Close)
	w.spaces = workspace.New(workspace.Options{
		Store: w.store, API: api, Origin: hooks.URL, Passkeys: ceremonies, LogOrigin: "approvals.example/log", Log: log, Models: w.models, Witnesses: 2,
		Connect: w.consumer("/connect/callback", "account", "pullrequest:write", "repository:admin", "webhook"),
	})
	w.people = people.New(people.Options{
		Store: w.store, API: api, SignIn: w.consumer("/auth/callback", "account", "email"), Passkeys: ceremonies,
		LogOrigin: "approvals.example/log", Log: log,
	})
	w.gate = &gate.Gate{
		Store: w.store, Passkeys: ceremonies, Log: log, Origin: origin, RPID: "approvals.example", LogOrigin: "approvals.example/log", Models: w.models,
		Client: w.spaces.Client, Permission: w.spaces.Permission, Readable: w.spaces.Readable, People: w.spaces.People, EnsureHook: w.spaces.EnsureHook,
		Publish: func(ctx context.Context, _ int64, _ int) error {
			_, head, err := w.store.GrowTree(ctx)
			if err != nil {
				return err
			}
			return w.store.PutCheckpoint(ctx, head, []byte("a test's checkpoint"))
		},
	}
	w.people.Role = w.spaces.Role
	w.spaces.Cancel, w.spaces.Roster = w.gate.Cancel, w.gate.Roster
	w.people.Roster, w.people.Follow, w.people.Propose, w.spaces.ChangeKey = w.gate.Roster, w.gate.Follow, w.spaces.ProposeKeyChange, w.people.ApplyProposal
	w.handler, err = New(Options{
		Gate: w.gate, Workspaces: w.spaces, People: w.people, Identify: w.identify, Subscribe: w.bell.subscribe, Log: log,
		BitbucketWeb: w.sim.URL(),
	})
	w.must(err)
	w.server = httptest.NewServer(w.handler)
	w.t.Cleanup(func() { w.handler.Close(); w.server.CloseClientConnections(); w.server.Close() })
}

func (w *world) consumer(callback string, scopes ...string) bitbucket.Consumer {
	c, err := w.sim.AddConsumer(bitbucketsim.Consumer{Name: callback, Callback: origin + callback, Scopes: scopes})
	w.must(err)
	return bitbucket.Consumer{
		Key: c.Key, Secret: c.Secret, AuthorizeURL: w.sim.URL() + "/site/oauth2/authorize",
		TokenURL: w.sim.URL() + "/site/oauth2/access_token", RedirectURL: origin + callback,
	}
}

func (w *world) identify(r *http.Request) (Caller, error) {
	if secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if frame, ok := w.frames[secret]; ok {
			return frame, nil
		}
		if people.IsStreamToken(secret) {
			person, workspace, err := w.people.StreamCaller(r.Context(), secret)
			return Caller{Kind: Forge, Person: &person, Workspace: workspace, StreamOnly: true}, err
		}
		token, err := w.people.TokenCaller(r.Context(), secret)
		return Caller{Kind: Token, Person: &token.Person, Token: &token}, err
	}
	cookie, err := r.Cookie("signedapproval")
	if err != nil {
		return Caller{Kind: Anonymous}, nil
	}
	session, err := w.people.Session(r.Context(), cookie.Value)
	if refusal.Code(err) == refusal.NotFound {
		return Caller{Kind: Anonymous}, nil
	}
	if session.Person == nil {
		return Caller{Kind: Anonymous, SessionHash: session.Hash}, err
	}
	return Caller{Kind: Session, Person: session.Person, SessionHash: session.Hash}, err
}

// sql runs a statement as nobody but a test may.
func (w *world) sql(statement string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.super)
	w.must(err)
	defer func() { w.must(conn.Close(w.t.Context())) }()
	_, err = conn.Exec(w.t.Context(), statement)
	w.must(err)
}

// TraceQueryStart counts statements.
func (w *world) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	w.count.Add(1)
	return ctx
}

// TraceQueryEnd does nothing.
func (w *world) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rung(_ context.Context, rings []store.Ring) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rings = append(w.rings, rings...)
}

// settle does the jobs that were rung, until none is left.
func (w *world) settle() {
	w.t.Helper()
	handlers := map[string]func(context.Context, store.Job) error{
		store.KindEvaluate: w.gate.Evaluate, store.KindStatus: w.gate.PutStatus, store.KindMerge: w.gate.Merge, store.KindFan: w.gate.Fan,
		store.KindReconcile: w.gate.Reconcile, store.KindNotify: w.gate.SendNotice, store.KindRoster: w.gate.FollowKeys, store.KindFallen: w.gate.Fallen,
	}
	for range 2000 {
		w.mu.Lock()
		if len(w.rings) == 0 {
			w.mu.Unlock()
			return
		}
		ring := w.rings[0]
		w.rings = w.rings[1:]
		w.mu.Unlock()
		handle := handlers[ring.Kind]
		if handle == nil {
			continue
		}
		job, ok, err := w.store.ClaimJob(w.t.Context(), ring.ID, uuid.NewString(), time.Minute)
		w.must(err)
		if ok {
			w.must(handle(w.t.Context(), job))
		}
	}
	w.t.Fatal("the jobs do not come to rest")
}

// consent walks the round trip to Bitbucket's consent page and gives what the callback gets.
func (w *world) consent(authorize, name string) url.Values {
	w.t.Helper()
	redirect, err := w.sim.Consent(bitbucketsim.Consent{URL: authorize, Person: name})
	w.must(err)
	back, err := url.Parse(redirect.Location)
	w.must(err)
	return back.Query()
}

// signIn gives the browser of a person who has signed in.
func (w *world) signIn(name string) *browser {
	w.t.Helper()
	ctx := w.t.Context()
	_, session, err := w.people.NewSession(ctx)
	w.must(err)
	authorize, err := w.people.BeginSignIn(ctx, session.Hash, "/")
	w.must(err)
	back := w.consent(authorize, name)
	cookie, _, err := w.people.FinishSignIn(ctx, session.Hash, back.Get("state"), back.Get("code"), "")
	w.must(err)
	return &browser{world: w, cookie: cookie, key: passkeytest.New(origin)}
}

// object is a JSON object of an answer, with a path into it.
type object map[string]any

func (o object) at(path string) any {
	var here any = map[string]any(o)
	for _, step := range strings.Split(path, ".") {
		switch v := here.(type) {
		case map[string]any:
			here = v[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(v) {
				return nil
			}
			here = v[i]
		default:
			return nil
		}
	}
	return here
}

func (o object) text(path string) string { text, _ := o.at(path).(string); return text }

// send asks by text and gives the answer as it is.
func (w *world) send(query string, variables map[string]any, change func(*http.Request)) reply {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL, strings.NewReader(jsonOf(map[string]any{"query": query, "variables": variables})))
	w.must(err)
	r.Header.Set("Content-Type", "application/json")
	change(r)
	response, err := http.DefaultClient.Do(r)
	w.must(err)
	defer response.Body.Close()
	got := reply{status: response.StatusCode}
	var raw json.RawMessage
	w.must(json.NewDecoder(response.Body).Decode(&raw))
	got.body = string(raw)
	w.must(json.Unmarshal(raw, &got))
	return got
}

func (b *browser) send(query string, variables map[string]any) reply {
	b.t.Helper()
	return b.world.send(query, variables, func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "signedapproval", Value: b.cookie}) })
}

// ask is send for what must be answered without errors.
func (b *browser) ask(query string, variables map[string]any) object {
	b.t.Helper()
	got := b.send(query, variables)
	if len(got.Errors) > 0 {
		b.t.Fatalf("%s\n%s", query, got.body)
	}
	return object(got.Data)
}

// do asks for a mutation and gives its payload, which must have no userErrors.
func (b *browser) do(field, selection string, input map[string]any) object {
	b.t.Helper()
	payload := b.try(field, selection, input)
	if errors, _ := payload["userErrors"].([]any); len(errors) > 0 {
		b.t.Fatalf("%s: %v", field, errors)
	}
	return payload
}

// try is do for what may be refused.
func (b *browser) try(field, selection string, input map[string]any) object {
	b.t.Helper()
	upper := strings.ToUpper(field[:1]) + field[1:]
	data := b.ask("mutation($input: "+upper+"Input!) { "+field+"(input: $input) { "+selection+" userErrors { code message path } } }", map[string]any{"input": input})
	payload, _ := data.at(field).(map[string]any)
	return object(payload)
}

// connect lets the person connect acme, by the API and the callback.
func (b *browser) connect(name string) (workspaceID string) {
	b.t.Helper()
	url := b.do("beginConnect", "url", map[string]any{"returnTo": "/settings/bitbucket"}).text("url")
	back := b.consent(url, name)
	session, err := b.people.Session(b.t.Context(), b.cookie)
	b.must(err)
	_, err = b.spaces.FinishConnect(b.t.Context(), session.Hash, back.Get("state"), back.Get("code"), "")
	b.must(err)
	grant := b.ask(`{ viewer { grants { id accountName expiresAt workspaces { uuid slug name connected } } } }`, nil)
	return b.do("connectWorkspace", "workspace { id name connection { state accountName } }", map[string]any{
		"grantId": grant.text("viewer.grants.0.id"), "workspaceUuid": grant.text("viewer.grants.0.workspaces.0.uuid"),
	}).text("workspace.id")
}

// enrol registers a passkey, in the way the pages do.
func (b *browser) enrol() {
	b.t.Helper()
	b.enrolAs(func(response []byte) []byte { return response })
}

// enrolAs is enrol where the authenticator answers otherwise.
func (b *browser) enrolAs(change func(response []byte) []byte) {
	b.t.Helper()
	options := b.do("beginPasskey", "options", map[string]any{}).text("options")
	response, err := b.key.Create([]byte(options))
	b.must(err)
	act := b.do("finishPasskey", "passkey { id name } act { options }", map[string]any{"response": string(change(response)), "name": "key"})
	response, err = b.key.Get([]byte(act.text("act.options")))
	b.must(err)
	b.do("confirmPasskey", "passkey { id state } act { step }", map[string]any{"response": string(response)})
}

// decide signs a decision on a request, in the way the sign page does.
func (b *browser) decide(requestID, action string) object {
	b.t.Helper()
	prepared := b.prepare(requestID, action)
	response, err := b.key.Get([]byte(prepared.text("options")))
	b.must(err)
	return b.do("submitDecision", "decision { id action account { name } statementSha256 leafHash } request { id state decisions { id } viewerCan { withdraw } pullRequest { repository { fullName } status { state } } }", map[string]any{
		"requestId": requestID, "response": string(response),
	})
}

func (b *browser) prepare(requestID, action string) object {
	b.t.Helper()
	shown := b.ask(`query($id: ID!) { node(id: $id) { ... on ApprovalRequest { diff { content sha256 headCommit size mergeBases } } } }`, map[string]any{"id": requestID})
	return b.do("prepareDecision", "statement signerSalt commentSalt options expiresAt", map[string]any{
		"requestId": requestID, "action": action, "comment": "as agreed",
		"headCommit": shown.text("node.diff.headCommit"), "diffSha256": shown.text("node.diff.sha256"),
	})
}

// gated is the uuids of acme and rocket, once alice has connected and gated it.
type gated struct{ workspace, repository, workspaceID, repositoryID string }

func (b *browser) gates(workspaceID string, rules ...map[string]any) gated {
	b.t.Helper()
	found := b.ask(`query($id: ID!) { node(id: $id) { ... on Workspace { uuid bitbucketRepositories(search: "rock") { edges { node { uuid fullName repository { id } } } } } } }`,
		map[string]any{"id": workspaceID})
	g := gated{workspace: found.text("node.uuid"), repository: found.text("node.bitbucketRepositories.edges.0.node.uuid"), workspaceID: workspaceID}
	g.repositoryID = b.do("saveRepository", "repository { id state policy { version } }", map[string]any{
		"workspaceId": workspaceID, "repositoryUuid": g.repository, "rules": rules,
	}).text("repository.id")
	b.settle()
	return g
}

func ruleFor(quorum int) map[string]any {
	return map[string]any{
		"name": "Releases", "branches": []string{"release/*"},
		"requirements": []map[string]any{{"quorum": quorum, "everyone": true}},
	}
}

// open opens a pull request from a branch of its own, and evaluates it as a webhook would have it.
func (w *world) open(g gated, branch, title string) int {
	w.t.Helper()
	_, err := w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: branch, Person: "alice", Files: map[string]string{branch + ".txt": branch + "\n"}})
	w.must(err)
	opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{
		Repository: "acme/rocket", Author: "alice", Title: title, Source: branch, Destination: "release/1.0",
	})
	w.must(err)
	w.event(g, opened.ID)
	return opened.ID
}

func (w *world) event(g gated, number int) {
	w.t.Helper()
	w.must(w.store.InWorkspace(w.t.Context(), g.workspace, func(tx *store.Tx) error {
		return tx.Enqueue(w.t.Context(), store.AskEvaluate(g.workspace, g.repository, int64(number)))
	}))
	w.settle()
}
