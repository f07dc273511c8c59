package app_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestAFailedRoundTripIsExplained: what the OAuth callbacks refuse is a page that says so and leads on,
// and holds nothing of what the address held.
func TestAFailedRoundTripIsExplained(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t)
	config := app.Config{
		Origin: "http://localhost:8080", DatabaseURL: db.AppURL, RedisURL: "redis://" + miniredis.RunT(t).Addr(), Keyset: string(store.NewKeyset()),
		LogKey:     newLogKey(t, "localhost:8080/log"),
		ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
		BitbucketAPI: "https://api.bitbucket.org", BitbucketWeb: "https://bitbucket.org",
	}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	server, err := app.New(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			server.Close()
		}
	}()
	var cookie *http.Cookie
	get := func(path string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if cookie != nil {
			r.AddCookie(cookie)
		}
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, r)
		if set := w.Result().Cookies(); len(set) > 0 {
			cookie = set[0]
		}
		return w
	}
	begin := func(returnTo string) (state string) {
		t.Helper()
		w := get("/auth/sign-in?return_to=" + url.QueryEscape(returnTo))
		to, err := url.Parse(w.Header().Get("Location"))
		if err != nil || w.Code != http.StatusSeeOther || to.Query().Get("state") == "" {
			t.Fatalf("sign-in answers %d, %v", w.Code, err)
		}
		return to.Query().Get("state")
	}
	explained := func(path string, status int, title, sentence, again string) {
		t.Helper()
		w := get(path)
		body, h := w.Body.String(), w.Header()
		if w.Code != status || h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
		if policy := h.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		for _, part := range []string{"<title>" + title, "<h1>" + title + "</h1>", sentence, `href="` + again + `">Try again</a>`, `href="/">Back to the dashboard</a>`} {
			if !strings.Contains(body, part) {
				t.Errorf("%s lacks %q:\n%s", path, part, body)
			}
		}
		for _, secret := range []string{"sekret", "<script", "style="} {
			if strings.Contains(body, secret) {
				t.Errorf("%s holds %q:\n%s", path, secret, body)
			}
		}
	}

	const signIn, connect, parameters = "You are not signed in", "Nothing was connected", "&code=sekret-code&error_description=%3Cscript%3Esekret"
	explained("/auth/callback?state=sekret-state"+parameters, http.StatusBadRequest, signIn, "was not begun in this browser", "/auth/sign-in")
	state := begin(`/pr/a?x="><script>&y=1`)
	explained("/auth/callback?error=access_denied&state="+state+parameters, http.StatusBadRequest, signIn,
		"Bitbucket was not given your consent", "/auth/sign-in?return_to=%2Fpr%2Fa%3Fx%3D%22%3E%3Cscript%3E%26y%3D1")
	explained("/auth/callback?error=access_denied&state="+state, http.StatusBadRequest, signIn, "was finished before", "/auth/sign-in")
	explained("/auth/callback?error=sekret&state="+begin("/"), http.StatusBadRequest, signIn, "ended the round trip", "/auth/sign-in?return_to=%2F")
	explained("/auth/sign-in?return_to=https://evil.example", http.StatusBadRequest, signIn, "must be a path on this server", "/auth/sign-in")
	explained("/connect/callback?state=sekret-state"+parameters, http.StatusBadRequest, connect, "was not begun in this browser", "/settings/bitbucket")
	cookie = nil
	explained("/connect/callback?state=sekret-state"+parameters, http.StatusNotFound, connect, "your session has ended", "/settings/bitbucket")

	server.Close()
	closed = true
	explained("/auth/callback?state=sekret-state"+parameters, http.StatusInternalServerError, signIn, "Something went wrong here.", "/auth/sign-in")
}
