package bitbucketsim_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

const forgeManifest = "testdata/forge/manifest.yml"

// remoteCall is one request that the remote of an app saw.
type remoteCall struct {
	method, path string
	header       http.Header
	body         reply
}

// remote is the backend of an app. It answers each path with the statuses and bodies it was given, the last one
// for ever, and with 204 where it was given none.
type remote struct {
	*httptest.Server
	t     *testing.T
	mu    sync.Mutex
	calls []remoteCall
	reply map[string][]remoteReply
	said  map[string]map[string]remoteReply // by the member "say" of the body
}

type remoteReply struct {
	status  int
	body    string
	header  map[string]string
	release <-chan struct{} // the answer waits for it
	during  func()          // runs before the answer
}

func newRemote(t *testing.T) *remote {
	t.Helper()
	r := &remote{t: t, reply: map[string][]remoteReply{}, said: map[string]map[string]remoteReply{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		if err != nil {
			return // the caller went away
		}
		call := remoteCall{req.Method, req.URL.RequestURI(), req.Header.Clone(), reply{raw: raw}}
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &call.body.json); err != nil {
				t.Errorf("%s got a body that is no JSON: %v", call.path, err)
			}
		}
		r.mu.Lock()
		r.calls = append(r.calls, call)
		answer := remoteReply{status: 204}
		if list := r.reply[req.URL.Path]; len(list) > 0 {
			answer = list[0]
			if len(list) > 1 {
				r.reply[req.URL.Path] = list[1:]
			}
		}
		if x, ok := r.said[req.URL.Path][call.body.str("say")]; ok {
			answer = x
		}
		r.mu.Unlock()
		if answer.release != nil {
			<-answer.release
		}
		if answer.during != nil {
			answer.during()
		}
		for k, v := range answer.header {
			w.Header().Set(k, v)
		}
		if answer.body != "" && answer.header["Content-Type"] == "" {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(answer.status)
		_, _ = io.WriteString(w, answer.body)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *remote) answer(path string, replies ...remoteReply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reply[path] = replies
}

// at lists the calls to a path.
func (r *remote) at(path string) []remoteCall {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []remoteCall
	for _, c := range r.calls {
		if c.path == path {
			out = append(out, c)
		}
	}
	return out
}

// forgeWorld is a world with an app that is registered, and not installed.
type forgeWorld struct {
	*world
	remote *remote
	app    bitbucketsim.ForgeApp
}

func newForgeWorld(t *testing.T, opts bitbucketsim.Options) *forgeWorld {
	t.Helper()
	if opts.Forge.EventTimeout == 0 { // nothing but a test of timeouts may depend on how busy the machine is
		opts.Forge.EventTimeout = time.Minute
	}
	r := newRemote(t)
	w := newWorld(t, opts)
	app, err := w.sim.RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: forgeManifest, RemoteURL: r.URL})
	if err != nil {
		t.Fatal(err)
	}
	return &forgeWorld{w, r, app}
}

func (w *forgeWorld) by(person string) bitbucketsim.ForgeChange {
	return bitbucketsim.ForgeChange{Workspace: "acme", Person: person}
}

func (w *forgeWorld) install() bitbucketsim.ForgeInstallation {
	w.t.Helper()
	inst, err := w.sim.InstallForgeApp(w.by("alice"))
	if err != nil {
		w.t.Fatal(err)
	}
	return inst
}

// invoked waits until n invocations have come to an end and returns all.
func (w *forgeWorld) invoked(n int) []bitbucketsim.ForgeInvocation {
	w.t.Helper()
	all, err := w.sim.WaitForgeInvocations(within(w.t), func(all []bitbucketsim.ForgeInvocation) bool {
		ended := 0
		for _, x := range all {
			if x.State == "delivered" || x.State == "failed" || x.State == "dropped" {
				ended++
			}
		}
		return ended >= n
	})
	if err != nil {
		w.t.Fatalf("waiting for %d invocations, have %+v: %v", n, all, err)
	}
	return all
}

// named waits until an invocation of that name has come to an end and returns it with its request.
func (w *forgeWorld) named(name, path string) (bitbucketsim.ForgeInvocation, remoteCall) {
	w.t.Helper()
	var found bitbucketsim.ForgeInvocation
	_, err := w.sim.WaitForgeInvocations(within(w.t), func(all []bitbucketsim.ForgeInvocation) bool {
		for _, x := range all {
			if x.Name == name && (x.State == "delivered" || x.State == "failed") {
				found = x
				return true
			}
		}
		return false
	})
	if err != nil {
		w.t.Fatalf("waiting for %s: %v", name, err)
	}
	for _, c := range w.remote.at(path) {
		if c.body.str("eventType") == name || c.body.str("trigger.type") == name || path == "/forge/scheduled" {
			return found, c
		}
	}
	w.t.Fatalf("%s did not arrive", name)
	return found, remoteCall{}
}

// verify checks the token of a request against the published keys and returns its claims.
func (w *forgeWorld) verify(h http.Header, opts ...jwt.ParserOption) (reply, error) {
	w.t.Helper()
	raw, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	if !ok {
		w.t.Fatalf("Authorization is %q", h.Get("Authorization"))
	}
	opts = append(opts, jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer("forge/invocation-token"),
		jwt.WithAudience(w.app.ID), jwt.WithExpirationRequired())
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(raw, claims, w.publicKey, opts...)
	return reply{json: map[string]any(claims)}, err
}

func itoa(n int) string { return strconv.Itoa(n) }

// byBody answers a path by the member "say" of the body.
func (r *remote) byBody(path string, replies map[string]remoteReply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said[path] = replies
}

// posts lists the calls to a path that are no preflights.
func (r *remote) posts(path string) []remoteCall {
	return slices.DeleteFunc(r.at(path), func(c remoteCall) bool { return c.method == http.MethodOptions })
}
