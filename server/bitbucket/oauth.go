package bitbucket

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

const (
	defaultAuthorizeURL = "https://bitbucket.org/site/oauth2/authorize"
	defaultTokenURL     = "https://bitbucket.org/site/oauth2/access_token"

	// defaultTokenLife is assumed when the provider does not say how long an access
	// token lives; it is what Bitbucket documents.
	defaultTokenLife = time.Hour
)

// Consumer is an OAuth 2.0 consumer of Bitbucket. Which scopes it asks for is
// fixed where it is registered. It is safe for concurrent use.
type Consumer struct {
	// Key and Secret identify the consumer.
	Key    string
	Secret string
	// AuthorizeURL and TokenURL are the provider's; default those of bitbucket.org.
	AuthorizeURL string
	TokenURL     string
	// RedirectURL is our callback, exactly as it is registered.
	RedirectURL string
	// Transport performs the exchanges; default is the standard library's.
	Transport http.RoundTripper
	// Timeout limits one exchange; default 20 s.
	Timeout time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Token is a pair of tokens. Refresh tokens rotate: a new pair replaces the old
// one for good and must be stored before it is used.
type Token struct {
	// Access is the bearer token of the API.
	Access string
	// Refresh gets the next pair; "" if the provider gave none.
	Refresh string
	// Expiry is when Access stops working.
	Expiry time.Time
	// Scopes are what the grant allows; empty if the provider does not say.
	Scopes []string
}

// AuthCodeURL is where to send the browser for consent. state must be random,
// single-use and tied to the browser's session. pkceVerifier adds a PKCE
// challenge (S256); "" leaves it out, which is what Bitbucket documents.
func (c Consumer) AuthCodeURL(state, pkceVerifier string) string {
	var options []oauth2.AuthCodeOption
	if pkceVerifier != "" {
		options = append(options, oauth2.S256ChallengeOption(pkceVerifier))
	}
	return c.config().AuthCodeURL(state, options...)
}

// Exchange turns the code of a callback into tokens; pkceVerifier is the one
// given to AuthCodeURL, or "". ErrGrantDead means that the code is wrong, used or
// expired. Errors are of type *Error and hold no secret.
func (c Consumer) Exchange(ctx context.Context, code, pkceVerifier string) (Token, error) {
	const op = "exchange authorization code"
	if code == "" {
		return Token{}, invalid(op, "there is no code")
	}
	var options []oauth2.AuthCodeOption
	if pkceVerifier != "" {
		options = append(options, oauth2.VerifierOption(pkceVerifier))
	}
	ctx, cancel := c.exchange(ctx)
	defer cancel()
	token, err := c.config().Exchange(ctx, code, options...)
	if err != nil {
		return Token{}, c.failure(ctx, op, err).clean(c.Secret, code, pkceVerifier)
	}
	return c.token(token), nil
}

// Refresh turns a refresh token into the next pair of tokens. ErrGrantDead means
// that the grant is revoked, or the token was used or is too old: a person must
// consent again. Anything else leaves the grant as it was, as far as is known;
// after a Transient error the refresh token may have been used up, so the
// caller keeps it and tries again. Errors are of type *Error and hold no secret.
func (c Consumer) Refresh(ctx context.Context, refreshToken string) (Token, error) {
	const op = "refresh token"
	if refreshToken == "" {
		return Token{}, invalid(op, "there is no refresh token")
	}
	ctx, cancel := c.exchange(ctx)
	defer cancel()
	token, err := c.config().TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
	if err != nil {
		return Token{}, c.failure(ctx, op, err).clean(c.Secret, refreshToken)
	}
	return c.token(token), nil
}

func (c Consumer) config() *oauth2.Config {
	config := &oauth2.Config{
		ClientID: c.Key, ClientSecret: c.Secret, RedirectURL: c.RedirectURL,
		Endpoint: oauth2.Endpoint{
			AuthURL: c.AuthorizeURL, TokenURL: c.TokenURL,
			// Named, since the library would otherwise try a second way after a
			// refusal, with the secret in the body.
			AuthStyle: oauth2.AuthStyleInHeader,
		},
	}
	if config.Endpoint.AuthURL == "" {
		config.Endpoint.AuthURL = defaultAuthorizeURL
	}
	if config.Endpoint.TokenURL == "" {
		config.Endpoint.TokenURL = defaultTokenURL
	}
	return config
}

// exchange is the context for one exchange: a deadline, and a client that
// carries the consumer's secret nowhere else.
func (c Consumer) exchange(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport: c.Transport, CheckRedirect: leaveRedirects,
	})
	return context.WithTimeout(ctx, timeout)
}

func (c Consumer) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c Consumer) token(t *oauth2.Token) Token {
	token := Token{Access: t.AccessToken, Refresh: t.RefreshToken, Expiry: c.now().Add(defaultTokenLife)}
	if t.ExpiresIn > 0 {
		token.Expiry = c.now().Add(time.Duration(t.ExpiresIn) * time.Second)
	}
	scopes, _ := t.Extra("scope").(string)
	if scopes == "" {
		scopes, _ = t.Extra("scopes").(string) // until May 2026
	}
	token.Scopes = strings.FieldsFunc(scopes, func(r rune) bool { return r == ' ' || r == ',' })
	return token
}

// failure sorts what the library reports. The body of a refusal is dropped: it
// may quote what was sent.
func (c Consumer) failure(ctx context.Context, op string, err error) *Error {
	if ctx.Err() != nil {
		return broken(op, ctx.Err())
	}
	if transport, ok := errors.AsType[*url.Error](err); ok {
		return broken(op, transport)
	}
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return badAnswer(op, "no tokens in the answer")
	}
	e := &Error{Op: op}
	if refusal.Response != nil {
		e.Status = refusal.Response.StatusCode
		e.RetryAt = retryAt(e.Status, refusal.Response.Header, c.now())
	}
	switch code := refusal.ErrorCode; code {
	case "invalid_grant":
		e.Message, e.cause = code, ErrGrantDead
	case "invalid_client", "unauthorized_client":
		// Our key or secret is wrong: no grant is the worse for it.
		e.Message = code
	case "server_error", "temporarily_unavailable":
		// These come with 400 too, but say that another time may do.
		e.Message, e.Status = code, 0
	default:
		if e.Status == http.StatusBadRequest || e.Status == http.StatusUnauthorized {
			e.cause = ErrGrantDead
		}
	}
	return e
}
