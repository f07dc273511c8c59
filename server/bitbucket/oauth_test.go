package bitbucket_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

const (
	consumerSecret = "consumer-secret-77aa"
	oldRefresh     = "refresh-old-55bb"
	code           = "code-33cc"
	verifier       = "verifier-0123456789012345678901234567890123456789"
)

func (s *server) consumer() bitbucket.Consumer {
	return bitbucket.Consumer{
		Key: "consumer-key", Secret: consumerSecret, AuthorizeURL: s.URL + "/site/oauth2/authorize",
		TokenURL: s.URL + "/site/oauth2/access_token", RedirectURL: "https://gate.example.com/callback", Now: atNoon,
	}
}

func TestAuthCodeURL(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(bitbucket.Consumer{Key: "k", Secret: consumerSecret, RedirectURL: "https://gate.example.com/callback"}.AuthCodeURL("st&ate", ""))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{"client_id": {"k"}, "response_type": {"code"}, "state": {"st&ate"}, "redirect_uri": {"https://gate.example.com/callback"}}
	if u.Host != "bitbucket.org" || u.Path != "/site/oauth2/authorize" || u.Query().Encode() != want.Encode() {
		t.Errorf("got %s", u)
	}
	u, err = url.Parse(bitbucket.Consumer{Key: "k"}.AuthCodeURL("s", verifier))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(verifier))
	if q := u.Query(); q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) {
		t.Errorf("got %s", u)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body   string
		life   time.Duration
		scopes []string
		next   string
	}{
		"as documented": {
			`{"access_token":"new","token_type":"bearer","expires_in":3600,"refresh_token":"next","scope":"account webhook"}`,
			time.Hour,
			[]string{"account", "webhook"},
			"next",
		},
		"a shorter life":        {`{"access_token":"new","token_type":"bearer","expires_in":60,"refresh_token":"next"}`, time.Minute, nil, "next"},
		"no life":               {`{"access_token":"new","token_type":"bearer","refresh_token":"next"}`, time.Hour, nil, "next"},
		"the old scope field":   {`{"access_token":"new","token_type":"bearer","expires_in":7200,"refresh_token":"next","scopes":"account"}`, 2 * time.Hour, []string{"account"}, "next"},
		"the refresh one stays": {`{"access_token":"new","token_type":"bearer"}`, time.Hour, nil, oldRefresh},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answerJSON(test.body))
			got := must(s.consumer().Refresh(t.Context(), oldRefresh))(t)
			if got.Access != "new" || got.Refresh != test.next || !got.Expiry.Equal(noon.Add(test.life)) || !slices.Equal(got.Scopes, test.scopes) {
				t.Errorf("got %+v", got)
			}
			r := s.received()[0]
			basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("consumer-key:"+consumerSecret))
			if r.Header.Get("Authorization") != basic || strings.Contains(r.Body, consumerSecret) {
				t.Errorf("authorization %q, body %q", r.Header.Get("Authorization"), r.Body)
			}
			if form, err := url.ParseQuery(r.Body); err != nil || form.Encode() != (url.Values{"grant_type": {"refresh_token"}, "refresh_token": {oldRefresh}}).Encode() {
				t.Errorf("form %q, %v", r.Body, err)
			}
		})
	}
}

func TestExchange(t *testing.T) {
	t.Parallel()
	for _, verifier := range []string{"", verifier} {
		s := serve(t, answerJSON(string(recording(t, "atlassian__atlascode/access-token-bb-cloud.json"))))
		got := must(s.consumer().Exchange(t.Context(), code, verifier))(t)
		if got.Access != "mocked_token" || got.Refresh != "mocked_refresh_token" || !got.Expiry.Equal(noon.Add(time.Hour)) {
			t.Errorf("got %+v", got)
		}
		want := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {"https://gate.example.com/callback"}}
		if verifier != "" {
			want.Set("code_verifier", verifier)
		}
		if form, err := url.ParseQuery(s.received()[0].Body); err != nil || form.Encode() != want.Encode() {
			t.Errorf("form %v, want %v, %v", form, want, err)
		}
	}
}

