package monitor

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestOriginsOfServers(t *testing.T) {
	t.Parallel()
	for origin, ok := range map[string]bool{
		"https://approvals.example": true, "https://approvals.example/": true, "http://localhost:8080": true, "http://127.0.0.1:1": true, "http://[::1]:1": true,
		"http://approvals.example": false, "approvals.example": false, "ftp://approvals.example": false, "https://approvals.example/x": false,
		"https://user:secret@approvals.example": false, "https://approvals.example?x=1": false, "https://": false, "": false, "http://localhost.example": false,
	} {
		if _, err := NewClient(origin, "", nil); (err == nil) != ok {
			t.Errorf("%q: %v", origin, err)
		}
	}
	if _, err := NewClient("https://approvals.example", "sa_live_x\r\nHost: y", nil); err == nil || strings.Contains(err.Error(), "sa_live") {
		t.Errorf("a token with a line break: %v", err)
	}
}

// asker is a client before a server of one handler, whose pauses are written down and not waited for.
func asker(t *testing.T, handler http.HandlerFunc) (*Client, *[]time.Duration) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL, "sa_live_secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	var paused []time.Duration
	c.pause = func(_ context.Context, d time.Duration) error { paused = append(paused, d); return nil }
	return c, &paused
}

func TestABusyServerIsAskedAgain(t *testing.T) {
	t.Parallel()
	asked := 0
	c, paused := asker(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 3 {
			w.Header().Set("Retry-After", "7")
			http.Error(w, "later", []int{0, http.StatusServiceUnavailable, http.StatusTooManyRequests}[asked])
			return
		}
		if r.Header.Get("Authorization") != "Bearer sa_live_secret" || r.URL.RequestURI() != "/evidence/x?branch=main" {
			t.Errorf("asked %s with %q", r.URL, r.Header.Get("Authorization"))
		}
		_, _ = w.Write([]byte("answer"))
	})
	body, err := c.Get(t.Context(), "/evidence/x", url.Values{"branch": {"main"}}, 6)
	if err != nil || string(body) != "answer" || len(*paused) != 2 || (*paused)[0] != 7*time.Second {
		t.Errorf("%q, %v after %v", body, err, *paused)
	}
}

func TestAServerThatStaysBusy(t *testing.T) {
	t.Parallel()
	c, paused := asker(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "86400")
		w.Header().Set(CodeHeader, "TRY_AGAIN")
		http.Error(w, "Try\x1b[2J again.", http.StatusServiceUnavailable)
	})
	_, err := c.Get(t.Context(), "/x", nil, 1)
	var refused *Refused
	if !errors.As(err, &refused) || refused.Code != "TRY_AGAIN" || strings.ContainsRune(err.Error(), '\x1b') || strings.Contains(err.Error(), "sa_live") {
		t.Fatalf("%v", err)
	}
	if len(*paused) != tries-1 || (*paused)[0] != longestPause {
		t.Errorf("it paused %v", *paused)
	}
}

func TestWhatIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another server was asked, with %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	for name, handler := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
		"too much": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 11)) },
	} {
		c, paused := asker(t, handler)
		if body, err := c.Get(t.Context(), "/x", nil, 10); err == nil || len(*paused) > 0 {
			t.Errorf("%s: %q after %v", name, body, *paused)
		}
	}
}

func TestAServerThatIsAway(t *testing.T) {
	t.Parallel()
	c, paused := asker(t, nil)
	c.base.Host = "127.0.0.1:1"
	if _, err := c.Get(t.Context(), "/x", nil, 10); err == nil || len(*paused) != tries-1 || strings.Contains(err.Error(), "sa_live") {
		t.Errorf("%v after %v", err, *paused)
	}
}

// TestEdges compares the trees that a state computes with those of the reference implementation.
func TestEdges(t *testing.T) {
	t.Parallel()
	reference := &tree{}
	var edge []subtree
	for n := range int64(1100) {
		root, err := reference.root()
		if err != nil || rootOf(edge) != root {
			t.Fatalf("the root of %d leaves: %v", n, err)
		}
		edge = grow(edge, reference.add(n))
	}
}
