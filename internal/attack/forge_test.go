package attack_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/descriptor"
	"github.com/signedapproval/bitbucket/internal/atlassiantest"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

const (
	forgeApp       = "ari:cloud:ecosystem::app/6a7b8c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
	otherApp       = "ari:cloud:ecosystem::app/00000000-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
	mergeCheckPath = "/forge/merge-check"
)

// onForge are attacks through the door by which Bitbucket asks before it merges.
func onForge() []attack {
	return []attack{
		{
			wants:  "answer the merge check \"yes\" by other code at the app's endpoint, and record nothing",
			caught: []string{"monitor: violation", "audit: violation"},
			try: func(t *testing.T) (got []string) {
				l := begin(t, true)
				honest := l.approve(l.open("pump"))
				l.pin()
				l.control(honest)
				p := l.open("valve")
				if status, body := l.press(p); status < 400 || !strings.Contains(body, "0 of 2") {
					t.Fatalf("the control: an unapproved merge is answered %d %s", status, body)
				}
				l.lies.Store(true)
				if status, body := l.press(p); status != http.StatusOK {
					t.Fatalf("a merge with a false yes is answered %d %s", status, body)
				}
				landed := l.merged(p)
				got = append(got, l.watch(l.anchors)...)
				_, out := l.run("audit", "--workspace=acme", "--repository=rocket", "--branch="+branch, "--from=2020-01-01")
				for _, row := range strings.Split(out, "\n") {
					if strings.Contains(row, ","+landed+",violation,") {
						got = append(got, "audit: violation")
					}
				}
				return got
			},
		},
		{
			wants:  "pretend that Bitbucket asked the merge check: an invocation token under keys of its own, which its server is made to believe",
			caught: []string{"server: no", "exit 0"}, admits: "pretend that Bitbucket asked",
			try: func(t *testing.T) (got []string) {
				l := begin(t, true)
				honestly := l.approve(l.open("pump"))
				l.pin()
				l.control(honestly)
				p := l.open("valve")
				if status, body := l.press(p); status < 400 || !strings.Contains(body, "0 of 2") {
					t.Fatalf("the control: an unapproved merge is answered %d %s", status, body)
				}
				own := atlassiantest.New(t)
				claims, err := base64.RawURLEncoding.DecodeString(strings.Split(l.invocation(nil), ".")[1])
				must(t, err)
				var forged atlassiantest.Claims
				must(t, json.Unmarshal(claims, &forged))
				bob := l.sql(`select account_id from signedapproval_people where name = 'Bob'`)[0]
				forged["principal"] = bob // who is to have pressed the button
				if answer := l.asForge(own.Sign(forged)); answer != "401" {
					t.Fatalf("the control: by a key that the server does not believe: %s", answer)
				}
				honest := l.flags
				l.stop()
				l.flags = append(honest[:len(honest):len(honest)], "--forge-jwksurl="+own.URL)
				must(t, l.start())
				answer, _, _ := strings.Cut(l.asForge(own.Sign(forged)), ":")
				got = append(got, "server: "+answer)
				l.stop()
				l.flags = honest
				must(t, l.start())
				if asked := l.sql(`select account_id from signedapproval_merge_checks where number = $1 order by asked_at`, p.Number); !slices.Equal(asked, []string{"", bob}) {
					t.Errorf("on record are questions by %q", asked)
				}
				code, out := l.evidence(l.approve(p))
				got = append(got, fmt.Sprint("exit ", code))
				if code != 0 {
					t.Log(out)
				}
				return append(got, l.watch(l.anchors)...)
			},
		},
		{
			wants: "be no operator at all, and ask the merge check as Bitbucket does: by a key of its own, for another app, with an old token, of another " +
				"installation, of another workspace",
			caught: []string{"server: 401", "server: 401", "server: 401", "server: no", "server: no"},
			try: func(t *testing.T) (got []string) {
				l := begin(t, true)
				honest := l.open("pump")
				if status, body := l.press(honest); status < 400 || !strings.Contains(body, "0 of 2") {
					t.Fatalf("the control: an unapproved merge is answered %d %s", status, body)
				}
				_, err := l.bob.Decide(l.ctx, honest.Place, "APPROVE")
				must(t, err)
				good := l.invocation(nil)
				if answer := l.asForge(good); !strings.Contains(answer, "1 of 2") {
					t.Fatalf("the control: %s", answer)
				}
				stranger, err := rsa.GenerateKey(rand.Reader, 2048)
				must(t, err)
				parts := strings.Split(good, ".")
				header, err := base64.RawURLEncoding.DecodeString(parts[0])
				must(t, err)
				claims, err := base64.RawURLEncoding.DecodeString(parts[1])
				must(t, err)
				nowhere := "00000000-53ae-4a5b-9e7e-03338980abb5"
				for _, forged := range []string{
					atlassiantest.Sign(stranger, json.RawMessage(header), claims),
					l.invocation(map[string]any{"aud": otherApp}),
					l.invocation(map[string]any{"iat": 1700000000, "nbf": 1700000000, "exp": 1700000025}),
					l.invocation(map[string]any{"app": map[string]any{
						"installationId": "ari:cloud:ecosystem::installation/" + nowhere, "installation": map[string]any{"id": "ari:cloud:ecosystem::installation/" + nowhere},
					}}),
					l.invocation(map[string]any{"app": map[string]any{"installation": map[string]any{"contexts": []any{
						map[string]any{"name": "bitbucket", "apiBaseUrl": l.sim.URL(), "workspaceId": nowhere},
					}}}}),
				} {
					got = append(got, "server: "+l.asForge(forged))
				}
				return got
			},
		},
	}
}

