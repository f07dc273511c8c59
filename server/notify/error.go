package notify

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/textproto"
	"strings"

	smtp "github.com/wneessen/go-mail"
)

// The steps of sending that go-mail does not name.
const (
	stepWrite   = "writing the mail"
	stepConnect = "connecting to the mail server"
)

// Error is why a mail was not sent. It names neither the recipient nor the password, nor anything that
// the server wrote: a server may quote both.
type Error struct {
	// Step is what was being done.
	Step string
	// Code is the server's answer, such as 550; 0 where there is none.
	Code int
	// EnhancedCode is the server's finer answer, such as "5.1.1"; "" where there is none.
	EnhancedCode string
	// Reason is what went wrong on our side or on the way; "" where the server refused.
	Reason string

	permanent bool
	cause     error
}

// Error is one line for the log.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("notify: " + e.Step)
	if e.Code != 0 {
		fmt.Fprintf(&b, ": refused with %d", e.Code)
	}
	if e.EnhancedCode != "" {
		b.WriteString(" " + e.EnhancedCode)
	}
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	}
	return b.String()
}

// Unwrap gives context.DeadlineExceeded or context.Canceled where one of them ended the sending.
func (e *Error) Unwrap() error { return e.cause }

// Permanent tells that sending this mail again cannot help: its recipient is no address, or the server
// refused it for good (5xx). A server that refuses us altogether, at its greeting, at TLS or at the
// login, may be set right: such an error is not permanent.
func (e *Error) Permanent() bool { return e.permanent }

// Transient is the opposite of Permanent.
func (e *Error) Transient() bool { return !e.permanent }

// failure turns go-mail's error into ours.
func (m *Mail) failure(ctx context.Context, err error) *Error {
	var send *smtp.SendError
	if errors.As(err, &send) {
		e := &Error{Step: send.Reason.String(), Code: send.ErrorCode(), EnhancedCode: send.EnhancedStatusCode()}
		e.permanent = e.Code >= 500
		if e.Code == 0 {
			e.Reason = "the conversation broke off"
			e.ended(ctx)
		}
		return e
	}
	e := &Error{Step: stepConnect}
	var answer *textproto.Error
	if errors.As(err, &answer) {
		e.Code = answer.Code
		return e
	}
	e.Reason = m.clean(err.Error())
	e.ended(ctx)
	return e
}

// ended names the context as the cause where it was.
func (e *Error) ended(ctx context.Context) {
	if e.cause = ctx.Err(); errors.Is(e.cause, context.DeadlineExceeded) {
		e.Reason = "the mail server took too long"
	}
}

// clean makes one short line without the login, in none of the forms in which it travels.
func (m *Mail) clean(s string) string {
	if m.config.Password == "" {
		return oneLine(s)
	}
	encode := base64.StdEncoding.EncodeToString
	var pairs []string
	for _, secret := range []string{
		encode([]byte("\x00" + m.config.Username + "\x00" + m.config.Password)), encode([]byte(m.config.Password)), m.config.Password,
	} {
		pairs = append(pairs, secret, "[redacted]")
	}
	return oneLine(strings.NewReplacer(pairs...).Replace(s))
}
