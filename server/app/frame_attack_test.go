package app_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/descriptor"
	"github.com/signedapproval/bitbucket/frontend"
	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

// frameWorld is a server, with the app installed in acme.
type frameWorld struct {
	t     *testing.T
	sim   *bitbucketsim.Sim
	url   string
	super string
}

func newFrameWorld(t *testing.T) *frameWorld {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &frameWorld{t: t, sim: bitbucketsim.New(bitbucketsim.Options{RepositoryCallsPerHour: -1, HookCallsPerHour: -1})}
	must(w.sim.Start("127.0.0.1:0"))
	t.Cleanup(func() { must(w.sim.Close()) })
	must(w.sim.AddExample())
	db := dbtest.New(t)
	w.super = db.SuperURL
	config := app.Config{
		Origin: "http://localhost:8080", DatabaseURL: db.AppURL, RedisURL: "redis://" + miniredis.RunT(t).Addr(), Keyset: string(store.NewKeyset()),
		LogKey:     newLogKey(t, "localhost:8080/log"),
		ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
		BitbucketAPI: w.sim.URL(), BitbucketWeb: w.sim.URL(),
		ForgeAppID: forgeApp, ForgeJWKSURL: w.sim.URL() + bitbucketsim.JWKSPath, ForgeAPIHosts: []string{w.sim.URL()},
		ForgeFrameOrigins: []string{"https://*.cdn.prod.atlassian-dev.net"},
	}
	must(config.Validate())
	server, err := app.New(t.Context(), config, slog.New(slog.DiscardHandler))
	must(err)
	t.Cleanup(server.Close)
	face := httptest.NewServer(server.Handler())
	t.Cleanup(face.Close)
	w.url = face.URL

	manifest, err := descriptor.Render(descriptor.Environment{AppID: forgeApp, Origin: "https://approvals.example"})
	must(err)
	dir := t.TempDir()
	must(os.WriteFile(filepath.Join(dir, "manifest.yml"), []byte(manifest), 0o600))
	spec := bitbucketsim.ForgeApp{Manifest: filepath.Join(dir, "manifest.yml"), RemoteURL: w.url, Resources: map[string]string{}}
	for _, page := range []string{"panel", "dashboard"} {
		spec.Resources[page] = filepath.Join(dir, page)
		must(os.Mkdir(spec.Resources[page], 0o700))
		must(os.WriteFile(filepath.Join(spec.Resources[page], "index.html"), []byte("<!doctype html><title>A page</title>"), 0o600))
	}
	_, err = w.sim.RegisterForgeApp(spec)
	must(err)
	_, err = w.sim.InstallForgeApp(bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"})
	must(err)
	w.eventually("the app is known, with its token", func() bool {
		return w.sql(`select count(*)::text from signedapproval_installations where system_token is not null`) == "1"
	})
	return w
}

func (w *frameWorld) eventually(what string, done func() bool) {
	w.t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !done(); <-poll.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("in vain: %s", what)
		}
	}
}

// sql runs a statement as nobody but a test may, and gives its one value.
func (w *frameWorld) sql(statement string) (value string) {
	w.t.Helper()
	connection, err := pgx.Connect(w.t.Context(), w.super)
	if err != nil {
		w.t.Fatal(err)
	}
	defer connection.Close(w.t.Context())
	if err := connection.QueryRow(w.t.Context(), statement).Scan(&value); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
	return value
}

