package bitbucketsim

import (
	"html/template"
	"net/http"
	"net/url"
)

type consentView struct {
	Person   *person
	People   []*person
	Consumer string
	Target   string
	Scopes   []string
	Action   template.URL // with the request's own query, encoded anew
}

// pageConsent is the authorize endpoint: it names the consumer and its scopes and lets the visitor choose who
// they are.
func (s *Sim) pageConsent(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	a, err := s.parseAuthorization(q)
	if err != nil {
		s.render(w, http.StatusBadRequest, "message.html", messageView{Title: "This authorization request is not valid", Text: err.Error()}, "")
		return
	}
	if q.Get("response_type") != "code" {
		//nolint:gosec // the target extends the callback that the consumer registered.
		http.Redirect(w, r, a.answer(url.Values{
			"error": {"unsupported_response_type"}, "error_description": {"Only response_type=code is offered."},
		}), http.StatusFound)
		return
	}
	s.render(w, http.StatusOK, "consent.html", consentView{
		Person: s.signedIn(r), People: s.humans(), Consumer: a.consumer.Name, Target: origin(a.target),
		Scopes: a.consumer.Scopes, Action: template.URL("/site/oauth2/authorize?" + q.Encode()), //nolint:gosec // encoded.
	}, " "+origin(a.target))
}

func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (s *Sim) postConsent(w http.ResponseWriter, r *http.Request) {
	a, err := s.parseAuthorization(r.URL.Query())
	if err != nil {
		s.render(w, http.StatusBadRequest, "message.html", messageView{Title: "This authorization request is not valid", Text: err.Error()}, "")
		return
	}
	if r.PostFormValue("decision") != "allow" {
		http.Redirect(w, r, a.deny(), http.StatusFound) //nolint:gosec // as above.
		return
	}
	p, err := s.person(r.PostFormValue("person"))
	if err != nil || p.appKind != "" {
		s.render(w, http.StatusBadRequest, "message.html", messageView{Title: "Choose who you are", Text: "Go back and choose a name."}, "")
		return
	}
	s.signIn(w, p)
	http.Redirect(w, r, s.allow(a, p), http.StatusFound) //nolint:gosec // as above.
}
