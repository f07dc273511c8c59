package people_test

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const origin = "https://approvals.example"

// The workspaces in which Role knows somebody.
const (
	acme     = "11111111-1111-4111-8111-111111111111"
	umbrella = "22222222-2222-4222-8222-222222222222"
)

// world is a Bitbucket with a few people, and our use cases on a database of their own. Alice
// administers acme, bob is a member of it, mallory administers umbrella.
type world struct {
	*people.People
	t        *testing.T
	db       dbtest.Database
	store    *store.Store
	sim      *bitbucketsim.Sim
	consumer bitbucketsim.Consumer
	accounts map[string]bitbucketsim.Person
	roles    map[string]store.Role // by workspace and account id
	roleErr  error
}

func newWorld(t *testing.T, scopes ...string) *world {
	t.Helper()
	if len(scopes) == 0 {
		scopes = []string{"account", "email"}
	}
	w := &world{t: t, db: dbtest.New(t), accounts: map[string]bitbucketsim.Person{}, roles: map[string]store.Role{}}
	w.sim = bitbucketsim.New(bitbucketsim.Options{})
	must(t, w.sim.Start("127.0.0.1:0"))
	t.Cleanup(func() { must(t, w.sim.Close()) })
	for _, name := range []string{"alice", "bob", "mallory"} {
		w.accounts[name] = get(w.sim.AddPerson(bitbucketsim.Person{Nickname: name, DisplayName: "The " + name, Email: name + "@example.com"}))(t)
	}
	get(w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "acme", UUID: "{" + acme + "}", Owners: []string{"alice"}, Members: []string{"bob"}}))(t)
	w.consumer = get(w.sim.AddConsumer(bitbucketsim.Consumer{Callback: origin + "/auth/callback", Scopes: scopes}))(t)
	for account, role := range map[string]store.Role{"alice": store.RoleAdmin, "bob": store.RoleMember} {
		w.roles[acme+w.accounts[account].AccountID] = role
	}
	w.roles[umbrella+w.accounts["mallory"].AccountID] = store.RoleAdmin

	vault := get(store.OpenVault(store.NewKeyset()))(t)
	w.store = get(store.Open(t.Context(), w.db.AppURL, vault))(t)
	t.Cleanup(w.store.Close)
	w.People = people.New(people.Options{
		Store: w.store, API: bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL()}),
		SignIn: bitbucket.Consumer{
			Key: w.consumer.Key, Secret: w.consumer.Secret, AuthorizeURL: w.sim.URL() + "/site/oauth2/authorize",
			TokenURL: w.sim.URL() + "/site/oauth2/access_token", RedirectURL: origin + "/auth/callback",
		},
		Passkeys: get(passkey.New("approvals.example", "SignedApproval", origin))(t), LogOrigin: "approvals.example/log",
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	w.Role = func(_ context.Context, person store.Person, workspace string, _ bool) (store.Role, error) {
		role := w.roles[workspace+person.AccountID]
		if role == "" {
			role = store.RoleNone
		}
		return role, w.roleErr
	}
	return w
}

// begin starts a sign-in in a new browser and answers its session and what Bitbucket sends back.
func (w *world) begin(name, returnTo string) (people.Session, url.Values) {
	w.t.Helper()
	_, session := get2(w.NewSession(w.t.Context()))(w.t)
	return session, w.consent(session, name, returnTo)
}

func (w *world) consent(session people.Session, name, returnTo string) url.Values {
	w.t.Helper()
	authorize := get(w.BeginSignIn(w.t.Context(), session.Hash, returnTo))(w.t)
	redirect := get(w.sim.Consent(bitbucketsim.Consent{URL: authorize, Person: name}))(w.t)
	return get(url.Parse(redirect.Location))(w.t).Query()
}

// signedIn signs somebody in and answers the cookie's value and the session.
func (w *world) signedIn(name string) (string, people.Session) {
	w.t.Helper()
	session, back := w.begin(name, "")
	cookie, _ := get2(w.FinishSignIn(w.t.Context(), session.Hash, back.Get("state"), back.Get("code"), ""))(w.t)
	return cookie, get(w.Session(w.t.Context(), cookie))(w.t)
}

