package bitbucketsim_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// walk follows next from page to page and returns the values of a member.
func (c *client) walk(path, member string) []string {
	c.w.t.Helper()
	var out []string
	for path != "" {
		page := c.get(path)
		for _, v := range descend(page.json, "values.[]."+member) {
			out = append(out, fmt.Sprint(v))
		}
		path = page.str("next")
	}
	return out
}

func TestPagination(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	var want []string
	for i := range 23 {
		slug := fmt.Sprintf("repo-%02d", i)
		want = append(want, slug)
		must(t)(w.sim.AddRepository(bitbucketsim.Repository{Workspace: "acme", Slug: slug, Permissions: map[string]string{"bob": "read"}}))
	}
	bob := w.as("bob")
	q := "/2.0/repositories/acme?q=" + url.QueryEscape(`name~"REPO-"`)
	if got := bob.walk(q, "slug"); !slices.Equal(got, want) {
		t.Errorf("following next gives %v", got)
	}
	first := bob.get(q + "&pagelen=7")
	if first.at("size") != 23.0 || first.at("page") != 1.0 || first.at("pagelen") != 7.0 || first.at("previous") != nil {
		t.Errorf("first page is %.200s", first.raw)
	}
	if !strings.HasPrefix(first.str("next"), w.sim.URL()+"/2.0/") {
		t.Errorf("next is %s", first.str("next"))
	}
	for _, bad := range []string{"pagelen=0", "pagelen=101", "pagelen=x", "page=0"} {
		bob.do(400, "GET", "/2.0/repositories/acme?"+bad, nil)
	}
	bob.do(400, "GET", w.repo+"/pullrequests?pagelen=51", nil)
	past := bob.get(q + "&page=99")
	if values, _ := past.at("values").([]any); len(values) != 0 || past.at("next") != nil {
		t.Errorf("beyond the end there is %.200s", past.raw)
	}
	commits := bob.get(w.repo + "/commits?pagelen=1")
	if commits.at("page") != nil || commits.at("size") != nil || commits.str("next") == "" {
		t.Errorf("commits are paged as %.200s", commits.raw)
	}
	if got := bob.walk(w.repo+"/commits?pagelen=1", "hash"); len(got) != 2 {
		t.Errorf("following next gives the commits %v", got)
	}
}

func TestRolesAndQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	names := func(person, query string) []string {
		t.Helper()
		return w.as(person).walk("/2.0/repositories/acme"+query, "slug")
	}
	if got := names("dave", "?role=contributor"); len(got) != 0 {
		t.Errorf("dave contributes to %v", got)
	}
	if got := names("bob", "?role=contributor"); !slices.Equal(got, []string{"rocket"}) {
		t.Errorf("bob contributes to %v", got)
	}
	if got := names("erin", ""); len(got) != 0 {
		t.Errorf("erin sees %v", got)
	}
	w.as("erin").do(404, "GET", w.repo, nil)
	w.as("erin").do(403, "GET", "/2.0/workspaces/acme", nil)

	alice := w.as("alice")
	bob := w.as("bob").get("/2.0/user")
	members := func(path, q, member string) []string {
		t.Helper()
		return alice.walk("/2.0/workspaces/acme/"+path+"?q="+url.QueryEscape(q), member)
	}
	for _, tt := range []struct {
		path, q string
		want    []string
	}{
		{"permissions", `permission="owner"`, []string{"alice"}},
		{"permissions", `permission!="owner"`, []string{"bob", "carol", "dave"}},
		{"permissions", `user.uuid="` + bob.str("uuid") + `"`, []string{"bob"}},
		{"members", `user.email IN ("bob@example.com","carol@example.com")`, []string{"bob", "carol"}},
		{"permissions/repositories/rocket", `permission>"read"`, []string{"alice", "bob", "carol"}},
		{"permissions/repositories/rocket", `user.account_id="` + bob.str("account_id") + `"`, []string{"bob"}},
		{"permissions/repositories/rocket", `user.nickname="bob" OR (user.nickname~"A" AND permission="read")`, []string{"bob", "dave"}},
	} {
		if got := members(tt.path, tt.q, "user.nickname"); !slices.Equal(got, tt.want) {
			t.Errorf("%s %s gives %v, want %v", tt.path, tt.q, got, tt.want)
		}
	}
	for _, bad := range []string{`permission=`, `"x"`, `a="b" AND`, `(a="b"`, `a ? "b"`, `a IN "b"`, `a="b`} {
		alice.do(400, "GET", "/2.0/workspaces/acme/permissions?q="+url.QueryEscape(bad), nil)
	}
	w.as("bob").do(403, "GET", "/2.0/workspaces/acme/permissions/repositories/rocket", nil)
}

func TestSelectedFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	bob := w.as("bob")
	for query, want := range map[string]string{
		"fields=values.id,values.source.branch.name,size": `{"size":1,"values":[{"id":1,"source":{"branch":{"name":"feature"}}}]}`,
		"fields=values.title&sort=-id":                    `{"values":[{"title":"Nozzle"}]}`,
	} {
		if got := string(bob.get(w.repo + "/pullrequests?" + query).raw); got != want {
			t.Errorf("%s gives %s, want %s", query, got, want)
		}
	}
	if got := bob.get(w.repo + "/pullrequests?fields=-values.links"); got.at("values.0.links") != nil || got.str("values.0.title") != "Nozzle" {
		t.Errorf("a field that was left out is there: %s", got.raw)
	}
	if bob.get(w.repo+"/pullrequests").at("values.0.participants") != nil {
		t.Error("a list shows participants without being asked")
	}
	if bob.get(w.repo+"/pullrequests?fields=%2Bvalues.participants").at("values.0.participants") == nil {
		t.Error("a list does not show participants when asked")
	}
}

func TestStateFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("One")
	w.open("Two")
	w.as("bob").do(200, "POST", w.repo+"/pullrequests/1/decline", nil)
	for query, want := range map[string][]string{
		"": {"Two"}, "?state=DECLINED": {"One"}, "?state=OPEN&state=DECLINED&sort=id": {"One", "Two"},
		"?q=" + url.QueryEscape(`state="DECLINED" AND title~"one"`): {"One"},
	} {
		if got := w.as("bob").walk(w.repo+"/pullrequests"+query, "title"); !slices.Equal(got, want) {
			t.Errorf("%q gives %v, want %v", query, got, want)
		}
	}
	w.as("bob").do(400, "GET", w.repo+"/pullrequests?state=ALMOST", nil)
}

func TestAddressesByUUID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	r := w.as("bob").get(w.repo)
	at := "/2.0/repositories/" + url.PathEscape(r.str("workspace.uuid")) + "/" + url.PathEscape(r.str("uuid"))
	if got := w.as("bob").get(at).str("full_name"); got != "acme/rocket" {
		t.Errorf("by UUID there is %q", got)
	}
	must(t)(w.sim.RenameRepository(bitbucketsim.Rename{Repository: "acme/rocket", Person: "alice", Slug: "starship"}))
	if got := w.as("bob").get(at).str("full_name"); got != "acme/starship" {
		t.Errorf("after the rename there is %q", got)
	}
	w.as("bob").do(404, "GET", w.repo, nil)
	w.as("bob").get(at + "/refs/branches/") // as Bitbucket's own examples write it
}

// TestDiffOfADivergedBranch checks that the diff is against the merge base, unless topic is switched off.
func TestDiffOfADivergedBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.open("Nozzle")
	w.diverge()
	at := w.as("bob").do(302, "GET", w.repo+"/pullrequests/1/diff", nil).header.Get("Location")
	if got := string(w.as("bob").get(at).raw); strings.Contains(got, "NEWS") {
		t.Errorf("the diff shows what the destination did:\n%s", got)
	}
	if got := string(w.as("bob").get(w.repo + "/diff/feature..main?topic=false").raw); !strings.Contains(got, "--- a/NEWS\n+++ /dev/null\n") {
		t.Errorf("the plain diff does not show it:\n%s", got)
	}
	only := string(w.as("bob").get(w.repo + "/diff/feature..main?path=README.md").raw)
	if only != "" {
		t.Errorf("the diff of a file that did not change is %q", only)
	}
}
