package bitbucket_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

func TestRefusals(t *testing.T) {
	t.Parallel()
	const envelope = `{"type":"error","error":{"message":"No.","detail":{"required":["webhook"],"granted":["account","email"]}}}`
	type want struct {
		class   bitbucket.ErrorClass
		is      string
		message string
		retry   time.Duration
	}
	tests := map[string]struct {
		status int
		header map[string]string
		body   string
		want   want
	}{
		"400 with fields":            {400, nil, `{"type":"error","error":{"message":"Bad","fields":{"key":["too long","again"]}}}`, want{bitbucket.Permanent, "", "Bad", 0}},
		"401":                        {401, nil, envelope, want{bitbucket.Permanent, "unauthorized", "No.", 0}},
		"403 for a scope":            {403, nil, envelope, want{bitbucket.Permanent, "forbidden", "No.", 0}},
		"404 in plain text":          {404, map[string]string{"Content-Type": "text/plain"}, "Not Found", want{bitbucket.Permanent, "not found", "Not Found", 0}},
		"409":                        {409, nil, "", want{bitbucket.Permanent, "conflict", "", 0}},
		"410":                        {410, nil, "gone", want{bitbucket.Permanent, "not found", "gone", 0}},
		"429 without advice":         {429, nil, "Rate limit for this resource has been exceeded", want{bitbucket.Transient, "throttled", "Rate limit for this resource has been exceeded", time.Minute}},
		"429 with Retry-After":       {429, map[string]string{"Retry-After": "17"}, "", want{bitbucket.Transient, "throttled", "", 17 * time.Second}},
		"429 with a date":            {429, map[string]string{"Retry-After": noon.Add(90 * time.Second).Format(http.TimeFormat)}, "", want{bitbucket.Transient, "throttled", "", 90 * time.Second}},
		"429 with a far date":        {429, map[string]string{"Retry-After": noon.Add(48 * time.Hour).Format(http.TimeFormat)}, "", want{bitbucket.Transient, "throttled", "", time.Hour}},
		"429 with seconds left":      {429, map[string]string{"Retry-After": "5", "X-RateLimit-Reset": "40"}, "", want{bitbucket.Transient, "throttled", "", 40 * time.Second}},
		"429 with nonsense":          {429, map[string]string{"Retry-After": "soon", "X-RateLimit-Reset": "NaN"}, "", want{bitbucket.Transient, "throttled", "", time.Minute}},
		"429 without end":            {429, map[string]string{"Retry-After": "1e300"}, "", want{bitbucket.Transient, "throttled", "", time.Hour}},
		"500 as a page":              {500, map[string]string{"Content-Type": "text/html; charset=utf-8"}, "<html>oops</html>", want{bitbucket.Transient, "", "", 0}},
		"502 as a page without type": {502, map[string]string{"Content-Type": ""}, "\n<!doctype html>", want{bitbucket.Transient, "", "", 0}},
		"503 with Retry-After":       {503, map[string]string{"Retry-After": "30"}, "", want{bitbucket.Transient, "", "", 30 * time.Second}},
		"504":                        {504, nil, "", want{bitbucket.Transient, "", "", 0}},
		"555":                        {555, nil, `{"type":"error","error":{"message":"timed out"}}`, want{bitbucket.Transient, "", "timed out", 0}},
		"408":                        {408, nil, "", want{bitbucket.Transient, "", "", 0}},
		"cut JSON":                   {400, nil, `{"type":"error","error":{"mess`, want{bitbucket.Permanent, "", "the error body is not readable", 0}},
		"JSON that is no error":      {400, nil, `{"unexpected":[1]}`, want{bitbucket.Permanent, "", "", 0}},
		"JSON string":                {400, nil, `"no"`, want{bitbucket.Permanent, "", "the error body is not readable", 0}},
		"not UTF-8":                  {400, map[string]string{"Content-Type": "text/plain"}, "b\xffd\r\nline", want{bitbucket.Permanent, "", "b\uFFFDd line", 0}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for key, value := range test.header {
					w.Header().Set(key, value)
				}
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			})
			_, err := s.client(bitbucket.Config{Now: atNoon}).PullRequest(t.Context(), workspaceUUID, repoUUID, 1)
			got := asError(t, fmt.Errorf("wrapped: %w", err))
			if got.Status != test.status || got.Class() != test.want.class || got.Message != test.want.message || got.Op != "read pull request" {
				t.Errorf("got %+v of class %s", got, got.Class())
			}
			is := map[string]bool{
				"unauthorized": got.Unauthorized(), "forbidden": got.Forbidden(), "not found": got.NotFound(),
				"conflict": got.Conflict(), "throttled": got.Throttled(),
			}
			for what, yes := range is {
				if yes != (what == test.want.is) {
					t.Errorf("%s: %v", what, yes)
				}
			}
			retry := time.Time{}
			if test.want.retry > 0 {
				retry = noon.Add(test.want.retry)
			}
			if !got.RetryAt.Equal(retry) {
				t.Errorf("retry at %v, want %v", got.RetryAt, retry)
			}
			contains(t, got.Error(), fmt.Sprintf("bitbucket: read pull request: %d", test.status))
			if strings.ContainsAny(got.Error(), "\r\n") {
				t.Errorf("more than one line: %q", got.Error())
			}
			switch name {
			case "403 for a scope":
				if got.Detail != "granted: account, email; required: webhook" {
					t.Errorf("detail %q", got.Detail)
				}
			case "400 with fields":
				contains(t, got.Error(), "key: too long, again")
			}
		})
	}
}

