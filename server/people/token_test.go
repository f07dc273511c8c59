package people_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := w.signedIn("alice")
	_, b := w.signedIn("bob")
	_, m := w.signedIn("mallory")
	alice, bob, mallory := *a.Person, *b.Person, *m.Person

	token, secret := get2(w.CreateToken(t.Context(), bob, acme, " CI ", []string{"READ", "READ"}, 0))(t)
	if !regexp.MustCompile(`^sa_live_[0-9A-Za-z]{43}$`).MatchString(string(secret)) {
		t.Errorf("text %q", string(secret))
	}
	if token.Name != "CI" || token.Prefix != string(secret)[:12] || fmt.Sprint(token.Scopes) != "[READ]" || token.LastUsedAt != nil {
		t.Errorf("token %+v", token)
	}
	if days := token.ExpiresAt.Sub(token.CreatedAt).Hours() / 24; days != 90 {
		t.Errorf("lives for %v days", days)
	}

	t.Run("is stored as its hash, and printed as nothing", func(t *testing.T) {
		rows := strings.Join(w.texts(`select t::text from signedapproval_api_tokens t`), "\n")
		if rows == "" || strings.Contains(rows, string(secret)[12:]) {
			t.Error("its text lies in the table")
		}
		var logged strings.Builder
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("made", "secret", secret, "all", struct{ S store.Secret }{secret})
		for _, text := range []string{fmt.Sprint(secret), fmt.Sprintf("%v %+v %#v %s %q", secret, secret, secret, secret, secret), logged.String()} {
			if strings.Contains(text, string(secret)) || !strings.Contains(text, "[redacted]") {
				t.Errorf("printed as %s", text)
			}
		}
	})
	t.Run("speaks for its person in its workspace", func(t *testing.T) {
		caller := get(w.TokenCaller(t.Context(), string(secret)))(t)
		if caller.ID != token.ID || caller.Workspace != acme || caller.Person.ID != bob.ID || !caller.Allows(store.ScopeRead) || caller.Allows(store.ScopeConfigure) {
			t.Errorf("caller %+v", caller)
		}
		used := get(w.Token(t.Context(), bob, token.ID))(t)
		if used.LastUsedAt == nil || used.LastUsedAt.Second() != 0 || used.LastUsedAt.Nanosecond() != 0 {
			t.Errorf("last used %v", used.LastUsedAt)
		}
	})
	t.Run("CONFIGURE includes READ", func(t *testing.T) {
		_, secret := get2(w.CreateToken(t.Context(), bob, acme, "x", []string{"CONFIGURE"}, 1))(t)
		caller := get(w.TokenCaller(t.Context(), string(secret)))(t)
		if !caller.Allows(store.ScopeRead) || !caller.Allows(store.ScopeConfigure) || caller.Allows("DECIDE") {
			t.Errorf("caller %+v", caller)
		}
	})
	t.Run("is only good while its person has rights", func(t *testing.T) {
		w.roles[acme+bob.AccountID] = store.RoleNone
		_, err := w.TokenCaller(t.Context(), string(secret))
		refused(t, err, people.CodeTokenInvalid)
		w.roles[acme+bob.AccountID] = store.RoleMember
		w.roleErr = refusal.New(refusal.BitbucketUnavailable, "away")
		_, err = w.TokenCaller(t.Context(), string(secret))
		refused(t, err, refusal.BitbucketUnavailable)
		w.roleErr = nil
		get(w.TokenCaller(t.Context(), string(secret)))(t)
	})
	t.Run("texts that are none", func(t *testing.T) {
		for _, text := range []string{"", "sa_live_", string(secret) + "x", string(secret)[:50], "sa_live_" + strings.Repeat("0", 43), strings.ToUpper(string(secret))} {
			_, err := w.TokenCaller(t.Context(), text)
			refused(t, err, people.CodeTokenInvalid)
		}
	})
	t.Run("expires", func(t *testing.T) {
		token, secret := get2(w.CreateToken(t.Context(), bob, acme, "x", []string{"READ"}, 1))(t)
		w.sql(`update signedapproval_api_tokens set expires_at = expires_at - interval '23 hours' where id = $1`, token.ID)
		get(w.TokenCaller(t.Context(), string(secret)))(t)
		w.sql(`update signedapproval_api_tokens set expires_at = expires_at - interval '61 minutes' where id = $1`, token.ID)
		_, err := w.TokenCaller(t.Context(), string(secret))
		refused(t, err, people.CodeTokenInvalid)
	})
	t.Run("bad requests", func(t *testing.T) {
		for name, attempt := range map[string]func() error{
			"name":   func() error { _, _, err := w.CreateToken(t.Context(), bob, acme, "", []string{"READ"}, 1); return err },
			"scopes": func() error { _, _, err := w.CreateToken(t.Context(), bob, acme, "x", nil, 1); return err },
			"scope": func() error {
				_, _, err := w.CreateToken(t.Context(), bob, acme, "x", []string{"READ", "DECIDE"}, 1)
				return err
			},
			"days": func() error {
				_, _, err := w.CreateToken(t.Context(), bob, acme, "x", []string{"READ"}, 367)
				return err
			},
			"past": func() error {
				_, _, err := w.CreateToken(t.Context(), bob, acme, "x", []string{"READ"}, -1)
				return err
			},
		} {
			if err := attempt(); refusal.Code(err) != refusal.BadInput || len(refusal.Of(err).Path) == 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, _, err := w.CreateToken(t.Context(), mallory, acme, "x", []string{"READ"}, 1)
		refused(t, err, refusal.NotFound)
		_, _, err = w.CreateToken(t.Context(), bob, "nonsense", "x", []string{"READ"}, 1)
		refused(t, err, refusal.NotFound)
	})
	t.Run("who sees which", func(t *testing.T) {
		_, _ = get2(w.CreateToken(t.Context(), alice, acme, "hers", []string{"READ"}, 1))(t)
		if all := get(w.Tokens(t.Context(), alice, acme))(t); len(all) != 4 || all[0].Name != "hers" {
			t.Errorf("an administrator sees %d", len(all))
		}
		own := get(w.Tokens(t.Context(), bob, acme))(t)
		for _, one := range own {
			if one.PersonID != bob.ID {
				t.Errorf("a member sees %+v", one)
			}
		}
		if len(own) != 3 {
			t.Errorf("a member sees %d", len(own))
		}
		_, err := w.Tokens(t.Context(), mallory, acme)
		refused(t, err, refusal.NotFound)
		_, err = w.Token(t.Context(), mallory, token.ID)
		refused(t, err, refusal.NotFound)
		get(w.Token(t.Context(), alice, token.ID))(t)
	})
	t.Run("who revokes which", func(t *testing.T) {
		theirs, _ := get2(w.CreateToken(t.Context(), alice, acme, "hers", []string{"READ"}, 1))(t)
		for _, id := range []string{theirs.ID, acme, "nonsense"} {
			_, err := w.RevokeToken(t.Context(), bob, id)
			refused(t, err, refusal.NotFound)
			_, err = w.RevokeToken(t.Context(), mallory, id)
			refused(t, err, refusal.NotFound)
		}
		revoked := get(w.RevokeToken(t.Context(), alice, token.ID))(t)
		if revoked.RevokedAt == nil {
			t.Error("not revoked")
		}
		_, err := w.TokenCaller(t.Context(), string(secret))
		refused(t, err, people.CodeTokenInvalid)
		if again := get(w.RevokeToken(t.Context(), alice, token.ID))(t); !again.RevokedAt.Equal(*revoked.RevokedAt) {
			t.Error("revoked twice")
		}
	})
	t.Run("one's own may be revoked after leaving the workspace", func(t *testing.T) {
		token, _ := get2(w.CreateToken(t.Context(), bob, acme, "x", []string{"READ"}, 1))(t)
		w.roles[acme+bob.AccountID] = store.RoleNone
		defer func() { w.roles[acme+bob.AccountID] = store.RoleMember }()
		get(w.RevokeToken(t.Context(), bob, token.ID))(t)
	})
	t.Run("fifty are enough", func(t *testing.T) {
		w.sql(`insert into signedapproval_api_tokens (workspace_id, person_id, name, token_hash, prefix, scopes, expires_at)
			select $1, $2, 'x', int4send(i), 'x', '{READ}', now() + interval '1 day' from generate_series(1, 50) i`, acme, bob.ID)
		_, _, err := w.CreateToken(t.Context(), bob, acme, "x", []string{"READ"}, 1)
		refused(t, err, people.CodeLimit)
	})
}
