package bitbucketsim

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Consumer is an OAuth consumer. Its scopes are fixed: a client cannot ask for fewer or more.
type Consumer struct {
	Name     string   `json:"name"`
	Callback string   `json:"callback"` // URL; a redirect_uri must be it or extend it
	Scopes   []string `json:"scopes"`
	Key      string   `json:"key"`    // made where left empty
	Secret   string   `json:"secret"` // made where left empty
}

type consumer struct {
	Consumer
	app *person // who client_credentials acts as
}

type authorizationCode struct {
	consumer    *consumer
	person      *person
	redirectURI string // as the request gave it; empty where it gave none
	expires     time.Time
}

// grant is what one person allowed one consumer.
type grant struct {
	key      string // unique: consumer and person
	consumer *consumer
	person   *person
	scopes   []string // as they were at the time of consent
	revoked  bool
	usage    usage
	forge    *forgeInstallation // for the tokens of a Forge app: where they are good; the scopes are Forge's then
}

// admits tells whether the grant is good in a workspace. A Forge token is where the app is installed.
func (g *grant) admits(w *workspace) bool { return g.forge == nil || g.forge.workspace == w }

type accessToken struct {
	grant   *grant
	expires time.Time
}

type refreshToken struct {
	grant   *grant
	expires time.Time // idle expiry, or the end of the grace after rotation
	rotated bool
}

const (
	codeLifetime = 10 * time.Minute
	refreshIdle  = 90 * 24 * time.Hour // three months
)

// knownScopes are Bitbucket's, with those that each implies.
var knownScopes = map[string][]string{
	"account": nil, "account:write": {"account"}, "email": nil, "project": {"repository"}, "project:admin": nil,
	"repository": nil, "repository:write": {"repository"}, "repository:admin": nil, "repository:delete": nil,
	"pullrequest": {"repository"}, "pullrequest:write": {"pullrequest", "repository:write"}, "issue": nil,
	"issue:write": {"issue"}, "wiki": nil, "webhook": nil, "snippet": nil, "snippet:write": {"snippet"},
	"pipeline": nil, "pipeline:write": {"pipeline"}, "pipeline:variable": {"pipeline:write"}, "runner": nil,
	"runner:write": {"runner"}, "test": nil, "test:write": {"test"},
}

// hasScope tells whether the granted scopes contain or imply the wanted one.
func hasScope(granted []string, wanted string) bool {
	return slices.ContainsFunc(granted, func(g string) bool { return g == wanted || hasScope(knownScopes[g], wanted) })
}

// AddConsumer registers an OAuth consumer and returns it with its key and secret.
func (s *Sim) AddConsumer(spec Consumer) (Consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, err := url.Parse(spec.Callback); err != nil || u.Host == "" || u.Fragment != "" {
		return Consumer{}, fmt.Errorf("%q is no callback URL", spec.Callback)
	}
	for _, scope := range spec.Scopes {
		if _, ok := knownScopes[scope]; !ok {
			return Consumer{}, fmt.Errorf("%q is no scope", scope)
		}
	}
	if spec.Key == "" {
		spec.Key = newSecret()[:18]
	}
	if spec.Secret == "" {
		spec.Secret = newSecret()[:32]
	}
	if spec.Name == "" {
		spec.Name = spec.Key
	}
	if s.consumer(spec.Key) != nil {
		return Consumer{}, errors.New("there is a consumer with this key already")
	}
	s.consumers = append(s.consumers, &consumer{Consumer: spec})
	return spec, nil
}

func (s *Sim) consumer(key string) *consumer {
	for _, c := range s.consumers {
		if c.Key == key {
			return c
		}
	}
	return nil
}

// redirectAllowed tells whether a redirect_uri is the callback or extends it.
func (c *consumer) redirectAllowed(uri string) bool {
	rest, ok := strings.CutPrefix(uri, c.Callback)
	return ok && (rest == "" || strings.HasSuffix(c.Callback, "/") || rest[0] == '/' || rest[0] == '?')
}

// authorization is a checked request to the authorize endpoint.
type authorization struct {
	consumer           *consumer
	redirectURI, state string
	target             string // where the answer goes
}

