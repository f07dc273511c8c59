package app

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"

	"github.com/signedapproval/bitbucket/frontend"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// fail answers a refusal with its message, and its code in a header; anything else with nothing but an apology.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, message := s.explain(r, err)
	if code := refusal.Code(err); code != "" {
		w.Header().Set(monitor.CodeHeader, code)
	}
	http.Error(w, message, status)
}

// explain logs why a request was not answered, and says what the caller may know of it.
func (s *Server) explain(r *http.Request, err error) (status int, message string) {
	status, message = http.StatusInternalServerError, "Something went wrong here. It was recorded; try again."
	if refused := refusal.Of(err); refused != nil {
		message = refused.Message
		switch refused.Code {
		case refusal.NotFound:
			status = http.StatusNotFound
		case refusal.Forbidden:
			status = http.StatusForbidden
		case gate.CodeAmbiguousCommit, gate.CodeIncomplete, gate.CodeStolenKey:
			status = http.StatusConflict
		case codeNoAttestationKey:
			status = http.StatusNotImplemented
		case refusal.Busy, refusal.BitbucketUnavailable, refusal.NeedsReconnecting, refusal.WaitingForToken, refusal.AwaitingConfirmation:
			status = http.StatusServiceUnavailable
		default:
			status = http.StatusBadRequest
		}
	}
	if status == http.StatusInternalServerError || refusal.Code(err) == gate.CodeIncomplete {
		s.log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
	} else {
		s.log.InfoContext(r.Context(), "request refused", "path", r.URL.Path, "error", err)
	}
	return status, message
}

//go:embed failed.html
var failedSource string

// The page works without a script, and so also where the front end does not start. It looks as the
// dashboard does to somebody who is not signed in: Landing.css, in the dashboard's style sheet.
var failedPage = template.Must(template.New("failed").Parse(failedSource))

// failed is what the page says. Nothing of the request's own parameters is on it.
type failed struct {
	Styles          []string
	Title, Sentence string
	Again           string // a path of ours
}

// failSignIn tells somebody whose sign-in failed why, and leads back to it. returnTo is where they were
// going, a path of ours; "" where that is not known.
func (s *Server) failSignIn(w http.ResponseWriter, r *http.Request, err error, returnTo string) {
	again := "/auth/sign-in"
	if returnTo != "" {
		again += "?return_to=" + url.QueryEscape(returnTo)
	}
	s.failPage(w, r, err, failed{Title: "You are not signed in", Again: again})
}

// failConnect tells somebody whose consent to connect came to nothing why, and leads back to where they
// gave it.
func (s *Server) failConnect(w http.ResponseWriter, r *http.Request, err error, returnTo string) {
	if returnTo == "" {
		returnTo = "/settings/bitbucket"
	}
	s.failPage(w, r, err, failed{Title: "Nothing was connected", Again: returnTo})
}

func (s *Server) failPage(w http.ResponseWriter, r *http.Request, err error, page failed) {
	status, message := s.explain(r, err)
	page.Styles, page.Sentence = frontend.Styles("dashboard"), message
	var html bytes.Buffer
	if err := failedPage.Execute(&html, page); err != nil {
		s.log.ErrorContext(r.Context(), "a page could not be written", "error", err)
		http.Error(w, message, status)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Referrer-Policy", "no-referrer") // the address holds what Bitbucket gave the browser
	w.WriteHeader(status)
	_, _ = w.Write(html.Bytes())
}
