package webhook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// maxBody is the longest body that is read unless Options say otherwise, in bytes. Bitbucket sends
	// no more than 256 KB.
	maxBody = 1 << 20
	// readTimeout is how long a body may take to arrive. Bitbucket itself gives up after 10 s.
	readTimeout = 10 * time.Second
	// retryAfter is when a sender that was turned away may come again, in seconds.
	retryAfter = "5"
	// maxEventKey is the longest event key that is stored, in bytes.
	maxEventKey = 100
	// otherEvent is the label of every event that is not understood: labels must stay few.
	otherEvent = "other"
)

// Options are what the door needs.
type Options struct {
	Store  *store.Store  // required
	Intake *store.Intake // required, and started
	// MaxBody is the longest body that is read, in bytes; 1 MiB.
	MaxBody int64
	Log     *slog.Logger // slog.Default()
	// Observe is told of each delivery: the event key, "other" for one that is not understood or not
	// proven; how it ended, one of the Outcomes; and how long it took. For metrics; nil tells nobody.
	Observe func(event, outcome string, took time.Duration)
	// Now is the clock; time.Now.
	Now func() time.Time
}

// How a delivery ended, as told to Options.Observe.
const (
	OutcomeParsed       = "parsed"        // stored; its jobs are asked for
	OutcomeUnknownEvent = "unknown_event" // stored, and nothing asked for
	OutcomeUnparsable   = "unparsable"    // stored; the repository will be reconciled
	OutcomeUnproven     = "unproven"      // refused: no such webhook, or a wrong signature
	OutcomeMalformed    = "malformed"     // refused: nothing that Bitbucket sends
	OutcomeTurnedAway   = "turned_away"   // not now: too many, or the database is away
)

// outcomes are what becomes of what is stored.
var outcomes = map[string]string{
	store.DeliveryParsed: OutcomeParsed, store.DeliveryUnknownEvent: OutcomeUnknownEvent, store.DeliveryUnparsable: OutcomeUnparsable,
}

// Door takes webhooks in. It is safe for concurrent use.
type Door struct {
	options   Options
	endpoints *endpoints
}

// New makes the door. It is mounted at /hooks/{hook}, where hook is the id of a webhook endpoint.
//
// It answers 204 once the delivery, or its first copy, is committed; 503 with Retry-After when it
// cannot commit now, also where it may have committed: a repeat is a no-op. Everything else is a
// refusal, and nothing is stored: 401 for a signature that is absent or wrong, 404 for a webhook that
// does not exist, 405, 408, 413, 415, and 400 for absent headers. A body that is signed but not
// understood is stored and answered with 204. Refusals are JSON: {"error":{"code","message"}}.
func New(options Options) *Door {
	if options.Store == nil || options.Intake == nil {
		panic("webhook: Options need a Store and an Intake")
	}
	options.MaxBody = cmp.Or(options.MaxBody, maxBody)
	options.Log = cmp.Or(options.Log, slog.Default())
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Door{options: options, endpoints: newEndpoints(options.Store, options.Now)}
}

// refusal is an answer other than 2xx.
type refusal struct {
	status        int
	code, message string
	outcome       string
}

var (
	wrongMethod    = &refusal{http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "Webhooks are posted.", OutcomeMalformed}
	noSuchHook     = &refusal{http.StatusNotFound, "NOT_FOUND", "There is no such webhook.", OutcomeUnproven}
	wrongMediaType = &refusal{http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "The body must be plain application/json.", OutcomeMalformed}
	tooLarge       = &refusal{http.StatusRequestEntityTooLarge, "TOO_LARGE", "The body is too large.", OutcomeMalformed}
	incomplete     = &refusal{http.StatusRequestTimeout, "INCOMPLETE", "The body did not arrive.", OutcomeMalformed}
	wrongSignature = &refusal{http.StatusUnauthorized, "WRONG_SIGNATURE", "X-Hub-Signature is absent or wrong.", OutcomeUnproven}
	noRequestUUID  = &refusal{http.StatusBadRequest, "NO_REQUEST_UUID", "X-Request-UUID must be one UUID.", OutcomeMalformed}
	noEventKey     = &refusal{http.StatusBadRequest, "NO_EVENT_KEY", "X-Event-Key must be the key of one event.", OutcomeMalformed}
	notNow         = &refusal{http.StatusServiceUnavailable, "TRY_AGAIN", "The delivery cannot be stored now.", OutcomeTurnedAway}
)

// ServeHTTP takes one delivery in.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := d.options.Now()
	delivery, no := d.take(w, r)
	if no == nil {
		no = d.commit(r, delivery)
	}
	outcome := outcomes[delivery.Outcome]
	if no != nil {
		outcome = no.outcome
		no.write(w)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	event := otherEvent
	if _, ok := kinds[delivery.EventKey]; ok {
		event = delivery.EventKey
	}
	if d.options.Observe != nil {
		d.options.Observe(event, outcome, d.options.Now().Sub(start))
	}
}

