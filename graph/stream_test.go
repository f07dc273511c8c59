package graph

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/signedapproval/bitbucket/server/refusal"
)

// A stream that forgets to end would be found here, whichever test opened it. The tests' database
// server outlives them by intent.
func TestMain(m *testing.M) {
	code := m.Run()
	var left error
	for end := time.Now().Add(patienceOfTests); code == 0; { // goleak alone waits for less than a busy machine may take to end them
		left = goleak.Find(goleak.IgnoreAnyFunction("github.com/signedapproval/bitbucket/internal/tether.Start.func1"))
		if left == nil || time.Now().After(end) {
			break
		}
	}
	if left != nil {
		fmt.Fprintln(os.Stderr, left)
		code = 1
	}
	os.Exit(code)
}

const patienceOfTests = 2 * time.Minute

// events is an open stream as a client sees it.
type events struct {
	t      *testing.T
	status int
	lines  *bufio.Scanner
	body   io.ReadCloser
	cancel context.CancelFunc
}

// serve starts a server over the bench; it stops with the test and waits for its handlers.
func serve(t *testing.T, b *bench) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(b)
	t.Cleanup(func() { b.Close(); server.CloseClientConnections(); server.Close() })
	return server
}

func listen(t *testing.T, server *httptest.Server, query string) *events {
	t.Helper()
	return listenAs(t, server, query, nil, func(*http.Request) {})
}

func listenAs(t *testing.T, server *httptest.Server, query string, variables map[string]any, change func(*http.Request)) *events {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader(jsonOf(map[string]any{"query": query, "variables": variables})))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	change(r)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return &events{t: t, status: response.StatusCode, lines: lines, body: response.Body, cancel: cancel}
}

// next gives the next event's name and answer; "comment" for a comment, "" at the end of the stream.
func (e *events) next() (string, reply) {
	e.t.Helper()
	name := ""
	var got reply
	for e.lines.Scan() {
		line := e.lines.Text()
		switch {
		case line == "" && name != "":
			return name, got
		case strings.HasPrefix(line, ":"):
			name = "comment"
		case strings.HasPrefix(line, "event: "):
			name = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			got.body = strings.TrimPrefix(line, "data: ")
			if err := json.Unmarshal([]byte(got.body), &got); err != nil {
				e.t.Fatal(err)
			}
		}
	}
	return "", got
}

func (e *events) want(n int) {
	e.t.Helper()
	name, got := e.next()
	tick, _ := got.Data["ticks"].(map[string]any)
	if name != "next" || tick["n"] != float64(n) {
		e.t.Fatalf("%s %s, want tick %d", name, got.body, n)
	}
}

func (e *events) wantEnd(code string) {
	e.t.Helper()
	name, got := e.next()
	for name == "next" && got.code() == "" { // an event more than needed says nothing
		name, got = e.next()
	}
	if name != "next" || got.code() != code {
		e.t.Fatalf("%s %s, want %s", name, got.body, code)
	}
	if name, _ := e.next(); name != "complete" {
		e.t.Fatalf("%q, want complete", name)
	}
	if name, _ := e.next(); name != "" {
		e.t.Fatalf("%q after complete", name)
	}
}

// eventually waits for what happens on its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patienceOfTests); time.Now().Before(end); {
		if ok() {
			return
		}
		<-time.After(time.Millisecond)
	}
	t.Fatal("waited in vain: " + what)
}

const ticks = `subscription { ticks { n label } }`

func TestStreamTellsOfEveryChange(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	e := listen(t, serve(t, b), ticks)
	e.want(0)
	for n := range 5 {
		b.probe.set(int32(n + 1))
		b.bell.ring("ticks")
		e.want(n + 1)
	}
}

func TestStreamAppliesDefaults(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	server := serve(t, b)
	for query, want := range map[string]string{
		`subscription { ticks { label } }`:                                                            "none",
		`subscription($l: String){ ticks(label: $l) { label } }`:                                      "none",
		`subscription($l: String = "mine"){ ticks(label: $l) { label } }`:                             "mine",
		`subscription($l: String = "mine"){ ticks(label: $l) { ...F } } fragment F on Tick { label }`: "mine",
	} {
		if name, got := listen(t, server, query).next(); name != "next" || got.Data["ticks"].(map[string]any)["label"] != want {
			t.Errorf("%s: %s %s", query, name, got.body)
		}
	}
}

func TestStreamRefusesBeforeItStarts(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	server := serve(t, b)
	for query, status := range map[string]int{
		`subscription { a: ticks { n } b: ticks { n } }`:    400,
		`subscription { ticks @skip(if: true) { n } }`:      400,
		`subscription($l: String){ ticks(label: 5) { n } }`: 400,
		`{ open }`: 400,
	} {
		if got := listen(t, server, query).status; got != status {
			t.Errorf("%s: %d, want %d", query, got, status)
		}
	}
	b.become(nobody)
	if got := listen(t, server, ticks).status; got != 401 {
		t.Errorf("anonymous: %d", got)
	}
}