func TestRefusedGrants(t *testing.T) {
	t.Parallel()
	echo := `,"error_description":"` + oldRefresh + " " + code + " " + consumerSecret + " " + verifier + `"}`
	tests := map[string]struct {
		status int
		body   string
		dead   bool
		class  bitbucket.ErrorClass
	}{
		"invalid grant":        {400, `{"error":"invalid_grant"` + echo, true, bitbucket.Permanent},
		"invalid grant as 401": {401, `{"error":"invalid_grant"` + echo, true, bitbucket.Permanent},
		"invalid grant as 200": {200, `{"error":"invalid_grant"` + echo, true, bitbucket.Permanent},
		"some 400":             {400, `no ` + oldRefresh, true, bitbucket.Permanent},
		"some 401":             {401, ``, true, bitbucket.Permanent},
		"our secret is wrong":  {401, `{"error":"invalid_client"` + echo, false, bitbucket.Permanent},
		"not now":              {400, `{"error":"temporarily_unavailable"` + echo, false, bitbucket.Transient},
		"forbidden":            {403, `<html>` + oldRefresh, false, bitbucket.Permanent},
		"too many":             {429, `slow down ` + code, false, bitbucket.Transient},
		"broken":               {500, `{"error":"` + oldRefresh + `"}`, false, bitbucket.Transient},
		"away":                 {503, ``, false, bitbucket.Transient},
		"no token":             {200, `{"token_type":"bearer"}`, false, bitbucket.Transient},
		"not JSON":             {200, `{"access_token":"` + oldRefresh, false, bitbucket.Transient},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answer(test.status, "application/json", test.body))
			_, refresh := s.consumer().Refresh(t.Context(), oldRefresh)
			_, exchange := s.consumer().Exchange(t.Context(), code, verifier)
			for _, err := range []error{refresh, exchange} {
				got := asError(t, err)
				if errors.Is(err, bitbucket.ErrGrantDead) != test.dead || got.Class() != test.class {
					t.Errorf("got %v of class %s", err, got.Class())
				}
				text := fmt.Sprintf("%v %+v", err, *got)
				for _, secret := range []string{oldRefresh, code, consumerSecret, verifier} {
					if strings.Contains(text, secret) {
						t.Errorf("the error shows %q: %s", secret, text)
					}
				}
				if got.Throttled() && !got.RetryAt.Equal(noon.Add(time.Minute)) {
					t.Errorf("retry at %v", got.RetryAt)
				}
			}
			if n := len(s.received()); n != 2 {
				t.Errorf("%d requests, want one each", n)
			}
		})
	}
}

func TestTokenEndpointIsNotRedirected(t *testing.T) {
	t.Parallel()
	foreign := serve(t, answerJSON(`{"access_token":"stolen","token_type":"bearer"}`))
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, foreign.URL, status) })
		if _, err := s.consumer().Refresh(t.Context(), oldRefresh); errors.Is(err, bitbucket.ErrGrantDead) || asError(t, err).Status != status {
			t.Errorf("got %v", err)
		}
	}
	if n := len(foreign.received()); n != 0 {
		t.Errorf("the foreign server received %d requests", n)
	}
}

func TestTokenEndpointTimeout(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"access_token":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	consumer := s.consumer()
	consumer.Timeout = 50 * time.Millisecond
	_, err := consumer.Refresh(t.Context(), oldRefresh)
	if got := asError(t, err); !errors.Is(err, context.DeadlineExceeded) || got.Class() != bitbucket.Transient {
		t.Errorf("got %v", err)
	}
	for _, missing := range []error{
		func() error { _, err := consumer.Refresh(t.Context(), ""); return err }(),
		func() error { _, err := consumer.Exchange(t.Context(), "", ""); return err }(),
	} {
		if !errors.Is(missing, bitbucket.ErrInvalidArgument) {
			t.Errorf("got %v", missing)
		}
	}
	if n := len(s.received()); n > 1 { // none where the machine is so busy that it was given up before it was sent
		t.Errorf("%d requests", n)
	}
}
