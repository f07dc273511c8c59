package bitbucketsim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options are the settings of a Sim. The zero value is usable: it behaves as Bitbucket documents it.
type Options struct {
	// Logger receives one line per failed delivery and per internal fault; nil discards them.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// BaseURL is the origin under which the Sim is reached, without a trailing slash. It is needed where the Sim
	// is mounted as a handler, or stands behind a proxy; else Start sets it from the address that it listens on.
	BaseURL string
	// AccessTokenLifetime is how long an access token is good for; 0 means one hour.
	AccessTokenLifetime time.Duration
	// RefreshGrace is how long a refresh token that was rotated out still works; 0 means one minute, a
	// negative value means not at all.
	RefreshGrace time.Duration
	// RepositoryCallsPerHour limits the calls to /2.0/repositories/* of one grant in a rolling hour; 0 means
	// 1000, a negative value means no limit.
	RepositoryCallsPerHour int
	// HookCallsPerHour limits the calls to webhook subscriptions in the same way; 0 means 1000.
	HookCallsPerHour int
	// WebhookTimeout is how long a receiver of a webhook may take; 0 means ten seconds.
	WebhookTimeout time.Duration
	// MaxWebhookBytes is the size above which a payload is silently not sent; 0 means 256 KiB.
	MaxWebhookBytes int
	// AsyncMergeDelay is how long an asynchronous merge stays pending; 0 means 50 milliseconds.
	AsyncMergeDelay time.Duration
	// Forge are the settings of the part that plays Forge.
	Forge ForgeOptions
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, fallback time.Duration) {
		if *d == 0 {
			*d = fallback
		}
	}
	count := func(n *int, fallback int) {
		if *n == 0 {
			*n = fallback
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	set(&o.AccessTokenLifetime, time.Hour)
	set(&o.RefreshGrace, time.Minute)
	set(&o.WebhookTimeout, 10*time.Second)
	set(&o.AsyncMergeDelay, 50*time.Millisecond)
	count(&o.RepositoryCallsPerHour, 1000)
	count(&o.HookCallsPerHour, 1000)
	count(&o.MaxWebhookBytes, 256<<10)
	o.Forge = o.Forge.withDefaults()
	return o
}

// Sim is one simulated Bitbucket Cloud. Its methods may be called from any goroutine.
type Sim struct {
	opts    Options
	handler http.Handler
	client  *http.Client // sends webhooks
	// forgeClient calls remotes. Each call brings its own deadline.
	forgeClient *http.Client

	ctx    context.Context //nolint:containedctx // ends the background work at Close.
	cancel context.CancelFunc
	work   sync.WaitGroup // deliveries and asynchronous merges
	server *http.Server

	mu            sync.Mutex // guards everything below and all that hangs from it
	changed       *sync.Cond // signalled when a call or an attempt of a delivery was recorded
	baseURL       string
	people        []*person
	workspaces    []*workspace
	consumers     []*consumer
	codes         map[string]*authorizationCode
	grants        map[string]*grant
	accessTokens  map[string]*accessToken
	refreshTokens map[string]*refreshToken
	sessions      map[string]*person // by cookie
	mergeTasks    map[string]*mergeTask
	faults        []*Fault
	webhookFaults []*WebhookFault
	strikes       map[int]int // how often each fault struck, by its id
	held          []*delivery // held back by a WebhookFault until a later one has gone
	calls         []Call
	callsSeen     int
	effects       []Effect
	effectsSeen   int
	deliveries    []*delivery
	nextID        int

	forgeApps          []*forgeApp
	forgeInstallations []*forgeInstallation
	forgeKeys          []*forgeKey // the last one signs
	forgeFaults        []*WebhookFault
	forgeHeld          []*forgeDelivery // held back by a fault until a later one has gone
	forgeDeliveries    []*forgeDelivery
	forgeRetryNow      chan struct{} // closed to let waiting retries go at once
	frames             map[string]*forgeFrame
	framePort          string // of the server of their pages; empty unless the Sim listens by itself
	frameServer        *http.Server
}

// New makes an empty Sim. Start it, or mount it as an http.Handler with Options.BaseURL set.
func New(opts Options) *Sim {
	s := &Sim{
		opts: opts.withDefaults(), codes: map[string]*authorizationCode{}, grants: map[string]*grant{},
		accessTokens: map[string]*accessToken{}, refreshTokens: map[string]*refreshToken{},
		sessions: map[string]*person{}, mergeTasks: map[string]*mergeTask{}, strikes: map[int]int{}, baseURL: opts.BaseURL,
		forgeRetryNow: make(chan struct{}), frames: map[string]*forgeFrame{},
	}
	s.changed = sync.NewCond(&s.mu)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.client = &http.Client{
		Timeout:       s.opts.WebhookTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.forgeClient = &http.Client{CheckRedirect: s.client.CheckRedirect}
	s.handler = s.routes()
	return s
}

// Start listens on addr, for example "127.0.0.1:0", and serves until Close; the pages of Forge apps are served from
// origins of their own. It may be called once.
func (s *Sim) Start(addr string) error {
	listener, err := s.listen(addr)
	if err != nil {
		return err
	}
	frames, err := s.listen(s.opts.Forge.FrameAddr)
	if err != nil {
		_ = listener.Close()
		return err
	}
	_, port, err := net.SplitHostPort(frames.Addr().String())
	if err != nil {
		return fmt.Errorf("bitbucketsim: %w", err)
	}
	s.mu.Lock()
	s.framePort = port
	if s.baseURL == "" {
		s.baseURL = "http://" + listener.Addr().String()
	}
	s.server, s.frameServer = s.newServer(s), s.newServer(http.HandlerFunc(s.serveFrames))
	server, frameServer := s.server, s.frameServer
	s.mu.Unlock()
	s.work.Go(s.keepSchedules)
	s.work.Go(func() { s.serve(server, listener) })
	s.work.Go(func() { s.serve(frameServer, frames) })
	return nil
}

func (s *Sim) listen(addr string) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(s.ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("bitbucketsim: %w", err)
	}
	return listener, nil
}

func (s *Sim) newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ErrorLog:    slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelWarn),
	}
}

func (s *Sim) serve(server *http.Server, on net.Listener) {
	if err := server.Serve(on); !errors.Is(err, http.ErrServerClosed) {
		s.opts.Logger.Error("serving ended", "error", err)
	}
}

// URL is the origin of all faces, without a trailing slash. The REST API is below URL() + "/2.0".
func (s *Sim) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.baseURL
}

// Close stops the server and the background work and waits for both. Deliveries that were not sent yet are
// given up.
func (s *Sim) Close() error {
	s.mu.Lock()
	s.cancel() // under the lock, so that no background work begins behind the wait below
	server, frames := s.server, s.frameServer
	s.changed.Broadcast()
	s.mu.Unlock()
	var err error
	if server != nil {
		err = errors.Join(server.Close(), frames.Close())
	}
	s.work.Wait()
	s.client.CloseIdleConnections()
	s.forgeClient.CloseIdleConnections()
	return err
}

// ServeHTTP serves all faces of the Sim.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Sim) now() time.Time { return s.opts.Now().UTC() }

// id returns the next small number, unique in this Sim.
func (s *Sim) id() int {
	s.nextID++
	return s.nextID
}

// newUUID returns a random UUID in braces, as Bitbucket writes them.
func newUUID() string { return "{" + bareUUID() + "}" }

func bareUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newSecret returns 32 random bytes in hexadecimal.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
