package bitbucketsim_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// scopesBeyondDocument are operations that the recorded OpenAPI document gives no scopes of Forge, or leaves out,
// with what the Sim asks for and the source.
var scopesBeyondDocument = map[string]struct{ scopes, source string }{
	"GET /user":            {"", publicReference + ": x-atlassian-auth-types lacks Forge"},
	"GET /user/emails":     {"", publicReference + ": x-atlassian-auth-types lacks Forge"},
	"GET /user/workspaces": {"read:workspace:bitbucket", publicReference},
	"GET /user/workspaces/{workspace}/permission":               {"read:workspace:bitbucket", publicReference},
	"GET /user/workspaces/{workspace}/permissions/repositories": {"read:workspace:bitbucket", publicReference},
	"GET /users/{selected_user}":                                {"read:user:bitbucket", publicReference},
	"GET /workspaces/{workspace}":                               {"read:workspace:bitbucket", publicReference},
}

// TestForgeScopesFitTheOpenAPIDocument compares the scopes that Forge tokens need with those that Bitbucket
// publishes as x-atlassian-oauth2-scopes.
func TestForgeScopesFitTheOpenAPIDocument(t *testing.T) {
	t.Parallel()
	recordings(t)
	d := loadDocument(t)
	compared := 0
	for _, op := range bitbucketsim.Routes() {
		method, path, _ := strings.Cut(op, " ")
		template := d.operation(method, strings.NewReplacer("...", "").Replace(path))
		got, callable := bitbucketsim.ForgeScopes(op)
		slices.Sort(got)
		if strings.Contains(path, "/hooks") {
			if callable {
				t.Errorf("%s can be called by Forge apps; webhooks are for API tokens and consumers", op)
			}
			continue
		}
		var want []string
		list, _ := d.get("paths", template, strings.ToLower(method), "x-atlassian-oauth2-scopes").([]any)
		for _, entry := range list {
			for _, s := range descend(entry, "scopes.[]") {
				want = append(want, s.(string))
			}
		}
		slices.Sort(want)
		if len(list) == 0 {
			known, ok := scopesBeyondDocument[method+" "+path]
			if !ok {
				known, ok = scopesBeyondDocument[method+" "+template]
			}
			if !ok && !slices.Contains([]string{
				"/workspaces", "/repositories", "/user/permissions/workspaces", "/user/permissions/repositories",
			}, path) {
				t.Errorf("%s (%s) has no scopes in the document and no source here; the Sim asks for %v", op, template, got)
			}
			if ok && strings.Join(got, " ") != known.scopes {
				t.Errorf("%s asks for %v, want %q", op, got, known.scopes)
			}
			continue
		}
		compared++
		if !slices.Equal(got, want) {
			t.Errorf("%s asks for %v, the document for %v", op, got, want)
		}
	}
	if compared < 40 {
		t.Errorf("only %d operations were compared", compared)
	}
}
