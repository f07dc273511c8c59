package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// retryAfter is in how many seconds to come again where nobody knows: as long as an operation waits for its turn.
const retryAfter = "5"

// deadline bounds one query, one mutation and one event of a subscription.
const deadline = 20 * time.Second

// Handler answers POST /graphql. It is safe for concurrent use.
type Handler struct {
	engine         *engine
	identify       func(*http.Request) (Caller, error)
	registeredOnly bool
	allow          func(ctx context.Context, caller string, points int) bool
	topics         topics
	log            *slog.Logger
	pace           pace

	meter  *meter
	places *places

	closing   chan struct{} // closed by Close; ends all streams
	closeOnce sync.Once
}

// ServeHTTP answers one operation. GraphQL errors come with status 200; a request that was refused as
// a whole comes with the status of its reason.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.recover(w, r)
	w.Header().Set("Cache-Control", "no-store")
	read, no := readRequest(w, r)
	if no != nil {
		h.refuse(w, no)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), deadline)
	defer cancel()
	caller, no := h.caller(ctx, r)
	if no != nil {
		h.refuse(w, no)
		return
	}
	key := caller.key(r)
	if no := h.meter.spend(key, entryCost, w.Header()); no != nil {
		h.refuse(w, no)
		return
	}
	op, no := h.engine.admit(read, caller, h.registeredOnly && caller.Kind != Token)
	if no == nil {
		no = caller.mayRun(op)
	}
	if no == nil {
		no = h.rightDoor(op, wantsStream(r))
	}
	if no == nil {
		no = h.spend(ctx, key, op, w.Header())
	}
	if no != nil {
		h.refuse(w, no)
		return
	}
	if op.kind == ast.Subscription {
		h.stream(w, r, op, caller, key)
		return
	}
	ran, no := h.execute(ctx, op, caller, key)
	if no != nil {
		h.refuse(w, no)
		return
	}
	h.write(w, http.StatusOK, ran)
}

// rightDoor keeps each kind of operation to its way of answering.
func (h *Handler) rightDoor(op *admitted, streaming bool) *requestError {
	switch {
	case op.kind == ast.Subscription && !streaming:
		return refused(codeOperationKind, "A subscription is a stream: ask with Accept: text/event-stream.")
	case op.kind != ast.Subscription && streaming:
		return refused(codeOperationKind, "A %s is answered with JSON: ask with Accept: application/json.", op.kind)
	}
	return nil
}

// spend charges the operation's cost, here and where all replicas count together.
func (h *Handler) spend(ctx context.Context, key string, op *admitted, header http.Header) *requestError {
	if no := h.meter.spend(key, max(0, op.cost-entryCost), header); no != nil {
		return no
	}
	if h.allow != nil && !h.allow(ctx, key, max(entryCost, op.cost)) {
		return refused(codeTooMany, "Too much was asked for in a short time. Try again later.")
	}
	return nil
}

// execute runs an operation, or one event of a subscription, when its turn comes. key names the caller.
func (h *Handler) execute(ctx context.Context, op *admitted, caller Caller, key string) (*answer, *requestError) {
	leave, no := h.places.take(ctx, party(caller, key), op.kind == ast.Subscription)
	if no != nil {
		return nil, no
	}
	defer leave()
	ctx = withCaller(ctx, caller)
	return mask(ctx, h.log, op, h.engine.run(ctx, op)), nil
}

// caller makes out who calls. A token that is not valid is told so; a fault is not.
func (h *Handler) caller(ctx context.Context, r *http.Request) (Caller, *requestError) {
	caller, err := h.identify(r.WithContext(ctx))
	if err == nil {
		err = caller.sound()
	}
	if err == nil {
		return caller, nil
	}
	if no := refusal.Of(err); no != nil {
		switch no.Code {
		case people.CodeTokenInvalid: // and of nothing else: Forge takes 401 for that
			return caller, refused(codeUnauthenticated, "%s", no.Message)
		case refusal.Forbidden: // it is valid, and of no use here
			return caller, refused(codeForbidden, "%s", no.Message).with(http.StatusForbidden)
		}
		// It may be valid: nobody can say just now.
		return caller, refused(no.Code, "%s", no.Message).with(http.StatusServiceUnavailable)
	}
	return caller, h.fault(ctx, "identify the caller", err)
}

func (h *Handler) fault(ctx context.Context, what string, err error) *requestError {
	trace := newTrace()
	h.log.ErrorContext(ctx, "graphql request failed", "trace", trace, "step", what, "error", err)
	no := refused(codeInternal, internalMessage)
	if store.Unavailable(err) {
		no = refused(refusal.Busy, unavailableMessage).with(http.StatusServiceUnavailable)
	}
	no.trace = trace
	return no
}

func (h *Handler) recover(w http.ResponseWriter, r *http.Request) {
	value := recover()
	if value == nil {
		return
	}
	if err, ok := value.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(value)
	}
	h.refuse(w, h.fault(r.Context(), "answer", &panicError{value: value, stack: debug.Stack()}))
}

func (h *Handler) refuse(w http.ResponseWriter, no *requestError) {
	// Where it is known when to come again, the header says so already.
	if no.comesAgain() && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	if no.httpStatus() == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	h.write(w, no.httpStatus(), no.answer())
}

func (h *Handler) write(w http.ResponseWriter, status int, a *answer) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// A client that has gone away is no fault of ours.
	_, _ = w.Write(append(encode(a), '\n'))
}

// encode gives the answer in one line, as it is also needed in an event.
func encode(a *answer) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(a); err != nil { // the executor wrote its data as JSON
		panic(err)
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

// Close ends all streams and refuses new ones, so that a server can shut down.
func (h *Handler) Close() { h.closeOnce.Do(func() { close(h.closing) }) }
