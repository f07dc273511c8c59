package bitbucketsim_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// TestFrameInABrowser lets a page that is built on the real @forge/bridge run in a real browser, in the frame that
// the Sim puts it in.
func TestFrameInABrowser(t *testing.T) {
	t.Parallel()
	root := bitbucketsim.RepositoryRoot(t)
	for _, name := range []string{"@forge/bridge", "@playwright/test", "vite"} {
		if _, err := os.Stat(filepath.Join(root, "node_modules", filepath.FromSlash(name))); err != nil {
			t.Fatalf("the npm package %q is not installed: run npm ci in the repository root", name)
		}
	}
	w := newForgeWorld(t, bitbucketsim.Options{})
	folder := t.TempDir()
	app, err := w.sim.RegisterForgeApp(bitbucketsim.ForgeApp{
		Manifest: forgeManifest, RemoteURL: w.remote.URL, Resources: map[string]string{"panel": folder},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.install()
	w.open("Nozzle")
	w.remote.byBody("/graphql", map[string]remoteReply{
		"good":       {status: 200, body: `{"data":{"viewer":"carol"}}`},
		"bad":        {status: 403, body: `{"error":{"code":"FORBIDDEN"}}`},
		"unreadable": {status: 502, body: "<html>", header: map[string]string{"Content-Type": "text/html"}},
	})
	cors := map[string]string{
		"Access-Control-Allow-Origin": app.FrameOrigin, "Access-Control-Allow-Headers": "authorization, content-type",
	}
	w.remote.answer("/direct", remoteReply{status: 200, body: `{"direct":true}`, header: cors})

	cmd := exec.CommandContext(t.Context(), "node", filepath.Join("testdata", "forge", "browser.mjs"), w.sim.URL(), folder)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("node: %v\n%s", err, problems.String())
	}
	saw := reply{raw: out.Bytes()}
	if err := json.Unmarshal(saw.raw, &saw.json); err != nil {
		t.Fatalf("%v: %q", err, out.String())
	}
	carol := w.as("carol").get("/2.0/user").str("account_id")
	repository := w.as("carol").get(w.repo).str("uuid")
	for path, want := range map[string]any{
		"mode": "dark", "context.moduleKey": "pr-card", "context.accountId": carol, "context.environmentType": "PRODUCTION",
		"context.extension.type": "bitbucket:repoPullRequestCard", "context.extension.repository.uuid": repository,
		"context.extension.pullRequest.id": 1.0, "context.siteUrl": w.sim.URL(), "context.theme.colorMode": "dark",
		"good.status": 200.0, "good.body.data.viewer": "carol",
		"bad.status": 403.0, "bad.body.error.code": "FORBIDDEN",
		"unreadable.rejected": "Invalid response from remote - content-type header must be set to application/json and is currently: text/html. Status: 502.",
		"direct.direct":       true, "told.by": "a frame", "popup": "blocked", "credentials": false, "cookies": "",
		"dialog": "http://localhost:1/elsewhere", "declined.rejected": "The user declined to leave Bitbucket", "tab": true,
		"frame.sandbox": "allow-downloads allow-forms allow-modals allow-pointer-lock allow-same-origin allow-scripts",
		"frame.allow":   "camera; clipboard-write; display-capture; fullscreen; microphone",
	} {
		if got := saw.at(path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if !strings.Contains(saw.str("flag"), "It is done.") {
		t.Errorf("the flag says %q", saw.str("flag"))
	}
	if h, ok := saw.at("frame.height").(float64); !ok || h < 100 {
		t.Errorf("the frame is %v high and did not grow with its content", saw.at("frame.height"))
	}
	for _, p := range descend(saw.json, "problems.[]") {
		if text, _ := p.(string); strings.Contains(text, "Content Security Policy") || strings.Contains(text, "CORS") {
			t.Errorf("the browser complains: %s", text)
		}
	}
	calls := w.remote.at("/graphql")
	if i := slices.IndexFunc(calls, func(c remoteCall) bool { return c.header.Get("X-Probe") == "yes" }); i < 0 {
		t.Error("the headers of the call did not arrive")
	}
	claims, err := w.verify(calls[0].header)
	if err != nil || claims.str("principal") != carol || claims.str("context.extension.repository.uuid") != repository {
		t.Errorf("claims are %v, %v", claims.json, err)
	}
	direct := w.remote.posts("/direct")
	if len(direct) == 0 || direct[0].header.Get("Origin") != app.FrameOrigin || direct[0].header.Get("X-Forge-Oauth-System") != "" {
		t.Fatalf("direct calls are %+v", direct)
	}
	if _, err := w.verify(direct[0].header); err != nil {
		t.Error(err)
	}
}
