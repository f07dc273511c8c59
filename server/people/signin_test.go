package people_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	planted, session := get2(w.NewSession(t.Context()))(t)
	if session.Person != nil || len(session.Hash) != 32 {
		t.Errorf("session %+v", session)
	}
	authorize := get(url.Parse(get(w.BeginSignIn(t.Context(), session.Hash, "/pr/1?x=y#z"))(t)))(t)
	if got := authorize.Query().Get("redirect_uri"); got != origin+"/auth/callback" {
		t.Errorf("redirect %q", got)
	}
	redirect := get(w.sim.Consent(bitbucketsim.Consent{URL: authorize.String(), Person: "alice"}))(t)
	back := get(url.Parse(redirect.Location))(t).Query()
	cookie, returnTo := get2(w.FinishSignIn(t.Context(), session.Hash, back.Get("state"), back.Get("code"), ""))(t)
	if returnTo != "/pr/1?x=y#z" {
		t.Errorf("returns to %q", returnTo)
	}

	t.Run("makes a session of the person", func(t *testing.T) {
		signedIn := get(w.Session(t.Context(), cookie))(t)
		account := w.accounts["alice"]
		if p := signedIn.Person; p == nil || p.AccountID != account.AccountID || "{"+p.AccountUUID+"}" != account.UUID ||
			p.Name != "The alice" || p.Email != "alice@example.com" || len(p.Salt) != 32 {
			t.Errorf("person %+v", signedIn.Person)
		}
	})
	t.Run("under a new id: the one that began it is worth nothing", func(t *testing.T) {
		if cookie == planted {
			t.Error("the same cookie")
		}
		_, err := w.Session(t.Context(), planted)
		refused(t, err, refusal.NotFound)
	})
	t.Run("stores neither the cookie's value nor Bitbucket's tokens", func(t *testing.T) {
		rows := strings.Join(w.texts(`select s::text from signedapproval_sessions s`), "\n")
		if rows == "" || strings.Contains(rows, cookie) {
			t.Error("the cookie lies in the table")
		}
		equal(t, "grants", w.texts(`select id::text from signedapproval_pending_grants`), nil)
		equal(t, "states", w.texts(`select purpose from signedapproval_oauth_states`), nil)
	})
	t.Run("remembers in which workspaces to look", func(t *testing.T) {
		equal(t, "memberships", w.texts(`select workspace_id || ' ' || role from signedapproval_memberships`), []string{acme + " ADMIN"})
	})
	t.Run("again is the same person, with today's name", func(t *testing.T) {
		before := get(w.Session(t.Context(), cookie))(t).Person
		_, again := w.signedIn("alice")
		if again.Person.ID != before.ID || !bytes.Equal(again.Person.Salt, before.Salt) {
			t.Error("another person")
		}
		if n := w.texts(`select count(*)::text from signedapproval_people`); n[0] != "1" {
			t.Errorf("%s people", n)
		}
	})
	t.Run("as somebody else ends the session before", func(t *testing.T) {
		alice, session := w.signedIn("alice")
		back := w.consent(session, "bob", "")
		other, _ := get2(w.FinishSignIn(t.Context(), session.Hash, back.Get("state"), back.Get("code"), ""))(t)
		if got := get(w.Session(t.Context(), other))(t); got.Person.Name != "The bob" {
			t.Errorf("signed in as %s", got.Person.Name)
		}
		_, err := w.Session(t.Context(), alice)
		refused(t, err, refusal.NotFound)
	})
}