func TestLostRingIsHealed(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.pace.poll = time.Millisecond
	e := listen(t, serve(t, b), ticks)
	e.want(0)
	b.probe.set(1)
	e.want(1)
	b.probe.set(2)
	e.want(2)
}

func TestStreamEndsWithTheRights(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	server := serve(t, b)

	e := listen(t, server, ticks)
	e.want(0)
	b.become(nobody)
	b.bell.ring("ticks")
	e.wantEnd(codeUnauthenticated)

	b.become(somebody)
	e = listen(t, server, ticks)
	e.want(0)
	b.probe.mu.Lock()
	b.probe.deny = true
	b.probe.mu.Unlock()
	b.bell.ring("ticks")
	e.wantEnd("NOT_FOUND")
}

// The poll notices what nobody rings for: a token that was revoked.
func TestStreamEndsWithTheTokenByItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.pace.poll = time.Millisecond
	b.become(script("READ"))
	e := listen(t, serve(t, b), ticks)
	e.want(0)
	b.become(nobody)
	e.wantEnd(codeUnauthenticated)
}

// Where nobody can say just now whether the caller may go on, the stream waits: it shows nothing, and
// it does not end.
func TestStreamOutlivesAnAbsentBitbucket(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.pace.poll = time.Millisecond
	var away atomic.Bool
	asked := make(chan struct{}, 1)
	b.identify = func(*http.Request) (Caller, error) {
		if !away.Load() {
			return somebody, nil
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return Caller{}, refusal.New(refusal.BitbucketUnavailable, "Bitbucket could not be asked.")
	}
	e := listen(t, serve(t, b), ticks)
	e.want(0)
	away.Store(true)
	for range 3 {
		<-asked
	}
	b.probe.set(1)
	away.Store(false)
	e.want(1)
}

func TestStreamSurvivesAFault(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.pace.poll = time.Millisecond
	server := serve(t, b)
	e := listen(t, server, ticks)
	e.want(0)
	release := occupy(t, b.places) // nothing else runs: events wait for their turn
	b.probe.set(1)
	for _, leave := range release {
		leave()
	}
	e.want(1)
}

func TestStreamsOfACallerAreCounted(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	server := serve(t, b)
	var open []*events
	for range maxStreams {
		e := listen(t, server, ticks)
		e.want(0)
		open = append(open, e)
	}
	if got := listen(t, server, ticks).status; got != http.StatusTooManyRequests {
		t.Errorf("one more: %d", got)
	}
	b.become(script("READ"))
	listen(t, server, ticks).want(0)
	b.become(somebody)
	open[0].cancel()
	eventually(t, "the place of a closed stream to be free", func() bool {
		e := listen(t, server, ticks)
		return e.status == http.StatusOK
	})
}

func TestStreamIsKeptAlive(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.pace.alive = time.Millisecond
	e := listen(t, serve(t, b), ticks)
	e.want(0)
	if name, _ := e.next(); name != "comment" {
		t.Errorf("%q", name)
	}
}

// A stream whose time is up ends without "complete", so the client comes again.
func TestStreamHasALifetime(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.pace.lifetime = time.Second
	e := listen(t, serve(t, b), ticks)
	name, _ := e.next()
	for name == "next" { // none, where its time is up before the first
		name, _ = e.next()
	}
	if e.status != http.StatusOK || name != "" {
		t.Errorf("%d %q", e.status, name)
	}
	eventually(t, "the stream to be forgotten", func() bool { return b.bell.count() == 0 })
}

func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	e := listen(t, serve(t, b), ticks)
	e.want(0)
	b.Close()
	if name, _ := e.next(); name != "" {
		t.Errorf("%q", name)
	}
}

func TestClientsThatVanishLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	server := serve(t, b)
	for i := range 40 {
		b.become(Caller{Kind: Session, Person: script().Person})
		e := listen(t, server, ticks)
		if e.status == http.StatusOK {
			e.want(0)
		}
		if i%2 == 0 {
			b.bell.ring("ticks")
		}
		e.cancel()
		eventually(t, "the stream to end", func() bool { return b.bell.count() == 0 })
	}
	eventually(t, "the count to be empty", func() bool { b.meter.mu.Lock(); defer b.meter.mu.Unlock(); return len(b.meter.streams) == 0 })
}

// A client that takes nothing is let go after the write deadline; it holds up nobody.
func TestSlowClientIsLetGo(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.pace.write = 50 * time.Millisecond
	server := serve(t, b)
	slow := listen(t, server, `subscription { ticks(label: "`+strings.Repeat("x", 8000)+`") { label } }`)
	if slow.status != http.StatusOK {
		t.Fatal(slow.status)
	}
	eventually(t, "the slow client to be let go", func() bool {
		b.bell.ring("ticks") // until the buffers between the two are full
		return b.bell.count() == 0
	})
}
