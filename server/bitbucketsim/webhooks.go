package bitbucketsim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// hookEvents are the events that a subscription may name, and the scope that each needs.
var hookEvents = map[string]string{
	"repo:push": "repository", "repo:fork": "repository", "repo:updated": "repository", "repo:created": "repository",
	"repo:deleted": "repository", "repo:imported": "repository", "repo:transfer": "repository",
	"repo:commit_comment_created": "repository", "repo:commit_status_created": "repository",
	"repo:commit_status_updated": "repository",
	"pullrequest:created":        "pullrequest", "pullrequest:updated": "pullrequest", "pullrequest:push": "pullrequest",
	"pullrequest:fulfilled": "pullrequest", "pullrequest:rejected": "pullrequest",
	"pullrequest:approved": "pullrequest", "pullrequest:unapproved": "pullrequest",
	"pullrequest:changes_request_created": "pullrequest", "pullrequest:changes_request_removed": "pullrequest",
	"pullrequest:comment_created": "pullrequest", "pullrequest:comment_updated": "pullrequest",
	"pullrequest:comment_deleted": "pullrequest", "pullrequest:comment_resolved": "pullrequest",
	"pullrequest:comment_reopened": "pullrequest",
	"project:updated":              "project", "pipeline:span_created": "pipeline",
	"issue:created": "issue", "issue:updated": "issue", "issue:comment_created": "issue",
}

// hook is one webhook subscription, of a repository or of a workspace.
type hook struct {
	uuid, url, description, secret string
	active                         bool
	events                         []string
	repository                     *repository // nil for a workspace's
	workspace                      *workspace
	created                        time.Time
	queue                          []*delivery
	sending                        bool // a goroutine works through the queue
}

// Delivery is what became of one webhook event for one subscription.
type Delivery struct {
	ID          int       `json:"id"`
	Event       string    `json:"event"`
	HookUUID    string    `json:"hook_uuid"` // in braces
	RequestUUID string    `json:"request_uuid"`
	URL         string    `json:"url"`
	Body        []byte    `json:"body"` // base64 in JSON
	Attempts    []Attempt `json:"attempts"`
	// State is waiting, held (by a fault), delivered (2xx), failed, dropped (by a fault) or too_large.
	State string `json:"state"`
}

// Attempt is one attempt of a delivery.
type Attempt struct {
	Number int       `json:"number"`
	At     time.Time `json:"at"`
	Status int       `json:"status"` // 0 where no answer came
	Error  string    `json:"error,omitempty"`
}

type delivery struct {
	Delivery
	hook   *hook
	secret string // at the time of the event
	delay  time.Duration
	copies int // sent this many times beyond the first
}

// keptDeliveries is how many deliveries are remembered. Older ones are still sent.
const keptDeliveries = 20000

// maxRetries is how often a 5xx is answered by another attempt, at once.
const maxRetries = 2

// Sign returns the value of X-Hub-Signature for a body.
func Sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// emitPullRequest sends an event about a pull request. extra holds further members of the body.
func (s *Sim) emitPullRequest(pr *pullRequest, event string, actor *person, extra object) {
	body := object{"pullrequest": s.renderPullRequest(pr, shapeWebhook)}
	for k, v := range extra {
		body[k] = v
	}
	s.emit(pr.repository, event, actor, body)
	if name := forgeNames[event]; name != "" {
		more := object{}
		if c, ok := extra["comment"].(object); ok {
			more["comment"] = object{"id": c["id"]}
		}
		s.emitForgePullRequest(pr, name, actor, more)
	}
}

