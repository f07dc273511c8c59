package bitbucketsim_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

func TestInstallUpgradeUninstallReinstall(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	if _, err := w.sim.InstallForgeApp(w.by("bob")); err == nil {
		t.Error("bob, who is no administrator, installed the app")
	}
	if _, err := w.sim.UninstallForgeApp(w.by("alice")); !errors.Is(err, bitbucketsim.ErrNotFound) {
		t.Errorf("uninstalling what is not installed: %v", err)
	}
	first := w.install()
	if first.State != "INSTALLED" || first.Version != "1.0.0" || first.Installer != "alice" {
		t.Errorf("installation is %+v", first)
	}
	if _, err := w.sim.InstallForgeApp(w.by("alice")); err == nil {
		t.Error("the app was installed twice")
	}
	_, call := w.named("avi:forge:installed:app", "/forge/lifecycle")
	token := call.header.Get("X-Forge-Oauth-System")

	// A minor version comes by itself, a major one with consent.
	minor, err := w.sim.RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: forgeManifest, RemoteURL: w.remote.URL})
	if err != nil || minor.Version != "1.1.0" || w.sim.ForgeInstallations()[0].Version != "1.1.0" {
		t.Errorf("minor version %s, %v", minor.Version, err)
	}
	if _, err := w.sim.UpgradeForgeApp(w.by("alice")); err == nil {
		t.Error("an upgrade to the same version was accepted")
	}
	if app := major(t, w); app.Version != "2.0.0" || w.sim.ForgeInstallations()[0].Version != "1.1.0" {
		t.Errorf("major version is %s, the installation has %s", app.Version, w.sim.ForgeInstallations()[0].Version)
	}
	upgraded, err := w.sim.UpgradeForgeApp(w.by("alice"))
	if err != nil || upgraded.Version != "2.0.0" || upgraded.ID != first.ID {
		t.Errorf("upgraded to %+v, %v", upgraded, err)
	}
	w.named("avi:forge:upgraded:app", "/forge/lifecycle")

	// While preUninstall is being called the token works; a remote that fails does not keep the app in.
	release := make(chan struct{})
	app := &client{w.world, token}
	w.remote.answer("/forge/lifecycle", remoteReply{status: 500, release: release})
	leaving, err := w.sim.UninstallForgeApp(w.by("alice"))
	if err != nil || leaving.State != "LEAVING" {
		t.Fatalf("uninstalling gives %+v, %v", leaving, err)
	}
	app.get(w.repo)
	w.open("Nozzle")
	close(release)
	all := w.invoked(3)
	last := all[len(all)-1]
	if last.Kind != "uninstall" || last.State != "failed" || len(last.Attempts) != 1 {
		t.Errorf("the last invocation is %+v", last)
	}
	if slices.ContainsFunc(all, func(x bitbucketsim.ForgeInvocation) bool { return x.Kind == "event" }) {
		t.Error("an app that was uninstalled was told of an event")
	}
	if _, err := w.sim.WaitForgeInvocations(within(t), func([]bitbucketsim.ForgeInvocation) bool { return true }); err != nil {
		t.Fatal(err)
	}
	w.gone(first.ID)
	app.do(401, "GET", w.repo, nil)

	w.remote.answer("/forge/lifecycle", remoteReply{status: 204})
	second := w.install()
	if second.ID == first.ID || second.WorkspaceUUID != first.WorkspaceUUID || second.AccountID != first.AccountID {
		t.Errorf("installed again as %+v, before it was %+v", second, first)
	}
}

// gone waits until an installation is over.
func (w *forgeWorld) gone(id string) {
	w.t.Helper()
	if err := w.sim.WaitForgeInstallation(within(w.t), id, "UNINSTALLED"); err != nil {
		w.t.Fatal(err)
	}
}

