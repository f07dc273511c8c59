package bitbucketsim

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
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
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	guard := http.NewCrossOriginProtection()
	handle := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, guard.Handler(h)) }
	handle("GET /{$}", s.withPerson(s.pageRepositories))
	handle("GET /account/signin", s.pageSignIn)
	handle("POST /account/signin", s.postSignIn)
	handle("POST /account/signout", s.postSignOut)
	handle("GET /site/oauth2/authorize", s.pageConsent)
	handle("POST /site/oauth2/authorize", s.postConsent)
	handle("GET /{workspace}/{repository}", s.withPerson(s.pageRepository))
	handle("GET /{workspace}/{repository}/pull-requests", s.withPerson(s.pageRepository))
	handle("GET /{workspace}/{repository}/pull-requests/new", s.withPerson(s.pageNewPullRequest))
	handle("POST /{workspace}/{repository}/pull-requests", s.withPerson(s.postNewPullRequest))
	handle("GET /{workspace}/{repository}/pull-requests/{id}", s.withPerson(s.pagePullRequest))
	handle("POST /{workspace}/{repository}/pull-requests/{id}/{action}", s.withPerson(s.postAction))
	handle("GET /{workspace}/{repository}/commits/{commit}", s.withPerson(s.pageCommit))
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

// withPerson runs a page under the lock for a person who is logged in, and sends others to the log-in page.
func (s *Sim) withPerson(page func(*visitor) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
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
	var out bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&out, name, data); err != nil {
		s.opts.Logger.Error("page failed", "page", name, "error", err)
		http.Error(w, "page failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'"+formAction+"; frame-ancestors 'none'; base-uri 'none'")
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
	http.SetCookie(w, &http.Cookie{
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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.render(w, http.StatusOK, "signin.html", signInView{
		Person: s.signedIn(r), People: s.humans(), Next: localPath(r.URL.Query().Get("next")),
	}, "")
}

func (s *Sim) postSignIn(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, err := r.Cookie(sessionCookie); err == nil {
		delete(s.sessions, c.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/account/signin", http.StatusSeeOther)
}

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
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	a, err := s.parseAuthorization(q)
	if err != nil {
		s.render(w, http.StatusBadRequest, "message.html", messageView{Title: "This authorization request is not valid", Text: err.Error()}, "")
		return
	}
	if q.Get("response_type") != "code" {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.parseAuthorization(r.URL.Query())
	if err != nil {
		s.render(w, http.StatusBadRequest, "message.html", messageView{Title: "This authorization request is not valid", Text: err.Error()}, "")
		return
	}
	if r.PostFormValue("decision") != "allow" {
		http.Redirect(w, r, a.deny(), http.StatusFound)
		return
	}
	p, err := s.person(r.PostFormValue("person"))
	if err != nil || p.appKind != "" {
		s.render(w, http.StatusBadRequest, "message.html", messageView{Title: "Choose who you are", Text: "Go back and choose a name."}, "")
		return
	}
	s.signIn(w, p)
	http.Redirect(w, r, s.allow(a, p), http.StatusFound)
}

type repositoryLine struct{ FullName, Description, Permission string }

type repositoriesView struct {
	Person       *person
	Repositories []repositoryLine
}

func (s *Sim) pageRepositories(v *visitor) error {
	view := repositoriesView{Person: v.person}
	for _, w := range s.workspaces {
		for _, r := range w.repositories {
			if level := r.permission(v.person); level != "" {
				view.Repositories = append(view.Repositories, repositoryLine{r.fullName(), r.description, level})
			}
		}
	}
	s.render(v.w, http.StatusOK, "repositories.html", view, "")
	return nil
}

func (s *Sim) visibleRepository(v *visitor) (*repository, error) {
	r, err := s.repository(v.r.PathValue("workspace"), v.r.PathValue("repository"))
	if err != nil || !r.may(v.person, PermissionRead) {
		return nil, notFound("There is no such repository, or you may not see it.")
	}
	return r, nil
}

type branchLine struct {
	Name, Hash, Message string
	Main                bool
}

type pullRequestLine struct {
	ID                                int
	Title, State, Author, From, To    string
	Draft                             bool
	Approvals, Successful, Unfinished int
}

type repositoryView struct {
	Person       *person
	FullName     string
	Branches     []branchLine
	PullRequests []pullRequestLine
	MayOpen      bool
}

func (s *Sim) pageRepository(v *visitor) error {
	r, err := s.visibleRepository(v)
	if err != nil {
		return err
	}
	view := repositoryView{Person: v.person, FullName: r.fullName(), MayOpen: r.may(v.person, PermissionWrite)}
	for _, name := range r.sortedBranches() {
		c := r.objects.commits[r.branches[name]]
		first, _, _ := strings.Cut(c.message, "\n")
		view.Branches = append(view.Branches, branchLine{name, c.hash, first, name == r.mainBranch})
	}
	for _, pr := range slices.Backward(r.pullRequests) {
		good, bad, running := s.buildCounts(pr)
		view.PullRequests = append(view.PullRequests, pullRequestLine{
			pr.id, pr.title, pr.state, pr.author.displayName, pr.sourceBranch, pr.destBranch, pr.draft,
			pr.count("approved"), good, bad + running,
		})
	}
	s.render(v.w, http.StatusOK, "repository.html", view, "")
	return nil
}

type newPullRequestView struct {
	Person                      *person
	FullName                    string
	Branches                    []string
	Main, Source, Title, Detail string
	People                      []*person
}

func (s *Sim) pageNewPullRequest(v *visitor) error {
	r, err := s.visibleRepository(v)
	if err != nil {
		return err
	}
	view := newPullRequestView{
		Person: v.person, FullName: r.fullName(), Branches: r.sortedBranches(), Main: r.mainBranch,
		Source: v.r.URL.Query().Get("source"),
	}
	for _, p := range s.humans() {
		if p != v.person && r.may(p, PermissionRead) {
			view.People = append(view.People, p)
		}
	}
	s.render(v.w, http.StatusOK, "newpullrequest.html", view, "")
	return nil
}

func (s *Sim) postNewPullRequest(v *visitor) error {
	r, err := s.visibleRepository(v)
	if err != nil {
		return err
	}
	if !r.may(v.person, PermissionWrite) {
		return forbidden("You may not open a pull request here.")
	}
	if err := v.r.ParseForm(); err != nil {
		return badRequest("The form could not be read.")
	}
	var reviewers []*person
	for _, n := range v.r.PostForm["reviewer"] {
		p, err := s.person(n)
		if err != nil {
			return err
		}
		reviewers = append(reviewers, p)
	}
	pr, err := s.openPullRequest(r, v.person, newPullRequest{
		title: v.r.PostFormValue("title"), description: v.r.PostFormValue("description"), source: r,
		sourceBranch: v.r.PostFormValue("source"), destBranch: v.r.PostFormValue("destination"), reviewers: reviewers,
		closeSourceBranch: v.r.PostFormValue("close_source_branch") != "", draft: v.r.PostFormValue("draft") != "",
	})
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, fmt.Sprintf("/%s/pull-requests/%d", r.fullName(), pr.id), http.StatusSeeOther)
	return nil
}

func (s *Sim) visiblePullRequest(v *visitor) (*pullRequest, error) {
	r, err := s.visibleRepository(v)
	if err != nil {
		return nil, err
	}
	id, err := strconv.Atoi(v.r.PathValue("id"))
	if err != nil {
		return nil, notFound("There is no such pull request.")
	}
	pr, err := r.pullRequest(id)
	if err != nil {
		return nil, notFound("There is no such pull request.")
	}
	return pr, nil
}

type buildLine struct{ Key, Name, State, URL, Description string }

type personLine struct{ Name, State string }

type commitLine struct{ Hash, Message, Author string }

type diffLine struct{ Class, Text string }

type pullRequestView struct {
	Person                             *person
	FullName, Title, Description       string
	ID                                 int
	State, Author                      string
	Draft                              bool
	Source, SourceRepository           string
	Destination, Head, DestinationHead string
	MergeCommit                        string
	Builds                             []buildLine
	People                             []personLine
	Commits                            []commitLine
	Checks                             []mergeCheck
	Enforced                           bool
	Open                               bool
	Approved, Requested, MayWrite      bool
	MergeBlocked                       string // why not, or empty
	Strategies                         []string
	CloseSource                        bool
	Diff                               []diffLine
}

func (s *Sim) pagePullRequest(v *visitor) error {
	pr, err := s.visiblePullRequest(v)
	if err != nil {
		return err
	}
	r := pr.repository
	view := pullRequestView{
		Person: v.person, FullName: r.fullName(), Title: pr.title, Description: pr.description, ID: pr.id,
		State: pr.state, Author: pr.author.displayName, Draft: pr.draft, Source: pr.sourceBranch,
		Destination: pr.destBranch, Head: pr.head, DestinationHead: pr.destinationHead(), MergeCommit: pr.mergeCommit,
		Checks: s.mergeChecks(pr), Enforced: s.checksEnforced(pr), Open: pr.state == stateOpen,
		MayWrite: r.may(v.person, PermissionWrite), Strategies: r.strategies, CloseSource: pr.closeSourceBranch,
	}
	if pr.source != r {
		view.SourceRepository = pr.source.fullName()
		if pr.source.gone {
			view.SourceRepository = "(deleted)"
		}
	}
	for _, st := range s.statusesOf(pr) {
		view.Builds = append(view.Builds, buildLine{st.key, st.name, st.state, statusURL(st), st.description})
	}
	for _, x := range pr.participants {
		if x.person == v.person {
			view.Approved, view.Requested = x.state == "approved", x.state == "changes_requested"
		}
		view.People = append(view.People, personLine{x.person.displayName, strings.ReplaceAll(x.state, "_", " ")})
	}
	for _, c := range pr.commits() {
		first, _, _ := strings.Cut(c.message, "\n")
		view.Commits = append(view.Commits, commitLine{c.hash, first, c.author.name})
	}
	if view.Open {
		if err := s.mayMerge(pr, v.person); err != nil {
			view.MergeBlocked = err.Error()
		}
	}
	view.Diff = s.pullRequestDiff(pr)
	s.render(v.w, http.StatusOK, "pullrequest.html", view, "")
	return nil
}

// statusURL fills in the context variables that Bitbucket evaluates where it shows a status.
func statusURL(st *commitStatus) string {
	return strings.NewReplacer(
		"{repository.full_name}", st.repository.fullName(), "{repository.uuid}", st.repository.uuid,
		"{commit.hash}", st.commit, "{commit.node}", st.commit,
	).Replace(st.url)
}

func (s *Sim) pullRequestDiff(pr *pullRequest) []diffLine {
	o := pr.repository.objects
	from := o.mergeBase(pr.head, pr.destinationHead())
	if from == nil {
		return nil
	}
	var out strings.Builder
	o.writeDiff(&out, o.compareSnapshots(from.files, o.commits[pr.head].files), 3)
	return colourDiff(out.String())
}

func colourDiff(text string) []diffLine {
	var lines []diffLine
	for l := range strings.Lines(text) {
		class := ""
		switch {
		case strings.HasPrefix(l, "diff --git"), strings.HasPrefix(l, "--- "), strings.HasPrefix(l, "+++ "):
			class = "file"
		case strings.HasPrefix(l, "@@"):
			class = "hunk"
		case strings.HasPrefix(l, "+"):
			class = "added"
		case strings.HasPrefix(l, "-"):
			class = "removed"
		}
		lines = append(lines, diffLine{class, strings.TrimSuffix(l, "\n")})
	}
	return lines
}

func (s *Sim) postAction(v *visitor) error {
	pr, err := s.visiblePullRequest(v)
	if err != nil {
		return err
	}
	switch v.r.PathValue("action") {
	case "approve":
		s.approve(pr, v.person)
	case "unapprove":
		err = s.unapprove(pr, v.person)
	case "request-changes":
		s.requestChanges(pr, v.person)
	case "withdraw-request":
		err = s.withdrawChangeRequest(pr, v.person)
	case "decline":
		err = s.decline(pr, v.person)
	case "merge":
		closeSource := v.r.PostFormValue("close_source_branch") != ""
		err = s.merge(pr, v.person, mergeSpec{strategy: v.r.PostFormValue("merge_strategy"), closeSourceBranch: &closeSource})
	default:
		err = notFound("There is no such action.")
	}
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, fmt.Sprintf("/%s/pull-requests/%d", pr.repository.fullName(), pr.id), http.StatusSeeOther)
	return nil
}

type commitView struct {
	Person                          *person
	FullName, Hash, Message, Author string
	Date                            any
	Diff                            []diffLine
}

func (s *Sim) pageCommit(v *visitor) error {
	r, err := s.visibleRepository(v)
	if err != nil {
		return err
	}
	c, err := s.resolve(r, v.r.PathValue("commit"))
	if err != nil {
		return notFound("There is no such commit.")
	}
	var from snapshot
	if len(c.parents) > 0 {
		from = r.objects.commits[c.parents[0]].files
	}
	var out strings.Builder
	r.objects.writeDiff(&out, r.objects.compareSnapshots(from, c.files), 3)
	s.render(v.w, http.StatusOK, "commit.html", commitView{
		v.person, r.fullName(), c.hash, c.message, c.author.String(), stamp(c.author.when), colourDiff(out.String()),
	}, "")
	return nil
}