func TestUnusableAnswersAreTransient(t *testing.T) {
	t.Parallel()
	tests := map[string]http.HandlerFunc{
		"not JSON":      answer(http.StatusOK, "text/html", "<html>maintenance</html>"),
		"nothing":       answer(http.StatusOK, "application/json", ""),
		"another shape": answerJSON(`[]`),
		"no identity":   answerJSON(`{}`),
		"another id":    answerJSON(`{"id":2,"state":"OPEN"}`),
		"not a hash":    answerJSON(`{"id":1,"state":"OPEN","source":{"commit":{"hash":"main"}}}`),
		"cut body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"id":1,"state":"OPEN"}`)
		},
		"closed connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, handle := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, handle).client(bitbucket.Config{}).PullRequest(t.Context(), workspaceUUID, repoUUID, 1)
			got := asError(t, err)
			if got.Class() != bitbucket.Transient || got.Status != 0 || got.Message == "" {
				t.Errorf("got %+v of class %s", got, got.Class())
			}
		})
	}
}

func TestTimeoutAndCancellation(t *testing.T) {
	t.Parallel()
	// The server sends the beginning of an answer and then nothing.
	stall := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"id":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	s := serve(t, stall)
	_, err := s.client(bitbucket.Config{Timeout: 50 * time.Millisecond}).PullRequest(t.Context(), workspaceUUID, repoUUID, 1)
	if got := asError(t, err); !errors.Is(err, context.DeadlineExceeded) || got.Class() != bitbucket.Transient || got.Status != 0 {
		t.Errorf("got %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	})
	go func() {
		<-started
		cancel()
	}()
	_, err = s.client(bitbucket.Config{}).PullRequest(ctx, workspaceUUID, repoUUID, 1)
	if got := asError(t, err); !errors.Is(err, context.Canceled) || got.Class() != bitbucket.Transient {
		t.Errorf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := serve(t, answerJSON(`{}`))
	c := s.client(bitbucket.Config{})
	s.Close()
	_, err := c.PullRequest(t.Context(), workspaceUUID, repoUUID, 1)
	if got := asError(t, err); got.Class() != bitbucket.Transient || got.Status != 0 {
		t.Errorf("got %v", err)
	}
}

func TestForeignLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	foreign := serve(t, answerJSON(`{"values":[]}`))
	link := foreign.URL + "/2.0/elsewhere?page=2"
	withUser := func(own string) string { return strings.Replace(own, "http://", "http://somebody@", 1) }
	tests := map[string]struct {
		handle func(own string) http.HandlerFunc
		call   func(context.Context, *bitbucket.Client) error
	}{
		"next": {
			func(string) http.HandlerFunc { return answerJSON(`{"values":[],"next":"` + link + `"}`) },
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := collect(c.Members(ctx, "w"))
				return err
			},
		},
		"next of a page": {
			func(string) http.HandlerFunc { return answerJSON(`{"values":[],"next":"` + link + `"}`) },
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.Repositories(ctx, "w", "", "")
				return err
			},
		},
		"next with a user name": {
			func(own string) http.HandlerFunc {
				return answerJSON(`{"values":[],"next":"` + withUser(own) + `/2.0/workspaces/w/members?page=2"}`)
			},
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := collect(c.Members(ctx, "w"))
				return err
			},
		},
		"redirect": {
			func(string) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, link, http.StatusFound) }
			},
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.Diff(ctx, "w", "r", bitbucket.OfPullRequest(1), 0)
				return err
			},
		},
		"redirect without scheme": {
			func(string) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", strings.TrimPrefix(link, "http:"))
					w.WriteHeader(http.StatusFound)
				}
			},
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.PullRequest(ctx, "w", "r", 1)
				return err
			},
		},
		"merge task": {
			func(string) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", foreign.URL+"/2.0/repositories/w/r/pullrequests/1/merge/task-status/7")
					w.WriteHeader(http.StatusAccepted)
				}
			},
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.Merge(ctx, "w", "r", 1, bitbucket.MergeOptions{})
				return err
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var handle http.HandlerFunc
			own := serve(t, func(w http.ResponseWriter, r *http.Request) { handle(w, r) })
			handle = test.handle(own.URL)
			err := test.call(t.Context(), own.client(bitbucket.Config{}))
			if got := asError(t, err); !errors.Is(err, bitbucket.ErrForeignOrigin) || got.Class() != bitbucket.Permanent {
				t.Errorf("got %v", err)
			}
			if requests := own.received(); len(requests) != 1 {
				t.Errorf("%d requests, want the first alone", len(requests))
			}
			if requests := foreign.received(); len(requests) != 0 {
				t.Errorf("the foreign server received %+v", requests)
			}
		})
	}
}

