package bitbucketsim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// apiError is an error answer of the REST API, in Bitbucket's form.
type apiError struct {
	status  int
	message string
	detail  any // a string, or an object for missing scopes
	fields  object
	bare    bool // the body holds the fields alone, without type and message
}

func (e *apiError) Error() string { return e.message }

func (e *apiError) body() object {
	inner := object{}
	if e.fields != nil {
		inner["fields"] = e.fields
	}
	if e.bare {
		return object{"error": inner}
	}
	inner["message"] = e.message
	if e.detail != nil {
		inner["detail"] = e.detail
	}
	return object{"type": "error", "error": inner}
}

func badRequest(message string) error {
	return &apiError{status: http.StatusBadRequest, message: message}
}

func fieldError(field, message string) error {
	return &apiError{
		status: http.StatusBadRequest, message: field + ": " + message, fields: object{field: []any{message}},
	}
}

func forbidden(message string) error {
	return &apiError{status: http.StatusForbidden, message: message}
}

func notFound(message string) error { return &apiError{status: http.StatusNotFound, message: message} }

// call is one authenticated request to the REST API.
type call struct {
	r      *http.Request
	body   []byte
	grant  *grant
	person *person
	query  url.Values
}

// decode reads the JSON body into v. An empty body leaves v as it is.
func (c *call) decode(v any) error {
	if len(c.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		return badRequest("Bad request: the body is not the JSON that this resource expects")
	}
	return nil
}

// answer is what a handler of the REST API returns.
type answer struct {
	status   int // 0 means 200
	body     any // nil for an empty body
	text     string
	location string
}

type restHandler func(*Sim, *call) (*answer, error)

// route is one operation of the REST API.
type route struct {
	method, path string
	scope        string // "" where any token will do
	handle       restHandler
}

// maxBody is the size of a request body that the API accepts, in bytes.
const maxBody = 4 << 20

// routes gives each face its own mux, since the pages' patterns begin with a wildcard.
func (s *Sim) routes() http.Handler {
	api := http.NewServeMux()
	for _, rt := range restRoutes {
		api.HandleFunc(rt.method+" /2.0"+rt.path, func(w http.ResponseWriter, r *http.Request) { s.serveREST(w, r, rt) })
	}
	api.HandleFunc("POST /site/oauth2/access_token", s.serveToken)
	api.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, (&apiError{
			message: "Resource not found", detail: "There is no API hosted at this URL",
		}).body())
	})
	control, pages, forge := http.NewServeMux(), http.NewServeMux(), http.NewServeMux()
	s.controlRoutes(control)
	s.forgeRoutes(forge)
	s.pageRoutes(pages)
	observed := s.observed(api)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, "/2.0/"), path == "/site/oauth2/access_token":
			// Bitbucket's own examples end some addresses in a slash.
			r.URL.Path, r.URL.RawPath = strings.TrimSuffix(path, "/"), strings.TrimSuffix(r.URL.RawPath, "/")
			observed.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/forge/"):
			forge.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/sim/"):
			control.ServeHTTP(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

func (s *Sim) serveREST(w http.ResponseWriter, r *http.Request, rt route) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeJSON(w, http.StatusRequestEntityTooLarge, (&apiError{message: "Request entity too large"}).body())
		return
	}
	a, raw := s.answer(w, r, rt, body)
	if a.location != "" {
		w.Header().Set("Location", a.location)
	}
	switch {
	case a.text != "":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		raw = []byte(a.text)
	case raw != nil:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	w.WriteHeader(cmp.Or(a.status, http.StatusOK))
	_, _ = w.Write(raw)
}

// answer carries a call out under the lock and writes the JSON of its answer, or of its refusal.
func (s *Sim) answer(w http.ResponseWriter, r *http.Request, rt route, body []byte) (a *answer, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.dispatch(w, r, rt, body)
	var apiErr *apiError
	switch {
	case errors.As(err, &apiErr):
		a, raw = &answer{status: apiErr.status}, marshal(apiErr.body())
	case errors.Is(err, ErrNotFound):
		a, raw = &answer{status: http.StatusNotFound}, marshal((&apiError{message: err.Error()}).body())
	case err != nil:
		s.opts.Logger.Error("request failed", "path", r.URL.Path, "error", err)
		a, raw = &answer{status: http.StatusInternalServerError}, marshal((&apiError{message: "Internal server error"}).body())
	case a.body != nil:
		raw = marshal(selectFields(a.body, r.URL.Query().Get("fields")))
	}
	return a, raw
}

