package bitbucketsim

import (
	"net/http"
	"slices"
	"strings"
)

// Scopes of Forge apps. None implies another.
const (
	readUser         = "read:user:bitbucket"
	readWorkspace    = "read:workspace:bitbucket"
	readRepository   = "read:repository:bitbucket"
	writeRepository  = "write:repository:bitbucket"
	adminRepository  = "admin:repository:bitbucket"
	readPullRequest  = "read:pullrequest:bitbucket"
	writePullRequest = "write:pullrequest:bitbucket"
)

// forgeScopes are the scopes that a Forge token needs for an operation of the REST API, all of them; nil means
// that Forge tokens may not call it at all.
func (rt route) forgeScopes() []string {
	switch {
	case rt.path == "/user", rt.path == "/user/emails", strings.Contains(rt.path, "/hooks"):
		return nil
	case strings.HasPrefix(rt.path, "/users/"):
		return []string{readUser}
	case strings.Contains(rt.path, "/permissions-config/"):
		return []string{readRepository, readUser}
	case strings.HasPrefix(rt.path, inWorkspace+"/permissions/repositories"):
		return []string{readRepository, readUser}
	case strings.HasPrefix(rt.path, inWorkspace+"/"):
		return []string{readWorkspace, readUser}
	case rt.path == inWorkspace, strings.HasPrefix(rt.path, "/user/"):
		return []string{readWorkspace}
	}
	switch rt.scope {
	case "":
		return []string{}
	case "repository":
		return []string{readRepository}
	case "repository:write":
		return []string{writeRepository}
	case "repository:admin":
		return []string{adminRepository}
	case "pullrequest":
		return []string{readPullRequest}
	case "pullrequest:write":
		if rt.method == http.MethodDelete {
			return []string{writePullRequest}
		}
		return []string{readPullRequest, writePullRequest}
	default:
		return nil
	}
}

// dispatchForge carries a call with a Forge token out.
func (s *Sim) dispatchForge(w http.ResponseWriter, r *http.Request, rt route, body []byte, g *grant) (*answer, error) {
	w.Header().Set("X-OAuth-Scopes", strings.Join(g.scopes, ", "))
	required := rt.forgeScopes()
	if required == nil {
		return nil, forbidden("This resource cannot be called with the token of a Forge app.")
	}
	w.Header().Set("X-Accepted-OAuth-Scopes", strings.Join(required, ", "))
	if err := s.limit(g, r.URL.Path); err != nil {
		return nil, err
	}
	for _, scope := range required {
		if !slices.Contains(g.scopes, scope) {
			return nil, missingScopes(g.scopes, required...)
		}
	}
	return rt.handle(s, &call{r: r, body: body, grant: g, person: g.person, query: r.URL.Query()})
}
