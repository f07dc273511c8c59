package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/signedapproval/bitbucket/frontend"
	"github.com/signedapproval/bitbucket/graph"
	"github.com/signedapproval/bitbucket/server/atlassian"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/forge"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/notify"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/tiles"
	"github.com/signedapproval/bitbucket/server/webhook"
	"github.com/signedapproval/bitbucket/server/witness"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// Server is the whole product in one process. Any number of them may serve one database.
type Server struct {
	config     Config
	log        *slog.Logger
	store      *store.Store
	redis      redis.UniversalClient
	queue      *jobs.Queue
	bell       *jobs.Bell
	budget     *jobs.Budget
	shares     *jobs.Budget // of the people who ask, in the budget
	intake     *store.Intake
	gate       *gate.Gate
	people     *people.People
	workspaces *workspace.Workspaces
	graph      *graph.Handler
	hooks      http.Handler
	forge      *forge.Door // nil where there is no Forge app
	meters     *meters
	pace       *pace
	publisher  *witness.Publisher
	tiles      *tiles.Handler
	attesting  *attest.Keys // nil where nothing is attested
	audits     auditPlaces
	verifier   *atlassian.Verifier // nil where there is no Forge app
	frames     []*regexp.Regexp    // origins of the pages that Forge hosts for us
	proxies    []netip.Prefix      // trusted
}

// New connects to Postgres and Redis and wires the parts. The configuration has been validated.
func New(ctx context.Context, config Config, log *slog.Logger) (*Server, error) {
	logKeys, err := config.ReadLogKeys(ctx)
	if err != nil {
		return nil, err
	}
	attesting, err := config.ReadAttestationKeys(logKeys)
	if err != nil {
		return nil, err
	}
	keyset, err := config.ReadKeyset()
	if err != nil {
		return nil, err
	}
	vault, err := store.OpenVault(keyset)
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, log: log, meters: newMeters(), attesting: attesting}
	if s.proxies, err = config.proxies(); err != nil {
		return nil, err
	}
	if s.pace, err = newPace(); err != nil {
		return nil, err
	}
	if err := s.admitForge(); err != nil {
		return nil, err
	}
	if s.store, err = store.Open(ctx, config.DatabaseURL, vault); err != nil {
		return nil, err
	}
	if s.redis, err = jobs.Connect(config.RedisURL); err != nil {
		s.store.Close()
		return nil, err
	}
	if err := s.wire(logKeys); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// wire hands each part what it needs of the others. Packages of one floor do not know each other:
