package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/atlassian"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// maxBody is the longest body that is read unless Options say otherwise, in bytes.
	maxBody = 1 << 20
	// patience is how long a call takes at most. Forge gives up after 5 s.
	patience = 4 * time.Second
	// farewell is how long the last call before an uninstallation takes at most. Forge gives it 55 s.
	farewell = 50 * time.Second
	// readTimeout is how long a body may take to arrive.
	readTimeout = 3 * time.Second
	// retryAfter is when a sender that was turned away may come again, in seconds.
	retryAfter = "5"
	// otherEvent is the label of every event that is not understood or not proven: labels must stay few.
	otherEvent = "other"
)

// Options are what the door needs. All functions are required but Observe and Now.
type Options struct {
	Verifier *atlassian.Verifier
	Store    *store.Store
	Intake   *store.Intake // started

	// Invoked takes note of every proven call before anything else is done with it.
	Invoked func(ctx context.Context, inv atlassian.Invocation, systemToken string, expires time.Time) (store.Installation, error)
	// Installed, Upgraded, Uninstalling and Scheduled follow what they are called after. The account
	// id of who installed is "" where the event names nobody.
	Installed    func(ctx context.Context, inv atlassian.Invocation, installer string) error
	Upgraded     func(ctx context.Context, inv atlassian.Invocation) error
	Uninstalling func(ctx context.Context, inv atlassian.Invocation, systemToken string, expires time.Time) error
	Scheduled    func(ctx context.Context, inv atlassian.Invocation) error
	// MergeCheck answers whether a pull request may be merged.
	MergeCheck func(ctx context.Context, q gate.MergeQuestion) gate.MergeAnswer

	// MaxBody is the longest body that is read, in bytes; 1 MiB.
	MaxBody int64
	// Patience is how long a call takes at most, but for the last one of an installation; 4 s.
	Patience time.Duration
	Log      *slog.Logger // slog.Default()
	// Observe is told of each call: the name of the event, "merge-check", "scheduled", or "other" for
	// one that is not understood or not proven; how it ended, one of the Outcomes; and how long it took.
	Observe func(event, outcome string, took time.Duration)
	// Now is the clock; time.Now.
	Now func() time.Time
}

// How a call ended, as told to Options.Observe.
const (
	OutcomeParsed       = "parsed"        // stored; its jobs are asked for
	OutcomeUnknownEvent = "unknown_event" // stored, and nothing asked for
	OutcomeUnparsable   = "unparsable"    // stored; the repository will be reconciled
	OutcomeNotGated     = "not_gated"     // not stored: nothing of the repository is gated
	OutcomeFollowed     = "followed"      // installed, upgraded, uninstalling, scheduled: done
	OutcomeAllowed      = "allowed"       // the merge check said yes
	OutcomeDenied       = "denied"        // the merge check said no
	OutcomeOver         = "over"          // not followed: the installation is over
	OutcomeUnproven     = "unproven"      // refused: no good invocation token
	OutcomeForbidden    = "forbidden"     // refused: another module's call, or another workspace's body
	OutcomeMalformed    = "malformed"     // refused: nothing that Forge sends
	OutcomeTurnedAway   = "turned_away"   // not now: keys or database are away
)

// outcomes are what becomes of what is stored.
var outcomes = map[string]string{
	store.DeliveryParsed: OutcomeParsed, store.DeliveryUnknownEvent: OutcomeUnknownEvent, store.DeliveryUnparsable: OutcomeUnparsable,
}

// Door takes Forge's calls in. Each method is the handler of one endpoint of the manifest. It is safe
// for concurrent use.
//
// A call without a good invocation token is answered 401, which means nothing else, and 503 where that
// cannot be told. Of the others, 2xx says that the call, or its first copy, was done; 403 that a good
// token came with what it does not stand for; 503 with Retry-After that it could not be done now: a
// repeat is a no-op. Further refusals are 405, 408, 413 and 415. They are JSON:
// {"error":{"code","message"}}. The merge check answers every good token with 200.
type Door struct{ options Options }

// New makes the door.
func New(options Options) *Door {
	o := options
	if o.Verifier == nil || o.Store == nil || o.Intake == nil || o.Invoked == nil || o.Installed == nil || o.Upgraded == nil ||
		o.Uninstalling == nil || o.Scheduled == nil || o.MergeCheck == nil {
		panic("forge: Options are incomplete")
	}
	o.MaxBody = cmp.Or(o.MaxBody, maxBody)
	o.Patience = cmp.Or(o.Patience, patience)
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Door{o}
}

// refused is an answer other than 2xx, of a call that is not done.
type refused struct {
	status        int
	code, message string
	outcome       string
}