func TestWritesAreNeverRedirected(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/2.0/other", http.StatusTemporaryRedirect)
	})
	_, err := s.client(bitbucket.Config{}).Merge(t.Context(), workspaceUUID, repoUUID, 1, bitbucket.MergeOptions{})
	if got := asError(t, err); got.Status != http.StatusTemporaryRedirect || got.Class() != bitbucket.Permanent {
		t.Errorf("got %v", err)
	}
	if n := len(s.received()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestRedirectsWithinTheOriginAreFollowedAndCounted(t *testing.T) {
	t.Parallel()
	var reserved, observed atomic.Int32
	config := bitbucket.Config{
		Reserve: func(context.Context, bitbucket.Call) error { reserved.Add(1); return nil },
		Observe: func(bitbucket.Call, int, time.Duration) { observed.Add(1) },
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/pullrequests/1/diff") {
			http.Redirect(w, r, "/2.0/repositories/w/r/diff/a..b?topic=true", http.StatusFound)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+token {
			t.Error("no token after the redirect")
		}
		fmt.Fprint(w, "the diff")
	})
	diff := must(s.client(config).Diff(t.Context(), workspaceUUID, repoUUID, bitbucket.OfPullRequest(1), 0))(t)
	if string(diff) != "the diff" || reserved.Load() != 2 || observed.Load() != 2 {
		t.Errorf("got %q, %d reserved, %d observed", diff, reserved.Load(), observed.Load())
	}

	circle := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) })
	_, err := circle.client(bitbucket.Config{}).PullRequest(t.Context(), workspaceUUID, repoUUID, 1)
	contains(t, asError(t, err).Error(), "too many redirects")
	if n := len(circle.received()); n != 4 {
		t.Errorf("%d requests", n)
	}
}

