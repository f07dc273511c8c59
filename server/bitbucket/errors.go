package bitbucket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrorClass says whether repeating a call can help.
type ErrorClass string

const (
	// Permanent is an error that the same call will meet again. Something else must change first:
	// the token, a permission, the arguments, the state of the pull request.
	Permanent ErrorClass = "permanent"
	// Transient is an error that may be gone when the call is repeated later. This covers 429, 5xx (Bitbucket's
	// own 555 too), timeouts, broken connections and unreadable answers. The call
	// may have had its effect although it failed.
	Transient ErrorClass = "transient"
)

// Conditions that an *Error wraps; test for them with errors.Is.
var (
	// ErrTooLarge means that an answer was longer than its limit.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrForeignOrigin means that Bitbucket's answer led to another origin than
	// the API's. Nothing was sent there.
	ErrForeignOrigin = errors.New("refused to follow a link to another origin")
	// ErrTooManyPages means that a list did not end within Config.MaxPages pages.
	ErrTooManyPages = errors.New("the list has too many pages")
	// ErrInvalidArgument means that the call was refused before it was sent.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrGrantDead means that Bitbucket refused an authorization code or a refresh
	// token for good: a person must give consent again.
	ErrGrantDead = errors.New("the OAuth grant is no longer valid")
)

// errBadAnswer marks an answer that says success but cannot be used: cut,
// not JSON, or without what it must contain. It may be better next time.
var errBadAnswer = errors.New("unusable answer")

const (
	// maxErrorBody is how much of an error answer is read, in bytes.
	maxErrorBody = 64 << 10
	// maxMessage is how much of it an Error keeps, in runes.
	maxMessage = 500
	// defaultBackoff is used when a 429 does not say how long to wait.
	defaultBackoff = time.Minute
	// maxBackoff is the length of Bitbucket's rolling window.
	maxBackoff = time.Hour
)

// Error is how every call of this package fails. Its text and all its fields
// are free of the credentials that the call carried, even when the answer
// echoed them.
type Error struct {
	// Op names the call in words, from a small fixed set ("merge pull request").
	Op string
	// Status is the HTTP status of the answer; 0 when there was none or when the
	// answer said success but could not be used.
	Status int
	// Message is Bitbucket's own message, or what went wrong on the way, at most
	// 500 characters.
	Message string
	// Detail is Bitbucket's further explanation, if any. For a missing OAuth scope
	// it reads "granted: …; required: …".
	Detail string
	// Fields are complaints about single fields of the request, by field name.
	Fields map[string][]string
	// RetryAt is the earliest time at which it makes sense to repeat the call;
	// always set for 429, otherwise only when the answer named a time.
	RetryAt time.Time

	// cause is one of the sentinels of this package or of context, or why a refused
	// token could not be renewed; never an error that may carry text from outside.
	cause error
}

// Error renders the call, the status and the message on one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("bitbucket: ")
	b.WriteString(e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": %d", e.Status)
		if text := http.StatusText(e.Status); text != "" {
			b.WriteString(" " + text)
		}
	}
	if e.cause != nil {
		b.WriteString(": " + e.cause.Error())
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		fmt.Fprintf(&b, "; %s: %s", name, strings.Join(e.Fields[name], ", "))
	}
	return b.String()
}

// Unwrap gives one of this package's conditions ([ErrTooLarge] and so on),
// context.Canceled, context.DeadlineExceeded or nil.
func (e *Error) Unwrap() error { return e.cause }

// NotFound reports a 404 or 410: it does not exist, or not for this credential.
func (e *Error) NotFound() bool {
	return e.Status == http.StatusNotFound || e.Status == http.StatusGone
}

// Unauthorized reports a 401: the access token is expired or revoked.
func (e *Error) Unauthorized() bool { return e.Status == http.StatusUnauthorized }

// Forbidden reports a 403: the credential lacks a scope or a permission.
func (e *Error) Forbidden() bool { return e.Status == http.StatusForbidden }

// Conflict reports a 409: what the call builds upon changed meanwhile.
func (e *Error) Conflict() bool { return e.Status == http.StatusConflict }

// Throttled reports a 429, from Bitbucket or from Config.Reserve; RetryAt is set.
func (e *Error) Throttled() bool { return e.Status == http.StatusTooManyRequests }

// Class says whether repeating the call later can help.
func (e *Error) Class() ErrorClass {
	switch {
	case errors.Is(e.cause, ErrTooLarge), errors.Is(e.cause, ErrForeignOrigin),
		errors.Is(e.cause, ErrTooManyPages), errors.Is(e.cause, ErrInvalidArgument),
		errors.Is(e.cause, ErrGrantDead):
		return Permanent
	case e.Status == 0, e.Status >= 500,
		e.Status == http.StatusTooManyRequests, e.Status == http.StatusRequestTimeout,
		e.Status == http.StatusTooEarly:
		return Transient
	default:
		return Permanent
	}
}

