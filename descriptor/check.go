package descriptor

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// manifest is all that a manifest of ours may hold; a field or a module that is not here is a fault.
type manifest struct {
	Modules struct {
		MergeCheck        []mergeCheck `yaml:"bitbucket:mergeCheck"`
		Card              []page       `yaml:"bitbucket:repoPullRequestCard"`
		Panel             []page       `yaml:"bitbucket:repoPullRequestOverviewPanel"`
		Dashboard         []page       `yaml:"bitbucket:workspaceGlobalPage"`
		RepoSettings      []page       `yaml:"bitbucket:repoSettingsMenuPage"`
		WorkspaceSettings []page       `yaml:"bitbucket:workspaceSettingsMenuPage"`
		PersonalSettings  []page       `yaml:"bitbucket:workspacePersonalSettingsPage"`
		Trigger           []trigger    `yaml:"trigger"`
		PreUninstall      []called     `yaml:"preUninstall"`
		Scheduled         []scheduled  `yaml:"scheduledTrigger"`
		Endpoint          []endpoint   `yaml:"endpoint"`
	} `yaml:"modules"`
	Resources []struct {
		Key  string `yaml:"key"`
		Path string `yaml:"path"`
	} `yaml:"resources"`
	Remotes []struct {
		Key        string   `yaml:"key"`
		BaseURL    string   `yaml:"baseUrl"`
		Operations []string `yaml:"operations"`
		Storage    struct {
			InScopeEUD bool `yaml:"inScopeEUD"`
		} `yaml:"storage"`
	} `yaml:"remotes"`
	Permissions struct {
		Scopes   []string `yaml:"scopes"`
		External struct {
			Fetch struct {
				Client []map[string]string `yaml:"client"`
			} `yaml:"fetch"`
		} `yaml:"external"`
	} `yaml:"permissions"`
	App struct {
		ID      string `yaml:"id"`
		Runtime struct {
			Name string `yaml:"name"`
		} `yaml:"runtime"`
		Licensing struct {
			Enabled bool `yaml:"enabled"`
		} `yaml:"licensing"`
	} `yaml:"app"`
}

type mergeCheck struct {
	Key         string   `yaml:"key"`
	Name        string   `yaml:"name"`
	Description string   `yaml:"description"`
	Triggers    []string `yaml:"triggers"`
	Endpoint    string   `yaml:"endpoint"`
}

type page struct {
	Key             string `yaml:"key"`
	Title           string `yaml:"title"`
	Resource        string `yaml:"resource"`
	UseAsGetStarted bool   `yaml:"useAsGetStarted"`
	UseAsConfig     bool   `yaml:"useAsConfig"`
	Resolver        struct {
		Endpoint string `yaml:"endpoint"`
	} `yaml:"resolver"`
}

type trigger struct {
	Key      string   `yaml:"key"`
	Endpoint string   `yaml:"endpoint"`
	Events   []string `yaml:"events"`
}

type called struct {
	Key      string `yaml:"key"`
	Endpoint string `yaml:"endpoint"`
}

type scheduled struct {
	Key      string `yaml:"key"`
	Endpoint string `yaml:"endpoint"`
	Interval string `yaml:"interval"`
}

type endpoint struct {
	Key    string `yaml:"key"`
	Remote string `yaml:"remote"`
	Route  struct {
		Path string `yaml:"path"`
	} `yaml:"route"`
	Auth struct {
		AppUserToken   enabled `yaml:"appUserToken"`
		AppSystemToken enabled `yaml:"appSystemToken"`
	} `yaml:"auth"`
}

type enabled struct {
	Enabled bool `yaml:"enabled"`
}

// triggers are the events that the server wants, as Atlassian spells them. The door knows each trigger by its key.
var triggers = []trigger{
	{"lifecycle", "lifecycle-ep", []string{
		"avi:forge:installed:app",
		"avi:forge:upgraded:app",
	}},
	{"pull-requests", "events-ep", []string{
		"avi:bitbucket:created:pullrequest",
		"avi:bitbucket:updated:pullrequest",
		"avi:bitbucket:fulfilled:pullrequest",
		"avi:bitbucket:rejected:pullrequest",
		"avi:bitbucket:updated:pullrequest-reviewer-status",
	}},
	{"repositories", "events-ep", []string{
		"avi:bitbucket:created:repository",
		"avi:bitbucket:updated:repository",
		"avi:bitbucket:push:repository",
		"avi:bitbucket:deleted:repository",
	}},
	{"build-statuses", "events-ep", []string{
		"avi:bitbucket:created:build-status",
		"avi:bitbucket:updated:build-status",
	}},
}

// routes are the endpoints and where each leads; "" where the page names the path itself.
var routes = map[string]string{
	"ui-ep":          "",
	"merge-check-ep": "/forge/merge-check",
	"events-ep":      "/forge/events",
	"lifecycle-ep":   "/forge/lifecycle",
	"scheduled-ep":   "/forge/scheduled",
}

