package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// front is the public address: it spreads requests over the replicas that live, as a load balancer does,
// and remembers which webhooks were answered with 2xx.
type front struct {
	origin   string
	server   *http.Server
	replicas []*replica
	turn     atomic.Int64
	// away says that Bitbucket is dead: it sends nothing, and hears no answer.
	away atomic.Bool
	hits atomic.Int64 // webhooks that met that

	mu       sync.Mutex
	accepted []string      // X-Request-UUIDs
	last     *http.Request // a webhook that was accepted, to be sent again
	body     []byte        // of it
}

// The two kinds of callers, by the host that the front turns their requests to: each has links of its own.
const hooks, people = "hooks", "people"

func newFront(ctx context.Context) (*front, error) {
	f := &front{}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.origin = fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			host := people
			if strings.HasPrefix(r.In.URL.Path, "/hooks/") {
				host = hooks
			}
			r.SetURL(&url.URL{Scheme: "http", Host: host})
			r.Out.Host = r.In.Host
		},
		Transport:      &http.Transport{DialContext: f.dial, DisableKeepAlives: true, ResponseHeaderTimeout: 30 * time.Second}, // each request has its turn
		ModifyResponse: f.answered,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, errDead) {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	f.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hooks/") {
			if f.dead(r) {
				panic(http.ErrAbortHandler) // the documented way to cut the connection
			}
			raw, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
			if err != nil {
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(raw))
			r = r.WithContext(context.WithValue(r.Context(), rawBody{}, raw))
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = f.server.Serve(listener) }() // ends by Close
	return f, nil
}

type rawBody struct{}

// answered remembers a webhook that a server has taken.
func (f *front) answered(r *http.Response) error {
	id := r.Request.Header.Get("X-Request-UUID")
	if id == "" || r.StatusCode/100 != 2 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.accepted = append(f.accepted, id)
	if raw, ok := r.Request.Context().Value(rawBody{}).([]byte); ok {
		f.last, f.body = r.Request, raw
	}
	if f.dead(r.Request) {
		return errDead
	}
	return nil
}

var errDead = errors.New("the sender has died")

// dead tells whether a webhook comes from a Bitbucket that is dead.
func (f *front) dead(r *http.Request) bool {
	if !f.away.Load() || r.Header.Get(flooding) != "" {
		return false
	}
	f.hits.Add(1)
	return true
}

// flooding is the header of webhooks that are sent by flood, not by Bitbucket.
const flooding = "X-Flood"

// taken are the deliveries that were answered with 2xx so far.
func (f *front) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.accepted...)
}

// flood sends a webhook that was accepted many times more, all at once and each as a new delivery, and answers how
// many a server turned away.
func (f *front) flood(ctx context.Context, n int) (turnedAway int64) {
	f.mu.Lock()
	last, body := f.last, f.body
	f.mu.Unlock()
	if last == nil {
		return 0
	}
	var away atomic.Int64
	var all sync.WaitGroup
	slots := make(chan struct{}, 256)
	for range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.origin+last.URL.Path, bytes.NewReader(body))
			if err != nil {
				return
			}
			request.Header = last.Header.Clone()
			request.Header.Set("X-Request-UUID", uuid.NewString())
			request.Header.Set(flooding, "1")
			if response, err := http.DefaultClient.Do(request); err == nil {
				if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != "" {
					away.Add(1)
				}
				_ = response.Body.Close()
			}
		})
	}
	all.Wait()
	return away.Load()
}

// dial connects to the next replica that lives, by its link for the kind of caller.
func (f *front) dial(ctx context.Context, _, address string) (net.Conn, error) {
	for range f.replicas {
		r := f.replicas[int(f.turn.Add(1))%len(f.replicas)]
		if r.address.Load() == nil {
			continue
		}
		to := r.people
		if strings.HasPrefix(address, hooks+":") {
			to = r.hooks
		}
		if conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", to.addr()); err == nil {
			return conn, nil
		}
	}
	return nil, errors.New("no server lives")
}
