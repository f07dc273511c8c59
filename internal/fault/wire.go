package fault

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// errCut is what the process sees of a fault.
var errCut = errors.New("fault: the connection is cut")

// Event is something that the process is about to do.
type Event struct {
	// Call is "METHOD /path" of an HTTP exchange, "" for anything else.
	Call string
	// Other names what is neither HTTP nor Postgres, "" for those: tests carry such a fault out themselves ([Wire.Strikes]).
	Other string
	// Commit says that a transaction is about to commit, else Statements are about to be sent together.
	Commit bool
	// Statements are those of the transaction so far, or those that are sent.
	Statements []string
}

// Calls picks HTTP exchanges, by their method and a regular expression on their path.
func Calls(method, path string) func(Event) bool {
	pattern := regexp.MustCompile("^" + method + " .*" + path)
	return func(e Event) bool { return e.Call != "" && pattern.MatchString(e.Call) }
}

// Commits picks the commits of transactions that had a statement with these words.
func Commits(words string) func(Event) bool {
	return func(e Event) bool { return e.Commit && says(e.Statements, words) }
}

// Sends picks statements with these words, and what is sent together with them. Outside a transaction they commit by themselves.
func Sends(words string) func(Event) bool {
	return func(e Event) bool { return !e.Commit && says(e.Statements, words) }
}

// Others picks what tests carry out themselves.
func Others(name string) func(Event) bool {
	return func(e Event) bool { return e.Other == name }
}

func says(statements []string, words string) bool {
	return strings.Contains(strings.Join(statements, "\n"), words)
}

// Trap is a fault that waits for its moment and strikes once.
type Trap struct {
	// On picks the moment.
	On func(Event) bool
	// Skip lets that many pass first.
	Skip   int
	Mishap Mishap
	// Meanwhile is called where Postgres is slow, before the step goes on.
	Meanwhile func()
}

// Wire stands between a process, as far as a test plays one, and the servers that it talks to: it is the transport of its HTTP
// clients, and tunes its pool of Postgres connections ([Wire.Tune]). It is safe for concurrent use.
type Wire struct {
	// guard guards the fields below. It is never held over a call.
	guard sync.Mutex
	trap  *Trap
	fired int
	dead  bool
	twice bool         // what Postgres was to be told is to be told again
	late  func() error // the call that was given up on
	conns map[*conn]struct{}
}

// Set puts a trap in place of the one before, if any.
func (w *Wire) Set(t Trap) {
	w.guard.Lock()
	defer w.guard.Unlock()
	w.trap, w.fired, w.twice, w.late = &t, 0, false, nil
}

// Clear takes the trap away and tells how often it struck.
func (w *Wire) Clear() int {
	w.guard.Lock()
	defer w.guard.Unlock()
	fired := w.fired
	w.trap, w.fired = nil, 0
	return fired
}

// Awaits tells whether a trap with this mishap has not struck yet.
func (w *Wire) Awaits(m Mishap) bool {
	w.guard.Lock()
	defer w.guard.Unlock()
	return w.trap != nil && w.trap.Mishap == m && w.fired == 0
}

// Fired is how often the trap has struck.
func (w *Wire) Fired() int {
	w.guard.Lock()
	defer w.guard.Unlock()
	return w.fired
}

// Dead tells whether the process has died: nothing that it sends arrives any more.
func (w *Wire) Dead() bool {
	w.guard.Lock()
	defer w.guard.Unlock()
	return w.dead
}

// Kill ends the process, as far as anybody outside can tell.
func (w *Wire) Kill() {
	w.guard.Lock()
	w.dead = true
	conns := make([]*conn, 0, len(w.conns))
	for c := range w.conns {
		conns = append(conns, c)
	}
	w.guard.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// Revive is another process in the place of one that died.
func (w *Wire) Revive() {
	w.guard.Lock()
	defer w.guard.Unlock()
	w.dead = false
}

// Again tells, once, whether the process is to do again what it did when the trap struck: no answer of Postgres comes twice, but
// a job can be handed out twice, and a request be sent twice. Calls over HTTP were repeated on their way already.
func (w *Wire) Again() bool {
	w.guard.Lock()
	defer w.guard.Unlock()
	twice := w.twice
	w.twice = false
	return twice
}

// Land carries out the call that the process gave up on, if there was one.
func (w *Wire) Land() error {
	w.guard.Lock()
	late := w.late
	w.late = nil
	w.guard.Unlock()
	if late == nil {
		return nil
	}
	return late()
}

// Strikes tells whether the trap strikes now, and with what.
func (w *Wire) Strikes(e Event) (Trap, bool) {
	w.guard.Lock()
	defer w.guard.Unlock()
	if w.trap == nil || w.fired > 0 || w.dead || !w.trap.On(e) {
		return Trap{}, false
	}
	if w.trap.Skip > 0 {
		w.trap.Skip--
		return Trap{}, false
	}
	w.fired++
	w.twice = e.Call == "" && w.trap.Mishap == Twice
	return *w.trap, true
}

// RoundTrip performs an HTTP exchange, or what becomes of it.
func (w *Wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.Dead() {
		return nil, errCut
	}
	trap, ok := w.Strikes(Event{Call: r.Method + " " + r.URL.Path})
	if !ok {
		return http.DefaultTransport.RoundTrip(r)
	}
	switch trap.Mishap {
	case Failed:
		return &http.Response{
			StatusCode: http.StatusServiceUnavailable, Status: "503 Service Unavailable", Request: r,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody,
		}, nil
	case DiedBefore:
		w.Kill()
		return nil, errCut
	case Slow:
		again, err := copyOf(r)
		if err != nil {
			return nil, err
		}
		w.guard.Lock()
		w.late = func() error { return carryOut(again) }
		w.guard.Unlock()
		return nil, context.DeadlineExceeded // the caller's patience is over; how long that takes is nothing to wait for
	case Happened, DiedAfter, Twice:
		first, err := copyOf(r)
		if err != nil {
			return nil, err
		}
		if err := carryOut(first); err != nil {
			return nil, err
		}
		if trap.Mishap == Twice {
			return http.DefaultTransport.RoundTrip(r)
		}
		if trap.Mishap == DiedAfter {
			w.Kill()
		}
	}
	return nil, errCut
}

// copyOf is a request that outlives its caller.
func copyOf(r *http.Request) (*http.Request, error) {
	again := r.Clone(context.WithoutCancel(r.Context()))
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		again.Body = body
	}
	return again, nil
}

