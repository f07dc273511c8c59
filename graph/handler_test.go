package graph

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/signedapproval/bitbucket/server/refusal"
)

func TestRequestsAreReadStrictly(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	for _, c := range []struct {
		name, body string
		change     func(*http.Request)
		status     int
		code       string
	}{
		{"GET", ``, func(r *http.Request) { r.Method = http.MethodGet }, 405, codeBadRequest},
		{"a form", `{"query":"{ open }"}`, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415, codeBadRequest},
		{"no type", `{"query":"{ open }"}`, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, codeBadRequest},
		{"a batch", `[{"query":"{ open }"}]`, nil, 400, codeBadRequest},
		{"two objects", `{"query":"{ open }"}{}`, nil, 400, codeBadRequest},
		{"no JSON", `{"query":`, nil, 400, codeBadRequest},
		{"no operation", `{}`, nil, 400, codeBadRequest},
		{"variables of a wrong kind", `{"query":"{ open }","variables":[1]}`, nil, 400, codeBadRequest},
		{"too large", `{"query":"{ open }","x":"` + strings.Repeat("x", maxBody) + `"}`, nil, 413, codeTooLarge},
		{"a document too long", `{"query":"{ open ` + strings.Repeat(" ", maxDocument) + `}"}`, nil, 413, codeTooLarge},
		{"null variables", `{"query":"{ open }","variables":null}`, nil, 200, ""},
		{"with a charset", `{"query":"{ open }"}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, 200, ""},
		{"as browsers' clients ask", `{"query":"{ open }"}`, func(r *http.Request) {
			r.Header.Set("Accept", "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed")
		}, 200, ""},
		{"a query as a stream", `{"query":"{ open }"}`, func(r *http.Request) { r.Header.Set("Accept", "text/event-stream") }, 400, codeOperationKind},
		{"a mutation as a stream", `{"query":"mutation($input: Patch!){ change(input: $input) }","variables":{"input":{}}}`, func(r *http.Request) { r.Header.Set("Accept", "text/event-stream") }, 400, codeOperationKind},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := b.post(t, c.body, c.change)
			if got.status != c.status || got.code() != c.code {
				t.Errorf("%d %s, want %d %s", got.status, got.body, c.status, c.code)
			}
		})
	}
	if len(b.probe.changes) > 0 {
		t.Error("a refused request ran")
	}
}

func TestErrorsAreMasked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ how, code string }{{"refusal", refusal.Busy}, {"error", codeInternal}, {"panic", codeInternal}} {
		t.Run(c.how, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "", false)
			got := b.ask(t, `query($h: String!){ open fails(how: $h) }`, `{"h":"`+c.how+`"}`)
			if got.status != 200 || got.code() != c.code || len(got.Errors) != 1 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if got.Data["open"] != "open" || got.Errors[0].Path[0] != "fails" {
				t.Errorf("the other field or the path is missing: %s", got.body)
			}
			if strings.Contains(got.body, "hunter2") {
				t.Errorf("the cause reached the caller: %s", got.body)
			}
			trace, _ := got.Errors[0].Extensions["traceId"].(string)
			if c.code == codeInternal && (strings.Count(b.log.String(), trace) != 1 || trace == "" || !strings.Contains(b.log.String(), "hunter2")) {
				t.Errorf("the log should hold the cause once by trace id %q: %s", trace, b.log)
			}
		})
	}
}

func TestFaultsOfIdentifyAreMasked(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.identify = func(*http.Request) (Caller, error) {
		return Caller{}, refusal.New("TOKEN_INVALID", "The API token is not valid.")
	}
	if got := b.ask(t, `{ open }`, ""); got.status != 401 || got.code() != codeUnauthenticated || got.Errors[0].Message != "The API token is not valid." {
		t.Errorf("%d %s", got.status, got.body)
	}
	// Whether a token is valid cannot be said while Bitbucket is away: a script must not take it for revoked.
	b.identify = func(*http.Request) (Caller, error) {
		return Caller{}, refusal.New(refusal.BitbucketUnavailable, "Bitbucket could not be asked.")
	}
	if got := b.ask(t, `{ open }`, ""); got.status != 503 || got.code() != refusal.BitbucketUnavailable {
		t.Errorf("%d %s", got.status, got.body)
	}
	b.identify = func(*http.Request) (Caller, error) { return Caller{}, context.DeadlineExceeded }
	if got := b.ask(t, `{ open }`, ""); got.status != 500 || got.code() != codeInternal || strings.Contains(got.body, "deadline") {
		t.Errorf("%d %s", got.status, got.body)
	}
	b.identify = func(*http.Request) (Caller, error) { panic("hunter2") }
	if got := b.ask(t, `{ open }`, ""); got.status != 500 || got.code() != codeInternal || strings.Contains(got.body, "hunter2") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestTimeIsLimited(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	got := b.post(t, `{"query":"{ slow }"}`, func(r *http.Request) { *r = *r.WithContext(ctx) })
	if got.code() != codeTimeout {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestCallersAreCountedApart(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.meter.purses.Add("person:p1", rate.NewLimiter(0, entryCost)) // one request's worth, never refilled
	if got := b.ask(t, `{ open }`, ""); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := b.ask(t, `{ open }`, ""); got.status != http.StatusTooManyRequests || got.code() != codeTooMany {
		t.Fatalf("not limited: %d %s", got.status, got.body)
	}
	b.become(nobody)
	if got := b.ask(t, `{ open }`, ""); got.status != http.StatusOK {
		t.Errorf("another caller pays for it: %d %s", got.status, got.body)
	}
}

func TestRetryAfterIsWhenThePurseHoldsEnough(t *testing.T) {
	t.Parallel()
	m, err := newMeter()
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	if refusal := m.spend("x", pointsAtOnce, header); refusal != nil {
		t.Fatal(refusal.message)
	}
	if refusal := m.spend("x", 4*pointsPerSecond, header); refusal == nil || header.Get("Retry-After") != "4" {
		t.Errorf("Retry-After %q", header.Get("Retry-After"))
	}
}

func TestSharedLimitIsAsked(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	var asked string
	var points int
	b.allow = func(_ context.Context, caller string, n int) bool { asked, points = caller, n; return false }
	got := b.ask(t, `{ pages(first: 100) { edges { node { name } } } }`, "")
	if got.code() != codeTooMany || got.header.Get("Retry-After") != retryAfter || asked != "person:p1" || points != 205 {
		t.Errorf("%s %v asked for %q %d", got.body, got.header, asked, points)
	}
}

func TestOnlySoManyRunAtATime(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	occupy(t, b.places)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	got := b.post(t, `{"query":"{ open }"}`, func(r *http.Request) { *r = *r.WithContext(ctx) })
	if got.code() != codeTimeout || got.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", got.status, got.body)
	}
}
