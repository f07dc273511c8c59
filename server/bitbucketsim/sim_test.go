package bitbucketsim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// world is a Sim with alice (owner), bob and carol (writers), dave (reader) and a repository acme/rocket with
// the branches main, release/1.0 and feature.
type world struct {
	t    *testing.T
	sim  *bitbucketsim.Sim
	repo string
}

func newWorld(t *testing.T, opts bitbucketsim.Options) *world {
	t.Helper()
	sim := bitbucketsim.New(opts)
	if err := sim.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	w := &world{t, sim, "/2.0/repositories/acme/rocket"}
	for _, n := range []string{"alice", "bob", "carol", "dave", "erin"} {
		must(t)(sim.AddPerson(bitbucketsim.Person{Nickname: n}))
	}
	must(t)(sim.AddWorkspace(bitbucketsim.Workspace{
		Slug: "acme", Name: "Acme", Premium: true, Owners: []string{"alice"}, Members: []string{"bob", "carol", "dave"},
	}))
	must(t)(sim.AddRepository(bitbucketsim.Repository{
		Workspace: "acme", Slug: "rocket", Name: "Rocket",
		Permissions: map[string]string{"bob": "write", "carol": "write", "dave": "read"},
		Files:       map[string]string{"README.md": "# Rocket\n", "src/main.go": "package main\n"},
	}))
	must(t)(sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "release/1.0", Person: "alice"}))
	must(t)(sim.Push(bitbucketsim.Push{
		Repository: "acme/rocket", Branch: "feature", Person: "bob", Message: "Add a nozzle",
		Files: map[string]string{"src/nozzle.go": "package main\n\nvar nozzle = 1\n"},
	}))
	return w
}

// must returns a function that fails the test on an error and passes the result on.
func must(t *testing.T) func(any, error) any {
	return func(v any, err error) any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	raw    []byte
	json   any
}

// at follows a dotted path; a number is an index of a list.
func (r reply) at(path string) any {
	v := r.json
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i := int(name[0] - '0')
			if i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func (r reply) str(path string) string {
	s, _ := r.at(path).(string)
	return s
}

// client calls the REST API as a person.
type client struct {
	w     *world
	token string
}

func (w *world) as(nickname string, scopes ...string) *client {
	w.t.Helper()
	tok, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: nickname, Scopes: scopes})
	if err != nil {
		w.t.Fatal(err)
	}
	return &client{w, tok.AccessToken}
}

var noRedirect = &http.Client{
	Timeout:       2 * time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (c *client) try(method, path string, body any) (reply, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		in = bytes.NewReader(raw)
	}
	if !strings.HasPrefix(path, "http") {
		path = c.w.sim.URL() + path
	}
	req, err := http.NewRequestWithContext(c.w.t.Context(), method, path, in)
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return send(noRedirect, req)
}

// do makes a call that must be answered with the status.
func (c *client) do(want int, method, path string, body any) reply {
	c.w.t.Helper()
	out, err := c.try(method, path, body)
	if err != nil {
		c.w.t.Fatalf("%s %s: %v", method, path, err)
	}
	if out.status != want {
		c.w.t.Fatalf("%s %s: status %d, want %d: %s", method, path, out.status, want, out.raw)
	}
	return out
}

func (c *client) get(path string) reply { c.w.t.Helper(); return c.do(200, "GET", path, nil) }

// received is one webhook request that a receiver saw.
type received struct {
	header http.Header
	body   []byte
}

// receiver is an HTTP server that notes webhooks and answers with the statuses it was given, then with 200.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	seen  []received
	reply []int
}

func newReceiver(t *testing.T, statuses ...int) *receiver {
	t.Helper()
	r := &receiver{reply: statuses}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Errorf("read webhook: %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, received{req.Header.Clone(), body})
		status := 200
		if len(r.reply) > 0 {
			status, r.reply = r.reply[0], r.reply[1:]
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.seen...)
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// settled waits until n deliveries have come to an end and returns all.
func (w *world) settled(n int) []bitbucketsim.Delivery {
	w.t.Helper()
	all, err := w.sim.WaitDeliveries(within(w.t), func(all []bitbucketsim.Delivery) bool {
		ended := 0
		for _, d := range all {
			if d.State != "waiting" && d.State != "held" {
				ended++
			}
		}
		return ended >= n
	})
	if err != nil {
		w.t.Fatalf("waiting for %d deliveries, have %d: %v", n, len(all), err)
	}
	return all
}

func (w *world) hook(url, secret string, events ...string) reply {
	w.t.Helper()
	body := map[string]any{"description": "test", "url": url, "active": true, "events": events}
	if secret != "" {
		body["secret"] = secret
	}
	return w.as("alice").do(201, "POST", w.repo+"/hooks", body)
}

func (w *world) open(title string) reply {
	w.t.Helper()
	return w.as("bob").do(201, "POST", w.repo+"/pullrequests", map[string]any{
		"title": title, "source": map[string]any{"branch": map[string]any{"name": "feature"}},
		"destination": map[string]any{"branch": map[string]any{"name": "main"}},
	})
}

func TestPullRequestFromOpenToMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice, bob, carol := w.as("alice"), w.as("bob"), w.as("carol")
	pr := w.open("Nozzle")
	if got := pr.str("source.commit.hash"); len(got) != 12 {
		t.Errorf("source hash in the pull request is %q, want 12 digits", got)
	}
	full := bob.get(w.repo + "/commit/" + pr.str("source.commit.hash")).str("hash")
	if len(full) != 40 || !strings.HasPrefix(full, pr.str("source.commit.hash")) {
		t.Fatalf("resolved hash is %q", full)
	}
	at := w.repo + "/pullrequests/1"
	redirect := bob.do(302, "GET", at+"/diff", nil)
	diff := bob.get(redirect.header.Get("Location"))
	if !strings.Contains(string(diff.raw), "+++ b/src/nozzle.go\n@@ -0,0 +1,3 @@\n+package main\n") {
		t.Errorf("diff is\n%s", diff.raw)
	}
	redirect = bob.do(302, "GET", at+"/diffstat", nil)
	if got := bob.get(redirect.header.Get("Location")).at("values.0.lines_added"); got != 3.0 {
		t.Errorf("lines added: %v, want 3", got)
	}
	if got := carol.do(200, "POST", at+"/approve", nil).at("approved"); got != true {
		t.Errorf("approved: %v", got)
	}
	merged := alice.do(200, "POST", at+"/merge", map[string]any{"type": "pullrequest", "merge_strategy": "merge_commit"})
	if merged.str("state") != "MERGED" {
		t.Errorf("state after merge: %q", merged.str("state"))
	}
	landed := alice.get(w.repo + "/commit/" + merged.str("merge_commit.hash"))
	if got := landed.str("parents.1.hash"); got != full {
		t.Errorf("second parent of the merge is %q, want the head %q", got, full)
	}
	if got := alice.get(w.repo + "/refs/branches/main").str("target.hash"); got != landed.str("hash") {
		t.Errorf("main is at %q, want %q", got, landed.str("hash"))
	}
	again := alice.do(400, "POST", at+"/merge", nil)
	if again.str("error.fields.newstatus.0") == "" {
		t.Errorf("merging again says %s", again.raw)
	}
}