var (
	wrongMethod    = &refused{http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "Forge's calls are posted.", OutcomeMalformed}
	noToken        = &refused{http.StatusUnauthorized, "INVOCATION_TOKEN", "The Forge invocation token is absent or not good.", OutcomeUnproven}
	noKeys         = &refused{http.StatusServiceUnavailable, "TRY_AGAIN", "The Forge invocation token cannot be checked now.", OutcomeTurnedAway}
	wrongModule    = &refused{http.StatusForbidden, "WRONG_MODULE", "This is not the module that makes this call.", OutcomeForbidden}
	otherWorkspace = &refused{http.StatusForbidden, "OTHER_WORKSPACE", "The body is about another workspace than the invocation token.", OutcomeForbidden}
	otherInstall   = &refused{http.StatusForbidden, "OTHER_INSTALLATION", "The body is about another installation than the invocation token.", OutcomeForbidden}
	wrongMediaType = &refused{http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "The body must be plain application/json.", OutcomeMalformed}
	tooLarge       = &refused{http.StatusRequestEntityTooLarge, "TOO_LARGE", "The body is too large.", OutcomeMalformed}
	incomplete     = &refused{http.StatusRequestTimeout, "INCOMPLETE", "The body did not arrive.", OutcomeMalformed}
	notNow         = &refused{http.StatusServiceUnavailable, "TRY_AGAIN", "The call cannot be followed now.", OutcomeTurnedAway}
)

func (no *refused) write(w http.ResponseWriter) {
	switch no.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	}
	type problem struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	write(w, no.status, map[string]problem{"error": {no.code, no.message}})
}

func write(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The sender that went away misses nothing that it needs.
	_ = json.NewEncoder(w).Encode(value)
}

// call is one call of Forge's, as far as it is understood.
type call struct {
	w     http.ResponseWriter
	r     *http.Request
	start time.Time
	log   *slog.Logger

	inv          atlassian.Invocation
	installation store.Installation
	systemToken  string // "" where none came; never logged
	tokenExpires time.Time
	raw          []byte // the body
}

// handle does what is common to all calls: prove, read, do, answer. do gives the event's label and how
// it ended; no answer of its own is 204.
func (d *Door) handle(w http.ResponseWriter, r *http.Request, endpoint string, do func(context.Context, *call) (event, outcome string, no *refused)) {
	c := &call{w: w, r: r, start: d.options.Now(), log: d.options.Log}
	// A sender that hangs up must not make a call look lost.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), d.options.Patience)
	defer cancel()
	event, outcome := otherEvent, ""
	no := d.prove(ctx, c)
	if no == nil {
		no = d.admit(ctx, c, endpoint)
	}
	if no == nil {
		no = d.read(c)
	}
	switch {
	case no != nil:
	case c.installation.Over():
		c.log.InfoContext(ctx, "call of an installation that is over not followed")
		outcome = OutcomeOver
	default:
		event, outcome, no = do(ctx, c)
	}
	if no != nil {
		outcome = no.outcome
		no.write(w)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	d.observe(c, event, outcome)
}

func (d *Door) observe(c *call, event, outcome string) {
	if d.options.Observe != nil {
		d.options.Observe(event, outcome, d.options.Now().Sub(c.start))
	}
}

// prove tells whose call it is. Of an unproven one nothing is kept or logged but why it is none.
func (d *Door) prove(ctx context.Context, c *call) *refused {
	if c.r.Method != http.MethodPost {
		return wrongMethod
	}
	token, _ := atlassian.Bearer(c.r.Header)
	inv, err := d.options.Verifier.Verify(ctx, token)
	var bad *atlassian.Refused
	switch {
	case errors.As(err, &bad):
		return noToken // the verifier has logged why
	case err != nil:
		c.log.ErrorContext(ctx, "Forge's call turned away: its invocation token cannot be checked", "error", err)
		return noKeys
	}
	c.inv = inv
	c.log = c.log.With("workspace", inv.Workspace, "installation", inv.InstallationID, "invocation", inv.ID)
	return nil
}

// admit lets a call in that the right module made, and takes note of it.
func (d *Door) admit(ctx context.Context, c *call, endpoint string) *refused {
	if !through(endpoint, c.inv.ModuleKey) {
		c.log.WarnContext(ctx, "Forge's call refused: another module made it", "endpoint", endpoint, "module", c.inv.ModuleKey,
			"principal", c.inv.Principal)
		return wrongModule
	}
	c.systemToken, c.tokenExpires = atlassian.SystemToken(c.r.Header, d.options.Now())
	if c.systemToken == "" && len(c.r.Header.Values("X-Forge-Oauth-System")) > 0 {
		c.log.WarnContext(ctx, "system token left out: it does not say in a readable way that it still lives")
	}
	var err error
	if c.installation, err = d.options.Invoked(ctx, c.inv, c.systemToken, c.tokenExpires); err != nil {
		return c.failed(ctx, "the installation cannot be noted", err)
	}
	return nil
}

// failed is the answer to a call that a use case could not follow, or does not want to.
func (c *call) failed(ctx context.Context, what string, err error) *refused {
	if no := refusal.Of(err); no != nil && no.Code != refusal.Busy && no.Code != refusal.BitbucketUnavailable {
		c.log.WarnContext(ctx, "Forge's call refused: "+what, "error", err)
		return &refused{http.StatusForbidden, no.Code, no.Message, OutcomeForbidden}
	}
	c.log.ErrorContext(ctx, "Forge's call turned away: "+what, "error", err)
	return notNow
}

// read reads the body.
func (d *Door) read(c *call) *refused {
	switch {
	case !plainJSON(c.r.Header):
		return wrongMediaType
	case c.r.ContentLength > d.options.MaxBody:
		return tooLarge
	}
	// The connection has its own clock. Not every ResponseWriter has a connection; the server's has.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(readTimeout))
	var err error
	c.raw, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, d.options.MaxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge
	case err != nil:
		return incomplete
	}
	return nil
}

