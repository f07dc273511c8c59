package attack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// onDeployments are attacks on a pipeline that asks before it deploys.
func onDeployments() []attack {
	return []attack{{
		wants:  "have a pipeline deploy by evidence of before: leave the end of the pull request's history out of it",
		caught: []string{"deploy gate: stale"},
		try: func(t *testing.T) []string {
			l := newLive(t)
			approved := l.open("pump")
			l.approve(approved)
			l.pin()
			file := filepath.Join(t.TempDir(), "bundle.json")
			if code, out := l.run("evidence", "get", approved.head, "--workspace=acme", "-o", file); code != 0 {
				t.Fatalf("exit %d\n%s", code, out)
			}
			bundle, err := evidence.ParseBundle(contents(t, file))
			must(t, err)
			n := len(bundle.Chain) - 1
			bundle.Chain, bundle.Log.Chain = bundle.Chain[:n], bundle.Log.Chain[:n]
			cut, err := bundle.Encode()
			must(t, err)
			anchors, err := evidence.ParseAnchors(contents(t, l.anchors))
			must(t, err)
			if report := evidence.Verify(cut, anchors); report.ExitCode() != 0 {
				t.Fatalf("the control, a bundle that verifies by itself: %s", report.Sentence())
			}
			code, said := l.deploys(l.liar(approved, map[string][]byte{"/evidence/": cut}), approved.head, branch, l.repository)
			if code != 1 {
				t.Errorf("exit %d", code)
			}
			return []string{said}
		},
	}, {
		wants:  "have a pipeline deploy what nobody approved there: answer with the evidence of another commit, branch or repository, or with an old log",
		caught: []string{"deploy gate: other_commit", "deploy gate: other_branch", "deploy gate: other_branch", "deploy gate: log"},
		try: func(t *testing.T) (got []string) {
			l := newLive(t)
			_, old := l.get("/log/checkpoint")
			approved, other := l.open("pump"), l.open("valve")
			l.approve(approved)
			l.pin()
			if code, said := l.deploys(l.origin, approved.head, branch, l.repository); code != 0 {
				t.Fatalf("the control: exit %d, %s", code, said)
			}
			liar := l.liar(approved, nil)
			if code, said := l.deploys(liar, approved.head, branch, l.repository); code != 0 {
				t.Fatalf("the control, where the truth is asked for: exit %d, %s", code, said)
			}
			for _, asked := range []struct{ url, commit, branch, repository string }{
				{liar, other.head, branch, l.repository},
				{liar, approved.head, "production", l.repository},
				{liar, approved.head, branch, "{00000000-0000-4000-8000-000000000001}"},
				{l.liar(approved, map[string][]byte{"/log/checkpoint": old}), approved.head, branch, l.repository},
			} {
				code, said := l.deploys(asked.url, asked.commit, asked.branch, asked.repository)
				if code != 1 {
					t.Errorf("%+v: exit %d", asked, code)
				}
				got = append(got, said)
			}
			return got
		},
	}, {
		wants:  "have a pipeline deploy what a stolen key approved: leave the newest version of the roster, in which it is reported, out of the evidence",
		admits: "leave the newest versions of the roster",
		caught: []string{"step 10 facts: revoked_key", "exit 0", "deploy gate: stale"},
		try: func(t *testing.T) []string {
			c := halfApproved(t)
			c.decide(c.dave, evidence.Approve)
			before := c.bundle()
			if code, said := pipeline(t, c.operator, c.pinned, before); code != 0 {
				t.Fatalf("the control: exit %d, %s", code, said)
			}
			c.revoke(c.dave, beginning)
			code, said := pipeline(t, c.operator, c.pinned, before)
			if code != 1 {
				t.Errorf("exit %d", code)
			}
			return []string{verify(c.bundle(), c.pinned), verify(before, c.pinned), said}
		},
	}}
}

// pipeline is the step of a pipeline that asks for the commit of the newest request a server with a public log and one piece of evidence.
func pipeline(t *testing.T, o *operator, anchors evidence.Anchors, bundle []byte) (code int, said string) {
	t.Helper()
	log := o.publish()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/evidence/") {
			_, _ = w.Write(bundle)
			return
		}
		log.ServeHTTP(w, r)
	}))
	defer server.Close()
	document, err := json.Marshal(struct {
		Format string `json:"format"`
		evidence.Anchors
	}{evidence.AnchorsFormat, anchors})
	must(t, err)
	l := &live{t: t, ctx: t.Context(), anchors: filepath.Join(t.TempDir(), "anchors.json"), token: filepath.Join(t.TempDir(), "token")}
	l.workspace.UUID = workspace
	must(t, os.WriteFile(l.anchors, document, 0o600))
	must(t, os.WriteFile(l.token, []byte("sa_none"), 0o600))
	return l.deploys(server.URL, o.newest().HeadCommit, branch, repository)
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// liar is a server that answers every question about a commit with the evidence of one pull request, and what is asked for under
// some paths with something of its own.
func (l *live) liar(about pull, answers map[string][]byte) (address string) {
	l.t.Helper()
	to, err := url.Parse(l.origin)
	must(l.t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		if strings.HasPrefix(r.In.URL.Path, "/evidence/") {
			r.Out.URL.Path = "/evidence/" + strings.Trim(l.workspace.UUID, "{}") + "/commits/" + about.head
			r.Out.URL.RawQuery = ""
		}
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for path, answer := range answers {
			if strings.HasPrefix(r.URL.Path, path) {
				_, _ = w.Write(answer)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	l.t.Cleanup(server.Close)
	return server.URL
}

// deploys is the step of a pipeline that asks a server whether a commit was approved.
func (l *live) deploys(address, commit, branch, repository string) (code int, said string) {
	l.t.Helper()
	var stdout, stderr bytes.Buffer
	code = app.Main(l.ctx, []string{
		"verify", "--commit=" + commit, "--workspace=" + l.workspace.UUID, "--repository=" + repository, "--branch=" + branch,
		"--anchors=" + l.anchors, "--json", "--wait=0s", "--url=" + address, "--token-file=" + l.token,
	}, strings.NewReader(""), &stdout, &stderr)
	var report struct{ Gate struct{ Code string } }
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		return code, fmt.Sprint(err, ": ", stderr.String())
	}
	return code, "deploy gate: " + report.Gate.Code
}
