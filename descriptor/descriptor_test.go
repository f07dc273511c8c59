package descriptor

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

func rendered(t *testing.T) map[string]string {
	t.Helper()
	environments, err := readEnvironments("environments.yml")
	if err != nil {
		t.Fatal(err)
	}
	manifests := map[string]string{}
	for name, e := range environments {
		manifest, err := Render(e)
		if err != nil {
			t.Fatal(err)
		}
		manifests[name] = manifest
	}
	return manifests
}

// pages stands in for the built pages: of them the validator only wants to see that they are there.
func pages(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, page := range []string{"panel", "dashboard"} {
		if err := os.Mkdir(filepath.Join(folder, page), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, page, "index.html"), []byte("<!doctype html>"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// subscriptions are the events of all triggers.
func subscriptions() (events []string) {
	for _, t := range triggers {
		events = append(events, t.Events...)
	}
	return events
}

// A mutant is the production manifest with one thing changed.
type mutant struct {
	name     string
	manifest string
	// rejected: Atlassian's validator must find it too.
	rejected bool
}

// mutants changes each scope, endpoint, event and key in each way that somebody could by mistake.
func mutants(t *testing.T, manifest string) []mutant {
	t.Helper()
	var list []mutant
	change := func(name, old, replacement string, rejected bool) {
		if n := strings.Count(manifest, old); n != 1 {
			t.Fatalf("%s: %q is there %d times", name, old, n)
		}
		list = append(list, mutant{name, strings.Replace(manifest, old, replacement, 1), rejected})
	}
	list = append(list, mutant{
		"a scope more", strings.Replace(manifest, "  scopes:\n", "  scopes:\n    - read:pipeline:bitbucket\n", 1), false,
	})
	for _, scope := range regexp.MustCompile(`(?m)^    - ((?:read|write|admin):[a-z:-]+)$`).FindAllStringSubmatch(manifest, -1) {
		line := scope[0] + "\n"
		change("scope misspelt "+scope[1], line, "    - x"+scope[1]+"\n", true)
		change("scope exchanged "+scope[1], line, "    - read:pipeline:bitbucket\n", false)
		change("scope dropped "+scope[1], line, "", false)
		change("scope twice "+scope[1], line, line+line, false)
	}
	for key := range routes {
		change("endpoint renamed "+key, "    - key: "+key+"\n", "    - key: other-ep\n", true)
		if routes[key] != "" {
			change("route changed "+key, "path: "+routes[key]+"\n", "path: /elsewhere\n", false)
		}
	}
	for _, event := range subscriptions() {
		line := "        - " + event + "\n"
		change("event misspelt "+event, line, "        - "+event+"s\n", false)
		change("event exchanged "+event, line, "        - avi:bitbucket:created:commit-comment\n", false)
		change("event dropped "+event, line, "", false)
	}
	for n, use := range regexp.MustCompile(`endpoint: [a-z-]+-ep`).FindAllStringIndex(manifest, -1) {
		list = append(list, mutant{
			fmt.Sprintf("use %d of an endpoint changed", n),
			manifest[:use[0]] + "endpoint: other-ep" + manifest[use[1]:], true,
		})
	}
	for n, key := range regexp.MustCompile(`(?m)^    - key: [a-z-]+$`).FindAllStringIndex(manifest[:strings.Index(manifest, "\n  endpoint:\n")], -1) {
		list = append(list, mutant{fmt.Sprintf("key %d changed", n), manifest[:key[1]] + "-2" + manifest[key[1]:], false})
	}
	change("check without its trigger", "        - on-merge\n", "        - on-code-pushed\n", false)
	change("check with a trigger that Bitbucket does not know", "        - on-merge\n", "        - pre-merge\n", true)
	change("pages may reach everywhere", "- remote: backend\n", "- address: \"*\"\n", false)
	change("data of people denied", "inScopeEUD: true", "inScopeEUD: false", false)
	change("a server without TLS", "https://", "http://", false)
	change("an app of nobody", "id: ari:cloud:ecosystem::app/", "id: app/", false)
	change("a module that is not ours", "  preUninstall:\n", "  webtrigger:\n    - key: open\n      function: open\n  preUninstall:\n", true)
	return list
}

// TestManifests runs the validator once over everything: the rendered manifests, in which neither it nor our own list
// finds a fault, and the mutants of the production one, in each of which our own list finds one.
func TestManifests(t *testing.T) {
	t.Parallel()
	manifests, built := rendered(t), pages(t)
	folder := t.TempDir()
	wrong := mutants(t, manifests["production"])
	paths := make([]string, 0, len(manifests)+len(wrong))
	write := func(name, manifest string) string {
		app := filepath.Join(folder, name)
		if err := writeApp(app, manifest, built); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, filepath.Join(app, "manifest.yml"))
		return paths[len(paths)-1]
	}
	right := map[string]string{}
	for name, manifest := range manifests {
		right[name] = write(name, manifest)
	}
	mutated := make([]string, len(wrong))
	for n, m := range wrong {
		mutated[n] = write(fmt.Sprintf("mutant-%d", n), m.manifest)
	}
	found, err := validate(t.Context(), paths)
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range right {
		if faults := append(check([]byte(manifests[name])), found[path]...); len(faults) > 0 {
			t.Errorf("%s: %q", name, faults)
		}
	}
	for n, m := range wrong {
		if len(check([]byte(m.manifest))) == 0 {
			t.Errorf("%s: not found by our own list", m.name)
		}
		if m.rejected && len(found[mutated[n]]) == 0 {
			t.Errorf("%s: not found by the validator", m.name)
		}
	}
}

func TestAPageThatIsNotBuiltIsAnError(t *testing.T) {
	t.Parallel()
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	err := Write(t.Context(), ".", func(context.Context, string) (string, error) { return nowhere, nil }, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "the page is not built for Forge") {
		t.Errorf("got %v", err)
	}
}

// Environments differ in three things, and in nothing that an administrator consents to but the server's address.
func TestEnvironmentsDifferInThreeThings(t *testing.T) {
	t.Parallel()
	environments, err := readEnvironments("environments.yml")
	if err != nil {
		t.Fatal(err)
	}
	manifests := rendered(t)
	alike := func(name string) string {
		e := environments[name]
		title := " (" + e.Label + ")"
		return strings.NewReplacer(e.AppID, "APP", e.Origin, "ORIGIN", title, "").Replace(manifests[name])
	}
	for _, name := range []string{"development", "staging"} {
		if alike(name) != alike("production") {
			t.Errorf("%s differs from production in more than app id, origin and label", name)
		}
		if !strings.Contains(manifests[name], "title: Signed approvals ("+name+")") {
			t.Errorf("%s does not say so in its titles", name)
		}
	}
}

func TestEnvironmentsAreChecked(t *testing.T) {
	t.Parallel()
	good := Environment{AppID: "ari:cloud:ecosystem::app/00000000-0000-4000-8000-000000000001", Origin: "https://approvals.example"}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Environment){
		"no app":             func(e *Environment) { e.AppID = "" },
		"a bare UUID":        func(e *Environment) { e.AppID = "00000000-0000-4000-8000-000000000001" },
		"no origin":          func(e *Environment) { e.Origin = "" },
		"no TLS":             func(e *Environment) { e.Origin = "http://approvals.example" },
		"a path":             func(e *Environment) { e.Origin += "/forge" },
		"a trailing slash":   func(e *Environment) { e.Origin += "/" },
		"a user":             func(e *Environment) { e.Origin = "https://me@approvals.example" },
		"a query":            func(e *Environment) { e.Origin += "?a=b" },
		"capitals":           func(e *Environment) { e.Origin = "https://Approvals.example" },
		"a wild card":        func(e *Environment) { e.Origin = "https://" },
		"markup in a label":  func(e *Environment) { e.Label = "a: b" },
		"a placeholder":      func(e *Environment) { e.Label = "${LABEL}" },
		"a line in the name": func(e *Environment) { e.Label = "a\nb" },
	} {
		e := good
		spoil(&e)
		if e.validate() == nil {
			t.Errorf("%s: not refused: %+v", name, e)
		}
	}
	for name, content := range map[string]string{
		"one is missing":          "development: {}\nstaging: {}\n",
		"one is unknown":          "development: {}\nstaging: {}\nqa: {}\n",
		"an unknown field":        "production: {appID: x}\n",
		"a label for production":  strings.ReplaceAll("development: E\nstaging: E\nproduction: E\n", "E", "{appId: "+good.AppID+", origin: "+good.Origin+", label: live}"),
		"what is not YAML at all": "\t",
	} {
		path := filepath.Join(t.TempDir(), "environments.yml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readEnvironments(path); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// A placeholder that is left would be filled in by the Forge command line.
func TestAnUnknownPlaceholderIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := fill("# x\nmodules:\n  a: ${HOME}\n", Environment{}); err == nil {
		t.Error("not refused")
	}
}

// Every call that the client can make says what scope it takes with the app's token, or why it is never made with it.
func TestEveryCallHasItsScope(t *testing.T) {
	t.Parallel()
	client := reflect.TypeFor[*bitbucket.Client]()
	var methods []string
	for method := range client.Methods() {
		methods = append(methods, method.Name)
		_, with := calls[method.Name]
		_, without := notWithTheApp[method.Name]
		if with == without {
			t.Errorf("bitbucket.Client.%s: say in scopes.go, once, which scopes it takes or why the app never makes it", method.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		if !slices.Contains(methods, name) {
			t.Errorf("scopes.go lists a call that there is not: %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(notWithTheApp)) {
		if !slices.Contains(methods, name) {
			t.Errorf("scopes.go excuses a call that there is not: %s", name)
		}
	}
}

// Whoever consents to a scope, or reviews the app, finds the reason beside it.
func TestEveryScopeSaysWhy(t *testing.T) {
	t.Parallel()
	for name, manifest := range rendered(t) {
		lines := strings.Split(manifest, "\n")
		start := slices.Index(lines, "  scopes:")
		scopes := 0
		for n := start + 1; strings.HasPrefix(lines[n], "    "); n++ {
			if strings.HasPrefix(lines[n], "    - ") {
				scopes++
				if !strings.HasPrefix(lines[n-1], "    # ") {
					t.Errorf("%s: %s has no reason", name, lines[n])
				}
			}
		}
		if scopes == 0 {
			t.Errorf("%s: no scopes found", name)
		}
	}
}
