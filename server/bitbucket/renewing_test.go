package bitbucket_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

func TestRenewing(t *testing.T) {
	t.Parallel()

	// good answers 401 to every token but the one that is good.
	good := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			http.Error(w, "", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"uuid": "{` + userUUID + `}", "type": "user", "account_id": "a"}`))
	}

	t.Run("a refused call is repeated with the other token, which is kept", func(t *testing.T) {
		t.Parallel()
		s := serve(t, good)
		var refused []string
		c := bitbucket.New(bitbucket.Config{BaseURL: s.URL}).As("old", "k", bitbucket.Foreground).
			Renewing(func(_ context.Context, token string) (string, error) {
				refused = append(refused, token)
				return "good", nil
			})
		for range 2 {
			if user, err := c.CurrentUser(t.Context()); err != nil || user.UUID != userUUID {
				t.Fatalf("got %v, %v", user, err)
			}
		}
		if len(refused) != 1 || refused[0] != "old" {
			t.Errorf("renewed %q, want the old token once", refused)
		}
		if n := len(s.received()); n != 3 {
			t.Errorf("%d exchanges, want 3", n)
		}
	})

	t.Run("a token that is refused as well ends the call", func(t *testing.T) {
		t.Parallel()
		s := serve(t, good)
		renewals := 0
		c := bitbucket.New(bitbucket.Config{BaseURL: s.URL}).As("old", "k", bitbucket.Foreground).
			Renewing(func(context.Context, string) (string, error) { renewals++; return "bad", nil })
		_, err := c.CurrentUser(t.Context())
		if refused, ok := errors.AsType[*bitbucket.Error](err); !ok || !refused.Unauthorized() {
			t.Errorf("got %v, want 401", err)
		}
		if renewals != 1 || len(s.received()) != 2 {
			t.Errorf("%d renewals, %d exchanges; want 1 and 2", renewals, len(s.received()))
		}
	})

	t.Run("why a token could not be renewed is in the chain", func(t *testing.T) {
		t.Parallel()
		s := serve(t, good)
		why := errors.New("the grant is dead")
		c := bitbucket.New(bitbucket.Config{BaseURL: s.URL}).As("old-token-1", "k", bitbucket.Foreground).
			Renewing(func(context.Context, string) (string, error) { return "", why })
		_, err := c.CurrentUser(t.Context())
		refused, ok := errors.AsType[*bitbucket.Error](err)
		if !ok || !refused.Unauthorized() || !errors.Is(err, why) || strings.Contains(err.Error(), "old-token-1") {
			t.Errorf("got %v", err)
		}
		if refused != nil && refused.Class() != bitbucket.Permanent {
			t.Errorf("class %s", refused.Class())
		}
	})

	t.Run("an error of this package stays as it is", func(t *testing.T) {
		t.Parallel()
		s := serve(t, good)
		away := &bitbucket.Error{Op: "refresh token", Status: http.StatusServiceUnavailable}
		c := bitbucket.New(bitbucket.Config{BaseURL: s.URL}).As("old", "k", bitbucket.Foreground).
			Renewing(func(context.Context, string) (string, error) { return "", away })
		if _, err := c.CurrentUser(t.Context()); !errors.Is(err, away) {
			t.Errorf("got %v, want %v", err, away)
		}
	})

	t.Run("other refusals are not renewed", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusForbidden) })
		c := bitbucket.New(bitbucket.Config{BaseURL: s.URL}).As("old", "k", bitbucket.Foreground).
			Renewing(func(context.Context, string) (string, error) { t.Error("renewed"); return "", nil })
		if _, err := c.CurrentUser(t.Context()); err == nil {
			t.Error("no error")
		}
	})
}
