package graph

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/atlassian"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

const installationQuery = `query($w: String!) { workspace(key: $w) { id name
	installation { state appVersion installedAt confirmedAt uninstalledAt heardAt tokenExpiresAt } actsAs { identity sentence } connection { state } } }`

// hears lets Bitbucket call the app of a workspace, with a token of the person who stands for the app.
func (w *world) hears(workspace, installation string, issued time.Time, robot string) {
	w.t.Helper()
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: robot})
	w.must(err)
	_, err = w.spaces.Invoked(w.t.Context(), atlassian.Invocation{
		AppVersion: "1.2.0", Environment: "PRODUCTION", InstallationID: "ari:cloud:ecosystem::installation/" + installation,
		Workspace: workspace, APIBaseURL: w.sim.URL(), IssuedAt: issued,
	}, token.AccessToken, time.Now().Add(2*time.Hour))
	w.must(err)
}

// TestTheAppInAWorkspace installs the app in a workspace that was gated by a connection, as its members,
// its administrator, a stranger and a script see it.
func TestTheAppInAWorkspace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.signIn("alice"), w.signIn("bob"), w.signIn("mallory")
	id := alice.connect("alice")
	uuid := alice.ask(`{ workspace(key: "acme") { uuid } }`, nil).text("workspace.uuid")
	in := map[string]any{"w": uuid}
	before := alice.ask(installationQuery, in)
	if before.at("workspace.installation") != nil || before.text("workspace.actsAs.identity") != "CONNECTION" {
		t.Errorf("before: %v", before)
	}
	repository := alice.ask(`query($w: String!) { workspace(key: $w) { bitbucketRepositories(first: 1) { edges { node { uuid } } } } }`, in).
		text("workspace.bitbucketRepositories.edges.0.node.uuid")
	alice.do("saveRepository", "repository { id }", map[string]any{"workspaceId": id, "repositoryUuid": repository, "rules": []any{ruleFor(1)}})

	w.hears(uuid, "one", time.Now(), "alice")
	for _, b := range []*browser{alice, bob} {
		seen := b.ask(installationQuery, in)
		if seen.text("workspace.installation.state") != "AWAITING_CONFIRMATION" || seen.text("workspace.actsAs.identity") != "NOBODY" ||
			seen.text("workspace.installation.appVersion") != "1.2.0" || seen.at("workspace.installation.confirmedAt") != nil ||
			seen.text("workspace.installation.tokenExpiresAt") == "" {
			t.Errorf("while it waits: %v", seen)
		}
	}
	if seen := mallory.ask(installationQuery, in); seen.at("workspace") != nil {
		t.Errorf("a stranger sees %v", seen)
	}
	input := map[string]any{"workspaceId": id}
	if code := bob.try("confirmInstallation", "workspace { id }", input).text("userErrors.0.code"); code != "FORBIDDEN" {
		t.Errorf("a member who confirms gets %q", code)
	}
	if code := mallory.try("confirmInstallation", "workspace { id }", input).text("userErrors.0.code"); code != "NOT_FOUND" {
		t.Errorf("a stranger who confirms gets %q", code)
	}
	if got := w.send(`mutation($input: ConfirmInstallationInput!) { confirmInstallation(input: $input) { userErrors { code } } }`,
		map[string]any{"input": input}, func(*http.Request) {}); len(got.Errors) == 0 {
		t.Errorf("nobody may confirm: %s", got.body)
	}

	confirmed := alice.do("confirmInstallation", "workspace { installation { state confirmedAt } actsAs { identity sentence } }", input)
	if confirmed.text("workspace.installation.state") != "ACTIVE" || confirmed.text("workspace.installation.confirmedAt") == "" ||
		confirmed.text("workspace.actsAs.identity") != "APP" || !strings.Contains(confirmed.text("workspace.actsAs.sentence"), "second way") {
		t.Errorf("confirmed: %v", confirmed)
	}
	// The connection goes, the gate stays.
	alice.do("disconnectWorkspace", "leftToDo", input)
	after := alice.ask(installationQuery, in)
	if after.at("workspace.connection") != nil || after.text("workspace.actsAs.identity") != "APP" {
		t.Errorf("after the connection ended: %v", after)
	}
	left := alice.ask(`query($w: String!) { workspace(key: $w) { repositories { edges { node { state } } } } }`, in)
	if left.text("workspace.repositories.edges.0.node.state") != "ACTIVE" {
		t.Errorf("repositories: %v", left)
	}
}
