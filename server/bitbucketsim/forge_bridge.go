package bitbucketsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Limits of the bridge.
const (
	maxBridgeRequest = 500 << 10
	maxBridgeAnswer  = 5 << 20
	maxBridgeCalls   = 500
	bridgeInterval   = 25 * time.Second
)

// bridgeError is what a call of the bridge is rejected with.
type bridgeError struct {
	status  int
	message string
}

func (e *bridgeError) Error() string { return e.message }

// bridgeRoutes mounts what the page around the frames asks on behalf of them. The person's own session is needed,
// and a request of another site is refused.
func (s *Sim) bridgeRoutes(mux *http.ServeMux) {
	guard := http.NewCrossOriginProtection()
	handle := func(name string, do func(*http.Request, *forgeFrame, []byte) (any, error)) {
		mux.Handle("POST /forge/frames/{frame}/"+name, guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBridgeRequest))
			if err != nil {
				writeJSON(w, http.StatusRequestEntityTooLarge, object{"error": "The request exceeds the limit of 500 KB"})
				return
			}
			out, err := s.bridgeCall(r, body, do)
			var refused *bridgeError
			switch {
			case errors.As(err, &refused):
				writeJSON(w, refused.status, object{"error": refused.message})
			case err != nil:
				writeJSON(w, http.StatusInternalServerError, object{"error": "An unexpected error happened"})
			default:
				writeJSON(w, http.StatusOK, out)
			}
		})))
	}
	handle("context", s.bridgeContext)
	handle("invoke", s.bridgeInvoke)
	handle("token", s.bridgeToken)
}

// bridgeCall finds the frame and makes sure that its own person asks.
func (s *Sim) bridgeCall(r *http.Request, body []byte, do func(*http.Request, *forgeFrame, []byte) (any, error)) (any, error) {
	s.mu.Lock()
	f := s.frames[r.PathValue("frame")]
	known := f != nil && s.signedIn(r) == f.caller.person
	installed := known && f.inst.state == forgeInstalled
	s.mu.Unlock()
	switch {
	case !known:
		return nil, &bridgeError{http.StatusNotFound, "The page is no longer open"}
	case !installed:
		return nil, &bridgeError{http.StatusGone, "The app is no longer installed"}
	}
	return do(r, f, body)
}

func (s *Sim) bridgeContext(_ *http.Request, f *forgeFrame, _ []byte) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := object{
		"accountId": f.caller.person.accountID, "locale": "en-US", "timezone": "Etc/UTC",
		"environmentId": lastPart(f.inst.version.app.environmentID), "environmentType": f.inst.version.app.environment,
	}
	for k, v := range f.caller.context {
		out[k] = v
	}
	return out, nil
}

// remoteEndpoint is the endpoint that answers the page of a frame.
func (f *forgeFrame) remoteEndpoint() (*forgeModule, error) {
	e := f.inst.version.manifest.module(moduleEndpoint, f.module.Resolver.Endpoint)
	if e == nil {
		return nil, &bridgeError{http.StatusBadRequest, "The module has no endpoint to invoke"}
	}
	return e, nil
}

