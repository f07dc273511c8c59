// Package refusal is how a use case says no: a stable code for programs, a safe sentence for
// people, and a cause for the log alone.
package refusal

import (
	"errors"
	"fmt"
)

// Codes that more than one use case gives. A code is stable; its message may be reworded.
const (
	// NotFound is also the answer for what the caller may not see.
	NotFound = "NOT_FOUND"
	// Forbidden is for what the caller may see but not do.
	Forbidden = "FORBIDDEN"
	// BadInput is for input that cannot be understood; the path names the field.
	BadInput = "BAD_INPUT"
	// Busy asks the caller to try again: a lease is held, or a limit is reached for now.
	Busy = "TRY_AGAIN"
	// BitbucketUnavailable says that Bitbucket could not be asked; nothing was changed.
	BitbucketUnavailable = "BITBUCKET_UNAVAILABLE"
	// NeedsReconnecting says that the workspace's connection is dead until an administrator reconnects.
	NeedsReconnecting = "NEEDS_RECONNECTING"
	// WaitingForToken says that the workspace's app may not be asked by us until Bitbucket calls again and
	// brings a token, which it does at least each hour. What was to be written is written then.
	WaitingForToken = "WAITING_FOR_TOKEN"
	// AwaitingConfirmation says that the app was installed in a workspace that was gated before, and that
	// an administrator has not confirmed yet that the two go together.
	AwaitingConfirmation = "AWAITING_CONFIRMATION"
)

// Error is a refusal. Message is shown to the caller as it is and must never hold a secret.
type Error struct {
	Code    string
	Message string
	Path    []string // the input field at fault, outermost first; empty where it is not about one
	cause   error
}

// New makes a refusal without a cause.
func New(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// At names the input field at fault.
func (e *Error) At(path ...string) *Error { e.Path = path; return e }

// Because attaches the cause, for the log.
func (e *Error) Because(cause error) *Error { e.cause = cause; return e }

// Error is for the log: it holds the cause, so it is not for the caller.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Code + ": " + e.Message + ": " + e.cause.Error()
	}
	return e.Code + ": " + e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// Code gives the code of the refusal in err's chain, or "" where there is none: then the caller is
// told of an internal error and nothing else.
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Of gives the refusal in err's chain, nil where there is none.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
