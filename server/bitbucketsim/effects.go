package bitbucketsim

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Effect is something that a call did, whatever its caller was told of it: a build status was written, or a merge was asked for.
type Effect struct {
	Number     int       `json:"number"`     // counts from 1
	At         time.Time `json:"at"`         // when it was done
	Agent      string    `json:"agent"`      // the User-Agent of the call
	Repository string    `json:"repository"` // UUID
	// PullRequest is the number of the one that was to be merged; 0 for a status.
	PullRequest int `json:"pull_request,omitempty"`
	// Commit, Key and State are of the status that was written, as it is now.
	Commit string `json:"commit,omitempty"`
	Key    string `json:"key,omitempty"`
	State  string `json:"state,omitempty"`
}

// Effects returns what calls did after the given number; 0 for all that are kept, the last 20,000.
func (s *Sim) Effects(after int) []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.effectsSeen - len(s.effects) // number of the last one that was forgotten
	return slices.Clone(s.effects[min(max(after-first, 0), len(s.effects)):])
}

// did logs what a call does. It is called with the lock held.
func (s *Sim) did(c *call, e Effect) {
	s.effectsSeen++
	e.Number, e.At, e.Agent = s.effectsSeen, s.now(), c.r.UserAgent()
	s.effects = append(s.effects, e)
	if len(s.effects) > keptCalls {
		s.effects = slices.Clone(s.effects[keptCalls/10:])
	}
}

func (s *Sim) didStatus(c *call, st *commitStatus) {
	s.did(c, Effect{Repository: st.repository.uuid, Commit: st.commit, Key: st.key, State: st.state})
}

func (s *Sim) serveEffects(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.Atoi(r.URL.Query().Get("after"))
	if err != nil {
		after = 0
	}
	writeJSON(w, http.StatusOK, object{"effects": s.Effects(after)})
}
