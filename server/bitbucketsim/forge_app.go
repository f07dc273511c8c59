package bitbucketsim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
)

// Environments of a Forge app.
var forgeEnvironments = []string{"PRODUCTION", "STAGING", "DEVELOPMENT"}

// ForgeApp is a Forge app as its developer deploys it: one environment of one app.
type ForgeApp struct {
	// ID is the ARI "ari:cloud:ecosystem::app/<uuid>"; the manifest's app.id where left empty.
	ID string `json:"id"`
	// Name is shown in the workspace and is the display name of the app's own account; "SignedApproval" where
	// left empty.
	Name string `json:"name"`
	// Environment is PRODUCTION (where left empty), STAGING or DEVELOPMENT.
	Environment string `json:"environment"`
	// Manifest is the path of a rendered manifest.yml.
	Manifest string `json:"manifest"`
	// RemoteURL replaces the base address of every remote of the manifest where it is not empty.
	RemoteURL string `json:"remote_url"`
	// Resources are the folders of the pages by resource key. Those that are not named here are read from where
	// the manifest says, relative to its file.
	Resources map[string]string `json:"resources"`
	// Wrapped puts the body of events, schedules and merge checks under "payload". The documentation shows
	// both forms.
	Wrapped bool `json:"wrapped"`
	// InstallContext puts context.installContext into the tokens of invocations that no page made, as was seen
	// in practice; the documentation says that these have no context.
	InstallContext bool `json:"install_context"`

	// Version, EnvironmentID and FrameOrigin are set by the Sim: the version that is deployed now, such as
	// "2.1.0", the ARI of the environment, and the origin from which the app's pages are served ("" unless the
	// Sim listens by itself).
	Version       string `json:"version"`
	EnvironmentID string `json:"environment_id"`
	FrameOrigin   string `json:"frame_origin"`
}

// forgeApp is one environment of a registered app, with its versions.
type forgeApp struct {
	id, environment, environmentID string
	owner                          string // account id of the developer
	versions                       []*forgeVersion
	accounts                       map[*workspace]*person // the app's own account in each workspace
}

// forgeVersion is one deployed version. Installations stay at theirs when a new major one is deployed.
type forgeVersion struct {
	app          *forgeApp
	major, minor int
	spec         ForgeApp
	manifest     *forgeManifest
}

func (v *forgeVersion) name() string { return fmt.Sprintf("%d.%d.0", v.major, v.minor) }

func (a *forgeApp) latest() *forgeVersion { return a.versions[len(a.versions)-1] }

// bareID is the UUID at the end of the app's ARI.
func (a *forgeApp) bareID() string { return lastPart(a.id) }

// host is the name under which the app's pages are served: one of its own, as Forge has it.
func (a *forgeApp) host() string {
	sum := sha256.Sum256([]byte(a.id + " " + a.environment))
	return hex.EncodeToString(sum[:8]) + "." + frameDomain
}

// RegisterForgeApp deploys a Forge app: the first time as version 1.0.0, then as a new version, which is a major
// one where scopes, remotes, endpoints or egress differ. Installations follow a minor version by themselves and
// wait at a major one until an administrator upgrades.
func (s *Sim) RegisterForgeApp(spec ForgeApp) (ForgeApp, error) {
	manifest, err := readManifest(spec.Manifest)
	if err != nil {
		return ForgeApp{}, err
	}
	spec.ID = cmp.Or(spec.ID, manifest.App.ID)
	spec.Name = cmp.Or(spec.Name, "SignedApproval")
	spec.Environment = cmp.Or(spec.Environment, forgeEnvironments[0])
	switch {
	case spec.ID != manifest.App.ID:
		return ForgeApp{}, fmt.Errorf("the manifest is of the app %s", manifest.App.ID)
	case !slices.Contains(forgeEnvironments, spec.Environment):
		return ForgeApp{}, fmt.Errorf("%q is no environment", spec.Environment)
	}
	if spec.RemoteURL != "" {
		u, err := url.Parse(spec.RemoteURL)
		if err != nil || u.Host == "" {
			return ForgeApp{}, fmt.Errorf("%q is no address of a remote", spec.RemoteURL)
		}
		for i := range manifest.Remotes {
			manifest.Remotes[i].BaseURL = defaultURL(spec.RemoteURL)
		}
	}
	if spec.Resources, err = manifest.folders(spec.Resources); err != nil {
		return ForgeApp{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	app := s.forgeApp(spec.ID, spec.Environment)
	if app == nil {
		app = &forgeApp{
			id: spec.ID, environment: spec.Environment, owner: "712020:" + bareUUID(), accounts: map[*workspace]*person{},
		}
		app.environmentID = "ari:cloud:ecosystem::environment/" + app.bareID() + "/" + bareUUID()
		s.forgeApps = append(s.forgeApps, app)
	}
	v := &forgeVersion{app: app, major: 1, spec: spec, manifest: manifest}
	if len(app.versions) > 0 {
		last := app.latest()
		v.major, v.minor = last.major, last.minor+1
		if last.manifest.consent() != manifest.consent() {
			v.major, v.minor = last.major+1, 0
		}
	}
	app.versions = append(app.versions, v)
	for _, inst := range s.forgeInstallations {
		if inst.state == forgeInstalled && inst.version.app == app && inst.version.major == v.major {
			inst.version = v
		}
	}
	return s.describeForgeApp(v), nil
}

// ForgeApps lists what is deployed, in its latest versions.
func (s *Sim) ForgeApps() []ForgeApp {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []ForgeApp{}
	for _, a := range s.forgeApps {
		out = append(out, s.describeForgeApp(a.latest()))
	}
	return out
}

func (s *Sim) describeForgeApp(v *forgeVersion) ForgeApp {
	out := v.spec
	out.Resources = maps.Clone(v.spec.Resources)
	out.Version, out.EnvironmentID, out.FrameOrigin = v.name(), v.app.environmentID, s.frameOrigin(v.app)
	return out
}

// folders tells where the files of each resource are.
func (m *forgeManifest) folders(given map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for key := range given {
		if !m.hasResource(key) {
			return nil, fmt.Errorf("the manifest has no resource %q", key)
		}
	}
	for _, r := range m.Resources {
		folder := given[r.Key]
		if folder == "" {
			folder = filepath.Join(m.folder, filepath.FromSlash(r.Path))
		}
		folder, err := filepath.Abs(folder)
		if err != nil {
			return nil, err
		}
		out[r.Key] = folder
	}
	return out, nil
}

// forgeApp finds an environment of an app; nil where it is not registered.
func (s *Sim) forgeApp(id, environment string) *forgeApp {
	for _, a := range s.forgeApps {
		if a.id == id && a.environment == environment {
			return a
		}
	}
	return nil
}
