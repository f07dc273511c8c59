package workspace_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// silent takes the app's token away, as if its time were over.
func (w *world) silent() {
	w.t.Helper()
	w.sql(`update signedapproval_installations set system_token_expires_at = now() + interval '1 minute' where system_token is not null`)
}

func (w *world) foreground() *bitbucket.Client {
	w.t.Helper()
	return get(w.Client(w.t.Context(), w.acme, bitbucket.Foreground))(w.t)
}

// writes tries each kind of write that the gate makes, and answers what came of it.
func (w *world) writes(client *bitbucket.Client) map[string]error {
	w.t.Helper()
	head := strings.Repeat("a", 40)
	_, status := client.PutStatus(w.t.Context(), w.acme, w.app, head, bitbucket.Status{
		Key: "signedapproval-1", State: bitbucket.StatusInProgress, URL: origin + "/pr/1", Name: "SignedApproval",
	})
	_, merge := client.Merge(w.t.Context(), w.acme, w.app, 1, bitbucket.MergeOptions{})
	return map[string]error{"a status": status, "a merge": merge}
}

// authors are who sent writes to Bitbucket since a call, hooks aside.
func (w *world) authors(after int) map[string]bool {
	authors := map[string]bool{}
	for _, call := range w.sim.Calls(after) {
		if call.Method != http.MethodGet && !strings.Contains(call.Path, "/hooks") && strings.HasPrefix(call.Path, "/2.0/") {
			authors[call.Person] = true
		}
	}
	return authors
}

// TestStatusesAndMergesHaveOneAuthor takes a workspace with both through the comings and goings of
// tokens. Whatever the client is asked, the connection's account never writes.
func TestStatusesAndMergesHaveOneAuthor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.invoked("one", 0, 2*time.Hour)
	before := w.lastCall()
	kept := w.foreground() // by a worker that is slow

	for what, err := range w.writes(w.foreground()) {
		if refusal.Code(err) != "" {
			t.Errorf("%s with a token: %v", what, err)
		}
	}
	if authors := w.authors(before); len(authors) != 1 || !authors["robot"] {
		t.Fatalf("written by %v, want the app", authors)
	}
	if who, sentence := get2(first2(w.ActsAs(t.Context(), w.acme)))(t); who != workspace.ActsAsApp || !strings.Contains(sentence, "Alice") {
		t.Errorf("%s acts: %s", who, sentence)
	}

	w.silent()
	second := w.foreground()
	silent := w.lastCall()
	for what, err := range w.writes(second) {
		if refusal.Code(err) != refusal.WaitingForToken {
			t.Errorf("%s without a token: %v", what, err)
		}
		if remote, ok := errors.AsType[*bitbucket.Error](err); !ok || remote.Class() != bitbucket.Transient {
			t.Errorf("%s: the refusal is not one that ends by itself", what)
		}
	}
	if calls := w.sim.Calls(silent); len(calls) != 0 {
		t.Errorf("a write left the process: %v", calls)
	}
	repository := get(second.Repository(t.Context(), w.acme, w.app))(t)
	if repository.UUID != w.app || w.sim.Calls(silent)[0].Person != "alice" {
		t.Errorf("read %s as %q", repository.UUID, w.sim.Calls(silent)[0].Person)
	}
	if who, sentence := get2(first2(w.ActsAs(t.Context(), w.acme)))(t); who != workspace.ActsAsApp || !strings.Contains(sentence, "waits") {
		t.Errorf("%s acts: %s", who, sentence)
	}

	// A refresh of the connection's token in between does not make a writer of it.
	get(w.sim.ExpireTokens(bitbucketsim.GrantSelector{Person: "alice"}))(t)
	get(second.Repository(t.Context(), w.acme, w.app))(t)
	for what, err := range w.writes(second) {
		if refusal.Code(err) != refusal.WaitingForToken {
			t.Errorf("%s after a refresh: %v", what, err)
		}
	}

	w.invoked("one", time.Minute, 3*time.Hour)
	w.writes(w.foreground())
	w.writes(kept)
	w.writes(second)
	if authors := w.authors(before); len(authors) != 1 || !authors["robot"] {
		t.Errorf("written by %v, want the app alone", authors)
	}
}

func TestWithoutATokenAndWithoutAConnectionEverythingWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.invoked("one", 0, 0)
	_, err := w.Client(t.Context(), w.acme, bitbucket.Foreground)
	refused(t, err, refusal.WaitingForToken)
	_, err = w.Role(t.Context(), w.who("alice"), w.acme, false)
	refused(t, err, refusal.WaitingForToken)
	w.invoked("one", time.Second, 2*time.Hour)
	w.foreground()
	alice := w.who("alice")
	get(w.Role(t.Context(), alice, w.acme, false))(t)
	// What was known is believed while nobody can be asked, and changes nothing.
	w.silent()
	w.sql(`update signedapproval_memberships set fetched_at = now() - interval '1 day'`)
	if got := get(w.Role(t.Context(), alice, w.acme, false))(t); got != store.RoleAdmin {
		t.Errorf("alice is %s", got)
	}
	_, err = w.Role(t.Context(), alice, w.acme, true)
	refused(t, err, refusal.WaitingForToken)
}

func TestADeadConnectionIsNoSecondWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.invoked("one", 0, 0)
	get(w.sim.Revoke(bitbucketsim.GrantSelector{Person: "alice"}))(t)
	w.stale("-1 minute")
	_, err := w.Client(t.Context(), w.acme, bitbucket.Foreground)
	refused(t, err, refusal.WaitingForToken)
	if sentence := w.connection(w.acme).StateReason; !strings.Contains(sentence, "The app goes on") {
		t.Errorf("the connection says %q", sentence)
	}
	w.invoked("one", time.Second, 2*time.Hour)
	get(w.foreground().Repository(t.Context(), w.acme, w.app))(t)
}

func TestWhichTokenIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	hear := func(after time.Duration, token string, lives time.Duration) string {
		t.Helper()
		get(w.Invoked(t.Context(), w.invocation("one", after), token, time.Now().Add(lives)))(t)
		return string(w.installation().SystemToken)
	}
	for i, step := range []struct {
		token string
		lives time.Duration
		want  string
	}{
		{"first", 2 * time.Hour, "first"},
		{"shorter", time.Hour, "first"},
		{"hardly longer", 2*time.Hour + time.Minute, "first"}, // not worth a write
		{"longer", 3 * time.Hour, "longer"},
		{"", 4 * time.Hour, "longer"},
		{"dead", -time.Hour, "longer"},
		{"eternal", 1000 * time.Hour, "longer"},
		{strings.Repeat("x", 20<<10), 4 * time.Hour, "longer"},
	} {
		if got := hear(time.Duration(i)*time.Second, step.token, step.lives); got != step.want {
			t.Errorf("after %.20q, which lives %s, %.20q is kept, want %q", step.token, step.lives, got, step.want)
		}
	}
	w.silent()
	if got := hear(time.Minute, "later", 30*time.Minute); got != "later" {
		t.Errorf("instead of one that ends, %q is kept", got)
	}
	if sealed := w.texts(`select encode(system_token, 'escape') from signedapproval_installations`); strings.Contains(sealed[0], "later") {
		t.Error("the token lies in the clear")
	}
	for _, text := range w.texts(`select row_to_json(j)::text from signedapproval_jobs j`) {
		if strings.Contains(text, "later") || strings.Contains(text, "longer") {
			t.Errorf("a job holds a token: %s", text)
		}
	}
}

func TestARefusedTokenIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	get(w.Invoked(t.Context(), w.invocation("one", 0), "one that Bitbucket does not know", time.Now().Add(2*time.Hour)))(t)
	slow := w.foreground()
	_, err := w.foreground().Repository(t.Context(), w.acme, w.app)
	refused(t, err, refusal.WaitingForToken)
	if strings.Contains(err.Error(), "does not know") {
		t.Error("the error shows the token")
	}
	if w.installation().SystemToken != "" {
		t.Error("the token is kept")
	}
	// Another one came before the slow worker used the first: it is used, and not dropped.
	w.invoked("one", time.Second, 2*time.Hour)
	get(slow.Repository(t.Context(), w.acme, w.app))(t)
	if w.installation().SystemToken == "" {
		t.Error("the good token was dropped")
	}
}

func TestATokensArrivalRingsWhatWaited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.invoked("one", 0, 0)
	waits := func(key string) {
		t.Helper()
		w.sql(`insert into signedapproval_jobs (kind, key, workspace_id, payload, state, run_at, last_error)
			values ('status', $1, $2, '{}', 'READY', now() + interval '5 minutes', 'WAITING_FOR_TOKEN: not now')`, key, w.acme)
	}
	due := func() []string {
		return w.texts(`select key from signedapproval_jobs where kind = 'status' and run_at <= now() order by 1`)
	}
	waits("first")
	w.invoked("one", time.Second, 2*time.Hour)
	equal(t, "rung by the first token", due(), []string{"first"})
	// While one is held, nothing waits for the next: what stands there was put there by somebody else.
	waits("second")
	w.invoked("one", 2*time.Second, 3*time.Hour)
	equal(t, "rung by a better token", due(), []string{"first"})
	w.silent()
	w.invoked("one", 3*time.Second, 3*time.Hour)
	equal(t, "rung after a silence", due(), []string{"first", "second"})
}