// parseAuthorization checks a request. An error must be shown, never sent to the redirect_uri.
func (s *Sim) parseAuthorization(q url.Values) (*authorization, error) {
	c := s.consumer(q.Get("client_id"))
	if c == nil {
		return nil, errors.New("Invalid client_id. There is no OAuth consumer with this key.") //nolint:staticcheck // shown to people.
	}
	a := &authorization{consumer: c, redirectURI: q.Get("redirect_uri"), state: q.Get("state"), target: c.Callback}
	if a.redirectURI != "" {
		if !c.redirectAllowed(a.redirectURI) {
			return nil, errors.New("Invalid redirect_uri. It does not match the consumer's callback URL.") //nolint:staticcheck // shown to people.
		}
		a.target = a.redirectURI
	}
	return a, nil
}

// answer is the URL that the browser is sent to.
func (a *authorization) answer(params url.Values) string {
	u, err := url.Parse(a.target)
	if err != nil {
		return a.consumer.Callback
	}
	q := u.Query()
	for k, v := range params {
		q[k] = v
	}
	if a.state != "" {
		q.Set("state", a.state)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func (s *Sim) allow(a *authorization, p *person) string {
	code := newSecret()[:18]
	s.codes[code] = &authorizationCode{a.consumer, p, a.redirectURI, s.now().Add(codeLifetime)}
	return a.answer(url.Values{"code": {code}})
}

func (a *authorization) deny() string {
	return a.answer(url.Values{"error": {"access_denied"}, "error_description": {"The request was not authorized."}})
}

// Consent is a person's answer on the consent page, for tests that have no browser.
type Consent struct {
	URL    string `json:"url"` // the authorize URL that the client built
	Person string `json:"person"`
	Deny   bool   `json:"deny"`
}

// Redirect is where the browser is sent.
type Redirect struct {
	Location string `json:"location"`
}

// Consent answers an authorize request as the person would, and returns the redirect.
func (s *Sim) Consent(spec Consent) (Redirect, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := url.Parse(spec.URL)
	if err != nil {
		return Redirect{}, err
	}
	if u.Query().Get("response_type") != "code" {
		return Redirect{}, errors.New("only response_type=code is offered")
	}
	a, err := s.parseAuthorization(u.Query())
	if err != nil {
		return Redirect{}, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return Redirect{}, err
	}
	if spec.Deny {
		return Redirect{a.deny()}, nil
	}
	return Redirect{s.allow(a, p)}, nil
}

// oauthError is an error answer of the token endpoint.
type oauthError struct {
	status            int
	code, description string
}

func (e *oauthError) Error() string { return e.code + ": " + e.description }

// serveToken is POST /site/oauth2/access_token.
func (s *Sim) serveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		s.writeOAuthError(w, &oauthError{400, "invalid_request", "The body is not a form."})
		return
	}
	s.mu.Lock()
	body, err := s.token(r)
	s.mu.Unlock()
	if err != nil {
		s.writeOAuthError(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, body)
}

func (s *Sim) writeOAuthError(w http.ResponseWriter, err *oauthError) {
	if err.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Bitbucket.org HTTP"`)
	}
	writeJSON(w, err.status, object{"error": err.code, "error_description": err.description})
}

func (s *Sim) token(r *http.Request) (object, *oauthError) {
	key, secret, ok := r.BasicAuth()
	if !ok {
		key, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	c := s.consumer(key)
	if c == nil || subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) != 1 {
		return nil, &oauthError{401, "unauthorized_client", "Invalid OAuth client credentials"}
	}
	switch grantType := r.PostForm.Get("grant_type"); grantType {
	case "authorization_code":
		return s.redeemCode(c, r.PostForm)
	case "refresh_token":
		return s.refresh(c, r.PostForm.Get("refresh_token"))
	case "client_credentials":
		if c.app == nil {
			c.app = &person{
				accountID: "712020:" + bareUUID(), uuid: newUUID(), nickname: "app:" + c.Key, displayName: c.Name,
				appKind: "oauth_consumer", created: s.now(),
			}
			s.people = append(s.people, c.app)
		}
		return s.issue(s.grantFor(c, c.app), false), nil
	case "":
		return nil, &oauthError{400, "invalid_request", "Required parameter: grant_type"}
	default:
		return nil, &oauthError{400, "unsupported_grant_type", "Unsupported grant type: " + grantType}
	}
}

