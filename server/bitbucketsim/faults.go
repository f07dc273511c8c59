package bitbucketsim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// Fault makes calls to the REST API or the token endpoint go wrong. The members combine: a call is delayed,
// then hangs, or is carried out or not, and then gets the status or no answer at all.
type Fault struct {
	ID     int    `json:"id"`     // set by AddFault
	Method string `json:"method"` // any where left empty
	// Path is a regular expression on the path of the URL, without the query.
	Path   string `json:"path"`
	Person string `json:"person"` // nickname of the caller; anybody where left empty
	// Agent is a regular expression on the User-Agent of the call; any where left empty.
	Agent string `json:"agent"`
	// Skip lets that many matching calls pass first; Times is how many are hit then, 0 for all.
	Skip  int `json:"skip"`
	Times int `json:"times"`
	// DelayMS is how long the call waits before anything else, in milliseconds.
	DelayMS int `json:"delay_ms"`
	// Hang keeps the call until the client goes away; nothing is carried out.
	Hang bool `json:"hang"`
	// Status and Body are the answer. Without a body it is an error in Bitbucket's form.
	Status int    `json:"status"`
	Body   string `json:"body"`
	// AfterEffect carries the call out before it answers with Status, as a 555 may.
	AfterEffect bool `json:"after_effect"`
	// LostReply carries the call out and then cuts the connection without an answer.
	LostReply bool `json:"lost_reply"`
	// Async turns a merge into an asynchronous one, as Bitbucket does with a slow merge.
	Async bool `json:"async"`

	pattern, agent *regexp.Regexp
}

// WebhookFault makes deliveries go wrong.
type WebhookFault struct {
	ID int `json:"id"` // set by AddWebhookFault
	// Event is a regular expression on the event key; any where left empty.
	Event string `json:"event"`
	Skip  int    `json:"skip"`
	Times int    `json:"times"` // 0 for all
	Drop  bool   `json:"drop"`
	// Duplicate sends the delivery that many times more, with the same X-Request-UUID.
	Duplicate int `json:"duplicate"`
	// Reorder holds the delivery back until the next one that is not held has been queued before it.
	Reorder bool `json:"reorder"`
	DelayMS int  `json:"delay_ms"`

	pattern *regexp.Regexp
}

