package app

import (
	"errors"
	"net/http"

	"github.com/signedapproval/bitbucket/frontend"
)

// page serves the document of one of the front end's entries.
func (s *Server) page(entry string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		html, err := frontend.Page(entry)
		if errors.Is(err, frontend.ErrNotBuilt) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if err != nil {
			s.log.ErrorContext(r.Context(), "a page is missing", "page", entry, "error", err)
			http.Error(w, "The page is missing.", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(html)
	}
}

// verifyPage serves the page on which anybody can have evidence checked by their own browser. It knows no session.
func (s *Server) verifyPage() http.HandlerFunc {
	page := s.page("verify")
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", verifyPolicy)
		page(w, r)
	}
}

// assets serves the front end's files: named by their content, so they never change.
func (s *Server) assets() http.Handler {
	files := http.StripPrefix("/assets/", http.FileServerFS(frontend.Assets()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		w.Header().Set("Content-Security-Policy", workerPolicy)
		files.ServeHTTP(w, r)
	})
}