// what one needs of another is a function.
func (s *Server) wire(logKeys *witness.Keys) error {
	ceremonies, err := passkey.New(s.config.RPID(), "SignedApproval", s.config.Origin)
	if err != nil {
		return err
	}
	models, err := readModels(s.config.Models)
	if err != nil {
		return err
	}
	ceremonies.Attest = models != nil
	warnOfOldModels(s.log, models, time.Now())
	s.queue = jobs.New(jobs.Options{Redis: s.redis, Ledger: s.ledger(), Grace: jobsGrace, Log: s.log, Observe: s.meters.job})
	s.bell = jobs.NewBell(s.redis, "signedapproval", s.log)
	s.budget = jobs.NewBudget(jobs.BudgetOptions{
		Redis: s.redis, PerHour: s.config.CallsPerHour, Spent: s.spent, AddSpent: s.store.AddSpent, Log: s.log,
	})
	s.shares = jobs.NewBudget(jobs.BudgetOptions{
		Redis: s.redis, Prefix: "signedapproval:share", PerHour: s.config.CallsPerHour / personShare, Spent: unspent, AddSpent: uncounted, Log: s.log,
	})
	s.intake = store.NewIntake(s.store, store.IntakeOptions{})
	s.store.Ring = func(ctx context.Context, rings []store.Ring) { s.queue.Ring(ctx, toJobs(rings)) }
	s.store.Seat = s.seat
	s.store.Changed = s.bell.Publish
	s.store.DeliveryDays = s.config.DeliveryDays
	s.store.NoMail = s.config.SMTPHost == ""

	if s.publisher, err = s.publish(logKeys); err != nil {
		return err
	}
	s.store.Grown = s.publisher.Grown
	s.tiles = tiles.New(s.store, logKeys.Verifiers(), s.log)

	api := bitbucket.New(bitbucket.Config{
		BaseURL: s.config.BitbucketAPI, UserAgent: "SignedApproval (+" + s.config.Origin + ")",
		Reserve: s.reserve, Throttled: s.throttled, Observe: s.meters.call,
	})
	s.workspaces = workspace.New(workspace.Options{
		Store: s.store, API: api, Connect: s.consumer(s.config.ConnectKey, s.config.ConnectSecret, "/connect/callback"),
		Origin: s.config.Origin, Passkeys: ceremonies, LogOrigin: s.config.LogOrigin, Models: models, Witnesses: len(s.publisher.Witnesses), Log: s.log,
	})
	s.people = people.New(people.Options{
		Store: s.store, API: api, SignIn: s.consumer(s.config.SignInKey, s.config.SignInSecret, "/auth/callback"),
		Passkeys: ceremonies, LogOrigin: s.config.LogOrigin, Log: s.log,
	})
	var mail *notify.Mail
	if s.config.SMTPHost != "" {
		mail, err = notify.New(notify.Config{
			Host: s.config.SMTPHost, Port: s.config.SMTPPort, Username: s.config.SMTPUser, Password: s.config.SMTPPassword, From: s.config.SMTPFrom,
		})
		if err != nil {
			return err
		}
	}
	s.gate = &gate.Gate{
		Store: s.store, Passkeys: ceremonies, Mail: mail, Log: s.log, Origin: s.config.Origin, RPID: s.config.RPID(), LogOrigin: s.config.LogOrigin,
		Models:       models,
		CallsPerHour: s.config.CallsPerHour,
		Client:       s.workspaces.Client, Permission: s.workspaces.Permission, Readable: s.workspaces.Readable, People: s.workspaces.People, EnsureHook: s.workspaces.EnsureHook,
		Publish: s.publisher.PublishCosigned, Cosigned: s.publisher.Cosigned, Role: s.workspaces.Role,
	}
	s.workspaces.Cancel, s.workspaces.Roster = s.gate.Cancel, s.gate.Roster
	s.people.Role, s.people.Account, s.people.Roster = s.workspaces.Role, s.workspaces.Account, s.gate.Roster
	s.people.Follow, s.people.Propose, s.workspaces.ChangeKey = s.gate.Follow, s.workspaces.ProposeKeyChange, s.people.ApplyProposal
	s.handleJobs()
	s.hooks = webhook.New(webhook.Options{Store: s.store, Intake: s.intake, Log: s.log, Observe: s.meters.hook})
	if s.verifier != nil {
		s.forge = forge.New(forge.Options{
			Verifier: s.verifier, Store: s.store, Intake: s.intake, Log: s.log, Observe: s.meters.hook, MergeCheck: s.gate.MergeCheck,
			Invoked: s.workspaces.Invoked, Installed: s.workspaces.Installed, Upgraded: s.workspaces.Upgraded,
			Uninstalling: s.workspaces.Uninstalling, Scheduled: s.workspaces.Scheduled,
		})
	}
	s.graph, err = graph.New(graph.Options{
		Gate: s.gate, Workspaces: s.workspaces, People: s.people, Identify: s.identify, Subscribe: s.bell.Subscribe,
		Waited:     s.meters.turn,
		Registered: frontend.PersistedDocuments(), RegisteredOnly: true, BitbucketWeb: s.config.BitbucketWeb, Log: s.log,
	})
	return err
}

func (s *Server) consumer(key, secret, callback string) bitbucket.Consumer {
	return bitbucket.Consumer{
		Key: key, Secret: secret, AuthorizeURL: s.config.BitbucketWeb + "/site/oauth2/authorize",
		TokenURL: s.config.BitbucketWeb + "/site/oauth2/access_token", RedirectURL: s.config.Origin + callback,
	}
}