// AddFault puts a fault in place. Faults are tried in the order in which they were added; one call meets at
// most one of them.
func (s *Sim) AddFault(f Fault) (Fault, error) {
	pattern, err := regexp.Compile(f.Path)
	if err != nil {
		return f, err
	}
	agent, err := regexp.Compile(f.Agent)
	if err != nil {
		return f, err
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		return f, fmt.Errorf("%d is no status", f.Status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.pattern, f.agent, f.ID = pattern, agent, s.id()
	s.faults = append(s.faults, &f)
	return f, nil
}

// AddWebhookFault puts a webhook fault in place.
func (s *Sim) AddWebhookFault(f WebhookFault) (WebhookFault, error) {
	pattern, err := regexp.Compile(f.Event)
	if err != nil {
		return f, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.pattern, f.ID = pattern, s.id()
	s.webhookFaults = append(s.webhookFaults, &f)
	return f, nil
}

// ClearFaults removes all faults and lets go of the deliveries that they held back.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.webhookFaults, s.forgeFaults = nil, nil, nil
	events := s.forgeHeld
	s.forgeHeld = nil
	for _, d := range events {
		s.sendForge(d)
	}
	held := s.held
	s.held = nil
	for _, d := range held {
		d.State = "waiting"
		d.hook.queue = append(d.hook.queue, d)
		s.startSending(d.hook)
	}
}

// take counts a match and tells whether the fault strikes; spent says that it will not again.
func take(skip, times *int) (strikes, spent bool) {
	if *skip > 0 {
		*skip--
		return false, false
	}
	if *times > 0 {
		*times--
		return true, *times == 0
	}
	return true, false
}

func (s *Sim) fault(r *http.Request, who *person) *Fault {
	for i, f := range s.faults {
		if (f.Method != "" && f.Method != r.Method) || !f.pattern.MatchString(r.URL.Path) || !f.agent.MatchString(r.UserAgent()) ||
			(f.Person != "" && (who == nil || who.nickname != f.Person)) {
			continue
		}
		strikes, spent := take(&f.Skip, &f.Times)
		if spent {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		if strikes {
			s.strikes[f.ID]++
			return f
		}
	}
	return nil
}

func (s *Sim) webhookFault(d *delivery) *WebhookFault {
	f := strike(&s.webhookFaults, d.Event)
	if f != nil {
		s.strikes[f.ID]++
	}
	return f
}

// Strikes returns how often each fault on calls and on webhooks has struck, by its ID, also of those that are spent or cleared.
// One that never struck is not in it.
func (s *Sim) Strikes() map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.strikes)
}

// strike finds the fault that strikes an event, and takes it out of the list once it is spent.
func strike(faults *[]*WebhookFault, event string) *WebhookFault {
	for i, f := range *faults {
		if !f.pattern.MatchString(event) {
			continue
		}
		strikes, spent := take(&f.Skip, &f.Times)
		if spent {
			*faults = slices.Delete(*faults, i, i+1)
		}
		if strikes {
			return f
		}
	}
	return nil
}

// recorder holds an answer until it is known whether it will be sent.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// sendTo sends the answer.
func (w *recorder) sendTo(to http.ResponseWriter) {
	maps.Copy(to.Header(), w.header)
	to.WriteHeader(cmp.Or(w.status, http.StatusOK))
	_, _ = to.Write(w.body.Bytes())
}

// observed logs the calls that next serves and lets faults strike.
func (s *Sim) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		c := Call{At: s.now(), Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Agent: r.UserAgent()}
		g, err := s.authenticate(r)
		var who *person
		if err == nil {
			who = g.person
			c.Person = who.nickname
		}
		f := s.fault(r, who)
		if f == nil {
			f = &Fault{}
		}
		c.Fault = f.ID
		s.mu.Unlock()

		rec := &recorder{header: http.Header{}}
		cut := s.carryOut(rec, r, f, next)
		if !cut {
			c.Status = rec.status
		}
		s.mu.Lock()
		s.callsSeen++
		c.Number = s.callsSeen
		s.calls = append(s.calls, c)
		if len(s.calls) > keptCalls {
			s.calls = slices.Clone(s.calls[keptCalls/10:])
		}
		s.changed.Broadcast()
		s.mu.Unlock()
		if cut {
			panic(http.ErrAbortHandler) // the documented way to cut the connection
		}
		rec.sendTo(w)
	})
}

// carryOut serves one call under a fault and tells whether the connection is to be cut.
func (s *Sim) carryOut(rec *recorder, r *http.Request, f *Fault, next http.Handler) (cut bool) {
	if f.DelayMS > 0 {
		timer := time.NewTimer(time.Duration(f.DelayMS) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return true
		}
	}
	if f.Hang {
		<-r.Context().Done()
		return true
	}
	if f.Async {
		q := r.URL.Query()
		q.Set("async", "true")
		r = r.Clone(r.Context())
		r.URL.RawQuery = q.Encode()
	}
	if f.Status == 0 || f.AfterEffect || f.LostReply {
		next.ServeHTTP(rec, r)
	}
	if f.Status != 0 {
		*rec = recorder{header: http.Header{}}
		switch {
		case f.Body != "":
			rec.header.Set("Content-Type", "text/plain; charset=utf-8")
			if json.Valid([]byte(f.Body)) {
				rec.header.Set("Content-Type", "application/json; charset=utf-8")
			}
			rec.WriteHeader(f.Status)
			rec.body.WriteString(f.Body)
		default:
			writeJSON(rec, f.Status, (&apiError{message: faultMessage(f.Status)}).body())
		}
	}
	return f.LostReply
}

func faultMessage(status int) string {
	switch status {
	case http.StatusTooManyRequests:
		return "Rate limit for this resource has been exceeded"
	case http.StatusConflict:
		return "The pull request's refs have changed while it was being merged."
	case 555:
		return "The request took too long and timed out. Retry it later."
	default:
		return http.StatusText(status)
	}
}