func TestSizeLimits(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(http.StatusOK, "text/plain", strings.Repeat("x", 100)))
	c := s.client(bitbucket.Config{})
	if diff := must(c.Diff(t.Context(), workspaceUUID, repoUUID, bitbucket.OfPullRequest(1), 100))(t); len(diff) != 100 {
		t.Errorf("%d bytes", len(diff))
	}
	_, err := c.Diff(t.Context(), workspaceUUID, repoUUID, bitbucket.OfPullRequest(1), 99)
	if got := asError(t, err); !errors.Is(err, bitbucket.ErrTooLarge) || got.Class() != bitbucket.Permanent {
		t.Errorf("got %v", err)
	}

	huge := serve(t, answerJSON(`{"title":"`+strings.Repeat("x", 8<<20)+`"}`))
	if _, err := huge.client(bitbucket.Config{}).PullRequest(t.Context(), workspaceUUID, repoUUID, 1); !errors.Is(err, bitbucket.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	shout := serve(t, answer(http.StatusBadRequest, "text/plain", strings.Repeat("no ", 1<<20)))
	_, err = shout.client(bitbucket.Config{}).PullRequest(t.Context(), workspaceUUID, repoUUID, 1)
	if got := asError(t, err); got.Status != http.StatusBadRequest || len([]rune(got.Message)) > 500 {
		t.Errorf("status %d, message of %d bytes", got.Status, len(got.Message))
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"values":[{"user":{"account_id":"a"}}],"next":"http://%s%s?after=%%7Bx%%7D"}`, r.Host, r.URL.Path)
	})
	list, err := collect(endless.client(bitbucket.Config{MaxPages: 3}).Members(t.Context(), "w"))
	if got := asError(t, err); !errors.Is(err, bitbucket.ErrTooManyPages) || got.Class() != bitbucket.Permanent {
		t.Errorf("got %v", err)
	}
	requests := endless.received()
	if len(list) != 3 || len(requests) != 3 || requests[0].Query != "pagelen=100" || requests[2].Query != "after=%7Bx%7D" {
		t.Errorf("%d elements, requests %+v", len(list), requests)
	}

	// Who stops reading causes no further call.
	for _, err := range endless.client(bitbucket.Config{}).Members(t.Context(), "w") {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if n := len(endless.received()); n != 4 {
		t.Errorf("%d requests", n)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var calls []bitbucket.Call
	var throttledUntil time.Time
	var statuses []int
	s := serve(t, answer(http.StatusTooManyRequests, "text/plain", "slow down"))
	config := bitbucket.Config{
		BaseURL: s.URL, Now: atNoon,
		Reserve: func(_ context.Context, call bitbucket.Call) error {
			calls = append(calls, call)
			if len(calls) > 1 {
				return fmt.Errorf("budget: %w", &bitbucket.Error{Status: http.StatusTooManyRequests, RetryAt: noon.Add(time.Second)})
			}
			return nil
		},
		Throttled: func(_ context.Context, _ bitbucket.Call, until time.Time) { throttledUntil = until },
		Observe:   func(_ bitbucket.Call, status int, _ time.Duration) { statuses = append(statuses, status) },
	}
	c := bitbucket.New(config).As(token, "connection-9", bitbucket.Background)

	_, err := c.CurrentUser(t.Context())
	if got := asError(t, err); !got.Throttled() || !got.RetryAt.Equal(noon.Add(time.Minute)) || !throttledUntil.Equal(got.RetryAt) {
		t.Errorf("got %+v, told %v", got, throttledUntil)
	}
	_, err = c.Emails(t.Context())
	got := asError(t, err)
	if !got.Throttled() || got.Class() != bitbucket.Transient || !got.RetryAt.Equal(noon.Add(time.Second)) || got.Op != "read emails" {
		t.Errorf("got %+v", got)
	}
	if len(s.received()) != 1 || len(statuses) != 1 || statuses[0] != http.StatusTooManyRequests {
		t.Errorf("%d requests, observed %v", len(s.received()), statuses)
	}
	want := bitbucket.Call{TokenKey: "connection-9", Class: bitbucket.Background, Op: "read current user"}
	if calls[0] != want {
		t.Errorf("reserved %+v, want %+v", calls[0], want)
	}

	config.Reserve = func(context.Context, bitbucket.Call) error { return errors.New("redis is away") }
	_, err = bitbucket.New(config).As(token, "k", bitbucket.Foreground).CurrentUser(t.Context())
	if got := asError(t, err); got.Class() != bitbucket.Transient || len(s.received()) != 1 {
		t.Errorf("got %v after %d requests", err, len(s.received()))
	}
}

// TestTokenNeverInAnError lets the server send the token back in every place
// that an error is made of.
func TestTokenNeverInAnError(t *testing.T) {
	t.Parallel()
	var respond atomic.Pointer[http.HandlerFunc]
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { (*respond.Load())(w, r) })
	rapid.Check(t, func(rt *rapid.T) {
		secret := rapid.StringMatching(`Z[A-Za-z0-9_\-=.~+/]{11,79}`).Draw(rt, "token")
		padding := strings.Repeat("p", rapid.IntRange(0, 600).Draw(rt, "padding"))
		mediaType := rapid.SampledFrom([]string{"application/json", "text/plain"}).Draw(rt, "type")
		status := rapid.SampledFrom([]int{200, 201, 202, 302, 400, 401, 403, 404, 409, 429, 500, 555}).Draw(rt, "status")
		escaped := strings.NewReplacer("/", `\/`, "=", `\u003d`).Replace(secret)
		body := rapid.SampledFrom([]string{
			padding + secret + padding,
			`{"error":{"message":"` + padding + escaped + `","detail":{"` + escaped + `":["` + escaped + `"]},"fields":{"` + escaped + `":["` + escaped + `"],"b":"` + escaped + `"}}}`,
			`{"error":{"message":"` + escaped,
			`{"id":"` + escaped + `","hash":"` + escaped + `","next":"` + escaped + `"}`,
			`{"values":[],"next":"http://` + "127.0.0.1:1/" + escaped + `"}`,
			`{"values":[],"next":"http://%zz/` + escaped + `"}`,
		}).Draw(rt, "body")
		handle := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/"+secret)
			w.Header().Set("Retry-After", secret)
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
		respond.Store(&handle)
		c := bitbucket.New(bitbucket.Config{BaseURL: s.URL}).As(secret, "key", bitbucket.Foreground)
		calls := everyCall(t.Context(), c)
		call := calls[rapid.IntRange(0, len(calls)-1).Draw(rt, "call")]
		err := call.run()
		if err == nil {
			return // an empty list, a deleted hook
		}
		got, ok := errors.AsType[*bitbucket.Error](err)
		if !ok {
			rt.Fatalf("%s: %T", call.name, err)
		}
		text := fmt.Sprintf("%v %+v %#v %v", err, *got, *got, errors.Unwrap(err))
		for _, part := range []string{secret, escaped, secret[:12]} {
			if strings.Contains(text, part) {
				rt.Fatalf("%s: the error shows %q of the token: %s", call.name, part, text)
			}
		}
	})
}

func TestHookSecretNotInError(t *testing.T) {
	t.Parallel()
	const secret = "wh-secret-5a5a5a5a"
	s := serve(t, answer(http.StatusBadRequest, "application/json", `{"error":{"message":"bad `+secret+`","fields":{"secret":["`+secret+` is bad"]}}}`))
	_, err := s.client(bitbucket.Config{}).CreateHook(t.Context(), workspaceUUID, repoUUID,
		bitbucket.HookOptions{URL: "https://example.com", Events: []string{"repo:push"}, Secret: secret})
	if text := fmt.Sprintf("%+v", *asError(t, err)); strings.Contains(text, secret) {
		t.Errorf("the error shows the secret: %s", text)
	}
}