// NotNow is the Transient error of a call that is not made, or not made again, for a reason that ends by
// itself. why must hold no text from outside. Renewing's function may answer it.
func NotNow(why error) *Error { return &Error{cause: why} }

// invalid is the error for an argument that is refused before anything is sent.
func invalid(op, format string, args ...any) *Error {
	return &Error{Op: op, Message: oneLine(fmt.Sprintf(format, args...)), cause: ErrInvalidArgument}
}

// badAnswer is the error for a successful answer that cannot be used.
func badAnswer(op, format string, args ...any) *Error {
	return &Error{Op: op, Message: fmt.Sprintf(format, args...), cause: errBadAnswer}
}

// broken is the error for an exchange without a complete answer. The cause is
// reduced to a sentinel and a text without the URL, since links in Bitbucket's
// answers are text from outside.
func broken(op string, err error) *Error {
	e := &Error{Op: op}
	switch {
	case errors.Is(err, context.Canceled):
		e.cause = context.Canceled
		return e
	case errors.Is(err, context.DeadlineExceeded):
		e.cause = context.DeadlineExceeded
		return e
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	e.Message = err.Error()
	return e
}

// refused is the error for an answer outside 2xx. Bitbucket's own form of a
// body is {"type":"error","error":{message, detail, fields}}, details and fields
// in several shapes; proxies and some paths answer plain text or HTML.
func refused(op string, status int, header http.Header, body []byte, now time.Time) *Error {
	e := &Error{Op: op, Status: status, RetryAt: retryAt(status, header, now)}
	mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	text := bytes.TrimSpace(body)
	if len(text) == 0 || mediaType == "text/html" || text[0] == '<' {
		return e // nothing, or a page for people: the status says as much
	}
	var answer struct {
		Error struct {
			Message string         `json:"message"`
			Detail  any            `json:"detail"`
			Fields  map[string]any `json:"fields"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(text, &answer); {
	case err == nil:
		e.Message, e.Detail = answer.Error.Message, flat(answer.Error.Detail)
		for name, complaint := range answer.Error.Fields {
			if e.Fields == nil {
				e.Fields = make(map[string][]string)
			}
			if several, ok := complaint.([]any); ok {
				for _, one := range several {
					e.Fields[name] = append(e.Fields[name], flat(one))
				}
			} else {
				e.Fields[name] = []string{flat(complaint)}
			}
		}
	case text[0] == '{' || text[0] == '[' || text[0] == '"':
		// Cut JSON is not quoted: its escapes could hide a secret from clean.
		e.Message = "the error body is not readable"
	default:
		e.Message = string(text)
	}
	return e
}

// flat writes a decoded JSON value as text, without JSON's escapes.
func flat(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = flat(v[i])
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, name+": "+flat(v[name]))
		}
		return strings.Join(parts, "; ")
	default:
		return fmt.Sprint(v)
	}
}

// retryAt reads how long Bitbucket wants us to wait: Retry-After in seconds or
// as a date, and X-RateLimit-Reset, which holds the seconds left. The later one
// counts, within maxBackoff.
func retryAt(status int, header http.Header, now time.Time) time.Time {
	var wait time.Duration
	seconds := func(s string) time.Duration {
		n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil || n <= 0 {
			return 0
		}
		return time.Duration(min(n, maxBackoff.Seconds()) * float64(time.Second))
	}
	if after := header.Get("Retry-After"); after != "" {
		wait = seconds(after)
		if date, err := http.ParseTime(after); err == nil {
			wait = date.Sub(now)
		}
	}
	if status == http.StatusTooManyRequests {
		wait = max(wait, seconds(header.Get("X-RateLimit-Reset")))
		if wait <= 0 {
			wait = defaultBackoff
		}
	}
	if wait <= 0 {
		return time.Time{}
	}
	return now.Add(min(wait, maxBackoff))
}

// clean takes the secrets out of all texts of the error and then shortens them.
// In this order, so that no part of a secret is left at a cut.
func (e *Error) clean(secrets ...string) *Error {
	var pairs []string
	for _, secret := range secrets {
		if secret != "" {
			pairs = append(pairs, secret, redacted, url.QueryEscape(secret), redacted)
		}
	}
	replacer := strings.NewReplacer(pairs...)
	tidy := func(s string) string { return oneLine(replacer.Replace(s)) }

	e.Message, e.Detail = tidy(e.Message), tidy(e.Detail)
	if e.Fields != nil {
		fields := make(map[string][]string, len(e.Fields))
		for name, complaints := range e.Fields {
			for i := range complaints {
				complaints[i] = tidy(complaints[i])
			}
			fields[tidy(name)] = complaints
		}
		e.Fields = fields
	}
	return e
}

const redacted = "[redacted]"

// oneLine makes valid UTF-8 without line breaks, of at most maxMessage runes.
func oneLine(s string) string {
	return cut(strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " "), maxMessage)
}

// cut shortens s to at most n runes, the last of them an ellipsis if anything
// was taken away.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}
