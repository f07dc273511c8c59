package workspace_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

const (
	origin    = "https://approvals.example"
	logOrigin = "approvals.example/log"
)

var ceremonies = func() *passkey.Ceremonies {
	c, err := passkey.New("approvals.example", "SignedApproval", origin)
	if err != nil {
		panic(err)
	}
	return c
}()

// world is a Bitbucket with a few people, and our use cases on a database of their own.
//
//	acme: alice and dave own it, bob, carol and erin are members; app (bob writes, carol reads, erin
//	administers) and tool (nobody but the owners).
//	umbrella: mallory owns it; secret.
type world struct {
	*workspace.Workspaces
	t       *testing.T
	noon    time.Time // when the world began
	db      dbtest.Database
	store   *store.Store
	sim     *bitbucketsim.Sim
	connect bitbucketsim.Consumer

	acme, umbrella, app, tool, secret string // UUIDs, bare
	people                            map[string]bitbucketsim.Person

	mu        sync.Mutex
	cancelled []string // "workspace/repository: why"
	unpaid    []string // what Cancel leaves to do
	cancelErr error
}

func newWorld(t *testing.T, options bitbucketsim.Options) *world {
	t.Helper()
	w := &world{t: t, noon: time.Now().UTC().Truncate(time.Second), db: dbtest.New(t), people: map[string]bitbucketsim.Person{}}
	w.sim = bitbucketsim.New(options)
	must(t, w.sim.Start("127.0.0.1:0"))
	t.Cleanup(func() { must(t, w.sim.Close()) })
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin", "mallory"} {
		w.people[name] = get(w.sim.AddPerson(bitbucketsim.Person{
			Nickname: name, DisplayName: strings.ToUpper(name[:1]) + name[1:], Email: name + "@example.com",
		}))(t)
	}
	w.acme = bare(t, get(w.sim.AddWorkspace(bitbucketsim.Workspace{
		Slug: "acme", Name: "Acme Inc", Owners: []string{"alice", "dave"}, Members: []string{"bob", "carol", "erin"},
	}))(t).UUID)
	w.umbrella = bare(t, get(w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "umbrella", Name: "Umbrella", Owners: []string{"mallory"}}))(t).UUID)
	w.app = bare(t, get(w.sim.AddRepository(bitbucketsim.Repository{
		Workspace: "acme", Slug: "app", Name: "The App",
		Permissions: map[string]string{"bob": "write", "carol": "read", "erin": "admin"},
	}))(t).UUID)
	w.tool = bare(t, get(w.sim.AddRepository(bitbucketsim.Repository{Workspace: "acme", Slug: "tool"}))(t).UUID)
	w.secret = bare(t, get(w.sim.AddRepository(bitbucketsim.Repository{Workspace: "umbrella", Slug: "secret"}))(t).UUID)
	w.connect = get(w.sim.AddConsumer(bitbucketsim.Consumer{
		Name: "connect", Callback: origin + "/connect/callback",
		Scopes: []string{"account", "pullrequest:write", "repository:admin", "webhook"},
	}))(t)
	w.Workspaces, w.store = w.replica()
	return w
}

// replica is another server on the same database.
func (w *world) replica() (*workspace.Workspaces, *store.Store) {
	w.t.Helper()
	s := get(store.Open(w.t.Context(), w.db.AppURL, vault))(w.t)
	w.t.Cleanup(s.Close)
	return w.server(s, origin), s
}

// at is our server under another origin.
func (w *world) at(origin string) *workspace.Workspaces { return w.server(w.store, origin) }

// serve runs a receiver of webhooks and answers its origin.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

func (w *world) server(s *store.Store, origin string) *workspace.Workspaces {
	return w.serverBy(s, origin, w.consumer(w.connect), bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL()}))
}

// serverBy is a server that talks to Bitbucket by a consumer and an API of its own.
func (w *world) serverBy(s *store.Store, origin string, connect bitbucket.Consumer, api *bitbucket.API) *workspace.Workspaces {
	return w.serverWith(workspace.Options{Store: s, API: api, Connect: connect, Origin: origin})
}

// serverWith is a server with options of its own; what they leave out is ours.
func (w *world) serverWith(options workspace.Options) *workspace.Workspaces {
	if options.Store == nil {
		options.Store, options.Origin, options.Connect = w.store, origin, w.consumer(w.connect)
		options.API = bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL()})
	}
	options.Passkeys, options.LogOrigin, options.Log = ceremonies, logOrigin, slog.New(slog.NewTextHandler(io.Discard, nil))
	ws := workspace.New(options)
	ws.Cancel, ws.Roster = w.cancel, (&gate.Gate{Store: options.Store}).Roster
	ws.ChangeKey = func(ctx context.Context, tx *store.Tx, p store.Proposal, acts []store.ProposalAct) error {
		return w.passkeys().ApplyProposal(ctx, tx, p, acts)
	}
	return ws
}

func (w *world) consumer(c bitbucketsim.Consumer) bitbucket.Consumer {
	return bitbucket.Consumer{
		Key: c.Key, Secret: c.Secret, AuthorizeURL: w.sim.URL() + "/site/oauth2/authorize",
		TokenURL: w.sim.URL() + "/site/oauth2/access_token", RedirectURL: origin + "/connect/callback",
	}
}

func (w *world) cancel(_ context.Context, workspace, repository, why string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancelled = append(w.cancelled, workspace+"/"+repository+": "+why)
	return w.unpaid, w.cancelErr
}

var vault = func() *store.Vault {
	v, err := store.OpenVault(store.NewKeyset())
	if err != nil {
		panic(err)
	}
	return v
}()