// page is the invocation token of a person who looks at the dashboard inside Bitbucket.
func (w *frameWorld) page(who string, claims map[string]any) string {
	w.t.Helper()
	issued, err := w.sim.IssueInvocationToken(bitbucketsim.InvocationTokenRequest{
		ForgeChange: bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"}, Endpoint: "ui-ep", Caller: who, Module: "dashboard", Claims: claims,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return issued.Token
}

type framed struct {
	status int
	body   string
}

func (f framed) code() string {
	var answer struct {
		Errors []struct{ Extensions struct{ Code string } }
	}
	if json.Unmarshal([]byte(f.body), &answer) != nil || len(answer.Errors) == 0 {
		return ""
	}
	return answer.Errors[0].Extensions.Code
}

func (w *frameWorld) send(method, path, token, body string, change func(http.Header)) framed {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	if change != nil {
		change(r.Header)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return framed{response.StatusCode, string(text)}
}

// ask sends an operation of our own pages.
func (w *frameWorld) ask(token, operation string, variables map[string]any, change func(http.Header)) framed {
	w.t.Helper()
	var documents map[string]string
	if err := json.Unmarshal(frontend.PersistedDocuments(), &documents); err != nil {
		w.t.Fatal(err)
	}
	for hash, text := range documents {
		if strings.Contains(text, " "+operation+"(") || strings.Contains(text, " "+operation+" {") {
			body, err := json.Marshal(map[string]any{"documentId": hash, "variables": variables})
			if err != nil {
				w.t.Fatal(err)
			}
			return w.send(http.MethodPost, "/graphql", token, string(body), change)
		}
	}
	w.t.Fatalf("no page asks %s", operation)
	return framed{}
}

// forgedSystemToken looks as one that lives for long.
func forgedSystemToken(who string) string {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	return part(`{"alg":"RS256"}`) + "." + part(fmt.Sprintf(`{"sub":%q,"exp":%d}`, who, time.Now().Add(210*time.Minute).Unix())) + "." + part("x")
}

// TestAPageBringsNoSystemToken: a member who looks at a page has its invocation token and can send it with
// headers of their own. What they send as the app's token must not take the place of the app's, nor
// stand in for it.
func TestAPageBringsNoSystemToken(t *testing.T) {
	t.Parallel()
	w := newFrameWorld(t)
	poison := func(h http.Header) { h.Set("X-Forge-Oauth-System", forgedSystemToken("bob")) }
	const held = `select encode(sha256(system_token), 'hex') from signedapproval_installations`
	before := w.sql(held)
	w.sql(`update signedapproval_installations set system_token_expires_at = now() + interval '30 minutes' returning id::text`)
	if got := w.ask(w.page("bob", nil), "Shell", nil, poison); got.status != http.StatusOK || got.code() != "" {
		t.Fatalf("the page does not work: %+v", got)
	}
	if after := w.sql(held); after != before {
		t.Error("a member has replaced the app's token")
	}
	w.sql(`update signedapproval_installations set system_token = null, system_token_expires_at = null returning id::text`)
	w.ask(w.page("bob", nil), "Shell", nil, poison)
	if n := w.sql(`select count(system_token)::text from signedapproval_installations`); n != "0" {
		t.Error("a member has given the app a token")
	}
}

// TestAPageIsNotForge: a page can make its calls to any address of this server.
func TestAPageIsNotForge(t *testing.T) {
	t.Parallel()
	w := newFrameWorld(t)
	workspace := w.sql(`select workspace_id::text from signedapproval_installations`)
	for path, body := range map[string]string{
		"/forge/lifecycle": `{"contextToken":"x"}`,
		"/forge/events":    `{"eventType":"avi:bitbucket:push:repository","workspace":{"uuid":"{` + workspace + `}"}}`,
		"/forge/scheduled": `{}`,
	} {
		for name, claims := range map[string]map[string]any{
			"the endpoint":  nil,
			"the page":      {"app": map[string]any{"module": map[string]any{"type": "bitbucket:workspaceGlobalPage", "key": "dashboard"}}},
			"the settings":  {"app": map[string]any{"module": map[string]any{"type": "bitbucket:workspaceSettingsMenuPage", "key": "workspace-settings"}}},
			"no known name": {"app": map[string]any{"module": map[string]any{"type": "core:endpoint", "key": "Lifecycle-EP"}}},
		} {
			if got := w.send(http.MethodPost, path, w.page("alice", claims), body, nil); got.status != http.StatusForbidden {
				t.Errorf("%s by %s: %+v", path, name, got)
			}
		}
	}
	question := `{"workspace":{"uuid":"{` + workspace + `}"},"repository":{"uuid":"{` + workspace + `}"},"pullrequest":{"id":1},"trigger":{"type":"on-merge"}}`
	if got := w.send(http.MethodPost, "/forge/merge-check", w.page("alice", nil), question, nil); got.status != http.StatusOK || !strings.Contains(got.body, `"success":false`) {
		t.Errorf("merge check by a page: %+v", got)
	}
	if n := w.sql(`select (select count(*) from signedapproval_deliveries)::text || state from signedapproval_installations`); n != "0ACTIVE" {
		t.Errorf("it had consequences: %s", n)
	}
}

// TestAnInstallationThatIsOverOpensNothing, nor does one of which Bitbucket has not told yet, in a
// workspace that another one speaks for: it would pass by the administrator who has to confirm it.
func TestAnInstallationThatIsOverOpensNothing(t *testing.T) {
	t.Parallel()
	w := newFrameWorld(t)
	another := "ari:cloud:ecosystem::installation/11111111-2222-4333-8444-555555555555"
	unheard := w.page("alice", map[string]any{"app": map[string]any{"installationId": another, "installation": map[string]any{"id": another}}})
	if got := w.ask(unheard, "Shell", nil, nil); got.status != http.StatusForbidden || strings.Contains(got.body, "data") {
		t.Errorf("an unheard installation beside another: %+v", got)
	}
	w.sql(`update signedapproval_installations set state = 'UNINSTALLED', uninstalled_at = now(), system_token = null, system_token_expires_at = null returning id::text`)
	if got := w.ask(w.page("alice", nil), "Shell", nil, nil); got.status != http.StatusForbidden || strings.Contains(got.body, "data") {
		t.Errorf("an installation that is over: %+v", got)
	}
}

// TestAnUnconfirmedInstallationShowsNothing but what its confirmation needs; and who was never here can
// confirm it.
func TestAnUnconfirmedInstallationShowsNothing(t *testing.T) {
	t.Parallel()
	w := newFrameWorld(t)
	workspace := w.sql(`update signedapproval_installations set state = 'AWAITING_CONFIRMATION' returning workspace_id::text`)
	for operation, variables := range map[string]map[string]any{
		"Waiting": nil, "Notices": nil, "Repositories": {"workspace": workspace}, "Requests": {"workspace": workspace}, "Tokens": {"workspace": workspace},
		"Members": {"workspace": workspace}, "OtherRepositories": {"workspace": workspace},
		"CreateStreamToken": {"input": map[string]any{}},
	} {
		if got := w.ask(w.page("alice", nil), operation, variables, nil); got.code() != "INSTALLATION_UNCONFIRMED" || strings.Contains(got.body, `"data"`) {
			t.Errorf("%s: %+v", operation, got)
		}
	}
	if got := w.send(http.MethodGet, "/evidence/"+workspace+"/"+workspace, w.page("alice", nil), "", nil); got.status != http.StatusForbidden {
		t.Errorf("evidence: %+v", got)
	}
	for _, operation := range []string{"Shell", "Bitbucket"} {
		if got := w.ask(w.page("alice", nil), operation, nil, nil); got.status != http.StatusOK || got.code() != "" {
			t.Errorf("%s: %+v", operation, got)
		}
	}
	id := base64.RawURLEncoding.EncodeToString([]byte("workspace:" + workspace + ":" + workspace))
	confirm := map[string]any{"input": map[string]any{"workspaceId": id}}
	if got := w.ask(w.page("bob", nil), "ConfirmInstallation", confirm, nil); !strings.Contains(got.body, `"FORBIDDEN"`) {
		t.Errorf("a member confirms: %+v", got)
	}
	if got := w.ask(w.page("alice", nil), "ConfirmInstallation", confirm, nil); !strings.Contains(got.body, `"state":"ACTIVE"`) {
		t.Errorf("the administrator confirms: %+v", got)
	}
}

// TestAGoodTokenIsNeverAnswered401: Forge takes 401 for a bad invocation token, and for nothing else.
func TestAGoodTokenIsNeverAnswered401(t *testing.T) {
	t.Parallel()
	w := newFrameWorld(t)
	w.sql(`update signedapproval_installations set system_token = null, system_token_expires_at = null returning id::text`)
	if got := w.ask(w.page("carol", nil), "Shell", nil, nil); got.status != http.StatusServiceUnavailable || got.code() != "WAITING_FOR_TOKEN" {
		t.Errorf("somebody who was never here, while the app holds no token: %+v", got)
	}
	if got := w.send(http.MethodGet, "/evidence/a/b", w.page("carol", nil), "", nil); got.status != http.StatusServiceUnavailable {
		t.Errorf("their evidence: %+v", got)
	}
	if got := w.ask(w.page("carol", map[string]any{"principal": nil}), "Shell", nil, nil); got.status != http.StatusForbidden {
		t.Errorf("nobody: %+v", got)
	}
	if got := w.send(http.MethodGet, "/evidence/a/b", w.page("carol", map[string]any{"principal": nil}), "", nil); got.status != http.StatusForbidden {
		t.Errorf("nobody's evidence: %+v", got)
	}
	for _, path := range []string{"/graphql", "/evidence/a/b"} {
		method := map[bool]string{true: http.MethodPost, false: http.MethodGet}[path == "/graphql"]
		if got := w.send(method, path, w.page("carol", nil)+"x", `{"query":"{ viewer { caller } }"}`, nil); got.status != http.StatusUnauthorized {
			t.Errorf("a bad token at %s: %+v", path, got)
		}
	}
}

// TestAStreamTokenTakesNothingAlong: it subscribes from the frame and does nothing else, wherever it is shown.
func TestAStreamTokenTakesNothingAlong(t *testing.T) {
	t.Parallel()
	w := newFrameWorld(t)
	workspace := w.sql(`select workspace_id::text from signedapproval_installations`)
	var made struct {
		Data struct {
			CreateStreamToken struct{ Token string }
		}
	}
	got := w.ask(w.page("bob", nil), "CreateStreamToken", map[string]any{"input": map[string]any{}}, nil)
	if err := json.Unmarshal([]byte(got.body), &made); err != nil || made.Data.CreateStreamToken.Token == "" {
		t.Fatalf("no stream token: %+v", got)
	}
	stream := made.Data.CreateStreamToken.Token
	for _, path := range []string{"/evidence/" + workspace + "/" + workspace, "/receipts/" + workspace + "/" + workspace, "/workspaces/" + workspace + "/openings"} {
		if got := w.send(http.MethodGet, path, stream, "", nil); got.status != http.StatusForbidden {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := w.ask(stream, "Shell", nil, nil); got.status != http.StatusForbidden {
		t.Errorf("a query: %+v", got)
	}
	if got := w.ask(stream, "CreateStreamToken", map[string]any{"input": map[string]any{}}, nil); got.status != http.StatusForbidden {
		t.Errorf("another token: %+v", got)
	}
	for _, path := range []string{"events", "lifecycle", "scheduled", "merge-check"} {
		if got := w.send(http.MethodPost, "/forge/"+path, stream, `{}`, nil); got.status != http.StatusUnauthorized {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// crossing is what a page of another origin gets.
type crossing struct {
	status int
	header http.Header
}

// TestOtherOrigins: pages of other origins, those of other Forge apps among them, get nothing by the
// browser of somebody who is signed in.
func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	w := newFrameWorld(t)
	const ours, theirs = "https://0f1e2d3c.cdn.prod.atlassian-dev.net", "https://attacker.cdn.prod.atlassian-dev.net"
	call := func(method, path, origin string, header map[string]string) crossing {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(`{"query":"{ viewer { caller } }"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		for name, value := range header {
			r.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return crossing{response.StatusCode, response.Header}
	}
	preflight := map[string]string{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
	for _, origin := range []string{ours, theirs} {
		got := call(http.MethodOptions, "/graphql", origin, preflight)
		if got.status != http.StatusNoContent || got.header.Get("Access-Control-Allow-Origin") != origin || got.header.Get("Vary") != "Origin" {
			t.Errorf("preflight of %s: %d %v", origin, got.status, got.header)
		}
		// With a cookie, with an invocation token, with nothing: no operation, whatever may be read.
		for name, header := range map[string]map[string]string{
			"cookie": {"Cookie": "signedapproval=x"}, "frame": {"Authorization": "Bearer " + w.page("bob", nil)}, "nothing": {},
			"small letters": {"Authorization": "bearer sa_stream_x"},
		} {
			got := call(http.MethodPost, "/graphql", origin, header)
			if got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s with %s: %d %v", origin, name, got.status, got.header)
			}
		}
		if got := call(http.MethodGet, "/evidence/a/b", origin, nil); got.header.Get("Access-Control-Allow-Origin") != "" || got.header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("another path may be read by %s: %v", origin, got.header)
		}
	}
	for _, origin := range []string{
		"null", "https://cdn.prod.atlassian-dev.net", "https://a.b.cdn.prod.atlassian-dev.net", "http://a.cdn.prod.atlassian-dev.net",
		"https://a.cdn.prod.atlassian-dev.net.evil.example", "https://evil.example/.cdn.prod.atlassian-dev.net", "https://a.cdn.prod.atlassian-dev.net:8443",
		"https://acdnXprod.atlassian-dev.net", "https://bitbucket.org", "https://a.cdn.prod.atlassian-dev.netx",
	} {
		for _, method := range []string{http.MethodOptions, http.MethodPost} {
			got := call(method, "/graphql", origin, preflight)
			if got.status < 400 || got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %q: %d %v", method, origin, got.status, got.header)
			}
		}
	}
	// What is let past the check of origins is the door of Forge and nothing that it can be walked around to.
	for _, path := range []string{"/forge/../graphql", "/forge/%2e%2e/graphql", "//graphql", "/forge", "/hooks/../graphql"} {
		if got := call(http.MethodPost, path, "https://evil.example", nil); got.status < 300 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}