// deployApp deploys the app to the simulated Bitbucket, and tells the server of it.
func (l *live) deployApp() {
	l.t.Helper()
	manifest, err := descriptor.Render(descriptor.Environment{AppID: forgeApp, Origin: l.origin})
	must(l.t, err)
	folder := l.t.TempDir()
	app := bitbucketsim.ForgeApp{Manifest: filepath.Join(folder, "manifest.yml"), RemoteURL: l.origin, Resources: map[string]string{}}
	must(l.t, os.WriteFile(app.Manifest, []byte(manifest), 0o600))
	for _, page := range []string{"panel", "dashboard"} {
		app.Resources[page] = filepath.Join(folder, page)
		must(l.t, os.Mkdir(app.Resources[page], 0o700))
		must(l.t, os.WriteFile(filepath.Join(app.Resources[page], "index.html"), []byte("<!doctype html><title>A page</title>"), 0o600))
	}
	_, err = l.sim.RegisterForgeApp(app)
	must(l.t, err)
	l.flags = append(l.flags, "--forge-app-id="+forgeApp, "--forge-jwksurl="+l.sim.URL()+bitbucketsim.JWKSPath, "--forge-api-hosts="+l.sim.URL())
}

// installApp installs the app in the workspace, which makes Bitbucket ask our merge check.
func (l *live) installApp() {
	l.t.Helper()
	installation, err := l.sim.InstallForgeApp(bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"})
	must(l.t, err)
	l.eventually("the server knows of the installation", func() bool {
		return slices.Contains(l.sql(`select installation_id from signedapproval_installations where system_token is not null`), installation.ID) &&
			slices.Contains(l.sql(`select slug from signedapproval_workspaces`), "acme")
	})
	_, err = l.sim.SetCustomMergeChecks(bitbucketsim.CustomMergeChecks{Workspace: "acme", Person: "alice", Enabled: true})
	must(l.t, err)
	_, err = l.sim.SaveMergeCheck(bitbucketsim.MergeCheck{Repository: rocket, Module: "merge-check-on-merge", Pattern: "release/*", Required: true, Person: "alice"})
	must(l.t, err)
}

// answersCheck lets the product answer the merge check, unless the operator's code lies for it.
func (l *live) answersCheck(w http.ResponseWriter, r *http.Request) bool {
	question, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return false
	}
	l.question.Store(&question)
	r.Body = io.NopCloser(bytes.NewReader(question))
	if l.lies.Load() {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"success":true,"message":"Approved."}`)
		return false
	}
	return true
}

// press presses Bitbucket's Merge button as alice.
func (l *live) press(p pull) (status int, body string) {
	l.t.Helper()
	token, err := l.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	must(l.t, err)
	return l.post(fmt.Sprintf("%s/2.0/repositories/%s/pullrequests/%d/merge", l.sim.URL(), rocket, p.Number), token.AccessToken, []byte(`{"type":"pullrequest"}`))
}

func (l *live) post(address, token string, body []byte) (status int, answer string) {
	l.t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(l.ctx), http.MethodPost, address, bytes.NewReader(body))
	must(l.t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	must(l.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	must(l.t, err)
	return response.StatusCode, string(text)
}

// invocation is what Forge signs for a call of the merge check, with other claims over its own.
func (l *live) invocation(claims map[string]any) string {
	l.t.Helper()
	issued, err := l.sim.IssueInvocationToken(bitbucketsim.InvocationTokenRequest{
		ForgeChange: bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"}, Endpoint: "merge-check-ep", Claims: claims,
	})
	must(l.t, err)
	return issued.Token
}

// asForge asks the merge check what Bitbucket asked last, with a token, and gives the status of a refusal, or the answer: a "no"
// with the sentence where that says how far the approval is.
func (l *live) asForge(token string) string {
	l.t.Helper()
	status, body := l.post(l.origin+mergeCheckPath, token, *l.question.Load())
	if status != http.StatusOK {
		return fmt.Sprint(status)
	}
	var answer struct {
		Success bool
		Message string
	}
	must(l.t, json.Unmarshal([]byte(body), &answer))
	switch {
	case answer.Success:
		return "yes"
	case strings.Contains(answer.Message, " of 2"):
		return "no: " + answer.Message
	}
	return "no"
}
