package workspace_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// patience is when a call to Bitbucket is given up: never, however busy the machine is.
const patience = time.Minute

// troubled is a server behind a wire, on the database of this world.
func (w *world) troubled(t *testing.T) (*workspace.Workspaces, *fault.Wire) {
	t.Helper()
	wire := &fault.Wire{}
	s := get(store.Open(t.Context(), w.db.AppURL, vault, wire.Tune))(t)
	t.Cleanup(s.Close)
	consumer := w.consumer(w.connect)
	consumer.Transport, consumer.Timeout = wire, patience
	return w.serverBy(s, origin, consumer, bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL(), Transport: wire, Timeout: patience})), wire
}

// until tries, as the next job or person would, until it works. A server that dies is followed by another one, when the leases
// that it held have run out.
func (w *world) until(t *testing.T, wire *fault.Wire, try func() error) {
	t.Helper()
	var err error
	for range 5 {
		if err = try(); err == nil {
			return
		}
		if wire.Dead() {
			wire.Revive()
			w.sql(`update signedapproval_jobs set leased_until = now() - interval '1 second' where leased_until is not null`)
		}
	}
	t.Fatalf("it never works: %v", err)
}

// TestFaultsOfARefresh plays the row of the failure matrix on the exchange of a refresh token.
func TestFaultsOfARefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	ws, wire := w.troubled(t)
	fault.Run(t, fault.TokenRefresh, func(t *testing.T, m fault.Mishap, armed bool) fault.Outcome {
		w.stale("-1 minute")
		wire.Clear()
		if armed {
			wire.Set(fault.Trap{On: fault.Calls(http.MethodPost, "/access_token$"), Mishap: m})
		}
		w.until(t, wire, func() error { return w.call(ws) })
		fired := wire.Clear()
		must(t, wire.Land()) // an exchange that was given up on may arrive late
		end := "connection " + w.connection(w.acme).State
		w.stale("-1 minute")
		if err := w.call(w.Workspaces); err != nil {
			return fault.Outcome{Fired: fired, End: end + "; " + err.Error()}
		}
		return fault.Outcome{Fired: fired, End: end + "; the stored pair refreshes again"}
	})
}

// TestFaultsOfAWebhook plays the row of the failure matrix on making a webhook that somebody has deleted.
func TestFaultsOfAWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.saved(w.app, approvals(1))
	ws, wire := w.troubled(t)
	fault.Run(t, fault.HookRegistration, func(t *testing.T, m fault.Mishap, armed bool) fault.Outcome {
		for _, hook := range w.hooks(w.app) {
			must(t, w.admin().DeleteHook(t.Context(), w.acme, w.app, hook.UUID))
		}
		wire.Clear()
		if armed {
			wire.Set(fault.Trap{On: fault.Calls(http.MethodPost, "/hooks$"), Mishap: m})
		}
		ensure := func() error { return ws.EnsureHook(t.Context(), w.acme, w.app) }
		w.until(t, wire, ensure)
		fired := wire.Clear()
		must(t, wire.Land())
		must(t, ensure()) // the next walk over the repository
		hooks := w.hooks(w.app)
		made := fmt.Sprintf("%d webhooks", len(hooks))
		if len(hooks) == 1 && hooks[0].SecretSet && hooks[0].Active {
			made = "one webhook, with our secret"
		}
		alarms := "no alarm"
		if kinds := w.alarms(w.acme); len(kinds) > 0 {
			alarms = fmt.Sprintf("alarms %q", kinds)
		}
		return fault.Outcome{Fired: fired, End: fmt.Sprintf("repository %s; %s; %s", w.config(w.app).State, made, alarms)}
	})
}
