package bitbucketsim

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// ForgeInvocation is one call of Forge to the remote of an app, with its retries.
type ForgeInvocation struct {
	ID int `json:"id"`
	// Kind is event, lifecycle, uninstall, schedule, merge-check or page.
	Kind string `json:"kind"`
	// Name is the event's name, the trigger of the merge check, or the module that the page belongs to.
	Name         string `json:"name"`
	Module       string `json:"module"` // key of the module that names the endpoint
	Installation string `json:"installation"`
	Workspace    string `json:"workspace"` // slug
	Method       string `json:"method"`
	URL          string `json:"url"`
	Body         []byte `json:"body"` // of the first attempt, base64 in JSON
	// Attempts are those that were made. Status 0 means that no answer came.
	Attempts []Attempt `json:"attempts"`
	// State is waiting, held (by a fault), retrying, delivered (2xx), failed or dropped (by a fault or because
	// the app was uninstalled).
	State  string `json:"state"`
	Answer []byte `json:"answer"` // body of the last answer, cut at 64 KiB
}

// forgeDelivery is one invocation on its way.
type forgeDelivery struct {
	ForgeInvocation
	inst     *forgeInstallation
	endpoint *forgeModule
	body     object
	wrapped  bool // the body stands under "payload"
	delay    time.Duration
	copies   int
}

// newForgeDelivery notes an invocation of the endpoint that module m names. The lock is held.
func (s *Sim) newForgeDelivery(inst *forgeInstallation, m *forgeModule, kind, name string, body object) *forgeDelivery {
	manifest := inst.version.manifest
	endpoint := manifest.module(moduleEndpoint, m.Endpoint)
	if endpoint == nil {
		return nil // a module that is backed by a function, which the Sim does not run
	}
	d := &forgeDelivery{inst: inst, endpoint: endpoint, body: body, wrapped: inst.version.spec.Wrapped, ForgeInvocation: ForgeInvocation{
		ID: s.id(), Kind: kind, Name: name, Module: m.Key, Installation: inst.ari(), Workspace: inst.workspace.slug,
		Method: http.MethodPost, URL: remoteURL(manifest.remote(endpoint.Remote), endpoint.Route.Path), State: "waiting",
	}}
	d.Body = d.render(0, "")
	s.keepForge(d)
	return d
}

func (s *Sim) keepForge(d *forgeDelivery) {
	s.forgeDeliveries = append(s.forgeDeliveries, d)
	if len(s.forgeDeliveries) > keptDeliveries {
		s.forgeDeliveries = slices.Clone(s.forgeDeliveries[keptDeliveries/10:])
	}
}

// remoteURL resolves a path against the base address of a remote, as browsers resolve addresses. It is empty
// where that leads to another host.
func remoteURL(base, path string) string {
	b, err := url.Parse(base)
	if err != nil {
		return ""
	}
	p, err := url.Parse(path)
	if err != nil {
		return ""
	}
	u := b.ResolveReference(p)
	if u.Host != b.Host || u.Scheme != b.Scheme {
		return ""
	}
	return u.String()
}

// render writes the body of one attempt; retry is 0 for the first.
func (d *forgeDelivery) render(retry int, reason string) []byte {
	body := object{}
	for k, v := range d.body {
		body[k] = v
	}
	if retry > 0 {
		body["retryContext"] = object{"retryData": nil, "retryCount": retry, "retryReason": reason}
	}
	if d.wrapped {
		body = object{"payload": body}
	}
	return marshal(body)
}

// remoteAnswer is what a remote answered.
type remoteAnswer struct {
	status int
	header http.Header
	body   []byte
}

// remoteRequest is one call to a remote.
type remoteRequest struct {
	inst     *forgeInstallation
	endpoint *forgeModule
	caller   *forgeCaller // nil where no page calls
	method   string
	url      string
	header   http.Header
	body     []byte
	timeout  time.Duration
	most     int64 // bytes of the answer that are read
}

// errAnswerTooLarge says that an answer has more bytes than may pass.
var errAnswerTooLarge = errors.New("the answer is too large")