func (no *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	switch no {
	case wrongMethod:
		w.Header().Set("Allow", http.MethodPost)
	case notNow:
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(no.status)
	type problem struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	// The sender that went away misses nothing that it needs.
	_ = json.NewEncoder(w).Encode(map[string]problem{"error": {no.code, no.message}})
}

// take proves the sender and reads what it sent. Of an unproven sender nothing is kept or logged but
// the id of the webhook that it claims to be.
func (d *Door) take(w http.ResponseWriter, r *http.Request) (store.Delivery, *refusal) {
	id := r.PathValue("hook")
	bare, isUUID := bitbucket.BareUUID(id)
	switch {
	case r.Method != http.MethodPost:
		return store.Delivery{}, wrongMethod
	case !isUUID || bare != id:
		return store.Delivery{}, noSuchHook
	case !plainJSON(r.Header):
		return store.Delivery{}, wrongMediaType
	case r.ContentLength > d.options.MaxBody:
		return store.Delivery{}, tooLarge
	}
	endpoint, err := d.endpoints.find(context.WithoutCancel(r.Context()), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.Delivery{}, noSuchHook
	case err != nil:
		d.options.Log.With("hook", id).ErrorContext(r.Context(), "webhook turned away: its endpoint cannot be read", "error", err)
		return store.Delivery{}, notNow
	}
	// Almost always there is nothing to say.
	log := func() *slog.Logger {
		return d.options.Log.With("hook", id, "workspace", endpoint.WorkspaceID, "repository", endpoint.RepositoryID)
	}

	// The connection has its own clock. Not every ResponseWriter has a connection; the server's has.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	raw, err := readAll(http.MaxBytesReader(w, r.Body, d.options.MaxBody), r.ContentLength)
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return store.Delivery{}, tooLarge
	case err != nil:
		return store.Delivery{}, incomplete
	case !signed(r.Header, endpoint.Secret, raw):
		log().WarnContext(r.Context(), "webhook refused: its signature is absent or wrong")
		return store.Delivery{}, wrongSignature
	}

	delivery := store.Delivery{
		Workspace: endpoint.WorkspaceID, Repository: endpoint.RepositoryID, Attempt: attempt(r.Header), Body: raw,
	}
	var ok bool
	if delivery.RequestUUID, ok = bitbucket.BareUUID(only(r.Header, "X-Request-UUID")); !ok {
		log().WarnContext(r.Context(), "webhook refused: it has no X-Request-UUID, so that a repeat could not be told")
		return store.Delivery{}, noRequestUUID
	}
	if delivery.EventKey = only(r.Header, "X-Event-Key"); !isEventKey(delivery.EventKey) {
		log().WarnContext(r.Context(), "webhook refused: it has no X-Event-Key")
		return store.Delivery{}, noEventKey
	}
	d.read(r, &delivery, func() *slog.Logger { return log().With("event", delivery.EventKey, "request", delivery.RequestUUID) })
	return delivery, nil
}

// readAll reads a body into what its sender said to send; below zero, where it did not say. Nothing is proven yet, so
// that what is long gets its place only as it comes.
func readAll(body io.Reader, length int64) ([]byte, error) {
	const most = 32 << 10
	var raw bytes.Buffer
	raw.Grow(int(min(max(length, 0), most)) + bytes.MinRead) // the end is read too
	_, err := raw.ReadFrom(body)
	return raw.Bytes(), err
}

// read decides what a delivery asks for. Whatever is wrong with a body whose sender is proven, it is
// kept, and the repository is looked at as a whole.
func (d *Door) read(r *http.Request, delivery *store.Delivery, log func() *slog.Logger) {
	event, err := Parse(delivery.EventKey, delivery.Body)
	if err == nil && event.RepositoryUUID != "" && event.RepositoryUUID != delivery.Repository {
		err = errors.New("webhook: the event of another repository")
	}
	switch {
	case errors.Is(err, ErrUnknownEvent):
		delivery.Outcome = store.DeliveryUnknownEvent
		log().InfoContext(r.Context(), "webhook of an unknown event stored")
	case err != nil:
		delivery.Outcome = store.DeliveryUnparsable
		delivery.Jobs = []store.JobSpec{store.AskReconcile(delivery.Workspace, delivery.Repository)}
		log().WarnContext(r.Context(), "webhook cannot be parsed; the repository will be reconciled", "error", err)
	default:
		delivery.Outcome = store.DeliveryParsed
		delivery.Jobs = event.jobs(delivery.Workspace, delivery.Repository)
	}
}

// commit returns nil once the delivery is stored.
func (d *Door) commit(r *http.Request, delivery store.Delivery) *refusal {
	// A sender that hangs up must not make a delivery look lost: the intake bounds the wait.
	ctx := context.WithoutCancel(r.Context())
	err := d.options.Intake.Accept(ctx, delivery)
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrBusy) {
		d.options.Log.ErrorContext(ctx, "webhook turned away: it cannot be stored", "repository", delivery.Repository,
			"event", delivery.EventKey, "request", delivery.RequestUUID, "error", err)
	}
	return notNow
}

// plainJSON tells whether the body is JSON as it is: the signature is over what was sent, so nothing
// is unpacked.
func plainJSON(header http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(only(header, "Content-Type"))
	encoding := header.Get("Content-Encoding")
	return err == nil && mediaType == "application/json" && (encoding == "" || strings.EqualFold(encoding, "identity"))
}

// only is a header that was sent once; else "".
func only(header http.Header, name string) string {
	if values := header.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

// attempt is which try of Bitbucket's this is, from 1 on.
func attempt(header http.Header) int {
	n, err := strconv.ParseInt(only(header, "X-Attempt-Number"), 10, 16)
	if err != nil || n < 1 {
		return 1
	}
	return int(n)
}

// isEventKey tells whether a key can be stored as it is: printable ASCII of some length.
func isEventKey(key string) bool {
	return key != "" && len(key) <= maxEventKey && !strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' })
}