// emit queues an event for every active subscription to it. The body is rendered now, as things stand.
func (s *Sim) emit(r *repository, event string, actor *person, extra object) {
	var raw []byte
	for _, h := range slices.Concat(r.hooks, r.workspace.hooks) {
		if !h.active || !slices.Contains(h.events, event) {
			continue
		}
		if raw == nil {
			body := object{"actor": s.renderPerson(actor), "repository": s.renderRepository(r, shapeWebhook)}
			for k, v := range extra {
				body[k] = v
			}
			raw = marshal(body)
		}
		d := &delivery{hook: h, secret: h.secret, Delivery: Delivery{
			ID: s.id(), Event: event, HookUUID: h.uuid, RequestUUID: bareUUID(), URL: h.url, Body: raw, State: "waiting",
		}}
		s.deliveries = append(s.deliveries, d)
		if len(s.deliveries) > keptDeliveries {
			s.deliveries = slices.Clone(s.deliveries[keptDeliveries/10:])
		}
		if len(raw) > s.opts.MaxWebhookBytes {
			d.State = "too_large"
			continue
		}
		s.enqueue(d)
	}
}

// enqueue applies the webhook faults and hands the delivery to its subscription's queue.
func (s *Sim) enqueue(d *delivery) {
	if f := s.webhookFault(d); f != nil {
		d.delay, d.copies = time.Duration(f.DelayMS)*time.Millisecond, f.Duplicate
		switch {
		case f.Drop:
			d.State = "dropped"
			s.changed.Broadcast()
			return
		case f.Reorder:
			d.State = "held"
			s.held = append(s.held, d)
			s.changed.Broadcast()
			return
		}
	}
	late := s.held
	s.held = nil
	for _, x := range append([]*delivery{d}, late...) {
		x.State = "waiting"
		x.hook.queue = append(x.hook.queue, x)
		s.startSending(x.hook)
	}
}

func (s *Sim) startSending(h *hook) {
	if h.sending || s.ctx.Err() != nil {
		return
	}
	h.sending = true
	s.work.Go(func() { s.sendQueue(h) })
}

// sendQueue sends one subscription's deliveries in order, until there are none.
func (s *Sim) sendQueue(h *hook) {
	for {
		s.mu.Lock()
		if len(h.queue) == 0 || s.ctx.Err() != nil {
			h.sending = false
			s.mu.Unlock()
			return
		}
		d := h.queue[0]
		h.queue = h.queue[1:]
		s.mu.Unlock()
		if d.delay > 0 {
			timer := time.NewTimer(d.delay)
			select {
			case <-timer.C:
			case <-s.ctx.Done():
				timer.Stop()
			}
		}
		state := "failed"
		for range d.copies + 1 {
			if s.send(d) {
				state = "delivered"
			}
		}
		s.mu.Lock()
		d.State = state
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

// send makes up to three attempts and tells whether one was answered with 2xx. Only a 5xx is retried.
func (s *Sim) send(d *delivery) bool {
	for n := 1; n <= 1+maxRetries; n++ {
		status, err := s.attempt(d, n)
		a := Attempt{Number: n, At: s.now(), Status: status}
		if err != nil {
			a.Error = err.Error()
			s.opts.Logger.Warn("webhook was not delivered", "event", d.Event, "attempt", n, "error", err)
		}
		s.mu.Lock()
		d.Attempts = append(d.Attempts, a)
		s.changed.Broadcast()
		s.mu.Unlock()
		if status < 500 {
			return status >= 200 && status < 300
		}
	}
	return false
}

func (s *Sim) attempt(d *delivery, number int) (status int, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.WebhookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(d.Body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Bitbucket-Webhooks/2.0")
	req.Header.Set("X-Event-Key", d.Event)
	req.Header.Set("X-Hook-UUID", d.HookUUID[1:len(d.HookUUID)-1])
	req.Header.Set("X-Request-UUID", d.RequestUUID)
	req.Header.Set("X-Attempt-Number", strconv.Itoa(number))
	if d.secret != "" {
		req.Header.Set("X-Hub-Signature", Sign(d.secret, d.Body))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}

// marshal writes JSON as it goes over the wire. The values are the Sim's own, so that it cannot fail.
func marshal(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("bitbucketsim: " + err.Error())
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