// bridgeInvoke carries invokeRemote out: it calls the remote with the tokens of the person and the app.
func (s *Sim) bridgeInvoke(r *http.Request, f *forgeFrame, raw []byte) (any, error) {
	var in struct {
		Path    string            `json:"path"`
		Method  string            `json:"method"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, &bridgeError{http.StatusBadRequest, "The input of the call is not understood"}
	}
	if !slices.Contains([]string{"GET", "POST", "PUT", "DELETE", "PATCH"}, in.Method) {
		return nil, &bridgeError{http.StatusBadRequest, "The method of the call is not allowed"}
	}
	s.mu.Lock()
	if !f.spend(s.now()) {
		s.mu.Unlock()
		return nil, &bridgeError{http.StatusTooManyRequests, "Remote invocation calls are rate limited at 500/25s"}
	}
	endpoint, err := f.remoteEndpoint()
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	base := f.inst.version.manifest.remote(endpoint.Remote)
	d := &forgeDelivery{inst: f.inst, endpoint: endpoint, ForgeInvocation: ForgeInvocation{
		ID: s.id(), Kind: "page", Name: f.module.Type, Module: f.module.Key, Installation: f.inst.ari(),
		Workspace: f.inst.workspace.slug, Method: in.Method, URL: remoteURL(base, in.Path), Body: in.Body, State: "waiting",
	}}
	s.keepForge(d)
	s.mu.Unlock()
	header := http.Header{}
	for k, v := range in.Headers {
		if name := http.CanonicalHeaderKey(k); name != "Authorization" && name != "Cookie" && name != "Host" &&
			!strings.HasPrefix(name, "X-Forge-") && !strings.HasPrefix(name, "X-B3-") {
			header.Set(name, v)
		}
	}
	answer, err := s.callRemote(r.Context(), remoteRequest{
		inst: f.inst, endpoint: endpoint, caller: f.caller, method: in.Method, url: d.URL, header: header, body: in.Body,
		timeout: s.opts.Forge.RemoteTimeout, most: maxBridgeAnswer,
	})
	out, err := s.bridgeAnswer(answer, err)
	s.noteInvoke(d, answer, err)
	return out, err
}

// spend counts a call and tells whether it is within the limit.
func (f *forgeFrame) spend(now time.Time) bool {
	for len(f.calls) > 0 && now.Sub(f.calls[0]) >= bridgeInterval {
		f.calls = f.calls[1:]
	}
	if len(f.calls) >= maxBridgeCalls {
		return false
	}
	f.calls = append(f.calls, now)
	return true
}

// noteInvoke ends the record of a page's call.
func (s *Sim) noteInvoke(d *forgeDelivery, answer *remoteAnswer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := Attempt{Number: 1, At: s.now()}
	d.State = "delivered"
	if answer != nil {
		a.Status = answer.status
		d.Answer = answer.body[:min(len(answer.body), 64<<10)]
	}
	if err != nil {
		a.Error, d.State = err.Error(), "failed"
	}
	d.Attempts = append(d.Attempts, a)
	s.changed.Broadcast()
}

// bridgeAnswer turns the answer of a remote into what the bridge resolves with, or into what it rejects with.
func (s *Sim) bridgeAnswer(answer *remoteAnswer, err error) (any, error) {
	reject := func(format string, args ...any) (any, error) {
		return nil, &bridgeError{http.StatusBadGateway, fmt.Sprintf(format, args...)}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return reject("Remote invocation timed out after %g seconds", s.opts.Forge.RemoteTimeout.Seconds())
	case errors.Is(err, errAnswerTooLarge):
		return reject("The response from remote exceeds the limit of 5 MB")
	case err != nil:
		return reject("Invalid response from remote - remote network error")
	case answer.status == http.StatusUnauthorized:
		return reject("Remote could not verify the Forge Invocation Token")
	}
	ok := answer.status >= 200 && answer.status <= 299
	kind := answer.header.Get("Content-Type")
	if bare, _, _ := strings.Cut(kind, ";"); !ok && kind != "" && strings.TrimSpace(bare) != "application/json" {
		return reject("Invalid response from remote - content-type header must be set to application/json and is currently: %s. Status: %d.", kind, answer.status)
	}
	var body any
	if len(answer.body) > 0 || !ok {
		if err := json.Unmarshal(answer.body, &body); err != nil {
			return reject("Invalid response from remote - cannot parse body as JSON. Status: %d.", answer.status)
		}
	}
	headers := object{}
	for k, v := range answer.header {
		headers[strings.ToLower(k)] = v
	}
	out := object{"status": answer.status, "headers": headers}
	if body != nil {
		out["body"] = body
	}
	if ok {
		return object{"success": true, "payload": out}, nil
	}
	return object{"success": false, "error": out}, nil
}

// bridgeToken gives the bridge of a page the token with which requestRemote calls the remote directly. It comes
// without OAuth tokens, and may be used for as long as it lives.
func (s *Sim) bridgeToken(_ *http.Request, f *forgeFrame, raw []byte) (any, error) {
	key, _ := jsonObject(raw)["remoteKey"].(string)
	s.mu.Lock()
	defer s.mu.Unlock()
	endpoint, err := f.remoteEndpoint()
	if err != nil {
		return nil, err
	}
	base := f.inst.version.manifest.remote(key)
	if base == "" {
		return nil, &bridgeError{http.StatusBadRequest, "The manifest has no such remote"}
	}
	return object{
		"baseUrl": base, "token": s.invocationToken(f.inst, endpoint, f.caller),
		"expires": s.now().Add(s.opts.Forge.InvocationTokenLifetime).UnixMilli(),
	}, nil
}
