package gate_test

import (
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

func (w *world) alarms(kind string) (n int) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error {
		alarms, err := tx.OpenAlarms(w.t.Context())
		for _, a := range alarms {
			if a.Kind == kind {
				n++
			}
		}
		return err
	})
	return n
}

// TestMergesAroundTheGateCannotHide merges at a moment at which nothing is asked for.
func TestMergesAroundTheGateCannotHide(t *testing.T) {
	t.Parallel()
	merge := func(w *world, number int64) { w.post(number, "merge", map[string]any{"type": "pullrequest"}) }
	for name, around := range map[string]func(w *world){
		"opened and merged between two looks": func(w *world) {
			w.openSilently()
			merge(w, 1)
			w.event(1)
		},
		"a draft for a moment": func(w *world) {
			number := w.open()
			w.settle()
			w.edit(number, map[string]any{"draft": true})
			w.event(number)
			w.settle()
			w.edit(number, map[string]any{"draft": false})
			merge(w, number)
			w.event(number)
		},
		"elsewhere for a moment": func(w *world) {
			number := w.open()
			w.settle()
			w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
			w.event(number)
			w.settle()
			w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": release}}})
			merge(w, number)
			w.event(number)
		},
		"while it is asked for again": func(w *world) {
			number := w.open()
			w.settle()
			w.sql(`update signedapproval_approval_requests set expires_at = now() - interval '1 minute'`)
			w.sql(`update signedapproval_jobs set run_at = now() where kind = 'evaluate'`)
			w.settle()
			_, err := w.gate.Renew(w.t.Context(), w.people["alice"].Person, w.workspace, w.view(number).Request.ID)
			w.must(err)
			merge(w, number)
		},
		"another head": func(w *world) {
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.settle()
			w.push("src/nozzle.go", "package evil\n")
			merge(w, number)
			w.event(number)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob"))
			w.settle()
			around(w)
			w.drainAll()
			if n := w.alarms(store.AlarmMergedUnapproved); n != 1 {
				t.Errorf("%d alarms", n)
			}
		})
	}
}

// TestWhatWasNotGatedIsNoViolation merges before there was a gate, or where none was.
func TestWhatWasNotGatedIsNoViolation(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ destination string }{"before the gate": {release}, "where no rule applies": {"main"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.destination == "main" {
				w.save(w.rule(1, "bob"))
				w.settle()
			}
			opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "x", Source: feature, Destination: c.destination})
			w.must(err)
			w.post(int64(opened.ID), "merge", map[string]any{"type": "pullrequest"})
			everything := w.rule(1, "bob")
			everything.Branches = []string{"**"}
			if c.destination == "main" {
				w.event(int64(opened.ID))
				w.settle()
			}
			w.save(everything)
			w.settle()
			w.event(int64(opened.ID)) // somebody comments on it
			w.settle()
			if n := w.alarms(store.AlarmMergedUnapproved); n != 0 {
				t.Errorf("%d alarms", n)
			}
		})
	}
}