// person signs somebody in, as far as the store is concerned, and gives their browser session.
func (w *world) person(name string) (store.Person, []byte) {
	w.t.Helper()
	p := w.people[name]
	hash := make([]byte, 32)
	rand.Read(hash)
	var person store.Person
	must(w.t, w.store.Outside(w.t.Context(), func(sh *store.Shared) (err error) {
		person, err = sh.PutPerson(w.t.Context(), store.Person{
			AccountID: p.AccountID, AccountUUID: bare(w.t, p.UUID), Name: p.DisplayName, Email: p.Email,
		})
		if err != nil {
			return err
		}
		return sh.InsertSession(w.t.Context(), hash, &person.ID, 1e12)
	}))
	return person, hash
}

// who is person without the session.
func (w *world) who(name string) store.Person {
	w.t.Helper()
	person, _ := w.person(name)
	return person
}

// consent goes to the consent page as somebody, and gives what comes back to the callback.
func (w *world) consent(authorize, name string) url.Values {
	w.t.Helper()
	redirect := get(w.sim.Consent(bitbucketsim.Consent{URL: authorize, Person: name}))(w.t)
	return get(url.Parse(redirect.Location))(w.t).Query()
}

// grant takes somebody through the round trip and answers the id of the consent.
func (w *world) grant(name string) (store.Person, string) {
	w.t.Helper()
	person, session := w.person(name)
	authorize := get(w.BeginConnect(w.t.Context(), person, session, ""))(w.t)
	back := w.consent(authorize, name)
	get(w.FinishConnect(w.t.Context(), session, back.Get("state"), back.Get("code"), back.Get("error")))(w.t)
	grants := get(w.Grants(w.t.Context(), person))(w.t)
	if len(grants) == 0 {
		w.t.Fatal("no grant")
	}
	return person, grants[0].ID
}

// connected connects a workspace in somebody's name.
func (w *world) connected(name, uuid string) store.Person {
	w.t.Helper()
	person, id := w.grant(name)
	get(w.Connect(w.t.Context(), person, id, uuid))(w.t)
	return person
}

// connection reads the connection as it is stored.
func (w *world) connection(uuid string) (c store.Connection) {
	w.t.Helper()
	w.read(uuid, func(tx *store.Tx) (err error) { c, err = tx.Connection(w.t.Context()); return err })
	return c
}

func (w *world) alarms(uuid string) (kinds []string) {
	w.t.Helper()
	w.read(uuid, func(tx *store.Tx) error {
		alarms, err := tx.OpenAlarms(w.t.Context())
		for _, a := range alarms {
			kinds = append(kinds, a.Kind)
		}
		return err
	})
	slices.Sort(kinds)
	return kinds
}

func (w *world) read(uuid string, fn func(tx *store.Tx) error) {
	w.t.Helper()
	must(w.t, w.store.InWorkspace(w.t.Context(), uuid, fn))
}

// sql runs a statement as the superuser: to make time pass, and to look.
func (w *world) sql(statement string, args ...any) {
	w.t.Helper()
	conn := get(pgx.Connect(w.t.Context(), w.db.SuperURL))(w.t)
	defer conn.Close(context.WithoutCancel(w.t.Context()))
	get(conn.Exec(w.t.Context(), statement, args...))(w.t)
}

// texts reads one column of text as the superuser.
func (w *world) texts(query string, args ...any) []string {
	w.t.Helper()
	conn := get(pgx.Connect(w.t.Context(), w.db.SuperURL))(w.t)
	defer conn.Close(context.WithoutCancel(w.t.Context()))
	return get(pgx.CollectRows(get(conn.Query(w.t.Context(), query, args...))(w.t), pgx.RowTo[string]))(w.t)
}

// leaves are the types of the leaves of a workspace, in their order.
func (w *world) leaves(uuid string) []string {
	w.t.Helper()
	return w.texts(`select convert_from(entry, 'UTF8')::jsonb ->> 'type' || coalesce(' ' || (convert_from(entry, 'UTF8')::jsonb -> 'body' ->> 'event'), '')
		from signedapproval_leaves where workspace_id = $1 order by index`, uuid)
}

// refreshes counts the exchanges of refresh tokens that reached Bitbucket since the call numbered after.
func (w *world) exchanges(after int) (n int) {
	for _, call := range w.sim.Calls(after) {
		if strings.HasSuffix(call.Path, "/access_token") {
			n++
		}
	}
	return n
}

func (w *world) lastCall() int {
	calls := w.sim.Calls(0)
	if len(calls) == 0 {
		return 0
	}
	return calls[len(calls)-1].Number
}

// approvals is a policy: that many people with write permission, on main.
func approvals(quorum int) approval.Policy {
	return approval.Policy{Format: approval.Format, Rules: []approval.Rule{{
		Name: "Main", Branches: []string{"main"}, ExpiresAfterSeconds: 3600,
		Requirements: []approval.Requirement{{Name: "Approval", Quorum: quorum, Approvers: approval.Approvers{Everyone: true}}},
	}}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get2[A, B any](a A, b B, err error) func(testing.TB) (A, B) {
	return func(t testing.TB) (A, B) {
		t.Helper()
		must(t, err)
		return a, b
	}
}

func get[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return value
	}
}

func bare(t testing.TB, uuid string) string {
	t.Helper()
	b, ok := bitbucket.BareUUID(uuid)
	if !ok {
		t.Fatalf("%q is not a UUID", uuid)
	}
	return b
}

// refused checks that err is the refusal with this code.
func refused(t testing.TB, err error, code string) {
	t.Helper()
	if refusal.Code(err) != code {
		t.Errorf("got %v, want the refusal %s", err, code)
	}
}

func equal[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// isRemote tells whether Bitbucket itself said no with this status.
func isRemote(err error, status int) bool {
	remote, ok := errors.AsType[*bitbucket.Error](err)
	return ok && remote.Status == status
}
