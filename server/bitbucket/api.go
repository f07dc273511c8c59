package bitbucket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	defaultBaseURL  = "https://api.bitbucket.org"
	defaultTimeout  = 20 * time.Second
	defaultMaxPages = 500

	// maxJSON is the longest JSON answer that is read, in bytes.
	maxJSON = 8 << 20
	// maxRedirects is how many redirects within the origin one call follows.
	// Bitbucket answers a pull request's diff with one.
	maxRedirects = 3
)

// Class is a share of the call budget.
type Class string

const (
	// Urgent is what a merge hangs on: the answer to Bitbucket's merge check, statuses, merges.
	Urgent Class = "urgent"
	// Foreground is work that somebody waits for: facts.
	Foreground Class = "foreground"
	// Background is work that can wait: reconciling.
	Background Class = "background"
)

// Call describes one HTTP exchange to the budget and to the metrics.
type Call struct {
	// TokenKey names the credential, as it was given to API.As. Never the token.
	TokenKey string
	// Class is the share of the budget that pays.
	Class Class
	// Op names the call in words, from a small fixed set.
	Op string
	// Person is for whom the call is made, as it was given to AskedBy; "" for nobody in particular.
	Person string
}

// Config is how an API reaches Bitbucket. The zero value is usable.
type Config struct {
	// BaseURL is the scheme, host and port of the API; default
	// https://api.bitbucket.org. The path /2.0 is added to it.
	BaseURL string
	// Transport performs the exchanges; default is the standard library's with more
	// idle connections. Cookies are never kept.
	Transport http.RoundTripper
	// UserAgent is sent with every call; default "SignedApproval".
	UserAgent string
	// Timeout limits one HTTP exchange, its body included; default 20 s.
	Timeout time.Duration
	// MaxPages is the number of pages after which a list ends in ErrTooManyPages;
	// default 500.
	MaxPages int
	// Reserve is asked before each HTTP exchange whether the budget allows it. An
	// *Error with Status 429 and RetryAt means "not now"; any other error fails
	// the call too. It must be safe for concurrent use. Nil means no limit.
	Reserve func(ctx context.Context, call Call) error
	// Throttled is told of each 429 that Bitbucket answered, and until when to
	// leave the credential alone, so that every replica can hold back. It must be
	// safe for concurrent use. May be nil.
	Throttled func(ctx context.Context, call Call, until time.Time)
	// Observe is told of each finished HTTP exchange; status is 0 when there was no
	// complete answer. It must be safe for concurrent use. May be nil.
	Observe func(call Call, status int, duration time.Duration)
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// API is Bitbucket's REST API 2.0, not yet bound to a credential. It is safe for
// concurrent use.
type API struct {
	config Config
	base   *url.URL
	http   *http.Client
}

// New makes an API. It panics if Config.BaseURL is not an absolute http or https
// URL without query: that is a fault of the wiring, which validates its settings.
func New(config Config) *API {
	if config.BaseURL == "" {
		config.BaseURL = defaultBaseURL
	}
	base, ok := baseOf(config.BaseURL)
	if !ok {
		panic("bitbucket: Config.BaseURL is not the URL of an API: " + config.BaseURL)
	}
	if config.Transport == nil {
		config.Transport = defaultTransport()
	}
	if config.UserAgent == "" {
		config.UserAgent = "SignedApproval"
	}
	if config.Timeout <= 0 {
		config.Timeout = defaultTimeout
	}
	if config.MaxPages <= 0 {
		config.MaxPages = defaultMaxPages
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &API{config: config, base: base, http: &http.Client{
		Transport:     config.Transport,
		CheckRedirect: leaveRedirects,
	}}
}

// At is the same API behind another address, with the same transport, limits and budget: Bitbucket
// names one in each call of an app. It fails where baseURL is not an absolute http or https URL
// without query.
func (a *API) At(baseURL string) (*API, error) {
	base, ok := baseOf(baseURL)
	if !ok {
		return nil, invalid("choose an address", "the address of the API is not a URL")
	}
	config := a.config
	config.BaseURL = baseURL
	return &API{config: config, base: base, http: a.http}, nil
}

func baseOf(text string) (*url.URL, bool) {
	base, err := url.Parse(strings.TrimRight(text, "/"))
	return base, err == nil && base.Host != "" && (base.Scheme == "https" || base.Scheme == "http") &&
		base.User == nil && base.RawQuery == "" && base.Fragment == ""
}

// defaultTransport keeps more idle connections to one host than the standard
// library's, since all calls go to one host.
func defaultTransport() http.RoundTripper {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	return transport
}

// leaveRedirects hands every redirect back to the caller, who decides.
func leaveRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// As binds the API to one access token. tokenKey names the credential for the
// budget and the metrics and must not reveal it; class is the share of the
// budget that its calls use. The Client is meant for one task: take a new one
// when the token was refreshed.
func (a *API) As(token, tokenKey string, class Class) *Client {
	return &Client{api: a, token: token, tokenKey: tokenKey, class: class}
}

// Client calls the API with one credential. It is safe for concurrent use. All
// its errors are of type *Error.
type Client struct {
	api      *API
	token    string
	tokenKey string
	class    Class
	// renew is asked for another token when Bitbucket refuses the present one; may be nil.
	renew func(ctx context.Context, refused string) (token string, err error)
	// renewed is this client with the token that renew gave last; nil before.
	renewed atomic.Pointer[Client]
	// readOnly is why nothing may be written; nil where it may.
	readOnly error
}

// ReadOnly returns a client like c that sends no call that could change anything: each of them fails
// before it leaves, with a Transient *Error that wraps why. why must hold no text from outside.
func (c *Client) ReadOnly(why error) *Client {
	return &Client{api: c.api, token: c.token, tokenKey: c.tokenKey, class: c.class, renew: c.renew, readOnly: why}
}

// Renewing returns a client like c which, when Bitbucket answers a call with 401,
// asks renew for another token, once per call, and repeats the call with it: a call
// that was refused had no effect. Later calls use that token at once. renew is given
// the refused token and must be safe for concurrent use; if it fails, the call fails
// with a 401 that wraps its error, unless that is an *Error itself.
func (c *Client) Renewing(renew func(ctx context.Context, refused string) (token string, err error)) *Client {
	return &Client{api: c.api, token: c.token, tokenKey: c.tokenKey, class: c.class, renew: renew, readOnly: c.readOnly}
}

// tokens are the secrets that an answer to this client could echo.
func (c *Client) tokens() []string {
	if renewed := c.renewed.Load(); renewed != nil {
		return []string{c.token, renewed.token}
	}
	return []string{c.token}
}

// request is one call, before any redirect.
type request struct {
	op     string
	method string
	url    *url.URL
	// body is sent as JSON unless nil.
	body any
	// limit is the longest answer that is read, in bytes; 0 means maxJSON.
	limit int64
	// secrets are parts of the body that must not come back in an error.
	secrets []string
}

// answer is a complete answer with a status of 2xx.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// url builds the address of a resource. Each segment is escaped as a whole, so
// a branch name with slashes stays one segment; UUIDs are put in braces. It
// refuses segments that would change the meaning of the path.
func (c *Client) url(op string, query url.Values, segments ...string) (*url.URL, error) {
	var path strings.Builder
	path.WriteString(c.api.base.String() + "/2.0")
	for _, segment := range segments {
		if segment == "" || segment == "." || segment == ".." {
			return nil, invalid(op, "%q cannot be part of a path", segment)
		}
		path.WriteString("/" + url.PathEscape(segment))
	}
	u, err := url.Parse(path.String())
	if err != nil {
		return nil, invalid(op, "the path cannot be written as a URL")
	}
	u.RawQuery = query.Encode()
	return u, nil
}

// repository is the beginning of all paths of a repository.
func repository(workspace, repo string, rest ...string) []string {
	return append([]string{"repositories", BracedUUID(workspace), BracedUUID(repo)}, rest...)
}

// do performs a call, with another token where the first is refused and there is a way to get one.
func (c *Client) do(ctx context.Context, r request) (*answer, error) {
	present := c
	if renewed := c.renewed.Load(); renewed != nil {
		present = renewed
	}
	got, err := present.attempt(ctx, r)
	if c.renew == nil {
		return got, err
	}
	refusal, ok := errors.AsType[*Error](err)
	if !ok || !refusal.Unauthorized() {
		return got, err
	}
	token, failure := c.renew(ctx, present.token)
	if failure != nil {
		if mine, ok := failure.(*Error); ok { //nolint:errorlint // One that is wrapped means something else.
			if mine.Op == "" {
				named := *mine
				named.Op = r.op
				return nil, &named
			}
			return nil, mine
		}
		refusal.cause = failure
		return nil, refusal
	}
	present = &Client{api: c.api, token: token, tokenKey: c.tokenKey, class: c.class, readOnly: c.readOnly}
	c.renewed.Store(present)
	return present.attempt(ctx, r)
}

// attempt performs a call with one token: budget, exchange, redirects within the origin.
func (c *Client) attempt(ctx context.Context, r request) (*answer, error) {
	secrets := append([]string{c.token}, r.secrets...)
	for hop := 0; ; hop++ {
		got, err := c.exchange(ctx, r)
		if err != nil {
			return nil, err.clean(secrets...)
		}
		switch {
		case got.status >= 200 && got.status < 300:
			return got, nil
		case got.status >= 300 && got.status < 400 && got.header.Get("Location") != "" && r.method == http.MethodGet:
			if hop == maxRedirects {
				return nil, (&Error{Op: r.op, Status: got.status, Message: "too many redirects"}).clean(secrets...)
			}
			next, err := c.follow(r.op, r.url, got.header.Get("Location"))
			if err != nil {
				return nil, err.clean(secrets...)
			}
			r.url = next
		default:
			return nil, refused(r.op, got.status, got.header, got.body, c.api.config.Now()).clean(secrets...)
		}
	}
}

// exchange sends one HTTP request and reads the whole answer, whatever its
// status. It is the only place where the token leaves the process.
func (c *Client) exchange(ctx context.Context, r request) (*answer, *Error) {
	if c.readOnly != nil && r.method != http.MethodGet {
		not := NotNow(c.readOnly)
		not.Op = r.op
		return nil, not
	}
	config := c.api.config
	call := Call{TokenKey: c.tokenKey, Class: c.class, Op: r.op, Person: askerOf(ctx)}
	if config.Reserve != nil {
		if err := config.Reserve(ctx, call); err != nil {
			return nil, reserveError(r.op, err)
		}
	}

	ctx, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		encoded, err := json.Marshal(r.body)
		if err != nil {
			return nil, invalid(r.op, "the request cannot be written as JSON")
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), body)
	if err != nil {
		return nil, invalid(r.op, "the request cannot be built")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", config.UserAgent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}

	start := config.Now()
	got, failure := c.roundTrip(req, r)
	status := 0
	if got != nil {
		status = got.status
	}
	if config.Observe != nil {
		config.Observe(call, status, config.Now().Sub(start))
	}
	if status == http.StatusTooManyRequests && config.Throttled != nil {
		config.Throttled(ctx, call, retryAt(status, got.header, config.Now()))
	}
	return got, failure
}

// roundTrip is the exchange itself, within the limits of size.
func (c *Client) roundTrip(req *http.Request, r request) (*answer, *Error) {
	res, err := c.api.http.Do(req)
	if err != nil {
		return nil, broken(r.op, err)
	}
	defer res.Body.Close()

	success := res.StatusCode >= 200 && res.StatusCode < 300
	limit := r.limit
	if limit <= 0 {
		limit = maxJSON
	}
	if !success {
		limit = maxErrorBody
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case success && int64(len(body)) > limit:
		return nil, &Error{Op: r.op, cause: ErrTooLarge}
	case success && err != nil:
		return nil, broken(r.op, err)
	case !success && int64(len(body)) > limit:
		body = body[:limit]
	}
	// A refusal whose body is cut is a refusal all the same.
	return &answer{status: res.StatusCode, header: res.Header, body: body}, nil
}

// follow resolves a link of an answer, if it stays within the API's origin and, where the API lies
// below a path, below that path. There, links may name Bitbucket's public address: they are followed
// below ours, so the token goes nowhere else.
func (c *Client) follow(op string, from *url.URL, link string) (*url.URL, *Error) {
	next, err := from.Parse(link)
	if err != nil {
		return nil, badAnswer(op, "a link in the answer is not a URL")
	}
	base := c.api.base
	if base.Path != "" && next.User == nil && next.Scheme+"://"+next.Host == defaultBaseURL {
		next.Scheme, next.Host = base.Scheme, base.Host
		if next.RawPath != "" {
			next.RawPath = base.EscapedPath() + next.RawPath
		}
		next.Path = base.Path + next.Path
	}
	if !sameOrigin(next, base) || !strings.HasPrefix(next.Path, base.Path+"/") {
		return nil, &Error{Op: op, cause: ErrForeignOrigin}
	}
	return next, nil
}

// sameOrigin compares scheme, host and port; a link with a user name in it never
// matches.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) &&
		port(a) == port(b) && a.User == nil
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// reserveError makes the budget's answer an *Error of this call.
func reserveError(op string, err error) *Error {
	var refusal *Error
	if errors.As(err, &refusal) {
		mine := *refusal
		mine.Op = op
		return &mine
	}
	e := broken(op, err)
	e.Message = strings.TrimSpace("the call budget is not available " + e.Message)
	return e
}

// fail makes what is wrong with a decoded answer an *Error of the call.
func (c *Client) fail(op string, err error) error {
	return badAnswer(op, "%v", err).clean(c.tokens()...)
}

// call performs a call and decodes its JSON answer.
func call[T any](ctx context.Context, c *Client, r request) (T, error) {
	var value T
	got, err := c.do(ctx, r)
	if err != nil {
		return value, err
	}
	if err := json.Unmarshal(got.body, &value); err != nil {
		return value, badAnswer(r.op, "not the JSON that was expected: %v", err).clean(append(c.tokens(), r.secrets...)...)
	}
	return value, nil
}

// get is a call without a body.
func get[T any](ctx context.Context, c *Client, op string, query url.Values, segments ...string) (T, error) {
	u, err := c.url(op, query, segments...)
	if err != nil {
		var none T
		return none, err
	}
	return call[T](ctx, c, request{op: op, method: http.MethodGet, url: u})
}

// send is a call with a body; secrets are parts of it that must not come back in
// an error.
func send[T any](ctx context.Context, c *Client, op, method string, body any, secrets []string, segments ...string) (T, error) {
	u, err := c.url(op, nil, segments...)
	if err != nil {
		var none T
		return none, err
	}
	return call[T](ctx, c, request{op: op, method: method, url: u, body: body, secrets: secrets})
}
