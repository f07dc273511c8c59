package bitbucketsim_test

import (
	"context"
	"errors"
	"html"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

const callback = "https://app.example.com/connect/callback"

// consumer registers an OAuth consumer and returns it as golang.org/x/oauth2 wants it.
func (w *world) consumer(scopes ...string) *oauth2.Config {
	w.t.Helper()
	c, err := w.sim.AddConsumer(bitbucketsim.Consumer{Name: "Gate", Callback: callback, Scopes: scopes})
	if err != nil {
		w.t.Fatal(err)
	}
	return &oauth2.Config{
		ClientID: c.Key, ClientSecret: c.Secret, RedirectURL: callback,
		Endpoint: oauth2.Endpoint{
			AuthURL: w.sim.URL() + "/site/oauth2/authorize", TokenURL: w.sim.URL() + "/site/oauth2/access_token",
			AuthStyle: oauth2.AuthStyleInHeader,
		},
	}
}

// code lets a person consent and returns the authorization code.
func (w *world) code(conf *oauth2.Config, person string) string {
	w.t.Helper()
	to, err := w.sim.Consent(bitbucketsim.Consent{URL: conf.AuthCodeURL("st4te"), Person: person})
	if err != nil {
		w.t.Fatal(err)
	}
	u, err := url.Parse(to.Location)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := u.Query().Get("state"); got != "st4te" {
		w.t.Errorf("state came back as %q", got)
	}
	return u.Query().Get("code")
}

func wantOAuthError(t *testing.T, err error, code string) {
	t.Helper()
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		t.Fatalf("error is %v, want a refusal", err)
	}
	if refused.ErrorCode != code || refused.ErrorDescription == "" {
		t.Errorf("refused with %q (%q), want %q", refused.ErrorCode, refused.ErrorDescription, code)
	}
}

func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	conf := w.consumer("account", "pullrequest:write")
	code := w.code(conf, "bob")
	tok, err := conf.Exchange(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Extra("scope"); got != "account pullrequest:write" {
		t.Errorf("scope is %v", got)
	}
	if tok.RefreshToken == "" || tok.TokenType != "bearer" || tok.ExpiresIn != 3600 {
		t.Errorf("token is %+v", tok)
	}
	if got := (&client{w, tok.AccessToken}).get("/2.0/user").str("nickname"); got != "bob" {
		t.Errorf("the token is of %q", got)
	}
	_, err = conf.Exchange(t.Context(), code)
	wantOAuthError(t, err, "invalid_grant") // replayed
}

func TestCodeIsBoundToItsRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	conf := w.consumer("account")
	other := w.consumer("account")

	code := w.code(conf, "bob")
	_, err := conf.Exchange(t.Context(), code, oauth2.SetAuthURLParam("redirect_uri", callback+"/other"))
	wantOAuthError(t, err, "invalid_grant")
	_, err = conf.Exchange(t.Context(), code)
	wantOAuthError(t, err, "invalid_grant") // the failed attempt used it up

	_, err = other.Exchange(t.Context(), w.code(conf, "bob"))
	wantOAuthError(t, err, "invalid_grant")

	wrong := *conf
	wrong.ClientSecret = "nonsense"
	_, err = wrong.Exchange(t.Context(), w.code(conf, "bob"))
	wantOAuthError(t, err, "unauthorized_client")
}

func TestCodeExpires(t *testing.T) {
	t.Parallel()
	clock := newClock()
	w := newWorld(t, bitbucketsim.Options{Now: clock.now})
	conf := w.consumer("account")
	code := w.code(conf, "bob")
	clock.advance(11 * time.Minute)
	_, err := conf.Exchange(t.Context(), code)
	wantOAuthError(t, err, "invalid_grant")
}

func TestRedirectMustExtendTheCallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	conf := w.consumer("account")
	for uri, allowed := range map[string]bool{
		callback: true, callback + "/deeper": true, callback + "?x=1": true, callback + ".evil.example": false,
		"https://evil.example.com/connect/callback": false, "http://app.example.com/connect/callback": false,
	} {
		conf.RedirectURL = uri
		_, err := w.sim.Consent(bitbucketsim.Consent{URL: conf.AuthCodeURL("s"), Person: "bob"})
		if (err == nil) != allowed {
			t.Errorf("redirect_uri %s: error %v, allowed %v", uri, err, allowed)
		}
	}
	conf.ClientID = "unknown"
	if _, err := w.sim.Consent(bitbucketsim.Consent{URL: conf.AuthCodeURL("s"), Person: "bob"}); err == nil {
		t.Error("an unknown consumer was accepted")
	}
}