func TestARepositoryNeedsNoWebhookForTheApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.invoked("one", 0, 2*time.Hour)
	config := w.saved(w.app, approvals(1))
	if config.State != store.RepositoryActive || config.HookID != "" {
		t.Errorf("config %+v", config)
	}
	before := w.lastCall()
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	for _, call := range w.sim.Calls(before) {
		if strings.Contains(call.Path, "/hooks") || strings.HasSuffix(call.Path, "/2.0/user") {
			t.Errorf("called %s, which is not for apps", call.Path)
		}
	}
	if c := w.config(w.app); c.State != store.RepositoryActive {
		t.Errorf("the repository is %s: %s", c.State, c.Attention)
	}
	t.Run("gets one with a connection", func(t *testing.T) {
		w.connected("alice", w.acme)
		must(t, w.EnsureHook(t.Context(), w.acme, w.app))
		if n := len(w.hooks(w.app)); n != 1 || w.config(w.app).HookID == "" {
			t.Errorf("%d webhooks", n)
		}
	})
	t.Run("whose loss is no alarm", func(t *testing.T) {
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/hooks", Status: 403}))(t)
		defer w.sim.ClearFaults()
		must(t, w.EnsureHook(t.Context(), w.acme, w.app))
		equal(t, "alarms", w.alarms(w.acme), nil)
		if c := w.config(w.app); c.State != store.RepositoryActive {
			t.Errorf("the repository is %s: %s", c.State, c.Attention)
		}
	})
	t.Run("and which goes with the connection, while the gate stays", func(t *testing.T) {
		left := get(w.Disconnect(t.Context(), w.who("alice"), w.acme))(t)
		if len(left) != 1 { // the consent at Bitbucket
			t.Errorf("left to do: %v", left)
		}
		if n := len(w.hooks(w.app)); n != 0 {
			t.Errorf("%d webhooks", n)
		}
		if c := w.config(w.app); c.State != store.RepositoryActive || c.HookID != "" {
			t.Errorf("config %+v", c)
		}
		equal(t, "cancelled", w.cancelled, nil)
		must(t, w.EnsureHook(t.Context(), w.acme, w.app))
		_, err := w.Disconnect(t.Context(), w.who("alice"), w.acme)
		refused(t, err, refusal.NotFound)
	})
	t.Run("a repository that is gone is noticed all the same", func(t *testing.T) {
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/repositories/[^/]*/[^/]*$", Status: 404, Times: 1}))(t)
		must(t, w.EnsureHook(t.Context(), w.acme, w.app))
		if c := w.config(w.app); c.State != store.RepositoryAttention {
			t.Errorf("the repository is %s", c.State)
		}
	})
	t.Run("and can be removed", func(t *testing.T) {
		left := get(w.RemoveRepository(t.Context(), w.who("alice"), "session", w.acme, w.app))(t)
		if len(left) != 1 { // what Bitbucket lets nobody undo
			t.Errorf("left to do: %v", left)
		}
	})
}

// TestADeadConnectionCanBeEndedWhereTheAppIs: the app is asked who administers the workspace.
func TestADeadConnectionCanBeEndedWhereTheAppIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.invoked("one", 0, 2*time.Hour)
	w.saved(w.app, approvals(1))
	get(w.sim.Revoke(bitbucketsim.GrantSelector{Person: "alice"}))(t)
	w.stale("-1 minute")
	left := get(w.Disconnect(t.Context(), w.who("dave"), w.acme))(t)
	if len(left) != 2 || !strings.Contains(left[0], "webhook") {
		t.Errorf("left to do: %v", left)
	}
	if c := w.config(w.app); c.State != store.RepositoryActive || c.HookID != "" {
		t.Errorf("config %+v", c)
	}
}

func TestTheAppIsAskedWhereBitbucketSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	away := w.invocation("one", 0)
	away.APIBaseURL = "http://127.0.0.1:1/ex/bitbucket/1"
	get(w.Invoked(t.Context(), away, w.robot(), time.Now().Add(2*time.Hour)))(t)
	before := w.lastCall()
	if _, err := w.foreground().Repository(t.Context(), w.acme, w.app); err == nil {
		t.Error("the call went where nobody sent it")
	}
	if calls := w.sim.Calls(before); len(calls) != 0 {
		t.Errorf("calls %v", calls)
	}
	w.invoked("one", time.Second, 0) // it moved
	get(w.foreground().Repository(t.Context(), w.acme, w.app))(t)
	w.invocation("one", -time.Hour)
	late := away
	late.IssuedAt = w.noon.Add(-time.Hour) // old news does not move it back
	get(w.Invoked(t.Context(), late, "", time.Time{}))(t)
	get(w.foreground().Repository(t.Context(), w.acme, w.app))(t)
}
