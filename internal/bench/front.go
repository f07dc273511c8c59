package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// front stands before the simulated Bitbucket: it makes calls slow, learns the webhook's secret, and sees when each
// status is there and which calls were made for it.
type front struct {
	sim   *bitbucketsim.Sim
	delay atomic.Int64 // of each API call, in nanoseconds
	calls atomic.Int64 // API calls so far
	limit atomic.Int64 // calls to repositories after which each is refused with 429; 0 for none
	over  atomic.Int64 // calls that were refused so

	mu     sync.Mutex
	secret string
	path   string
	shown  map[string]time.Time // "commit state" -> when it was first there
	moved  chan struct{}        // closed and renewed when shown grows
	heads  map[string]string    // pull request number in a path -> head, where calls are traced
	traced map[string][]span    // head -> calls; nil while nothing is traced
}

// span is one call.
type span struct{ began, ended time.Time }

func newFront() *front {
	return &front{shown: map[string]time.Time{}, moved: make(chan struct{})}
}

func (f *front) hook() (secret, path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.secret, f.path
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/2.0/") {
		f.sim.ServeHTTP(w, r)
		return
	}
	began := time.Now()
	f.calls.Add(1)
	hook := r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/hooks")
	status := r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/statuses/build")
	var body []byte
	if hook || status {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if delay := time.Duration(f.delay.Load()); delay > 0 {
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-r.Context().Done():
			timer.Stop()
			return
		}
	}
	f.sim.ServeHTTP(&counted{ResponseWriter: w, front: f}, r)
	f.note(r.URL.Path, body, hook, status, began, time.Now())
}

// counted counts the answers that say "too often".
type counted struct {
	http.ResponseWriter
	front *front
}

func (c *counted) WriteHeader(status int) {
	if status == http.StatusTooManyRequests {
		c.front.over.Add(1)
	}
	c.ResponseWriter.WriteHeader(status)
}

func (f *front) note(path string, body []byte, hook, status bool, began, ended time.Time) {
	segments := strings.Split(path, "/")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.traced != nil {
		if head := f.head(segments); head != "" {
			f.traced[head] = append(f.traced[head], span{began, ended})
		}
	}
	var sent struct{ Secret, URL, State string }
	if !hook && !status || json.Unmarshal(body, &sent) != nil {
		return
	}
	if at, err := url.Parse(sent.URL); hook && sent.Secret != "" && err == nil {
		f.secret, f.path = sent.Secret, at.Path
	}
	if status {
		key := segments[len(segments)-3] + " " + sent.State
		if _, before := f.shown[key]; !before {
			f.shown[key] = ended
			close(f.moved)
			f.moved = make(chan struct{})
		}
	}
}

// head finds the head commit that a call is about; "" for none that is traced.
func (f *front) head(segments []string) string {
	for i, s := range segments[:len(segments)-1] {
		switch s {
		case "pullrequests":
			return f.heads[segments[i+1]]
		case "commit":
			if _, ok := f.traced[segments[i+1]]; ok {
				return segments[i+1]
			}
		}
	}
	return ""
}

// trace notes from now on which calls are made for the pull requests.
func (f *front) trace(list []pull) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heads, f.traced = map[string]string{}, map[string][]span{}
	for _, p := range list {
		f.heads[number(float64(p.Number))] = p.head
		f.traced[p.head] = nil
	}
}

// longest says how many calls were made one after another, at most, for each pull request until it showed a state.
func (f *front) longest(state string) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	lengths := make([]int, 0, len(f.traced))
	for head, calls := range f.traced {
		until := f.shown[head+" "+state]
		lengths = append(lengths, inSequence(slices.DeleteFunc(slices.Clone(calls), func(s span) bool { return s.ended.After(until) })))
	}
	f.heads, f.traced = nil, nil
	return lengths
}

// inSequence is how many of the calls can have waited for each other: the most of which none overlaps another.
func inSequence(calls []span) int {
	slices.SortFunc(calls, func(a, b span) int { return a.ended.Compare(b.ended) })
	n := 0
	var last time.Time
	for _, c := range calls {
		if n == 0 || !c.began.Before(last) {
			n, last = n+1, c.ended
		}
	}
	return n
}

// wait waits until Bitbucket has a state on all the heads, and answers since when.
func (f *front) wait(ctx context.Context, state string, list []pull) ([]time.Time, error) {
	times := make([]time.Time, len(list))
	for i, p := range list {
		for {
			f.mu.Lock()
			at, ok := f.shown[p.head+" "+state]
			moved := f.moved
			f.mu.Unlock()
			if ok {
				times[i] = at
				break
			}
			select {
			case <-moved:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	return times, nil
}

// has tells how many of the heads show a state.
func (f *front) has(state string, list []pull) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range list {
		if _, ok := f.shown[p.head+" "+state]; ok {
			n++
		}
	}
	return n
}