// callRemote makes one call with the tokens that belong to it. The lock must not be held.
func (s *Sim) callRemote(ctx context.Context, q remoteRequest) (*remoteAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel)
	defer stop()
	if q.url == "" {
		return nil, errors.New("the address does not belong to the remote")
	}
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if len(q.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	s.mu.Lock()
	req.Header.Set("Authorization", "Bearer "+s.invocationToken(q.inst, q.endpoint, q.caller))
	if token := s.systemToken(q.inst, q.endpoint); token != "" {
		req.Header.Set("X-Forge-Oauth-System", token)
	}
	if q.caller != nil {
		if token := s.userToken(q.inst, q.endpoint, q.caller.person); token != "" {
			req.Header.Set("X-Forge-Oauth-User", token)
		}
	}
	s.mu.Unlock()
	req.Header.Set("X-B3-Traceid", randomHex(16))
	req.Header.Set("X-B3-Spanid", randomHex(8))
	resp, err := s.forgeClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, q.most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > q.most {
		return nil, errAnswerTooLarge
	}
	return &remoteAnswer{resp.StatusCode, resp.Header, body}, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, says its documentation
	return hex.EncodeToString(b)
}

// Reasons of a retry, as the remote is told.
const (
	retryGeneral = "INVALID_REMOTE_INVOCATION_ERROR"
	retryTimeout = "TIMEOUT_ERROR"
	retryToken   = "INVALID_FORGE_INVOCATION_TOKEN"
)

// maxEventAnswer is how much of the answer to an event is read, in bytes.
const maxEventAnswer = 5 << 20

// attemptForge makes one attempt, notes it, and tells whether it was answered with 2xx, or else why not.
func (s *Sim) attemptForge(d *forgeDelivery, number int, body []byte, timeout time.Duration) (answer *remoteAnswer, reason string) {
	at := s.now()
	answer, err := s.callRemote(s.ctx, remoteRequest{
		inst: d.inst, endpoint: d.endpoint, method: d.Method, url: d.URL, body: body, timeout: timeout, most: maxEventAnswer,
	})
	a := Attempt{Number: number, At: at}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		reason = retryTimeout
	case err != nil:
		reason = retryGeneral
	case answer.status == http.StatusUnauthorized:
		reason = retryToken
	case answer.status < 200 || answer.status > 299:
		reason = retryGeneral
	}
	if err != nil {
		a.Error = err.Error()
		s.opts.Logger.Warn("Forge invocation was not delivered", "name", d.Name, "attempt", number, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer != nil {
		a.Status = answer.status
		d.Answer = answer.body[:min(len(answer.body), 64<<10)]
	}
	d.Attempts = append(d.Attempts, a)
	s.changed.Broadcast()
	return answer, reason
}

// attemptOnce makes the only attempt of an invocation that is not retried.
func (s *Sim) attemptOnce(d *forgeDelivery, timeout time.Duration) *remoteAnswer {
	if d == nil {
		return nil
	}
	answer, reason := s.attemptForge(d, 1, d.Body, timeout)
	s.setForgeState(d, map[bool]string{true: "delivered", false: "failed"}[reason == ""])
	if reason != "" {
		return nil
	}
	return answer
}

func (s *Sim) setForgeState(d *forgeDelivery, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.State = state
	s.changed.Broadcast()
}

// ForgeInvocations returns what became of the invocations, oldest first.
func (s *Sim) ForgeInvocations() []ForgeInvocation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allForgeInvocations()
}

func (s *Sim) allForgeInvocations() []ForgeInvocation {
	out := make([]ForgeInvocation, 0, len(s.forgeDeliveries))
	for _, d := range s.forgeDeliveries {
		x := d.ForgeInvocation
		x.Attempts = slices.Clone(d.Attempts)
		out = append(out, x)
	}
	return out
}

// WaitForgeInvocations waits until done accepts the invocations, and returns them. done must not call the Sim.
func (s *Sim) WaitForgeInvocations(ctx context.Context, done func([]ForgeInvocation) bool) ([]ForgeInvocation, error) {
	var all []ForgeInvocation
	err := s.wait(ctx, func() bool {
		all = s.allForgeInvocations()
		return done(all)
	})
	return all, err
}
