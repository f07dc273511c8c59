package bitbucketsim

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

//go:embed pages
var pageFiles embed.FS

var pageTemplates = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

const sessionCookie = "bitbucketsim_session"

// pageRoutes mounts the HTML face. Forms are safe from other sites: the cookie is SameSite, and a POST whose
// origin is another one is refused.
func (s *Sim) pageRoutes(mux *http.ServeMux) {
	style, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		panic("bitbucketsim: " + err.Error())
	}
	mux.HandleFunc("GET /static/style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write(style)
	})
	script, err := pageFiles.ReadFile("pages/forge-host.js")
	if err != nil {
		panic("bitbucketsim: " + err.Error())
	}
	mux.HandleFunc("GET /static/forge.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(script)
	})
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	guard := http.NewCrossOriginProtection()
	handle := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, guard.Handler(s.underLock(h))) }
	handle("GET /{$}", s.withPerson(s.pageRepositories))
	handle("GET /account/signin", s.pageSignIn)
	handle("POST /account/signin", s.postSignIn)
	handle("POST /account/signout", s.postSignOut)
	handle("GET /site/oauth2/authorize", s.pageConsent)
	handle("POST /site/oauth2/authorize", s.postConsent)
	s.forgePageRoutes(handle)
	handle("GET /{workspace}/{repository}", s.withPerson(s.pageRepository))
	handle("GET /{workspace}/{repository}/pull-requests", s.withPerson(s.pageRepository))
	handle("GET /{workspace}/{repository}/pull-requests/new", s.withPerson(s.pageNewPullRequest))
	handle("POST /{workspace}/{repository}/pull-requests", s.withPerson(s.postNewPullRequest))
	handle("GET /{workspace}/{repository}/pull-requests/{id}", s.withPerson(s.pagePullRequest))
	handle("POST /{workspace}/{repository}/pull-requests/{id}/{action}", s.withPerson(s.postAction))
	handle("GET /{workspace}/{repository}/commits/{commit}", s.withPerson(s.pageCommit))
}

// underLock runs a page while it holds the lock, and sends what the page wrote when it has let go, so that a slow
// browser holds up nobody.
func (s *Sim) underLock(page http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, "the form could not be read", http.StatusBadRequest)
			return
		}
		rec := &recorder{header: http.Header{}}
		func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			page(rec, r)
		}()
		rec.sendTo(w)
	})
}

// signedIn returns the person of the session cookie, or nil. The lock must be held.
func (s *Sim) signedIn(r *http.Request) *person {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil
	}
	return s.sessions[c.Value]
}

// visitor is one request of a person who is logged in.
type visitor struct {
	w      http.ResponseWriter
	r      *http.Request
	person *person
}

// withPerson runs a page for a person who is logged in, and sends others to the log-in page.
func (s *Sim) withPerson(page func(*visitor) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := s.signedIn(r)
		if p == nil {
			if r.Method != http.MethodGet {
				s.render(w, http.StatusForbidden, "message.html", messageView{Title: "Log in first"}, "")
				return
			}
			http.Redirect(w, r, "/account/signin?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		v := &visitor{w, r, p}
		if err := page(v); err != nil {
			s.renderError(v, err)
		}
	}
}

type messageView struct {
	Person *person
	Title  string
	Text   string
	Back   string
}

// Lines is the text line by line.
func (m messageView) Lines() []string { return strings.Split(m.Text, "\n") }

// DisplayName lets templates name a person.
func (p *person) DisplayName() string { return p.displayName }

// Nickname lets templates refer to a person.
func (p *person) Nickname() string { return p.nickname }

func (s *Sim) renderError(v *visitor, err error) {
	view := messageView{Person: v.person, Title: "This did not work", Text: err.Error(), Back: v.r.Header.Get("Referer")}
	status := http.StatusBadRequest
	if apiErr, ok := err.(*apiError); ok { //nolint:errorlint // the handlers return it unwrapped.
		status = apiErr.status
		if checks, ok := apiErr.fields["merge_checks"].([]any); ok {
			for _, c := range checks {
				view.Text += fmt.Sprintf("\n- %v", c)
			}
		}
	}
	if status == http.StatusNotFound {
		view.Title = "Not found"
	}
	s.render(v.w, status, "message.html", view, "")
}

// render writes a page. formAction names a further origin that forms may lead to.
func (s *Sim) render(w http.ResponseWriter, status int, name string, data any, formAction string) {
	s.renderWith(w, status, name, data, "; form-action 'self'"+formAction)
}

// renderWith writes a page. policy is added to its Content-Security-Policy.
func (s *Sim) renderWith(w http.ResponseWriter, status int, name string, data any, policy string) {
	var out bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&out, name, data); err != nil {
		s.opts.Logger.Error("page failed", "page", name, "error", err)
		http.Error(w, "page failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; img-src 'self'"+policy+"; frame-ancestors 'none'; base-uri 'none'")
	w.Header().Set("X-Frame-Options", "DENY")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "same-origin")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

func (s *Sim) signIn(w http.ResponseWriter, p *person) {
	id := newSecret()
	s.sessions[id] = p
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // a Sim is reached by http on a loopback address.
		Name: sessionCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: strings.HasPrefix(s.baseURL, "https:"),
	})
}

// localPath keeps a redirect on this site.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.Contains(next, `\`) {
		return "/"
	}
	return next
}
