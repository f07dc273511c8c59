package bitbucketsim_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

func TestAppsPage(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	alice, bob := w.browser().logIn("alice"), w.browser().logIn("bob")
	const at = "/acme/workspace/settings/apps"
	app := url.Values{"app": {w.app.ID}, "environment": {"PRODUCTION"}}
	bob.do(403, "GET", at, nil)
	bob.do(403, "POST", at+"/install", app)
	wantParts(t, alice.page("/"), `href="/acme/workspace"`)
	wantParts(t, alice.page("/acme/workspace"), `href="`+at+`"`, "No app has a page here.")
	wantParts(t, alice.page(at), "Not installed", "Install</button>", "read:pullrequest:bitbucket")
	alice.do(404, "POST", at+"/uninstall", app)
	alice.do(404, "POST", at+"/install", url.Values{"app": {"other"}})
	alice.do(303, "POST", at+"/install", app)
	alice.do(400, "POST", at+"/install", app)
	page := alice.page(at)
	wantParts(t, page, "Version 1.0.0", "Uninstall</button>", "Installed")
	if strings.Contains(page, "Upgrade</button>") {
		t.Error("there is nothing to upgrade to")
	}
	major(t, w)
	wantParts(t, alice.page(at), "version 2.0.0 asks for your consent", "Upgrade</button>")
	alice.do(303, "POST", at+"/upgrade", app)
	wantParts(t, alice.page(at), "Version 2.0.0")
	wantParts(t, bob.page("/acme/workspace"), ">Approvals</a>", ">my-keys</a>")
	alice.do(404, "POST", at+"/explode", app)
	alice.do(303, "POST", at+"/uninstall", app)
	wantParts(t, alice.page(at), "Not installed")
	if got := w.sim.ForgeInstallations()[0]; got.Installer != "alice" || got.State == "INSTALLED" {
		t.Errorf("installation is %+v", got)
	}
}

var checkButton = regexp.MustCompile(`name="check" value="(\d+)"`)

// TestMergeCheckInTheBrowser enables the feature, adds a check, is refused, and merges, on pages alone.
func TestMergeCheckInTheBrowser(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	w.open("Nozzle")
	alice, bob := w.browser().logIn("alice"), w.browser().logIn("bob")
	const workspace, repository, pr = "/acme/workspace/settings/merge-checks", "/acme/rocket/admin/merge-checks", "/acme/rocket/pull-requests/1"
	bob.do(403, "GET", workspace, nil)
	bob.do(403, "GET", repository, nil)
	bob.do(403, "POST", workspace+"/enable", nil)
	wantParts(t, alice.page("/acme/rocket"), `href="/acme/rocket/admin"`)
	wantParts(t, alice.page("/acme/rocket/admin"), `href="`+repository+`"`, "Approvals of this repository")
	wantParts(t, alice.page(repository), "has to enable custom merge checks first")
	wantParts(t, alice.page(workspace), "disabled")
	alice.do(303, "POST", workspace+"/enable", nil)
	wantParts(t, alice.page(workspace), "enabled", "Disable custom merge checks")

	module := w.app.ID + " PRODUCTION merge-check-on-merge"
	wantParts(t, alice.page(repository), "Signed approvals</option>", `value="`+module+`"`)
	alice.do(400, "POST", repository+"/add", url.Values{"module": {"nonsense"}})
	alice.do(303, "POST", repository+"/add", url.Values{"module": {module}, "pattern": {"main"}, "required": {"1"}})
	page := alice.page(repository)
	wantParts(t, page, "<td>Signed approvals</td>", "<code>main</code>", "<td>Required</td>")

	w.remote.answer("/forge/merge-check", remoteReply{status: 200, body: no}, remoteReply{status: 200, body: yes})
	wantParts(t, bob.page(pr), "Custom merge checks", "not run yet", "main, configured in the settings of the repository · required")
	refused := string(bob.do(400, "POST", pr+"/merge", url.Values{"merge_strategy": {"squash"}}).raw)
	wantParts(t, refused, "Unresolved merge checks prevent this pull request from being merged.", "Signed approvals: 0 of 2 signed approvals.")
	wantParts(t, bob.page(pr), `<span class="badge FAILED">failed</span>`, "0 of 2 signed approvals.")
	bob.do(303, "POST", pr+"/merge", url.Values{"merge_strategy": {"squash"}})
	wantParts(t, bob.page(pr), "MERGED", `<span class="badge SUCCESSFUL">passed</span>`)

	must(t)(w.sim.SetPlan(bitbucketsim.Plan{Workspace: "acme", Premium: false}))
	wantParts(t, alice.page(repository), "blocks merges in Premium workspaces only")
	wantParts(t, bob.page(pr), "needs a Premium plan: it warns only")
	id := checkButton.FindStringSubmatch(page)
	if id == nil {
		t.Fatal("there is no button to remove the check")
	}
	bob.do(403, "POST", repository+"/remove", url.Values{"check": {id[1]}})
	alice.do(303, "POST", repository+"/remove", url.Values{"check": {id[1]}})
	wantParts(t, alice.page(repository), "There are no custom merge checks here.")
	alice.do(303, "POST", workspace+"/add", url.Values{"module": {module}})
	alice.do(303, "POST", workspace+"/disable", nil)
	if all := w.sim.ForgeInvocations(); all[len(all)-1].Kind == "merge-check" && len(w.remote.at("/forge/merge-check")) != 2 {
		t.Errorf("the check was asked %d times", len(w.remote.at("/forge/merge-check")))
	}
}

func TestBranchRestrictionsPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	made := w.restrict("push", nil)
	alice := w.browser().logIn("alice")
	const at = "/acme/rocket/admin/branch-restrictions"
	w.browser().logIn("bob").do(403, "GET", at, nil)
	wantParts(t, alice.page(at), "restriction-push", "<code>main</code>")
	alice.do(404, "POST", at+"/remove", url.Values{"restriction": {"9999"}})
	alice.do(303, "POST", at+"/remove", url.Values{"restriction": {itoa(int(made.at("id").(float64)))}})
	wantParts(t, alice.page(at), "There are no branch restrictions.")
}
