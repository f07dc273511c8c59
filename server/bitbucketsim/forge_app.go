package bitbucketsim

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"time"
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

// Where an installation stands. While it is leaving, its tokens still work, so that the app can clean up.
const (
	forgeInstalled = "INSTALLED"
	forgeLeaving   = "LEAVING"
	forgeGone      = "UNINSTALLED"
)

// forgeInstallation is an app in a workspace.
type forgeInstallation struct {
	id        string // bare UUID
	version   *forgeVersion
	workspace *workspace
	account   *person // the app's own
	installer *person
	state     string
	installed time.Time
	since     time.Time // the same on the machine's clock
	tokens    *grant    // of the app's own account
	users     map[*person]*grant
	queue     []*forgeDelivery
	senders   int
	ranAt     map[string]time.Time // scheduled triggers by key, on the machine's clock
}

func (i *forgeInstallation) ari() string { return "ari:cloud:ecosystem::installation/" + i.id }

// ForgeChange names a Forge app in a workspace and who acts on it.
type ForgeChange struct {
	// App is the ARI, Environment the environment. Both may be left empty where only one is registered.
	App         string `json:"app"`
	Environment string `json:"environment"`
	Workspace   string `json:"workspace"`
	Person      string `json:"person"` // an administrator of the workspace
}

// ForgeInstallation is a Forge app in a workspace.
type ForgeInstallation struct {
	// ID is the ARI of the installation. Another installation of the same app has another one.
	ID            string    `json:"id"`
	App           string    `json:"app"`
	Environment   string    `json:"environment"`
	Version       string    `json:"version"`
	Latest        string    `json:"latest"` // that an upgrade leads to
	Workspace     string    `json:"workspace"`
	WorkspaceUUID string    `json:"workspace_uuid"` // in braces
	Installer     string    `json:"installer"`
	InstalledAt   time.Time `json:"installed_at"`
	// State is INSTALLED, LEAVING while preUninstall is being called, or UNINSTALLED.
	State string `json:"state"`
	// Account is the app's own account: its nickname, by which faults and calls name it, and its account id.
	Account   string `json:"account"`
	AccountID string `json:"account_id"`
}

func (i *forgeInstallation) describe() ForgeInstallation {
	return ForgeInstallation{
		ID: i.ari(), App: i.version.app.id, Environment: i.version.app.environment, Version: i.version.name(),
		Latest: i.version.app.latest().name(), Workspace: i.workspace.slug, WorkspaceUUID: i.workspace.uuid,
		Installer: i.installer.nickname, InstalledAt: i.installed, State: i.state, Account: i.account.nickname,
		AccountID: i.account.accountID,
	}
}

// errNotAdministrator refuses what only administrators of a workspace may do.
var errNotAdministrator = errors.New("only an administrator of the workspace may do this")

// forgeChange resolves a change. The installation is nil where the app is not installed.
func (s *Sim) forgeChange(spec ForgeChange) (*forgeApp, *workspace, *person, *forgeInstallation, error) {
	w, err := s.workspace(spec.Workspace)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if w.members[p] != RoleOwner {
		return nil, nil, nil, nil, errNotAdministrator
	}
	var found []*forgeApp
	for _, a := range s.forgeApps {
		if (spec.App == "" || spec.App == a.id) && (spec.Environment == "" || spec.Environment == a.environment) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil, nil, nil, fmt.Errorf("Forge app %q: %w", spec.App, ErrNotFound)
	case 1:
		return found[0], w, p, s.forgeInstallation(found[0], w), nil
	default:
		return nil, nil, nil, nil, errors.New("several apps or environments are meant; name one")
	}
}

// forgeInstallation finds the live installation of an app in a workspace; nil where there is none.
func (s *Sim) forgeInstallation(a *forgeApp, w *workspace) *forgeInstallation {
	for _, i := range s.forgeInstallations {
		if i.version.app == a && i.workspace == w && i.state == forgeInstalled {
			return i
		}
	}
	return nil
}

// forgeIn lists the live installations in a workspace.
func (s *Sim) forgeIn(w *workspace) []*forgeInstallation {
	var out []*forgeInstallation
	for _, i := range s.forgeInstallations {
		if i.workspace == w && i.state == forgeInstalled {
			out = append(out, i)
		}
	}
	return out
}

// InstallForgeApp installs an app as an administrator does, and sends avi:forge:installed:app. An installation
// after an uninstallation has another id; the app's own account stays the same.
func (s *Sim) InstallForgeApp(spec ForgeChange) (ForgeInstallation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, w, p, inst, err := s.forgeChange(spec)
	if err != nil {
		return ForgeInstallation{}, err
	}
	if inst != nil {
		return ForgeInstallation{}, errors.New("the app is installed already")
	}
	inst = s.installForge(a, w, p)
	return inst.describe(), nil
}

