package bitbucketsim_test

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	errorkind "github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// openAPI is Bitbucket's published document of 2024, as the client library "bitbucket" keeps it.
const openAPI = "MunifTanjim__node-bitbucket/"

const publicReference = "https://developer.atlassian.com/cloud/bitbucket/rest/ (mid 2026)"

// outsideOpenAPI lists the operations that the document does not have, each with its source and, where the
// document at least has the kind of object, the definition that answers must fit.
var outsideOpenAPI = map[string]struct{ source, definition string }{
	"GET /user/workspaces":                                      {publicReference + "; replaces GET /user/permissions/workspaces, announced as CHANGE-3022", ""},
	"GET /user/workspaces/{workspace}/permission":               {publicReference, "workspace_membership"},
	"GET /user/workspaces/{workspace}/permissions/repositories": {publicReference, "paginated_repository_permissions"},
}

// notInRoutes lists the calls of the story that are no operation of the API at all.
var notInRoutes = map[string]bool{"/nothing/here": true, tokenPath: true}

// undocumented lists answers whose status the document does not have, with the source.
var undocumented = map[string]string{
	"410": "CHANGE-2770: calls across workspaces were removed on 2026-02-27",
	"400": "every resource that takes a body refuses a bad one; recorded in gildas__bitbucket-cli/error-badrequest.json",
	"401": "every resource refuses a bad token",
	"403": "every resource refuses missing scopes and permissions",
	"404": "every resource below a repository is hidden from those who may not see it",
}

// beyondDocument lists the ways in which answers differ from the document that no recording shows, with the
// source of each.
var beyondDocument = []struct{ pattern, source string }{
	{`^error\.detail .* type object$`, "missing scopes are told as {required, granted}: an answer quoted in github.com/backstage/backstage issue 22383"},
	{`^(error)? ?definitions/error.* required (type|message)$`, "a status key beyond 40 characters is answered with the fields alone: github.com/buildbot/buildbot issue 7049"},
	{`^source\.(commit|repository) .* type null$`, "null once the fork is deleted: github.com/jenkinsci/bitbucket-branch-source-plugin pull request 322"},
	{`^(participants\.\[\]\.)?state definitions/participant/.* type null$`, "the document's own enum holds null, and so do webhooks: " + drone + "pr_comment_created.json"},
	{`^events\.\[\] .* enum (pullrequest:push|pipeline:span_created)$`, publicReference + ": events that are younger than the document"},
	{`^(old|new) definitions/commit_file type null$`, "the side on which a file does not exist: github.com/faros-ai/airbyte-connectors pull request 1699"},
}

const repositoryTemplate = "/repositories/{workspace}/{repo_slug}"

// document is the OpenAPI document, ready for validation.
type document struct {
	paths    map[string]any
	compiler *jsonschema.Compiler
	patterns []specPath // most specific first
}

type specPath struct {
	template string
	pattern  *regexp.Regexp
}

func loadDocument(t *testing.T) *document {
	t.Helper()
	paths, ok := recording(t, openAPI+"paths.json").(map[string]any)
	if !ok {
		t.Fatal("paths.json is no object")
	}
	// The document is Swagger 2.0, whose schemas are those of JSON Schema draft 4.
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4)
	c.AssertFormat()
	whole := map[string]any{"definitions": recording(t, openAPI+"definitions.json"), "paths": paths}
	if err := c.AddResource("spec.json", whole); err != nil {
		t.Fatal(err)
	}
	d := &document{paths: paths, compiler: c}
	long := regexp.MustCompile(`\\\{(name|path|spec|revspec|revision)\\\}`)
	short := regexp.MustCompile(`\\\{[a-z_]+\\\}`)
	for template := range paths {
		p := long.ReplaceAllString(regexp.QuoteMeta(template), `.+`)
		d.patterns = append(d.patterns, specPath{template, regexp.MustCompile(`^` + short.ReplaceAllString(p, `[^/]+`) + `$`)})
	}
	literals := func(s string) int { return strings.Count(s, "/")*100 - strings.Count(s, "{")*10 }
	sort.Slice(d.patterns, func(i, j int) bool { return literals(d.patterns[i].template) > literals(d.patterns[j].template) })
	return d
}