func (s *Sim) redeemCode(c *consumer, form url.Values) (object, *oauthError) {
	code := form.Get("code")
	a := s.codes[code]
	// Whatever comes of it, a code is used once.
	delete(s.codes, code)
	if a == nil || a.consumer != c || s.now().After(a.expires) {
		return nil, &oauthError{400, "invalid_grant", "The specified code is not valid."}
	}
	if given := form.Get("redirect_uri"); given != a.redirectURI && (a.redirectURI != "" || given != c.Callback) {
		return nil, &oauthError{400, "invalid_grant", "The redirect_uri does not match the one that was authorized."}
	}
	return s.issue(s.grantFor(c, a.person), true), nil
}

func (s *Sim) refresh(c *consumer, token string) (object, *oauthError) {
	t := s.refreshTokens[token]
	if t == nil || t.grant.consumer != c || t.grant.revoked || s.now().After(t.expires) {
		return nil, &oauthError{400, "invalid_grant", "Invalid refresh_token"}
	}
	if !t.rotated {
		t.rotated = true
		t.expires = s.now().Add(s.opts.RefreshGrace)
	}
	return s.issue(t.grant, true), nil
}

func (s *Sim) grantFor(c *consumer, p *person) *grant {
	key := c.Key + " " + p.accountID
	g := s.grants[key]
	if g == nil || g.revoked {
		g = &grant{key: key, consumer: c, person: p}
		s.grants[key] = g
	}
	g.scopes = c.Scopes
	return g
}

func (s *Sim) issue(g *grant, withRefresh bool) object {
	access := newSecret()
	s.accessTokens[access] = &accessToken{g, s.now().Add(s.opts.AccessTokenLifetime)}
	body := object{
		"access_token": access, "token_type": "bearer", "scope": strings.Join(g.scopes, " "),
		"expires_in": int(s.opts.AccessTokenLifetime / time.Second),
	}
	if withRefresh {
		token := newSecret()
		s.refreshTokens[token] = &refreshToken{grant: g, expires: s.now().Add(refreshIdle)}
		body["refresh_token"] = token
	}
	return body
}

// TokenRequest asks for an access token without the OAuth dance.
type TokenRequest struct {
	Person string   `json:"person"`
	Scopes []string `json:"scopes"` // all where left empty
}

// Token is a bearer token.
type Token struct {
	AccessToken string `json:"access_token"`
}

// IssueToken returns an access token for a person, as an API token made by hand would be, for tests that act
// as that person through the REST API.
func (s *Sim) IssueToken(spec TokenRequest) (Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(spec.Person)
	if err != nil {
		return Token{}, err
	}
	scopes := spec.Scopes
	if len(scopes) == 0 {
		for k := range knownScopes {
			scopes = append(scopes, k)
		}
		slices.Sort(scopes)
	}
	token := newSecret()
	s.accessTokens[token] = &accessToken{
		&grant{key: token, consumer: &consumer{}, person: p, scopes: scopes}, s.now().Add(refreshIdle),
	}
	return Token{token}, nil
}

// GrantSelector names grants by consumer key and person; an empty member means any.
type GrantSelector struct {
	Consumer string `json:"consumer"`
	Person   string `json:"person"`
}

// GrantCount says how many grants were touched.
type GrantCount struct {
	Grants int `json:"grants"`
}

// Revoke withdraws grants, as a person does in their settings: their tokens are refused from now on.
func (s *Sim) Revoke(spec GrantSelector) (GrantCount, error) {
	return s.eachGrant(spec, func(g *grant) { g.revoked = true })
}

// ExpireTokens lets the access tokens of grants expire now. Refreshing still works.
func (s *Sim) ExpireTokens(spec GrantSelector) (GrantCount, error) {
	return s.eachGrant(spec, func(g *grant) {
		for _, t := range s.accessTokens {
			if t.grant == g {
				t.expires = s.now().Add(-time.Second)
			}
		}
	})
}

func (s *Sim) eachGrant(spec GrantSelector, do func(*grant)) (GrantCount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p *person
	if spec.Person != "" {
		var err error
		if p, err = s.person(spec.Person); err != nil {
			return GrantCount{}, err
		}
	}
	n := 0
	for _, g := range s.grants {
		if !g.revoked && (p == nil || g.person == p) && (spec.Consumer == "" || g.consumer.Key == spec.Consumer) {
			do(g)
			n++
		}
	}
	return GrantCount{n}, nil
}
