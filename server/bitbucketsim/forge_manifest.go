package bitbucketsim

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Module types of a Forge app that the Sim plays.
const (
	moduleMergeCheck        = "bitbucket:mergeCheck"
	modulePullRequestCard   = "bitbucket:repoPullRequestCard"
	modulePullRequestPanel  = "bitbucket:repoPullRequestOverviewPanel"
	moduleRepositoryPage    = "bitbucket:repoMainMenuPage"
	moduleRepositorySetting = "bitbucket:repoSettingsMenuPage"
	moduleWorkspacePage     = "bitbucket:workspaceGlobalPage"
	moduleWorkspaceSetting  = "bitbucket:workspaceSettingsMenuPage"
	modulePersonalSetting   = "bitbucket:workspacePersonalSettingsPage"
	moduleTrigger           = "trigger"
	modulePreUninstall      = "preUninstall"
	moduleScheduled         = "scheduledTrigger"
	moduleEndpoint          = "endpoint"
)

// forgeManifest is what a deployed manifest.yml says, as far as the Sim acts on it.
type forgeManifest struct {
	App struct {
		ID string `yaml:"id"`
	} `yaml:"app"`
	Modules   map[string][]*forgeModule `yaml:"modules"`
	Resources []struct {
		Key  string `yaml:"key"`
		Path string `yaml:"path"`
	} `yaml:"resources"`
	Remotes []struct {
		Key     string     `yaml:"key"`
		BaseURL defaultURL `yaml:"baseUrl"`
	} `yaml:"remotes"`
	Permissions struct {
		Scopes   scopeNames `yaml:"scopes"`
		External struct {
			Fetch struct {
				Client []egress `yaml:"client"`
			} `yaml:"fetch"`
		} `yaml:"external"`
		Content struct {
			Styles []string `yaml:"styles"`
		} `yaml:"content"`
	} `yaml:"permissions"`

	folder string // of the file; resource paths are relative to it
}

// forgeModule is one module. Which members it has depends on its type.
type forgeModule struct {
	Type string `yaml:"-"`

	Key         string      `yaml:"key"`
	Title       displayText `yaml:"title"`
	Name        displayText `yaml:"name"`
	Description displayText `yaml:"description"`
	Resource    string      `yaml:"resource"`
	Resolver    struct {
		Endpoint string `yaml:"endpoint"`
	} `yaml:"resolver"`
	Endpoint string   `yaml:"endpoint"` // of a check, a trigger
	Triggers []string `yaml:"triggers"` // of a merge check
	Events   []string `yaml:"events"`   // of a trigger
	Interval string   `yaml:"interval"` // of a scheduled trigger

	// Of an endpoint.
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

// displayText is a text or {i18n: key}; the Sim has no translations and shows the key.
type displayText string

// UnmarshalYAML reads both forms.
func (d *displayText) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*d = displayText(n.Value)
		return nil
	}
	var ref struct {
		I18n string `yaml:"i18n"`
	}
	err := n.Decode(&ref)
	*d = displayText(ref.I18n)
	return err
}

// defaultURL is an address, or addresses by region of which the Sim takes the default one.
type defaultURL string

// UnmarshalYAML reads both forms.
func (d *defaultURL) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*d = defaultURL(n.Value)
		return nil
	}
	var regions struct {
		Default string `yaml:"default"`
	}
	err := n.Decode(&regions)
	*d = defaultURL(regions.Default)
	return err
}

// scopeNames are scopes, written as a list or as the keys of a mapping.
type scopeNames []string

// UnmarshalYAML reads both forms.
func (s *scopeNames) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		var list []string
		err := n.Decode(&list)
		*s = list
		return err
	}
	var named map[string]yaml.Node
	if err := n.Decode(&named); err != nil {
		return err
	}
	for name := range named {
		*s = append(*s, name)
	}
	slices.Sort(*s)
	return nil
}

// egress is one address that the pages of the app may call: an address or the key of a remote.
type egress struct {
	Address string `yaml:"address"`
	Remote  string `yaml:"remote"`
}

// UnmarshalYAML reads both forms.
func (e *egress) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		e.Address = n.Value
		return nil
	}
	type plain egress
	return n.Decode((*plain)(e))
}

// readManifest reads a rendered manifest.yml and checks what the Sim relies on.
func readManifest(path string) (*forgeManifest, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &forgeManifest{folder: filepath.Dir(path)}
	if err := yaml.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	for kind, modules := range m.Modules {
		for _, x := range modules {
			x.Type = kind
		}
	}
	return m, m.check()
}

func (m *forgeManifest) check() error {
	if !strings.HasPrefix(m.App.ID, "ari:cloud:ecosystem::app/") {
		return fmt.Errorf("manifest: app.id is %q, which is no ARI of an app", m.App.ID)
	}
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("manifest: "+format, args...))
	}
	for _, modules := range m.Modules {
		for _, x := range modules {
			for _, key := range []string{x.Endpoint, x.Resolver.Endpoint} {
				if key != "" && m.module(moduleEndpoint, key) == nil {
					problem("%s %s names the endpoint %q, which is not there", x.Type, x.Key, key)
				}
			}
			if x.Resource != "" && !m.hasResource(x.Resource) {
				problem("%s %s names the resource %q, which is not there", x.Type, x.Key, x.Resource)
			}
			if x.Type == moduleEndpoint {
				if _, err := url.Parse(m.remote(x.Remote)); err != nil || m.remote(x.Remote) == "" {
					problem("endpoint %s names the remote %q, which is not there or has no address", x.Key, x.Remote)
				}
			}
			for _, t := range x.Triggers {
				if !slices.Contains(checkTriggers, t) {
					problem("merge check %s has the trigger %q, which does not exist", x.Key, t)
				}
			}
			for _, e := range x.Events {
				if _, known := forgeEvents[e]; !known {
					problem("trigger %s names the event %q, which does not exist", x.Key, e)
				}
			}
		}
	}
	return errors.Join(problems...)
}

// module finds a module by type and key; any type where kind is empty.
func (m *forgeManifest) module(kind, key string) *forgeModule {
	for name, modules := range m.Modules {
		for _, x := range modules {
			if x.Key == key && (kind == "" || kind == name) {
				return x
			}
		}
	}
	return nil
}

func (m *forgeManifest) remote(key string) string {
	for _, r := range m.Remotes {
		if r.Key == key {
			return string(r.BaseURL)
		}
	}
	return ""
}

func (m *forgeManifest) hasResource(key string) bool {
	for _, r := range m.Resources {
		if r.Key == key {
			return true
		}
	}
	return false
}

func (m *forgeManifest) hasScope(name string) bool {
	return slices.Contains(m.Permissions.Scopes, name)
}

// consent is what an administrator agrees to: a manifest that differs in it is a new major version.
func (m *forgeManifest) consent() string {
	parts := slices.Clone(m.Permissions.Scopes)
	slices.Sort(parts)
	for _, e := range m.Permissions.External.Fetch.Client {
		parts = append(parts, "egress "+e.Address+e.Remote)
	}
	for _, r := range m.Remotes {
		parts = append(parts, "remote "+r.Key+" "+string(r.BaseURL))
	}
	for _, e := range m.Modules[moduleEndpoint] {
		parts = append(parts, fmt.Sprintf("endpoint %s %s %s %t %t", e.Key, e.Remote, e.Route.Path,
			e.Auth.AppUserToken.Enabled, e.Auth.AppSystemToken.Enabled))
	}
	return strings.Join(parts, "\n")
}