// refresh uses a refresh token as an expired token source does.
func refresh(t *testing.T, conf *oauth2.Config, token string) (*oauth2.Token, error) {
	t.Helper()
	return conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: token, Expiry: time.Unix(1, 0)}).Token()
}

func TestRefreshTokensRotate(t *testing.T) {
	t.Parallel()
	clock := newClock()
	w := newWorld(t, bitbucketsim.Options{Now: clock.now, RefreshGrace: time.Minute})
	conf := w.consumer("account")
	first, err := conf.Exchange(t.Context(), w.code(conf, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Hour + time.Second)
	expired := (&client{w, first.AccessToken}).do(401, "GET", "/2.0/user", nil)
	if !strings.Contains(expired.str("error.message"), "expired") {
		t.Errorf("an expired token is refused with %s", expired.raw)
	}
	second, err := refresh(t, conf, first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if second.RefreshToken == first.RefreshToken {
		t.Error("the refresh token did not change")
	}
	(&client{w, second.AccessToken}).get("/2.0/user")
	clock.advance(30 * time.Second)
	if _, err := refresh(t, conf, first.RefreshToken); err != nil {
		t.Errorf("within the grace the old refresh token is refused: %v", err)
	}
	clock.advance(31 * time.Second)
	_, err = refresh(t, conf, first.RefreshToken)
	wantOAuthError(t, err, "invalid_grant")
	third, err := refresh(t, conf, second.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	clock.advance(91 * 24 * time.Hour)
	_, err = refresh(t, conf, third.RefreshToken)
	wantOAuthError(t, err, "invalid_grant") // unused for three months
}

func TestRefreshWithoutGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{RefreshGrace: -1})
	conf := w.consumer("account")
	first, err := conf.Exchange(t.Context(), w.code(conf, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := refresh(t, conf, first.RefreshToken); err != nil {
		t.Fatal(err)
	}
	_, err = refresh(t, conf, first.RefreshToken)
	wantOAuthError(t, err, "invalid_grant")
}

func TestRevokedGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	conf := w.consumer("account")
	tok, err := conf.Exchange(t.Context(), w.code(conf, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.sim.ExpireTokens(bitbucketsim.GrantSelector{Person: "bob"}); err != nil || n.Grants != 1 {
		t.Fatalf("expire: %v, %v", n, err)
	}
	(&client{w, tok.AccessToken}).do(401, "GET", "/2.0/user", nil)
	if n, err := w.sim.Revoke(bitbucketsim.GrantSelector{Consumer: conf.ClientID}); err != nil || n.Grants != 1 {
		t.Fatalf("revoke: %v, %v", n, err)
	}
	_, err = refresh(t, conf, tok.RefreshToken)
	wantOAuthError(t, err, "invalid_grant")
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	conf := w.consumer("account", "repository")
	form := url.Values{"grant_type": {"client_credentials"}}
	tok := w.token(conf, form, 200)
	if tok.at("refresh_token") != nil {
		t.Error("client_credentials came with a refresh token")
	}
	me := (&client{w, tok.str("access_token")}).get("/2.0/user")
	if me.str("type") != "app_user" {
		t.Errorf("client_credentials acts as %s", me.raw)
	}
	for _, grantType := range []string{"password", "implicit"} {
		refused := w.token(conf, url.Values{"grant_type": {grantType}}, 400)
		if refused.str("error") != "unsupported_grant_type" || refused.str("error_description") == "" {
			t.Errorf("grant_type %s is refused with %s", grantType, refused.raw)
		}
	}
}

func (w *world) token(conf *oauth2.Config, form url.Values, want int) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, conf.Endpoint.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(conf.ClientID, conf.ClientSecret)
	return w.send(req, want)
}

func TestScopesAndTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	refused := w.as("bob", "account").do(403, "GET", w.repo+"/pullrequests", nil)
	if refused.at("error.detail.required.0") != "pullrequest" || refused.at("error.detail.granted.0") != "account" {
		t.Errorf("missing scopes are told as %s", refused.raw)
	}
	// pullrequest:write implies pullrequest, and through repository:write also repository.
	implied := w.as("bob", "pullrequest:write")
	implied.get(w.repo + "/pullrequests")
	implied.get(w.repo)
	implied.do(403, "GET", "/2.0/user", nil)
	// repository:admin implies nothing.
	w.as("alice", "repository:admin").do(403, "GET", w.repo, nil)

	tok := w.as("bob").token
	nobody := &client{w, ""}
	nobody.do(401, "GET", "/2.0/user", nil)
	nobody.do(401, "GET", "/2.0/user?access_token="+tok, nil) // only in the header
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.sim.URL()+"/2.0/user", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("x-token-auth", tok)
	w.send(req, 401)
}

func (w *world) send(req *http.Request, want int) reply {
	w.t.Helper()
	out, err := send(noRedirect, req)
	if err != nil {
		w.t.Fatal(err)
	}
	if out.status != want {
		w.t.Fatalf("%s %s: status %d, want %d: %s", req.Method, req.URL, out.status, want, out.raw)
	}
	return out
}

// browser is a person's browser on the HTML face.
type browser struct {
	w    *world
	http *http.Client
}

func (w *world) browser() *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browser{w, &http.Client{Jar: jar, Timeout: 2 * time.Minute, CheckRedirect: noRedirect.CheckRedirect}}
}

func (b *browser) do(want int, method, path string, form url.Values, header ...string) reply {
	b.w.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = b.w.sim.URL() + path
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(b.w.t.Context()), method, path, strings.NewReader(form.Encode()))
	if err != nil {
		b.w.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", b.w.sim.URL())
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	out, err := send(b.http, req)
	if err != nil {
		b.w.t.Fatal(err)
	}
	if out.status != want {
		b.w.t.Fatalf("%s %s: status %d, want %d: %s", method, path, out.status, want, out.raw)
	}
	return out
}

func (b *browser) logIn(person string) *browser {
	b.w.t.Helper()
	b.do(303, "POST", "/account/signin", url.Values{"person": {person}, "next": {"/"}})
	return b
}

func TestConsentPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	conf := w.consumer("account", "webhook")
	at := conf.AuthCodeURL("st4te")
	b := w.browser()
	page := string(b.do(200, "GET", at, nil).raw)
	for _, part := range []string{"Gate asks for access", "<code>account</code>", "<code>webhook</code>", `value="carol"`, ">Allow<", ">Deny<"} {
		if !strings.Contains(page, part) {
			t.Errorf("the consent page lacks %q", part)
		}
	}
	_, action, _ := strings.Cut(page, `action="/site/oauth2/authorize`)
	action, _, _ = strings.Cut(action, `"`)
	action = "/site/oauth2/authorize" + html.UnescapeString(action)
	if !strings.Contains(action, "state=st4te") {
		t.Fatalf("the form leads to %q", action)
	}
	denied := b.do(302, "POST", action, url.Values{"decision": {"deny"}}).header.Get("Location")
	if !strings.HasPrefix(denied, callback+"?") || !strings.Contains(denied, "error=access_denied") || !strings.Contains(denied, "state=st4te") {
		t.Errorf("Deny leads to %s", denied)
	}
	b.do(400, "POST", action, url.Values{"decision": {"allow"}}) // nobody was chosen
	allowed, err := url.Parse(b.do(302, "POST", action, url.Values{"decision": {"allow"}, "person": {"carol"}}).header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := conf.Exchange(t.Context(), allowed.Query().Get("code"))
	if err != nil {
		t.Fatal(err)
	}
	if got := (&client{w, tok.AccessToken}).get("/2.0/user").str("nickname"); got != "carol" {
		t.Errorf("the token is of %q", got)
	}
	if page := string(b.do(200, "GET", at, nil).raw); !strings.Contains(page, `value="carol" required checked`) {
		t.Error("the person who is logged in is not preselected")
	}
	// A request that is not valid is shown, never redirected.
	conf.RedirectURL = "https://evil.example.com/"
	b.do(400, "GET", conf.AuthCodeURL("x"), nil)
	b.do(400, "POST", conf.AuthCodeURL("x"), url.Values{"decision": {"allow"}, "person": {"carol"}})
}
