package bitbucketsim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

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
		return nil, nil, nil, nil, fmt.Errorf("app %q: %w", spec.App, ErrNotFound)
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
