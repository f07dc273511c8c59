package app

import "net/http"

// cookieSeconds is how long a browser keeps the cookie. The server ends sessions by itself, and
// earlier.
const cookieSeconds = 30 * 24 * 60 * 60

// cookieName is bound to the host where TLS allows it.
func (s *Server) cookieName() string {
	if s.config.Secure() {
		return "__Host-signedapproval"
	}
	return "signedapproval"
}

// setCookie gives the browser its session. Lax, not strict: people arrive from Bitbucket by a link.
func (s *Server) setCookie(w http.ResponseWriter, value string) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever there is TLS; http is for localhost only
		Name: s.cookieName(), Value: value, Path: "/", HttpOnly: true, Secure: s.config.Secure(),
		SameSite: http.SameSiteLaxMode, MaxAge: cookieSeconds,
	})
}

// cookie reads the browser's session, "" if it has none.
func (s *Server) cookie(r *http.Request) string {
	cookie, err := r.Cookie(s.cookieName())
	if err != nil {
		return ""
	}
	return cookie.Value
}