// check compares a rendered manifest with what the server handles and needs, and lists what differs.
func check(content []byte) []string {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var m manifest
	if err := decoder.Decode(&m); err != nil {
		return []string{err.Error()}
	}
	var faults differences
	faults.modules(m)
	faults.events(m)
	faults.endpoints(m)
	faults.permissions(m)
	return faults
}

type differences []string

// same compares two lists without regard to their order.
func (d *differences) same(what string, got, want []string) {
	for _, one := range got {
		if !slices.Contains(want, one) {
			*d = append(*d, fmt.Sprintf("%s: %q is not expected", what, one))
		}
	}
	for _, one := range want {
		switch n := count(got, one); n {
		case 0:
			*d = append(*d, fmt.Sprintf("%s: %q is missing", what, one))
		case 1:
		default:
			*d = append(*d, fmt.Sprintf("%s: %q is there %d times", what, one, n))
		}
	}
}

func count(list []string, value string) int {
	n := 0
	for _, one := range list {
		if one == value {
			n++
		}
	}
	return n
}

// modules holds each module's key, which the server and the pages know it by, and what it is bound to.
func (d *differences) modules(m manifest) {
	var got []string
	for _, c := range m.Modules.MergeCheck {
		got = append(got, strings.Join([]string{c.Key, "on", strings.Join(c.Triggers, "+"), c.Endpoint}, " "))
	}
	for kind, pages := range map[string][]page{
		"card": m.Modules.Card, "panel": m.Modules.Panel, "global": m.Modules.Dashboard, "repository": m.Modules.RepoSettings,
		"workspace": m.Modules.WorkspaceSettings, "personal": m.Modules.PersonalSettings,
	} {
		for _, p := range pages {
			got = append(got, strings.Join([]string{p.Key, "as", kind, p.Resource, p.Resolver.Endpoint}, " "))
		}
	}
	for _, c := range m.Modules.PreUninstall {
		got = append(got, c.Key+" "+c.Endpoint)
	}
	for _, s := range m.Modules.Scheduled {
		got = append(got, s.Key+" each "+s.Interval+" "+s.Endpoint)
	}
	d.same("modules", got, []string{
		"merge-check-on-merge on on-merge merge-check-ep",
		"merge-check-pre-merge on on-code-pushed+on-reviewer-status-changed merge-check-ep",
		"pr-card as card panel ui-ep",
		"pr-panel as panel panel ui-ep",
		"dashboard as global dashboard ui-ep",
		"repo-settings as repository dashboard ui-ep",
		"workspace-settings as workspace dashboard ui-ep",
		"personal-settings as personal dashboard ui-ep",
		"pre-uninstall lifecycle-ep",
		"hourly each hour scheduled-ep",
	})
	var resources []string
	for _, r := range m.Resources {
		resources = append(resources, r.Key+" in "+r.Path)
	}
	d.same("resources", resources, []string{"panel in static/panel", "dashboard in static/dashboard"})
}

func (d *differences) events(m manifest) {
	flat := func(triggers []trigger) (list []string) {
		for _, t := range triggers {
			for _, event := range t.Events {
				list = append(list, event+" by "+t.Key+" to "+t.Endpoint)
			}
		}
		return list
	}
	d.same("events", flat(m.Modules.Trigger), flat(triggers))
}

func (d *differences) endpoints(m manifest) {
	var got, want []string
	for _, e := range m.Modules.Endpoint {
		got = append(got, describe(e.Key, e.Route.Path, e.Auth.AppSystemToken.Enabled))
		if e.Auth.AppUserToken.Enabled {
			*d = append(*d, fmt.Sprintf("endpoints: %q asks for people's tokens, which the server does not use", e.Key))
		}
		if e.Remote != "backend" {
			*d = append(*d, fmt.Sprintf("endpoints: %q leads to %q, not to the server", e.Key, e.Remote))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(routes)) {
		want = append(want, describe(key, routes[key], routes[key] != "")) // pages get no token: whoever looks at one writes its headers
	}
	d.same("endpoints", got, want)
}

func describe(key, path string, token bool) string {
	if path == "" {
		path = "anywhere"
	}
	if token {
		return key + " at " + path + " with the app's token"
	}
	return key + " at " + path
}

func (d *differences) permissions(m manifest) {
	want := map[string]bool{appToken: true}
	for _, scopes := range calls {
		for _, scope := range scopes {
			want[scope] = true
		}
	}
	d.same("scopes", m.Permissions.Scopes, slices.Sorted(maps.Keys(want)))

	var egress []string
	for _, to := range m.Permissions.External.Fetch.Client {
		for kind, value := range to {
			egress = append(egress, kind+" "+value)
		}
	}
	d.same("egress", egress, []string{"remote backend"})

	var remotes []string
	for _, r := range m.Remotes {
		remotes = append(remotes, r.Key)
		e := Environment{AppID: m.App.ID, Origin: r.BaseURL}
		if err := e.validate(); err != nil {
			*d = append(*d, err.Error())
		}
		d.same("operations", r.Operations, []string{"storage", "compute", "fetch"})
		if !r.Storage.InScopeEUD {
			*d = append(*d, "remotes: the server stores data of people, and the manifest denies it")
		}
	}
	d.same("remotes", remotes, []string{"backend"})
}