func TestWrongSignIns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	finish := func(session people.Session, back url.Values) error {
		cookie, _, err := w.FinishSignIn(t.Context(), session.Hash, back.Get("state"), back.Get("code"), back.Get("error"))
		if err != nil && cookie != "" {
			t.Error("a cookie comes with the error")
		}
		return err
	}
	t.Run("a state that nobody made", func(t *testing.T) {
		session, back := w.begin("alice", "")
		for _, state := range []string{"", "x", strings.Repeat("x", 5000)} {
			back.Set("state", state)
			refused(t, finish(session, back), people.CodeState)
		}
	})
	t.Run("another browser's session", func(t *testing.T) {
		session, back := w.begin("mallory", "")
		_, victim := get2(w.NewSession(t.Context()))(t)
		refused(t, finish(victim, back), people.CodeState)
		refused(t, finish(session, back), people.CodeState) // it was used up
	})
	t.Run("a state for connecting", func(t *testing.T) {
		session, back := w.begin("alice", "")
		w.sql(`update signedapproval_oauth_states set purpose = 'CONNECT'`)
		refused(t, finish(session, back), people.CodeState)
	})
	t.Run("eleven minutes later", func(t *testing.T) {
		session, back := w.begin("alice", "")
		w.sql(`update signedapproval_oauth_states set expires_at = expires_at - interval '11 minutes'`)
		refused(t, finish(session, back), people.CodeState)
	})
	t.Run("the same callback twice", func(t *testing.T) {
		session, back := w.begin("alice", "")
		must(t, finish(session, back))
		refused(t, finish(session, back), people.CodeState)
	})
	t.Run("a replayed code", func(t *testing.T) {
		session, first := w.begin("alice", "")
		other, second := w.begin("alice", "/x")
		must(t, finish(session, first))
		second.Set("code", first.Get("code"))
		refused(t, finish(other, second), people.CodeSignInRefused)
	})
	t.Run("consent denied", func(t *testing.T) {
		session, back := w.begin("alice", "/x")
		_, returnTo, err := w.FinishSignIn(t.Context(), session.Hash, back.Get("state"), "", "access_denied")
		refused(t, err, people.CodeConsentDenied)
		if returnTo != "/x" {
			t.Errorf("returns to %q", returnTo)
		}
	})
	t.Run("Bitbucket is away", func(t *testing.T) {
		for _, path := range []string{"/access_token$", "/2.0/user$", "/2.0/user/emails$", "/2.0/user/workspaces$"} {
			session, back := w.begin("alice", "")
			get(w.sim.AddFault(bitbucketsim.Fault{Path: path, Status: 503}))(t)
			refused(t, finish(session, back), refusal.BitbucketUnavailable)
			w.sim.ClearFaults()
		}
	})
	t.Run("an app is no person", func(t *testing.T) {
		session, back := w.begin("alice", "")
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/2.0/user$", Status: 200, Body: `{"type": "app_user", "uuid": "{` + acme + `}", "account_id": "712020:x"}`}))(t)
		defer w.sim.ClearFaults()
		refused(t, finish(session, back), people.CodeSignInRefused)
	})
	t.Run("ways back that leave us", func(t *testing.T) {
		_, session := get2(w.NewSession(t.Context()))(t)
		for _, returnTo := range []string{"//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nSet-Cookie: x", "x"} {
			_, err := w.BeginSignIn(t.Context(), session.Hash, returnTo)
			refused(t, err, refusal.BadInput)
		}
	})
}

func TestSignInScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "account")
	session, back := w.begin("alice", "")
	_, _, err := w.FinishSignIn(t.Context(), session.Hash, back.Get("state"), back.Get("code"), "")
	refused(t, err, people.CodeScopeMissing)
	if !strings.Contains(err.Error(), "permission email") {
		t.Errorf("got %v", err)
	}
}

func TestAddressMustBeConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for body, want := range map[string]string{
		`{"values": [{"email": "a@x", "is_primary": true, "is_confirmed": false}, {"email": "b@x", "is_primary": false, "is_confirmed": true}]}`: "",
		`{"values": [{"email": "b@x", "is_primary": false, "is_confirmed": true}, {"email": "a@x", "is_primary": true, "is_confirmed": true}]}`:  "a@x",
		`{"values": []}`: "",
	} {
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/2.0/user/emails$", Status: 200, Body: body}))(t)
		_, session := w.signedIn("alice")
		if session.Person.Email != want {
			t.Errorf("%s: %q, want %q", body, session.Person.Email, want)
		}
		w.sim.ClearFaults()
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("values that are none", func(t *testing.T) {
		for _, value := range []string{"", "x", strings.Repeat("a", 43), strings.Repeat("a", 5000)} {
			_, err := w.Session(t.Context(), value)
			refused(t, err, refusal.NotFound)
		}
	})
	t.Run("names the workspaces that the person is in, sixteen at most", func(t *testing.T) {
		cookie, session := w.signedIn("bob")
		of := func() []string { return get(w.Session(t.Context(), cookie))(t).Workspaces }
		w.sql(`delete from signedapproval_memberships`)
		equal(t, "workspaces of somebody new", of(), []string{})
		in := `insert into signedapproval_memberships (person_id, workspace_id, role) select '` + session.Person.ID + `', `
		w.sql(in + `'bbbbbbbb-0000-4000-8000-000000000001', 'MEMBER'`)
		w.sql(in + `'aaaaaaaa-0000-4000-8000-000000000001', 'ADMIN'`)
		w.sql(in + `'cccccccc-0000-4000-8000-000000000001', 'NONE'`)
		equal(t, "workspaces", of(), []string{"aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000001"})
		w.sql(in + `gen_random_uuid(), 'MEMBER' from generate_series(1, 40)`)
		if n := len(of()); n != 16 {
			t.Errorf("somebody who is in many is in %d", n)
		}
		w.sql(`delete from signedapproval_memberships`)
	})
	t.Run("ends 12 hours after it was last seen", func(t *testing.T) {
		cookie, _ := w.signedIn("alice")
		w.sql(`update signedapproval_sessions set seen_at = now() - interval '11 hours 59 minutes'`)
		get(w.Session(t.Context(), cookie))(t) // which moves it
		equal(t, "seen", w.texts(`select 'now' from signedapproval_sessions where seen_at > now() - interval '1 minute'`), []string{"now"})
		w.sql(`update signedapproval_sessions set seen_at = now() - interval '12 hours 1 second'`)
		_, err := w.Session(t.Context(), cookie)
		refused(t, err, refusal.NotFound)
	})
	t.Run("ends 30 days after sign-in, however much it is used", func(t *testing.T) {
		cookie, _ := w.signedIn("alice")
		w.sql(`update signedapproval_sessions set expires_at = expires_at - interval '29 days 23 hours'`)
		get(w.Session(t.Context(), cookie))(t)
		w.sql(`update signedapproval_sessions set expires_at = expires_at - interval '2 hours'`)
		_, err := w.Session(t.Context(), cookie)
		refused(t, err, refusal.NotFound)
	})
	t.Run("lives for an hour where nobody signs in", func(t *testing.T) {
		cookie, _ := get2(w.NewSession(t.Context()))(t)
		w.sql(`update signedapproval_sessions set expires_at = expires_at - interval '61 minutes'`)
		_, err := w.Session(t.Context(), cookie)
		refused(t, err, refusal.NotFound)
	})
	t.Run("signing out ends it, everywhere all of the person's", func(t *testing.T) {
		first, one := w.signedIn("alice")
		second, two := w.signedIn("alice")
		other, _ := w.signedIn("bob")
		must(t, w.SignOut(t.Context(), one, false))
		_, err := w.Session(t.Context(), first)
		refused(t, err, refusal.NotFound)
		get(w.Session(t.Context(), second))(t)
		third, _ := w.signedIn("alice")
		must(t, w.SignOut(t.Context(), two, true))
		for _, cookie := range []string{second, third} {
			_, err := w.Session(t.Context(), cookie)
			refused(t, err, refusal.NotFound)
		}
		get(w.Session(t.Context(), other))(t)
		must(t, w.SignOut(t.Context(), two, true)) // again
	})
	t.Run("an ended session cannot finish a sign-in", func(t *testing.T) {
		session, back := w.begin("alice", "")
		must(t, w.store.Outside(t.Context(), func(sh *store.Shared) error { return sh.DeleteSession(t.Context(), session.Hash) }))
		_, other := get2(w.NewSession(t.Context()))(t)
		_, _, err := w.FinishSignIn(t.Context(), other.Hash, back.Get("state"), back.Get("code"), "")
		refused(t, err, people.CodeState)
	})
}
