package forge_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/internal/atlassiantest"
	"github.com/signedapproval/bitbucket/server/forge"
)

const (
	installationUUID = "0a3a7799-53ae-4a5b-9e7e-03338980abb5"
	ofApp            = `"app":{"id":"8db33809-1f32-48bb-8c52-5877dab48107","version":"9.0.0","name":"SignedApproval"},"environment":{"id":"23863033-1de4-4ebf-b30d-c906264a1e92"}`
	installedBody    = `{"id":"` + installationUUID + `","installerAccountId":"4ad9aa0c52dc1b420a791d12",` + ofApp + `}`
	upgradedBody     = `{"id":"` + installationUUID + `","upgraderAccountId":"4ad9aa0c52dc1b420a791d12",` + ofApp + `,"permissions":{"scopes":["read:repository:bitbucket"]}}`
	uninstallBody    = `{"context":{"moduleKey":"pre-uninstall"},"contextToken":"c2VzYW1lLWNvbnRleHQtdG9rZW4"}`
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	const installed, upgraded, uninstalling = "avi:forge:installed:app followed", "avi:forge:upgraded:app followed", "pre-uninstall followed"
	const farewell = "uninstalling W with token for 3h0m0s"
	for name, test := range map[string]struct {
		body, module     string
		called, observed string
	}{
		"installed":                        {installedBody, "lifecycle", "installed W by 4ad9aa0c52dc1b420a791d12", installed},
		"installed, wrapped":               {`{"payload":` + installedBody + `}`, "lifecycle-ep", "installed W by 4ad9aa0c52dc1b420a791d12", installed},
		"installed, and named so":          {`{"eventType":"avi:forge:installed:app"}`, "lifecycle", "installed W by ", installed},
		"installed by nobody":              {`{"id":"` + installationUUID + `",` + ofApp + `}`, "lifecycle", "installed W by ", installed},
		"installed by what is nobody":      {`{"id":"` + installationUUID + `","installerAccountId":"<b>","app":{}}`, "lifecycle", "installed W by ", installed},
		"installed, its ARI":               {`{"id":"` + atlassiantest.Installation + `","app":{}}`, "lifecycle", "installed W by ", installed},
		"installed, in upper case":         {`{"id":"` + strings.ToUpper(installationUUID) + `","app":{}}`, "lifecycle", "installed W by ", installed},
		"upgraded":                         {upgradedBody, "lifecycle", "upgraded W", upgraded},
		"upgraded by nobody":               {`{"id":"` + installationUUID + `","app":{},"permissions":{}}`, "lifecycle", "upgraded W", upgraded},
		"upgraded, and named so":           {`{"eventType":"avi:forge:upgraded:app","id":"` + installationUUID + `"}`, "lifecycle-ep", "upgraded W", upgraded},
		"uninstalling":                     {uninstallBody, "pre-uninstall", farewell, uninstalling},
		"uninstalling, through its end":    {uninstallBody, "lifecycle-ep", farewell, uninstalling},
		"uninstalling, an empty body":      {`{}`, "pre-uninstall", farewell, uninstalling},
		"an end that another module tells": {uninstallBody, "lifecycle", "", "other unparsable"},
		"installed, by the end's module":   {installedBody, "pre-uninstall", "", "other unparsable"},
		"an event of tomorrow":             {`{"eventType":"avi:forge:moved:app","id":"` + installationUUID + `"}`, "lifecycle", "", "other unknown_event"},
		"nothing":                          {`{}`, "lifecycle", "", "other unparsable"},
		"no JSON":                          {`<`, "lifecycle-ep", "", "other unparsable"},
		"an empty body":                    {``, "lifecycle-ep", "", "other unparsable"},
	} {
		r := b.request(t, "lifecycle", []byte(test.body))
		from(test.module)(b, r)
		if got := send(t, r); got.status != http.StatusNoContent {
			t.Errorf("%s: answered %d %s", name, got.status, got.code)
		}
		want := []string{"invoked W with token for 3h0m0s"}
		if test.called != "" {
			want = append(want, test.called)
		}
		if observed, called := b.seen(); !slices.Equal(called, want) || !slices.Equal(observed, []string{test.observed}) {
			t.Errorf("%s: observed %q, called %q", name, observed, called)
		}
	}
	nothingSecret(t, b, "c2VzYW1lLWNvbnRleHQtdG9rZW4")
}

func TestLifeOfAnotherInstallation(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for _, body := range []string{installedBody, upgradedBody} {
		for _, id := range []string{otherUUID, "ari:cloud:ecosystem::installation/" + otherUUID, "5", "bb5", "/"} {
			got := b.deliver(t, "lifecycle", []byte(strings.Replace(body, installationUUID, id, 1)))
			if id == "/" { // it names nothing
				got.accepted(t)
			} else if got.status != http.StatusForbidden || got.code != "OTHER_INSTALLATION" {
				t.Errorf("%s: answered %d %s", id, got.status, got.code)
			}
			observed, called := b.seen()
			if id != "/" && (len(called) != 1 || !strings.HasSuffix(observed[0], forge.OutcomeForbidden)) {
				t.Errorf("%s: observed %q, called %q", id, observed, called)
			}
		}
	}
}
