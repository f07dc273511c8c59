package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// askTime is how long one answer may take, its body included.
	askTime = 60 * time.Second
	// tries is how often a server that is busy is asked.
	tries = 6
	// longestPause is how long a server can ask to be left alone between two tries.
	longestPause = time.Minute
)

// CodeHeader is the header in which a server names the stable code of a refusal.
const CodeHeader = "SignedApproval-Code"

// Client reads from a server, as a stranger or with an API token. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	// pause waits between two tries.
	pause func(ctx context.Context, d time.Duration) error
}

// NewClient makes a client of the server with an origin, such as https://approvals.example; http is accepted of
// this machine alone. token is an API token and may be empty. transport is nil for the usual one.
func NewClient(origin, token string, transport http.RoundTripper) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(origin, "/"))
	switch {
	case err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" || base.Path != "":
		return nil, fmt.Errorf("%q is not an origin such as https://approvals.example", origin)
	case base.Scheme != "https" && (base.Scheme != "http" || !local(base.Hostname())):
		return nil, fmt.Errorf("%q must use https", origin)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("the API token has characters that no token has")
	}
	return &Client{base: base, token: token, pause: pause, http: &http.Client{
		Transport: transport,
		// A token is for the server that was named and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Origin is the server's origin.
func (c *Client) Origin() string { return c.base.String() }

func local(host string) bool {
	address := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || address != nil && address.IsLoopback()
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Refused is an answer that is not the one asked for.
type Refused struct {
	// Status is the HTTP status.
	Status int
	// Code is the refusal's stable code; empty where the server named none.
	Code string
	// Message is what the server said, one line.
	Message string

	retryAfter string
}

// Error says which path was refused, and why. No token is in it.
func (r *Refused) Error() string {
	text := fmt.Sprintf("the server answers %d", r.Status)
	if r.Code != "" {
		text += " " + r.Code
	}
	if r.Message != "" {
		text += ": " + r.Message
	}
	return text
}

// Get reads a path of the server, of at most limit bytes. A server that is busy or out of reach is asked again a few times, as it
// asks for it. A refusal is a [Refused].
func (c *Client) Get(ctx context.Context, path string, query url.Values, limit int64) ([]byte, error) {
	return c.ask(ctx, http.MethodGet, path, query, "", limit)
}

// Post sends JSON to a path of the server and reads the answer, of at most limit bytes. It may be sent more than once: it must
// ask, not change.
func (c *Client) Post(ctx context.Context, path string, body []byte, limit int64) ([]byte, error) {
	return c.ask(ctx, http.MethodPost, path, nil, string(body), limit)
}

func (c *Client) ask(ctx context.Context, method, path string, query url.Values, body string, limit int64) ([]byte, error) {
	wait := 500 * time.Millisecond
	for try := 1; ; try++ {
		answer, err := c.once(ctx, method, path, query, body, limit)
		if err == nil || try == tries || ctx.Err() != nil || lasting(err) {
			return answer, err
		}
		var refused *Refused
		d := wait
		if errors.As(err, &refused) {
			d = max(d, after(refused.retryAfter))
		}
		if c.pause(ctx, min(d, longestPause)) != nil {
			return nil, err
		}
		wait *= 2
	}
}

// Withheld tells whether a server has no answer to the question, now and later: none, none that is whole, or one that is larger than
// it can be. A refusal of who asks, as where a token ended, and a failure of the server are not about what was asked for.
func Withheld(err error) bool {
	var refused *Refused
	if errors.As(err, &refused) {
		switch refused.Status {
		case http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusRequestEntityTooLarge:
			return true
		}
	}
	return errors.Is(err, errTooLarge)
}

// lasting tells whether the same question will not be answered later either: it was refused by a server that is neither busy
// nor out of reach, or the answer is larger than it can be.
func lasting(err error) bool {
	var refused *Refused
	if errors.As(err, &refused) {
		return refused.Status != http.StatusTooManyRequests && refused.Status != http.StatusBadGateway &&
			refused.Status != http.StatusServiceUnavailable && refused.Status != http.StatusGatewayTimeout
	}
	return errors.Is(err, errTooLarge)
}

// after reads a Retry-After header.
func after(header string) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 3600)) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return time.Until(at)
	}
	return 0
}

var errTooLarge = errors.New("the answer is larger than it can be")

func (c *Client) once(ctx context.Context, method, path string, query url.Values, body string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	from, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	answer, err := io.ReadAll(io.LimitReader(from, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the server's answer: %w", err)
	case int64(len(answer)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", errTooLarge, limit)
	}
	return answer, nil
}

// Open begins to read a path of the server, of any length and for as long as ctx lasts. The server is asked once. A refusal
// is a [Refused].
func (c *Client) Open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	return c.send(ctx, http.MethodGet, path, query, "")
}

// send asks once. The answer is one that was not refused.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body string) (io.ReadCloser, error) {
	address := *c.base
	address.Path, address.RawQuery = path, query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, address.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		said, _ := io.ReadAll(io.LimitReader(response.Body, 1000)) // what it says is a courtesy
		return nil, &Refused{response.StatusCode, plain(response.Header.Get(CodeHeader)), plain(string(said)), response.Header.Get("Retry-After")}
	}
	return response.Body, nil
}

// plain is text of a server as it may be shown in a terminal.
func plain(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text))
}