func TestEnvironmentsAreApart(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	staging, err := w.sim.RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: forgeManifest, RemoteURL: w.remote.URL, Environment: "STAGING"})
	if err != nil || staging.EnvironmentID == w.app.EnvironmentID || staging.FrameOrigin == w.app.FrameOrigin || staging.Version != "1.0.0" {
		t.Errorf("staging is %+v, %v", staging, err)
	}
	if _, err := w.sim.InstallForgeApp(w.by("alice")); err == nil {
		t.Error("which environment was meant?")
	}
	change := w.by("alice")
	change.Environment = "STAGING"
	must(t)(w.sim.InstallForgeApp(change))
	claims, err := w.verify(func() remoteCall {
		_, c := w.named("avi:forge:installed:app", "/forge/lifecycle")
		return c
	}().header)
	if err != nil || claims.str("app.environment.type") != "STAGING" {
		t.Errorf("the environment is %v, %v", claims.at("app.environment"), err)
	}
	for name, spec := range map[string]bitbucketsim.ForgeApp{
		"environment": {Manifest: forgeManifest, Environment: "TEST"},
		"app":         {Manifest: forgeManifest, ID: "ari:cloud:ecosystem::app/other"},
		"remote":      {Manifest: forgeManifest, RemoteURL: "nowhere"},
		"resource":    {Manifest: forgeManifest, Resources: map[string]string{"other": "."}},
		"manifest":    {Manifest: "testdata/none.yml"},
	} {
		if _, err := w.sim.RegisterForgeApp(spec); err == nil {
			t.Errorf("an app with a bad %s was registered", name)
		}
	}
}

func TestForgeThroughTheControlDoor(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	door := &client{w.world, ""}
	post := func(name string, body any) reply { t.Helper(); return door.do(200, "POST", "/sim/forge/"+name, body) }
	at := map[string]any{"workspace": "acme", "person": "alice"}
	app := post("apps", map[string]any{"manifest": forgeManifest, "remote_url": w.remote.URL})
	if app.str("version") != "1.1.0" || app.str("id") != w.app.ID {
		t.Errorf("app is %s", app.raw)
	}
	inst := post("installations", at)
	door.do(400, "POST", "/sim/forge/installations", at)
	door.do(400, "POST", "/sim/forge/installations/upgrade", at)
	if got := door.get("/sim/forge/installations").str("installations.0.id"); got != inst.str("id") {
		t.Errorf("listed is %s", got)
	}
	if door.get("/sim/forge/apps").str("apps.0.environment") != "PRODUCTION" {
		t.Error("the app is not listed")
	}
	token := post("tokens", map[string]any{"workspace": "acme", "person": "alice", "endpoint": "events-ep"})
	if token.str("token") == "" || token.str("system_token") == "" {
		t.Errorf("token is %s", token.raw)
	}
	post("tokens/expire", at)
	post("keys/rotate", map[string]any{"forget": true})
	post("faults", map[string]any{"event": "push", "drop": true})
	door.do(204, "DELETE", "/sim/forge/faults", nil)
	if post("schedules", nil).at("queued") != 1.0 {
		t.Error("no schedule was run")
	}
	post("custom-merge-checks", map[string]any{"workspace": "acme", "person": "alice", "enabled": true})
	check := post("merge-checks", map[string]any{"repository": "acme/rocket", "module": "merge-check-on-merge", "person": "alice"})
	if door.get("/sim/forge/merge-checks?workspace=acme").at("merge_checks.0.id") != check.at("id") {
		t.Error("the merge check is not listed")
	}
	w.open("Nozzle")
	results := door.get("/sim/forge/merge-check-results?repository=acme/rocket&pull_request=1")
	if results.str("results.0.name") != "Signed approvals" || results.at("results.0.on_merge") != true {
		t.Errorf("results are %s", results.raw)
	}
	door.do(404, "GET", "/sim/forge/merge-check-results?repository=acme/rocket&pull_request=9", nil)
	door.do(404, "GET", "/sim/forge/merge-checks?workspace=none", nil)
	door.do(400, "POST", "/sim/forge/merge-checks/rerun", map[string]any{
		"repository": "acme/rocket", "pull_request": 1, "check": check.at("id"), "person": "bob",
	})
	post("merge-checks/remove", map[string]any{"id": check.at("id"), "person": "alice"})
	post("installations/remove", at)
	if door.get("/sim/forge/invocations").str("invocations.0.name") != "avi:forge:installed:app" {
		t.Error("the invocations are not listed")
	}
}
