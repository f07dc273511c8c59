package app

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Only the verify page may compile WebAssembly, and what it starts may load and send nothing.
func TestOnlyTheVerifyPageMayCompileWebAssembly(t *testing.T) {
	t.Parallel()
	s := &Server{log: slog.New(slog.DiscardHandler)}
	policyOf := func(path string, handler http.Handler) map[string]string {
		t.Helper()
		w := httptest.NewRecorder()
		s.harden(handler).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		policies := w.Header().Values("Content-Security-Policy")
		if len(policies) != 1 {
			t.Fatalf("%s has the policies %q", path, policies)
		}
		directives := map[string]string{}
		for directive := range strings.SplitSeq(policies[0], ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), " ")
			directives[name] = value
		}
		return directives
	}
	verify := policyOf("/verify", s.verifyPage())
	for name, want := range map[string]string{
		"default-src": "'none'", "script-src": "'self' 'wasm-unsafe-eval'", "worker-src": "'self'", "connect-src": "'self'",
		"form-action": "'none'", "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "verifier",
	} {
		if verify[name] != want {
			t.Errorf("the verify page's %s is %q", name, verify[name])
		}
	}
	for _, entry := range []string{"dashboard", "panel", "sign"} {
		policy := policyOf("/"+entry, s.page(entry))
		if policy["script-src"] != "'self'" || policy["trusted-types"] != "'none'" || policy["worker-src"] != "" {
			t.Errorf("the policy of %s is %v", entry, policy)
		}
	}
	worker := policyOf("/assets/verify/worker.js", s.assets())
	if worker["default-src"] != "'none'" || worker["script-src"] != "'wasm-unsafe-eval'" || worker["connect-src"] != "" {
		t.Errorf("the policy of files is %v", worker)
	}
}
