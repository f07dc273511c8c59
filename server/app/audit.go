package app

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
)

const (
	// auditTime is how long an audit may take; it reads the history of a branch page by page.
	auditTime = 30 * time.Minute
	// auditPause is how long whoever reads an audit may not take anything.
	auditPause = 30 * time.Second
)

// audit streams every commit that reached a branch in a window, and then the signed summary; one JSON document a
// line. Without a summary it is no audit.
func (s *Server) audit(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), auditTime)
	defer cancel()
	r = r.WithContext(ctx)
	workspace := r.PathValue("workspace")
	person, ok := s.taker(w, r, workspace)
	if !ok {
		return
	}
	ctx = bitbucket.AskedBy(ctx, person.ID)
	of, err := s.auditOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	leave, full := s.audits.take(person.ID, workspace)
	if full != "" {
		s.fail(w, r, refusal.New(refusal.Busy, "%s", full))
		return
	}
	defer leave()
	out := &auditStream{w: w, control: http.NewResponseController(w)}
	var sum attest.Sum
	summary, err := s.gate.Audit(ctx, person, workspace, of, out.alive, func(row attest.Row) error {
		line, err := row.Line()
		if err != nil {
			return err
		}
		if err := sum.Add(row, line); err != nil {
			return err
		}
		return out.send("row", line)
	})
	if err == nil {
		var envelope []byte
		if envelope, err = attest.SignAudit(ctx, s.attesting, summary, &sum); err == nil {
			err = out.send("summary", envelope)
		}
	}
	switch {
	case err == nil:
	case !out.begun:
		s.fail(w, r, err)
		return
	default:
		_, message := s.explain(r, err)
		failure, _ := json.Marshal(map[string]string{"code": refusal.Code(err), "message": message}) // two texts
		_ = out.send("error", failure)
	}
	_ = out.control.Flush()
}

// auditOf reads what is to be audited.
func (s *Server) auditOf(r *http.Request) (gate.AuditOf, error) {
	q := r.URL.Query()
	of := gate.AuditOf{Repository: r.PathValue("repository"), Branch: q.Get("branch"), Since: q.Get("since"), Web: s.config.BitbucketWeb}
	if s.attesting == nil {
		return of, noAttestationKey()
	}
	for name, at := range map[string]*time.Time{"from": &of.From, "to": &of.To} {
		moment, err := time.Parse(time.RFC3339, q.Get(name))
		if err != nil {
			return of, refusal.New(refusal.BadInput, "%s is a time such as 2026-11-01T00:00:00Z.", name).At(name)
		}
		*at = moment.UTC()
	}
	return of, nil
}

// auditStream writes an audit line by line.
type auditStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// begin lets the next write take its time.
func (a *auditStream) begin() error {
	if !a.begun {
		a.w.Header().Set("Content-Type", "application/x-ndjson")
		a.begun = true
	}
	return a.control.SetWriteDeadline(time.Now().Add(auditPause))
}

// alive sends an empty line, so that nothing between here and the reader takes silence for an end.
func (a *auditStream) alive() error {
	if err := a.begin(); err != nil {
		return err
	}
	if _, err := a.w.Write([]byte{'\n'}); err != nil {
		return err
	}
	return a.control.Flush()
}

func (a *auditStream) send(name string, document []byte) error {
	if err := a.begin(); err != nil {
		return err
	}
	line := append([]byte(`{"`+name+`":`), document...)
	_, err := a.w.Write(append(line, '}', '\n'))
	return err
}