// operation finds the template of a path that has the method, or "".
func (d *document) operation(method, path string) string {
	for _, p := range d.patterns {
		if p.pattern.MatchString(path) {
			if _, ok := d.get("paths", p.template, strings.ToLower(method)).(map[string]any); ok {
				return p.template
			}
		}
	}
	return ""
}

func (d *document) get(_ string, path ...string) any {
	var v any = d.paths
	for _, name := range path {
		o, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = o[name]
	}
	return v
}

func pointer(parts ...string) string {
	var out strings.Builder
	out.WriteString("spec.json#")
	for _, p := range parts {
		out.WriteString("/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(p)))
	}
	return out.String()
}

// deviations validates a value and names each way in which it differs: where in the document and how.
func (d *document) deviations(t *testing.T, schemaAt string, value any) []string {
	t.Helper()
	schema, err := d.compiler.Compile(schemaAt)
	if err != nil {
		t.Fatalf("%s: %v", schemaAt, err)
	}
	var invalid *jsonschema.ValidationError
	if err := schema.Validate(value); !errors.As(err, &invalid) {
		return nil
	}
	var out []string
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, c := range e.Causes {
			walk(c)
		}
		if len(e.Causes) > 0 {
			return
		}
		_, at, _ := strings.Cut(e.SchemaURL, "#/")
		at = place(e.InstanceLocation) + " " + at
		switch k := e.ErrorKind.(type) {
		case *errorkind.Type:
			out = append(out, at+" type "+k.Got)
		case *errorkind.AdditionalProperties:
			for _, p := range k.Properties {
				out = append(out, at+" additionalProperties "+p)
			}
		case *errorkind.Required:
			for _, p := range k.Missing {
				out = append(out, at+" required "+p)
			}
		case *errorkind.Enum:
			out = append(out, fmt.Sprintf("%s enum %v", at, k.Got))
		case *errorkind.Format:
			out = append(out, at+" format "+k.Want)
		default:
			out = append(out, fmt.Sprintf("%s %s", at, strings.Join(e.ErrorKind.KeywordPath(), "/")))
		}
	}
	walk(invalid)
	slices.Sort(out)
	return slices.Compact(out)
}

// recordedDeviations are the ways in which genuine recordings differ from the document: nulls where it wants an
// object, members that it does not know. Only these may our answers share.
func (d *document) recordedDeviations(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, k := range kinds() {
		if k.definition == "" {
			continue
		}
		for _, f := range k.files {
			for _, v := range descend(recording(t, f), k.within) {
				for _, dev := range d.deviations(t, pointer("definitions", k.definition), v) {
					out[dev] = true
				}
			}
		}
	}
	return out
}

// place is where in an object a deviation is. Items of a page count as objects of their own.
func place(location []string) string {
	if len(location) > 1 && location[0] == "values" {
		location = location[2:]
	}
	parts := slices.Clone(location)
	for i, p := range parts {
		if _, err := strconv.Atoi(p); err == nil {
			parts[i] = "[]"
		}
	}
	return strings.Join(parts, ".")
}

func TestAnswersFitTheOpenAPIDocument(t *testing.T) {
	t.Parallel()
	recordings(t)
	d := loadDocument(t)
	tolerated := d.recordedDeviations(t)
	validated := 0
	complaints := map[string]bool{}
	for _, x := range play(t).exchanges {
		where := fmt.Sprintf("%s %s %d", x.method, x.path, x.reply.status)
		if notInRoutes[x.path] {
			continue
		}
		at, checked := d.schemaFor(t, x, where)
		if !checked {
			continue
		}
		validated++
		for _, dev := range d.deviations(t, at, x.reply.json) {
			if !tolerated[dev] && !beyond(dev) {
				complaints[where+": "+dev] = true
			}
		}
	}
	for _, c := range slices.Sorted(maps.Keys(complaints)) {
		t.Error(c)
	}
	if validated < 60 {
		t.Errorf("only %d answers were validated", validated)
	}
}

