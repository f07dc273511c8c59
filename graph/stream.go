package graph

import (
	"context"
	"net/http"
	"time"

	"github.com/signedapproval/bitbucket/server/refusal"
)

// Subscriptions are streamed as the protocol graphql-sse has it in its distinct connections mode:
// POST, events "next" with an answer each, and "complete" when there will be no more.
//
// Every event is executed anew from the start: the caller is identified again, the object is read and
// authorised again. So an event never shows what the caller may no longer see, and it carries the
// object as it is, not as it was when something rang. Rings that come while an event is on its way
// become one further event.

// pace is how a stream goes.
type pace struct {
	alive    time.Duration // between two comments that keep proxies from closing
	poll     time.Duration // between two looks for changes whose ring was lost
	lifetime time.Duration // then the stream ends without "complete", and the client comes again
	write    time.Duration // for one event to be taken by the client
}

var usualPace = pace{alive: 15 * time.Second, poll: 10 * time.Second, lifetime: 30 * time.Minute, write: 10 * time.Second}

// topic is what a subscription listens to.
type topic struct {
	// name is what rings, as given to the store's Touch.
	name string
	// version tells cheaply whether the object changed; an error makes the next event tell why.
	version func(context.Context) (string, error)
}

// topics finds what an admitted subscription listens to, and how to.
type topics struct {
	of        func(Caller, *admitted) (topic, error)
	subscribe func(topic string) (rings <-chan struct{}, cancel func())
}

// stream answers a subscription until the client goes away, its time is up, or it may see no more.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, op *admitted, caller Caller, key string) {
	closed, no := h.meter.open(key)
	if no != nil {
		h.refuse(w, no)
		return
	}
	defer closed()
	listened, err := h.topics.of(caller, op)
	if err != nil {
		if no := refusal.Of(err); no != nil {
			h.refuse(w, refused(no.Code, "%s", no.Message).with(http.StatusNotFound))
			return
		}
		h.refuse(w, h.fault(r.Context(), "find the topic", err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.pace.lifetime)
	defer cancel()
	rings, unsubscribe := h.topics.subscribe(listened.name) // before the first event: nothing falls between
	defer unsubscribe()

	s := &stream{handler: h, out: w, control: http.NewResponseController(w), request: r, op: op, key: key, topic: listened}
	// The server's own deadlines are for requests that are answered at once. Where they cannot be
	// moved, there is none.
	_ = s.control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if !s.event(ctx) {
		return
	}
	alive, poll := time.NewTicker(h.pace.alive), time.NewTicker(h.pace.poll)
	defer alive.Stop()
	defer poll.Stop()
	for more := true; more; {
		select {
		case <-ctx.Done():
			return
		case <-h.closing:
			return
		case _, open := <-rings:
			if !open { // the bell is gone; the poll goes on
				rings = nil
				continue
			}
			more = s.event(ctx)
		case <-poll.C:
			more = !s.changed(ctx) || s.event(ctx)
		case <-alive.C:
			more = s.send(":\n\n")
		}
	}
}

// stream is one open subscription.
type stream struct {
	handler *Handler
	out     http.ResponseWriter
	control *http.ResponseController
	request *http.Request
	op      *admitted
	key     string // of the caller
	topic   topic
	version string // as of the last event
}

// event sends the object as it is now. It is false when there will be no further event: the client
// does not take it, or the caller may see the object no more.
func (s *stream) event(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	caller, no := s.caller(ctx)
	var a *answer
	if no == nil {
		// The version before the object: a change between the two makes one event too many, never one too few.
		if version, err := s.topic.version(withCaller(ctx, caller)); err == nil {
			s.version = version
		}
		a, no = s.handler.execute(ctx, s.op, caller, s.key)
	}
	if no != nil {
		a = no.answer()
	}
	if s.request.Context().Err() != nil {
		return false
	}
	if len(a.Errors) > 0 && (len(a.Data) == 0 || string(a.Data) == "null") {
		switch a.Errors[0].Extensions["code"] {
		case codeInternal, codeTimeout, codeOverloaded, codeTooMany, refusal.Busy, refusal.BitbucketUnavailable:
			s.version = "" // the next poll tries again
			return true
		}
		return s.end(a)
	}
	return s.send("event: next\ndata: " + string(encode(a)) + "\n\n")
}

// caller makes out the caller as of now: they may have signed out, or the token was revoked.
func (s *stream) caller(ctx context.Context) (Caller, *requestError) {
	caller, no := s.handler.caller(ctx, s.request)
	if no != nil {
		return caller, no
	}
	if no = caller.mayRun(s.op); no != nil {
		return caller, no
	}
	return caller, s.handler.engine.contract.rootRule(s.op).refuse(caller, s.op.root)
}

// changed tells whether the object moved since the last event without a ring having come.
func (s *stream) changed(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	caller, no := s.caller(ctx)
	if no != nil {
		return true
	}
	version, err := s.topic.version(withCaller(ctx, caller))
	return err != nil || version != s.version
}

func (s *stream) end(last *answer) bool {
	if s.send("event: next\ndata: " + string(encode(last)) + "\n\n") {
		s.send("event: complete\ndata:\n\n")
	}
	return false
}

// send writes to the client, who has so long to take it.
func (s *stream) send(text string) bool {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.handler.pace.write)) // without it the server's own applies
	if _, err := s.out.Write([]byte(text)); err != nil {
		return false
	}
	return s.control.Flush() == nil
}