func plainJSON(header http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	encoding := header.Get("Content-Encoding")
	return err == nil && mediaType == "application/json" && len(header.Values("Content-Type")) == 1 &&
		(encoding == "" || strings.EqualFold(encoding, "identity"))
}

// Events takes in what happened in Bitbucket. It is mounted at /forge/events. Events of repositories
// that are not gated are answered and forgotten.
func (d *Door) Events(w http.ResponseWriter, r *http.Request) {
	d.handle(w, r, EndpointEvents, d.takeIn)
}

func (d *Door) takeIn(ctx context.Context, c *call) (string, string, *refused) {
	event, err := Parse(c.raw)
	label := otherEvent
	if event.Kind != "" {
		label = event.Name
	}
	log := c.log.With("event", label, "repository", event.RepositoryUUID, "attempt", event.Attempt)
	if event.WorkspaceUUID != "" && event.WorkspaceUUID != c.inv.Workspace {
		log.WarnContext(ctx, "event refused: it is about another workspace than its token", "named", event.WorkspaceUUID)
		return label, "", otherWorkspace
	}
	gated := false
	if event.RepositoryUUID != "" {
		var readErr error
		if gated, readErr = d.gated(ctx, c.inv.Workspace, event.RepositoryUUID); readErr != nil {
			log.ErrorContext(ctx, "event turned away: its repository cannot be read", "error", readErr)
			return label, "", notNow
		}
	}
	delivery := store.Delivery{
		RequestUUID: deliveryID(c.inv, c.raw, event.Dated), Workspace: c.inv.Workspace, Repository: cmp.Or(event.RepositoryUUID, nowhere),
		EventKey: event.Name, Attempt: event.Attempt, Body: c.raw,
	}
	if !isEventName(event.Name) {
		delivery.EventKey = noName
	}
	unknown := errors.Is(err, ErrUnknownEvent)
	switch {
	case !gated && (err == nil || unknown || event.RepositoryUUID != ""):
		return label, OutcomeNotGated, nil
	case unknown:
		delivery.Outcome = store.DeliveryUnknownEvent
		log.InfoContext(ctx, "unknown event stored")
	case err != nil:
		delivery.Outcome = store.DeliveryUnparsable
		if gated {
			delivery.Jobs = []store.JobSpec{store.AskReconcile(delivery.Workspace, delivery.Repository)}
		}
		log.WarnContext(ctx, "event cannot be parsed; its repository will be reconciled where it is gated", "gated", gated, "error", err)
	default:
		delivery.Outcome = store.DeliveryParsed
		delivery.Jobs = event.jobs()
	}
	if err := d.options.Intake.Accept(ctx, delivery); err != nil {
		if !errors.Is(err, store.ErrBusy) {
			log.ErrorContext(ctx, "event turned away: it cannot be stored", "error", err)
		}
		return label, "", notNow
	}
	return label, outcomes[delivery.Outcome], nil
}

// gated tells whether a repository of a workspace is gated.
func (d *Door) gated(ctx context.Context, workspace, repository string) (bool, error) {
	err := d.options.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		_, err := tx.RepositoryConfig(ctx, repository)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// isEventName tells whether a name can be stored as it is: printable ASCII of some length.
func isEventName(name string) bool {
	return name != "" && len(name) <= maxEventName && !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' })
}