func beyond(dev string) bool {
	for _, b := range beyondDocument {
		if regexp.MustCompile(b.pattern).MatchString(dev) {
			return true
		}
	}
	return false
}

// schemaFor finds the schema of an answer. It reports answers that have none and are not listed.
func (d *document) schemaFor(t *testing.T, x exchange, where string) (at string, checked bool) {
	t.Helper()
	status := strconv.Itoa(x.reply.status)
	template := d.operation(x.method, x.path)
	if x.reply.status >= 400 {
		if template != "" && d.get("", template, strings.ToLower(x.method), "responses", status) == nil && undocumented[status] == "" {
			t.Errorf("%s: the document does not have this status", where)
		}
		return pointer("definitions", "error"), true
	}
	if template == "" {
		for route, extra := range outsideOpenAPI {
			method, pattern, _ := strings.Cut(route, " ")
			if method == x.method && regexp.MustCompile(`^`+regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(pattern, `[^/]+`)+`$`).MatchString(x.path) {
				return pointer("definitions", extra.definition), extra.definition != ""
			}
		}
		t.Errorf("%s: the document does not have this operation, and no source is listed", where)
		return "", false
	}
	method := strings.ToLower(x.method)
	response, ok := d.get("", template, method, "responses", status).(map[string]any)
	if !ok {
		if template == "/user/emails" { // the document describes nothing but its errors
			return "", false
		}
		t.Errorf("%s: the document does not have this status", where)
		return "", false
	}
	if _, ok := response["schema"]; !ok || template == repositoryTemplate+"/src/{commit}/{path}" { // raw content
		return "", false
	}
	return pointer("paths", template, method, "responses", status, "schema"), true
}

// TestOperationsAreDocumented compares the list of operations with the document: each is in it, or listed with
// a source, and never both.
func TestOperationsAreDocumented(t *testing.T) {
	t.Parallel()
	recordings(t)
	d := loadDocument(t)
	param := regexp.MustCompile(`\{[a-z]+(\.\.\.)?\}`)
	listed := 0
	for _, r := range bitbucketsim.Routes() {
		method, path, _ := strings.Cut(r, " ")
		inDocument := d.operation(method, param.ReplaceAllString(path, "x")) != ""
		_, outside := outsideOpenAPI[r]
		if inDocument == outside {
			t.Errorf("%s: in the document %v, listed with another source %v", r, inDocument, outside)
		}
		if outside {
			listed++
		}
	}
	if listed != len(outsideOpenAPI) {
		t.Errorf("%d operations are listed with a source of their own, of which %d exist", len(outsideOpenAPI), listed)
	}
}

// TestValidationNotices proves that the validator is awake: a broken answer is found out.
func TestValidationNotices(t *testing.T) {
	t.Parallel()
	recordings(t)
	d := loadDocument(t)
	tolerated := d.recordedDeviations(t)
	good := recording(t, inRepos+"pullrequests-1.json")
	o, ok := good.(map[string]any)
	if !ok {
		t.Fatal("the recording is no object")
	}
	breaks := map[string]func(){
		"no type":      func() { delete(o, "type") },
		"state":        func() { o["state"] = "ALMOST" },
		"id":           func() { o["id"] = "one" },
		"created_on":   func() { o["created_on"] = "yesterday" },
		"unknown link": func() { o["links"] = map[string]any{"nonsense": map[string]any{"href": "https://x"}} },
	}
	for name, broken := range breaks {
		saved := maps.Clone(o)
		broken()
		found := slices.ContainsFunc(d.deviations(t, pointer("definitions", "pullrequest"), good), func(dev string) bool {
			return !tolerated[dev] && !beyond(dev)
		})
		if !found {
			t.Errorf("%s goes unnoticed", name)
		}
		clear(o)
		maps.Copy(o, saved)
	}
}