// Handler is every route of the public face.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /graphql", s.graph)
	mux.Handle("POST /hooks/{hook}", s.hooks)
	if s.forge != nil {
		mux.HandleFunc("POST /forge/events", s.forge.Events)
		mux.HandleFunc("POST /forge/lifecycle", s.forge.Lifecycle)
		mux.HandleFunc("POST /forge/scheduled", s.forge.Scheduled)
		mux.HandleFunc("POST /forge/merge-check", s.forge.MergeCheck)
	}
	mux.HandleFunc("GET /auth/sign-in", s.pace.limit(s.signIn))
	mux.HandleFunc("GET /auth/callback", s.pace.limit(s.signedIn))
	mux.HandleFunc("GET /connect/callback", s.connected)
	mux.HandleFunc("GET /evidence/{workspace}/{request}", s.pace.limit(s.evidence))
	mux.HandleFunc("GET /evidence/{workspace}/commits/{commit}", s.pace.limit(s.evidenceOfCommit))
	mux.HandleFunc("GET /receipts/{workspace}/{decision}", s.pace.limit(s.receipt))
	mux.HandleFunc("GET /workspaces/{workspace}/openings", s.pace.limit(s.openings))
	mux.HandleFunc("GET /attestations/keys", s.pace.limit(s.attestationKeys))
	mux.HandleFunc("GET /attestations/{workspace}/{commit}", s.pace.limit(s.attestation))
	mux.HandleFunc("GET /audit/{workspace}/{repository}", s.pace.limit(s.audit))
	mux.HandleFunc("GET "+tiles.Prefix, s.pace.limit(s.tiles.ServeHTTP))
	mux.HandleFunc("GET /pr/{workspace}/{repository}/{number}", s.page("panel"))
	mux.HandleFunc("GET /sign/{workspace}/{repository}/{number}", s.pace.limit(s.withSession(s.page("sign"))))
	mux.HandleFunc("GET /verify", s.verifyPage())
	mux.Handle("GET /assets/", s.assets())
	mux.HandleFunc("GET /livez", s.live)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /", s.page("dashboard"))
	// Webhooks and Forge's calls come from elsewhere by their nature and carry a signature; everything else that
	// changes something must come from our own pages, or from a program that sends no cookie.
	guard := http.NewCrossOriginProtection()
	guard.AddInsecureBypassPattern("POST /hooks/{hook}")
	guard.AddInsecureBypassPattern("POST /forge/")
	return s.behindProxies(s.harden(s.letFramesFollow(s.graph, guard.Handler(mux))))
}

// How long a server takes to stop, at most: what it is being asked gets doorsGrace, then its jobs get jobsGrace, and
// half as long again to be given back. Another server then does what is left.
const (
	doorsGrace = 5 * time.Second
	jobsGrace  = 5 * time.Second
	// stopLimit is the time after which a process that still runs ends itself.
	stopLimit = 20 * time.Second
)

// Run serves until ctx ends, then lets running work end.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		// Who does not take an answer holds nothing up; a stream sets its own for each event.
		WriteTimeout:   90 * time.Second,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(s.graph.Close)
	s.intake.Start()
	if err := s.gate.StartSweeping(ctx); err != nil {
		return fmt.Errorf("start the sweep: %w", err)
	}
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	group, over := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{s.queue.Run, s.bell.Run, s.budget.Run, s.shares.Run, s.publisher.Run, s.followModels} {
		group.Go(func() error {
			if err := part(working); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	<-over.Done() // told to stop, or a part failed
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), doorsGrace)
	defer cancel()
	err := server.Shutdown(last) // first the doors, so that what they took in is committed
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("requests that did not end in time were cut off")
		err = server.Close()
	}
	s.intake.Stop()
	stopWorking()
	return errors.Join(err, group.Wait())
}

// modelsRetry is how long the server waits before it compares verdicts with its metadata of authenticators again where
// that failed.
const modelsRetry = 10 * time.Second

// followModels makes sure once that what is open rests on the metadata that the server has.
func (s *Server) followModels(ctx context.Context) error {
	retry := time.NewTicker(modelsRetry)
	defer retry.Stop()
	for {
		err := s.gate.FollowModels(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.ErrorContext(ctx, "verdicts could not be compared with the metadata of authenticators", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-retry.C:
		}
	}
}

// Close ends the connections to Postgres and Redis.
func (s *Server) Close() {
	if err := s.redis.Close(); err != nil {
		s.log.Warn("close redis", "error", err)
	}
	s.store.Close()
	if s.verifier != nil {
		s.verifier.Close()
	}
}