func (s *Sim) installForge(a *forgeApp, w *workspace, p *person) *forgeInstallation {
	account := a.accounts[w]
	if account == nil {
		account = &person{
			accountID: "712020:" + bareUUID(), uuid: newUUID(), nickname: "app:" + a.latest().spec.Name + "@" + w.slug,
			displayName: a.latest().spec.Name, appKind: appKindForge, created: s.now(),
			email: bareUUID() + "@bots.example.com",
		}
		if _, err := s.person(account.nickname); err == nil {
			account.nickname += "+" + account.uuid[1:9]
		}
		a.accounts[w] = account
		s.people = append(s.people, account)
	}
	inst := &forgeInstallation{
		id: bareUUID(), version: a.latest(), workspace: w, account: account, installer: p, state: forgeInstalled,
		installed: s.now(), since: time.Now(), users: map[*person]*grant{}, ranAt: map[string]time.Time{},
	}
	account.forge = append(account.forge, inst)
	s.forgeInstallations = append(s.forgeInstallations, inst)
	s.emitLifecycle(inst, "avi:forge:installed:app", object{"installerAccountId": p.accountID})
	return inst
}

// UpgradeForgeApp brings an installation to the latest version, as an administrator who agrees to its permissions
// does. avi:forge:upgraded:app is sent for a major version only.
func (s *Sim) UpgradeForgeApp(spec ForgeChange) (ForgeInstallation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, p, inst, err := s.forgeChange(spec)
	if err != nil {
		return ForgeInstallation{}, err
	}
	if inst == nil {
		return ForgeInstallation{}, errNotInstalled
	}
	if err := s.upgradeForge(inst, p); err != nil {
		return ForgeInstallation{}, err
	}
	return inst.describe(), nil
}

var errNotInstalled = fmt.Errorf("the app is not installed: %w", ErrNotFound)

func (s *Sim) upgradeForge(inst *forgeInstallation, p *person) error {
	latest := inst.version.app.latest()
	if inst.version == latest {
		return errors.New("the installation has the latest version already")
	}
	inst.version = latest
	var clients []any
	for _, e := range latest.manifest.Permissions.External.Fetch.Client {
		clients = append(clients, cmp.Or(e.Address, latest.manifest.remote(e.Remote)))
	}
	s.emitLifecycle(inst, "avi:forge:upgraded:app", object{
		"upgraderAccountId": p.accountID,
		"permissions": object{
			"scopes":   latest.manifest.Permissions.Scopes,
			"external": object{"fetch": object{"client": clients}},
		},
	})
	return nil
}

// UninstallForgeApp takes an app out of a workspace, with its merge checks. preUninstall is called, and whatever
// comes of it the app is out; its tokens die when that call has ended.
func (s *Sim) UninstallForgeApp(spec ForgeChange) (ForgeInstallation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, _, inst, err := s.forgeChange(spec)
	if err != nil {
		return ForgeInstallation{}, err
	}
	if inst == nil {
		return ForgeInstallation{}, errNotInstalled
	}
	s.uninstallForge(inst)
	return inst.describe(), nil
}

func (s *Sim) uninstallForge(inst *forgeInstallation) {
	inst.state = forgeLeaving
	s.dropEvents(inst)
	w := inst.workspace
	w.checks = slices.DeleteFunc(w.checks, func(c *forgeCheck) bool { return c.app == inst.version.app })
	var calls []*forgeDelivery
	for _, m := range inst.version.manifest.Modules[modulePreUninstall] {
		calls = append(calls, s.newForgeDelivery(inst, m, "uninstall", modulePreUninstall, object{
			"context":      object{"workspaceId": inst.workspace.uuid, "moduleKey": m.Key},
			"contextToken": newSecret(),
		}))
	}
	end := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		inst.state = forgeGone
		if inst.tokens != nil {
			inst.tokens.revoked = true
		}
		for _, g := range inst.users {
			g.revoked = true
		}
		s.changed.Broadcast()
	}
	if s.ctx.Err() != nil {
		return
	}
	s.work.Go(func() {
		defer end()
		for _, d := range calls {
			s.attemptOnce(d, s.opts.Forge.UninstallTimeout)
		}
	})
}

// ForgeInstallations lists the installations, also those that are over, oldest first.
func (s *Sim) ForgeInstallations() []ForgeInstallation {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []ForgeInstallation{}
	for _, i := range s.forgeInstallations {
		out = append(out, i.describe())
	}
	return out
}

// appKindForge marks the account of a Forge app.
const appKindForge = "forge_app"

// serves tells whether p is the account of a Forge app that is, or is just ceasing to be, in the workspace.
func (w *workspace) serves(p *person) bool {
	return p != nil && slices.ContainsFunc(p.forge, func(i *forgeInstallation) bool {
		return i.workspace == w && i.state != forgeGone
	})
}

// WaitForgeInstallation waits until an installation, named by its ARI, is in a state.
func (s *Sim) WaitForgeInstallation(ctx context.Context, id, state string) error {
	return s.wait(ctx, func() bool {
		return slices.ContainsFunc(s.forgeInstallations, func(i *forgeInstallation) bool {
			return i.ari() == id && i.state == state
		})
	})
}
