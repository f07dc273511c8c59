package bitbucketsim

import (
	"net/http"
	"strconv"
)

// forgeControlRoutes mounts the part of the control door that is about Forge, in the same manner.
func (s *Sim) forgeControlRoutes(mux *http.ServeMux) {
	command(mux, "forge/apps", s.RegisterForgeApp)
	command(mux, "forge/installations", s.InstallForgeApp)
	command(mux, "forge/installations/upgrade", s.UpgradeForgeApp)
	command(mux, "forge/installations/remove", s.UninstallForgeApp)
	command(mux, "forge/tokens", s.IssueInvocationToken)
	command(mux, "forge/tokens/expire", s.ExpireForgeTokens)
	command(mux, "forge/keys/rotate", s.RotateForgeKeys)
	command(mux, "forge/faults", s.AddForgeFault)
	command(mux, "forge/custom-merge-checks", s.SetCustomMergeChecks)
	command(mux, "forge/merge-checks", s.SaveMergeCheck)
	command(mux, "forge/merge-checks/remove", s.RemoveMergeCheck)
	command(mux, "forge/merge-checks/rerun", s.RerunMergeCheck)

	list := func(name string, read func(*http.Request) (any, error)) {
		mux.HandleFunc("GET /sim/forge/"+name, func(w http.ResponseWriter, r *http.Request) {
			out, err := read(r)
			if err != nil {
				writeJSON(w, http.StatusNotFound, object{"error": err.Error()})
				return
			}
			writeJSON(w, http.StatusOK, out)
		})
	}
	list("apps", func(*http.Request) (any, error) { return object{"apps": s.ForgeApps()}, nil })
	list("installations", func(*http.Request) (any, error) {
		return object{"installations": s.ForgeInstallations()}, nil
	})
	list("invocations", func(*http.Request) (any, error) { return object{"invocations": s.ForgeInvocations()}, nil })
	list("merge-checks", func(r *http.Request) (any, error) {
		checks, err := s.MergeChecks(r.URL.Query().Get("workspace"))
		return object{"merge_checks": checks}, err
	})
	list("merge-check-results", func(r *http.Request) (any, error) {
		id, err := strconv.Atoi(r.URL.Query().Get("pull_request"))
		if err != nil {
			return nil, err
		}
		results, err := s.MergeCheckResults(r.URL.Query().Get("repository"), id)
		return object{"results": results}, err
	})
	mux.HandleFunc("POST /sim/forge/schedules", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, object{"queued": s.RunForgeSchedules()})
	})
	mux.HandleFunc("POST /sim/forge/retries", func(w http.ResponseWriter, _ *http.Request) {
		s.RetryForgeEvents()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /sim/forge/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
}

// forgeRoutes mounts what Forge itself serves on the origin of the pages.
func (s *Sim) forgeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+JWKSPath, s.serveJWKS)
	s.bridgeRoutes(mux)
}
