package bitbucketsim_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

func (b *browser) page(path string) string {
	b.w.t.Helper()
	return string(b.do(200, "GET", path, nil).raw)
}

func wantParts(t *testing.T, page string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(page, p) {
			t.Errorf("the page lacks %q:\n%s", p, page)
		}
	}
}

func TestLogInByChoosingAName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	b := w.browser()
	first := b.do(303, "GET", "/acme/rocket", nil)
	if got := first.header.Get("Location"); got != "/account/signin?next=%2Facme%2Frocket" {
		t.Errorf("a stranger is sent to %s", got)
	}
	wantParts(t, b.page("/account/signin"), `value="alice"`, `value="bob"`, `value="carol"`)
	in := b.do(303, "POST", "/account/signin", url.Values{"person": {"bob"}, "next": {"/acme/rocket"}})
	cookie := in.header.Get("Set-Cookie")
	wantParts(t, cookie, "HttpOnly", "SameSite=Lax")
	if in.header.Get("Location") != "/acme/rocket" {
		t.Errorf("after the log-in: %s", in.header.Get("Location"))
	}
	wantParts(t, b.page("/"), "You are <strong>Bob</strong>", `href="/acme/rocket"`)
	b.do(303, "POST", "/account/signout", nil)
	b.do(303, "GET", "/", nil)
	b.do(400, "POST", "/account/signin", url.Values{"person": {"mallory"}})
	for _, evil := range []string{"https://evil.example.com/", "//evil.example.com", `/\evil.example.com`, "javascript:alert(1)"} {
		if got := b.do(303, "POST", "/account/signin", url.Values{"person": {"bob"}, "next": {evil}}).header.Get("Location"); got != "/" {
			t.Errorf("next=%s leads to %s", evil, got)
		}
	}
}

func TestPullRequestPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.restrict("require_passing_builds_to_merge", map[string]any{"value": 1})
	w.restrict("enforce_merge_checks", nil)
	bob, carol := w.browser().logIn("bob"), w.browser().logIn("carol")
	wantParts(t, bob.page("/acme/rocket"), "There are no pull requests.", "release/1.0", "Create pull request")
	wantParts(t, bob.page("/acme/rocket/pull-requests/new?source=feature"), "<option selected>feature</option>")
	made := bob.do(303, "POST", "/acme/rocket/pull-requests", url.Values{
		"title": {"A <b>nozzle</b>"}, "source": {"feature"}, "destination": {"main"}, "reviewer": {"carol"},
	}).header.Get("Location")
	if made != "/acme/rocket/pull-requests/1" {
		t.Fatalf("opened at %s", made)
	}
	head := w.as("bob").get(w.repo + "/refs/branches/feature").str("target.hash")
	page := bob.page(made)
	wantParts(t, page, "A &lt;b&gt;nozzle&lt;/b&gt;", head, "OPEN", "No builds for this commit.",
		"Unresolved merge checks", ` disabled aria-describedby="why-not"`, "&#43;var nozzle = 1", "Decline", "<li>Carol</li>")
	// The button is no decoration: the form is refused as well.
	bob.do(400, "POST", made+"/merge", url.Values{"merge_strategy": {"squash"}})

	w.as("dave").do(201, "POST", w.repo+"/commit/"+head+"/statuses/build", map[string]any{
		"key": "ci", "name": "Build 7", "state": "SUCCESSFUL", "refname": "feature",
		"url": "https://ci.example.com/{repository.full_name}/{commit.hash}",
	})
	carol.do(303, "POST", made+"/approve", nil)
	page = carol.page(made)
	wantParts(t, page, `<span class="badge SUCCESSFUL">SUCCESSFUL</span>`, `href="https://ci.example.com/acme/rocket/`+head+`"`,
		"Build 7", "Withdraw approval", `Carol <span class="badge">approved</span>`)
	if strings.Contains(page, "why-not") {
		t.Error("the Merge button is still disabled")
	}
	carol.do(303, "POST", made+"/unapprove", nil)
	carol.do(303, "POST", made+"/request-changes", nil)
	wantParts(t, carol.page(made), "changes requested", "Withdraw request for changes")
	carol.do(303, "POST", made+"/withdraw-request", nil)

	dave := w.browser().logIn("dave")
	wantParts(t, dave.page(made), "You don&#39;t have write access")
	dave.do(403, "POST", made+"/merge", nil)
	dave.do(403, "POST", made+"/decline", nil)

	bob.do(303, "POST", made+"/merge", url.Values{"merge_strategy": {"squash"}, "close_source_branch": {"1"}})
	page = bob.page(made)
	wantParts(t, page, "MERGED", "Merged as", "&#43;var nozzle = 1")
	if strings.Contains(page, ">Merge</button>") {
		t.Error("a merged pull request has a Merge button")
	}
	main := w.as("bob").get(w.repo + "/refs/branches/main").str("target.hash")
	wantParts(t, bob.page("/acme/rocket/commits/"+main), main, "&#43;var nozzle = 1")
	bob.do(400, "POST", made+"/merge", nil)
}

func TestDeclineButton(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	bob := w.browser().logIn("bob")
	bob.do(303, "POST", "/acme/rocket/pull-requests/1/decline", nil)
	wantParts(t, bob.page("/acme/rocket/pull-requests/1"), "DECLINED")
	bob.do(404, "POST", "/acme/rocket/pull-requests/1/explode", nil)
}

func TestPagesAreGuarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	bob := w.browser().logIn("bob")
	out := bob.do(200, "GET", "/acme/rocket/pull-requests/1", nil)
	wantParts(t, out.header.Get("Content-Security-Policy"), "default-src 'none'", "frame-ancestors 'none'", "form-action 'self'")
	if got := out.header.Get("X-Frame-Options"); got != "DENY" {
		t.Errorf("X-Frame-Options is %q", got)
	}
	// A form of another site gets nowhere, whether the browser says so by Origin or by Sec-Fetch-Site.
	bob.do(403, "POST", "/acme/rocket/pull-requests/1/approve", nil, "Origin", "https://evil.example.com")
	bob.do(403, "POST", "/acme/rocket/pull-requests/1/approve", nil, "Sec-Fetch-Site", "cross-site")
	if n := len(descend(w.as("bob").get(w.repo+"/pullrequests/1").json, "participants.[]")); n != 0 {
		t.Errorf("another site made bob a participant")
	}
	w.browser().do(403, "POST", "/acme/rocket/pull-requests/1/approve", nil) // not logged in
	erin := w.browser().logIn("erin")
	erin.do(404, "GET", "/acme/rocket", nil)
	erin.do(404, "GET", "/acme/rocket/pull-requests/1", nil)
	wantParts(t, erin.page("/"), "There is no repository that you may see.")
	bob.do(404, "GET", "/acme/rocket/pull-requests/99", nil)
}

// TestControlDoor makes a small world through the door alone.
func TestControlDoor(t *testing.T) {
	t.Parallel()
	w := &world{t: t, sim: bitbucketsim.New(bitbucketsim.Options{}), repo: "/2.0/repositories/acme/rocket"}
	if err := w.sim.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.sim.Close(); err != nil {
			t.Error(err)
		}
	})
	door := &client{w, ""}
	post := func(name string, body any) reply {
		t.Helper()
		return door.do(200, http.MethodPost, "/sim/"+name, body)
	}
	alice := post("people", map[string]any{"nickname": "alice"})
	if alice.str("account_id") == "" || alice.str("email") != "alice@example.com" {
		t.Errorf("person is %s", alice.raw)
	}
	post("people", map[string]any{"nickname": "bob"})
	door.do(400, "POST", "/sim/people", map[string]any{"nickname": "bob"})
	door.do(400, "POST", "/sim/people", map[string]any{"nikname": "carol"})
	post("workspaces", map[string]any{"slug": "acme", "owners": []string{"alice"}})
	post("memberships", map[string]any{"workspace": "acme", "person": "bob", "role": "member"})
	post("plans", map[string]any{"workspace": "acme", "premium": true})
	post("repositories", map[string]any{"workspace": "acme", "slug": "rocket"})
	post("permissions", map[string]any{"repository": "acme/rocket", "person": "bob", "level": "write"})
	post("commits", map[string]any{
		"repository": "acme/rocket", "branch": "feature", "person": "bob", "files": map[string]string{"a": "b\n"},
		"binary": map[string][]byte{"logo.png": {0, 1, 2}}, "executable": []string{"a"},
	})
	opened := post("pullrequests", map[string]any{"repository": "acme/rocket", "author": "bob", "title": "A", "source": "feature"})
	if opened.at("id") != 1.0 || len(opened.str("head")) != 40 {
		t.Errorf("opened %s", opened.raw)
	}
	door.do(404, "POST", "/sim/pullrequests", map[string]any{"repository": "acme/none", "author": "bob"})
	consumer := post("consumers", map[string]any{"name": "Gate", "callback": "https://x.example.com/cb", "scopes": []string{"account"}})
	to := post("consents", map[string]any{
		"url": w.sim.URL() + "/site/oauth2/authorize?response_type=code&client_id=" + consumer.str("key"), "person": "bob",
	})
	if !strings.HasPrefix(to.str("location"), "https://x.example.com/cb?code=") {
		t.Errorf("consent leads to %s", to.raw)
	}
	token := post("tokens", map[string]any{"person": "bob"})
	(&client{w, token.str("access_token")}).get(w.repo + "/pullrequests/1")
	post("faults", map[string]any{"path": "/user$", "status": 500, "times": 1})
	post("webhook-faults", map[string]any{"event": "push", "drop": true})
	(&client{w, token.str("access_token")}).do(500, "GET", "/2.0/user", nil)
	door.do(204, "DELETE", "/sim/faults", nil)
	post("grants/expire", map[string]any{})
	post("grants/revoke", map[string]any{"person": "bob"})
	calls := door.do(200, "GET", "/sim/calls?after=1", nil)
	if calls.str("calls.0.path") != "/2.0/user" || calls.at("calls.0.status") != 500.0 {
		t.Errorf("calls are %s", calls.raw)
	}
	if door.do(200, "GET", "/sim/deliveries", nil).at("deliveries") == nil {
		t.Error("there is no list of deliveries")
	}
	post("branches/remove", map[string]any{"repository": "acme/rocket", "branch": "feature", "person": "bob"})
	post("repositories/rename", map[string]any{"repository": "acme/rocket", "person": "alice", "slug": "starship"})
	post("repositories/remove", map[string]any{"repository": "acme/starship", "person": "alice"})
	door.do(404, "GET", "/sim/nonsense", nil)
}

func TestExampleWorld(t *testing.T) {
	t.Parallel()
	w := &world{t: t, sim: bitbucketsim.New(bitbucketsim.Options{})}
	if err := w.sim.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.sim.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := w.sim.AddExample(); err != nil {
		t.Fatal(err)
	}
	wantParts(t, w.browser().logIn("carol").page("/acme/rocket"), "feature/nozzle", "release/1.0")
}
