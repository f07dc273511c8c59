package bitbucketsim

import (
	"net/http"
	"slices"
)

type signInView struct {
	Person *person
	People []*person
	Next   string
	Error  string
}

// humans are the accounts that a visitor may choose.
func (s *Sim) humans() []*person {
	return slices.DeleteFunc(slices.Clone(s.people), func(p *person) bool { return p.appKind != "" })
}

func (s *Sim) pageSignIn(w http.ResponseWriter, r *http.Request) {
	s.render(w, http.StatusOK, "signin.html", signInView{
		Person: s.signedIn(r), People: s.humans(), Next: localPath(r.URL.Query().Get("next")),
	}, "")
}

func (s *Sim) postSignIn(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.PostFormValue("next"))
	p, err := s.person(r.PostFormValue("person"))
	if err != nil || p.appKind != "" {
		s.render(w, http.StatusBadRequest, "signin.html", signInView{People: s.humans(), Next: next, Error: "Choose who you are."}, "")
		return
	}
	s.signIn(w, p)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *Sim) postSignOut(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		delete(s.sessions, c.Value)
	}
	//nolint:gosec // a Sim is reached by http on a loopback address.
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/account/signin", http.StatusSeeOther)
}
