package graph

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	graphql "github.com/graph-gophers/graphql-go"
	gqlerrors "github.com/graph-gophers/graphql-go/errors"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// Codes of requests that were refused before anything ran. A code is stable; its message may be
// reworded. Codes of use cases come from package refusal and their own packages.
const (
	codeBadRequest          = "BAD_REQUEST"
	codeParseFailed         = "GRAPHQL_PARSE_FAILED"
	codeValidationFailed    = "GRAPHQL_VALIDATION_FAILED"
	codeNotFoundDocument    = "PERSISTED_QUERY_NOT_FOUND"
	codeNotRegistered       = "OPERATION_NOT_REGISTERED"
	codeOperationResolution = "OPERATION_RESOLUTION_FAILURE"
	codeOperationKind       = "OPERATION_KIND"
	codeBadUserInput        = "BAD_USER_INPUT"
	codeUnauthenticated     = "UNAUTHENTICATED"
	codeForbidden           = "FORBIDDEN"
	codeTooComplex          = "QUERY_TOO_COMPLEX"
	codeTooLarge            = "REQUEST_TOO_LARGE"
	codeTooMany             = "TOO_MANY_REQUESTS"
	codeTooManyStreams      = "TOO_MANY_STREAMS"
	codeOverloaded          = "OVERLOADED"
	codeTimeout             = "TIMEOUT"
	codeInternal            = "INTERNAL"
)

// requestError refuses a request as a whole: nothing ran.
type requestError struct {
	code      string
	message   string
	locations []location // in the caller's document
	status    int        // 0: by the code
	trace     string     // of an internal failure, in the log; else ""
}

type location struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

func refused(code, format string, args ...any) *requestError {
	return &requestError{code: code, message: fmt.Sprintf(format, args...)}
}

func (e *requestError) with(status int) *requestError { e.status = status; return e }

func (e *requestError) httpStatus() int {
	if e.status != 0 {
		return e.status
	}
	switch e.code {
	case codeUnauthenticated:
		return http.StatusUnauthorized
	case codeForbidden, codeNotRegistered:
		return http.StatusForbidden
	case codeTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeTooMany, codeTooManyStreams:
		return http.StatusTooManyRequests
	case codeOverloaded, codeTimeout:
		return http.StatusServiceUnavailable
	case codeInternal:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// comesAgain tells whether the same request may be answered later, so that the answer says in how many seconds.
func (e *requestError) comesAgain() bool {
	switch e.code {
	case codeTooMany, codeTooManyStreams, codeOverloaded, refusal.Busy:
		return true
	}
	return false
}

// answer is what a request gets: data, errors, or both.
type answer struct {
	Data   json.RawMessage `json:"data,omitempty"`
	Errors []answerError   `json:"errors,omitempty"`
}

type answerError struct {
	Message    string         `json:"message"`
	Locations  []location     `json:"locations,omitempty"`
	Path       []any          `json:"path,omitempty"` // of the field
	Extensions map[string]any `json:"extensions"`     // "code", always
}

func (e *requestError) answer() *answer {
	extensions := map[string]any{"code": e.code}
	if e.trace != "" {
		extensions["traceId"] = e.trace
	}
	return &answer{Errors: []answerError{{Message: e.message, Locations: e.locations, Extensions: extensions}}}
}

// mask makes the answer of what the executor gave. Refusals show their code and message; of everything
// else the caller learns a trace id, and the log the cause, once.
func mask(ctx context.Context, log *slog.Logger, op *admitted, response *graphql.Response) *answer {
	masked := &answer{Data: response.Data}
	if len(response.Errors) == 0 {
		return masked
	}
	if ctx.Err() != nil { // the executor gives up on all fields at once
		if !errors.Is(ctx.Err(), context.Canceled) {
			log.WarnContext(ctx, "graphql operation ran out of time", "operation", op.name, "field", op.root)
		}
		return refused(codeTimeout, "The request took too long; what it was to change may or may not have changed.").answer()
	}
	for _, failure := range response.Errors {
		masked.Errors = append(masked.Errors, maskOne(ctx, log, op, failure))
	}
	return masked
}

func maskOne(ctx context.Context, log *slog.Logger, op *admitted, failure *gqlerrors.QueryError) answerError {
	if no := refusal.Of(failure.ResolverError); no != nil {
		return answerError{Message: no.Message, Path: failure.Path, Extensions: map[string]any{"code": no.Code}}
	}
	if failure.Rule == "OverlapValidationLimitExceeded" {
		return answerError{Message: "The operation selects the same fields too often.", Extensions: map[string]any{"code": codeTooComplex}}
	}
	trace := newTrace()
	cause := failure.ResolverError
	if cause == nil {
		cause = failure
	}
	if store.Unavailable(cause) {
		log.ErrorContext(ctx, "graphql field failed: the database can do nothing now", "trace", trace, "operation", op.name, "field", op.root, "path", failure.Path, "error", cause)
		return answerError{Message: unavailableMessage, Path: failure.Path, Extensions: map[string]any{"code": refusal.Busy, "traceId": trace}}
	}
	log.ErrorContext(ctx, "graphql field failed", "trace", trace, "operation", op.name, "field", op.root, "path", failure.Path, "error", cause)
	return answerError{Message: internalMessage, Path: failure.Path, Extensions: map[string]any{"code": codeInternal, "traceId": trace}}
}

const unavailableMessage = "The database can do nothing now. What was to be changed may or may not have changed; try again in a moment."

const internalMessage = "Something went wrong here. The trace id finds the cause in the server's log."

// newTrace names one failure, for the caller to quote and the log to be searched for.
func newTrace() string {
	var id [8]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
