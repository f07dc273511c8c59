package bitbucketsim_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// TestSignatureVectors checks the signature against Atlassian's own vector.
func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	v := reply{json: recording(t, "atlassian__docs/hmac_doc_vector.json")}
	want := v.str("x_hub_signature")
	if got := bitbucketsim.Sign(v.str("secret"), []byte(v.str("payload"))); want == "" || got != want {
		t.Errorf("signature is %s, want %s", got, want)
	}
}

func TestWebhookRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	signed, unsigned := newReceiver(t), newReceiver(t)
	made := w.hook(signed.URL, "s3cret", "pullrequest:created")
	if made.at("secret_set") != true || made.at("secret") != nil {
		t.Errorf("the answer tells of the secret: %s", made.raw)
	}
	w.hook(unsigned.URL, "", "pullrequest:created")
	w.open("Nozzle")
	w.settled(2)
	got := signed.all()
	if len(got) != 1 {
		t.Fatalf("%d requests arrived, want 1", len(got))
	}
	h := got[0].header
	for name, want := range map[string]string{
		"X-Event-Key": "pullrequest:created", "X-Attempt-Number": "1", "User-Agent": "Bitbucket-Webhooks/2.0",
		"Content-Type": "application/json", "X-Hook-Uuid": strings.Trim(made.str("uuid"), "{}"),
		"X-Hub-Signature": bitbucketsim.Sign("s3cret", got[0].body),
	} {
		if h.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, h.Get(name), want)
		}
	}
	if h.Get("X-Request-Uuid") == "" {
		t.Error("there is no X-Request-UUID")
	}
	if got := unsigned.all()[0].header.Get("X-Hub-Signature"); got != "" {
		t.Errorf("without a secret the signature is %q", got)
	}
	// A secret is kept by an update that leaves it out, and taken away by null.
	at := w.repo + "/hooks/" + made.str("uuid")
	if w.as("alice").do(200, "PUT", at, map[string]any{"description": "x"}).at("secret_set") != true {
		t.Error("leaving the secret out took it away")
	}
	if w.as("alice").do(200, "PUT", at, map[string]any{"secret": nil}).at("secret_set") != false {
		t.Error("null did not take the secret away")
	}
}

func TestOnlyServerErrorsAreRetried(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answers  []int
		attempts int
		state    string
	}{
		"at once":           {[]int{200}, 1, "delivered"},
		"third time":        {[]int{500, 503, 204}, 3, "delivered"},
		"never":             {[]int{500, 500, 500, 200}, 3, "failed"},
		"client error":      {[]int{404, 200}, 1, "failed"},
		"too many requests": {[]int{429, 200}, 1, "failed"},
		"redirect":          {[]int{302, 200}, 1, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, bitbucketsim.Options{})
			r := newReceiver(t, tt.answers...)
			w.hook(r.URL, "", "pullrequest:created")
			w.open("Nozzle")
			d := w.settled(1)[0]
			if d.State != tt.state || len(d.Attempts) != tt.attempts {
				t.Errorf("%s after %d attempts, want %s after %d", d.State, len(d.Attempts), tt.state, tt.attempts)
			}
			seen := r.all()
			for i, x := range seen {
				if x.header.Get("X-Request-Uuid") != seen[0].header.Get("X-Request-Uuid") {
					t.Error("X-Request-UUID changed between attempts")
				}
				if want := string(rune('1' + i)); x.header.Get("X-Attempt-Number") != want {
					t.Errorf("attempt %s has the number %s", want, x.header.Get("X-Attempt-Number"))
				}
			}
		})
	}
}

func TestSlowReceiverIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{WebhookTimeout: 20 * time.Millisecond})
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(release) })
	w.hook(slow.URL, "", "pullrequest:created")
	w.open("Nozzle")
	d := w.settled(1)[0]
	if d.State != "failed" || len(d.Attempts) != 1 || d.Attempts[0].Status != 0 || d.Attempts[0].Error == "" {
		t.Errorf("delivery is %+v", d)
	}
}

func TestLargePayloadIsNotSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	r := newReceiver(t)
	w.hook(r.URL, "", "pullrequest:created")
	w.as("bob").do(201, "POST", w.repo+"/pullrequests", map[string]any{
		"title": "Big", "description": strings.Repeat("x", 256<<10), "source": map[string]any{"branch": map[string]any{"name": "feature"}},
	})
	if d := w.settled(1)[0]; d.State != "too_large" || len(d.Attempts) != 0 {
		t.Errorf("delivery is %s after %d attempts", d.State, len(d.Attempts))
	}
	if n := len(r.all()); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestHooksAreForAdministratorsWithTheScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	body := map[string]any{"description": "x", "url": "http://127.0.0.1:1/", "events": []string{"pullrequest:created"}}
	w.as("bob").do(403, "POST", w.repo+"/hooks", body)
	refused := w.as("alice", "webhook").do(403, "POST", w.repo+"/hooks", body)
	if !slices.Contains(refused.at("error.detail.required").([]any), any("pullrequest")) {
		t.Errorf("refused with %s", refused.raw)
	}
	w.as("alice", "webhook", "pullrequest").do(201, "POST", w.repo+"/hooks", body)
	w.as("bob").do(403, "GET", "/2.0/workspaces/acme/hooks", nil)
	for name, bad := range map[string]map[string]any{
		"no url":      {"events": []string{"repo:push"}},
		"bad url":     {"url": "ftp://x/", "events": []string{"repo:push"}},
		"no events":   {"url": "https://x.example.com/"},
		"bad event":   {"url": "https://x.example.com/", "events": []string{"repo:nonsense"}},
		"long secret": {"url": "https://x.example.com/", "events": []string{"repo:push"}, "secret": strings.Repeat("s", 129)},
	} {
		if got := w.as("alice").do(400, "POST", w.repo+"/hooks", bad); got.at("error.fields") == nil {
			t.Errorf("%s: %s", name, got.raw)
		}
	}
}

func TestWebhookFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	r := newReceiver(t)
	w.hook(r.URL, "", "pullrequest:created", "pullrequest:updated", "pullrequest:rejected")
	fault := func(f bitbucketsim.WebhookFault) {
		t.Helper()
		must(t)(w.sim.AddWebhookFault(f))
	}
	events := func() []string {
		var out []string
		for _, x := range r.all() {
			out = append(out, x.header.Get("X-Event-Key"))
		}
		return out
	}
	fault(bitbucketsim.WebhookFault{Event: "created", Times: 1, Reorder: true})
	w.open("Nozzle")
	at := w.repo + "/pullrequests/1"
	w.as("bob").do(200, "PUT", at, map[string]any{"title": "Better"})
	w.settled(2)
	if got := events(); !slices.Equal(got, []string{"pullrequest:updated", "pullrequest:created"}) {
		t.Errorf("reordered events arrived as %v", got)
	}
	fault(bitbucketsim.WebhookFault{Event: "updated", Times: 1, Duplicate: 1})
	w.as("bob").do(200, "PUT", at, map[string]any{"title": "Best"})
	w.settled(3)
	if all := r.all(); len(all) != 4 || all[2].header.Get("X-Request-Uuid") != all[3].header.Get("X-Request-Uuid") {
		t.Errorf("%d requests arrived, want 4 with the last two alike", len(all))
	}
	fault(bitbucketsim.WebhookFault{Event: "rejected", Drop: true})
	w.as("bob").do(200, "POST", at+"/decline", nil)
	if d := w.settled(4)[3]; d.State != "dropped" {
		t.Errorf("the event was %s", d.State)
	}
	if n := len(r.all()); n != 4 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestHeldEventIsSentWhenFaultsAreCleared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	r := newReceiver(t)
	w.hook(r.URL, "", "pullrequest:created")
	must(t)(w.sim.AddWebhookFault(bitbucketsim.WebhookFault{Reorder: true}))
	w.open("Nozzle")
	w.sim.ClearFaults()
	if d := w.settled(1)[0]; d.State != "delivered" {
		t.Errorf("the event is %s", d.State)
	}
}

// TestPushEvent checks what a push tells, with its hashes of 40 digits.
func TestPushEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	r := newReceiver(t)
	w.open("Nozzle")
	w.hook(r.URL, "", "repo:push", "pullrequest:updated", "pullrequest:push")
	before := w.as("bob").get(w.repo + "/refs/branches/feature").str("target.hash")
	after, ok := must(t)(w.sim.Push(bitbucketsim.Push{
		Repository: "acme/rocket", Branch: "feature", Person: "bob", Files: map[string]string{"x": "1"},
	})).(bitbucketsim.Commit)
	if !ok {
		t.Fatal("no commit")
	}
	w.settled(3)
	seen := r.all()
	var keys []string
	for _, x := range seen {
		keys = append(keys, x.header.Get("X-Event-Key"))
	}
	if !slices.Equal(keys, []string{"repo:push", "pullrequest:updated", "pullrequest:push"}) {
		t.Fatalf("events are %v", keys)
	}
	var push reply
	if err := json.Unmarshal(seen[0].body, &push.json); err != nil {
		t.Fatal(err)
	}
	if got := push.str("push.changes.0.old.target.hash"); got != before {
		t.Errorf("old is %s, want %s", got, before)
	}
	if got := push.str("push.changes.0.new.target.hash"); got != after.Hash {
		t.Errorf("new is %s, want %s", got, after.Hash)
	}
	var updated reply
	if err := json.Unmarshal(seen[1].body, &updated.json); err != nil {
		t.Fatal(err)
	}
	if got := updated.str("pullrequest.source.commit.hash"); got != after.Hash[:12] {
		t.Errorf("the pull request is at %s, want %s", got, after.Hash[:12])
	}
}
