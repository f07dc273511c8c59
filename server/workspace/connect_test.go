package workspace_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

func TestConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice, session := w.person("alice")

	authorize := get(w.BeginConnect(t.Context(), alice, session, "/settings/bitbucket?tab=1"))(t)
	query := get(url.Parse(authorize))(t).Query()
	if query.Get("redirect_uri") != origin+"/connect/callback" || len(query.Get("state")) != 43 {
		t.Errorf("authorize URL %s", authorize)
	}
	back := w.consent(authorize, "alice")
	returnTo := get(w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), ""))(t)
	if returnTo != "/settings/bitbucket?tab=1" {
		t.Errorf("returns to %q", returnTo)
	}

	grants := get(w.Grants(t.Context(), alice))(t)
	if len(grants) != 1 || grants[0].AccountName != "Alice" || len(grants[0].Workspaces) != 1 {
		t.Fatalf("grants %+v", grants)
	}
	if got := grants[0].Workspaces[0]; got.UUID != w.acme || got.Slug != "acme" || got.Name != "Acme Inc" || got.Connected {
		t.Errorf("workspace of the grant %+v", got)
	}
	// A name that cannot be had keeps nobody from connecting.
	get(w.sim.AddFault(bitbucketsim.Fault{Path: "/2.0/workspaces/", Status: 403}))(t)
	if got := get(w.Grants(t.Context(), alice))(t)[0].Workspaces[0]; got.Name != "acme" {
		t.Errorf("workspace without a name %+v", got)
	}
	w.sim.ClearFaults()

	connected := get(w.Connect(t.Context(), alice, grants[0].ID, "{"+strings.ToUpper(w.acme)+"}"))(t)
	if connected.ID != w.acme || connected.Name != "Acme Inc" || connected.Slug != "acme" || len(connected.GenesisSalt) != 32 {
		t.Errorf("connected %+v", connected)
	}
	c := w.connection(w.acme)
	if c.State != store.ConnectionActive || c.ConnectedBy != alice.ID || c.AccountID != alice.AccountID || c.AccessToken == "" || c.RefreshToken == "" {
		t.Errorf("connection %+v", c)
	}
	equal(t, "leaves", w.leaves(w.acme), []string{"genesis", "connection made"})
	equal(t, "alarms", w.alarms(w.acme), nil)
	if grants := get(w.Grants(t.Context(), alice))(t); len(grants) != 0 {
		t.Errorf("the consent is still there: %+v", grants)
	}
	if role := get(w.Role(t.Context(), alice, w.acme, false))(t); role != store.RoleAdmin {
		t.Errorf("role %s", role)
	}
	equal(t, "job", w.texts(`select kind || ' ' || state from signedapproval_jobs where key = $1 and run_at > now() + interval '23 hours'`, w.acme),
		[]string{"refresh READY"})

	t.Run("nothing is stored in the clear", func(t *testing.T) {
		sealed := w.texts(`select encode(access_token, 'escape') || encode(refresh_token, 'escape') from signedapproval_bitbucket_connections`)
		if len(sealed) != 1 || strings.Contains(sealed[0], string(c.AccessToken)) || strings.Contains(sealed[0], string(c.RefreshToken)) {
			t.Error("a token lies in the table as it is")
		}
		seen := get(w.Connection(t.Context(), alice, w.acme))(t)
		if seen.AccessToken != "" || seen.RefreshToken != "" || seen.PreviousRefreshToken != "" {
			t.Error("a token leaves the use case")
		}
	})
	t.Run("the consent serves once", func(t *testing.T) {
		_, err := w.Connect(t.Context(), alice, grants[0].ID, w.acme)
		refused(t, err, refusal.NotFound)
	})
}

func TestWrongRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice, session := w.person("alice")
	begin := func(t *testing.T) url.Values {
		t.Helper()
		return w.consent(get(w.BeginConnect(t.Context(), alice, session, "/back"))(t), "alice")
	}

	t.Run("a state that nobody made", func(t *testing.T) {
		back := begin(t)
		for _, state := range []string{"", "x", back.Get("state") + "x", strings.Repeat("x", 5000)} {
			returnTo, err := w.FinishConnect(t.Context(), session, state, back.Get("code"), "")
			refused(t, err, workspace.CodeState)
			if returnTo != "" {
				t.Errorf("returns to %q", returnTo)
			}
		}
	})
	t.Run("another browser's session", func(t *testing.T) {
		back := begin(t)
		_, other := w.person("mallory")
		_, err := w.FinishConnect(t.Context(), other, back.Get("state"), back.Get("code"), "")
		refused(t, err, workspace.CodeState)
		_, err = w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), "")
		refused(t, err, workspace.CodeState) // it was used up
	})
	t.Run("the same person's other session", func(t *testing.T) {
		back := begin(t)
		_, other := w.person("alice")
		_, err := w.FinishConnect(t.Context(), other, back.Get("state"), back.Get("code"), "")
		refused(t, err, workspace.CodeState)
	})
	t.Run("a session that was signed out", func(t *testing.T) {
		_, ended := w.person("alice")
		back := w.consent(get(w.BeginConnect(t.Context(), alice, ended, ""))(t), "alice")
		must(t, w.store.Outside(t.Context(), func(sh *store.Shared) error { return sh.DeleteSession(t.Context(), ended) }))
		_, err := w.FinishConnect(t.Context(), ended, back.Get("state"), back.Get("code"), "")
		refused(t, err, workspace.CodeState)
	})
	t.Run("a state for signing in", func(t *testing.T) {
		back := begin(t)
		w.sql(`update signedapproval_oauth_states set purpose = 'SIGN_IN'`)
		_, err := w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), "")
		refused(t, err, workspace.CodeState)
	})
	t.Run("eleven minutes later", func(t *testing.T) {
		back := begin(t)
		w.sql(`update signedapproval_oauth_states set expires_at = expires_at - interval '11 minutes'`)
		_, err := w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), "")
		refused(t, err, workspace.CodeState)
	})
	t.Run("the same callback twice", func(t *testing.T) {
		back := begin(t)
		get(w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), ""))(t)
		_, err := w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), "")
		refused(t, err, workspace.CodeState)
	})
	t.Run("a code that was used in another round trip", func(t *testing.T) {
		first, second := begin(t), begin(t)
		get(w.FinishConnect(t.Context(), session, first.Get("state"), first.Get("code"), ""))(t)
		returnTo, err := w.FinishConnect(t.Context(), session, second.Get("state"), first.Get("code"), "")
		refused(t, err, workspace.CodeGrantRefused)
		if returnTo != "/back" {
			t.Errorf("returns to %q", returnTo)
		}
	})
	t.Run("consent denied", func(t *testing.T) {
		back := begin(t)
		returnTo, err := w.FinishConnect(t.Context(), session, back.Get("state"), "", "access_denied")
		refused(t, err, workspace.CodeConsentDenied)
		if returnTo != "/back" {
			t.Errorf("returns to %q", returnTo)
		}
	})
	t.Run("another error of the consent page", func(t *testing.T) {
		back := begin(t)
		_, err := w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), "server_error")
		refused(t, err, workspace.CodeGrantRefused)
	})
	t.Run("ways back that leave us", func(t *testing.T) {
		for _, returnTo := range []string{"//evil.example", "https://evil.example/", "/\\evil.example", "\\evil", "/a\nb", "/\t/evil.example", "relative"} {
			_, err := w.BeginConnect(t.Context(), alice, session, returnTo)
			refused(t, err, refusal.BadInput)
		}
	})
}

func TestConsentOfAnotherAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice, session := w.person("alice")
	back := w.consent(get(w.BeginConnect(t.Context(), alice, session, ""))(t), "dave")
	_, err := w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), "")
	refused(t, err, workspace.CodeOtherAccount)
	if !strings.Contains(err.Error(), "Dave") || !strings.Contains(err.Error(), "Alice") {
		t.Errorf("the message names nobody: %v", err)
	}
	if grants := get(w.Grants(t.Context(), alice))(t); len(grants) != 0 {
		t.Errorf("it was stored: %+v", grants)
	}
}

func TestMissingScopeIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connect = get(w.sim.AddConsumer(bitbucketsim.Consumer{
		Callback: origin + "/connect/callback", Scopes: []string{"account", "pullrequest", "repository:write", "webhook"},
	}))(t)
	w.Workspaces, w.store = w.replica()
	alice, session := w.person("alice")
	back := w.consent(get(w.BeginConnect(t.Context(), alice, session, ""))(t), "alice")
	_, err := w.FinishConnect(t.Context(), session, back.Get("state"), back.Get("code"), "")
	refused(t, err, workspace.CodeScopeMissing)
	if !strings.Contains(err.Error(), "pullrequest:write, repository:admin") {
		t.Errorf("got %v", err)
	}
}

func TestConnectChecksTheRightNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})

	t.Run("a member", func(t *testing.T) {
		bob, id := w.grant("bob")
		_, err := w.Connect(t.Context(), bob, id, w.acme)
		refused(t, err, workspace.CodeNotAdministrator)
	})
	t.Run("an administrator who has just lost the right", func(t *testing.T) {
		dave, id := w.grant("dave")
		get(w.sim.SetMembership(bitbucketsim.Membership{Workspace: "acme", Person: "dave", Role: "member"}))(t)
		_, err := w.Connect(t.Context(), dave, id, w.acme)
		refused(t, err, workspace.CodeNotAdministrator)
	})
	t.Run("another workspace than one's own", func(t *testing.T) {
		alice, id := w.grant("alice")
		_, err := w.Connect(t.Context(), alice, id, w.umbrella)
		refused(t, err, workspace.CodeNotAdministrator)
	})
	t.Run("another person's consent", func(t *testing.T) {
		_, id := w.grant("alice")
		mallory := w.who("mallory")
		_, err := w.Connect(t.Context(), mallory, id, w.acme)
		refused(t, err, refusal.NotFound)
	})
	t.Run("a consent of 16 minutes ago", func(t *testing.T) {
		alice, id := w.grant("alice")
		w.sql(`update signedapproval_pending_grants set expires_at = expires_at - interval '16 minutes' where id = $1`, id)
		_, err := w.Connect(t.Context(), alice, id, w.acme)
		refused(t, err, refusal.NotFound)
		if grants := get(w.Grants(t.Context(), alice))(t); slices.ContainsFunc(grants, func(g workspace.Grant) bool { return g.ID == id }) {
			t.Error("it is still listed")
		}
	})
	t.Run("ids that are none", func(t *testing.T) {
		alice, id := w.grant("alice")
		_, err := w.Connect(t.Context(), alice, "nonsense'; --", w.acme)
		refused(t, err, refusal.NotFound)
		_, err = w.Connect(t.Context(), alice, id, "acme")
		refused(t, err, refusal.NotFound)
	})
	t.Run("Bitbucket is away", func(t *testing.T) {
		alice, id := w.grant("alice")
		fault := bitbucketsim.Fault{Path: "/2.0/user/workspaces", Status: 503}
		get(w.sim.AddFault(fault))(t)
		defer w.sim.ClearFaults()
		_, err := w.Connect(t.Context(), alice, id, w.acme)
		refused(t, err, refusal.BitbucketUnavailable)
		w.sim.ClearFaults()
		get(w.Connect(t.Context(), alice, id, w.acme))(t) // the consent was not lost
	})
}

func TestRevokedConsentIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice, _ := w.grant("alice")
	get(w.sim.Revoke(bitbucketsim.GrantSelector{Person: "alice"}))(t)
	if grants := get(w.Grants(t.Context(), alice))(t); len(grants) != 0 {
		t.Errorf("listed: %+v", grants)
	}
	equal(t, "stored", w.texts(`select id::text from signedapproval_pending_grants`), nil)
}

func TestConnectAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	get2(w.SaveRepository(t.Context(), alice, "session", w.acme, w.app, approvals(1)))(t)
	before := w.connection(w.acme)

	t.Run("by the same account replaces it quietly", func(t *testing.T) {
		w.connected("alice", w.acme)
		after := w.connection(w.acme)
		if after.Generation <= before.Generation || after.AccessToken == before.AccessToken {
			t.Errorf("generation %d after %d", after.Generation, before.Generation)
		}
		equal(t, "alarms", w.alarms(w.acme), nil)
	})
	t.Run("by another account raises an alarm and tells the first", func(t *testing.T) {
		_, id := w.grant("dave")
		dave := w.who("dave")
		grants := get(w.Grants(t.Context(), dave))(t)
		if !grants[0].Workspaces[0].Connected {
			t.Error("the grant does not say that the workspace is connected")
		}
		get(w.Connect(t.Context(), dave, id, w.acme))(t)
		if got := w.connection(w.acme); got.AccountID != dave.AccountID {
			t.Errorf("account %s", got.AccountID)
		}
		equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmConnectionReplaced})
		equal(t, "notices", w.texts(`select kind from signedapproval_notices where person_id = $1`, alice.ID), []string{store.AlarmConnectionReplaced})
		equal(t, "leaves", w.leaves(w.acme)[3:], []string{"connection renewed", "connection renewed"})
		equal(t, "config", w.texts(`select slug from signedapproval_bitbucket_repo_configs`), []string{"app"})
	})
	t.Run("by that account once more closes the alarm", func(t *testing.T) {
		w.connected("dave", w.acme)
		equal(t, "alarms", w.alarms(w.acme), nil)
	})
}