// made makes a key of somebody that waits, and answers what it is to sign.
func (w *world) made(session people.Session, name string) (store.Credential, *passkeytest.Authenticator, people.KeyAct) {
	w.t.Helper()
	key := passkeytest.New(origin)
	options := get(w.BeginPasskey(w.t.Context(), *session.Person, session.Hash, ""))(w.t)
	response := get(key.Create([]byte(options)))(w.t)
	made, act, err := w.FinishPasskey(w.t.Context(), *session.Person, session.Hash, name, string(response))
	must(w.t, err)
	return made, key, act
}

// signs lets an authenticator sign an act and confirms it.
func (w *world) signs(session people.Session, key *passkeytest.Authenticator, act people.KeyAct) (store.Credential, *people.KeyAct, error) {
	w.t.Helper()
	return w.ConfirmPasskey(w.t.Context(), *session.Person, session.Hash, string(get(key.Get(act.Options))(w.t)))
}

// enrolled enrols a key of somebody, with the authority of one of the others where there are some.
func (w *world) enrolled(session people.Session, name string, others ...*passkeytest.Authenticator) (store.Credential, *passkeytest.Authenticator) {
	w.t.Helper()
	_, key, act := w.made(session, name)
	enrolled, next, err := w.signs(session, key, act)
	must(w.t, err)
	if next != nil {
		enrolled, next, err = w.signs(session, others[0], *next)
		must(w.t, err)
	}
	if next != nil || !enrolled.Enrolled() {
		w.t.Fatalf("%+v is not enrolled", enrolled)
	}
	return enrolled, key
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return value
	}
}

func get2[A, B any](a A, b B, err error) func(testing.TB) (A, B) {
	return func(t testing.TB) (A, B) {
		t.Helper()
		must(t, err)
		return a, b
	}
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

func TestNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, alice := w.signedIn("alice")
	_, bob := w.signedIn("bob")
	for _, key := range []string{"one", "two", "two", "three"} {
		must(t, w.store.Outside(t.Context(), func(sh *store.Shared) error {
			return sh.AddNotice(t.Context(), store.Notice{
				PersonID: alice.Person.ID, WorkspaceID: acme, Kind: "TEST", DedupeKey: key, Title: key, Sentence: "x", Path: "/",
			})
		}))
	}
	var titles []string
	page := store.Page{First: 2}
	for {
		notices, more, err := w.Notices(t.Context(), *alice.Person, "", page)
		must(t, err)
		for _, n := range notices {
			titles = append(titles, n.Title)
		}
		if !more {
			break
		}
		page.After = notices[len(notices)-1].Cursor()
	}
	equal(t, "titles", titles, []string{"three", "two", "one"})
	if n := get(w.UnreadNotices(t.Context(), *alice.Person, ""))(t); n != 3 {
		t.Errorf("%d unread", n)
	}
	notices, _, err := w.Notices(t.Context(), *alice.Person, "", store.Page{First: 1})
	must(t, err)
	id := notices[0].ID
	for _, attempt := range []func(string) error{
		func(id string) error { _, err := w.ReadNotice(t.Context(), *bob.Person, id); return err },
		func(id string) error { _, err := w.Notice(t.Context(), *bob.Person, id); return err },
	} {
		for _, id := range []string{id, acme, "nonsense"} {
			refused(t, attempt(id), refusal.NotFound)
		}
	}
	if read := get(w.ReadNotice(t.Context(), *alice.Person, id))(t); read.ReadAt == nil {
		t.Error("not read")
	}
	if n := get(w.UnreadNotices(t.Context(), *alice.Person, ""))(t); n != 2 {
		t.Errorf("%d unread", n)
	}
	if got := get(w.Notice(t.Context(), *alice.Person, id))(t); got.Title != "three" {
		t.Errorf("got %+v", got)
	}
	if !strings.HasPrefix(notices[0].Path, "/") {
		t.Error("the path leads elsewhere")
	}
}