// carryOut performs an exchange of whose answer nobody hears.
func carryOut(r *http.Request) error {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}

// Tune puts the wire between a pool and its Postgres.
func (w *Wire) Tune(config *pgxpool.Config) {
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if w.Dead() {
			return nil, errCut
		}
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, wire: w}
		w.guard.Lock()
		defer w.guard.Unlock()
		if w.conns == nil {
			w.conns = map[*conn]struct{}{}
		}
		w.conns[c] = struct{}{}
		return c, nil
	}
	config.ConnConfig.Tracer = tracer{}
	// Whoever comes after a process that died finds none of its connections in the pool.
	config.PrepareConn = func(_ context.Context, c *pgx.Conn) (bool, error) { return !wired(c).closed.Load(), nil }
	// What is encrypted cannot be told apart. The servers of tests are on this machine.
	config.ConnConfig.TLSConfig, config.ConnConfig.Fallbacks = nil, nil
}

// conn is one connection to Postgres. Statements belongs to whoever uses the connection.
type conn struct {
	net.Conn
	wire       *Wire
	closed     atomic.Bool
	statements []string // of the transaction
	next       atomic.Pointer[Trap]
}

func (c *conn) Close() error {
	c.closed.Store(true)
	c.wire.guard.Lock()
	delete(c.wire.conns, c)
	c.wire.guard.Unlock()
	return c.Conn.Close()
}

// Write sends what the process says, or what becomes of it where a trap was set for it.
func (c *conn) Write(b []byte) (int, error) {
	trap := c.next.Load()
	if trap == nil || !executes(b) {
		return c.Conn.Write(b)
	}
	c.next.Store(nil)
	switch trap.Mishap {
	case Failed, DiedBefore:
		return 0, c.cut(trap.Mishap)
	case Happened, DiedAfter:
		if n, err := c.Conn.Write(b); err != nil {
			return n, err
		}
		// Postgres answers once it is done. Nobody else reads this connection meanwhile: its user is here.
		if _, err := c.Conn.Read(make([]byte, 1)); err != nil {
			return 0, err
		}
		return 0, c.cut(trap.Mishap)
	case Slow:
		trap.Meanwhile()
	case Twice: // is up to the caller: [Wire.Again]
	}
	return c.Conn.Write(b)
}

func (c *conn) cut(m Mishap) error {
	if m == DiedBefore || m == DiedAfter {
		c.wire.Kill()
	}
	return errors.Join(errCut, c.Close())
}

// executes tells whether what is sent to Postgres has a statement carried out, rather than prepared.
func executes(b []byte) bool {
	for len(b) >= 5 {
		if b[0] == 'E' || b[0] == 'Q' {
			return true
		}
		length := 1 + int(b[1])<<24 + int(b[2])<<16 + int(b[3])<<8 + int(b[4])
		if length > len(b) {
			break
		}
		b = b[length:]
	}
	return false
}

// tracer tells a connection what it is about to carry.
type tracer struct{}

func wired(c *pgx.Conn) *conn {
	w, _ := c.PgConn().Conn().(*conn)
	return w
}

func (tracer) TraceQueryStart(ctx context.Context, on *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c := wired(on)
	switch {
	case strings.HasPrefix(data.SQL, "begin"):
		c.statements = nil
	case data.SQL == "commit":
		if trap, ok := c.wire.Strikes(Event{Commit: true, Statements: c.statements}); ok {
			c.next.Store(&trap)
		}
	default:
		c.statements = append(c.statements, data.SQL)
		if trap, ok := c.wire.Strikes(Event{Statements: []string{data.SQL}}); ok {
			c.next.Store(&trap)
		}
	}
	return ctx
}

func (tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (tracer) TraceBatchStart(ctx context.Context, on *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	c := wired(on)
	var statements []string
	commit, reads := false, false
	for _, q := range data.Batch.QueuedQueries {
		switch {
		case strings.HasPrefix(q.SQL, "begin"):
			c.statements, reads = nil, strings.HasSuffix(q.SQL, "read only")
		case q.SQL == "commit":
			commit = !reads // what only reads commits nothing
		default:
			statements = append(statements, q.SQL)
		}
	}
	c.statements = append(c.statements, statements...)
	trap, ok := c.wire.Strikes(Event{Statements: statements})
	if !ok && commit {
		trap, ok = c.wire.Strikes(Event{Commit: true, Statements: c.statements})
	}
	if ok {
		c.next.Store(&trap)
	}
	return ctx
}

func (tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (tracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