// dispatch authenticates, limits and authorises a call, then carries it out.
func (s *Sim) dispatch(w http.ResponseWriter, r *http.Request, rt route, body []byte) (*answer, error) {
	g, err := s.authenticate(r)
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="Bitbucket.org HTTP"`)
		return nil, err
	}
	if g.forge != nil {
		return s.dispatchForge(w, r, rt, body, g)
	}
	w.Header().Set("X-OAuth-Scopes", strings.Join(g.scopes, ", "))
	w.Header().Set("X-Accepted-OAuth-Scopes", rt.scope)
	if err := s.limit(g, r.URL.Path); err != nil {
		return nil, err
	}
	if rt.scope != "" && !hasScope(g.scopes, rt.scope) {
		return nil, missingScopes(g.scopes, rt.scope)
	}
	return rt.handle(s, &call{r: r, body: body, grant: g, person: g.person, query: r.URL.Query()})
}

func missingScopes(granted []string, required ...string) error {
	return &apiError{
		status: http.StatusForbidden, message: "Your credentials lack one or more required privilege scopes.",
		detail: object{"granted": granted, "required": required},
	}
}

// authenticate accepts a bearer token in the Authorization header, and nowhere else.
func (s *Sim) authenticate(r *http.Request) (*grant, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" {
		return nil, &apiError{status: http.StatusUnauthorized, message: "Authentication required"}
	}
	t := s.accessTokens[token]
	if !strings.EqualFold(scheme, "bearer") || t == nil || t.grant.revoked {
		return nil, &apiError{status: http.StatusUnauthorized, message: "Token is invalid, expired, or not supported for this endpoint."}
	}
	if s.now().After(t.expires) {
		return nil, &apiError{
			status:  http.StatusUnauthorized,
			message: "Access token expired. Use your refresh token to obtain a new access token.",
		}
	}
	return t.grant, nil
}

// usage holds the times of the calls of the last hour, by resource.
type usage struct{ repositories, hooks []time.Time }

// limit applies the documented limits of a rolling hour.
func (s *Sim) limit(g *grant, path string) error {
	spend := func(times *[]time.Time, most int) error {
		if most < 0 {
			return nil
		}
		now := s.now()
		for len(*times) > 0 && now.Sub((*times)[0]) >= time.Hour {
			*times = (*times)[1:]
		}
		if len(*times) >= most {
			return &apiError{status: http.StatusTooManyRequests, message: "Rate limit for this resource has been exceeded"}
		}
		*times = append(*times, now)
		return nil
	}
	if strings.Contains(path+"/", "/hooks/") {
		return spend(&g.usage.hooks, s.opts.HookCallsPerHour)
	}
	if strings.HasPrefix(path, "/2.0/repositories/") {
		return spend(&g.usage.repositories, s.opts.RepositoryCallsPerHour)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(marshal(body))
}

// callRepository finds the repository of the path, if the caller may do that much with it.
func (s *Sim) callRepository(c *call, least string) (*repository, error) {
	r, err := s.repository(c.r.PathValue("workspace"), c.r.PathValue("repository"))
	if err != nil || !r.may(c.person, PermissionRead) || !c.grant.admits(r.workspace) {
		return nil, notFound("You may not have access to this repository or it no longer exists in this workspace. If you think this repository exists and you have access, make sure you are authenticated.")
	}
	if !r.may(c.person, least) {
		return nil, forbidden("Access denied. You must have " + least + " access to this repository.")
	}
	return r, nil
}

// callWorkspace finds the workspace of the path, if the caller belongs to it.
func (s *Sim) callWorkspace(c *call) (*workspace, error) {
	w, err := s.workspace(c.r.PathValue("workspace"))
	if err != nil {
		return nil, notFound("No workspace with identifier '" + c.r.PathValue("workspace") + "'.")
	}
	if w.role(c.person) == "" || !c.grant.admits(w) {
		return nil, forbidden("You do not have access to this workspace.")
	}
	return w, nil
}

// callPullRequest finds the pull request of the path, if the caller may read it.
func (s *Sim) callPullRequest(c *call) (*pullRequest, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	id, err := strconv.Atoi(c.r.PathValue("id"))
	if err != nil {
		return nil, notFound("Not Found")
	}
	pr, err := r.pullRequest(id)
	if err != nil {
		return nil, notFound(fmt.Sprintf("Pull request %d does not exist", id))
	}
	return pr, nil
}

func (s *Sim) callCommit(c *call, r *repository) (*commit, error) {
	found, err := s.resolve(r, c.r.PathValue("commit"))
	if err != nil {
		return nil, &apiError{
			status: http.StatusNotFound, message: "Commit not found",
			detail: "The commit " + c.r.PathValue("commit") + " does not exist in " + r.fullName() + ".",
		}
	}
	return found, nil
}

// listing says how a list is paged.
type listing struct {
	pagelen, most int  // default and maximum number of items
	opaque        bool // the next page is named by a token, not by a number, and the size is not told
}

var standardListing = listing{pagelen: 10, most: 100}

// list filters, sorts and pages items.
func (s *Sim) list(c *call, how listing, items []object) (*answer, error) {
	var err error
	if q := c.query.Get("q"); q != "" {
		if items, err = filter(items, q); err != nil {
			return nil, err
		}
	}
	if by := c.query.Get("sort"); by != "" {
		sortItems(items, by)
	}
	pagelen := how.pagelen
	if given := c.query.Get("pagelen"); given != "" {
		if pagelen, err = strconv.Atoi(given); err != nil || pagelen < 1 || pagelen > how.most {
			return nil, badRequest("Invalid pagelen")
		}
	}
	page := 1
	if given := c.query.Get("page"); given != "" {
		if how.opaque {
			given = strings.TrimPrefix(given, "p-")
		}
		if page, err = strconv.Atoi(given); err != nil || page < 1 {
			return nil, badRequest("Invalid page")
		}
	}
	from := min((page-1)*pagelen, len(items))
	to := min(from+pagelen, len(items))
	values := []any{}
	for _, it := range items[from:to] {
		delete(it, hiddenFields)
		values = append(values, it)
	}
	body := object{"pagelen": pagelen, "values": values}
	name := strconv.Itoa
	if how.opaque {
		name = func(n int) string { return "p-" + strconv.Itoa(n) }
	} else {
		body["page"], body["size"] = page, len(items)
	}
	link := func(n int) string {
		q := c.r.URL.Query()
		q.Set("page", name(n))
		return s.baseURL + c.r.URL.EscapedPath() + "?" + q.Encode()
	}
	if to < len(items) {
		body["next"] = link(page + 1)
	}
	if page > 1 && !how.opaque {
		body["previous"] = link(page - 1)
	}
	return &answer{body: body}, nil
}
