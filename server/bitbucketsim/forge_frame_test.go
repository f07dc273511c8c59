package bitbucketsim_test

import (
	"context"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// frameClient resolves every name below localhost to the machine itself, as browsers do.
var frameClient = &http.Client{
	Timeout: 2 * time.Minute,
	Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}},
}

func fetch(t *testing.T, method, address string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := send(frameClient, req)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var framePattern = regexp.MustCompile(`<iframe id="forge-([^"]+)" data-testid="forge-frame-([^"]+)" title="([^"]+)" src="([^"]+)" sandbox="([^"]+)" allow="([^"]+)" data-forge-frame="([^"]+)"`)

// openFrames are the frames of a page by the key of their module: the source and the id.
func openFrames(page string) map[string][2]string {
	out := map[string][2]string{}
	for _, m := range framePattern.FindAllStringSubmatch(page, -1) {
		out[m[1]] = [2]string{html.UnescapeString(m[4]), m[7]}
	}
	return out
}

func TestPagesAreServedAsForgeDoes(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	w.open("Nozzle")
	out := w.browser().logIn("carol").do(200, "GET", "/acme/rocket/pull-requests/1", nil)
	frames := openFrames(string(out.raw))
	card := frames["pr-card"]
	if len(frames) != 2 || !strings.HasPrefix(card[0], w.app.FrameOrigin+"/1.0.0/panel/") {
		t.Fatalf("frames are %v", frames)
	}
	wantParts(t, out.header.Get("Content-Security-Policy"), "script-src 'self'", "frame-src "+w.app.FrameOrigin, "frame-ancestors 'none'")
	if u, err := url.Parse(w.app.FrameOrigin); err != nil || !strings.HasSuffix(u.Hostname(), ".cdn.localhost") {
		t.Errorf("the pages come from %s", w.app.FrameOrigin)
	}
	page := fetch(t, "GET", card[0])
	// Source: npm @forge/csp and the documentation's custom-ui/iframe, with the Sim in the place of bitbucket.org.
	wantParts(t, page.header.Get("Content-Security-Policy"),
		"default-src 'self'", "frame-ancestors 'self' "+w.sim.URL(), "connect-src 'self' "+w.sim.URL()+" "+w.remote.URL,
		"script-src 'self';", "style-src 'self';", "form-action 'self'",
		"sandbox allow-popups allow-popups-to-escape-sandbox allow-downloads allow-forms allow-modals allow-pointer-lock allow-same-origin allow-scripts")
	body := string(page.raw)
	if b, own := strings.Index(body, "/forge-bridge.js"), strings.Index(body, "panel.js"); b < 0 || b > own {
		t.Errorf("the bridge does not stand before the app's own script:\n%s", body)
	}
	if bridge := fetch(t, "GET", w.app.FrameOrigin+"/forge-bridge.js"); !strings.Contains(string(bridge.raw), "'"+w.sim.URL()+"'") {
		t.Error("the bridge does not know the page around it")
	}
	if got := fetch(t, "GET", w.app.FrameOrigin+"/1.0.0/dashboard/"); got.status != 200 {
		t.Errorf("the start of a resource answers %d", got.status)
	}
	for _, path := range []string{
		"/1.0.0/panel/none.js", "/1.0.0/none/index.html", "/9.9.9/panel/index.html", "/1.0.0/panel/..%2f..%2fmanifest.yml",
		"/1.0.0/panel/%2e%2e/%2e%2e/manifest.yml", "/forge-theme.css", "/",
	} {
		if got := fetch(t, "GET", w.app.FrameOrigin+path); got.status == 200 {
			t.Errorf("%s answers %d: %.80s", path, got.status, got.raw)
		}
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(w.app.FrameOrigin, "http://"), ":")
	if got := fetch(t, "GET", "http://127.0.0.1:"+port+"/1.0.0/panel/index.html"); got.status != 404 {
		t.Errorf("without the app's name there is %d", got.status)
	}
	if got := fetch(t, "POST", card[0]); got.status != 405 {
		t.Errorf("POST answers %d", got.status)
	}
}

func TestTheme(t *testing.T) {
	t.Parallel()
	sheet := filepath.Join(t.TempDir(), "tokens.css")
	if err := os.WriteFile(sheet, []byte(":root { --ds-text: #000 }"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newForgeWorld(t, bitbucketsim.Options{Forge: bitbucketsim.ForgeOptions{ThemeFile: sheet}})
	if got := fetch(t, "GET", w.app.FrameOrigin+"/forge-theme.css"); got.status != 200 || !strings.Contains(string(got.raw), "--ds-text") {
		t.Errorf("the theme answers %d: %s", got.status, got.raw)
	}
	wantParts(t, string(fetch(t, "GET", w.app.FrameOrigin+"/forge-bridge.js").raw), "const themed = true;")
}

// TestWhereFramesStand opens the page of each module as somebody who may, and as somebody who may not.
func TestWhereFramesStand(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	at := "forge/8db33809-1f32-48bb-8c52-5877dab48107/" + w.app.EnvironmentID[strings.LastIndex(w.app.EnvironmentID, "/")+1:]
	ws, repo := w.as("alice").get("/2.0/workspaces/acme").str("uuid"), w.as("alice").get(w.repo).str("uuid")
	for key, tt := range map[string]struct {
		path, title, may, mayNot string
		refusal                  int
		inside                   string
		uuid                     string
	}{
		"dashboard":          {"/acme/workspace/" + at + "/dashboard", "Approvals", "dave", "erin", 404, "workspace", ws},
		"workspace-settings": {"/acme/workspace/settings/" + at + "/workspace-settings", "Approvals of this workspace", "alice", "bob", 403, "workspace", ws},
		"personal-settings":  {"/acme/workspace/personal-settings/" + at + "/personal-settings", "my-keys", "dave", "erin", 404, "workspace", ws},
		"repo-settings":      {"/acme/rocket/admin/" + at + "/repo-settings", "Approvals of this repository", "alice", "bob", 403, "repository", repo},
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			b := w.browser().logIn(tt.may)
			page := b.page(tt.path)
			wantParts(t, page, "<h1>"+tt.title+"</h1>")
			frame, ok := openFrames(page)[key]
			if !ok {
				t.Fatalf("there is no frame:\n%s", page)
			}
			context := b.bridge(200, frame[1], "context", "{}")
			if context.str("extension."+tt.inside+".uuid") != tt.uuid || context.str("moduleKey") != key ||
				context.str("extension.location") != w.sim.URL()+tt.path || context.str("workspaceId") != ws {
				t.Errorf("context is %s", context.raw)
			}
			w.browser().logIn(tt.mayNot).do(tt.refusal, "GET", tt.path, nil)
			b.do(404, "GET", tt.path+"x", nil)
			if menu := b.page("/acme/workspace") + b.page("/acme/rocket"); tt.inside == "workspace" && !strings.Contains(menu, tt.path) {
				t.Errorf("no menu leads to %s", tt.path)
			}
		})
	}
}

// bridge makes a call as the page around a frame does.
func (b *browser) bridge(want int, frame, what, body string) reply {
	b.w.t.Helper()
	req, err := http.NewRequestWithContext(b.w.t.Context(), "POST", b.w.sim.URL()+"/forge/frames/"+frame+"/"+what, strings.NewReader(body))
	if err != nil {
		b.w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	out, err := send(b.http, req)
	if err != nil {
		b.w.t.Fatal(err)
	}
	if out.status != want {
		b.w.t.Fatalf("%s of the bridge answers %d, want %d: %s", what, out.status, want, out.raw)
	}
	return out
}

// TestInvokeRemoteThatIsSlow has a limit of its own: anything else may take its time on a busy machine.
func TestInvokeRemoteThatIsSlow(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{Forge: bitbucketsim.ForgeOptions{RemoteTimeout: 500 * time.Millisecond}})
	w.install()
	w.open("Nozzle")
	carol := w.browser().logIn("carol")
	frame := openFrames(carol.page("/acme/rocket/pull-requests/1"))["pr-panel"][1]
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	w.remote.answer("/graphql", remoteReply{status: 200, body: "{}", release: release})
	got := carol.bridge(502, frame, "invoke", `{"path":"/graphql","method":"POST","body":{"a":1}}`).str("error")
	if got != "Remote invocation timed out after 0.5 seconds" {
		t.Errorf("rejected with %q", got)
	}
}

func TestInvokeRemote(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	inst := w.install()
	w.open("Nozzle")
	carol := w.browser().logIn("carol")
	frame := openFrames(carol.page("/acme/rocket/pull-requests/1"))["pr-panel"][1]
	invoke := func(want int, body string) reply { t.Helper(); return carol.bridge(want, frame, "invoke", body) }
	graphql := func(want int) reply {
		t.Helper()
		return invoke(want, `{"path":"/graphql","method":"POST","body":{"a":1}}`)
	}

	w.remote.answer("/graphql", remoteReply{status: 200, body: `{"data":1}`, header: map[string]string{"X-Kind": "one"}})
	ok := invoke(200, `{"path":"/graphql","method":"POST","body":{"a":1},"headers":{"x-mine":"1","authorization":"Bearer forged","x-forge-oauth-user":"forged","cookie":"forged"}}`)
	if ok.at("success") != true || ok.at("payload.status") != 200.0 || ok.at("payload.body.data") != 1.0 || ok.str("payload.headers.x-kind.0") != "one" {
		t.Errorf("a good answer becomes %s", ok.raw)
	}
	call := w.remote.at("/graphql")[0]
	if string(call.body.raw) != `{"a":1}` || call.header.Get("X-Mine") != "1" || call.header.Get("Cookie") != "" {
		t.Errorf("the remote got %s with %v", call.body.raw, call.header)
	}
	claims, err := w.verify(call.header)
	if err != nil {
		t.Fatal(err)
	}
	user := w.as("carol").get("/2.0/user")
	if claims.str("principal") != user.str("account_id") || claims.str("context.moduleKey") != "pr-panel" ||
		claims.str("context.workspaceId") != inst.WorkspaceUUID || claims.at("context.extension.pullRequest.id") != 1.0 ||
		claims.str("app.module.key") != "ui-ep" {
		t.Errorf("claims are %v", claims.json)
	}
	(&client{w.world, call.header.Get("X-Forge-Oauth-User")}).do(201, "POST", w.repo+"/pullrequests/1/comments", map[string]any{"content": map[string]any{"raw": "as carol"}})
	if by := w.as("carol").get(w.repo + "/pullrequests/1/comments").str("values.0.user.nickname"); by != "carol" {
		t.Errorf("with the person's token %s comments", by)
	}

	// Source of the outcomes: Forge documentation, apis-reference/ui-api-bridge/invokeRemote.
	plain := map[string]string{"Content-Type": "text/plain"}
	for name, tt := range map[string]struct {
		answer   remoteReply
		rejected string
	}{
		"empty":              {remoteReply{status: 204}, ""},
		"refused":            {remoteReply{status: 403, body: `{"error":{}}`}, ""},
		"redirect":           {remoteReply{status: 302, body: `{}`}, ""},
		"bad token":          {remoteReply{status: 401, body: `{}`}, "Remote could not verify the Forge Invocation Token"},
		"refused in text":    {remoteReply{status: 500, body: "no", header: plain}, "Invalid response from remote - content-type header must be set to application/json and is currently: text/plain. Status: 500."},
		"refused in silence": {remoteReply{status: 500, header: map[string]string{"Content-Type": "application/json"}}, "Invalid response from remote - cannot parse body as JSON. Status: 500."},
		"no JSON":            {remoteReply{status: 200, body: "no"}, "Invalid response from remote - cannot parse body as JSON. Status: 200."},
		"large":              {remoteReply{status: 200, body: `"` + strings.Repeat("x", 5<<20) + `"`}, "The response from remote exceeds the limit of 5 MB"},
	} {
		w.remote.answer("/graphql", tt.answer)
		if tt.rejected != "" {
			if got := graphql(502).str("error"); got != tt.rejected {
				t.Errorf("%s: rejected with %q, want %q", name, got, tt.rejected)
			}
			continue
		}
		got := graphql(200)
		member := "payload"
		if tt.answer.status > 299 {
			member = "error"
		}
		if got.at(member+".status") != float64(tt.answer.status) || got.at("success") != (member == "payload") {
			t.Errorf("%s: resolved with %s", name, got.raw)
		}
	}
	before := len(w.remote.at("/graphql"))
	for _, path := range []string{"//evil.example.com/", "https://evil.example.com/", "http://127.0.0.1:1/"} {
		if got := invoke(502, fmt.Sprintf(`{"path":%q,"method":"GET"}`, path)).str("error"); got != "Invalid response from remote - remote network error" {
			t.Errorf("a call to %s ends with %q", path, got)
		}
	}
	invoke(400, `{"path":"/graphql","method":"TRACE"}`)
	invoke(400, `[]`)
	invoke(413, `{"path":"/graphql","method":"POST","body":"`+strings.Repeat("x", 500<<10)+`"}`)
	carol.bridge(400, frame, "token", `{"remoteKey":"other"}`)

	// The frame is its person's own, and lasts as long as the installation.
	w.browser().logIn("bob").bridge(404, frame, "invoke", `{"path":"/graphql","method":"GET"}`)
	w.browser().bridge(404, frame, "context", `{}`)
	carol.bridge(404, "unknown", "context", `{}`)
	must(t)(w.sim.UninstallForgeApp(w.by("alice")))
	invoke(410, `{"path":"/graphql","method":"GET"}`)
	if after := len(w.remote.at("/graphql")); after != before {
		t.Errorf("%d refused calls reached the remote", after-before)
	}
}

func TestBridgeIsRateLimited(t *testing.T) {
	t.Parallel()
	clock := newClock()
	w := newForgeWorld(t, bitbucketsim.Options{Now: clock.now})
	w.install()
	w.open("Nozzle")
	carol := w.browser().logIn("carol")
	frame := openFrames(carol.page("/acme/rocket/pull-requests/1"))["pr-card"][1]
	const call = `{"path":"/ping","method":"GET"}`
	for range 500 {
		carol.bridge(200, frame, "invoke", call)
	}
	carol.bridge(429, frame, "invoke", call)
	clock.advance(25 * time.Second)
	carol.bridge(200, frame, "invoke", call)
}
