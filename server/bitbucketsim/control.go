package bitbucketsim

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

// controlRoutes mounts the control door. Each POST takes the JSON of the argument of the Go method with the
// same purpose and answers with the JSON of its result; an error is {"error": "..."}. The door is open to whoever
// reaches the listener, which is why a Sim belongs on a loopback address.
func (s *Sim) controlRoutes(mux *http.ServeMux) {
	command(mux, "people", s.AddPerson)
	command(mux, "workspaces", s.AddWorkspace)
	command(mux, "memberships", s.SetMembership)
	command(mux, "plans", s.SetPlan)
	command(mux, "repositories", s.AddRepository)
	command(mux, "repositories/rename", s.RenameRepository)
	command(mux, "repositories/remove", s.RemoveRepository)
	command(mux, "permissions", s.SetPermission)
	command(mux, "commits", s.Push)
	command(mux, "branches/remove", s.RemoveBranch)
	command(mux, "pullrequests", s.OpenPullRequest)
	command(mux, "consumers", s.AddConsumer)
	command(mux, "consents", s.Consent)
	command(mux, "tokens", s.IssueToken)
	command(mux, "grants/revoke", s.Revoke)
	command(mux, "grants/expire", s.ExpireTokens)
	command(mux, "faults", s.AddFault)
	command(mux, "webhook-faults", s.AddWebhookFault)

	s.forgeControlRoutes(mux)

	clear := func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	}
	mux.HandleFunc("DELETE /sim/faults", clear)
	mux.HandleFunc("DELETE /sim/webhook-faults", clear)
	mux.HandleFunc("GET /sim/calls", func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.Atoi(r.URL.Query().Get("after"))
		if err != nil {
			after = 0
		}
		writeJSON(w, http.StatusOK, object{"calls": s.Calls(after)})
	})
	mux.HandleFunc("GET /sim/effects", s.serveEffects)
	mux.HandleFunc("GET /sim/strikes", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, object{"strikes": s.Strikes()})
	})
	mux.HandleFunc("GET /sim/deliveries", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, object{"deliveries": s.Deliveries()})
	})
	mux.HandleFunc("/sim/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, object{"error": "there is no such control"})
	})
}

// command mounts one Go method.
func command[In, Out any](mux *http.ServeMux, name string, do func(In) (Out, error)) {
	mux.HandleFunc("POST /sim/"+name, func(w http.ResponseWriter, r *http.Request) {
		var in In
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			writeJSON(w, http.StatusBadRequest, object{"error": err.Error()})
			return
		}
		out, err := do(in)
		switch {
		case errors.Is(err, ErrNotFound):
			writeJSON(w, http.StatusNotFound, object{"error": err.Error()})
		case err != nil:
			writeJSON(w, http.StatusBadRequest, object{"error": err.Error()})
		default:
			writeJSON(w, http.StatusOK, out)
		}
	})
}
